"""What the value of an option may be: of its kind, finite, and of a size that can be meant."""

from __future__ import annotations

import math
import os
from typing import Any

from metasiam.errors import MetaSiamError

#: The largest seed (torch's), and the largest whole number of any other option: more is a slip of the hand, and past
#: 2^63 torch fails in words of its own.
MOST_SEED, MOST_COUNTED = 2**63 - 1, 10**9


def require(condition: bool, text: str) -> None:
    """Raise ``MetaSiamError(text)`` unless ``condition`` holds."""
    if not condition:
        raise MetaSiamError(text)


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ``MetaSiamError`` unless ``value`` is one of ``allowed``."""
    require(value in allowed, f"{option} {value} is unknown. Use one of: {', '.join(allowed)}.")


def as_option(name: str) -> str:
    """Return a field's name as it is typed: ``batch_size`` as ``--batch-size``."""
    return f"--{name.replace('_', '-')}"


def plain(value: Any) -> Any:
    """Return a single number of NumPy or torch as Python's, anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def check_number(said: str, value: float, *, most: int = MOST_SEED) -> None:
    """Raise unless a number is finite, and a whole one not too large to be meant.

    Args:
        said: how to name it in a complaint.
        value: int or float.
        most: the largest size of a whole number.

    Raises:
        MetaSiamError: naming it and the bound.
    """
    if isinstance(value, int):
        require(abs(value) <= most, f"{said} must be at most {most:,}, not {shown(value)}.")
    else:
        require(math.isfinite(value), f"{said} must be a finite number, not {value}.")


def check_seconds(checkpoint_every: float) -> None:
    """Raise unless checkpoints can be so many seconds apart; 0 saves after every iteration.

    Raises:
        MetaSiamError: naming the option and the value.
    """
    require(
        checkpoint_every >= 0,
        f"--checkpoint-every must not be negative, not {checkpoint_every}. Try --checkpoint-every 60.",
    )


def shown(value: object) -> str:
    """Return a value for a complaint: a plain one as it is written, of others their kind."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a number of more than 40 digits"  # Python prints no more than some thousand
    if value is None or isinstance(value, str | int | float | os.PathLike):
        written = repr(value)
        return written if len(written) <= 60 else f"{written[:57]}…"
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return f"a {kind.__name__}" if package in ("builtins", "metasiam") else f"a {package}.{kind.__name__}"
