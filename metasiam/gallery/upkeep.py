"""Keep a gallery and the pictures on the disk together: what has moved, is missing, was copied or is taken out."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic

import torch

from metasiam.data.names import composed, plain
from metasiam.errors import MetaSiamError
from metasiam.gallery.enrolled import IN_MEMORY, Enrolled, Kind
from metasiam.runs.reading import open_regular
from metasiam.wording import counted

_BLOCK = 1 << 20  # bytes read at a time


def content_of(path: str | Path) -> str:
    """Return a hash of a file's bytes, the same for copies; empty where it cannot be read."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open_regular(path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except (OSError, MetaSiamError):
        return ""
    return digest.hexdigest()


def is_missing(file: str) -> bool:
    """Tell whether a file is gone; one that merely cannot be looked at is not, nor a picture that never was a file."""
    if file.startswith(IN_MEMORY):
        return False
    try:
        os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def missing(gallery: Enrolled) -> tuple[str, ...]:
    """Return the gallery's pictures whose files are gone."""
    return tuple(file for file in gallery.files if is_missing(file))


def missing_note(gallery: Enrolled) -> str:
    """Say in one line that pictures are gone and what can be done; empty where all are there."""
    gone = missing(gallery)
    if not gone:
        return ""
    are = "are" if len(gone) > 1 else "is"
    return (
        f"{counted(len(gone), 'picture')} of the gallery {are} no longer there, e.g. {gone[0]}: counted as before, "
        "--forget-missing takes them out"
    )


def without_missing(gallery: Kind) -> tuple[Kind, int]:
    """Return the gallery without pictures whose files are gone, and how many those were.

    Raises:
        MetaSiamError: if nothing would be left, as where a disk is not there.
    """
    stays = torch.tensor([not is_missing(file) for file in gallery.files], dtype=torch.bool)
    if len(stays) and not stays.any():
        raise MetaSiamError(
            f"all {counted(len(stays), 'picture')} of the gallery are missing, e.g. {gallery.files[0]}. Bring back "
            "the disk or folder that they are on, or take names out with --remove."
        )
    return gallery.keeping(stays), int((~stays).sum())


def without_picture(gallery: Kind, path: str) -> Kind | None:
    """Return the gallery without one picture, there or not, under whatever names it is; None if it has no such one."""
    wanted = {composed(text) for text in (path, os.path.abspath(path), str(Path(path).resolve()))}
    stays = torch.tensor([composed(file) not in wanted for file in gallery.files], dtype=torch.bool)
    return None if bool(stays.all()) else gallery.keeping(stays)


@dataclass(frozen=True)
class Joined(Generic[Kind]):
    """What is to be done to add pictures to a gallery.

    Attributes:
        gallery: the old one, without pictures that have moved or were counted twice.
        add: which of the new pictures to add.
        notes: what was found, a line for each kind.
    """

    gallery: Kind
    add: list[int]
    notes: list[str]


@dataclass(frozen=True)
class _Picture:
    name: str
    file: str
    content: str


class _Comparison:
    """Pictures as they are taken up one by one, and examples of what was found with them: file and file."""

    def __init__(self) -> None:
        self.there: dict[str, list[_Picture]] = defaultdict(list)
        self.moved: list[tuple[str, str]] = []
        self.copies: list[tuple[str, str]] = []
        self.shared: list[tuple[str, str]] = []

    def takes(self, picture: _Picture) -> bool:
        """Take a picture up unless it is one that has moved since or a copy of one of its name."""
        others = self.there[picture.content] if picture.content else []
        twin = next((other for other in others if other.name == picture.name), None)
        present = next((other for other in others if not is_missing(other.file)), None)
        if present is not None and is_missing(picture.file):
            self.moved.append((picture.file, present.file))
            return False
        if twin is not None:
            self.copies.append((picture.file, twin.file))
            return False
        self.shared += [(f"{picture.file} as '{picture.name}'", f"{o.file} as '{o.name}'") for o in others[:1]]
        others.append(picture)
        return True

    def notes(self) -> list[str]:
        """Say what was found, a line for each kind."""
        kinds = (
            (self.moved, "moved, e.g. {} is now {}: the gallery follows"),
            (self.copies, "as there already under the same name, e.g. {} is a copy of {}: counted once"),
            (self.shared, "under two names, e.g. {} and {}: take one out with --remove PATH if that is wrong"),
        )
        return [f"{counted(len(found), 'picture')} {said.format(*found[0])}" for found, said in kinds if found]


def join(gallery: Kind, names: Sequence[str], files: Sequence[str], contents: Sequence[str]) -> Joined[Kind]:
    """Compare new pictures with a gallery's by content: a moved one moves there too, a copy does not count again.

    Args:
        gallery: that they will be added to.
        names: of the new pictures.
        files: where they are, resolved.
        contents: of the files, see ``content_of``.
    """
    gallery = _with_contents(gallery)
    new = [_Picture(plain(name), *rest) for name, *rest in zip(names, files, contents, strict=True)]
    old = [
        _Picture(plain(gallery.names[label]), *rest)
        for label, *rest in zip(gallery.labels.tolist(), gallery.files, gallery.contents, strict=True)
    ]
    places = {(picture.name, picture.file): row for row, picture in enumerate(old)}
    compared = _Comparison()
    # What is given again comes first: it replaces itself. Then the others of the gallery that are on the disk, then new
    # ones, so that the gallery's own stay where there are copies; then those that are gone: they may have moved.
    again = [place for place, picture in enumerate(new) if (picture.name, picture.file) in places]
    add = {place for place in again if compared.takes(new[place])}
    replaced = {places[new[place].name, new[place].file] for place in again}
    dropped = {places[new[place].name, new[place].file] for place in again if place not in add}
    rest = [row for row in range(len(old)) if row not in replaced]
    gone = dict.fromkeys(row for row in rest if is_missing(old[row].file))
    dropped |= {row for row in rest if row not in gone and not compared.takes(old[row])}
    others = sorted(set(range(len(new))) - set(again))
    add |= {place for place in others if compared.takes(new[place])}
    dropped |= {row for row in gone if not compared.takes(old[row])}
    stays = torch.tensor([row not in dropped for row in range(len(old))], dtype=torch.bool)
    return Joined(gallery.keeping(stays) if dropped else gallery, sorted(add), compared.notes())


def _with_contents(gallery: Kind) -> Kind:
    """Look up contents that a gallery of before does not say, of the files that are still there."""
    contents = tuple(known or content_of(file) for known, file in zip(gallery.contents, gallery.files, strict=True))
    return replace(gallery, hashes=contents)
