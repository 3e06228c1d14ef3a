"""What a file that is read must look like: said once for each kind, and checked before anything is done with it.

A shape is a function that takes a value and returns what is wrong with it, or None. Fields that a shape does not name
are left alone: newer versions add some.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from metasiam.option_values import shown

Shape = Callable[[Any], "str | None"]

_DEEPEST = 100  # brackets within brackets; what we write has ten, and Python's own stack ends at some hundreds
_LONGEST = 1 << 16  # characters of one text


def parse_json(text: str | bytes) -> Any:
    """Return what JSON text says.

    Raises:
        ValueError: if it is none, or has brackets within brackets hundreds deep.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deep") from error
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _within(outer)]
        if not level:
            return value
    raise ValueError("its brackets are nested too deep")


def _within(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in inner if isinstance(one, dict | list)]


def check(value: Any, shape: Shape) -> None:
    """Raise unless a value has a shape.

    Raises:
        ValueError: naming the field, what it is and what it must be.
    """
    if (wrong := shape(value)) is not None:
        raise ValueError(wrong.lstrip(" ."))


# --- shapes of single values -----------------------------------------------------------------------------------


def _told(fits: bool, value: Any, wanted: str) -> str | None:
    return None if fits else f" is {shown(value)}, not {wanted}"


def text(value: Any) -> str | None:
    """A text of no absurd length."""
    return _told(isinstance(value, str) and len(value) <= _LONGEST, value, "text")


def flag(value: Any) -> str | None:
    """True or false."""
    return _told(isinstance(value, bool), value, "true or false")


def anything(value: Any) -> str | None:
    """Any value."""
    return None


def whole(least: int = 0, most: int = 2**63 - 1) -> Shape:
    """A whole number in a range."""
    wanted = f"a whole number from {least} to {most}"
    return lambda value: _told(type(value) is int and least <= value <= most, value, wanted)


def number(least: float = -math.inf, most: float = math.inf) -> Shape:
    """A finite number in a range."""
    wanted = "a finite number" if (least, most) == (-math.inf, math.inf) else f"a number from {least} to {most}"

    def shape(value: Any) -> str | None:
        fits = type(value) is float or (type(value) is int and abs(value) < 2**63)
        return _told(fits and math.isfinite(value) and least <= value <= most, value, wanted)

    return shape


def one_of(*values: str) -> Shape:
    """One of some texts."""
    return lambda value: _told(isinstance(value, str) and value in values, value, " or ".join(values))


# --- shapes of shapes ------------------------------------------------------------------------------------------


def maybe(shape: Shape) -> Shape:
    """The shape, or null."""
    return lambda value: None if value is None else shape(value)


def either(first: Shape, second: Shape) -> Shape:
    """One shape or the other."""
    return lambda value: None if first(value) is None else second(value)


def many(shape: Shape, least: int = 0, most: int | None = None) -> Shape:
    """A list (or tuple) of so many of a shape."""
    wanted = f"a list of {least}" if least == most else "a list" if not least else f"a list of {least} or more"

    def listed(value: Any) -> str | None:
        if not isinstance(value, list | tuple) or len(value) < least or (most is not None and len(value) > most):
            return _told(False, value, wanted)
        found = ((place, shape(one)) for place, one in enumerate(value, 1))
        return next((f", number {place}{wrong}" for place, wrong in found if wrong is not None), None)

    return listed


def record(needed: Mapping[str, Shape] | None = None, optional: Mapping[str, Shape] | None = None) -> Shape:
    """An object with these fields, and others that are left alone."""
    needed, optional = needed or {}, optional or {}

    def fields(value: Any) -> str | None:
        if not isinstance(value, Mapping):
            return _told(False, value, "an object with fields")
        for name in needed:
            if name not in value:
                return f" has no {name}"
        for name, shape in {**needed, **optional}.items():
            if name in value and (wrong := shape(value[name])) is not None:
                return f".{name}{wrong}"
        return None

    return fields


def each(shape: Shape) -> Shape:
    """An object whose fields, whatever their names, all have the shape."""

    def fields(value: Any) -> str | None:
        if not isinstance(value, Mapping):
            return _told(False, value, "an object with fields")
        found = ((name, shape(one)) for name, one in value.items())
        return next((f".{name}{wrong}" for name, wrong in found if wrong is not None), None)

    return fields


