"""What a person sees while waiting: one line a task, with rate, loss and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from metasiam.progress import Listener, Progress
from metasiam.wording import counted, harmless

#: Seconds between lines where the output is not a terminal.
_QUIET_INTERVAL = 15.0
#: Seconds between changes of the line in a notebook.
_NOTEBOOK_INTERVAL = 0.3


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


class Lines(Listener):
    """Progress lines on a terminal or in a notebook; occasional plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        kind = _InNotebook if console.is_jupyter else _OnTerminal if console.is_terminal else _Seldom
        self._shown: _InNotebook | _OnTerminal | _Seldom = kind(console)
        self._config: dict[str, Any] = {}

    def progress(self, what: str, done: int, total: int) -> None:
        """Show that ``what`` is at ``done`` of ``total``."""
        self._show(what, done, total)

    def training(self, progress: Progress) -> None:
        """Show how far a training is, and say at its end if it learned nothing."""
        from metasiam.learners.guessing import never_learned

        left = f"{in_words(progress.seconds_left)} left" if progress.iteration < progress.total else "done"
        words = f"{progress.images_per_second:,.0f} images/s  loss {progress.loss:.4f}  {left}"
        self._show(progress.what, progress.iteration, progress.total, words)
        ended = self._config and progress.iteration == progress.total
        if ended and (words := never_learned(self._config, progress.loss)):
            self.say(words)

    def note(self, text: str) -> None:
        """Print a line that is to be read."""
        self.say(f"note: {text}")

    def started(self, config: dict[str, Any]) -> None:
        """Say what a run will do."""
        self._config = config if "trial" not in config else {}
        self.say(announcement(config))
        if "split" in config:
            self._show(config["options"]["method"], 0, config["total_iterations"], "first iteration")

    def say(self, text: str) -> None:
        """Print a line above the progress lines."""
        text = "\n".join(harmless(line) for line in text.split("\n"))
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the lines as they are and give the terminal back."""
        self._shown.close()

    def _show(self, what: str, done: int, total: int, words: str = "") -> None:
        self._shown.show(harmless(what), done, total, words)


@contextmanager
def lines(console: Console | None = None) -> Iterator[Lines]:
    """Show progress lines while the block runs; by default on stdout."""
    shown = Lines(console or Console())
    try:
        yield shown
    finally:
        shown.close()


class _OnTerminal:
    """Bars that move."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def show(self, what: str, done: int, total: int, words: str) -> None:
        if not self._tasks:
            self._bars.start()
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, words=words)
        self._bars.update(self._tasks[what], completed=done, total=total, words=words)

    def close(self) -> None:
        if self._tasks:
            self._bars.stop()


class _InNotebook:
    """One text below a cell, changed in place: a notebook needs no widgets for it."""

    def __init__(self, console: Console) -> None:
        self._lines: dict[str, str] = {}
        self._display: Any = None
        self._changed = 0.0

    def show(self, what: str, done: int, total: int, words: str) -> None:
        self._lines[what] = _line(what, done, total, words)
        if time.monotonic() - self._changed >= _NOTEBOOK_INTERVAL:
            self._write()

    def close(self) -> None:
        if self._lines:
            self._write()

    def _write(self) -> None:
        from IPython.display import display

        self._changed = time.monotonic()
        text = {"text/plain": "\n".join(self._lines.values())}
        if self._display is None:
            self._display = display(text, raw=True, display_id=True)
        else:
            self._display.update(text, raw=True)


class _Seldom:
    """A line now and then, where the output is kept rather than watched."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spoke: dict[str, float] = {}

    def show(self, what: str, done: int, total: int, words: str) -> None:
        now = time.monotonic()
        self._spoke.setdefault(what, now - _QUIET_INTERVAL + 2)  # the first line after two seconds
        if (now - self._spoke[what] >= _QUIET_INTERVAL) or (done == total and total > 0 and words):
            self._spoke[what] = now
            self._console.print(_line(what, done, total, words), highlight=False, markup=False)

    def close(self) -> None:
        """Nothing moves that would have to stop."""


def _line(what: str, done: int, total: int, words: str) -> str:
    return f"{what}: {done} of {total}  {words}".rstrip()


def announcement(config: dict[str, Any]) -> str:
    """Say what a run will do, from its ``config.json``; or a trial of a search, from its number and options."""
    options = config["options"]
    if "trial" in config:
        tried = ", ".join(f"{name} {value}" for name, value in options.items())
        return f"trial {config['trial']} of {config['trials']}: {tried}"
    data = config["data"]
    images = f"{counted(data['images'], 'image')} of {'×'.join(str(side) for side in data['image_size'])}"
    parameters = counted(config["parameters"], "parameter")
    where = f"on {config['machine']['device']} in {config['resolved']['precision']}"
    if "pairs" in config:
        return (
            f"{options['method']}: {data['source']}, {images}; pairs: {_pair_counts(config['pairs'])}\n"
            f"{options['arch']} with {options['head']} head, {parameters}, {where}; "
            f"{_pair_training(options)}"
        )
    split, iterations = config["split"], config["total_iterations"]
    parts = f"{len(split['seen'])} seen, {len(split['validation'])} validation, {len(split['held_out'])} held out"
    return (
        f"{options['method']}: {data['source']}, {images} in {counted(data['domains'], 'domain')} ({parts})\n"
        f"{options['arch']}, {parameters}, {options['loss']} loss, {where}; "
        f"{counted(iterations, 'iteration')}, {counted(iterations * config['images_per_iteration'], 'image')} in all"
    )


def _pair_counts(parts: dict[str, Any]) -> str:
    return ", ".join(
        f"{part} {own['pairs']:,}" + (f" ({counted(own['people'], 'person', 'people')})" if own["people"] else "")
        for part, own in parts.items()
        if own["pairs"]
    )


def _pair_training(options: dict[str, Any]) -> str:
    if options["solver"] == "svm":
        return f"head fitted {counted(options['folds'], 'time')} for cross-validation and once on all pairs"
    return f"{counted(options['epochs'], 'epoch')} of {options['optimizer']} at {options['lr']:g}"
