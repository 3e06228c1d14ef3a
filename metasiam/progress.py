"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

#: Told what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]


def quiet(what: str, done: int, total: int) -> None:
    """Report progress to nobody."""
