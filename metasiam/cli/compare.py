"""``metasiam compare``: several runs, or methods trained here under one budget, on the same tasks and pairs."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from metasiam import catalogue
from metasiam.cli import groups
from metasiam.cli.compare_output import render
from metasiam.cli.next_steps import YOUR_OWN, after_quick, recognise, say_next
from metasiam.cli.terminal import terminal
from metasiam.cli.training import Talk, told
from metasiam.options.budget import ComparisonOptions
from metasiam.options.data import DataOptions
from metasiam.options.evaluation import settings_from
from metasiam.options.flags import Flags, given_of, refuse, takes
from metasiam.options.run import RunOptions
from metasiam.progress_lines import lines
from metasiam.runs import COMPARISON, check_new, fresh_folder
from metasiam.workflows.data import with_run
from metasiam.workflows.plans import compare_runs, plan_comparison, saved_plan, train_and_compare


@takes(
    groups.PRESET,
    Flags(ComparisonOptions, "plan"),
    groups.SHARED_TRAINING,
    groups.DATA,
    Flags(
        RunOptions,
        "run",
        only=("out", "resume", "overwrite"),
        defaults={"out": "runs/compare-<time>"},
        more={
            "out": {"help": "Folder of the report."},
            "resume": {"help": "Resume this comparison."},
            "overwrite": {"help": "Replace the comparison in --out."},
        },
    ),
    groups.PROTOCOL,
)
def command(
    preset: dict[str, Any],
    plan: dict[str, Any],
    training: dict[str, Any],
    data: dict[str, Any],
    run: dict[str, Any],
    protocol: dict[str, Any],
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Finished runs; without any, --methods are trained here.")
    ] = None,
) -> None:
    """Compare methods under equal conditions: same data, split, budget, tasks, adaptation images and pairs.

    Finished runs that differ only in their seed count as trainings of one method.

    \b
    Examples:
      metasiam compare --preset quick
      metasiam compare runs/a runs/b
      metasiam compare --methods triplet,reptile --data cifar100 --budget-minutes 10 --seeds 0,1,2
    """
    where, chosen = RunOptions(**run, **preset), DataOptions(**data)
    seed, device = training.get("seed"), training.get("device", "auto")
    if runs:
        refuse(
            plan
            | {name: value for name, value in _but_places(training).items() if name not in ("seed", "device")}
            | given_of(resume=where.resume, preset=where.preset),
            "pass finished runs or what to train here, not both",
        )
        settings, folder = settings_from(protocol, seed=seed), where.out or fresh_folder("compare")
        check_new(COMPARISON, folder, overwrite=where.overwrite)
        with lines(terminal()) as shown:
            done = compare_runs(runs, chosen, settings, folder, shown, device=device)
        render(terminal(), done.comparison, done.written)
        first = next(iter(done.runs.values()))[0]
        say_next(terminal(), recognise(first.path, with_run(chosen, first).data), YOUR_OWN)
        return
    if where.resume is not None:
        given = plan | _but_places(training) | chosen.given() | preset
        given |= given_of(out=where.out, overwrite=where.overwrite or None)
        refuse(given, "--resume takes the methods, the data and the options of the comparison")
        what, folder = saved_plan(where.resume), where.resume
        settings = settings_from(protocol, earlier=what.get("evaluation"))
    else:
        folder = where.out or fresh_folder(where.preset or "compare")
        check_new(COMPARISON, folder, overwrite=where.overwrite)
        settings = settings_from(protocol, preset=where.preset, seed=seed)
        what = plan_comparison(ComparisonOptions(**plan), training, chosen, settings, where.preset)
    started = time.monotonic()
    again = f"metasiam compare --resume {shlex.quote(str(folder))}"
    with lines(terminal()) as shown, told(shown, "compare", again):
        done = train_and_compare(what, folder, settings, Talk(shown), overwrite=where.overwrite)
    render(terminal(), done.comparison, done.written)
    first = next(iter(done.runs.values()))[0]
    if where.preset == "quick" and chosen.data is None:
        on_cpu = all(run.config["machine"]["device"] == "cpu" for listed in done.runs.values() for run in listed)
        words = after_quick(on_cpu=on_cpu, seeds=plan.get("seeds"), seconds=time.monotonic() - started)
        terminal().print(words, highlight=False, markup=False, soft_wrap=True)
    else:
        say_next(terminal(), recognise(first.path, what["data"].get("data")), YOUR_OWN)


def _but_places(given: dict[str, Any]) -> dict[str, Any]:
    """Return options without the names that are given so that a file may say them (``metasiam.catalogue``)."""
    return {name: value for name, value in given.items() if not catalogue.is_place(str(value))}