# --- kinds of files --------------------------------------------------------------------------------------------

_DOMAINS = many(whole(0, 10**9))
_SIDES = many(whole(1, 4096), 2, 2)
_SPLIT = record({"seen": _DOMAINS, "validation": _DOMAINS, "held_out": _DOMAINS}, {"name": text})

#: The JSON that weights carry, and its fields given anew: ``metasiam.models.files.EmbedderInfo``.
EMBEDDER = record(
    optional={
        "arch": text,
        "channels": whole(1, 1024),
        "image_size": _SIDES,
        "mean": many(number(), 1, 1024),
        "std": many(number(), 1, 1024),
        "distance": one_of("cosine", "squared_euclidean"),
        "threshold": maybe(number()),
        "mirrored": flag,
        "trained_on": text,
    }
)

#: A gallery's header; how its tensors fit together is checked where they are (``metasiam.gallery.store``).
GALLERY = record(
    {
        "schema": whole(),
        "embedder": record({"path": text, "fingerprint": text, "info": EMBEDDER}),
        "mirror": flag,
        "names": many(text),
        "files": many(text),
        "background": maybe(text),
        "rules": maybe(
            record(
                optional={
                    "thresholds": many(number()),
                    "own_thresholds": many(maybe(number())),
                    "general_threshold": number(),
                    "slope": number(),
                    "pair_threshold": number(),
                    "pair_slope": number(),
                    "strength": number(),
                    "learned_on": text,
                }
            )
        ),
    }
)

#: A run's ``config.json``. The options are checked by the method's own class when it is resumed.
RUN = record(
    {"options": record({"method": text}, {"init": maybe(text), "device": text})},
    {
        "resolved": record(optional={"precision": one_of("bf16", "fp32"), "compiled": flag}),
        "total_iterations": whole(0, 10**12),
        "images_per_iteration": whole(0, 10**12),
        "initial_images": whole(),
        "parameters": whole(),
        "data": record(
            optional={
                "source": text,
                "options": maybe(record()),
                "fingerprint": text,
                "domains": whole(),
                "images": whole(),
                "channels": whole(),
                "image_size": _SIDES,
            }
        ),
        "split": _SPLIT,
        "pairs": record(),
        "evaluation": record(),
        "machine": record(optional={"device": text}),
        "processes": whole(1, 10**6),
        "created": text,
    },
)

#: How data were loaded, as a run keeps it.
DATA_OPTIONS = record(
    optional={
        **{name: maybe(text) for name in ("data", "data_dir", "split")},
        **{name: maybe(whole(0, 10**9)) for name in ("held_out", "validation", "crop", "fold")},
        "image_size": maybe(either(whole(1, 4096), _SIDES)),
        **{name: maybe(flag) for name in ("skip_unreadable", "squeeze", "grey")},
    }
)

#: A line of ``metrics.jsonl``: numbers by name, null where one was not finite.
METRICS = record({"step": whole(0, 10**12)}, {name: maybe(number()) for name in ("loss", "images", "seconds", "rate")})

CHECKPOINT = record({"schema": whole(), "iteration": whole(0, 10**12), "seconds": number(least=0), "learner": record()})

#: What is read again of ``evaluation.json``: of a sweep's run, and of a fold.
EVALUATION = record({"protocol": record()}, {"held_out": record(), "seen": record(), "data": record()})
_MEAN = record({"mean": number()})
FOLD = record(
    {"held_out": record({"closed": record({"0": record({"pair_accuracy": record({"global": _MEAN}), "auc": _MEAN})})})}
)

#: The plans of comparisons, sweeps and folds.
COMPARISON = record(
    {
        "methods": each(record()),
        "data": record(),
        "budget": record(optional={"images": whole(1), "minutes": number(least=0)}),
    },
    {"seeds": maybe(many(whole())), "evaluation": record()},
)
FOLDS = record({"options": record(), "data": record({"options": record()}, {"source": text, "fingerprint": text})})

#: A line of ``trials.jsonl``.
TRIAL = record(
    {"trial": whole(), "options": record(), "score": number(), "accuracy": number(0, 1), "auc": number(0, 1)},
    {"seconds": number(least=0), "epochs": maybe(whole())},
)

#: A file of ``--split``.
SPLIT_FILE = record({"train": many(text), "validation": many(text), "test": many(text)})
