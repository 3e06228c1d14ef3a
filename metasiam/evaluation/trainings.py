"""Several trainings of one method, evaluated on the same draws, as one evaluation: means, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from metasiam.errors import MetaSiamError
from metasiam.evaluation.comparison import check_same_draws
from metasiam.evaluation.resampling import Mean, as_percent
from metasiam.evaluation.result import Evaluation, TaskResult, assemble
from metasiam.evaluation.statistics import over_trainings
from metasiam.options.evaluation import ProtocolSettings


def pool(evaluations: Sequence[Evaluation], settings: ProtocolSettings) -> Evaluation:
    """Return the mean of several trainings' evaluations; the evaluation itself where there is one.

    Every interval includes run-to-run variance next to that of tasks, images or episodes. Of ``protocol`` is kept what
    all trainings share, since each chooses thresholds and adaptation for itself; ``differs_between_trainings`` names
    the rest.

    Args:
        evaluations: one a training, all made from the same domain set, split and settings.
        settings: of the evaluations.

    Raises:
        MetaSiamError: if they were not made from the same draws, or by the reference protocol, which has no intervals
            over trainings.
    """
    if len(evaluations) == 1:
        return evaluations[0]
    check_poolable(settings)
    first = evaluations[0]
    each_results = [_in_order(each.results, first.results) for each in evaluations]
    for other in each_results[1:]:
        check_same_draws(each_results[0], other, "one training", "another")
    episodes = {name: torch.stack([each.episodes[name] for each in evaluations]) for name in first.episodes}
    protocols = [each.data["protocol"] for each in evaluations]
    shared = {
        name: value for name, value in protocols[0].items() if all(other.get(name) == value for other in protocols)
    }
    shared["differs_between_trainings"] = [name for name in protocols[0] if name not in shared]
    data = assemble(shared, each_results, episodes, settings)
    curves = [each.data["held_out"]["adaptation_steps"] for each in evaluations if settings.curve_steps]
    if curves:
        data["held_out"]["adaptation_steps"] = {
            shots: [_mean_point(points) for points in zip(*(curve[shots] for curve in curves), strict=True)]
            for shots in curves[0]
        }
    results = tuple(result for listed in each_results for result in listed)
    means = {name: accuracy.mean(0) for name, accuracy in episodes.items()}
    of_classes = {name: torch.stack([each.of_classes[name] for each in evaluations]).mean(0) for name in means}
    return Evaluation(data, results, means, of_classes, tuple(evaluations))


def _in_order(results: Sequence[TaskResult], wanted: Sequence[TaskResult]) -> list[TaskResult]:
    """Return a training's results in the order of another's: it depends on which adaptation each of them chose."""
    places = {_key(result): place for place, result in enumerate(wanted)}
    return sorted(results, key=lambda result: places.get(_key(result), len(places)))


def _key(result: TaskResult) -> tuple[str, str, str, int]:
    return result.part, result.regime, result.shots, result.domain


def check_poolable(settings: ProtocolSettings) -> None:
    """Raise unless evaluations with these settings can be averaged over trainings.

    Raises:
        MetaSiamError: if the reference protocol is asked for.
    """
    if "reference" in settings.protocols:
        raise MetaSiamError(
            "--protocol reference measures one training at a time. Omit it or compare one run of each method."
        )


def _mean_point(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average one point of the trainings' curves over steps: means, and the bounds of their intervals."""
    found: list[Mean] = [point["triplet_accuracy"] for point in points]
    shares = torch.tensor([[mean["mean"], *mean["ci95"]] for mean in found], dtype=torch.float64) / 100
    centre, low, high = shares.mean(0).tolist()
    widened = over_trainings({"mean": centre, "ci95": [low, high], "n": found[0]["n"]}, shares[:, 0])
    return {**points[0], "triplet_accuracy": as_percent(widened)}
