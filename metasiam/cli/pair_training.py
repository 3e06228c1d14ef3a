"""What ``metasiam siamese`` does: load pairs, say what will happen, train, test once, write."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from metasiam.cli.pair_presets import preset_options
from metasiam.cli.progress import Lines, lines
from metasiam.errors import MetaSiamError

if TYPE_CHECKING:
    from metasiam.data.pairs import PairSet
    from metasiam.pair_session import PairTraining
    from metasiam.runs import Run

_KOCH_SIZE = 105


@dataclass(frozen=True)
class PairOptions:
    """Which pairs, and what is done to their images; None means not given."""

    data: str | None = None
    data_dir: Path | None = None
    crop: int | None = None
    image_size: int | None = None
    grey: bool = False

    def with_defaults(self, preset: dict[str, Any], arch: str) -> PairOptions:
        """Fill what was not given from a preset, then from the defaults."""
        values = {"data": "lfw", "image_size": _KOCH_SIZE if arch.startswith("koch") else None} | preset
        return replace(self, **{name: value for name, value in values.items() if getattr(self, name) is None})

    def load(self, shown: Lines) -> PairSet:
        """Load the pairs."""
        from metasiam.data.sources import load_pairs

        assert self.data is not None
        return load_pairs(
            self.data,
            data_dir=self.data_dir,
            image_size=self.image_size,
            crop=self.crop,
            grey=self.grey,
            report=shown.update,
        )

    def saved(self) -> dict[str, Any]:
        """Return the options as they are kept in ``config.json``, to load the same pairs again."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    @staticmethod
    def of_run(run: Run) -> PairOptions:
        """Return the options that a run's pairs were loaded with."""
        stored = dict(run.config["data"]["options"])
        if not stored:
            raise MetaSiamError(f"{run.path} was trained from Python: it does not say how its data was loaded.")
        if stored.get("data_dir") is not None:
            stored["data_dir"] = Path(stored["data_dir"])
        return PairOptions(**stored)


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
    from metasiam.pair_session import train_pairs
    from metasiam.runs import check_out, open_run
    from metasiam.session import TrainingStopped

    console = Console()
    preset_data, preset_method = preset_options(preset)
    if resume is not None:
        if data != PairOptions() or preset is not None:
            raise MetaSiamError("--resume takes the data and options of the run. Leave --data and --preset out.")
        options, data = dict(given), PairOptions.of_run(open_run(resume))
    else:
        options = preset_method | given
        config = config_from(SiameseConfig, options)
        data = data.with_defaults(preset_data, config.arch)
        if out is not None:
            check_out(out, overwrite=overwrite)
    ten_fold = data.data == "lfw:10-folds"
    with lines(console) as shown:
        pairs = data.load(shown)
        try:
            if ten_fold:
                _ten_folds(pairs, options, data, out, overwrite, shown, console)
                return
            trained = train_pairs(
                pairs,
                out=out,
                resume=resume,
                overwrite=overwrite,
                checkpoint_every=checkpoint_every,
                report=lambda progress: shown.training("siamese", progress),
                working=shown.update,
                started=lambda config: shown.say(announcement(config)),
                data_options=data.saved(),
                **options,
            )
        except TrainingStopped as stopped:
            shown.say(
                f"saved at iteration {stopped.iteration} in {stopped.run.path}\n"
                f"next: metasiam siamese --resume {stopped.run.path}"
            )
            raise typer.Exit(130) from stopped
    show(console, trained)


def announcement(config: dict[str, Any]) -> str:
    """Say what a run will do, from its ``config.json``."""
    options, data, pairs = config["options"], config["data"], config["pairs"]
    size = "×".join(str(side) for side in data["image_size"])
    counts = ", ".join(
        f"{part} {own['pairs']:,} ({own['people']:,} people)" if own["people"] else f"{part} {own['pairs']:,}"
        for part, own in pairs.items()
        if own["pairs"]
    )
    how = (
        f"head solved {options['folds']} times and once on all"
        if options["solver"] == "svm"
        else f"{options['epochs']} epochs of {options['optimizer']} at {options['lr']:g}"
    )
    return (
        f"siamese: {data['source']}, {data['images']:,} images of {size}; pairs: {counts}\n"
        f"{options['arch']} with {options['head']} head, {config['parameters']:,} parameters, on "
        f"{config['machine']['device']} in {config['resolved']['precision']}; {how}"
    )


def show(console: Console, trained: PairTraining) -> None:
    """Write the report, print the result, and say what was written."""
    from metasiam.cli.evaluating import print_written
    from metasiam.reports.pair_report import result_table, write_pair_report
    from metasiam.reports.rendering import to_rich

    written = write_pair_report(trained)
    console.print(to_rich(result_table({trained.run.path.name: trained.evaluation})))
    print_written(console, [trained.run.path / "evaluation.json", *written])


def _ten_folds(
    pairs: PairSet,
    options: dict[str, Any],
    data: PairOptions,
    out: Path | None,
    overwrite: bool,
    shown: Lines,
    console: Console,
) -> None:
    """Run LFW's View 2: ten trainings, each tested on one fold, and their mean."""
    import datetime

    from metasiam.pair_folds import train_folds
    from metasiam.reports.rendering import to_rich

    path = out or Path("runs") / f"siamese-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    from metasiam.reports.pair_report import folds_table

    summary = train_folds(
        pairs,
        out=path,
        overwrite=overwrite,
        report=shown.training,
        working=shown.update,
        data_options=data.saved(),
        **options,
    )
    console.print(to_rich(folds_table(summary)))
    console.print(f"\nwrote to {path}: folds.json, fold-1 … fold-{len(summary['folds'])}", highlight=False)
