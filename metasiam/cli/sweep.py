"""``metasiam sweep``: methods over several class splits, one table and one figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from metasiam.cli import groups
from metasiam.cli.next_steps import say_next
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError
from metasiam.options.budget import SweepOptions
from metasiam.options.data import DataOptions
from metasiam.options.evaluation import ProtocolSettings, read_counts, settings_from
from metasiam.options.flags import Flags, takes
from metasiam.options.run import RunOptions
from metasiam.options.training import TrainingOptions
from metasiam.runs import SWEEP, check_new
from metasiam.runs.reading import read_text
from metasiam.shapes import parse_json
from metasiam.workflows.data import saved

if TYPE_CHECKING:
    from metasiam.data.domains import Split
    from metasiam.runs import Run
    from metasiam.workflows.sweep import SweptRun


@takes(
    groups.PRESET,
    Flags(SweepOptions, "plan"),
    Flags(
        TrainingOptions,
        "training",
        only=("arch", "loss", "lr", "batch_size", "shift", "seed", "device", "precision", "compile"),
    ),
    Flags(DataOptions, "data", only=("data", "data_dir", "image_size", "skip_unreadable")),
    Flags(
        RunOptions,
        "run",
        only=("out", "overwrite"),
        defaults={"out": "runs/sweep"},
        more={
            "out": {"help": "Folder of the sweep; an unfinished sweep in it is continued."},
            "overwrite": {"help": "Replace the sweep in --out."},
        },
    ),
    Flags(ProtocolSettings, "protocol", only=("pairs", "protocols"), defaults={"protocols": "balanced,reference"}),
)
def command(
    preset: dict[str, Any],
    plan: dict[str, Any],
    training: dict[str, Any],
    data: dict[str, Any],
    run: dict[str, Any],
    protocol: dict[str, Any],
) -> None:
    """Train on a growing share of the domains and test on the rest, next to published results and a constant answer.

    Run the same command again after a stop: finished runs are kept, the unfinished one is resumed.

    \b
    Examples:
      metasiam sweep --data cifar100 --splits 10,50,90 --budget-images 200000
    """
    from metasiam.cli.progress import lines
    from metasiam.cli.training import check_place, train_or_take
    from metasiam.data.sources import load_domains
    from metasiam.methods import options_class
    from metasiam.options.presets import check_start, preset_options
    from metasiam.options.training import options_of
    from metasiam.runs import write_text
    from metasiam.runs.locks import run_held
    from metasiam.session import check_trainable
    from metasiam.workflows.compare import options_for_budget
    from metasiam.workflows.sweep import check_sweep, sweep

    wanted, where = SweepOptions(**plan), RunOptions(**{"out": Path("runs/sweep"), **run, **preset})
    out, overwrite, budget_images = where.out, where.overwrite, wanted.budget_images
    assert out is not None
    console = terminal()
    names = list(dict.fromkeys(name.strip() for name in wanted.methods.split(",") if name.strip()))
    if not names:
        raise MetaSiamError("--methods does not name a method. Use e.g. --methods triplet,reptile.")
    options = {}
    for name in names:
        options[name] = preset_options(where.preset, name)[1] | training
        options_of(options_class(name), options[name])  # said now, not when the data are loaded
        check_start(where.preset, name, options[name])
        if budget_images is not None:
            options[name] = options_for_budget(name, options[name], budget_images)
    settings = settings_from(
        {"protocols": ("balanced", "reference"), **protocol, "shots": (0,)},
        regimes=("closed",),
        episodes=0,
        seed=training.get("seed"),
    )
    shares = read_counts("--splits", wanted.splits, "10,50,90")
    source = DataOptions(**data).with_defaults(preset_options(where.preset, names[0])[0])
    stored_plan = {"options": options, "data": saved(source)}
    _check_plan(out, stored_plan, overwrite=overwrite)
    with lines(console) as shown:
        domains = load_domains(
            str(source.data), data_dir=source.data_dir, image_size=source.image_size,
            skip_unreadable=source.skip_unreadable, listener=shown,
        )  # fmt: skip

        def check(method: str, chosen: dict[str, Any], path: Path, split: Split) -> None:
            check_place(method, chosen, path, domains, split, overwrite=overwrite)
            check_trainable(method, domains, split, **chosen)

        check_sweep(options, domains, shares, out, check, settings)

        def trainer(method: str, chosen: dict[str, Any], path: Path, split: Split) -> Run:
            from dataclasses import replace

            stored = replace(source, held_out=len(split.held_out), validation=len(split.validation))
            return train_or_take(
                method, chosen, path, domains, split, stored, shown, overwrite=overwrite,
                again="the same command, without --overwrite" if overwrite else "the same command",
            )  # fmt: skip

        with run_held(out):
            write_text(out / SWEEP.markers[0], json.dumps(stored_plan, indent=1) + "\n")
            swept = sweep(
                options,
                domains,
                shares,
                out,
                trainer,
                settings,
                device=training.get("device", "auto"),
                listener=shown,
            )
    _write_and_render(console, out, swept)


def _check_plan(out: Path, plan: dict[str, Any], *, overwrite: bool) -> None:
    """Refuse to mix runs of other settings, or other files, into a sweep."""
    check_new(SWEEP, out, overwrite=overwrite, goes_on=True)
    file = out / SWEEP.markers[0]
    if overwrite or not file.is_file():
        return
    try:
        stored = parse_json(read_text(file))
    except ValueError as error:
        raise MetaSiamError(f"{file} is damaged. Use --overwrite to start over, or another --out.") from error
    if _compared(stored) != _compared(json.loads(json.dumps(plan))):
        raise MetaSiamError(
            f"{out} holds a sweep with other settings (see {file}). Use those, --overwrite to start over, or another "
            "--out."
        )


def _compared(plan: Any) -> Any:
    """Return what must be equal of two plans: not how domains are split, which a sweep decides, nor what is not set."""
    if not isinstance(plan, dict) or not isinstance(plan.get("data"), dict):
        return plan
    own = ("held_out", "validation", "keep_back")
    return {**plan, "data": {name: value for name, value in plan["data"].items() if value and name not in own}}


def _write_and_render(console: Console, out: Path, swept: list[SweptRun]) -> None:
    from metasiam.cli.evaluating import print_written
    from metasiam.reports.figures import sweep as sweep_figure
    from metasiam.reports.inputs import SweepPoint
    from metasiam.reports.markdown import sweep_markdown
    from metasiam.reports.reference import sweep_table
    from metasiam.reports.rendering import print_table
    from metasiam.reports.style import save_figure
    from metasiam.runs import write_text

    points = [SweepPoint(run.method, run.seen, run.held_out, run.evaluation) for run in swept]
    figure = out / "sweep.svg"
    save_figure(sweep_figure(points), figure)
    rows = [
        {"method": run.method, "seen": run.seen, "held_out": run.held_out, "run": run.run.path.name,
         "evaluation": run.evaluation}
        for run in swept
    ]  # fmt: skip
    written = [
        write_text(out / "sweep.md", sweep_markdown(points)),
        figure,
        write_text(out / "results.json", json.dumps({"schema": 1, "runs": rows}, indent=1, ensure_ascii=False) + "\n"),
    ]
    print_table(console, sweep_table(points))
    print_written(console, written)
    if tested := [run for run in swept if run.held_out > 1]:
        words = ["metasiam", "evaluate", str(tested[-1].run.path), "--adapt-shots", "0,5"]
        say_next(console, words, "what five images of each held-out class add")
