"""Which values a search tries: options of a pair training, as ``--try`` and ``--set`` say them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from metasiam.errors import MetaSiamError
from metasiam.options.declare import declared
from metasiam.options.pairs import SiameseOptions
from metasiam.options.training import options_of, value_of


@dataclass(frozen=True)
class Choice:
    """What one option may be.

    Attributes:
        name: a field of ``SiameseOptions``.
        values: the listed values; empty for a range.
        low, high: ends of a range.
        logarithmic: whether the range is searched by factors.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False

    @property
    def whole(self) -> bool:
        """Whether the option counts something."""
        return declared(SiameseOptions)[self.name].kind is int


def parse_choice(text: str) -> Choice:
    """Read ``lr=0.001,0.01``, ``lr=0.0001..0.01`` (by factors) or ``dropout=0..0.5`` (evenly, since it starts at 0).

    Raises:
        MetaSiamError: for an unknown option, or values that it does not take.
    """
    name, equals, listed = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    known = {field.name for field in fields(SiameseOptions)}
    if not equals or not listed.strip():
        raise MetaSiamError(f"--try {text} has no values. Use e.g. --try lr=0.0001,0.001 or --try lr=0.0001..0.01.")
    if name not in known:
        raise MetaSiamError(f"--try {text}: siamese has no option '{name}'. It has: {', '.join(sorted(known))}.")
    if ".." in listed:
        try:
            low, high = (float(end) for end in listed.split(".."))
        except ValueError as error:
            raise MetaSiamError(f"--try {text} is not a range. Use e.g. --try {name}=0.0001..0.01.") from error
        if not low < high:
            raise MetaSiamError(f"--try {text}: the range must grow. Use e.g. --try {name}=0.0001..0.01.")
        return Choice(name, low=low, high=high, logarithmic=low > 0)
    return Choice(
        name, tuple(value_of(SiameseOptions, name, word.strip(), f"--try {text}") for word in listed.split(","))
    )


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read what all trials have in common, as ``epochs=5``.

    Raises:
        MetaSiamError: for an unknown option, or anything but one value.
    """
    fixed = {}
    for text in texts:
        if not text.partition("=")[2].strip():
            raise MetaSiamError(f"--set {text} has no value. Use e.g. --set epochs=5.")
        choice = parse_choice(text)
        if len(choice.values) != 1:
            raise MetaSiamError(f"--set {text} must give one value. Use --try for several.")
        fixed[choice.name] = choice.values[0]
    return fixed


def check_together(choices: Sequence[Choice], options: Mapping[str, Any], *, grid: bool) -> None:
    """Raise unless the values that may be tried go with the other options, and in a grid with each other.

    Raises:
        MetaSiamError: naming the option that does not fit.
    """
    ends = {c.name: c.values or ((round(c.low), round(c.high)) if c.whole else (c.low, c.high)) for c in choices}
    together = itertools.product(*ends.values())
    first = tuple(values[0] for values in ends.values())
    apart = ((*first[:i], v, *first[i + 1 :]) for i, values in enumerate(ends.values()) for v in values)
    for values in together if grid else apart:
        options_of(SiameseOptions, {**options, **dict(zip(ends, values, strict=True))})
