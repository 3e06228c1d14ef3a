"""Labeled Faces in the Wild (Huang, Ramesh, Berg, Learned-Miller, 2007), through scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metasiam.data.domains import DomainSet
from metasiam.data.pairs import PairSet
from metasiam.data.sources.folder import packed_pictures
from metasiam.data.sources.pair_images import PairRequest
from metasiam.data.sources.pair_labels import NamedPair
from metasiam.data.sources.pair_list import assemble
from metasiam.data.sources.source import Request, Source, shown
from metasiam.data.sources.tree import Picture, arrange
from metasiam.errors import MetaSiamError
from metasiam.progress import Listener
from metasiam.runs.reading import read_text
from metasiam.wording import counted

#: The files that name pairs, by what they are for.
PAIR_FILES = {"train": "pairsDevTrain.txt", "test": "pairsDevTest.txt", "10-folds": "pairs.txt"}
_IMAGES = "lfw_funneled"
#: Images that a person needs to be a domain: a fifth of them are two test images, the fewest that make a pair.
_FEWEST = 10


def is_present(data_dir: Path) -> bool:
    """Tell whether images and pair files lie where scikit-learn puts them."""
    home = data_dir / "lfw_home"
    return (home / _IMAGES).is_dir() and all((home / name).is_file() for name in PAIR_FILES.values())


def fetch(request: Request) -> None:
    """Have scikit-learn download the images and pair files, unless they are there."""
    _fetch(request.data_dir, request.listener)


def _fetch(data_dir: Path, listener: Listener) -> None:
    if is_present(data_dir):
        return
    from sklearn.datasets import fetch_lfw_pairs

    listener.progress("downloading lfw (230 MB)", 0, 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one for each of its retries; the error below says it once
            # Of its pictures nothing is needed: it neither names them nor decodes each only once.
            fetch_lfw_pairs(subset="test", data_home=data_dir, slice_=(slice(0, 8), slice(0, 8)), resize=None)
    except (OSError, EOFError) as error:  # no network, no such page, a broken archive
        reason = str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error)
        raise MetaSiamError(
            f"lfw is not in {shown(data_dir)} and cannot be downloaded ({reason}). Put lfw_home/{_IMAGES}/<person>/"
            f"*.jpg and lfw_home/{PAIR_FILES['train']}, {PAIR_FILES['test']} and {PAIR_FILES['10-folds']} there, or "
            "name the folder that has lfw_home with --data-dir."
        ) from error


def load_pairs(request: PairRequest) -> PairSet:
    """Load the development pairs (2,200 train, 1,000 test), or with ``lfw:10-folds`` the 6,000 pairs of View 2.

    Images are made grey. Parts and folds are the authors' own; nobody is in both train and test. In ten folds all
    pairs stand in ``train``, with their fold from 0 to 9.

    Raises:
        MetaSiamError: if the data cannot be had, or a pair names a missing image.
    """
    if request.path not in ("", "10-folds"):
        raise MetaSiamError(f"--data lfw:{request.path} is not known. Use lfw, or lfw:10-folds.")
    _fetch(request.data_dir, request.listener)
    home = request.data_dir / "lfw_home"
    lines: list[NamedPair] = []
    for part in ("10-folds",) if request.path else ("train", "test"):
        lines += read_pairs(home / PAIR_FILES[part], home / _IMAGES, part)
    return assemble("lfw:10-folds" if request.path else "lfw", lines, replace(request, grey=True))


def read_pairs(file: Path, images: Path, part: str) -> list[NamedPair]:
    """Read one of LFW's pair files: ``name n1 n2`` for same pairs, ``name1 n1 name2 n2`` for different ones.

    The first line counts: pairs of each kind, or folds and pairs of each kind in a fold.

    Args:
        file: tab-separated.
        images: the folder of folders ``name`` with ``name_0001.jpg``, …
        part: ``train``, ``test`` or ``10-folds``.
    """
    rows = [line.split() for line in read_text(file).splitlines() if line.strip()]
    try:
        numbers = [int(cell) for cell in rows[0]]
        folds, each = (numbers[0], numbers[1]) if len(numbers) == 2 else (1, numbers[0])
        found = [_pair(row, images) for row in rows[1:]]
    except (ValueError, IndexError) as error:
        raise MetaSiamError(f"{file} is not one of LFW's pair files ({error}). Download it again.") from error
    if len(found) != 2 * folds * each or sum(pair.same for pair in found) != folds * each:
        raise MetaSiamError(f"{file} has {counted(len(found), 'pair')}, not {2 * folds * each}. Download it again.")
    named = "train" if part == "10-folds" else part
    return [pair._replace(part=named, fold=index // (2 * each)) for index, pair in enumerate(found)]


def _pair(row: list[str], images: Path) -> NamedPair:
    if len(row) == 3:
        row = [row[0], row[1], row[0], row[2]]
    if len(row) != 4:
        raise ValueError(f"a line has {counted(len(row), 'cell')}")
    first, second = (images / name / f"{name}_{int(number):04d}.jpg" for name, number in (row[:2], row[2:]))
    return NamedPair(first, second, row[0] == row[2], people=(row[0], row[2]))


def load(request: Request) -> DomainSet:
    """Load the people with at least ten images as domains; the last fifth of each one's images is test.

    Raises:
        MetaSiamError: if the data cannot be had, or nobody has as many images.
    """
    fetch(request)
    root = request.data_dir / "lfw_home" / _IMAGES
    pictures = arrange(root).pictures
    counts: dict[str, int] = {}
    for picture in pictures:
        counts[picture.domain] = counts.get(picture.domain, 0) + 1
    several = [picture for picture in pictures if counts[picture.domain] >= _FEWEST]
    if not several:
        raise MetaSiamError(f"{root} has nobody with {_FEWEST} images. Put all of LFW's images there.")
    return packed_pictures("lfw", root, several, request, is_test=_last_fifth, recipe="last fifth is test")


def _last_fifth(pictures: Sequence[Picture]) -> list[bool]:
    kept = len(pictures) - max(len(pictures) // 5, 2)  # a fifth can be fewer, where some could not be read
    return [index >= kept for index in range(len(pictures))]


SOURCE = Source(load, is_present, fetch)
