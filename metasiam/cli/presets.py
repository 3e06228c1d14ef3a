"""``--preset``: whole groups of options. What is given explicitly wins over them."""

from __future__ import annotations

from typing import Any

from metasiam.config import one_of

#: Options of the data, by preset.
DATA: dict[str, dict[str, Any]] = {
    "quick": {"data": "glyphs", "held_out": 10, "validation": 10},
    "seed": {"held_out": 10, "validation": 0},
    "best": {"held_out": 10, "validation": 10},
}

#: Options of each method, by preset. ``seed`` is what the earlier systems did: the methods' defaults.
METHOD: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "triplet": {"arch": "resnet8", "iterations": 150, "schedule": "onecycle", "lr": 0.003, "shift": 2},
        "reptile": {
            "arch": "resnet8",
            "iterations": 15,
            "inner_epochs": 10,
            "meta_step": 1.0,
            "beta1": 0.0,
            "optimizer_state": "reset",
            "ways": 10,
            "shift": 2,
        },
    },
    "seed": {"triplet": {}, "reptile": {}},
    "best": {
        "triplet": {
            "arch": "resnet20",
            "loss": "softmax",
            "iterations": 1500,
            "schedule": "onecycle",
            "lr": 0.005,
            "weight_decay": 0.05,
            "shift": 4,
        },
        "reptile": {
            "arch": "resnet20",
            "loss": "softmax",
            "iterations": 100,
            "inner_epochs": 15,
            "meta_step": 1.0,
            "beta1": 0.0,
            "ways": 80,
            "shift": 4,
        },
    },
}


def preset_options(preset: str | None, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a preset's options of the data and of the method; both empty without a preset.

    Raises:
        MetaSiamError: for an unknown preset.
    """
    if preset is None:
        return {}, {}
    one_of("--preset", preset, tuple(METHOD))
    return dict(DATA[preset]), dict(METHOD[preset].get(method, {}))
