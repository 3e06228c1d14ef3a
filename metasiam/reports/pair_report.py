"""The report of a pair training: result table, curves of training, ROC, scores, and a gallery of sure answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from metasiam.evaluation.verification import roc as roc_of
from metasiam.reports.inputs import Curve, Extras, PictureExample, RocCurve, ScoreHistogram
from metasiam.reports.numbers import SPREAD, Interval, Json, clean, interval, metric, metrics_of, plus_minus
from metasiam.reports.page import (
    document,
    figures_section,
    header,
    pictures_section,
    section,
    settings_section,
    terms_section,
)
from metasiam.reports.rendering import Column, Table, to_html
from metasiam.reports.score_figures import roc as draw_roc
from metasiam.reports.style import save_figure
from metasiam.reports.training_figures import accuracy_over_training, loss_curve
from metasiam.runs import write_text

if TYPE_CHECKING:
    from metasiam.data.pairs import PairSet
    from metasiam.evaluation.pair_result import PairResult
    from metasiam.pair_session import PairTraining

_BINS = 60
_PARTS = "Trained on the training pairs; threshold chosen on the validation pairs; test pairs answered once."
#: Pairs shown of each kind: same and different, answered rightly and wrongly.
_PICTURES = 4


def result_table(evaluation: Json) -> Table:
    """Return what was measured on the test pairs, next to a constant answer's score, and what validation promised."""
    metrics = metrics_of(evaluation, "closed", "0")
    own = evaluation.get("validation") or {}
    measured: list[tuple[str, str, Interval | None, str]] = [
        ("test accuracy", "pair_accuracy_global", metric(metrics, "pair_accuracy_global"), "50.0"),
        ("test accuracy at the best threshold (oracle)", "pair_accuracy_oracle", None, "50.0"),
        ("AUC", "auc", None, "0.500"),
        ("EER (less is better)", "eer", None, "50.0"),
        ("TAR at 1 % FAR", "tar_at_far_1pct", None, "1.0"),
        ("ECE (less is better)", "ece", None, ""),
        ("validation accuracy", "triplet_accuracy", interval(own.get("pair_accuracy")), "50.0"),
        ("validation AUC", "auc", interval(own.get("auc")), "0.500"),
    ]
    rows = [
        (words, plus_minus(found, name), guessing)
        for words, name, value, guessing in measured
        if (found := value or metric(metrics, name)) is not None
    ]
    columns = (Column("measured", "left"), Column("value"), Column("constant answer"))
    note = (
        "Accuracies are balanced: same and different pairs count alike, so that a constant answer scores 50. Threshold "
        f"chosen on validation pairs only; {SPREAD}."
    )
    return Table("Test pairs: same or different?", columns, tuple(rows), note=note)


def parts_table(pairs: Json) -> Table:
    """Return how many pairs, images and people each part has, from ``pairs`` of a run's ``config.json``."""
    used = {part: own for part, own in pairs.items() if own.get("pairs")}
    columns = ("pairs", "same", "different", "images", "people")
    known = [name for name in columns if any(own.get(name) for own in used.values())]
    rows = tuple((part, *(f"{own.get(name, 0):,}" for name in known)) for part, own in used.items())
    return Table("", (Column("part", "left"), *(Column(kind) for kind in known)), rows)


def pair_page(evaluation: Json, name: str, *, settings: Json, extras: Extras) -> str:
    """Return the page of a pair training.

    Args:
        evaluation: a parsed ``evaluation.json`` of labelled pairs.
        name: what to call the run's method, as in ``extras``.
        settings: the run's parsed ``config.json``.
        extras: pictures and curves to show next to the numbers.
    """
    methods = {name: evaluation}
    title = f"Evaluation of {clean(name, 60)} on labelled pairs"
    body = [
        header(title, {"methods": methods}, settings.get("data")),
        section("The result", to_html(replace(result_table(evaluation), title=""))),
        figures_section(methods, extras),
        pictures_section(extras),
        terms_section(methods),
        section("The pairs", to_html(parts_table(settings.get("pairs") or {})), _PARTS),
        settings_section(methods, {name: settings}),
    ]
    return document(title, body)


