"""Opening files to read them: regular ones only, because a pipe or a device would wait for ever or never end."""

from __future__ import annotations

import errno
import os
import stat
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: str | Path) -> None:
    """Raise unless a path names a regular file, or a link to one: for libraries that open it themselves.

    Raises:
        OSError: saying what it is instead, or why it cannot be looked at.
    """
    _check(os.stat(path).st_mode, path)


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file to read its bytes.

    Raises:
        OSError: as ``check_regular``.
    """
    check_regular(path)
    # Should a pipe take its place meanwhile, opening it so does not wait.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    try:
        _check(os.fstat(file.fileno()).st_mode, path)
    except OSError:
        file.close()
        raise
    return file


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """Return the text of a regular file, its line ends as ``\\n``.

    Raises:
        OSError: as ``check_regular``.
        UnicodeDecodeError: if it is not text in that encoding.
    """
    with TextIOWrapper(open_regular(path), encoding) as text:
        return text.read()


def why_no_file(path: Path) -> str:
    """Say what keeps a path that is no regular file from being read: ``does not exist``, ``is a pipe``."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "does not exist"
    except ValueError:
        return "is not a path: it has a byte that none can have (NUL)"
    except OSError as error:
        return f"cannot be read ({(error.strerror or str(error)).lower()})"
    return f"is {_kind(mode)}"


def _check(mode: int, path: str | Path) -> None:
    if stat.S_ISREG(mode):
        return
    raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, f"it is {_kind(mode)}, not a file", str(path))


def _kind(mode: int) -> str:
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "something else")
