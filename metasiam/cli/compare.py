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

from metasiam.cli import options as o
from metasiam.cli.compare_output import next_step, render, write
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError
from metasiam.reading import read_text
from metasiam.shapes import COMPARISON, check, parse_json

if TYPE_CHECKING:
    from metasiam.cli.progress import Lines
    from metasiam.cli.training import DataOptions
    from metasiam.comparison import Comparison
    from metasiam.data.domains import DomainSet, Split
    from metasiam.evaluation.settings import ProtocolSettings
    from metasiam.runs import Run

_PLAN_FILE = "comparison.json"
_RESULT_FILE = "compare.json"
_FILES = (_PLAN_FILE, _RESULT_FILE, "compare.md", "tasks.csv", "report.html")


def command(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Finished runs; without any, --methods are trained here.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Methods to train here: triplet, reptile, baseline, protonet, fomaml, maml, anil.",
            show_default="triplet,reptile",
        ),
    ] = None,
    budget_images: Annotated[
        int | None, typer.Option("--budget-images", help="Training images for each method.")
    ] = None,
    budget_minutes: Annotated[
        float | None,
        typer.Option("--budget-minutes", help="Or training time for each method, at this machine's measured speed."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set an option of one method, e.g. reptile.meta_step=1.0 (repeatable)."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds", help="Train each method once per seed, e.g. 0,1,2, and report means with run-to-run variance."
        ),
    ] = None,
    data: o.Data = None,
    data_dir: o.DataDir = None,
    image_size: o.ImageSize = None,
    skip_unreadable: o.SkipUnreadable = False,
    held_out: o.HeldOut = None,
    split: o.SplitName = None,
    validation: o.Validation = None,
    arch: o.Arch = None,
    loss: o.Loss = None,
    lr: o.LearningRate = None,
    batch_size: o.BatchSize = None,
    shift: o.Shift = None,
    init: o.Init = None,
    seed: o.Seed = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile: o.Compile = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the report.", show_default="runs/compare-<time>")
    ] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Resume this comparison.")] = None,
    overwrite: o.Overwrite = False,
    preset: o.Preset = None,
    pairs: o.Pairs = None,
    adapt_shots: o.AdaptShots = None,
    adapt_steps: o.AdaptSteps = None,
    curve_steps: o.CurveSteps = None,
    protocol: o.Protocol = None,
    threshold: o.Threshold = None,
    inference: o.Inference = None,
    episodes: o.Episodes = None,
) -> None:
    """Compare methods under equal conditions: same data, split, budget, tasks, adaptation images and pairs.

    Examples: [bold]metasiam compare --preset quick[/bold] · [bold]metasiam compare runs/a runs/b[/bold] ·
    [bold]metasiam compare --methods triplet,reptile --data cifar100 --budget-minutes 10 --seeds 0,1,2[/bold]

    Finished runs that differ only in their seed count as trainings of one method.
    """
    from metasiam.cli.evaluating import more_settings, settings_from
    from metasiam.cli.progress import lines
    from metasiam.cli.training import DataOptions, RunOptions

    console = terminal()
    wanted = RunOptions(None, None, overwrite, 60.0, preset, pairs, adapt_shots, adapt_steps, curve_steps)
    more = more_settings(protocol, inference, episodes) | {"threshold": threshold}
    given_data = DataOptions(data, data_dir, image_size, skip_unreadable, held_out, split, validation)
    given = o.given(
        arch=arch, loss=loss, lr=lr, batch_size=batch_size, shift=shift, init=init, seed=seed, device=device,
        precision=precision, compile=compile,
    )  # fmt: skip
    training = o.given(
        methods=methods, budget_images=budget_images, budget_minutes=budget_minutes, set=set_, seeds=seeds
    )
    if runs:
        o.refuse(
            training
            | {name: value for name, value in given.items() if name not in ("seed", "device")}
            | o.given(resume=resume, preset=preset),
            "pass finished runs or what to train here, not both",
        )
        settings = settings_from(wanted, seed, **more)
        _compare_runs(console, runs, given_data, settings, out, device or "auto", overwrite=overwrite)
        return
    if resume is not None:
        training |= given | given_data.given() | o.given(preset=preset, out=out, overwrite=overwrite or None)
        o.refuse(training, "--resume takes the methods, the data and the options of the comparison")
        plan, folder = _saved_plan(resume), resume
        settings = settings_from(wanted, None, earlier=plan.get("evaluation"), **more)
    else:
        listed = "triplet,reptile" if methods is None else methods
        names = [name.strip() for name in listed.split(",") if name.strip()]
        settings = settings_from(wanted, seed, **more)
        plan = _new_plan(names, given, set_ or [], preset, given_data, budget_images, budget_minutes)
        plan["evaluation"] = settings.as_dict()
        plan |= o.given(seeds=_parse_seeds(seeds, settings))
        folder = _new_folder(out, preset, overwrite=overwrite)
    started = time.monotonic()
    with lines(console) as shown:
        comparison, trained, written = _train_and_compare(plan, folder, settings, shown, overwrite=overwrite)
    render(console, comparison, written)
    if preset == "quick" and data is None:
        on_cpu = all(run.config["machine"]["device"] == "cpu" for listed in trained.values() for run in listed)
        words = next_step(on_cpu=on_cpu, seeds=seeds, seconds=time.monotonic() - started)
        console.print(words, highlight=False, markup=False, soft_wrap=True)


