"""Recompute the intervals of kept results under today's statistics, from the per-task numbers in the same files.

    python -m benchmarks.intervals benchmarks/results/cifar100-compare-second-stage.json

For results whose networks are no longer there to be evaluated again. Means over tasks and paired differences of
triplet accuracy, of pair accuracy at the fixed and the per-task threshold, and of the AUC are made of numbers that the
files hold; all others (other thresholds, EER, TAR, ECE, episodes) keep the intervals that they had, and ``recomputed``
says so. A comparison's NAME.md is written again, but for its settings.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metasiam.evaluation.resampling import as_percent
from metasiam.evaluation.statistics import bootstrap_mean, over_trainings, paired_difference
from metasiam.reports.markdown import comparison_markdown
from metasiam.training.machine import generator_for

#: Columns of the task rows, by the metric's name in ``compare.json``.
COLUMNS = {
    "triplet_accuracy": "triplet_accuracy",
    "pair_accuracy_fixed": "pair_accuracy_fixed",
    "pair_accuracy_per_task": "pair_accuracy_calibrated",
    "auc": "auc",
}
#: What follows in a comparison's Markdown is kept.
SETTINGS = "## Settings to repeat this"


def values_of(trainings: list[dict[str, Any]], regime: str, shots: str, metric: str) -> Tensor:
    """Return a metric of every task as fractions: float64 [tasks, S] of S trainings."""
    columns = []
    for evaluation in trainings:
        rows = [r for r in evaluation["held_out"]["tasks"] if (r["regime"], r["shots"]) == (regime, shots)]
        found = [row[COLUMNS[metric]] for row in rows]
        columns.append([value if metric == "auc" else value["mean"] / 100 for value in found])
    return torch.tensor(columns, dtype=torch.float64).T


def conditions(evaluation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the regimes and numbers of images that an evaluation has several tasks of."""
    for regime in ("closed", "antidomain"):
        yield from ((regime, shots) for shots in evaluation["held_out"].get(regime, {}))


def recompute_means(evaluation: dict[str, Any], trainings: list[dict[str, Any]]) -> None:
    """Put today's intervals into an evaluation's means over held-out tasks."""
    protocol = evaluation["protocol"]
    for regime, shots in conditions(evaluation):
        metrics = evaluation["held_out"][regime][shots]
        for metric in COLUMNS:
            values = values_of(trainings, regime, shots, metric)
            generator = generator_for("cpu", protocol["seed"], "bootstrap")
            found = bootstrap_mean(values.mean(1), generator, resamples=protocol["bootstrap"])
            found = over_trainings(found, values.mean(0))
            found = found if metric == "auc" else as_percent(found)
            place, name = (metrics["pair_accuracy"], metric[14:]) if metric.startswith("pair") else (metrics, metric)
            if abs(place[name]["mean"] - found["mean"]) > 1e-6:
                raise SystemExit(f"{regime}, {shots}: the tasks' {metric} is not the mean's")
            place[name] = found


def recompute(comparison: dict[str, Any]) -> None:
    """Put today's intervals and p-values into a ``compare.json``."""
    several = comparison.get("trainings", {})
    trainings = {
        name: [each["evaluation"] for each in several[name]] if name in several else [evaluation]
        for name, evaluation in comparison["methods"].items()
    }
    for name, evaluation in comparison["methods"].items():
        recompute_means(evaluation, trainings[name])
        for single in trainings[name]:
            recompute_means(single, [single])
    protocol = next(iter(comparison["methods"].values()))["protocol"]
    for row in comparison["paired"]:
        if row["metric"] not in COLUMNS or row["regime"] == "episodes":
            continue
        sides = [
            list(values_of(trainings[row[side]], row["regime"], row["shots"], row["metric"]).unsqueeze(2))
            for side in ("a", "b")
        ]
        generator = generator_for("cpu", protocol["seed"], "paired")
        found = paired_difference(sides[0], sides[1], generator, resamples=protocol["bootstrap"])
        scale = 1 if row["metric"] == "auc" else 100
        row["ci95"] = [bound * scale for bound in found["ci95"]]
        row["p_value"] = found["p_value"]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    for file in parser.parse_args().files:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if "compare" in kept:
            recompute(kept["compare"])
        else:
            recompute_means(kept["evaluation"], [kept["evaluation"]])
        kept.setdefault("recomputed", {}).update(by="benchmarks.intervals", metrics=list(COLUMNS))
        if "compare" in kept and (words := file.with_suffix(".md")).is_file():
            numbers = comparison_markdown(kept["compare"]).partition(SETTINGS)[0]
            words.write_text(numbers + "".join(words.read_text("utf-8").partition(SETTINGS)[1:]), encoding="utf-8")
        file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
