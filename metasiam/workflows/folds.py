"""Pairs that come in folds (LFW's View 2): one training a fold, tested on it, and their mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from metasiam import catalogue
from metasiam.data.pairs import PARTS, PairSet
from metasiam.errors import MetaSiamError
from metasiam.options.pairs import SiameseOptions
from metasiam.options.training import options_of
from metasiam.pair_session import train_pairs
from metasiam.progress import SHOWN, SILENT, Listener, Part, heard
from metasiam.runs import CHECKPOINT_FILE, CONFIG_FILE, FOLDS, RUN, check_new, clear, holds, write_text
from metasiam.runs.locks import run_held
from metasiam.runs.reading import read_text
from metasiam.shapes import FOLD, check, parse_json
from metasiam.shapes import FOLDS as SHAPE

#: The options that all folds are trained with, in the folder around them.
PLAN_FILE = FOLDS.markers[0]


def with_test_fold(pairs: PairSet, fold: int) -> PairSet:
    """Return the same pairs with one fold as test and the others as training part."""
    test = pairs.fold == fold
    return replace(pairs, part=torch.where(test, PARTS.index("test"), PARTS.index("train")))


@heard
def train_folds(
    pairs: PairSet,
    *,
    out: Path,
    overwrite: bool = False,
    checkpoint_every: float = 120.0,
    listener: Listener | None = SHOWN,
    data_options: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train once for each fold, with the others as training part (a share of which is validation).

    Called again with the same options, it continues where it stopped: a fold whose ``evaluation.json`` is in ``out``
    already is not trained again, and a stopped one is resumed.

    Args:
        pairs: with several folds.
        out: gets ``folds-config.json`` (the options), ``fold-1`` … and ``folds.json``.
        overwrite: train every fold again.
        checkpoint_every: seconds between checkpoints of one fold's training.
        listener: told of each fold's training; by default a terminal or a notebook shows it; None is silent.
        data_options: how the pairs were loaded, saved with each run.
        options: fields of ``SiameseOptions``.

    Returns:
        What ``folds.json`` says: ``{"folds": [accuracy in %, …], "mean", "standard_error", "auc"}``; the mean over
        folds and the standard error of it are LFW's official figures.

    Raises:
        MetaSiamError: if there is a single fold, if ``out`` holds folds of other options or pairs, or as
            ``train_pairs``.
        TrainingStopped: when the user pressed Ctrl-C; everything is saved.
    """
    count = int(pairs.fold.max()) + 1
    if count < 2:
        raise MetaSiamError(f"{pairs.source} has no folds. Use --data lfw:10-folds.")
    folders = [out / f"fold-{fold + 1}" for fold in range(count)]
    check_new(FOLDS, out, overwrite=overwrite, goes_on=True)
    plan = _plan(pairs, options_of(SiameseOptions, options), data_options or {})
    anew = overwrite or not holds(FOLDS, out)
    if not anew:
        _check_plan(out, plan)
    for path in folders if anew else ():
        check_new(RUN, path, overwrite=True)

    def begin() -> None:
        """Write the plan, and drop earlier folds, once options and pairs have proved good for a first run."""
        nonlocal anew
        if anew:
            for path in folders[1:]:
                if path.is_dir():
                    with run_held(path):
                        clear(RUN, path)
            (out / "folds.json").unlink(missing_ok=True)
            write_text(out / PLAN_FILE, json.dumps(plan, indent=1, ensure_ascii=False) + "\n")
        anew = False

    accuracies, areas = [], []
    with run_held(out):
        for fold, path in enumerate(folders):
            done = path / "evaluation.json"
            if done.is_file() and not anew:
                evaluation = _done(done)
            else:
                begun = (path / CHECKPOINT_FILE).is_file() and not anew
                evaluation = train_pairs(
                    with_test_fold(pairs, fold),
                    out=path,
                    resume=path if begun else None,
                    overwrite=anew or (path / CONFIG_FILE).is_file(),
                    checkpoint_every=checkpoint_every,
                    listener=_Fold(listener or SILENT, f"fold {fold + 1} of {count}", begin),
                    data_options={**data_options, "fold": fold + 1} if data_options else None,
                    **({} if begun else options),
                ).evaluation
            metrics = evaluation["held_out"]["closed"]["0"]
            accuracies.append(float(metrics["pair_accuracy"]["global"]["mean"]))
            areas.append(float(metrics["auc"]["mean"]))
        values = torch.tensor(accuracies, dtype=torch.float64)
        summary = {
            "schema": 1,
            "folds": accuracies,
            "mean": float(values.mean()),
            "standard_error": float(values.std() / count**0.5),
            "auc": sum(areas) / count,
        }
        write_text(out / "folds.json", json.dumps(summary, indent=1) + "\n")
    return summary


class _Fold(Part):
    """Tells of one fold, and does what is due when its training starts."""

    def __init__(self, to: Listener, name: str, begin: Callable[[], None]) -> None:
        super().__init__(to, name)
        self.begin = begin

    def started(self, config: dict[str, Any]) -> None:
        self.begin()


def read_plan(path: Path) -> dict[str, Any]:
    """Return what folds are trained with: ``{"options": fields of SiameseOptions, "data": {"options", …}}``.

    Raises:
        MetaSiamError: if the file that says it is damaged.
    """
    file = path / PLAN_FILE
    try:
        plan = parse_json(read_text(file))
        check(plan, SHAPE)
        catalogue.check_stored(plan["options"])
        return {"options": dict(plan["options"]), "data": {**plan["data"], "options": dict(plan["data"]["options"])}}
    except (ValueError, OSError) as error:
        raise MetaSiamError(f"{file} is damaged ({error}). Start again with --overwrite, or another --out.") from error


def _done(file: Path) -> dict[str, Any]:
    """Return a finished fold's evaluation.

    Raises:
        MetaSiamError: if it is damaged.
    """
    try:
        evaluation: dict[str, Any] = parse_json(read_text(file))
        check(evaluation, FOLD)
    except (ValueError, OSError) as error:
        raise MetaSiamError(f"{file} is damaged ({error}). Remove it, and the fold is measured again.") from error
    return evaluation


def _plan(pairs: PairSet, config: SiameseOptions, data_options: dict[str, Any]) -> dict[str, Any]:
    data = {"source": pairs.source, "options": data_options, "fingerprint": pairs.fingerprint}
    return {"schema": 1, "options": config.as_dict(), "data": data}


def _check_plan(out: Path, plan: dict[str, Any]) -> None:
    """Raise unless the folds in ``out`` were begun with the same options and pairs."""
    saved = read_plan(out)
    for part, own in ((saved["options"], plan["options"]), (saved["data"]["options"], plan["data"]["options"])):
        for name, value in own.items():
            if name != "data_dir" and part.get(name, value) != value:  # data may have moved
                raise MetaSiamError(
                    f"--{name.replace('_', '-')} cannot change when resuming: {out} was started with {part[name]}, not "
                    f"{value}. Keep {part[name]}, use --overwrite to start over, or choose another --out."
                )
    if saved["data"].get("fingerprint") != plan["data"]["fingerprint"]:
        raise MetaSiamError(f"{out} was trained on other pairs than {plan['data']['source']} holds now. Restore them.")
