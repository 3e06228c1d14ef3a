"""How counts, lists and intervals are said, and texts of others shown."""

from __future__ import annotations

import re
from collections.abc import Sequence


def counted(count: int | str, noun: str, several: str | None = None) -> str:
    """Return the number with its noun: ``1 picture``, ``1,200 pictures``, ``all pictures``; ``2 queries``, if given."""
    number = count if isinstance(count, str) else f"{count:,}"
    return f"{number} {noun if number == '1' else several or f'{noun}s'}"


def listed(words: Sequence[str], most: int = 5) -> str:
    """Return the words with commas, the first ``most`` of them: ``'a', 'b' and 7 more``."""
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most} more"


def together(words: Sequence[str]) -> str:
    """Return all the words: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def plus_minus(mean: float, low: float, high: float, *, digits: int = 1, most: float = 100.0) -> str:
    """Return a mean with its interval: ``83.7 ± 1.2``, or ``90.3 [72.4, 100.0]`` where that is lopsided.

    Args:
        mean: from 0 to ``most``.
        low: the interval's lower end.
        high: its upper end.
        digits: decimals.
        most: what the mean cannot exceed; an interval that ``±`` would carry beyond it, or below 0, is lopsided.
    """
    half, rounding = (high - low) / 2, 0.5 * 10.0**-digits
    even = abs((high - mean) - (mean - low)) <= max(0.2 * half, 2 * rounding)
    if even and half <= min(mean, most - mean) + rounding:
        return f"{mean:.{digits}f} ± {half:.{digits}f}"
    return f"{mean:.{digits}f} [{max(low, 0.0):.{digits}f}, {min(high, most):.{digits}f}]"


#: What a terminal obeys instead of showing it (escape and its kin), and what turns the direction of a line.
_OBEYED = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]")
#: How cells begin that a spreadsheet runs as a formula.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def harmless(text: str) -> str:
    """Return a text as a terminal may show it: escape sequences and turned directions are written out (``\\x1b``)."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


def harmless_json(text: str) -> str:
    """Return JSON as a terminal may show it; it says the same as before."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def spreadsheet_cell(value: object) -> object:
    """Return a cell of a CSV file: a text that a spreadsheet would run as a formula gets a ``'`` before it."""
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULAS) and not _NUMBER.fullmatch(text) else value


def printable(text: str, encoding: str = "utf-8") -> str:
    """Return text that an encoding can hold: what it cannot becomes an escape, a file name's odd byte ``\\udcff``."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


#: What is printed instead where the output cannot take these characters.
_PLAIN = {"×": "x", "…": "...", "–": "-", "—": "-", "−": "-", "±": "+-", "→": "->", "≤": "<=", "≥": ">=", "·": "*"}


def plainly(error: UnicodeError) -> tuple[str, int]:
    """Say in ASCII what cannot be encoded: a sign that looks alike, a byte as ``\\xff``, else an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = ""
    for character in error.object[error.start : error.end]:
        byte = ord(character) - 0xDC00  # how Python keeps a byte of a file's name that is no text
        escaped = f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(character)[1:-1]
        plain += _PLAIN.get(character, escaped)
    return plain, error.end
