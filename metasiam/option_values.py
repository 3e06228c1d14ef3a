"""What the value of an option may be: of its kind, finite, and of a size that can be meant."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from metasiam.errors import MetaSiamError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: What a field of each type takes, and how that is said.
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "True or False"),
}

#: The largest seed (torch's), and the largest whole number of any other option: more is a slip of the hand, and past
#: 2^63 torch fails in words of its own.
MOST_SEED, MOST_COUNTED = 2**63 - 1, 10**9
#: Options with a bound of their own: a batch that no memory holds would be asked for before anything is checked.
_MOST = {"seed": MOST_SEED, "batch_size": 2**20}


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


def check_kinds(config: DataclassInstance, said: Callable[[str], str] = as_option) -> None:
    """Raise unless every option's value is of its field's type, finite and of a size that a computer can count to.

    A whole number is a number too, a bool is neither; NumPy's and torch's numbers become Python's.

    Args:
        config: its fields of the types text, int, float and bool are looked at, and the same or None.
        said: how a field is named in a complaint.

    Raises:
        MetaSiamError: naming the option, the kind that is wanted and the value.
    """
    for field in fields(config):
        kind, optional, _ = str(field.type).partition(" | None")
        if kind not in _KINDS:
            continue
        types, wanted = _KINDS[kind]
        value = plain(getattr(config, field.name))
        object.__setattr__(config, field.name, value)
        fits = isinstance(value, types) and isinstance(value, bool) == (kind == "bool")
        if not (fits or (value is None and optional)):
            wanted += " or None" if optional else ""
            raise MetaSiamError(f"{said(field.name)} must be {wanted}, not {shown(value)}.")
        if kind in ("int", "float") and value is not None:
            check_number(said(field.name), value, most=_MOST.get(field.name, MOST_COUNTED))


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
