"""What every training command does: load, say what will happen, train, evaluate, write."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from metasiam.cli.next_steps import YOUR_OWN, recognise, say_next
from metasiam.cli.progress import Lines, in_words, lines
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError
from metasiam.options.data import DataOptions
from metasiam.options.evaluation import settings_from
from metasiam.options.flags import given_of, refuse
from metasiam.options.presets import check_start, preset_options
from metasiam.options.run import RunOptions
from metasiam.progress import Listener, Progress, Relay
from metasiam.workflows.data import data_of_run, load, saved

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet, Split
    from metasiam.options.evaluation import ProtocolSettings
    from metasiam.runs import Run

#: A CPU run that needs longer than this is told what an hour would do instead.
_LONG = 2 * 3600.0


def run_training(
    method: str, given: dict[str, Any], data: DataOptions, run: RunOptions, protocol: dict[str, Any]
) -> None:
    """Train with a method, evaluate, print the per-task table, and say what was written."""
    from metasiam.cli.evaluating import evaluate_run, print_evaluation, write_evaluation
    from metasiam.evaluation.draws import draw_protocol
    from metasiam.methods import options_class
    from metasiam.options.training import options_of
    from metasiam.runs import RUN, check_new
    from metasiam.runs.locks import run_held
    from metasiam.session import TrainingStopped, arch_of, train

    console = terminal()
    preset_data, preset_method = preset_options(run.preset, method)
    if run.resume is not None:
        options, data, settings = dict(given), *_resumed(method, run, given, data, protocol)
    else:
        options, data = preset_method | given, data.with_defaults(preset_data)
        if "epochs" in given:  # a preset's iterations give way
            if "iterations" in given:
                raise MetaSiamError("--epochs and --iterations both set the length. Use one of them.")
            options["iterations"] = None
        check_start(run.preset, method, options)
        init = options_of(options_class(method), options).init  # said now, not when the data are loaded
        if init is not None and "arch" not in options:
            options["arch"] = arch_of(init)
        data = sized(data, str(options.get("arch", "")))
        settings = settings_from(protocol, preset=run.preset, seed=given.get("seed"))
        if run.out is not None:
            check_new(RUN, run.out, overwrite=run.overwrite)
    speaks = _is_first_process()
    with lines(console if speaks else terminal(quiet=True)) as shown:
        domains, split = load(data, shown)
        draws = draw_protocol(domains, split, settings)  # before hours of training: it may not fit the data
        try:
            trained = train(
                method,
                domains,
                split,
                out=run.out,
                resume=run.resume,
                overwrite=run.overwrite,
                checkpoint_every=run.checkpoint_every,
                listener=Talk(shown),
                data_options=saved(data),
                evaluation=settings,
                **options,
            )
        except TrainingStopped as stopped:
            shown.say(
                f"saved at iteration {stopped.iteration} in {stopped.run.path}\n"
                f"next: metasiam {method} --resume {shlex.quote(str(stopped.run.path))}"
            )
            raise typer.Exit(130) from stopped
        if not speaks:
            return
        try:
            with run_held(trained.path):  # nobody else starts over while this one is measured
                evaluation = evaluate_run(trained, domains, split, settings, draws, shown)
                written = write_evaluation(trained, evaluation, domains)
        except KeyboardInterrupt:
            again = f"metasiam {method} --resume {shlex.quote(str(trained.path))}"
            shown.say(f"trained and saved in {trained.path}, not measured yet\nnext: {again}")
            raise
    print_evaluation(console, evaluation, method, written)
    say_next(console, recognise(trained.path, data.data), YOUR_OWN)


def sized(data: DataOptions, arch: str) -> DataOptions:
    """Return data options with the size that an embedder brings images to, for people's own pictures of no size."""
    from metasiam.models import size_of

    if data.image_size is not None or not str(data.data).startswith(("folder:", "lfw")) or not arch:
        return data
    return replace(data, image_size=size_of(arch))


