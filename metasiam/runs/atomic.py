"""Files that appear whole or not at all, and what to say where they cannot be written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Which rights new files do not have here; it can only be asked for by setting it.
os.umask(_UMASK := os.umask(0o077))

#: What a person can do something about, by errno: what to say, and what to do.
_TROUBLE = {
    "ENOSPC": ("the disk is full", "Free some space"),
    "EDQUOT": ("your share of the disk is used up", "Free some space"),
    "EFBIG": ("the file would be larger than is allowed here", "Use another folder"),
    "EROFS": ("the disk is read-only", "Use another folder"),
    "EACCES": ("permission denied", "Change its permissions, or use another folder"),
    "EPERM": ("permission denied", "Change its permissions, or use another folder"),
    "EIO": ("the disk reports errors", "Check whether it is full or broken, or use another folder"),
    "ENAMETOOLONG": ("the name is too long", "Use a shorter one"),
    "EMFILE": ("too many files are open", "Raise the limit (ulimit -n)"),
    "ENFILE": ("too many files are open", "Close other programs"),
    "ESTALE": ("the network disk is gone", "Mount it again"),
}
_NUMBERS = {getattr(errno, name): words for name, words in _TROUBLE.items() if hasattr(errno, name)}


_PARTIAL = ".partial"


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield where to write a file instead, next to ``path``; what lies there at the end takes the place of ``path``.

    The other name is hidden, this process's own, and has another ending. After an error nothing is left of it, and
    ``path`` is as it was.

    Raises:
        OSError: naming ``path`` and the reason, whatever the library that was writing made of a full disk and its like.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        yield partial
        if os.name == "posix":  # some libraries write files that others in a group cannot read
            partial.chmod(0o666 & ~_UMASK)
        os.replace(partial, path)
    except Exception as error:
        found = storage_error(error)
        if found is None or found.filename not in (None, str(partial)):
            raise
        raise OSError(found.errno, found.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Remove what processes that were killed while they wrote a folder's files left; none may be writing now."""
    for left in folder.glob(f".*.*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            left.unlink(missing_ok=True)


def check_can_write(folder: Path) -> None:
    """Raise unless a file can be made in a folder, or in the nearest above it that exists; nothing is left behind.

    Permission bits do not tell everything (read-only mounts, full disks), so it is tried.

    Raises:
        OSError: with the reason.
    """
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists() or one.is_symlink())
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"x")


def storage_error(error: BaseException) -> OSError | None:
    """Return the full disk, the missing right or the like that is behind an error, or None if it is something else.

    torch reports a file that takes no more bytes as a RuntimeError, safetensors as its own error.
    """
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        if isinstance(behind, OSError) and behind.errno in _NUMBERS:
            return behind
        seen.add(id(behind))
        behind = behind.__cause__ or behind.__context__
    if type(error).__name__ == "SafetensorError" and (number := re.search(r"\(os error (\d+)\)", str(error))):
        told = OSError(int(number[1]), os.strerror(int(number[1])), None, int(number[1]))
        return told if told.errno in _NUMBERS else None
    if isinstance(error, RuntimeError) and re.search("PytorchStreamWriter|inline_container", str(error)):
        return OSError(errno.EIO, os.strerror(errno.EIO))
    return None


def trouble(error: OSError) -> tuple[str, str]:
    """Return what is wrong with the disk and what to do, in words, of an error that ``storage_error`` returned."""
    return _NUMBERS[error.errno or errno.EIO]
