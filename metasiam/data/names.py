"""When two names are the same: a Mac writes é in two characters, a word processor blanks that do not break."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

#: Joiners (ZWJ, ZWNJ) and emoji tags: unseen, but Persian, Indic scripts and emoji are other ones without them.
_JOINING = {"\u200c", "\u200d", *map(chr, range(0xE0020, 0xE0080))}


def composed(text: str) -> str:
    """Return a text with letters and their accents in one character (Unicode's form NFC): how paths are compared."""
    return unicodedata.normalize("NFC", text)


def plain_name(text: str) -> str:
    """Return a name as it is kept: composed (NFC), its spaces plain and single, without what cannot be seen.

    A name that has control characters, or nothing that can be seen, comes back empty.
    """
    text = "".join(c for c in composed(text) if c in _JOINING or unicodedata.category(c) != "Cf")
    text = " ".join(text.split())
    seen = any(c not in _JOINING for c in text)
    return text if seen and all(unicodedata.category(c) not in ("Cc", "Cs") for c in text) else ""


def plain(name: str) -> str:
    """Return a name as it is compared: plain, or as it is where that leaves nothing of it."""
    return plain_name(name) or composed(name)


def first_twice(names: Iterable[str]) -> str | None:
    """Return the first name that is there already, however its letters and blanks are written; else None."""
    known: set[str] = set()
    for name in names:
        if plain(name) in known:
            return name
        known.add(plain(name))
    return None


def close_to(name: str, known: Iterable[str]) -> str:
    """Return the rest of a complaint about a name that is not known: `` Did you mean … or …?``, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""
