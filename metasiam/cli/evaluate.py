"""``metasiam evaluate``: test a run, or weights trained elsewhere, on domains never trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metasiam.cli.next_steps import YOUR_OWN, recognise, say_next
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError
from metasiam.options.data import DataOptions
from metasiam.options.evaluation import ProtocolSettings, settings_from
from metasiam.options.flags import Flags, given_of, takes
from metasiam.options.run import RunOptions
from metasiam.options.training import TrainingOptions
from metasiam.options.weights import WeightsOptions
from metasiam.wording import counted
from metasiam.workflows.data import load, with_run

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet
    from metasiam.models.files import EmbedderInfo
    from metasiam.runs import Run


@takes(
    Flags(WeightsOptions, "given"),
    Flags(
        DataOptions,
        "data",
        defaults={
            "data": "the run's; of other weights glyphs",
            "held_out": "the run's, or the data's own split, else 10",
        },
    ),
    Flags(ProtocolSettings, "protocol", without=("seed",)),
    Flags(
        RunOptions,
        "run",
        only=("out", "overwrite"),
        defaults={"out": "the run; for weights or other data runs/evaluate-<time>"},
        more={"out": {"help": "Folder of the report."}, "overwrite": {"help": "Replace an earlier evaluation there."}},
    ),
    Flags(TrainingOptions, "machine", only=("seed", "device"), more={"seed": {"help": "Of every draw."}}),
)
def command(
    given: dict[str, Any],
    data: dict[str, Any],
    protocol: dict[str, Any],
    run: dict[str, Any],
    machine: dict[str, Any],
    weights: Annotated[Path, typer.Argument(help="Run folder, .safetensors, or a PyTorch state dict (.pt).")],
) -> None:
    """Test an embedder on classes it never saw: per-class table, calibrated thresholds, few-shot episodes.

    Images are cropped and resized as the training images were, if the weights say how; otherwise they keep their size.

    \b
    Examples:
      metasiam evaluate runs/mine
      metasiam evaluate classic-90-10.pt --arch resnet56 --data cifar100 --held-out 10
    """
    from metasiam.cli.evaluating import print_evaluation, write_evaluation
    from metasiam.cli.progress import Lines, lines
    from metasiam.data.preparation import UNSAID
    from metasiam.evaluation.protocol import evaluate
    from metasiam.models.files import load_embedder, stored_image_size
    from metasiam.runs import CONFIG_FILE, Run, open_run, run_behind
    from metasiam.trained_on import check_never_trained_on
    from metasiam.training.machine import choose_device

    console = terminal()
    settings = settings_from(protocol, seed=machine.get("seed"))
    chosen, where = DataOptions(**data), RunOptions(**run)
    arch, image_size = given.pop("arch", None), data.get("image_size")
    overrides = given | given_of(image_size=None if image_size is None else (image_size, image_size))
    embedder, info = load_embedder(weights, arch=arch, listener=Lines(console), **overrides)
    taken = stored_image_size(weights) if image_size is None else info.image_size
    is_run = weights.is_dir() and (weights / CONFIG_FILE).is_file()
    options = with_run(chosen, open_run(weights)) if is_run else chosen.with_defaults({})
    # The run's own data are loaded as they were for the training.
    shown_to = None if is_run and chosen.data is None else info
    if shown_to is not None and taken is not None and (taken[0] == taken[1] or info.preparation != UNSAID):
        options = replace(options, image_size=taken)
    folder = None  # where somebody chose the data: of its own unless they are the run's
    if not is_run or chosen.data is None or where.out is not None:
        folder = _folder(weights, where.out, is_run=is_run, overwrite=where.overwrite)
    with lines(console) as shown:
        domains, parts = load(options, shown, shown_to)
        if shown_to is not None and domains.preparation is not None and info.preparation.changes:
            shown.note(f"{weights} was trained on {info.preparation.in_words()}: {options.data} is prepared alike")
        if is_run:
            its_own = _are_its_own(open_run(weights), domains, chosen=chosen.data is not None)
            folder = folder or _folder(weights, None, is_run=its_own, overwrite=where.overwrite)
        if (trained := run_behind(weights)) is not None:
            check_never_trained_on(trained, domains, parts, shown)
        assert folder is not None
        _check_images(weights, info, taken, domains)
        if domains.channels < info.channels:
            shown.note(f"{weights} takes colour images: grey ones are repeated in {info.channels} channels")
        elif domains.channels > info.channels:
            shown.note(f"{weights} takes grey images only: colour images are converted to grey")
        if domains.image_size != info.image_size:  # of weights that do not say the size
            embedder, info = load_embedder(
                weights, arch=arch, listener=None, image_size=domains.image_size, **overrides
            )
        embedder = embedder.to(choose_device(machine.get("device", "auto")))
        evaluation = evaluate(embedder, info, domains, parts, settings, listener=shown)
        measured = evaluation.data.get("held_out", {}).get("episodes", {})
        for ways, shots in settings.episode_kinds if "episode_kinds" in protocol else ():
            if f"{ways}-way {shots}-shot" not in measured:
                shown.note(
                    f"{ways}-way {shots}-shot episodes are left out: they need "
                    f"{counted(ways, 'held-out domain')} with {counted(shots + 1, 'test image')} or more"
                )
    config = open_run(weights).config if is_run else {"options": {"method": weights.stem}}
    folder.mkdir(parents=True, exist_ok=True)
    measured_run = Run(folder, config)
    written = write_evaluation(measured_run, evaluation, domains)
    print_evaluation(console, evaluation, measured_run.method, written)
    if not given:  # enroll takes weights as they are
        say_next(console, recognise(weights, options.data, arch), YOUR_OWN)


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
    if is_run and folder.resolve() == weights.resolve():
        check_measured(folder, overwrite=overwrite)
    else:
        check_new(EVALUATION, folder, overwrite=overwrite)
    return folder
