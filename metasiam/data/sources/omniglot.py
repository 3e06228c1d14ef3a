"""Omniglot (Lake, Salakhutdinov, Tenenbaum, 2015): 1,623 characters of 50 alphabets, each drawn by 20 people."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from metasiam.data.domains import DomainSet
from metasiam.data.preparation import Preparation
from metasiam.data.sources.download import download, unpack
from metasiam.data.sources.folder import packed_pictures
from metasiam.data.sources.source import Request, Source, shown
from metasiam.data.sources.tree import Picture, arrange
from metasiam.data.splitting import ROTATED
from metasiam.errors import MetaSiamError

#: The two halves that its authors made, in the order that their characters get here.
HALVES = ("images_background", "images_evaluation")
#: Domains 0 … 963 are the background half's characters, 964 … 1622 the evaluation half's.
BACKGROUND_DOMAINS = 964

_SIZE = 28  # as Vinyals et al. (2016) and nearly everybody since


def _trees(data_dir: Path) -> list[Path] | None:
    """Where the two halves lie: in the data dir itself, or where torchvision puts them."""
    for base in (data_dir, data_dir / "omniglot-py"):
        trees = [base / half for half in HALVES]
        if all(tree.is_dir() for tree in trees):
            return trees
    return None


def is_present(data_dir: Path) -> bool:
    """Tell whether both halves are there, unpacked."""
    return _trees(data_dir) is not None


def fetch(request: Request) -> None:
    """Download and unpack the two archives that torchvision names, unless the trees are there."""
    from torchvision.datasets import Omniglot

    if is_present(request.data_dir):
        return
    folder = request.data_dir / "omniglot-py"
    for half in HALVES:
        archive = folder / f"{half}.zip"
        url = f"{Omniglot.download_url_prefix}/{half}.zip"
        download("omniglot", [url], archive, Omniglot.zips_md5[half], request.data_dir, request.listener)
        if not (folder / half).is_dir():
            with tempfile.TemporaryDirectory(prefix=f".{half}.", dir=folder) as partial:
                unpack(archive, Path(partial))
                os.replace(Path(partial) / half, folder / half)


def load(request: Request) -> DomainSet:
    """Load all characters as domains named ``Alphabet/characterNN``, the background half first, both sorted.

    Ink is white on black, as in MNIST (the files have it black on white), so that pixels from beyond an
    image's edge are background when they are zero. Images are scaled to 28x28 unless ``image_size`` says
    otherwise. Of each character's 20 drawings the first ten (by drawer, the same people in every
    character) are train and the last ten test: no drawer is in both parts, and ten on either side allow
    adaptation with up to 10 images and 5-way 5-shot episodes with 5 queries from the test part alone.
    """
    fetch(request)
    trees = _trees(request.data_dir)
    assert trees is not None
    pictures = [
        picture._replace(domain=f"{alphabet.name}/{picture.domain}")
        for tree in trees
        for alphabet in sorted(path for path in tree.iterdir() if path.is_dir() and path.name[0] != ".")
        for picture in arrange(alphabet).pictures
    ]
    if not pictures:
        raise MetaSiamError(f"omniglot in {shown(trees[0].parent)} has no images. Remove it, to have it downloaded.")
    names = list(dict.fromkeys(picture.domain for picture in pictures))
    asked = Request(
        request.data_dir,
        size=request.size or (_SIZE, _SIZE),
        skip_unreadable=request.skip_unreadable,
        listener=request.listener,
        preparation=Preparation(inverted=True),
        grey=True,
    )
    return packed_pictures(
        "omniglot",
        trees[0].parent,
        pictures,
        asked,
        is_test=_late_drawers,
        names=names,
        recipe="white ink, second half of the drawers is test",
    )


def _late_drawers(pictures: Sequence[Picture]) -> list[bool]:
    return [index >= (len(pictures) + 1) // 2 for index in range(len(pictures))]


def load_rotated(request: Request) -> DomainSet:
    """Load all characters, then their copies turned by 90, 180 and 270 degrees as domains of their own.

    A copy is named ``Alphabet/characterNN rotated 90``. With a split that names characters, those it trains on bring
    their copies along (``split_domains``).

    Source: Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks" (2016), and everybody since.
    """
    upright = load(request)
    turns = range(4)
    return DomainSet(
        torch.cat([torch.rot90(upright.images, turn, (2, 3)) for turn in turns]),
        torch.cat([upright.labels + turn * len(upright.names) for turn in turns]),
        tuple(name if turn == 0 else f"{name}{ROTATED} {90 * turn}" for turn in turns for name in upright.names),
        upright.is_test.repeat(4),
        "omniglot-rotated",
        upright.preparation,
    )


SOURCE = Source(load, is_present, fetch)

SOURCE_ROTATED = Source(
    load_rotated,
    is_present,
    fetch,
)
