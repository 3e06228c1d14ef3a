"""Progress of long-running work: a listener is told of everything, and a terminal or a notebook shows it."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        what: what is trained, in a word or a few: the method, or which one of several trainings.
        iteration: iterations done.
        total: iterations of the whole run.
        loss: mean loss since the last report.
        images: images through the network so far.
        images_per_second: over the last iterations, without the first one's compiling.
        seconds: of training so far, earlier starts included.
        seconds_left: at that rate; None before it can be told.
    """

    what: str
    iteration: int
    total: int
    loss: float
    images: int
    images_per_second: float
    seconds: float
    seconds_left: float | None


class Listener:
    """Is told of long work. Every method does nothing: a subclass has those that it wants.

    Every function that takes long has the option ``listener``. Left out, a terminal or a notebook shows how far the
    work is; None is silent.
    """

    def progress(self, what: str, done: int, total: int) -> None:
        """Hear how much of some work is done, of ``total``: images embedded, bytes of a download, domains tried."""

    def training(self, progress: Progress) -> None:
        """Hear about once a second how far a training is, and its loss."""

    def measured(self, row: dict[str, Any]) -> None:
        """Hear what an epoch of a pair training found (``step``, ``train_loss``, …), or a trial of a search."""

    def note(self, text: str) -> None:
        """Hear something that is to be read and not only watched, such as what has been left out."""

    def started(self, config: dict[str, Any]) -> None:
        """Hear what begins: of a run its ``config.json``, of a search its next trial, of a server where it is."""


class Relay(Listener):
    """Passes on what it hears; what inherits from it changes some of that on the way.

    Args:
        to: who hears it.
    """

    def __init__(self, to: Listener) -> None:
        self.to = to

    def progress(self, what: str, done: int, total: int) -> None:
        self.to.progress(what, done, total)

    def training(self, progress: Progress) -> None:
        self.to.training(progress)

    def measured(self, row: dict[str, Any]) -> None:
        self.to.measured(row)

    def note(self, text: str) -> None:
        self.to.note(text)

    def started(self, config: dict[str, Any]) -> None:
        self.to.started(config)


class Part(Relay):
    """Says of which one of several works it is that something is heard.

    Args:
        to: who hears it.
        name: of the one.
    """

    def __init__(self, to: Listener, name: str) -> None:
        super().__init__(to)
        self.name = name

    def progress(self, what: str, done: int, total: int) -> None:
        self.to.progress(f"{self.name}: {what}", done, total)

    def training(self, progress: Progress) -> None:
        self.to.training(replace(progress, what=self.name))


class _Default(Listener):
    """What a listener is where none is given."""


class _Warning(_Default):
    def note(self, text: str) -> None:
        warnings.warn(text, stacklevel=_outside())


SILENT = Listener()
#: Defaults of ``listener``: shown in a terminal or a notebook; elsewhere silent, or notes are warned of.
SHOWN = _Default()
SHOWN_OR_WARNED = _Warning()


def heard(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Let a function with the option ``listener`` show its progress where somebody watches and none was given."""
    default = (function.__kwdefaults__ or {})["listener"]

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        if not isinstance(kwargs.get("listener", default), _Default) or not _watched():
            return function(*args, **kwargs)
        from metasiam.progress_lines import lines

        with lines() as shown:
            return function(*args, **{**kwargs, "listener": shown})  # type: ignore[arg-type]

    return call


def _watched() -> bool:
    """Tell whether somebody sees what is written: in a terminal or a notebook; of several processes the first."""
    notebook = "ipykernel" in sys.modules or "google.colab" in sys.modules
    return os.environ.get("RANK", "0") == "0" and (notebook or (sys.stdout is not None and sys.stdout.isatty()))


def _outside() -> int:
    """Return the stack level of the caller's own line, for a warning: the first that is not in this package."""
    ours, level, frame = (__name__.partition(".")[0], "contextlib", "torch"), 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in ours:
        level, frame = level + 1, frame.f_back
    return level
