"""What ``metasiam siamese`` does: load pairs, say what will happen, train, test once, write."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from metasiam.cli.options import saved
from metasiam.cli.pair_presets import preset_options
from metasiam.cli.progress import Lines, lines
from metasiam.cli.terminal import terminal
from metasiam.cli.training import check_stored
from metasiam.errors import MetaSiamError
from metasiam.option_values import check_seconds

if TYPE_CHECKING:
    from metasiam.data.pairs import PairSet
    from metasiam.pair_session import PairTraining
    from metasiam.runs import Run
    from metasiam.session import TrainingStopped

_KOCH_SIZE = 105
_TEN_FOLDS = "lfw:10-folds"


@dataclass(frozen=True)
class PairOptions:
    """Which pairs, and what is done to their images; None means not given."""

    data: str | None = None
    data_dir: Path | None = None
    crop: int | None = None
    image_size: int | None = None
    grey: bool = False
    squeeze: bool = False  #: pictures to their size, as runs of before did
    fold: int | None = None  #: of data in folds: the one that is the test part, from 1; None: all in turn

    def with_defaults(self, preset: dict[str, Any], arch: str) -> PairOptions:
        """Fill what was not given from a preset, then from the defaults."""
        values = {"data": "lfw", "image_size": _KOCH_SIZE if arch.startswith("koch") else None} | preset
        return replace(self, **{name: value for name, value in values.items() if getattr(self, name) is None})

    def load(self, shown: Lines) -> PairSet:
        """Load the pairs."""
        from metasiam.data.sources import load_pairs
        from metasiam.pair_folds import with_test_fold

        assert self.data is not None
        pairs = load_pairs(
            self.data,
            data_dir=self.data_dir,
            image_size=self.image_size,
            crop=self.crop,
            grey=self.grey,
            listener=shown,
            squeeze=self.squeeze,
        )
        return pairs if self.fold is None else with_test_fold(pairs, self.fold - 1)

    def saved(self) -> dict[str, Any]:
        """Return the options as they are kept in ``config.json``, to load the same pairs again."""
        return saved(self)

    @staticmethod
    def of_run(run: Run) -> PairOptions:
        """Return the options that a run's pairs were loaded with.

        Raises:
            MetaSiamError: if it was not trained on pairs, or from Python.
        """
        run.check_method("siamese")
        return PairOptions.stored_in(run.path, run.config)

    @staticmethod
    def stored_in(path: Path, config: dict[str, Any]) -> PairOptions:
        """Return the options that the ``config.json`` of a run, or ``folds-config.json`` of its folds, says."""
        from metasiam.data.preparation import squeezed_before

        stored = dict(config["data"]["options"] or {})
        if not stored:
            raise MetaSiamError(f"{path} was trained from Python: it does not say how its data was loaded..")
        check_stored(stored, {field.name for field in fields(PairOptions)})
        if stored.get("data_dir") is not None:
            stored["data_dir"] = Path(stored["data_dir"])
        return PairOptions(**{"squeeze": squeezed_before(str(stored.get("data"))), **stored})


def run_siamese(
    given: dict[str, Any],
    data: PairOptions,
    *,
    preset: str | None,
    out: Path | None,
    resume: Path | None,
    overwrite: bool,
    checkpoint_every: float,
) -> None:
    """Train on pairs, test once, print the result, and say what was written."""
    from metasiam.config import SiameseConfig, config_from
    from metasiam.pair_folds import holds_folds, read_plan
    from metasiam.pair_session import train_pairs
    from metasiam.runs import open_run
    from metasiam.session import TrainingStopped

    console = terminal()
    check_seconds(checkpoint_every)
    preset_data, preset_method = preset_options(preset)
    if resume is not None:
        if data != PairOptions() or preset is not None:
            raise MetaSiamError("--resume takes the data and options of the run. Omit --data and --preset.")
        ten_fold = holds_folds(resume)
        if ten_fold:
            plan = read_plan(resume)
            options, data = plan["options"] | given, PairOptions.stored_in(resume, plan)
            out, overwrite = resume, False
        else:
            options, data = dict(given), PairOptions.of_run(open_run(resume))
    else:
        options = preset_method | given
        config = config_from(SiameseConfig, options)
        data = data.with_defaults(preset_data, config.arch)
        ten_fold = data.data == _TEN_FOLDS
        _check_out(out, ten_fold=ten_fold, overwrite=overwrite)
    with lines(console) as shown:
        pairs = data.load(shown)
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
                data_options=data.saved(),
                **options,
            )
        except TrainingStopped as stopped:
            _say_stopped(shown, stopped, stopped.run.path)
            raise typer.Exit(130) from stopped
    show(console, trained)


def _check_out(out: Path | None, *, ten_fold: bool, overwrite: bool) -> None:
    """Refuse a folder that cannot be written or must not be, before the pairs are loaded."""
    from metasiam.pair_folds import check_folds_out, holds_folds
    from metasiam.runs import check_out, check_overwrite

    if out is None:
        return
    if ten_fold:
        check_folds_out(out, overwrite=overwrite)
        return
    if holds_folds(out):
        raise MetaSiamError(f"{out} holds the trainings of {_TEN_FOLDS}, not a single run. Choose another --out.")
    check_out(out, overwrite=overwrite)
    check_overwrite(out)


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
    """Say where a stopped training is, and the command that goes on with it, or with all that it is a part of."""
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


def _ten_folds(
    pairs: PairSet,
    options: dict[str, Any],
    data: PairOptions,
    out: Path | None,
    overwrite: bool,
    checkpoint_every: float,
    shown: Lines,
    console: Console,
) -> None:
    """Run LFW's View 2: ten trainings, each tested on one fold, and their mean; or go on with them."""
    import datetime

    from metasiam.pair_folds import holds_folds, train_folds
    from metasiam.reports.pair_report import folds_table
    from metasiam.reports.rendering import print_table
    from metasiam.session import TrainingStopped

    path = out or Path("runs") / f"siamese-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    try:
        summary = train_folds(
            pairs,
            out=path,
            overwrite=overwrite,
            checkpoint_every=checkpoint_every,
            listener=shown,
            data_options=data.saved(),
            **options,
        )
    except TrainingStopped as stopped:
        _say_stopped(shown, stopped, path)
        raise typer.Exit(130) from stopped
    except KeyboardInterrupt:  # between the iterations of two trainings: what is finished is kept
        if holds_folds(path):
            shown.say(f"next: {_go_on(path)}")
        raise
    print_table(console, folds_table(summary))
    folds = f"fold-1 … fold-{len(summary['folds'])}"
    console.print(f"\nwrote to {path}: folds.json, {folds}", highlight=False, markup=False)
