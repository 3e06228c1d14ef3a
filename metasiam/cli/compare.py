"""``metasiam compare``: several runs, or methods trained here under one budget, on the same tasks and pairs."""

from __future__ import annotations

import json
import math
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from metasiam import catalogue
from metasiam.cli import groups
from metasiam.cli.compare_output import render, write
from metasiam.cli.next_steps import YOUR_OWN, after_quick, recognise, say_next
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError
from metasiam.options.budget import ComparisonOptions
from metasiam.options.data import DataOptions
from metasiam.options.evaluation import read_counts, settings_from
from metasiam.options.flags import Flags, given_of, refuse, takes
from metasiam.options.run import RunOptions
from metasiam.runs import COMPARISON, check_new, clear, fresh_folder, write_text
from metasiam.runs.reading import read_text
from metasiam.shapes import COMPARISON as SHAPE
from metasiam.shapes import check, parse_json
from metasiam.wording import counted
from metasiam.workflows.data import from_stored, load, saved, with_run

if TYPE_CHECKING:
    from metasiam.cli.progress import Lines
    from metasiam.data.domains import DomainSet, Split
    from metasiam.options.evaluation import ProtocolSettings
    from metasiam.runs import Run
    from metasiam.workflows.compare import Comparison


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
    from metasiam.cli.progress import lines

    console = terminal()
    where, chosen = RunOptions(**run, **preset), DataOptions(**data)
    if runs:
        refuse(
            plan
            | {name: value for name, value in _but_places(training).items() if name not in ("seed", "device")}
            | given_of(resume=where.resume, preset=where.preset),
            "pass finished runs or what to train here, not both",
        )
        settings = settings_from(protocol, seed=training.get("seed"))
        device = training.get("device", "auto")
        _compare_runs(console, runs, chosen, settings, where.out, device, overwrite=where.overwrite)
        return
    if where.resume is not None:
        given = plan | _but_places(training) | chosen.given() | preset
        given |= given_of(out=where.out, overwrite=where.overwrite or None)
        refuse(given, "--resume takes the methods, the data and the options of the comparison")
        saved_plan, folder = _saved_plan(where.resume), where.resume
        settings = settings_from(protocol, earlier=saved_plan.get("evaluation"))
    else:
        wanted = ComparisonOptions(**plan)
        settings = settings_from(protocol, preset=where.preset, seed=training.get("seed"))
        saved_plan = _new_plan(wanted, training, where.preset, chosen)
        saved_plan["evaluation"] = settings.as_dict()
        saved_plan |= given_of(seeds=_parse_seeds(wanted.seeds, settings))
        folder = where.out or fresh_folder(where.preset or "compare")
        check_new(COMPARISON, folder, overwrite=where.overwrite)
    started = time.monotonic()
    with lines(console) as shown:
        comparison, trained, written = _train_and_compare(
            saved_plan, folder, settings, shown, overwrite=where.overwrite
        )
    render(console, comparison, written)
    if where.preset == "quick" and chosen.data is None:
        on_cpu = all(run.config["machine"]["device"] == "cpu" for listed in trained.values() for run in listed)
        words = after_quick(on_cpu=on_cpu, seeds=plan.get("seeds"), seconds=time.monotonic() - started)
        console.print(words, highlight=False, markup=False, soft_wrap=True)
    else:
        first = next(iter(trained.values()))[0]
        say_next(console, recognise(first.path, saved_plan["data"].get("data")), YOUR_OWN)


def _compare_runs(
    console: Console, paths: list[Path], data: DataOptions, settings: ProtocolSettings, out: Path | None, device: str,
    *, overwrite: bool,
) -> None:  # fmt: skip
    from metasiam.cli.progress import lines
    from metasiam.grouping import methods_of
    from metasiam.runs import open_run
    from metasiam.workflows.compare import compare

    runs = methods_of(open_run(path) for path in paths)
    first = next(iter(runs.values()))[0]
    folder = out or fresh_folder("compare")
    check_new(COMPARISON, folder, overwrite=overwrite)
    source = with_run(data, first)
    with lines(console) as shown:
        domains, split = load(source, shown)
        comparison = compare(runs, domains, split, settings, device=device, listener=shown)
        written = write(folder, comparison, runs, domains)
    render(console, comparison, written)
    say_next(console, recognise(first.path, source.data), YOUR_OWN)


