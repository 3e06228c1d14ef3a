"""An evaluation of a run, or of weights trained elsewhere, from its options to its report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metasiam.errors import MetaSiamError
from metasiam.options.data import DataOptions
from metasiam.options.evaluation import ProtocolSettings
from metasiam.options.flags import given_of
from metasiam.options.paths import check_weights
from metasiam.options.run import RunOptions
from metasiam.progress import Listener
from metasiam.runs import CONFIG_FILE, Run, open_run, run_behind
from metasiam.wording import counted
from metasiam.workflows.data import load, with_run
from metasiam.workflows.measure import write_evaluation

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet
    from metasiam.evaluation.result import Evaluation
    from metasiam.models.files import EmbedderInfo


@dataclass(frozen=True, eq=False)
class Measured:
    """Weights that were measured.

    Attributes:
        run: the folder of the report.
        evaluation: what was found.
        written: the files of the report.
        data: what they were measured on, as ``--data`` takes it.
    """

    run: Run
    evaluation: Evaluation
    written: list[Path]
    data: str | None


def evaluate_weights(
    weights: Path,
    data: DataOptions,
    settings: ProtocolSettings,
    run: RunOptions,
    listener: Listener,
    *,
    arch: str | None = None,
    said: Mapping[str, Any] | None = None,
    asked_kinds: Sequence[tuple[int, int]] = (),
    device: str = "auto",
) -> Measured:
    """Measure weights on domains never trained on, and write the report.

    Args:
        weights: a run folder, or a file.
        data: of the data; of a run, what was not given is the run's.
        settings: what to measure.
        run: where the report goes.
        listener: told how far it is, and of what somebody should know.
        arch: the embedder, for weights that do not say it.
        said: distance, mean and std, for weights that do not say them.
        asked_kinds: episodes that somebody asked for: told where there are too few domains for them.
        device: where to compute.

    Raises:
        MetaSiamError: for weights or data that do not fit, or a folder that must not be written.
    """
    check_weights(weights)
    is_run = weights.is_dir() and (weights / CONFIG_FILE).is_file()
    folder = None  # where somebody chose the data: of its own unless they are the run's
    if not is_run or data.data is None or run.out is not None:
        folder = _folder(weights, run.out, is_run=is_run, overwrite=run.overwrite)
    # torch only now, when what was given can work.
    from metasiam.data.preparation import UNSAID
    from metasiam.evaluation.protocol import evaluate
    from metasiam.models.files import load_embedder, stored_image_size
    from metasiam.trained_on import check_never_trained_on
    from metasiam.training.machine import choose_device

    size = data.image_size
    overrides = dict(said or {}) | given_of(image_size=(size, size) if isinstance(size, int) else size)
    embedder, info = load_embedder(weights, arch=arch, listener=listener, **overrides)
    taken = stored_image_size(weights) if size is None else info.image_size
    loaded = with_run(data, open_run(weights)) if is_run else data.with_defaults({})
    # The run's own data are loaded as they were for the training.
    shown_to = None if is_run and data.data is None else info
    if shown_to is not None and taken is not None and (taken[0] == taken[1] or info.preparation != UNSAID):
        loaded = replace(loaded, image_size=taken)
    domains, parts = load(loaded, listener, shown_to)
    if shown_to is not None and domains.preparation is not None and info.preparation.changes:
        listener.note(f"{weights} was trained on {info.preparation.in_words()}: {loaded.data} is prepared alike")
    if is_run:
        its_own = _are_its_own(open_run(weights), domains, chosen=data.data is not None)
        folder = folder or _folder(weights, None, is_run=its_own, overwrite=run.overwrite)
    if (trained := run_behind(weights)) is not None:
        check_never_trained_on(trained, domains, parts, listener)
    assert folder is not None
    _check_images(weights, info, taken, domains)
    if domains.channels < info.channels:
        listener.note(f"{weights} takes colour images: grey ones are repeated in {info.channels} channels")
    elif domains.channels > info.channels:
        listener.note(f"{weights} takes grey images only: colour images are converted to grey")
    if domains.image_size != info.image_size:  # of weights that do not say the size
        embedder, info = load_embedder(weights, arch=arch, listener=None, image_size=domains.image_size, **overrides)
    embedder = embedder.to(choose_device(device))
    evaluation = evaluate(embedder, info, domains, parts, settings, listener=listener)
    measured = evaluation.data.get("held_out", {}).get("episodes", {})
    for ways, shots in asked_kinds:
        if f"{ways}-way {shots}-shot" not in measured:
            listener.note(
                f"{ways}-way {shots}-shot episodes are left out: they need "
                f"{counted(ways, 'held-out domain')} with {counted(shots + 1, 'test image')} or more"
            )
    config = open_run(weights).config if is_run else {"options": {"method": weights.stem}}
    folder.mkdir(parents=True, exist_ok=True)
    measured_run = Run(folder, config)
    return Measured(measured_run, evaluation, write_evaluation(measured_run, evaluation, domains), loaded.data)


def _are_its_own(run: Run, domains: DomainSet, *, chosen: bool) -> bool:
    """Tell whether images are those that a run was trained on; they must be unless somebody chose them.

    Raises:
        MetaSiamError: if they are others and nobody chose them.
    """
    stored = run.config["data"]
    if stored["fingerprint"] == domains.fingerprint:
        return True
    if not chosen and "split" in run.config:
        raise MetaSiamError(
            f"{domains.source} holds other images ({len(domains.images):,}) than {run.path} was trained on "
            f"({stored['images']:,}). Restore them, or pass --data to measure it on these images or others."
        )
    return False


def _check_images(weights: Path, info: EmbedderInfo, taken: tuple[int, int] | None, domains: DomainSet) -> None:
    from metasiam.session import check_channels, check_image_size

    check_channels(weights, info.channels, domains)
    check_image_size(weights, taken, domains, "Use the kind of images it was trained on, or pass --image-size.")


def _folder(weights: Path, out: Path | None, *, is_run: bool, overwrite: bool) -> Path:
    from metasiam.runs import EVALUATION, check_measured, check_new, fresh_folder

    folder = out or (weights if is_run else fresh_folder("evaluate"))
    if is_run and os.path.realpath(folder) == os.path.realpath(weights):  # Path.resolve fails on a link to itself
        check_measured(folder, overwrite=overwrite)
    else:
        check_new(EVALUATION, folder, overwrite=overwrite)
    return folder
