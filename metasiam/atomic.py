"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Which rights new files do not have here; it can only be asked for by setting it.
os.umask(_UMASK := os.umask(0o077))


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield where to write a file instead, beside ``path``; what lies there at the end takes the place of ``path``.

    The other name is hidden, this process's own, and has another ending. After an error nothing is left of it, and
    ``path`` is as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        if os.name == "posix":  # some libraries write files that others in a group cannot read
            partial.chmod(0o666 & ~_UMASK)
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
