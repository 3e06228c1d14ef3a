"""CIFAR-100 (Krizhevsky, 2009): 100 classes of 32x32 colour photographs, 500 train and 100 test images each."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from metasiam.data.domains import DomainSet
from metasiam.data.sources.download import download, unpack
from metasiam.data.sources.source import Request, Source, resized


def is_present(data_dir: Path) -> bool:
    """Tell whether torchvision's files are there and whole."""
    from torchvision.datasets import CIFAR100
    from torchvision.datasets.utils import check_integrity

    folder = data_dir / CIFAR100.base_folder
    files = [*CIFAR100.train_list, *CIFAR100.test_list, [CIFAR100.meta["filename"], CIFAR100.meta["md5"]]]
    return all(check_integrity(str(folder / name), md5) for name, md5 in files)


def fetch(request: Request) -> None:
    """Download the archive that torchvision names, unless its files are there."""
    from torchvision.datasets import CIFAR100

    if is_present(request.data_dir):
        return
    archive = request.data_dir / CIFAR100.filename
    download("cifar100", [CIFAR100.url], archive, CIFAR100.tgz_md5, request.data_dir, request.listener)
    unpack(archive, request.data_dir)


def load(request: Request) -> DomainSet:
    """Load CIFAR-100 through torchvision: train images first, in the order of its files."""
    from torchvision.datasets import CIFAR100

    fetch(request)
    with warnings.catch_warnings():
        # numpy 2.4 warns of how these old files spell their types.
        warnings.simplefilter("ignore")
        parts = [CIFAR100(str(request.data_dir), train=train) for train in (True, False)]
    images = np.concatenate([part.data for part in parts]).transpose(0, 3, 1, 2)
    labels = torch.tensor([label for part in parts for label in part.targets])
    is_test = torch.arange(len(labels)) >= len(parts[0].data)
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    return resized(DomainSet(pixels, labels, tuple(parts[0].classes), is_test, "cifar100"), request.size)


SOURCE = Source(load, is_present, fetch)
