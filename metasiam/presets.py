"""``--preset``: whole groups of options. What is given explicitly wins over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metasiam.errors import MetaSiamError
from metasiam.option_values import one_of

#: Earlier names of presets: they work wherever a preset is taken.
ALIASES = {"seed": "published"}

#: Options of the data, by preset.
DATA: dict[str, dict[str, Any]] = {
    "quick": {"data": "glyphs", "validation": 10},
    "published": {"validation": 0},
    "scratch": {"validation": 10},
    "scratch-single": {"validation": 10},
    "best": {"validation": 10},
}

#: A normalised-softmax classifier of the seen domains, in ten CPU minutes: the strongest start found on validation
#: domains (``docs/results.md``).
_STRONG_START: dict[str, Any] = {
    "arch": "resnet20",
    "loss": "softmax",
    "temperature": 0.1,
    "batch_size": 64,
    "lr": 0.015,
    "weight_decay": 0.05,
    "schedule": "onecycle",
    "shift": 4,
    "iterations": 2100,
}

#: The same for the methods that learn episodes: 192 images a gradient step, as the quick triplets.
_QUICK_EPISODES: dict[str, Any] = {
    "arch": "resnet8",
    "shift": 2,
    "schedule": "onecycle",
    "lr": 0.01,
    "ways": 16,
    "shots": 4,
    "queries": 8,
    "iterations": 180,
}
_QUICK_MAML: dict[str, Any] = {
    "arch": "resnet8",
    "shift": 2,
    "schedule": "onecycle",
    "lr": 0.01,
    "ways": 8,
    "shots": 4,
    "queries": 8,
    "meta_batch": 1,
    "inner_rate": 0.1,
}
_BEST_EPISODES: dict[str, Any] = {
    "arch": "resnet20",
    "lr": 0.01,
    "weight_decay": 0.01,
    "schedule": "onecycle",
    "shift": 4,
    "ways": 20,
    "shots": 5,
    "queries": 5,
    "iterations": 2000,
}
_BEST_MAML: dict[str, Any] = {
    "arch": "resnet20",
    "lr": 0.003,
    "schedule": "onecycle",
    "shift": 4,
    "ways": 5,
    "shots": 5,
    "queries": 5,
    "meta_batch": 4,
    "inner_rate": 0.1,
}

#: Options of each method, by preset. ``published`` is the setting of the two published systems: the methods' defaults.
#: ``best`` is a strong start; for Reptile it fine-tunes that: add ``--init`` with a run of ``triplet --preset best``.
METHOD: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "triplet": {
            "arch": "resnet8",
            "loss": "softmax",
            "temperature": 0.1,
            "batch_size": 64,
            "lr": 0.025,
            "schedule": "onecycle",
            "shift": 2,
            "iterations": 180,
        },
        "reptile": {
            "arch": "resnet8",
            "loss": "balanced-softmax",
            "temperature": 0.1,
            "batch_size": 64,
            "lr": 0.025,
            "schedule": "onecycle",
            "shift": 2,
            "iterations": 18,
            "inner_epochs": 10,
            "ways": 0,  # half of the seen domains
            "meta_step": 1.0,
            "meta_schedule": "constant",
        },
        "baseline": {
            "arch": "resnet8",
            "temperature": 0.1,
            "batch_size": 192,
            "lr": 0.015,
            "schedule": "onecycle",
            "shift": 2,
            "iterations": 180,
        },
        "protonet": _QUICK_EPISODES,
        "fomaml": {**_QUICK_MAML, "inner_rate": 0.6, "iterations": 160},
        "maml": {**_QUICK_MAML, "inner_rate": 0.3, "inner_steps": 1, "iterations": 360},
        "anil": {**_QUICK_MAML, "iterations": 360},
    },
    "published": {"triplet": {}, "reptile": {}},
    # Reptile without weights to start from, with as many images as the strong start. Tasks are half of the seen
    # domains, or one domain as the published system's. Searched by benchmarks.recipe_search on validation domains.
    "scratch": {
        "reptile": {
            **_STRONG_START,
            "loss": "balanced-softmax",
            "iterations": 105,
            "inner_epochs": 20,
            "ways": 0,  # half of the seen domains
            "meta_step": 1.0,
            "meta_schedule": "constant",
        }
    },
    "scratch-single": {
        "reptile": {
            **_STRONG_START,
            "loss": "balanced-softmax",
            "batch_size": 16,
            "lr": 0.02,
            "iterations": 218,
            "inner_epochs": 5,
            "meta_batch": 8,
            "meta_step": 1.0,
            "meta_schedule": "constant",
        }
    },
    "best": {
        "triplet": _STRONG_START,
        "reptile": {
            "loss": "cosine",
            "batch_size": 32,
            "lr": 0.0005,
            "shift": 4,
            "iterations": 30,
            "inner_epochs": 5,
            "meta_batch": 8,
            "meta_step": 1.0,
            "beta1": 0.0,
            "optimizer_state": "reset",
            "batch_norm": "frozen",
        },
        "baseline": {**_STRONG_START, "batch_size": 192},
        "protonet": _BEST_EPISODES,
        "fomaml": {**_BEST_MAML, "iterations": 670},
        "maml": {**_BEST_MAML, "inner_steps": 1, "iterations": 2000},
        "anil": {**_BEST_MAML, "iterations": 2000},
    },
}


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


#: ``--adapt-shots`` by preset: adapting to a hundred images of every held-out domain would take longer than training.
ADAPT_SHOTS = {"quick": "0,5"}


def preset_options(preset: str | None, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a preset's options of the data and of the method; both empty without a preset.

    Raises:
        MetaSiamError: for an unknown preset, or one that the method does not have.
    """
    if preset is None:
        return {}, {}
    preset = ALIASES.get(preset, preset)
    one_of("--preset", preset, tuple(METHOD))
    if method not in METHOD[preset]:
        having = [name for name in METHOD if method in METHOD[name]]
        raise MetaSiamError(f"{method} has no preset {preset}. It has: {', '.join(having)}.")
    return dict(DATA[preset]), dict(METHOD[preset][method])