def _new_plan(
    wanted: ComparisonOptions, given: dict[str, Any], preset: str | None, data: DataOptions
) -> dict[str, Any]:
    """Return what will be trained, as it is saved: each method's options, the data, the budget."""
    from metasiam.methods import options_class
    from metasiam.options.presets import check_start, preset_options
    from metasiam.options.training import options_of, read_loss_options, value_of
    from metasiam.session import arch_of

    methods = [name.strip() for name in wanted.methods.split(",") if name.strip()]
    budget_images, budget_minutes = wanted.budget_images, wanted.budget_minutes
    if len(set(methods)) != len(methods) or not methods:
        raise MetaSiamError("--methods names each method once, e.g. --methods triplet,reptile.")
    if budget_images is not None and budget_minutes is not None:
        raise MetaSiamError("pass --budget-images or --budget-minutes, not both.")
    if budget_images is not None and budget_images <= 0:
        raise MetaSiamError(f"--budget-images must be above 0, not {budget_images}.")
    if budget_minutes is not None and not (budget_minutes > 0 and math.isfinite(budget_minutes)):
        raise MetaSiamError(f"--budget-minutes must be a number above 0, not {budget_minutes}.")
    options = {}
    for method in methods:
        options_class(method)
        options[method] = preset_options(preset, method)[1] | given
    for text in wanted.settings or ():
        method, name, word = _parse_setting(text, methods)
        if name.startswith("loss."):
            more = read_loss_options(f"{name}={word}")
            options[method]["loss_options"] = {**options[method].get("loss_options", {}), **more}
            continue
        options[method][name] = value_of(options_class(method), name, word, f"--set {text}")
    for method in methods:
        if options[method].get("init") is not None and "arch" not in options[method]:
            options[method]["arch"] = arch_of(options[method]["init"])
        options_of(options_class(method), options[method])
        check_start(preset, method, options[method])
    chosen = data.with_defaults(preset_options(preset, methods[0])[0])
    return {
        "methods": options,
        "data": saved(chosen),
        "budget": given_of(images=budget_images, minutes=budget_minutes),
    }


def _parse_setting(text: str, methods: list[str]) -> tuple[str, str, str]:
    name, _, value = text.partition("=")
    method, _, option = name.strip().partition(".")
    if not value or not option or method not in methods:
        raise MetaSiamError(f"--set {text} is not METHOD.OPTION=VALUE with one of the methods {', '.join(methods)}.")
    return method, option.replace("-", "_"), value.strip()


def _parse_seeds(text: str | None, settings: ProtocolSettings) -> list[int] | None:
    """Return the seeds of ``--seeds``; None where it was not given."""
    from metasiam.evaluation.trainings import check_poolable

    if text is None:
        return None
    seeds = read_counts("--seeds", text, "0,1,2")
    if len(set(seeds)) < len(seeds):
        raise MetaSiamError(
            f"--seeds {text} names a seed twice. Use different seeds: the same training again adds nothing."
        )
    if len(seeds) > 1:
        check_poolable(settings)
    return list(seeds)


def _but_places(given: dict[str, Any]) -> dict[str, Any]:
    """Return options without the names that are given so that a file may say them (``metasiam.catalogue``)."""
    return {name: value for name, value in given.items() if not catalogue.is_place(str(value))}


def _saved_plan(folder: Path) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = parse_json(read_text(folder / COMPARISON.markers[0]))
        check(plan, SHAPE)
    except (OSError, ValueError) as error:
        raise MetaSiamError(
            f"{folder} does not contain a comparison to resume. Start one with --out {shlex.quote(str(folder))}."
        ) from error
    for options in plan["methods"].values():
        catalogue.check_stored(options)
    return plan


