"""What an evaluation found: per-task scores and answers, and the dict of ``evaluation.json`` made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from metasiam.evaluation import weighted
from metasiam.evaluation.resampling import Mean, as_percent, bootstrap_images, bootstrap_pairs, independent_answers
from metasiam.evaluation.scored_pairs import ScoredPairs
from metasiam.evaluation.statistics import bootstrap_mean, over_trainings
from metasiam.evaluation.verification import (
    accept_rate_at,
    equal_error_rate,
    expected_calibration_error,
    pairs_right,
    roc_auc,
)
from metasiam.options.evaluation import ProtocolSettings, Regime
from metasiam.training.machine import generator_for
from metasiam.wording import plus_minus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from metasiam.data.domains import DomainSet

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


#: The metrics that are no share of right answers, of pairs that count by weights: float64 [R, P] to [R].
_WEIGHTED: dict[str, Callable[[TaskResult, Tensor], Tensor]] = {
    "auc": lambda task, weight: weighted.roc_auc(task.scores, task.same, weight),
    "eer": lambda task, weight: weighted.equal_error_rate(task.scores, task.same, weight),
    "tar_at_far_1pct": lambda task, weight: weighted.accept_rate_at(task.scores, task.same, weight),
    "ece": lambda task, weight: weighted.expected_calibration_error(task.probability, task.same, weight),
}


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


#: One task's results, of one training each: nearly always a single one.
Trainings = tuple[TaskResult, ...]


def answers_of(task: Trainings, metric: str) -> Tensor:
    """Return one of ``METRIC_NAMES`` of every training: float [S, P], [S, T] or [S, 1]."""
    return torch.stack([result.values(metric) for result in task])


def images_of(task: TaskResult, metric: str) -> Tensor:
    """Return the images behind each answer of a metric: int64 [2, P], or [3, T] of triplets."""
    return task.triplet_images if metric == "triplet_accuracy" else task.pair_images


def kinds_of(task: TaskResult, metric: str) -> Tensor | None:
    """Return which of a metric's answers are about same pairs, bool [P]; None of triplets."""
    return None if metric == "triplet_accuracy" else task.same


def _of_one_task(task: Trainings, metric: str, generator: torch.Generator, resamples: int) -> Mean:
    """Return one task's mean over trainings, with an interval over its images."""
    first = task[0]
    images, same = images_of(first, metric), kinds_of(first, metric)
    if metric not in _WEIGHTED:
        answers = answers_of(task, metric).mean(0)
        return bootstrap_images(answers, images, generator, same=same, resamples=resamples)

    def statistic(weight: Tensor) -> Tensor:
        return torch.stack([_WEIGHTED[metric](result, weight) for result in task]).mean(0)

    return bootstrap_pairs(statistic, images, generator, resamples=resamples, of_answers=metric != "ece")


def task_row(task: Trainings, resamples: int, seed: int) -> dict[str, Any]:
    """Return a row of ``held_out.tasks``: means over trainings; intervals are over this task's images."""
    first = task[0]

    def share(metric: str, images: Tensor) -> Mean:
        generator = generator_for("cpu", seed, "bootstrap", first.regime, first.domain)
        answers = answers_of(task, metric)
        found = bootstrap_images(answers.mean(0), images, generator, same=kinds_of(first, metric), resamples=resamples)
        return as_percent(over_trainings(found, answers.mean(1)))

    return {
        "task": first.domain,
        "name": first.name,
        "regime": first.regime,
        "shots": first.shots,
        "triplet_accuracy": share("triplet_accuracy", first.triplet_images),
        "pair_accuracy_fixed": share("pair_accuracy_fixed", first.pair_images),
        "pair_accuracy_calibrated": share("pair_accuracy_per_task", first.pair_images),
        "threshold": sum(result.thresholds["per_task"] for result in task) / len(task),
        "auc": float(answers_of(task, "auc").mean()),
        "n_pairs": len(first.same),
    }


