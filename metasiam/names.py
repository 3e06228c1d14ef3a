"""When two names are the same: a Mac writes é in two characters, other systems in one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """Return a name as it is compared: letters with their accents in one character (Unicode's form NFC)."""
    return unicodedata.normalize("NFC", name)


def first_twice(names: Iterable[str]) -> str | None:
    """Return the first name that is there already, however its letters are encoded; None where all differ."""
    known: set[str] = set()
    for name in names:
        if composed(name) in known:
            return name
        known.add(composed(name))
    return None
