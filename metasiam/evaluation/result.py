"""What an evaluation found: per-task scores and answers, and the dict of ``evaluation.json`` made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from metasiam.evaluation.scored_pairs import ScoredPairs
from metasiam.evaluation.settings import ProtocolSettings, Regime
from metasiam.evaluation.statistics import Mean, as_percent, bootstrap_images, bootstrap_mean
from metasiam.evaluation.verification import (
    accept_rate_at,
    equal_error_rate,
    expected_calibration_error,
    pairs_right,
    roc_auc,
)
from metasiam.training.machine import generator_for

THRESHOLD_KINDS = ("fixed", "global", "per_task", "oracle")
#: Metrics by the names of ``compare.json``; each is a value or a set of answers per task.
METRIC_NAMES = (
    "triplet_accuracy",
    *(f"pair_accuracy_{kind}" for kind in THRESHOLD_KINDS),
    "auc",
    "eer",
    "tar_at_far_1pct",
    "ece",
)


@dataclass(frozen=True, eq=False)
class TaskResult:
    """How one domain was answered in one regime with one number of adaptation images.

    Attributes:
        domain: index of the domain.
        name: its name.
        part: ``seen`` or ``held_out``.
        regime: where negatives came from.
        shots: key of ``evaluation.json``: ``"0"``, ``"5"``, ``"all"``.
        scores: float [P], similarity of each pair.
        same: bool [P].
        probability: float [P], calibrated probability of being the same.
        pair_images: int64 [2, P], indices into the domain set.
        triplets_right: bool [T].
        triplet_images: int64 [3, T].
        thresholds: by kind; ``oracle`` was chosen on these very pairs and is an upper bound only.
        known: what the per-task threshold was found on: the k images' scores, left out of what was adapted to them;
            None where nothing was known of the domain.
    """

    domain: int
    name: str
    part: Literal["seen", "held_out"]
    regime: Regime
    shots: str
    scores: Tensor
    same: Tensor
    probability: Tensor
    pair_images: Tensor
    triplets_right: Tensor
    triplet_images: Tensor
    thresholds: dict[str, float]
    known: ScoredPairs | None = None

    def pairs_right(self, kind: str) -> Tensor:
        """Tell which pairs are answered rightly at one kind of threshold: bool [P]."""
        return pairs_right(self.scores, self.same, self.thresholds[kind])

    def values(self, metric: str) -> Tensor:
        """Return one of ``METRIC_NAMES``: its answers (float [P] or [T] of 0 and 1), or its value (float [1])."""
        if metric == "triplet_accuracy":
            return self.triplets_right.double()
        if metric.startswith("pair_accuracy_"):
            return self.pairs_right(metric.removeprefix("pair_accuracy_")).double()
        return torch.tensor([self._scalars[metric]], dtype=torch.float64)

    @cached_property
    def _scalars(self) -> dict[str, float]:
        return {
            "auc": roc_auc(self.scores, self.same),
            "eer": equal_error_rate(self.scores, self.same)[0],
            "tar_at_far_1pct": accept_rate_at(self.scores, self.same, 0.01)[0],
            "ece": expected_calibration_error(self.probability, self.same),
        }

    def row(self, resamples: int, seed: int) -> dict[str, Any]:
        """Return the row of ``held_out.tasks``; intervals are over this task's images."""

        def share(right: Tensor, images: Tensor) -> Mean:
            generator = generator_for("cpu", seed, "bootstrap", self.regime, self.domain)
            return as_percent(bootstrap_images(right, images, generator, resamples=resamples))

        return {
            "task": self.domain,
            "name": self.name,
            "regime": self.regime,
            "shots": self.shots,
            "triplet_accuracy": share(self.triplets_right, self.triplet_images),
            "pair_accuracy_fixed": share(self.pairs_right("fixed"), self.pair_images),
            "pair_accuracy_calibrated": share(self.pairs_right("per_task"), self.pair_images),
            "threshold": self.thresholds["per_task"],
            "auc": self._scalars["auc"],
            "n_pairs": len(self.same),
        }


