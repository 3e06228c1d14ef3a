"""``folder:PATH``: one folder of image files for each domain."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from metasiam.data.cache import cached, digest
from metasiam.data.domains import DomainSet
from metasiam.data.sources.pictures import decode_pictures, image_suffixes
from metasiam.data.sources.source import Request, Source
from metasiam.errors import MetaSiamError


class Picture(NamedTuple):
    """One image file of a tree."""

    path: str
    domain: str
    part: str  #: "train", "test", or "" where the tree does not say
    size: int  #: bytes; -1 for a file that cannot even be looked at
    changed: int  #: nanoseconds


def load(request: Request) -> DomainSet:
    """Load ``PATH/{train,test}/<domain>/<image>`` or ``PATH/<domain>/<image>``.

    Domains are in sorted order, their images train first, then test, each sorted by file name. Without
    train/ and test/, ``test_fraction`` of each domain becomes test: the files whose names hash lowest, at
    least two and leaving at least two, which is a pair on either side; one of a domain of two or three. Hidden
    files, empty folders and files that are no images are ignored.

    Raises:
        MetaSiamError: if the folder is missing or has no images, a domain has a single one, an image cannot
            be read, or sizes differ and no ``image_size`` is given.
    """
    root = Path(request.path).expanduser()
    if not request.path or not os.path.isdir(root):  # Path.is_dir raises below a folder that may not be entered
        raise MetaSiamError(
            f"{root} is not a folder that can be read. Give --data folder:PATH with PATH/<domain>/<image> in it."
        )
    pictures = scan(root)
    if not pictures:
        raise MetaSiamError(
            f"{root} has no images in it. Lay them out as PATH/<domain>/<image> or PATH/train/<domain>/<image> "
            "and PATH/test/<domain>/<image>."
        )
    return packed_pictures(
        f"folder:{request.path}",
        root,
        pictures,
        request,
        is_test=lambda p: _parts(p, request.test_fraction),
        recipe="" if pictures[0].part else "a pair for the test",
    )


def scan(root: Path) -> list[Picture]:
    """List the image files below ``root``, sorted by domain, part (train first) and name.

    Raises:
        MetaSiamError: if there is a train/ with domains in it but no test/ beside it, or a folder cannot be read.
    """
    top = _folders(root)
    parts = [name for name in ("train", "test") if name in top and _folders(root / name)]
    if parts == ["train", "test"] and not _images(root / "train", "", "") and not _images(root / "test", "", ""):
        found = [
            picture
            for part in parts
            for domain in _folders(root / part)
            for picture in _images(root / part / domain, domain, part)
        ]
        order = {"train": 0, "test": 1}
        return sorted(found, key=lambda picture: (picture.domain, order[picture.part], picture.path))
    found = [picture for domain in top for picture in _images(root / domain, domain, "")]
    if parts and not found:
        other = "test" if parts[0] == "train" else "train"
        raise MetaSiamError(
            f"{root} has {parts[0]}/ but no {other}/ with domains in it. Add it, or use "
            f"--data {shlex.quote(f'folder:{root / parts[0]}')} and let a fixed fraction become test."
        )
    return sorted(found, key=lambda picture: (picture.domain, picture.path))


@contextmanager
def _entries(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            yield entries
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MetaSiamError(f"{folder} cannot be read ({reason}). Make it readable, or move it elsewhere.") from error


def _folders(folder: Path) -> list[str]:
    with _entries(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _images(folder: Path, domain: str, part: str) -> list[Picture]:
    suffixes = image_suffixes()
    found = []
    with _entries(folder) as entries:
        for entry in entries:
            name = entry.name
            if name[name.rfind(".") :].lower() not in suffixes or name[0] == "." or _is_folder(entry):
                continue
            try:
                about = entry.stat()
                found.append(Picture(entry.path, domain, part, about.st_size, about.st_mtime_ns))
            except OSError:  # a broken link: decoding will name it
                found.append(Picture(entry.path, domain, part, -1, 0))
    return found


def packed_pictures(
    source: str,
    root: Path,
    pictures: Sequence[Picture],
    request: Request,
    *,
    is_test: Callable[[Sequence[Picture]], list[bool]],
    finish: Callable[[Image.Image], Image.Image] | None = None,
    names: Sequence[str] | None = None,
    recipe: str = "",
) -> DomainSet:
    """Return the pictures as a domain set, from the packed cache when no file has changed since.

    Args:
        source: the domain set's ``source``.
        root: the folder that the pictures lie in.
        pictures: the files, in the order that the images get.
        request: options and progress.
        is_test: says of one domain's pictures which are test.
        finish: a last step on each decoded image before it is resized.
        names: the domains in their order; sorted when left out.
        recipe: names what ``finish`` and ``is_test`` do; a change of it makes the cache stale.
    """
    where = os.path.realpath(root)
    options = [where, request.image_size, request.skip_unreadable, request.test_fraction, recipe]
    files = [[p.path[len(str(root)) :], p.part, p.size, p.changed] for p in pictures]

    def build() -> DomainSet:
        decoded = decode_pictures(
            [Path(picture.path) for picture in pictures],
            image_size=request.image_size,
            skip_unreadable=request.skip_unreadable,
            report=request.report,
            finish=finish,
        )
        left = [picture for picture, kept in zip(pictures, decoded.kept.tolist(), strict=True) if kept]
        present = {picture.domain for picture in left}
        domains = tuple(name for name in (names or sorted(present)) if name in present)
        position = {name: index for index, name in enumerate(domains)}
        by_domain: dict[str, list[int]] = {name: [] for name in domains}
        for index, picture in enumerate(left):
            by_domain[picture.domain].append(index)
        test = torch.zeros(len(left), dtype=torch.bool)
        for rows in by_domain.values():
            test[rows] = torch.tensor(is_test([left[row] for row in rows]))
        labels = torch.tensor([position[picture.domain] for picture in left])
        return DomainSet(decoded.images, labels, domains, test, source)

    path = request.data_dir / "cache" / f"{source.partition(':')[0]}-{digest(options)}.safetensors"
    return cached(path, digest(options, files), build, source=source, report=request.report)


def _parts(pictures: Sequence[Picture], test_fraction: float) -> list[bool]:
    if pictures[0].part:
        return [picture.part == "test" for picture in pictures]
    count = round(len(pictures) * test_fraction)
    if test_fraction > 0:
        fewest = min(len(pictures) // 2, 2)  # on either side: a pair, where there are four
        count = min(max(count, fewest), len(pictures) - fewest)
    ranked = sorted(range(len(pictures)), key=lambda index: _name_hash(pictures[index].path))
    chosen = set(ranked[:count])
    return [index in chosen for index in range(len(pictures))]


def _name_hash(path: str) -> tuple[bytes, str]:
    name = os.path.basename(path)
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), name


SOURCE = Source("your own images: PATH/<domain>/<image>, or PATH/{train,test}/<domain>/<image>", load, takes_path=True)
