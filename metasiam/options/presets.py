"""``--preset``: whole groups of options. What is given explicitly wins over them.

Each method's options class holds its presets; those of the data are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metasiam.errors import MetaSiamError
from metasiam.methods import options_class
from metasiam.option_values import one_of

#: Preset → what it is, in a line.
ABOUT = {
    "quick": "seconds to two minutes on two CPU cores, on the glyphs that come along",
    "best": "the strongest that ten minutes on two CPU cores give; for reptile a second stage",
    "scratch": "Reptile without weights to start from, tasks of half of the seen classes",
    "scratch-single": "the same with tasks of one class, as in the published system",
    "published": "the published systems' settings: days on a CPU",
    "published-tf": "Koch's network as published for TensorFlow",
    "published-step": "Koch's network with a learning rate in steps",
    "published-sgd": "Koch's network with SGD",
    "published-exponential": "Koch's network with an exponential learning rate",
}

#: Options of the data, by preset. Those of pairs have names of their own.
DATA: dict[str, dict[str, Any]] = {
    "quick": {"data": "glyphs", "validation": 10},
    "best": {"validation": 10},
    "scratch": {"validation": 10},
    "scratch-single": {"validation": 10},
    "published": {"validation": 0},
}
PAIR_DATA: dict[str, dict[str, Any]] = {
    "quick": {"crop": 150, "image_size": 48},
    "best": {"crop": 150, "image_size": 150},
}


def named(preset: str) -> str:
    """Return a preset's name: those of the published systems were called ``seed`` before, and still may be."""
    head, dash, tail = preset.partition("-")
    return f"published{dash}{tail}" if head == "seed" else preset


def data_of(preset: str, method: str) -> dict[str, Any]:
    """Return what a preset sets of the data."""
    return dict((PAIR_DATA if method == "siamese" else DATA).get(preset, {}))


def preset_options(preset: str | None, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a preset's options of the data and of a method; both empty without a preset.

    Args:
        preset: its name.
        method: whose options.

    Raises:
        MetaSiamError: for an unknown preset, or one that the method does not have.
    """
    if preset is None:
        return {}, {}
    name, options = named(preset), options_class(method)
    if name not in options.presets and name in DATA:
        raise MetaSiamError(f"{method} has no preset {name}. It has: {', '.join(options.presets)}.")
    one_of("--preset", name, tuple(options.presets))
    return data_of(name, method), dict(options.presets[name])


def check_start(preset: str | None, method: str, options: Mapping[str, Any]) -> None:
    """Raise for Reptile's ``best`` preset without weights to start from: it is a second stage.

    Raises:
        MetaSiamError: saying what to start from.
    """
    if preset == "best" and method == "reptile" and options.get("init") is None:
        raise MetaSiamError(
            "reptile --preset best fine-tunes trained weights. First run metasiam triplet --preset best --out "
            "runs/start, then add --init runs/start."
        )
