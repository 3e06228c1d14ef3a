"""SIGTERM as Ctrl-C: what was done so far is said, and the exit code tells of the signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Whoever says something when the user presses Ctrl-C says it then too."""


def last_words(stopped: BaseException) -> tuple[str, int]:
    """Return the line that ends a stopped command, and its exit code: 128 + the signal, as a shell has it."""
    if isinstance(stopped, Terminated) or isinstance(stopped.__cause__, Terminated):
        return "metasiam: terminated\n", 128 + signal.SIGTERM
    return "metasiam: interrupted\n", 128 + signal.SIGINT


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Raise ``Terminated`` where SIGTERM comes while the block runs.

    Nothing changes where somebody else handles it, outside the main thread, and in a process of ``torchrun``: such a
    one may wait for others inside a collective operation, where Python cannot raise, and must end all the same.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        ours = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and os.environ.get("WORLD_SIZE", "1") == "1"
        previous = signal.signal(signal.SIGTERM, stop) if ours else None
    except ValueError:  # not in the main thread
        ours = False
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, previous)
