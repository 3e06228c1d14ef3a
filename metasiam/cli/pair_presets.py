"""``--preset`` of ``metasiam siamese``: whole groups of options. What is given explicitly wins over them.

The published systems gave their results but not every setting; what they left open is torch's or Keras's default.
"""

from __future__ import annotations

from typing import Any

from metasiam.option_values import one_of

_PUBLISHED: dict[str, Any] = {"arch": "koch", "head": "l1", "lr": 1e-4, "batch_size": 32, "epochs": 30, "flip": False}

#: Options of the method, by preset.
METHOD: dict[str, dict[str, Any]] = {
    "quick": {"arch": "conv4", "head": "features", "lr": 1e-3, "epochs": 5, "batch_size": 64, "patience": 2},
    # The published PyTorch system's four experiments: Adam at 1e-4 without a schedule gave its best figure, 78.5 %.
    "published": _PUBLISHED,
    "published-step": _PUBLISHED | {"schedule": "step", "step_size": 10, "gamma": 0.1},
    "published-exponential": _PUBLISHED | {"schedule": "exponential", "gamma": 0.95},
    "published-sgd": _PUBLISHED
    | {"optimizer": "sgd", "lr": 1e-2, "momentum": 0.9, "schedule": "multistep", "milestones": "15,25"},
    # The published TensorFlow system, 73.1 %: BatchNorm, the paper's first weights and an L2 penalty for each layer.
    "published-tf": _PUBLISHED
    | {
        "arch": "koch-bn",
        "initial": "paper",
        "layer_l2": "2e-4,2e-4,2e-4,2e-4,1e-3,0",
        "patience": 5,
        "min_delta": 0.0,
    },
    # Chosen by cross-validation on the training pairs: benchmarks/results/faces/ablation.json.
    "best": {
        "arch": "fisher",
        "head": "features",
        "difference_weight": 1.0,
        "solver": "svm",
        "penalty": 1.0,
        "mirror": True,
    },
}

#: Earlier names of presets: they work wherever a preset is taken.
ALIASES = {name.replace("published", "seed"): name for name in METHOD if name.startswith("published")}

#: Options of the data, by preset.
DATA: dict[str, dict[str, Any]] = {
    "quick": {"crop": 150, "image_size": 48},
    "best": {"crop": 150, "image_size": 150},
}


def preset_options(preset: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a preset's options of the data and of the method; both empty without a preset.

    Raises:
        MetaSiamError: for an unknown preset.
    """
    if preset is None:
        return {}, {}
    preset = ALIASES.get(preset, preset)
    one_of("--preset", preset, tuple(METHOD))
    return dict(DATA.get(preset, {})), dict(METHOD[preset])
