"""How long work says how far it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable

#: Told what is being done, how much of it is done, and how much there is. A total of 0 makes it a note: a line to read.
Report = Callable[[str, int, int], None]


def quiet(what: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def note(report: Report, text: str) -> None:
    """Say something that is to be read and not only watched, such as what has been left out."""
    report(text, 0, 0)


def warn_of_notes(what: str, done: int, total: int) -> None:
    """Report progress to nobody, but make a ``UserWarning`` of each note."""
    if total == 0:
        warnings.warn(what, stacklevel=2)


def warned(text: str) -> None:
    """Make a ``UserWarning`` of a note."""
    warnings.warn(text, stacklevel=3)