def folds_table(summary: Mapping[str, Any]) -> Table:
    """Return one row a fold of a ``folds.json``, with mean and standard error below."""
    rows = tuple((str(place + 1), f"{value:.2f}") for place, value in enumerate(summary["folds"]))
    footer = (("mean", f"{summary['mean']:.2f} ± {summary['standard_error']:.2f} (standard error)"),)
    return Table("Accuracy in % on each fold", (Column("fold"), Column("test accuracy")), rows, footer)


def write_pair_report(trained: PairTraining) -> list[Path]:
    """Write ``report.html`` and ``figures/`` into the run folder; return what was written."""
    run = trained.run
    name = str(run.config["options"]["arch"])
    rows = run.metrics()
    curves = accuracy_curves(rows, int(run.config["images_per_iteration"]))
    histories = loss_histories(rows)
    extras = Extras(
        pictures=gallery(name, trained.pairs, trained.result),
        roc=[_roc(name, trained.result)],
        histograms=[_histogram(name, trained.result)],
        training=curves,
        histories=histories,
    )
    page = pair_page(trained.evaluation, name, settings=run.config, extras=extras)
    written = [write_text(run.path / "report.html", page)]
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    figures = {"roc": draw_roc(extras.roc)}
    if curves:
        figures["accuracy"] = accuracy_over_training(curves, order=[curve.method for curve in curves])
    if any(histories.values()):
        figures["loss"] = loss_curve(histories, order=list(histories))
    for title, figure in figures.items():
        save_figure(figure, folder / f"{title}.svg")
        written.append(folder / f"{title}.svg")
    return written


def accuracy_curves(rows: Sequence[Json], images_per_iteration: int) -> list[Curve]:
    """Return accuracy on training and validation pairs, epoch by epoch, from the lines of ``metrics.jsonl``."""
    epochs = [row for row in rows if "epoch" in row]
    x = [float(row["step"]) * images_per_iteration for row in epochs]
    parts = {"training pairs": "train_accuracy", "validation pairs": "validation_accuracy"}
    return [Curve(words, x, [float(row[key]) for row in epochs]) for words, key in parts.items() if epochs]


def loss_histories(rows: Sequence[Json]) -> dict[str, list[Json]]:
    """Return the loss on training and validation pairs, epoch by epoch, as ``loss_curve`` takes them."""
    epochs = [row for row in rows if "epoch" in row]
    parts = {"training pairs": "train_loss", "validation pairs": "validation_loss"}
    return {
        words: [{"step": row["step"], "loss": row[key]} for row in epochs] for words, key in parts.items() if epochs
    }


def gallery(name: str, pairs: PairSet, result: PairResult) -> list[PictureExample]:
    """Return the most confident answers of each kind: same and different, right and wrong."""
    sure = (result.probability - 0.5).abs()
    chosen = []
    for same in (True, False):
        for right in (True, False):
            kind = ((result.same == same) & (result.right == right)).nonzero().flatten()
            chosen += kind[torch.argsort(sure[kind], descending=True)][:_PICTURES].tolist()
    return [_example(name, pairs, result, place) for place in chosen]


def _example(name: str, pairs: PairSet, result: PairResult, place: int) -> PictureExample:
    row = int(result.rows[place])
    first, second = int(pairs.first[row]), int(pairs.second[row])
    return PictureExample(
        method=name,
        first=pairs.images[first].cpu().numpy(),
        second=pairs.images[second].cpu().numpy(),
        same=bool(result.same[place]),
        answered_same=bool(result.scores[place] > result.threshold),
        similarity=float(result.scores[place]),
        probability=float(result.probability[place]),
        first_name=pairs.people[first].replace("_", " "),
        second_name=pairs.people[second].replace("_", " "),
    )


def _roc(name: str, result: PairResult) -> RocCurve:
    false_alarms, hits, _ = roc_of(result.scores, result.same)
    area = float(torch.trapezoid(hits, false_alarms))
    return RocCurve(name, false_alarms.numpy(), hits.numpy(), area)


def _histogram(name: str, result: PairResult) -> ScoreHistogram:
    scores = result.scores.double().numpy()
    edges = np.linspace(scores.min(), scores.max() + 1e-9, _BINS + 1)
    same, different = (np.histogram(scores[result.same.numpy() == kind], edges)[0] for kind in (True, False))
    return ScoreHistogram(name, edges, same, different, {"global": result.threshold})
