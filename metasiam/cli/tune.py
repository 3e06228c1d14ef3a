"""``metasiam tune``: search over the options of ``metasiam siamese``."""

from __future__ import annotations

import inspect
import itertools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metasiam.cli import options as o
from metasiam.errors import MetaSiamError

if TYPE_CHECKING:
    from metasiam.cli.pair_training import PairOptions


def command(
    tries: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            help="Option and values to try: lr=0.0001,0.001 or lr=0.0001..0.01 (repeatable).",
            show_default=False,
        ),
    ] = None,
    strategy: Annotated[str, typer.Option("--strategy", help="grid, random or tpe (Optuna).")] = "grid",
    trials: Annotated[int, typer.Option("--trials", min=1, help="Number of trials (random and tpe).")] = 20,
    fix: Annotated[
        list[str] | None,
        typer.Option("--set", help="Option and value for all trials: epochs=5 (repeatable).", show_default=False),
    ] = None,
    data: Annotated[str, typer.Option("--data", help="lfw or pairs:FILE.csv.")] = "lfw",
    data_dir: o.DataDir = None,
    crop: Annotated[
        int | None, typer.Option("--crop", help="First crop images to their middle square of N pixels.")
    ] = None,
    image_size: o.ImageSize = None,
    grey: Annotated[bool, typer.Option("--grey", help="Make all images grey.")] = False,
    preset: Annotated[str | None, typer.Option("--preset", help="Preset of metasiam siamese to start from.")] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Random seed of the search; --set seed=… is that of the trainings.")
    ] = 0,
    device: o.Device = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the search.")] = Path("runs/tune"),
    resume: Annotated[bool, typer.Option("--resume", help="Resume the search in --out.")] = False,
) -> None:
    """Search training options on the validation pairs; report one table and figures. Test pairs are never used.

    Example: [bold]metasiam tune --try lr=0.0001,0.0003,0.001 --try batch_size=16,32 --try epochs=5,10[/bold]
    """
    from metasiam.cli.evaluating import print_written
    from metasiam.cli.pair_presets import preset_options
    from metasiam.cli.pair_training import PairOptions
    from metasiam.cli.progress import lines
    from metasiam.cli.terminal import terminal
    from metasiam.config import SiameseConfig, config_from
    from metasiam.reports.rendering import print_table
    from metasiam.reports.tune_report import trials_table, write_tune_report
    from metasiam.runs import check_writable
    from metasiam.tuning import STRATEGIES, best_trial, parse_choice, search

    console = terminal()
    if not tries:
        raise MetaSiamError("there is nothing to try. Add e.g. --try lr=0.0001,0.001.")
    choices = [parse_choice(text) for text in tries]
    preset_data, preset_method = preset_options(preset)
    fixed = {}
    for text in fix or ():
        if not text.partition("=")[2].strip():
            raise MetaSiamError(f"--set {text} has no value. Use e.g. --set epochs=5.")
        choice = parse_choice(text)
        if len(choice.values) != 1:
            raise MetaSiamError(f"--set {text} must give one value. Use --try for several.")
        fixed[choice.name] = choice.values[0]
    fixed |= o.given(device=device)
    options = preset_method | fixed
    arch = config_from(SiameseConfig, options).arch
    ends = {c.name: c.values or ((round(c.low), round(c.high)) if c.whole else (c.low, c.high)) for c in choices}
    together = itertools.product(*ends.values())
    first = tuple(values[0] for values in ends.values())
    apart = ((*first[:i], v, *first[i + 1 :]) for i, values in enumerate(ends.values()) for v in values)
    for values in together if strategy == "grid" else apart:  # said now, not when its trial comes
        config_from(SiameseConfig, options | dict(zip(ends, values, strict=True)))
    if strategy not in STRATEGIES:
        raise MetaSiamError(f"--strategy {strategy} is unknown. Use one of: {', '.join(STRATEGIES)}.")
    check_writable(out)
    chosen = PairOptions(data, data_dir, crop, image_size, grey).with_defaults(preset_data, arch)
    with lines(console) as shown:
        rows = search(
            chosen.load(shown),
            choices,
            out=out,
            strategy=strategy,
            trials=trials,
            seed=seed,
            resume=resume,
            listener=shown,
            **options,
        )
    written = write_tune_report(rows, out)
    print_table(console, trials_table(rows))
    print_written(console, written)
    line = next_command(chosen, preset, fixed | best_trial(rows)["options"])
    console.print(f"next: {line}", highlight=False, markup=False, soft_wrap=True)


def next_command(data: PairOptions, preset: str | None, options: Mapping[str, Any]) -> str:
    """Return the ``metasiam siamese`` command that trains with what was found, as a shell takes it.

    Args:
        data: the pairs that were searched on, with every default filled in.
        preset: where the search started.
        options: fields of ``SiameseConfig``, those tried and those fixed.
    """
    from metasiam.cli import siamese
    from metasiam.cli.pair_presets import preset_options

    preset_method = preset_options(preset)[1]
    if any(value is None and name in preset_method for name, value in options.items()):
        # No command line can take a preset's value back: say the rest of the preset word by word.
        preset, options = None, preset_method | dict(options)
    known = inspect.signature(siamese.command).parameters  # what has no option there does nothing to pairs
    said = {
        "data": data.data,
        "preset": preset,
        "data_dir": data.data_dir,
        "crop": data.crop,
        "image_size": data.image_size,
        "grey": data.grey or None,
        **{name: value for name, value in options.items() if name in known},
    }
    words = ["metasiam", "siamese"]
    for name, value in said.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    return shlex.join(words)