def metrics_of(tasks: Sequence[Trainings], resamples: int, seed: int) -> dict[str, Any]:
    """Return METRICS (see DESIGN): means over tasks with intervals; percentages, but for the AUC."""

    def mean(metric: str) -> Mean:
        # One stream for all: the same answers get the same interval, whatever they are called.
        generator = generator_for("cpu", seed, "bootstrap")
        answers = [answers_of(task, metric) for task in tasks]
        if len(tasks) == 1:  # nothing to resample but the one task's images
            found = _of_one_task(tasks[0], metric, generator, resamples)
        else:
            means = torch.stack([each.mean() for each in answers])
            count = sum(independent_answers(images_of(task[0], metric)) for task in tasks)
            known = None if metric == "ece" else count
            found = bootstrap_mean(means, generator, resamples=resamples, answers=known)
        found = over_trainings(found, torch.stack([each.mean(1) for each in answers]).nanmean(0))
        return found if metric == "auc" else as_percent(found)

    return {
        "triplet_accuracy": mean("triplet_accuracy"),
        "pair_accuracy": {kind: mean(f"pair_accuracy_{kind}") for kind in THRESHOLD_KINDS},
        **{metric: mean(metric) for metric in ("auc", "eer", "tar_at_far_1pct", "ece")},
    }


def assemble(
    protocol: dict[str, Any],
    trainings: Sequence[Sequence[TaskResult]],
    episodes: dict[str, Tensor],
    settings: ProtocolSettings,
) -> dict[str, Any]:
    """Return the dict of ``evaluation.json`` (see DESIGN); what was not measured is left out.

    Args:
        protocol: every setting that the numbers depend on.
        trainings: of each training all tasks, regimes and numbers of images, in the same order.
        episodes: accuracy of every episode, float [S, E] of S trainings, by kind.
        settings: seed and bootstrap samples.
    """
    data: dict[str, Any] = {"schema": 1, "protocol": protocol}
    tasks: list[Trainings] = list(zip(*trainings, strict=True))
    groups: dict[tuple[str, str, str], list[Trainings]] = {}
    for task in tasks:
        groups.setdefault((task[0].part, task[0].regime, task[0].shots), []).append(task)
    for (part, regime, shots), group in groups.items():
        metrics = metrics_of(group, settings.bootstrap, settings.seed)
        data.setdefault(part, {}).setdefault(regime, {})[shots] = metrics
    if episodes:
        data.setdefault("held_out", {})["episodes"] = {
            name: _mean_of_episodes(values, name, settings) for name, values in episodes.items()
        }
    rows = [task_row(task, settings.bootstrap, settings.seed) for task in tasks if task[0].part == "held_out"]
    if rows:
        data["held_out"]["tasks"] = rows
    return data


