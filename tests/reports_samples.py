"""Made-up evaluations that follow the JSON schema to the letter, for the tests of the reports.

The numbers are drawn, not measured: nothing here is a result.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from metasiam.reports.inputs import Curve, Extras, PictureExample, RocCurve, ScoreHistogram, SweepPoint

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
            "split": {"seen": list(range(90)), "validation": [], "held_out": list(range(90, 90 + len(names)))},
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
            "adaptation_steps": {
                count: [{"steps": steps, "triplet_accuracy": mean(triplet + steps / 10)} for steps in (0, 5, 30)]
                for count in shots
                if count != "0"
            },
            "tasks": tasks,
        },
        "reference_protocol": {
            "threshold": 0.2,
            "seen_triplet": mean(88.1),
            "seen_pairs": mean(80.7),
            "few_shot": {
                "mean": 78.8, "sd": 4.4, "draws": 200, "plain_accuracy": 79.2, "constant_answer": 90.0,
            },
            "meta": {
                "threshold": 0.7, "pairs": 50, "triplet_accuracy": mean(91.0), "pair_accuracy": mean(61.5),
            },
        },
    }  # fmt: skip


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


def history(final: float, *, count: int = 300, seed: int = 0) -> list[dict[str, Any]]:
    """Return lines as of ``metrics.jsonl``: a noisy loss that falls to about ``final``."""
    draw = random.Random(seed)
    return [
        {
            "step": 10 * line,
            "loss": final + 0.25 * 0.98**line + abs(draw.gauss(0, 0.015)),
            "images": 3840 * line,
            "seconds": 0.7 * line,
        }
        for line in range(1, count + 1)
    ]


def roc_curve(method: str, strength: float) -> RocCurve:
    rate = np.linspace(0, 1, 200)
    return RocCurve(method, rate, rate ** (1 / strength), strength / (1 + strength))


def histogram(method: str, shift: float = 0.0) -> ScoreHistogram:
    edges = np.linspace(-1, 1, 41)
    middles = (edges[1:] + edges[:-1]) / 2
    same = (4000 * np.exp(-(((middles - 0.45 - shift) / 0.25) ** 2))).astype(np.int64)
    different = (4000 * np.exp(-(((middles + 0.05) / 0.3) ** 2))).astype(np.int64)
    return ScoreHistogram(method, edges, same, different, {"fixed": 0.2, "global": 0.23, "per_task": 0.26})


def adaptation_curves(method: str, start: float) -> list[Curve]:
    steps = [0, 1, 2, 5, 10, 15, 20, 30]
    gains = {"1 image": -0.5, "5 images": -0.2, "20 images": 0.02, "all images": 0.25}
    curves = []
    for label, gain in gains.items():
        accuracy = [start + gain * step for step in steps]
        curves.append(Curve(method, steps, accuracy, [a - 1.2 for a in accuracy], [a + 1.2 for a in accuracy], label))
    return curves


def pictures(method: str, count: int = 8, seed: int = 0) -> list[PictureExample]:
    """Return pairs of random pictures, in turn right and wrong, same and different."""
    draw = np.random.default_rng(seed)
    return [
        PictureExample(
            method,
            first=draw.integers(0, 256, (3, 32, 32), dtype=np.uint8),
            second=draw.integers(0, 256, (3, 32, 32), dtype=np.uint8),
            same=place % 4 < 2,
            answered_same=place % 4 in (0, 3),
            similarity=0.9 - 0.01 * place,
            probability=0.98 - 0.01 * place if place % 4 in (0, 3) else 0.02 + 0.01 * place,
            first_name="turtle",
            second_name="turtle" if place % 4 < 2 else "wardrobe <i>",
        )
        for place in range(count)
    ]


def sweep_points(methods: tuple[str, ...] = ("reptile", "triplet")) -> list[SweepPoint]:
    """Return a sweep over 10-90 … 90-10 for each method."""
    points = []
    for place, method in enumerate(methods):
        for seen in range(10, 100, 10):
            data = evaluation(70 + seen / 10 + 2 * place, names=("a", "b"), shots=("0",))
            data["reference_protocol"]["few_shot"]["mean"] = 50 + seen / 3 + place
            points.append(SweepPoint(method, seen, 100 - seen, data))
    return points


def extras(methods: tuple[str, ...]) -> Extras:
    """Return everything that a page may show, for each method."""
    places = list(enumerate(methods))
    return Extras(
        pictures=[example for place, name in places for example in pictures(name, 16, place)],
        roc=[roc_curve(name, 4 + place) for place, name in places],
        histograms=[histogram(name, 0.05 * place) for place, name in places],
        adaptation=[curve for place, name in places for curve in adaptation_curves(name, 78 + place)],
        training=[
            Curve(name, [0, 2e5, 4e5, 6e5], [50, 68 + place, 72 + place, 74.0 + place]) for place, name in places
        ],
        histories={name: history(0.05 + 0.02 * place, seed=place) for place, name in places},
    )
