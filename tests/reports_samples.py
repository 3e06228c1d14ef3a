"""Made-up evaluations that follow the JSON schema to the letter, for the tests of the reports.

The numbers are drawn, not measured: nothing here is a result.
"""

from __future__ import annotations

import random
from typing import Any

NAMES = ("willow_tree", "wolf", "woman", "worm", "tractor", "train", "trout", "tulip", "turtle", "wardrobe")
SHOTS = ("0", "1", "5", "20", "all")


def mean(value: float, half: float = 1.3, n: int = 20000) -> dict[str, Any]:
    return {"mean": value, "ci95": [value - half, value + half], "n": n}


def metrics(triplet: float) -> dict[str, Any]:
    return {
        "triplet_accuracy": mean(triplet),
        "pair_accuracy": {
            "fixed": mean(triplet - 8.5),
            "global": mean(triplet - 7.6),
            "per_task": mean(triplet - 7.0),
            "oracle": mean(triplet - 6.2),
        },
        "auc": {"mean": triplet / 100, "ci95": [triplet / 100 - 0.01, triplet / 100 + 0.01], "n": 20000},
        "eer": mean(100 - triplet + 6),
        "tar_at_far_1pct": mean(triplet - 55),
        "ece": mean(2.1, 0.3),
    }


def evaluation(
    triplet: float = 80.0,
    *,
    names: tuple[str, ...] = NAMES,
    shots: tuple[str, ...] = SHOTS,
    regimes: tuple[str, ...] = ("closed", "antidomain"),
    intervals: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Return an evaluation with everything the schema has."""
    draw = random.Random(seed)
    tasks = []
    for regime in regimes:
        for place, count in enumerate(shots):
            for task, name in enumerate(names):
                value = min(triplet + place + draw.gauss(0, 5), 99.0)
                own = {
                    "triplet_accuracy": value,
                    "pair_accuracy_fixed": value - 8.0,
                    "pair_accuracy_calibrated": value - 6.5,
                }
                tasks.append(
                    {
                        "task": 90 + task,
                        "name": name,
                        "regime": regime,
                        "shots": count,
                        **({key: mean(x, 1.9, 2000) for key, x in own.items()} if intervals else own),
                        "threshold": 0.2 + draw.gauss(0, 0.2),
                        "auc": value / 100,
                        "n_pairs": 2000,
                    }
                )
    return {
        "schema": 1,
        "protocol": {
            "name": "balanced",
            "data": "cifar100",
            "seed": 0,
            "pairs": 2000,
            "held_out": len(names),
            "adapt_steps": {"1": 0, "5": 0, "20": 5, "all": 30},
        },
        "seen": {"closed": {"0": metrics(triplet + 4)}},
        "held_out": {
            **{
                regime: {count: metrics(triplet + place) for place, count in enumerate(shots)}
                for regime in regimes
            },
            "episodes": {
                "5-way 1-shot": mean(triplet - 20, 0.6, 1000),
                "5-way 5-shot": mean(triplet - 9, 0.4, 1000),
                "all-way 1-shot": mean(triplet - 32, 0.7, 1000),
            },
            "tasks": tasks,
        },
    }


def comparison(methods: dict[str, float] | None = None, **options: Any) -> dict[str, Any]:
    """Return a comparison of methods whose accuracies differ as told; intervals of differences are ± 1."""
    methods = {"reptile": 81.5, "triplet": 80.0} if methods is None else methods
    evaluations = {name: evaluation(value, seed=3, **options) for name, value in methods.items()}
    names = list(methods)
    paired = []
    for place, a in enumerate(names):
        for b in names[place + 1 :]:
            gap = methods[a] - methods[b]
            keys = [
                (regime, count, name)
                for regime in options.get("regimes", ("closed", "antidomain"))
                for count in options.get("shots", SHOTS)
                for name in ("triplet_accuracy", "pair_accuracy_per_task", "pair_accuracy_global")
            ]
            keys += [("closed", "0", f"episodes {kind}") for kind in ("5-way 1-shot", "5-way 5-shot")]
            for regime, count, name in keys:
                shift = gap if count != "0" else gap - 1.2
                paired.append(
                    {
                        "a": a,
                        "b": b,
                        "regime": regime,
                        "shots": count,
                        "metric": name,
                        "difference": shift,
                        "ci95": [shift - 1, shift + 1],
                        "p_value": 0.004 if abs(shift) > 1 else 0.4,
                    }
                )
    return {"schema": 1, "budget": {"images": 500000}, "methods": evaluations, "paired": paired}