def _mean_of_episodes(values: Tensor, name: str, settings: ProtocolSettings) -> Mean:
    generator = generator_for("cpu", settings.seed, "bootstrap", name)
    accuracy = values.mean(0)
    found = bootstrap_mean(accuracy, generator, resamples=settings.bootstrap, answers=len(accuracy))
    return as_percent(over_trainings(found, values.mean(1)))


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """An evaluation's numbers, and the answers behind them.

    Attributes:
        data: the dict of ``evaluation.json``.
        results: every task's scores and answers, for paired comparisons, curves and picture examples.
        episodes: accuracy of every episode, float [E], by the name in ``data``.
        of_classes: accuracy of every held-out domain in them, float [D], by name.
        trainings: the evaluations that it is the mean of, where a method was trained several times; ``results`` are
            then those of all, one training after the other, and ``episodes`` means.
    """

    data: dict[str, Any]
    results: tuple[TaskResult, ...] = ()
    episodes: dict[str, Tensor] = field(default_factory=dict)
    of_classes: dict[str, Tensor] = field(default_factory=dict)
    trainings: tuple[Evaluation, ...] = ()

    @property
    def each(self) -> tuple[Evaluation, ...]:
        """The evaluation of each training: itself where there was one."""
        return self.trainings or (self,)

    def select(self, part: str, regime: str, shots: str) -> list[TaskResult]:
        """Return the tasks of one part, regime and number of adaptation images, by domain."""
        return [r for r in self.results if (r.part, r.regime, r.shots) == (part, regime, shots)]

    def __repr__(self) -> str:
        from metasiam.reports.python import answer_of  # here and below: reports are made of evaluations

        return f"Evaluation({answer_of(self._alone()) or 'nothing measured on held-out domains'})"

    def _repr_html_(self) -> str:
        """Return the answer and its tables for a notebook."""
        from metasiam.reports.python import as_html

        return as_html(self._alone())

    def _alone(self, name: str = "this embedder") -> dict[str, Any]:
        return {"methods": {name: self.data}}

    def plot(self, figure: str | None = None) -> Figure:
        """Return a matplotlib figure, which a notebook shows; ``savefig`` writes it.

        Args:
            figure: ``tasks``, ``accuracy_over_images``, ``roc``, ``similarity`` or ``accuracy_over_steps``; None takes
                accuracy over images where several numbers of them were measured, else tasks.

        Raises:
            MetaSiamError: if the numbers do not allow it.
        """
        from metasiam.reports.python import figure_of

        return figure_of({"this embedder": self}, figure)

    def report(
        self,
        folder: str | Path,
        *,
        name: str = "this embedder",
        domains: DomainSet | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the page, ``evaluation.json``, ``tasks.csv`` and the figures into a folder; return the page's path.

        Args:
            folder: is made when missing.
            name: what the page calls the method.
            domains: the data, for pictures of right and wrong answers; None leaves them out.
            overwrite: replace the files of an earlier report there.

        Raises:
            MetaSiamError: if it holds a report without ``overwrite``, or something else, or cannot be written.
        """
        from metasiam.reports.python import write_evaluation_report

        return write_evaluation_report(Path(folder), self, name=name, domains=domains, overwrite=overwrite)

    def records(self) -> list[dict[str, Any]]:
        """Return a dict for each held-out task, regime and number of images, as the rows of ``tasks.csv``."""
        from metasiam.reports.python import records_of

        return records_of(self._alone()["methods"])

    def to_frame(self) -> Any:
        """Return ``records`` as a ``pandas.DataFrame``.

        Raises:
            MetaSiamError: without pandas.
        """
        from metasiam.reports.python import frame_of

        return frame_of(self._alone()["methods"])

    def table(self) -> str:
        """Return the per-task table as text, one line a task, with the means below."""
        held_out = self.data.get("held_out", {})
        lines = [f"{'task':>5}  {'domain':<20} {'regime':<10} {'images':>6} {'triplet':>18} {'fixed':>7} "
                 f"{'calibrated':>18} {'threshold':>9} {'AUC':>6}"]  # fmt: skip
        for row in held_out.get("tasks", []):
            lines.append(
                f"{row['task']:>5}  {row['name'][:20]:<20} {row['regime']:<10} {row['shots']:>6} "
                f"{_plus_minus(row['triplet_accuracy']):>18} {row['pair_accuracy_fixed']['mean']:>7.1f} "
                f"{_plus_minus(row['pair_accuracy_calibrated']):>18} {row['threshold']:>9.3f} {row['auc']:>6.3f}"
            )
        for part in ("seen", "held_out"):
            for regime in ("closed", "antidomain"):
                for shots, metrics in self.data.get(part, {}).get(regime, {}).items():
                    pairs = metrics["pair_accuracy"]
                    lines.append(
                        f" mean  {part.replace('_', '-'):<20} {regime:<10} {shots:>6} "
                        f"{_plus_minus(metrics['triplet_accuracy']):>18} {pairs['fixed']['mean']:>7.1f} "
                        f"{_plus_minus(pairs['per_task']):>18} {'':>9} {metrics['auc']['mean']:>6.3f}"
                    )
        for name, mean in held_out.get("episodes", {}).items():
            lines.append(f"       {name}: {_plus_minus(mean)}")
        return "\n".join(lines)


def _plus_minus(mean: Mean) -> str:
    return plus_minus(mean["mean"], *mean["ci95"])
