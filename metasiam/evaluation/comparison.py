"""Two evaluations of the same draws, compared task by task and pair by pair."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch

from metasiam.errors import MetaSiamError
from metasiam.evaluation.result import (
    METRIC_NAMES,
    Evaluation,
    TaskResult,
    Trainings,
    answers_of,
    images_of,
    kinds_of,
)
from metasiam.evaluation.statistics import mcnemar, paired_difference
from metasiam.training.machine import generator_for


def compare_evaluations(
    evaluations: Mapping[str, Evaluation], *, resamples: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """Compare every two methods: the rows of ``compare.json``'s ``paired``.

    Differences are a − b in the units of ``evaluation.json`` (percentage points; the AUC a fraction), over the
    held-out tasks; of episodes over the held-out domains' accuracies in them, since methods that are to be told apart
    meet other domains than these. Of a single held-out task images are resampled. Of several trainings of a method
    means are compared, and the interval includes run-to-run variance. Rows of answers of single trainings also carry
    ``mcnemar_p_value``, which speaks of these very pairs and not of new domains.

    Args:
        evaluations: by method, all made from the same domain set, split and settings.
        resamples: bootstrap samples.
        seed: names the bootstrap's random stream.

    Raises:
        MetaSiamError: if they were not made from the same draws.
    """
    rows: list[dict[str, Any]] = []
    for (a, first), (b, second) in combinations(evaluations.items(), 2):
        for regime, shots in _shared_conditions(first, second):
            left, right = _tasks_of(first, regime, shots), _tasks_of(second, regime, shots)
            check_same_draws([task[0] for task in left], [task[0] for task in right], a, b)
            for metric in METRIC_NAMES:
                rows.append(
                    {"a": a, "b": b, "regime": regime, "shots": shots, "metric": metric}
                    | _difference(left, right, metric, resamples, seed)
                )
        for name in first.episodes:
            if name not in second.episodes:
                continue
            generator = generator_for("cpu", seed, "paired")
            found = paired_difference(
                _classes_of(first, name), _classes_of(second, name), generator, resamples=resamples
            )
            named = {"a": a, "b": b, "regime": "episodes", "shots": name, "metric": "accuracy"}
            rows.append(named | _scaled(found, 100))
    return rows


def _shared_conditions(first: Evaluation, second: Evaluation) -> list[tuple[str, str]]:
    def conditions(evaluation: Evaluation) -> list[tuple[str, str]]:
        return list(dict.fromkeys((r.regime, r.shots) for r in evaluation.results if r.part == "held_out"))

    there = conditions(second)
    return [condition for condition in conditions(first) if condition in there]


def _tasks_of(evaluation: Evaluation, regime: str, shots: str) -> list[Trainings]:
    """Return each held-out task's results, of all trainings."""
    return list(zip(*(each.select("held_out", regime, shots) for each in evaluation.each), strict=True))


def _classes_of(evaluation: Evaluation, name: str) -> list[torch.Tensor]:
    """Return the accuracy of every held-out domain that occurs in episodes, each float [S, 1] of S trainings."""
    found = torch.stack([each.of_classes[name] for each in evaluation.each])
    return list(found[:, found.isfinite().all(0)].t().unsqueeze(2))


def check_same_draws(first: list[TaskResult], second: list[TaskResult], a: str, b: str) -> None:
    """Raise unless both methods were asked the very same pairs and triplets.

    Raises:
        MetaSiamError: naming the two methods.
    """
    same = len(first) == len(second) and all(
        x.domain == y.domain
        and torch.equal(x.pair_images, y.pair_images)
        and torch.equal(x.triplet_images, y.triplet_images)
        for x, y in zip(first, second, strict=True)
    )
    if not same:
        raise MetaSiamError(
            f"{a} and {b} were not tested on the same pairs. Evaluate both on the same data, split, seed and settings."
        )


def _difference(
    first: list[Trainings], second: list[Trainings], metric: str, resamples: int, seed: int
) -> dict[str, Any]:
    left, right = [answers_of(task, metric) for task in first], [answers_of(task, metric) for task in second]
    one, generator = first[0][0], generator_for("cpu", seed, "paired")
    difference = paired_difference(
        left, right, generator, images=images_of(one, metric), same=kinds_of(one, metric), resamples=resamples
    )
    found = _scaled(difference, 1 if metric == "auc" else 100)
    if len(left[0]) == len(right[0]) == 1 and left[0].shape[1] > 1:
        found["mcnemar_p_value"] = mcnemar(torch.cat(left, 1)[0] > 0.5, torch.cat(right, 1)[0] > 0.5)
    return found


def _scaled(found: Mapping[str, Any], factor: float) -> dict[str, Any]:
    return {
        "difference": found["difference"] * factor,
        "ci95": [bound * factor for bound in found["ci95"]],
        "p_value": found["p_value"],
        "n": found["n"],
    }
