"""MNIST (LeCun, Cortes, Burges): handwritten digits, 28x28, white ink on black."""

from __future__ import annotations

import gzip
from pathlib import Path

import torch

from metasiam.data.domains import DomainSet
from metasiam.data.sources.download import download
from metasiam.data.sources.source import Request, Source, resized, shown
from metasiam.errors import MetaSiamError
from metasiam.runs.atomic import atomically


def _files(data_dir: Path) -> list[Path]:
    from torchvision.datasets import MNIST

    return [data_dir / "MNIST" / "raw" / name.removesuffix(".gz") for name, _ in MNIST.resources]


def is_present(data_dir: Path) -> bool:
    """Tell whether the four idx files lie in ``MNIST/raw``."""
    return all(path.is_file() for path in _files(data_dir))


def fetch(request: Request) -> None:
    """Download and unpack those of the four files that are missing."""
    from torchvision.datasets import MNIST

    for path, (name, md5) in zip(_files(request.data_dir), MNIST.resources, strict=True):
        if path.is_file():
            continue
        packed = path.with_name(name)
        urls = [mirror + name for mirror in MNIST.mirrors]
        download("mnist", urls, packed, md5, request.data_dir, request.listener)
        with atomically(path) as partial:
            partial.write_bytes(gzip.decompress(packed.read_bytes()))


def load(request: Request) -> DomainSet:
    """Load MNIST through torchvision: 60,000 train images, then 10,000 test images; domains ``0`` … ``9``."""
    from torchvision.datasets import MNIST

    fetch(request)
    try:
        parts = [MNIST(str(request.data_dir), train=train) for train in (True, False)]
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        folder = shown(request.data_dir / "MNIST" / "raw")
        raise MetaSiamError(
            f"the files in {folder} are damaged ({error}). Remove them, to have them downloaded again."
        ) from error
    images = torch.cat([part.data for part in parts]).unsqueeze(1)
    labels = torch.cat([part.targets for part in parts]).long()
    is_test = torch.arange(len(labels)) >= len(parts[0].data)
    names = tuple(str(digit) for digit in range(10))
    return resized(DomainSet(images, labels, names, is_test, "mnist"), request.size)


SOURCE = Source(load, is_present, fetch)
