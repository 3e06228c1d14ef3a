"""What ``metasiam siamese`` does: load pairs, say what will happen, train, test once, write."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from metasiam.cli.next_steps import say_next
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError
from metasiam.options.data import saved
from metasiam.options.pairs import PairDataOptions
from metasiam.options.presets import preset_options
from metasiam.options.run import RunOptions
from metasiam.progress_lines import Lines, lines
from metasiam.runs import FOLDS, RUN, check_new, fresh_folder, holds
from metasiam.workflows.data import load_pairs, pairs_of_run, pairs_stored_in, pairs_with_defaults

if TYPE_CHECKING:
    from metasiam.data.pairs import PairSet
    from metasiam.pair_session import PairTraining
    from metasiam.session import TrainingStopped

_TEN_FOLDS = "lfw:10-folds"


def run_siamese(given: dict[str, Any], data: PairDataOptions, run: RunOptions) -> None:
    """Train on pairs, test once, print the result, and say what was written."""
    from metasiam.options.pairs import SiameseOptions
    from metasiam.options.training import options_of
    from metasiam.runs import open_run

    console = terminal()
    preset_data, preset_method = preset_options(run.preset, "siamese")
    out, resume, overwrite, checkpoint_every = run.out, run.resume, run.overwrite, run.checkpoint_every
    if resume is not None:
        if data != PairDataOptions() or run.preset is not None:
            raise MetaSiamError("--resume takes the data and options of the run. Omit --data and --preset.")
        ten_fold = holds(FOLDS, resume)
        if ten_fold:
            from metasiam.workflows.folds import read_plan

            plan = read_plan(resume)
            options, data = plan["options"] | given, pairs_stored_in(resume, plan)
            out, overwrite = resume, False
        else:
            options, data = dict(given), pairs_of_run(open_run(resume))
    else:
        options = preset_method | given
        config = options_of(SiameseOptions, options)
        data = pairs_with_defaults(data, preset_data, config.arch)
        ten_fold = data.data == _TEN_FOLDS
        if out is not None:  # refused before the pairs are loaded
            check_new(FOLDS if ten_fold else RUN, out, overwrite=overwrite, goes_on=ten_fold)
    # torch only now, when what was given can work.
    from metasiam.pair_session import train_pairs
    from metasiam.session import TrainingStopped

    with lines(console) as shown:
        pairs = load_pairs(data, shown)
        if ten_fold:
            _ten_folds(pairs, options, data, out, overwrite, checkpoint_every, shown, console)
            return
        _note_shared(pairs, shown)
        try:
            trained = train_pairs(
                pairs,
                out=out,
                resume=resume,
                overwrite=overwrite,
                checkpoint_every=checkpoint_every,
                listener=shown,
                data_options=saved(data),
                **options,
            )
        except TrainingStopped as stopped:
            _say_stopped(shown, stopped, stopped.run.path)
            raise typer.Exit(130) from stopped
    show(console, trained)


def _note_shared(pairs: PairSet, shown: Lines) -> None:
    """Say so where given parts share people: the test is then an easier one."""
    from metasiam.data.pairs import also_in_test, whom

    shared = also_in_test(pairs, "train", "validation")
    if shared is not None:
        shown.note(
            f"{shared} in the test pairs are in training or validation pairs too, so the test accuracy is "
            f"not that for unseen {whom(pairs)}"
        )


def _say_stopped(shown: Lines, stopped: TrainingStopped, whole: Path) -> None:
    """Say where a stopped training is, and the command that continues it, or all that it is a part of."""
    shown.say(f"saved at iteration {stopped.iteration} in {stopped.run.path}\nnext: {_go_on(whole)}")


def _go_on(path: Path) -> str:
    return f"metasiam siamese --resume {shlex.quote(str(path))}"


def show(console: Console, trained: PairTraining) -> None:
    """Write the report, print the result, and say what was written."""
    from metasiam.cli.evaluating import print_answer, print_written
    from metasiam.reports.pair_report import result_table, write_pair_report
    from metasiam.reports.rendering import print_table

    written = write_pair_report(trained)
    print_answer(console, {"methods": {str(trained.run.config["options"]["arch"]): trained.evaluation}})
    print_table(console, result_table(trained.evaluation))
    print_written(console, [trained.run.path / "evaluation.json", *written])
    _say_match(console, trained.run.path)


def _say_match(console: Console, run: Path) -> None:
    say_next(console, ["metasiam", "match", "A.jpg", "B.jpg", "--weights", str(run)], "two pictures of your own")


def _ten_folds(
    pairs: PairSet,
    options: dict[str, Any],
    data: PairDataOptions,
    out: Path | None,
    overwrite: bool,
    checkpoint_every: float,
    shown: Lines,
    console: Console,
) -> None:
    """Run LFW's View 2: ten trainings, each tested on one fold, and their mean; or resume them."""
    from metasiam.reports.pair_report import folds_table
    from metasiam.reports.rendering import print_table
    from metasiam.session import TrainingStopped
    from metasiam.workflows.folds import train_folds

    path = out or fresh_folder("siamese")
    try:
        summary = train_folds(
            pairs,
            out=path,
            overwrite=overwrite,
            checkpoint_every=checkpoint_every,
            listener=shown,
            data_options=saved(data),
            **options,
        )
    except TrainingStopped as stopped:
        _say_stopped(shown, stopped, path)
        raise typer.Exit(130) from stopped
    except KeyboardInterrupt:  # between the iterations of two trainings: what is finished is kept
        if holds(FOLDS, path):
            shown.say(f"next: {_go_on(path)}")
        raise
    print_table(console, folds_table(summary))
    folds = f"fold-1 … fold-{len(summary['folds'])}"
    console.print(f"\nwrote to {path}: folds.json, {folds}", highlight=False, markup=False)
    _say_match(console, path / "fold-1")