def _compare_runs(
    console: Console, paths: list[Path], data: DataOptions, settings: ProtocolSettings, out: Path | None, device: str,
    *, overwrite: bool,
) -> None:  # fmt: skip
    from metasiam.cli.progress import lines
    from metasiam.comparison import compare
    from metasiam.grouping import methods_of
    from metasiam.runs import open_run

    runs = methods_of(open_run(path) for path in paths)
    first = next(iter(runs.values()))[0]
    folder = _new_folder(out, None, overwrite=overwrite)
    source = data.with_run(first)
    with lines(console) as shown:
        domains, split = source.load(shown)
        comparison = compare(runs, domains, split, settings, device=device, listener=shown)
        written = write(folder, comparison, runs, domains)
    render(console, comparison, written)


def _new_folder(out: Path | None, preset: str | None, *, overwrite: bool) -> Path:
    from datetime import datetime

    from metasiam.runs import CONFIG_FILE, check_out

    folder = out if out is not None else Path("runs") / f"{preset or 'compare'}-{datetime.now():%Y%m%d-%H%M%S}"
    if folder.is_dir() and (folder / _PLAN_FILE).is_file() and not overwrite:
        raise MetaSiamError(
            f"{folder} holds a comparison. Use --resume {shlex.quote(str(folder))} to resume it, --overwrite to "
            "start over, or another --out."
        )
    if not any((folder / name).is_file() for name in (_PLAN_FILE, _RESULT_FILE)):
        if (folder / CONFIG_FILE).is_file():
            raise MetaSiamError(f"{folder} holds a run, not a comparison. Choose another --out.")
        there = [name for name in (*_FILES, "figures") if (folder / name).exists()]
        if there and overwrite:
            raise MetaSiamError(
                f"{folder} holds {', '.join(there)} but no comparison, and --overwrite replaces comparisons only. "
                "Choose another --out."
            )
    elif not overwrite:
        raise MetaSiamError(f"{folder} holds a comparison. Use --overwrite to replace it, or another --out.")
    check_out(folder, overwrite=overwrite)
    return folder


def _new_plan(
    methods: list[str],
    given: dict[str, Any],
    settings: list[str],
    preset: str | None,
    data: DataOptions,
    budget_images: int | None,
    budget_minutes: float | None,
) -> dict[str, Any]:
    """Return what will be trained, as it is saved: each method's options, the data, the budget."""
    from metasiam.config import config_from, value_of
    from metasiam.learners import config_class
    from metasiam.presets import check_start, preset_options
    from metasiam.session import arch_of

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
        config_class(method)
        options[method] = preset_options(preset, method)[1] | given
    for text in settings:
        method, name, word = _parse_setting(text, methods)
        options[method][name] = value_of(config_class(method), name, word, f"--set {text}")
    for method in methods:
        if options[method].get("init") is not None and "arch" not in options[method]:
            options[method]["arch"] = arch_of(options[method]["init"])
        config_from(config_class(method), options[method])
        check_start(preset, method, options[method])
    chosen = data.with_defaults(preset_options(preset, methods[0])[0])
    return {
        "methods": options,
        "data": chosen.saved(),
        "budget": o.given(images=budget_images, minutes=budget_minutes),
    }


def _parse_setting(text: str, methods: list[str]) -> tuple[str, str, str]:
    name, _, value = text.partition("=")
    method, _, option = name.strip().partition(".")
    if not value or not option or method not in methods:
        raise MetaSiamError(f"--set {text} is not METHOD.OPTION=VALUE with one of the methods {', '.join(methods)}.")
    return method, option.replace("-", "_"), value.strip()


def _parse_seeds(text: str | None, settings: ProtocolSettings) -> list[int] | None:
    """Return the seeds of ``--seeds``; None where it was not given."""
    from metasiam.cli.evaluating import parse_counts
    from metasiam.evaluation.trainings import check_poolable

    if text is None:
        return None
    seeds = parse_counts("--seeds", text, "0,1,2")
    if len(set(seeds)) < len(seeds):
        raise MetaSiamError(
            f"--seeds {text} names a seed twice. Use different seeds: the same training again adds nothing."
        )
    if len(seeds) > 1:
        check_poolable(settings)
    return list(seeds)


def _saved_plan(folder: Path) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = parse_json(read_text(folder / _PLAN_FILE))
        check(plan, COMPARISON)
    except (OSError, ValueError) as error:
        raise MetaSiamError(
            f"{folder} does not contain a comparison to resume. Start one with --out {shlex.quote(str(folder))}."
        ) from error
    return plan


def _train_and_compare(
    plan: dict[str, Any], folder: Path, settings: ProtocolSettings, shown: Lines, *, overwrite: bool
) -> tuple[Comparison, dict[str, list[Run]], list[Path]]:
    from metasiam.cli.training import DataOptions, check_place
    from metasiam.comparison import compare, options_for_budget
    from metasiam.evaluation.draws import draw_protocol
    from metasiam.locking import run_held
    from metasiam.session import check_trainable

    data = DataOptions.from_stored(plan["data"])
    domains, split = data.load(shown)
    # Before hours of training: something may not fit the data.
    draws = draw_protocol(domains, split, settings)
    for name, options in plan["methods"].items():
        check_trainable(name, domains, split, **options)
    budget = dict(plan["budget"])
    if "minutes" in budget and "images" not in budget:
        budget["images"] = _images_in(budget["minutes"], plan["methods"], domains, split, shown)
        shown.say(f"{budget['minutes']:g} minutes are about {budget['images']:,} images here")
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
    from metasiam.runs import write_text

    if overwrite:
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
    write_text(folder / _PLAN_FILE, json.dumps(plan, indent=1) + "\n")


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
    from metasiam.comparison import images_in
    from metasiam.config import config_from
    from metasiam.learners import config_class

    first = {config_from(config_class(name), options).arch: name for name, options in reversed(methods.items())}
    return min(images_in(minutes, name, methods[name], domains, split, shown) for name in first.values())
