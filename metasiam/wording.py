"""How counts and lists are said."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """Return the number with its noun: ``1 picture``, ``1,200 pictures``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(words: Sequence[str], most: int = 5) -> str:
    """Return the words with commas, the first ``most`` of them: ``'a', 'b' and 7 more``."""
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most} more"
