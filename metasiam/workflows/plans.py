"""A comparison from its options to its report: planned, saved, resumed, carried out."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metasiam import catalogue
from metasiam.errors import MetaSiamError
from metasiam.methods import options_class
from metasiam.options.budget import ComparisonOptions
from metasiam.options.data import DataOptions, saved
from metasiam.options.evaluation import ProtocolSettings, read_counts
from metasiam.options.flags import given_of
from metasiam.options.presets import check_start, preset_options
from metasiam.options.training import options_of, read_loss_options, value_of
from metasiam.progress import Listener
from metasiam.runs import COMPARISON, Run, clear, open_run, write_text
from metasiam.runs.locks import run_held
from metasiam.runs.reading import read_text
from metasiam.shapes import COMPARISON as SHAPE
from metasiam.shapes import check, parse_json
from metasiam.wording import counted
from metasiam.workflows.data import from_stored, load, with_run
from metasiam.workflows.train import NotMeasured, check_place, train_or_take

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet
    from metasiam.data.splitting import Split
    from metasiam.workflows.compare import Comparison


@dataclass(frozen=True, eq=False)
class Compared:
    """A comparison that was carried out.

    Attributes:
        comparison: what was found.
        runs: the trainings behind each name.
        written: the files of the report.
    """

    comparison: Comparison
    runs: dict[str, list[Run]]
    written: list[Path]


def plan_comparison(
    wanted: ComparisonOptions,
    given: Mapping[str, Any],
    data: DataOptions,
    settings: ProtocolSettings,
    preset: str | None = None,
) -> dict[str, Any]:
    """Return what will be trained, as ``comparison.json`` keeps it: each method's options, data, budget, seeds.

    Args:
        wanted: methods, their budget, their own options and seeds.
        given: options of all methods.
        data: of the data.
        settings: what will be measured.
        preset: a group of options that those given win over.

    Raises:
        MetaSiamError: for options that do not fit.
    """

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
        options[method] = preset_options(preset, method)[1] | dict(given)
    for text in wanted.settings or ():
        method, name, word = _parse_setting(text, methods)
        if name.startswith("loss."):
            more = read_loss_options(f"{name}={word}")
            options[method]["loss_options"] = {**options[method].get("loss_options", {}), **more}
            continue
        options[method][name] = value_of(options_class(method), name, word, f"--set {text}")
    for method in methods:
        if options[method].get("init") is not None and "arch" not in options[method]:
            from metasiam.session import arch_of

            options[method]["arch"] = arch_of(options[method]["init"])
        options_of(options_class(method), options[method])
        check_start(preset, method, options[method])
    chosen = data.with_defaults(preset_options(preset, methods[0])[0])
    return {
        "methods": options,
        "data": saved(chosen),
        "budget": given_of(images=budget_images, minutes=budget_minutes),
        "evaluation": settings.as_dict(),
        **given_of(seeds=_parse_seeds(wanted.seeds, settings)),
    }


def _parse_setting(text: str, methods: list[str]) -> tuple[str, str, str]:
    name, _, value = text.partition("=")
    method, _, option = name.strip().partition(".")
    if not value or not option or method not in methods:
        raise MetaSiamError(f"--set {text} is not METHOD.OPTION=VALUE with one of the methods {', '.join(methods)}.")
    return method, option.replace("-", "_"), value.strip()


def _parse_seeds(text: str | None, settings: ProtocolSettings) -> list[int] | None:
    """Return the seeds of ``--seeds``; None where it was not given."""
    if text is None:
        return None
    seeds = read_counts("--seeds", text, "0,1,2")
    if len(set(seeds)) < len(seeds):
        raise MetaSiamError(
            f"--seeds {text} names a seed twice. Use different seeds: the same training again adds nothing."
        )
    if len(seeds) > 1:
        from metasiam.evaluation.trainings import check_poolable

        check_poolable(settings)
    return list(seeds)


def saved_plan(folder: Path) -> dict[str, Any]:
    """Return the plan of a comparison that is resumed.

    Raises:
        MetaSiamError: if there is none, or a damaged one.
    """
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


def train_and_compare(
    plan: Mapping[str, Any], folder: Path, settings: ProtocolSettings, listener: Listener, *, overwrite: bool = False
) -> Compared:
    """Train what a plan names, or take what is finished, compare, and write the report.

    Args:
        plan: of ``plan_comparison`` or ``saved_plan``.
        folder: of the comparison.
        settings: what to measure.
        listener: told how far it is.
        overwrite: replace what is in the folder.

    Raises:
        MetaSiamError: for data or folders that do not fit; nothing is overwritten then.
        TrainingStopped: when the user pressed Ctrl-C; the same plan continues.
        NotMeasured: when they did so after the trainings.
    """
    from metasiam.evaluation.draws import draw_protocol
    from metasiam.session import check_trainable
    from metasiam.workflows.compare import compare, options_for_budget

    data = from_stored(plan["data"])
    domains, split = load(data, listener)
    # Before hours of training: something may not fit the data.
    draws = draw_protocol(domains, split, settings)
    for name, options in plan["methods"].items():
        check_trainable(name, domains, split, **options)
    budget = dict(plan["budget"])
    if "minutes" in budget and "images" not in budget:
        minutes = budget["minutes"]
        budget["images"] = _images_in(minutes, plan["methods"], domains, split, listener)
        listener.note(f"in {counted(f'{minutes:g}', 'minute')}: about {counted(budget['images'], 'image')} here")
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
    with run_held(folder):
        _write_plan(folder, {**plan, "budget": budget}, overwrite=overwrite)
        runs = {
            name: [
                train_or_take(name, options, path, domains, split, data=data, overwrite=overwrite, listener=listener)
                for path, options in trainings
            ]
            for name, trainings in places.items()
        }
        device = next(iter(methods.values())).get("device", "auto")
        try:
            comparison = compare(
                runs, domains, split, settings, draws=draws, budget=budget or None, device=device, listener=listener
            )
        except KeyboardInterrupt as stopped:
            raise NotMeasured(folder) from stopped
        return Compared(comparison, runs, write_comparison_of(folder, comparison, runs, domains))


def compare_runs(
    paths: Sequence[Path],
    data: DataOptions,
    settings: ProtocolSettings,
    folder: Path,
    listener: Listener,
    *,
    device: str = "auto",
) -> Compared:
    """Compare finished runs, those that differ only in their seed as trainings of one method, and write the report.

    Args:
        paths: their folders.
        data: the data; what was not given is the first run's.
        settings: what to measure.
        folder: of the report.
        listener: told how far it is.
        device: where to compute.

    Raises:
        MetaSiamError: if the runs do not belong together.
    """
    opened = [open_run(path) for path in paths]
    # torch only now, when what was given can work.
    from metasiam.grouping import methods_of
    from metasiam.workflows.compare import compare

    runs = methods_of(opened)
    domains, split = load(with_run(data, next(iter(runs.values()))[0]), listener)
    comparison = compare(runs, domains, split, settings, device=device, listener=listener)
    return Compared(comparison, runs, write_comparison_of(folder, comparison, runs, domains))


def _write_plan(folder: Path, plan: dict[str, Any], *, overwrite: bool) -> None:
    if overwrite:
        clear(COMPARISON, folder)
    write_text(folder / COMPARISON.markers[0], json.dumps(plan, indent=1) + "\n")


def _trainings(seeds: list[int] | None) -> list[tuple[str, dict[str, Any]]]:
    """Return what each training of a method adds to its folder's name and to its options."""
    return [("", {})] if seeds is None else [(f"-seed-{seed}", {"seed": seed}) for seed in seeds]


def _images_in(
    minutes: float, methods: dict[str, dict[str, Any]], domains: DomainSet, split: Split, listener: Listener
) -> int:
    """Return how many images the slowest of the methods' embedders gets through in so many minutes here."""
    from metasiam.workflows.compare import images_in

    first = {options_of(options_class(name), options).arch: name for name, options in reversed(methods.items())}
    return min(images_in(minutes, name, methods[name], domains, split, listener) for name in first.values())


def write_comparison_of(
    folder: Path, comparison: Comparison, runs: dict[str, list[Run]], domains: DomainSet
) -> list[Path]:
    """Write the report of a comparison, and each run's own evaluation next to its weights."""
    from metasiam.reports.extras import extras_of
    from metasiam.reports.files import write_comparison
    from metasiam.workflows.measure import write_evaluation

    histories = {name: history for name, listed in runs.items() if (history := listed[0].metrics())}
    extras = extras_of(comparison.evaluations, domains, histories=histories)
    for name, listed in runs.items():
        for run, evaluation in zip(listed, comparison.evaluations[name].each, strict=True):
            if run.path.parent == folder:
                write_evaluation(run, evaluation, domains)
    return write_comparison(folder, comparison.data, settings=comparison.settings, extras=extras)
