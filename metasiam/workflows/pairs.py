"""A training on labelled pairs from its options to its report: one, or one for each of LFW's ten folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metasiam.errors import MetaSiamError
from metasiam.options.data import saved
from metasiam.options.pairs import PairDataOptions, SiameseOptions
from metasiam.options.presets import preset_options
from metasiam.options.run import RunOptions
from metasiam.options.training import options_of
from metasiam.progress import Listener
from metasiam.runs import FOLDS, RUN, check_new, fresh_folder, holds, open_run
from metasiam.workflows.data import load_pairs, pairs_of_run, pairs_stored_in, pairs_with_defaults
from metasiam.workflows.train import NotMeasured

if TYPE_CHECKING:
    from metasiam.data.pairs import PairSet
    from metasiam.pair_session import PairTraining

_TEN_FOLDS = "lfw:10-folds"


@dataclass(frozen=True)
class PairPlan:
    """What will be trained, and on which pairs.

    Attributes:
        options: of the method; where a run is resumed, those that were given again.
        data: how the pairs are loaded.
        run: where it goes.
        folds: the folder of one training for each fold; None where there is a single training.
    """

    options: Mapping[str, Any]
    data: PairDataOptions
    run: RunOptions
    folds: Path | None = None


@dataclass(frozen=True, eq=False)
class TrainedPair:
    """A training on pairs, tested.

    Attributes:
        training: the run, its model and what was found.
        written: the files of the result.
    """

    training: PairTraining
    written: list[Path]


@dataclass(frozen=True, eq=False)
class TrainedFolds:
    """A training for each fold.

    Attributes:
        path: the folder of all.
        summary: what its ``folds.json`` says.
    """

    path: Path
    summary: dict[str, Any]


def plan_pairs(given: Mapping[str, Any], data: PairDataOptions, run: RunOptions) -> PairPlan:
    """Return what options ask for, a preset filled in; no pairs are loaded yet.

    Args:
        given: options of the method that were given.
        data: of the pairs.
        run: where it goes, the preset, or what is resumed.

    Raises:
        MetaSiamError: for options that do not fit, or a folder that must not be written.
    """
    if run.resume is not None:
        if data != PairDataOptions() or run.preset is not None:
            raise MetaSiamError("--resume takes the data and options of the run. Omit --data and --preset.")
        if not holds(FOLDS, run.resume):
            return PairPlan(dict(given), pairs_of_run(open_run(run.resume)), run)
        from metasiam.workflows.folds import read_plan

        stored = read_plan(run.resume)
        loaded = pairs_stored_in(run.resume, stored)
        return PairPlan(stored["options"] | dict(given), loaded, replace(run, overwrite=False), run.resume)
    preset_data, preset_method = preset_options(run.preset, "siamese")
    options = preset_method | dict(given)
    data = pairs_with_defaults(data, preset_data, options_of(SiameseOptions, options).arch)
    in_folds = data.data == _TEN_FOLDS
    if run.out is not None:
        check_new(FOLDS if in_folds else RUN, run.out, overwrite=run.overwrite, goes_on=in_folds)
    return PairPlan(options, data, run, (run.out or fresh_folder("siamese")) if in_folds else None)


def carry_out(plan: PairPlan, listener: Listener) -> TrainedPair | TrainedFolds:
    """Load the pairs, train, test once, and write the report.

    Raises:
        MetaSiamError: for pairs or files that do not work; nothing is overwritten then.
        TrainingStopped: when the user pressed Ctrl-C; everything is saved.
        NotMeasured: when they did so between the trainings of two folds.
    """
    pairs = load_pairs(plan.data, listener)
    given = {
        "overwrite": plan.run.overwrite,
        "checkpoint_every": plan.run.checkpoint_every,
        "listener": listener,
        "data_options": saved(plan.data),
        **plan.options,
    }
    if plan.folds is not None:
        from metasiam.workflows.folds import train_folds

        try:
            return TrainedFolds(plan.folds, train_folds(pairs, out=plan.folds, **given))
        except KeyboardInterrupt as stopped:
            if holds(FOLDS, plan.folds):
                raise NotMeasured(plan.folds, f"finished folds are kept in {plan.folds}") from stopped
            raise
    from metasiam.pair_session import train_pairs
    from metasiam.reports.pair_report import write_pair_report

    _note_shared(pairs, listener)
    training = train_pairs(pairs, out=plan.run.out, resume=plan.run.resume, **given)
    return TrainedPair(training, [training.run.path / "evaluation.json", *write_pair_report(training)])


def _note_shared(pairs: PairSet, listener: Listener) -> None:
    """Say so where given parts share people: the test is then an easier one."""
    from metasiam.data.pairs import also_in_test, whom

    shared = also_in_test(pairs, "train", "validation")
    if shared is not None:
        listener.note(
            f"{shared} in the test pairs are in training or validation pairs too, so the test accuracy is "
            f"not that for unseen {whom(pairs)}"
        )
