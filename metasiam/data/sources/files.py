"""Which files of a folder are pictures: one rule for ``folder:``, ``enroll`` and ``identify``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from metasiam.data.sources.pictures import FOREIGN_SUFFIXES, image_suffixes
from metasiam.errors import MetaSiamError

# Files that lie next to pictures so often that looking into each would take time.
_OTHERS = (
    ".aae .avi .bak .crdownload .csv .db .gz .htm .html .ini .json .jsonl .log .m4v .mat .md .mov .mp4 .npy .npz .part "
    ".pdf .pkl .pt .py .pth .tar .tmp .tsv .txt .xml .xmp .yaml .yml .zip"
)
_OTHER_SUFFIXES = frozenset(_OTHERS.split())
# Folders that operating systems, network disks and other programs leave among people's own.
_SYSTEM_FOLDERS = (
    "@eadir/@recently-snapshot/@recycle/@sharebin/@tmp/#recycle/#snapshot/~snapshot/$recycle.bin/recycler/__macosx/"
    "__pycache__/lost+found/lost.dir/thevolumesettingsfolder/system volume information/network trash folder/"
    "temporary items"
)
_SYSTEM = frozenset(_SYSTEM_FOLDERS.split("/"))
_FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


class Found(NamedTuple):
    """A picture file."""

    path: str
    inside: tuple[str, ...]  #: names of the folders between the one looked through and the file
    decoded: bool  #: whether its format is one that is decoded here
    size: int  #: bytes; -1 for a file that cannot even be looked at
    changed: int  #: nanoseconds


def find(folder: Path) -> list[Found]:
    """List the pictures below ``folder`` at any depth, sorted by path; links to folders are followed.

    A picture has the ending of a picture format or, where its ending is none that is known, the first bytes of one.
    Hidden files and folders are none, nor what lies in a folder of the system's own (``is_passed_over``), nor is a
    folder that a link leads back to from inside, and what lies in a folder that several links lead to is listed once
    for each of them.

    Raises:
        MetaSiamError: if a folder cannot be read.
    """
    found: list[Found] = []
    _collect(found, folder, (), (), image_suffixes())
    found.sort(key=attrgetter("path"))
    return found


def _collect(
    found: list[Found],
    folder: Path,
    inside: tuple[str, ...],
    above: tuple[tuple[int, int], ...],
    decoded: frozenset[str],
) -> None:
    with _entries(folder) as entries:
        about = os.stat(folder)
        here = (about.st_dev, about.st_ino)
        if here in above:
            return
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            if _is_folder(entry):
                if is_passed_over(name):
                    continue
                _collect(found, folder / name, (*inside, name), (*above, here), decoded)
                continue
            suffix = name[name.rfind(".") :].lower() if "." in name else ""
            if suffix in decoded or suffix in FOREIGN_SUFFIXES or _looks_like_a_picture(entry, suffix):
                found.append(_found(entry, inside, suffix in decoded or suffix not in FOREIGN_SUFFIXES))


def is_passed_over(folder: str) -> bool:
    """Tell whether a folder of this name is hidden, or one that a system keeps for itself: nobody's pictures."""
    return folder.startswith(".") or folder.casefold() in _SYSTEM


@contextmanager
def _entries(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            yield entries
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MetaSiamError(f"{folder} cannot be read ({reason}). Make it readable, or move it elsewhere.") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _looks_like_a_picture(entry: os.DirEntry[str], suffix: str) -> bool:
    if suffix in _OTHER_SUFFIXES or suffix.endswith("~"):
        return False
    try:
        if not entry.is_file():  # opening a pipe would wait for ever
            return False
        with open(entry.path, "rb") as file:
            first = file.read(16)
    except OSError:
        return False
    return first.startswith(_FIRST_BYTES) or (first[:4] == b"RIFF" and first[8:12] == b"WEBP")


def _found(entry: os.DirEntry[str], inside: tuple[str, ...], decoded: bool) -> Found:
    try:
        about = entry.stat()
    except OSError:  # a broken link: decoding will name it
        return Found(entry.path, inside, decoded, -1, 0)
    return Found(entry.path, inside, decoded, about.st_size, about.st_mtime_ns)
