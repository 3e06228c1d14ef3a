"""One at a time: two processes that change the same run or gallery would lose each other's work."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from metasiam.errors import MetaSiamError
from metasiam.progress import SILENT, Listener
from metasiam.runs.atomic import remove_partials

RUN_LOCK = ".lock"
#: What the library raises where the file system has no locks.
_NO_LOCKS = (NotImplementedError, PermissionError)


@contextmanager
def run_held(run: Path) -> Iterator[None]:
    """Keep other processes from training into a folder, which is made if need be; one that is killed lets go of it.

    What killed processes left half written there is removed. The lock file stays: taken away, it could be held by one
    process while another makes and holds a new one. Where the file system knows no locks, nobody is kept out.

    Raises:
        MetaSiamError: if another process holds the lock.
    """
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / RUN_LOCK, timeout=0)
    try:
        with suppress(*_NO_LOCKS):
            lock.acquire()
            remove_partials(run)
            remove_partials(run / "figures")
    except Timeout as error:
        raise MetaSiamError(
            f"{run} is being trained by another process. Wait for it or stop it with Ctrl-C."
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_free(run: Path) -> None:
    """Raise if another process is training into a folder; changes nothing.

    Raises:
        MetaSiamError: as ``run_held``.
    """
    if (run / RUN_LOCK).is_file():
        with run_held(run):
            pass


@contextmanager
def file_held(path: Path, listener: Listener = SILENT) -> Iterator[None]:
    """Let one process of this machine at a time change a file; the next waits.

    Args:
        path: the file, which need not exist yet.
        listener: told once if somebody else is at it.
    """
    # A lock next to the file would be left there. Those in the temporary folder come and go, each coming and going
    # under a lock that stays: else a process could hold one that was taken away, and another make and hold it anew.
    user = os.getuid() if hasattr(os, "getuid") else 0
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
    folder = Path(tempfile.gettempdir())
    comings = FileLock(folder / f"metasiam-{user}.lock")
    file = folder / f"metasiam-{user}-{name}.lock"
    lock = FileLock(file, timeout=0)
    with suppress(*_NO_LOCKS):
        told = False
        while True:
            try:
                with comings:
                    lock.acquire()
                break
            except Timeout:
                if not told:
                    listener.note(f"waiting for another process that changes {path}")
                told = True
                time.sleep(0.05)
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError), comings:
                lock.release()
                file.unlink(missing_ok=True)
