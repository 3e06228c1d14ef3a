"""One at a time: two processes that change the same run or gallery would lose each other's work."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from metasiam.errors import MetaSiamError

_RUN_LOCK = ".lock"
#: What the library raises where the file system has no locks.
_NO_LOCKS = (NotImplementedError, PermissionError)


@contextmanager
def run_held(run: Path) -> Iterator[None]:
    """Keep other processes from training into a run folder; a process that is killed lets go of it.

    Where the file system knows no locks, nobody is kept out.

    Raises:
        MetaSiamError: if another process is at it.
    """
    lock = FileLock(run / _RUN_LOCK, timeout=0)
    try:
        with suppress(*_NO_LOCKS):
            lock.acquire()
    except Timeout as error:
        raise MetaSiamError(
            f"{run} is being trained by another process. Wait for it, or stop it with Ctrl-C."
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # where files that are open cannot be removed, it stays
            (run / _RUN_LOCK).unlink(missing_ok=True)
        lock.release()


@contextmanager
def file_held(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Let one process of this machine at a time change a file; the next waits.

    Args:
        path: the file, which need not exist yet.
        waiting: called once if somebody else is at it.
    """
    # Beside the file a lock would be left behind: taking it away while others wait for it frees nobody.
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else 0
    lock = FileLock(Path(tempfile.gettempdir()) / f"metasiam-{user}-{name}.lock")
    with suppress(*_NO_LOCKS):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
