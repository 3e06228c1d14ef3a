"""``metasiam tune``: search over the options of ``metasiam siamese``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from metasiam.cli import groups
from metasiam.errors import MetaSiamError
from metasiam.options.flags import Flags, takes
from metasiam.options.pairs import PairDataOptions, SiameseOptions
from metasiam.options.run import RunOptions
from metasiam.options.training import TrainingOptions
from metasiam.options.tune import TuneOptions
from metasiam.runs import SEARCH, check_new, holds
from metasiam.workflows.data import load_pairs, pairs_with_defaults


@takes(
    groups.preset_of(SiameseOptions),
    Flags(TuneOptions, "search"),
    Flags(PairDataOptions, "data"),
    Flags(TrainingOptions, "training", only=("device",)),
    Flags(
        RunOptions,
        "run",
        only=("out", "resume"),
        defaults={"out": "runs/tune"},
        more={"out": {"help": "Folder of the search."}, "resume": {"help": "Resume the search in this folder."}},
    ),
)
def command(
    preset: dict[str, Any],
    search: dict[str, Any],
    data: dict[str, Any],
    training: dict[str, Any],
    run: dict[str, Any],
) -> None:
    """Search training options on the validation pairs; report one table and figures. Test pairs are never used.

    \b
    Examples:
      metasiam tune --try lr=0.0001,0.0003,0.001 --try batch_size=16,32 --try epochs=5,10
    """
    from metasiam.cli.terminal import terminal
    from metasiam.options.choices import parse_choice, parse_settings
    from metasiam.options.presets import preset_options
    from metasiam.options.training import options_of
    from metasiam.progress_lines import lines

    console = terminal()
    wanted, where = TuneOptions(**search), RunOptions(**run, **preset)
    if where.resume is not None and where.out is not None:
        raise MetaSiamError("--resume says the folder of the search. Omit --out.")
    out = where.resume or where.out or Path("runs/tune")
    if where.resume is not None and not holds(SEARCH, out):
        raise MetaSiamError(f"{out} does not contain a search to resume. Start one with --out {shlex.quote(str(out))}.")
    check_new(SEARCH, out, goes_on=where.resume is not None)
    choices = [parse_choice(text) for text in wanted.tries or ()]
    preset_data, preset_method = preset_options(where.preset, "siamese")
    fixed = parse_settings(wanted.settings or ()) | training
    options = preset_method | fixed
    arch = options_of(SiameseOptions, options).arch
    # torch only now, when what was given can work.
    from metasiam.cli.evaluating import print_written
    from metasiam.reports.rendering import print_table
    from metasiam.reports.tune_report import trials_table, write_tune_report
    from metasiam.workflows.tune import best_trial, check_search, next_command, tune

    check_search(wanted.strategy, choices, options)  # said now, not when its trial comes
    chosen = pairs_with_defaults(PairDataOptions(**data), preset_data, arch)
    with lines(console) as shown:
        rows = tune(
            load_pairs(chosen, shown),
            choices,
            out=out,
            strategy=wanted.strategy,
            trials=wanted.trials,
            seed=wanted.seed,
            resume=where.resume is not None,
            listener=shown,
            **options,
        )
    written = write_tune_report(rows, out)
    print_table(console, trials_table(rows))
    print_written(console, written)
    line = next_command(chosen, where.preset, fixed | best_trial(rows)["options"])
    console.print(f"next: {line}", highlight=False, markup=False, soft_wrap=True)
