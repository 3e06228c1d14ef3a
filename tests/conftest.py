"""Fixtures for every test: small synthetic domain sets, and the real data where it is."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from metasiam.data.domains import DomainSet
from metasiam.errors import on_command_line

TinyDomains = Callable[..., DomainSet]

# Workers (pytest -n) share the cores, and so do the processes that their tests start.
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    threads = max((os.cpu_count() or 1) // workers, 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def words_of_the_command_line() -> Iterator[None]:
    """Errors read as they are written; tests/test_public_calls.py is about how Python's callers read them."""
    with on_command_line():
        yield


@pytest.fixture(scope="session")
def kept_between_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of one run have in common, or ``$METASIAM_TEST_DATA``, which stays."""
    if "METASIAM_TEST_DATA" in os.environ:
        return Path(os.environ["METASIAM_TEST_DATA"])
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data: $METASIAM_SHARED, else ../shared beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("METASIAM_SHARED", beside))
    if not (folder / "data").is_dir():
        pytest.skip(f"real data are not in {folder}; set METASIAM_SHARED to the folder that has data/")
    return folder


@pytest.fixture(scope="session")
def real_data(shared_data: Path, kept_between_workers: Path) -> Callable[[str], Path]:
    """Function from a name to the folder of that real data set, unzipped.

    ``$METASIAM_TEST_DATA/<name>`` is used as it is when it is there, so that repeated runs need not unzip.
    """
    scratch = kept_between_workers

    def unzipped(name: str) -> Path:
        folder = scratch / name
        with FileLock(scratch / f"{name}.lock"):
            if not folder.is_dir():
                archives = sorted((shared_data / "data").glob(f"{name}*.zip"))
                if not archives:
                    pytest.skip(f"{shared_data / 'data'} has no {name}*.zip")
                partial = scratch / f".{name}.partial"
                for archive in archives:
                    with zipfile.ZipFile(archive) as packed:
                        packed.extractall(partial)
                partial.rename(folder)
        return folder

    return unzipped


@pytest.fixture(scope="session")
def cifar100(real_data: Callable[[str], Path], kept_between_workers: Path) -> DomainSet:
    """The real CIFAR-100, read from its unzipped files."""
    from metasiam.data.sources import load_domains

    folder = real_data("cifar100")
    with FileLock(kept_between_workers / "packed.lock"):
        return load_domains(f"folder:{folder}", data_dir=kept_between_workers, listener=None)


@pytest.fixture
def tiny_npz(tmp_path: Path) -> str:
    """What ``--data`` takes for eight domains of noise, six train and six test images of 12x12 each."""
    random = np.random.default_rng(0)
    parts = {}
    for part in ("train", "test"):
        parts[f"{part}_images"] = random.integers(0, 256, (48, 12, 12, 3), dtype=np.uint8)
        parts[f"{part}_labels"] = np.arange(48) % 8
    np.savez(tmp_path / "pictures.npz", **parts)  # type: ignore[arg-type]
    return f"npz:{tmp_path / 'pictures.npz'}"


@pytest.fixture(scope="session")
def tiny_domains() -> TinyDomains:
    """Function that makes a small domain set of coloured blobs which a tiny network can tell apart.

    Each domain has its own colour and place of the blob; images differ by noise and a pixel's shift.
    Equal arguments give equal images. The last ``test_images`` of each domain are its test images.
    """

    def make(
        domains: int = 12,
        images: int = 12,
        *,
        size: int = 8,
        channels: int = 3,
        test_images: int = 4,
        seed: int = 0,
        source: str = "tiny",
    ) -> DomainSet:
        generator = torch.Generator().manual_seed(seed)
        axis = torch.arange(size)
        pictures = torch.empty(domains, images, channels, size, size)
        for domain in range(domains):
            centre = torch.rand(2, generator=generator) * (size - 2) + 0.5
            colour = torch.rand(channels, 1, 1, generator=generator) * 160 + 60
            for image in range(images):
                y, x = centre + torch.rand(2, generator=generator) - 0.5
                distance = (axis[:, None] - y) ** 2 + (axis[None, :] - x) ** 2
                blob = colour * torch.exp(-distance / size)
                pictures[domain, image] = blob + torch.randn(blob.shape, generator=generator) * 6
        is_test = (torch.arange(images) >= images - test_images).repeat(domains)
        return DomainSet(
            pictures.clamp(0, 255).to(torch.uint8).flatten(0, 1),
            torch.arange(domains).repeat_interleave(images),
            tuple(f"domain {index:02d}" for index in range(domains)),
            is_test,
            source,
        )

    return make
