"""What a person sees while waiting: one line a task, with rate, loss and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from metasiam.wording import harmless

if TYPE_CHECKING:
    from metasiam.training.loop import Progress as TrainingProgress

#: Seconds between lines where the output is not a terminal.
_QUIET_INTERVAL = 15.0


def in_words(seconds: float | None) -> str:
    """Return a duration as people say it: ``45 s``, ``12 min``, ``3.5 h``, ``4.2 days``."""
    if seconds is None:
        return "…"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


class Lines:
    """Progress lines on a terminal; occasional plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._spoke: dict[str, float] = {}

    def update(self, what: str, done: int, total: int, words: str = "") -> None:
        """Show that ``what`` is at ``done`` of ``total``; where that is 0, ``what`` is a note, which is said."""
        what = harmless(what)
        if total == 0:
            self.say(f"note: {what}")
            return
        if self.console.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=total, words=words)
            self._bars.update(self._tasks[what], completed=done, total=total, words=words)
            return
        now = time.monotonic()
        self._spoke.setdefault(what, now - _QUIET_INTERVAL + 2)  # the first line after two seconds
        if (now - self._spoke[what] >= _QUIET_INTERVAL) or (done == total and total > 0 and words):
            self._spoke[what] = now
            self.console.print(f"{what}: {done} of {total}  {words}".rstrip(), highlight=False, markup=False)

    def training(self, what: str, progress: TrainingProgress) -> None:
        """Show a training's progress."""
        left = f"{in_words(progress.seconds_left)} left" if progress.iteration < progress.total else "done"
        words = f"{progress.images_per_second:,.0f} images/s  loss {progress.loss:.4f}  {left}"
        self.update(what, progress.iteration, progress.total, words)

    def say(self, text: str) -> None:
        """Print a line above the progress lines."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def lines(console: Console) -> Iterator[Lines]:
    """Show progress lines while the block runs."""
    shown = Lines(console)
    if not console.is_terminal:
        yield shown
        return
    with shown._bars:
        yield shown