def _train_and_compare(
    plan: dict[str, Any], folder: Path, settings: ProtocolSettings, shown: Lines, *, overwrite: bool
) -> tuple[Comparison, dict[str, list[Run]], list[Path]]:
    from metasiam.cli.training import check_place
    from metasiam.evaluation.draws import draw_protocol
    from metasiam.runs.locks import run_held
    from metasiam.session import check_trainable
    from metasiam.workflows.compare import compare, options_for_budget

    data = from_stored(plan["data"])
    domains, split = load(data, shown)
    # Before hours of training: something may not fit the data.
    draws = draw_protocol(domains, split, settings)
    for name, options in plan["methods"].items():
        check_trainable(name, domains, split, **options)
    budget = dict(plan["budget"])
    if "minutes" in budget and "images" not in budget:
        minutes = budget["minutes"]
        budget["images"] = _images_in(minutes, plan["methods"], domains, split, shown)
        shown.say(f"in {counted(f'{minutes:g}', 'minute')}: about {counted(budget['images'], 'image')} here")
    methods = plan["methods"]
    if "images" in budget:
        methods = {name: options_for_budget(name, options, budget["images"]) for name, options in methods.items()}
    places = {
        name: [(folder / f"{name}{ending}", options | more) for ending, more in _trainings(plan.get("seeds"))]
        for name, options in methods.items()
    }
    for name, trainings in places.items():
        for path, options in trainings:
            check_place(name, options, path, domains, split, overwrite=overwrite)
    again = f"metasiam compare --resume {shlex.quote(str(folder))}"
    with run_held(folder):
        _write_plan(folder, {**plan, "budget": budget}, overwrite=overwrite)
        runs = _train_all(places, domains, split, data, shown, overwrite=overwrite, again=again)
        device = next(iter(methods.values())).get("device", "auto")
        try:
            comparison = compare(
                runs, domains, split, settings, draws=draws, budget=budget or None, device=device, listener=shown
            )
        except KeyboardInterrupt:
            shown.say(f"trained and saved in {folder}, not measured yet\nnext: {again}")
            raise
        written = write(folder, comparison, runs, domains)
    return comparison, runs, written


def _write_plan(folder: Path, plan: dict[str, Any], *, overwrite: bool) -> None:
    if overwrite:
        clear(COMPARISON, folder)
    write_text(folder / COMPARISON.markers[0], json.dumps(plan, indent=1) + "\n")


def _train_all(
    places: dict[str, list[tuple[Path, dict[str, Any]]]], domains: DomainSet, split: Split, data: DataOptions,
    shown: Lines, *, overwrite: bool, again: str,
) -> dict[str, list[Run]]:  # fmt: skip
    """Train every method into its folders, each with its options, or take what is finished there."""
    from metasiam.cli.training import train_or_take

    return {
        name: [
            train_or_take(name, options, path, domains, split, data, shown, overwrite=overwrite, again=again)
            for path, options in trainings
        ]
        for name, trainings in places.items()
    }


def _trainings(seeds: list[int] | None) -> list[tuple[str, dict[str, Any]]]:
    """Return what each training of a method adds to its folder's name and to its options."""
    return [("", {})] if seeds is None else [(f"-seed-{seed}", {"seed": seed}) for seed in seeds]


def _images_in(
    minutes: float, methods: dict[str, dict[str, Any]], domains: DomainSet, split: Split, shown: Lines
) -> int:
    """Return how many images the slowest of the methods' embedders gets through in so many minutes here."""
    from metasiam.methods import options_class
    from metasiam.options.training import options_of
    from metasiam.workflows.compare import images_in

    first = {options_of(options_class(name), options).arch: name for name, options in reversed(methods.items())}
    return min(images_in(minutes, name, methods[name], domains, split, shown) for name in first.values())
