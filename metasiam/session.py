"""Training and evaluation as one call each: options and data in, a run folder or an evaluation out."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metasiam import catalogue
from metasiam.arguments import checked
from metasiam.data.domains import DomainSet
from metasiam.data.pairs import PairSet
from metasiam.data.preparation import Preparation
from metasiam.data.splitting import Split
from metasiam.errors import MetaSiamError, UnknownArchitectureError
from metasiam.evaluation.protocol import evaluate as evaluate_embedder
from metasiam.evaluation.result import Evaluation
from metasiam.learners.context import TrainingContext, prepare
from metasiam.measurable import embedder_of
from metasiam.methods import Method, find, give, options_class
from metasiam.models.files import load_embedder, save_embedder, stored_image_size
from metasiam.option_values import check_seconds
from metasiam.options.data import DataOptions
from metasiam.options.data import saved as saved_options
from metasiam.options.declare import known
from metasiam.options.evaluation import ProtocolSettings, Shots
from metasiam.options.presets import check_start, preset_options
from metasiam.options.training import TrainingOptions, options_of
from metasiam.own_parts import taken_apart
from metasiam.progress import SHOWN, SHOWN_OR_WARNED, SILENT, Listener, heard
from metasiam.runs import (
    CONFIG_FILE,
    EMBEDDER_FILE,
    RUN,
    Run,
    check_new,
    create_run,
    fresh_folder,
    open_run,
    run_behind,
)
from metasiam.runs.locks import run_held
from metasiam.trained_on import check_never_trained_on
from metasiam.training.distributed import Processes, join
from metasiam.training.learner import Learner
from metasiam.training.loop import TrainingLoop
from metasiam.training.machine import choose_device, describe_machine, tune_allocator
from metasiam.wording import counted

#: Sources of symbols: mirroring can turn one into another (И and N, b and d), so it is off unless asked for.
SYMBOLS = ("glyphs", "mnist", "omniglot", "omniglot-rotated")


class TrainingStopped(Exception):
    """The user stopped the training; the run folder holds everything needed to go on."""

    def __init__(self, run: Run, iteration: int) -> None:
        super().__init__(f"stopped at iteration {iteration}; continue with --resume {shlex.quote(str(run.path))}")
        self.run = run
        self.iteration = iteration


@checked
@heard
def evaluate(
    target: Run | nn.Module | str | Path,
    domains: DomainSet,
    split: Split,
    *,
    shots: tuple[Shots, ...] = (0, "all"),
    arch: str | nn.Module | Callable[[], nn.Module] | None = None,
    device: str = "auto",
    listener: Listener | None = SHOWN_OR_WARNED,
    **settings: Any,
) -> Evaluation:
    """Test a run, weights trained elsewhere, or one's own module, by the balanced protocol.

    Args:
        target: a run, its folder, a weights file; or any module that maps images to embeddings: ``Embedder`` says how
            it is fed, a bare one takes images as they are, normalised by the seen domains' statistics. The module
            itself is left as it is.
        domains: the data.
        split: seen, validation and held-out domains.
        shots: numbers of labelled images of each held-out domain to adapt with, each measured apart.
        arch: the embedder's name, for weights that do not say it; one's own module or what makes it, for its weights.
        device: where to compute.
        listener: told how far it is; by default a terminal or a notebook shows it; None is silent.
        settings: further fields of ``ProtocolSettings``.

    Raises:
        MetaSiamError: if the weights cannot be read, take images of another size or kind, or pictures cut otherwise
            than the data's files were, or are a run's that was trained on domains of other parts of the split, or a
            domain has too few images for what was asked.
    """
    chosen, listener = _settings(shots, settings), listener or SILENT
    catalogue.give(arch)
    if isinstance(target, nn.Module):
        embedder, info = embedder_of(target, domains, split)
        return evaluate_embedder(embedder.to(choose_device(device)), info, domains, split, chosen, listener=listener)
    weights = target.path if isinstance(target, Run) else Path(target)
    size = stored_image_size(weights)
    check_image_size(weights, size, domains, f"Load the data with image_size={size and size[0]}.")
    if arch is None and isinstance(target, Run) and target.own is not None:
        arch = target.own.arch
    how = {"arch": arch} if arch is None or isinstance(arch, str) else {"build": arch}
    embedder, info = load_embedder(weights, image_size=domains.image_size, listener=listener, **how)
    check_preparation(weights, info.preparation, domains)
    check_channels(weights, info.channels, domains)
    if (run := run_behind(weights)) is not None:
        check_never_trained_on(run, domains, split, listener)
    embedder = embedder.to(choose_device(device))
    return evaluate_embedder(embedder, info, domains, split, chosen, listener=listener)


def _settings(shots: tuple[Shots, ...], more: dict[str, Any]) -> ProtocolSettings:
    for name in more:
        known(ProtocolSettings, name, "evaluate")
    return ProtocolSettings(shots=shots, **more)


def check_channels(weights: Path, channels: int, domains: DomainSet) -> None:
    """Raise unless weights can take images of these channels: grey ones are shown in colour, coloured ones in grey.

    Raises:
        MetaSiamError: with both numbers.
    """
    if channels != domains.channels and not {channels, domains.channels} <= {1, 3}:
        raise MetaSiamError(
            f"{weights} takes images of {counted(channels, 'channel')}, {domains.source} has {domains.channels}. "
            "Use the kind of images it was trained on."
        )


def check_image_size(weights: Path, size: tuple[int, int] | None, domains: DomainSet, advice: str) -> None:
    """Raise unless images have the size that weights take; those that do not say one (None) take any.

    Raises:
        MetaSiamError: with both sizes and the advice.
    """
    if size is not None and size != domains.image_size:
        raise MetaSiamError(
            f"{weights} takes images of {size[1]}x{size[0]} pixels, {domains.source} has {domains.image_size[1]}x"
            f"{domains.image_size[0]} (width x height). {advice}"
        )


def check_preparation(weights: Path, how: Preparation, domains: DomainSet) -> None:
    """Raise if images were made from picture files without the cut that those had which weights were trained on.

    Raises:
        MetaSiamError: saying how both were, and how to load the data.
    """
    own = domains.preparation
    if own is not None and not how.done_to(own):
        raise MetaSiamError(
            f"{weights} was trained on {how.in_words()}, {domains.source} was loaded with {own.in_words()}. Load it "
            "with image_size=info.image_size and preparation=info.preparation, where info is what load_embedder "
            "returns."
        )


@dataclass(frozen=True)
class _Hooks:
    """The caller's part in a training."""

    checkpoint_every: float
    listener: Listener

    def loop(self, learner: Learner, run: Run, processes: Processes, objective: nn.Module) -> TrainingLoop:
        self.listener.started(run.config)
        return TrainingLoop(
            learner,
            run,
            processes,
            checkpoint_every=self.checkpoint_every,
            listener=self.listener,
            objective=objective,
        )