def metrics_of(results: Sequence[TaskResult], resamples: int, seed: int) -> dict[str, Any]:
    """Return METRICS (see DESIGN): means over tasks with intervals; percentages, but for the AUC."""

    def mean(metric: str) -> Mean:
        generator = generator_for("cpu", seed, "bootstrap", metric)
        values = [result.values(metric) for result in results]
        if len(results) == 1 and len(values[0]) > 1:  # nothing to resample but the one task's images
            task = results[0]
            images = task.triplet_images if metric == "triplet_accuracy" else task.pair_images
            found = bootstrap_images(values[0], images, generator, resamples=resamples)
        else:
            found = bootstrap_mean(torch.stack([v.mean() for v in values]), generator, resamples=resamples)
        return found if metric == "auc" else as_percent(found)

    return {
        "triplet_accuracy": mean("triplet_accuracy"),
        "pair_accuracy": {kind: mean(f"pair_accuracy_{kind}") for kind in THRESHOLD_KINDS},
        **{metric: mean(metric) for metric in ("auc", "eer", "tar_at_far_1pct", "ece")},
    }


def assemble(
    protocol: dict[str, Any], results: Sequence[TaskResult], episodes: dict[str, Tensor], settings: ProtocolSettings
) -> dict[str, Any]:
    """Return the dict of ``evaluation.json`` (see DESIGN); what was not measured is left out.

    Args:
        protocol: every setting that the numbers depend on.
        results: all tasks, regimes and numbers of images.
        episodes: accuracy of every episode, by kind.
        settings: seed and bootstrap samples.
    """
    data: dict[str, Any] = {"schema": 1, "protocol": protocol}
    groups: dict[tuple[str, str, str], list[TaskResult]] = {}
    for result in results:
        groups.setdefault((result.part, result.regime, result.shots), []).append(result)
    for (part, regime, shots), tasks in groups.items():
        metrics = metrics_of(tasks, settings.bootstrap, settings.seed)
        data.setdefault(part, {}).setdefault(regime, {})[shots] = metrics
    if episodes:
        data.setdefault("held_out", {})["episodes"] = {
            name: as_percent(
                bootstrap_mean(
                    values, generator_for("cpu", settings.seed, "bootstrap", name), resamples=settings.bootstrap
                )
            )
            for name, values in episodes.items()
        }
    rows = [result.row(settings.bootstrap, settings.seed) for result in results if result.part == "held_out"]
    if rows:
        data["held_out"]["tasks"] = rows
    return data


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An evaluation's numbers, and the answers behind them.

    Attributes:
        data: the dict of ``evaluation.json``.
        results: every task's scores and answers, for paired comparisons, curves and picture examples.
        episodes: accuracy of every episode, float [E], by the name in ``data``.
    """

    data: dict[str, Any]
    results: tuple[TaskResult, ...] = ()
    episodes: dict[str, Tensor] = field(default_factory=dict)

    def select(self, part: str, regime: str, shots: str) -> list[TaskResult]:
        """Return the tasks of one part, regime and number of adaptation images, by domain."""
        return [r for r in self.results if (r.part, r.regime, r.shots) == (part, regime, shots)]

    def table(self) -> str:
        """Return the per-task table as text, one line a task, with the means below."""
        held_out = self.data.get("held_out", {})
        lines = [f"{'task':>5}  {'domain':<20} {'regime':<10} {'images':>6} {'triplet':>14} {'fixed':>7} "
                 f"{'calibrated':>14} {'threshold':>9} {'AUC':>6}"]  # fmt: skip
        for row in held_out.get("tasks", []):
            lines.append(
                f"{row['task']:>5}  {row['name'][:20]:<20} {row['regime']:<10} {row['shots']:>6} "
                f"{_plus_minus(row['triplet_accuracy']):>14} {row['pair_accuracy_fixed']['mean']:>7.1f} "
                f"{_plus_minus(row['pair_accuracy_calibrated']):>14} {row['threshold']:>9.3f} {row['auc']:>6.3f}"
            )
        for part in ("seen", "held_out"):
            for regime in ("closed", "antidomain"):
                for shots, metrics in self.data.get(part, {}).get(regime, {}).items():
                    pairs = metrics["pair_accuracy"]
                    lines.append(
                        f" mean  {part.replace('_', '-'):<20} {regime:<10} {shots:>6} "
                        f"{_plus_minus(metrics['triplet_accuracy']):>14} {pairs['fixed']['mean']:>7.1f} "
                        f"{_plus_minus(pairs['per_task']):>14} {'':>9} {metrics['auc']['mean']:>6.3f}"
                    )
        for name, mean in held_out.get("episodes", {}).items():
            lines.append(f"       {name}: {_plus_minus(mean)}")
        return "\n".join(lines)


def _plus_minus(mean: Mean) -> str:
    low, high = mean["ci95"]
    return f"{mean['mean']:.1f} ± {(high - low) / 2:.1f}"