def _resumed(
    method: str, run: RunOptions, given: dict[str, Any], data: DataOptions, protocol: dict[str, Any]
) -> tuple[DataOptions, ProtocolSettings]:
    """Return the data and the evaluation of the run to go on with; only where the data lie may have changed."""
    from metasiam.runs import open_run

    refused = given_of(preset=run.preset, out=run.out, overwrite=run.overwrite or None) | data.given()
    for where in ("data", "data_dir"):  # their images must be the run's
        refused.pop(where, None)
    refuse(refused, "--resume takes the split and the options of the run")
    assert run.resume is not None
    earlier = open_run(run.resume)
    earlier.check_method(method)
    stored = data_of_run(earlier)
    measured = earlier.config.get("evaluation") or {"seed": earlier.config["options"].get("seed", 0)}
    settings = settings_from(protocol, earlier=measured, seed=given.get("seed"))
    return replace(stored, **given_of(data=data.data, data_dir=data.data_dir)), settings


def check_place(
    method: str, options: dict[str, Any], path: Path, domains: DomainSet, split: Split, *, overwrite: bool
) -> None:
    """Raise if a method cannot be trained into a folder, nor gone on with or taken from there; changes nothing.

    Raises:
        MetaSiamError: if another run, somebody's files or a process at work is there.
    """
    from metasiam.runs import RUN, check_new, holds, open_run
    from metasiam.trained_on import check_trained_so

    if holds(RUN, path) and not overwrite:
        check_trained_so(open_run(path), method, options, domains, split)
    check_new(RUN, path, overwrite=True)


def train_or_take(
    method: str, options: dict[str, Any], path: Path, domains: DomainSet, split: Split, data: DataOptions, shown: Lines,
    *, overwrite: bool, again: str,
) -> Run:  # fmt: skip
    """Train a method into a folder, go on with what is there, or take it as it is when it is finished.

    Args:
        method: what to train.
        options: of the method.
        path: its folder.
        domains: the data.
        split: of the domains.
        data: how they were loaded.
        shown: where to say what happens.
        overwrite: start over whatever is there.
        again: the command that goes on after Ctrl-C.

    Raises:
        MetaSiamError: if another run is there.
    """
    from metasiam.runs import CHECKPOINT_FILE, EMBEDDER_FILE, open_run
    from metasiam.session import TrainingStopped, train

    check_place(method, options, path, domains, split, overwrite=overwrite)
    if (path / EMBEDDER_FILE).is_file() and not overwrite:
        shown.say(f"{path} is finished: used as it is")
        return open_run(path)
    begun = (path / CHECKPOINT_FILE).is_file() and not overwrite
    try:
        return train(
            method,
            domains,
            split,
            out=path,
            resume=path if begun else None,
            overwrite=True,
            listener=Talk(shown),
            data_options=saved(data),
            **({} if begun else options),
        )
    except TrainingStopped as stopped:
        shown.say(f"saved at iteration {stopped.iteration}\nnext: {again}")
        raise typer.Exit(130) from stopped


def _is_first_process() -> bool:
    import os

    return os.environ.get("RANK", "0") == "0"


class Talk(Relay):
    """Says, besides, what one could do in an hour where a run takes long."""

    def __init__(self, to: Listener) -> None:
        super().__init__(to)
        self._warned = False
        self._config: dict[str, Any] = {}

    def started(self, config: dict[str, Any]) -> None:
        self._config = config
        super().started(config)

    def training(self, progress: Progress) -> None:
        super().training(progress)
        left = progress.seconds_left
        if self._warned or left is None or left < _LONG or self._config["machine"]["device"] != "cpu":
            return
        self._warned = True
        per_iteration = left / (progress.total - progress.iteration)
        better = "metasiam triplet --preset best" if progress.what == "reptile" else "--preset best"
        self.note(
            f"on this CPU the whole run takes about {in_words(left)}; in an hour it would do "
            f"--iterations {max(int(3600 / per_iteration), 1)}, or try {better}. Ctrl-C saves, --resume continues."
        )