@checked
@heard
def train(
    method: str | Method,
    domains: DomainSet | PairSet,
    split: Split | None = None,
    *,
    preset: str | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    checkpoint_every: float = 60.0,
    listener: Listener | None = SHOWN,
    data_options: dict[str, Any] | None = None,
    evaluation: ProtocolSettings | None = None,
    **options: Any,
) -> Run:
    """Train an embedder and leave it in a run folder.

    Args:
        method: a name of ``metasiam.methods``, or a ``Method`` of your own.
        domains: the data; for a method of pairs (``siamese``) labelled pairs, which have parts of their own.
        split: which domains are trained on; of pairs none.
        preset: a whole group of options, as ``quick`` or ``best`` on the command line; those given here win over it.
        out: run folder; default ``runs/<method>-<time>``.
        resume: continue this run instead (exactly: the same weights as if it had never stopped); its saved
            options hold, and giving different ones is an error.
        overwrite: replace a run that is in ``out``.
        checkpoint_every: seconds between checkpoints.
        listener: told what starts, about once a second how far it is, and what is to be known; by default a terminal
            or a notebook shows it; None is silent.
        data_options: how the data was loaded, saved with the run so that ``--resume`` finds it again.
        evaluation: how the run will be measured, saved with it for the same reason.
        options: fields of the method's config (``metasiam.options``). ``arch`` and ``loss`` take objects too: a
            module, of which a copy is trained, or what makes one; and what is called as ``loss(embeddings, labels)``.
            A run keeps their names; to resume it, hand them over again.

    Raises:
        MetaSiamError: for options, data or files that do not work; nothing is overwritten then.
        TrainingStopped: when the user pressed Ctrl-C; everything is saved.
    """
    method = give(method)
    check_seconds(checkpoint_every)
    tune_allocator()
    if isinstance(domains, PairSet) or split is None:
        return _train_on_pairs(
            method, domains, split, preset, options, out=out, resume=resume, overwrite=overwrite,
            checkpoint_every=checkpoint_every, listener=listener, data_options=data_options,
        )  # fmt: skip
    hooks = _Hooks(checkpoint_every, listener := listener or SILENT)
    if resume is not None:
        return _resume(open_run(resume), method, domains, split, options, data_options, hooks)
    find(method)
    options, own = taken_apart(preset_options(preset, method)[1] | options)
    check_start(preset, method, options)
    config = _config_for(method, domains, split, options, listener)
    path = Path(out) if out is not None else fresh_folder(method)
    processes = join("cuda" if config.device in ("cuda", "auto") and torch.cuda.is_available() else "cpu")
    if processes.writes:
        check_new(RUN, path, overwrite=overwrite)
    context = prepare(config, domains, split, listener=listener, own=own)
    learner = find(method).learner(config, context, processes)
    saved = {
        "schema": 1,
        "options": config.as_dict(),
        "resolved": _resolved(context),
        "total_iterations": learner.total,
        "images_per_iteration": learner.images_per_iteration,
        "initial_images": _images_behind(config.init),
        "parameters": sum(p.numel() for p in context.embedder.parameters()),
        "data": {
            "source": domains.source,
            "options": data_options or _recipe(domains, split),
            "fingerprint": domains.fingerprint,
            "domains": len(domains.names),
            "seen_names": [domains.names[domain] for domain in split.seen],
            "images": len(domains.images),
            "channels": domains.channels,
            "image_size": list(domains.image_size),
            "preparation": None if domains.preparation is None else domains.preparation.as_dict(),
        },
        "split": split.as_dict(),
        **({"evaluation": evaluation.as_dict()} if evaluation is not None else {}),
        "machine": describe_machine(context.device),
        "processes": processes.count,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    with _held(path, processes):
        run = create_run(path, saved, overwrite=overwrite) if processes.writes else Run(path, saved)
        run = replace(run, own=own)
        processes.wait()  # nobody computes before the run folder is there
        return _train(hooks.loop(learner, run, processes, context.objective), context)


def check_trainable(method: str, domains: DomainSet, split: Split, **options: Any) -> None:
    """Raise where ``train`` would before its first iteration, because of options, data or this machine; writes nothing.

    Args:
        method: a name of ``metasiam.methods``.
        domains: the data.
        split: which domains are trained on.
        options: fields of the method's config.

    Raises:
        MetaSiamError: as ``train``.
    """
    config = _config_for(method, domains, split, options, SILENT)
    if config.compile == "auto" or choose_device(config.device).type == "cuda":  # else it would be timed, or compiled
        config = replace(config, compile="off")
    find(method).learner(config, prepare(config, domains, split), Processes())


def _config_for(
    method: str, domains: DomainSet, split: Split, options: dict[str, Any], listener: Listener
) -> TrainingOptions:
    """Return a method's options, with those decided that depend on the data or on the weights to start from."""
    config = options_of(options_class(method), options)
    if config.init is not None and "arch" not in options:
        config = replace(config, arch=arch_of(config.init))
    if (start := run_behind(config.init)) is not None:
        check_never_trained_on(start, domains, split, listener)
    if config.flip is None:
        config = replace(config, flip=domains.source.split(":")[0] not in SYMBOLS)
    return config


def _resume(
    run: Run,
    method: str,
    domains: DomainSet,
    split: Split,
    options: dict[str, Any],
    data_options: dict[str, Any] | None,
    hooks: _Hooks,
) -> Run:
    options, own = taken_apart(options)
    run = replace(run, own=own)
    saved = run.options_to_resume(method, options)
    if run.config["data"]["fingerprint"] != domains.fingerprint:
        raise MetaSiamError(
            f"{run.path} was trained on other images ({run.config['data']['images']:,}) than {domains.source} holds "
            f"now ({len(domains.images):,}). Restore them, or say where they are with --data."
        )
    if run.config["split"] != split.as_dict():
        raise MetaSiamError(f"{run.path} was trained with another split ({run.config['split']['name']}). Use that one.")
    config = options_of(options_class(method), saved)
    processes = join("cuda" if config.device in ("cuda", "auto") and torch.cuda.is_available() else "cpu")
    processes = replace(processes, planned=run.config["processes"])
    context = prepare(config, domains, split, resolved=run.config["resolved"], listener=hooks.listener, own=own)
    learner = find(method).learner(config, context, processes)
    loop = hooks.loop(learner, run, processes, context.objective)
    with _held(run.path, processes):
        run.check_unchanged()
        if data_options is not None and processes.writes:  # the images may have moved
            run.config["data"]["options"] = data_options
            run.write_json(CONFIG_FILE, run.config)
        loop.resume()
        processes.wait()  # nobody writes before all have read
        return _train(loop, context)


def _train_on_pairs(
    method: str,
    pairs: DomainSet | PairSet,
    split: Split | None,
    preset: str | None,
    options: dict[str, Any],
    **more: Any,
) -> Run:
    """Train a method of pairs, and measure it on the test pairs.

    Raises:
        MetaSiamError: if the method does not train on such data, or a split is given.
    """
    from metasiam.pair_session import train_pairs

    if not isinstance(pairs, PairSet):
        raise MetaSiamError(f"{method} needs a split of the domains. split_domains makes one.")
    find(method, "pairs")
    if split is not None:
        raise MetaSiamError("pairs have parts of their own. Omit split.")
    given = preset_options(preset, method)[1] | options if more["resume"] is None else options
    return train_pairs(pairs, **more, **given).run


def _recipe(domains: DomainSet, split: Split) -> dict[str, Any]:
    """Return how data and split were made by name, so that the command line can resume and measure the run."""
    if domains.recipe is None or split.recipe is None:
        return {}
    found = {**domains.recipe, **split.recipe}
    return saved_options(DataOptions(**found | ({"data_dir": Path(found["data_dir"])} if found["data_dir"] else {})))


def _held(path: Path, processes: Processes) -> AbstractContextManager[None]:
    return run_held(path) if processes.writes else nullcontext()


def _train(loop: TrainingLoop, context: TrainingContext) -> Run:
    run = loop.run
    if not loop.go():
        raise TrainingStopped(run, loop.iteration)
    loop.learner.finish()
    if loop.processes.writes:
        save_embedder(run.path / EMBEDDER_FILE, context.embedder, context.info)
    return run


def _resolved(context: TrainingContext) -> dict[str, Any]:
    precision = "bf16" if context.precision == torch.bfloat16 else "fp32"
    return {"precision": precision, "compiled": bool(context.compiled)}


def arch_of(init: str | Path) -> str:
    """Return the embedder's name of weights to start from.

    Raises:
        MetaSiamError: if they cannot be read or do not say it.
    """
    try:
        return load_embedder(init)[1].arch
    except UnknownArchitectureError as error:
        raise UnknownArchitectureError(f"--init {error}") from error


def _images_behind(init: str | None) -> int:
    """Return how many images the run to start from was trained on; 0 where that cannot be known."""
    start = run_behind(init)
    return start.images if start is not None else 0
