"""Pairs that come in folds (LFW's View 2): one training a fold, tested on it, and their mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from metasiam.data.cache import Report, quiet
from metasiam.data.pairs import PARTS, PairSet
from metasiam.errors import MetaSiamError
from metasiam.pair_session import train_pairs
from metasiam.runs import CONFIG_FILE, write_text
from metasiam.training.checkpoint import CHECKPOINT_FILE
from metasiam.training.loop import Progress


def with_test_fold(pairs: PairSet, fold: int) -> PairSet:
    """Return the same pairs with one fold as test and the others as training part."""
    test = pairs.fold == fold
    return replace(pairs, part=torch.where(test, PARTS.index("test"), PARTS.index("train")))


def train_folds(
    pairs: PairSet,
    *,
    out: Path,
    overwrite: bool = False,
    report: Callable[[str, Progress], None] = lambda what, progress: None,
    working: Report = quiet,
    data_options: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train once for each fold, with the others as training part (a share of which is validation).

    A fold whose ``evaluation.json`` is in ``out`` already is not trained again, and a stopped one goes on.

    Args:
        pairs: with several folds.
        out: gets ``fold-1`` … and ``folds.json``.
        overwrite: train every fold again.
        report: progress of one fold's training.
        working: progress of other work.
        data_options: saved with each run.
        options: fields of ``SiameseConfig``.

    Returns:
        What ``folds.json`` says: ``{"folds": [accuracy in %, …], "mean", "standard_error", "auc"}``; the mean over
        folds and the standard error of it are LFW's official figures.

    Raises:
        MetaSiamError: if there is a single fold, or as ``train_pairs``.
    """
    count = int(pairs.fold.max()) + 1
    if count < 2:
        raise MetaSiamError(f"{pairs.source} has no folds. Use --data lfw:10-folds.")
    accuracies, areas = [], []
    for fold in range(count):
        path = out / f"fold-{fold + 1}"
        done = path / "evaluation.json"
        if done.is_file() and not overwrite:
            evaluation = json.loads(done.read_text(encoding="utf-8"))
        else:
            evaluation = train_pairs(
                with_test_fold(pairs, fold),
                out=path,
                resume=path if (path / CHECKPOINT_FILE).is_file() and not overwrite else None,
                overwrite=overwrite or (path / CONFIG_FILE).is_file(),
                report=partial(report, f"fold {fold + 1} of {count}"),
                working=working,
                data_options=data_options,
                **options,
            ).evaluation
        metrics = evaluation["held_out"]["closed"]["0"]
        accuracies.append(float(metrics["pair_accuracy"]["global"]["mean"]))
        areas.append(float(metrics["auc"]))
    values = torch.tensor(accuracies, dtype=torch.float64)
    summary = {
        "schema": 1,
        "folds": accuracies,
        "mean": float(values.mean()),
        "standard_error": float(values.std() / count**0.5),
        "auc": sum(areas) / count,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "folds.json", json.dumps(summary, indent=1) + "\n")
    return summary
