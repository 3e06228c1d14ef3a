"""A training from its options to its report: planned before anything is loaded, resumed from what a run says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metasiam.errors import MetaSiamError
from metasiam.methods import options_class
from metasiam.options.data import DataOptions, saved
from metasiam.options.evaluation import ProtocolSettings, settings_from
from metasiam.options.flags import given_of, refuse
from metasiam.options.presets import check_start, preset_options
from metasiam.options.run import RunOptions
from metasiam.options.training import options_of
from metasiam.progress import Listener
from metasiam.runs import CHECKPOINT_FILE, EMBEDDER_FILE, RUN, Run, check_new, holds, open_run
from metasiam.runs.locks import run_held
from metasiam.workflows.data import data_of_run, load

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet
    from metasiam.data.splitting import Split
    from metasiam.evaluation.result import Evaluation


class NotMeasured(KeyboardInterrupt):
    """Ctrl-C came when a training was finished and saved, and not all is measured yet.

    Attributes:
        path: the folder that says how to go on.
    """

    def __init__(self, path: Path, said: str = "") -> None:
        super().__init__(said or f"trained and saved in {path}, not measured yet")
        self.path = path


@dataclass(frozen=True)
class TrainingPlan:
    """What will be trained, on what, and how it will be measured.

    Attributes:
        method: its name.
        options: of the method; where a run is resumed, those that were given again.
        data: how they are loaded.
        settings: of the evaluation at the end.
        run: where it goes.
    """

    method: str
    options: Mapping[str, Any]
    data: DataOptions
    settings: ProtocolSettings
    run: RunOptions


@dataclass(frozen=True, eq=False)
class Trained:
    """A run that was trained and measured.

    Attributes:
        run: its folder.
        evaluation: what was found.
        written: the files of the evaluation.
    """

    run: Run
    evaluation: Evaluation
    written: list[Path]


def plan_training(
    method: str, given: Mapping[str, Any], data: DataOptions, run: RunOptions, protocol: Mapping[str, Any]
) -> TrainingPlan:
    """Return what options ask for, a preset filled in; nothing is loaded yet.

    Args:
        method: its name.
        given: options of the method that were given.
        data: of the data.
        run: where it goes, the preset, or what is resumed.
        protocol: options of the evaluation that were given.

    Raises:
        MetaSiamError: for options that do not fit, or a folder that must not be written.
    """
    if run.resume is not None:
        return _resumed(method, given, data, run, protocol)
    preset_data, preset_method = preset_options(run.preset, method)
    options, data = preset_method | dict(given), data.with_defaults(preset_data)
    if "epochs" in given:  # a preset's iterations give way
        if "iterations" in given:
            raise MetaSiamError("--epochs and --iterations both set the length. Use one of them.")
        options["iterations"] = None
    check_start(run.preset, method, options)
    init = options_of(options_class(method), options).init  # said now, not when the data are loaded
    settings = settings_from(protocol, preset=run.preset, seed=given.get("seed"))
    if run.out is not None:
        check_new(RUN, run.out, overwrite=run.overwrite)
    if init is not None and "arch" not in options:
        from metasiam.session import arch_of

        options["arch"] = arch_of(init)
    return TrainingPlan(method, options, _sized(data, str(options.get("arch", ""))), settings, run)


def _sized(data: DataOptions, arch: str) -> DataOptions:
    """Return data options with the size that an embedder brings images to, for people's own pictures of no size."""
    if data.image_size is not None or not str(data.data).startswith(("folder:", "lfw")) or not arch:
        return data
    from metasiam.models import size_of

    return replace(data, image_size=size_of(arch))


def _resumed(
    method: str, given: Mapping[str, Any], data: DataOptions, run: RunOptions, protocol: Mapping[str, Any]
) -> TrainingPlan:
    """Return what a run says it is; only where its images lie, and how it is measured, may have changed."""
    refused = given_of(preset=run.preset, out=run.out, overwrite=run.overwrite or None) | data.given()
    for where in ("data", "data_dir"):  # their images must be the run's
        refused.pop(where, None)
    refuse(refused, "--resume takes the split and the options of the run")
    assert run.resume is not None
    earlier = open_run(run.resume)
    earlier.check_method(method)
    stored = replace(data_of_run(earlier), **given_of(data=data.data, data_dir=data.data_dir))
    measured = earlier.config.get("evaluation") or {"seed": earlier.config["options"].get("seed", 0)}
    settings = settings_from(protocol, earlier=measured, seed=given.get("seed"))
    return TrainingPlan(method, dict(given), stored, settings, run)


def carry_out(plan: TrainingPlan, listener: Listener) -> Trained | None:
    """Load the data, train, measure, and write the report; None in all processes of a training but the first.

    Raises:
        MetaSiamError: for data or files that do not work; nothing is overwritten then.
        TrainingStopped: when the user pressed Ctrl-C; everything is saved.
        NotMeasured: when they did so after the training.
    """
    from metasiam.evaluation.draws import draw_protocol
    from metasiam.session import train
    from metasiam.workflows.measure import evaluate_run, write_evaluation

    run = plan.run
    domains, split = load(plan.data, listener)
    draws = draw_protocol(domains, split, plan.settings)  # before hours of training: it may not fit the data
    trained = train(
        plan.method,
        domains,
        split,
        out=run.out,
        resume=run.resume,
        overwrite=run.overwrite,
        checkpoint_every=run.checkpoint_every,
        listener=listener,
        data_options=saved(plan.data),
        evaluation=plan.settings,
        **plan.options,
    )
    if not is_first_process():
        return None
    try:
        with run_held(trained.path):  # nobody else starts over while this one is measured
            evaluation = evaluate_run(trained, domains, split, plan.settings, draws, listener)
            return Trained(trained, evaluation, write_evaluation(trained, evaluation, domains))
    except KeyboardInterrupt as stopped:
        raise NotMeasured(trained.path) from stopped


def is_first_process() -> bool:
    """Tell whether this is the process of a training that speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def check_place(
    method: str, options: Mapping[str, Any], path: Path, domains: DomainSet, split: Split, *, overwrite: bool
) -> None:
    """Raise if a method cannot be trained into a folder, nor resumed or taken from there; changes nothing.

    Raises:
        MetaSiamError: if another run, somebody's files or a process at work is there.
    """
    from metasiam.trained_on import check_trained_so

    if holds(RUN, path) and not overwrite:
        check_trained_so(open_run(path), method, dict(options), domains, split)
    check_new(RUN, path, overwrite=True)


def train_or_take(
    method: str,
    options: Mapping[str, Any],
    path: Path,
    domains: DomainSet,
    split: Split,
    *,
    data: DataOptions,
    overwrite: bool,
    listener: Listener,
) -> Run:
    """Train a method into a folder, resume what is there, or take it as it is when it is finished.

    Args:
        method: what to train.
        options: of the method.
        path: its folder.
        domains: the data.
        split: of the domains.
        data: how they were loaded.
        overwrite: start over whatever is there.
        listener: told how far it is.

    Raises:
        MetaSiamError: if another run is there.
        TrainingStopped: when the user pressed Ctrl-C; everything is saved.
    """
    from metasiam.session import train

    check_place(method, options, path, domains, split, overwrite=overwrite)
    if (path / EMBEDDER_FILE).is_file() and not overwrite:
        listener.note(f"{path} is finished: used as it is")
        return open_run(path)
    begun = (path / CHECKPOINT_FILE).is_file() and not overwrite
    return train(
        method,
        domains,
        split,
        out=path,
        resume=path if begun else None,
        overwrite=True,
        listener=listener,
        data_options=saved(data),
        **({} if begun else options),
    )
