"""``metasiam evaluate``: test a run, or weights trained elsewhere, on domains never trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metasiam.cli import options as o
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet
    from metasiam.models.files import EmbedderInfo
    from metasiam.runs import Run

#: What an evaluation writes into its folder; ``figures/loss.svg`` too where there is a history.
_FILES = ("evaluation.json", "tasks.csv", "report.html")


def command(
    weights: Annotated[Path, typer.Argument(help="Run folder, .safetensors, or a PyTorch state dict (.pt).")],
    arch: Annotated[str | None, typer.Option("--arch", help="Architecture, for weights that do not say it.")] = None,
    distance: Annotated[
        str | None,
        typer.Option("--distance", help="cosine or squared_euclidean.", show_default="as trained, else cosine"),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            "--mean", help="Normalisation per channel, e.g. 0.49,0.48,0.45.", show_default="as trained, else CIFAR-10's"
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", help="Likewise.", show_default="as trained, else CIFAR-10's")
    ] = None,
    data: o.Data = None,
    data_dir: o.DataDir = None,
    image_size: o.ImageSize = None,
    skip_unreadable: o.SkipUnreadable = False,
    held_out: o.HeldOut = None,
    split: o.SplitName = None,
    validation: o.Validation = None,
    protocol: o.Protocol = None,
    pairs: o.Pairs = None,
    adapt_shots: o.AdaptShots = None,
    adapt_steps: o.AdaptSteps = None,
    curve_steps: o.CurveSteps = None,
    threshold: o.Threshold = None,
    mirror: o.Mirror = False,
    inference: o.Inference = None,
    episodes: o.Episodes = None,
    seed: o.Seed = None,
    device: o.Device = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for the report.",
            show_default="the run; for weights or other data runs/evaluate-<time>",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier evaluation there.")] = False,
) -> None:
    """Test an embedder on classes it never saw: per-class table, calibrated thresholds, few-shot episodes.

    Images are cropped and resized as the training images were, if the weights say how; otherwise they keep their size.

    Example: [bold]metasiam evaluate classic-90-10.pt --arch resnet56 --data cifar100 --held-out 10[/bold]
    """
    from metasiam.cli.evaluating import more_settings, print_evaluation, settings_from, write_evaluation
    from metasiam.cli.progress import Lines, lines
    from metasiam.cli.training import DataOptions, RunOptions
    from metasiam.data.preparation import UNSAID
    from metasiam.evaluation.protocol import evaluate
    from metasiam.models.files import load_embedder, stored_image_size
    from metasiam.runs import CONFIG_FILE, Run, open_run, run_behind
    from metasiam.trained_on import check_never_trained_on
    from metasiam.training.machine import choose_device

    console = terminal()
    settings = settings_from(
        RunOptions(None, None, overwrite, 60.0, None, pairs, adapt_shots, adapt_steps, curve_steps),
        seed,
        threshold=threshold,
        mirror=mirror,
        **more_settings(protocol, inference, episodes),
    )
    overrides: dict[str, Any] = o.given(
        distance=_known_distance(distance),
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        image_size=None if image_size is None else (image_size, image_size),
    )
    embedder, info = load_embedder(weights, arch=arch, listener=Lines(console), **overrides)
    taken = stored_image_size(weights) if image_size is None else info.image_size
    given = DataOptions(data, data_dir, image_size, skip_unreadable, held_out, split, validation)
    is_run = weights.is_dir() and (weights / CONFIG_FILE).is_file()
    options = given.with_run(open_run(weights)) if is_run else given.with_defaults({})
    # The run's own data are loaded as they were for the training.
    shown_to = None if is_run and data is None else info
    if shown_to is not None and taken is not None and (taken[0] == taken[1] or info.preparation != UNSAID):
        options = replace(options, image_size=taken)
    folder = None  # where somebody chose the data: of its own unless they are the run's
    if not is_run or data is None or out is not None:
        folder = _folder(weights, out, is_run=is_run, overwrite=overwrite)
    with lines(console) as shown:
        domains, parts = options.load(shown, shown_to)
        if shown_to is not None and domains.preparation is not None and info.preparation.changes:
            shown.note(f"{weights} was trained on {info.preparation.in_words()}: {options.data} is prepared alike")
        if is_run:
            its_own = _are_its_own(open_run(weights), domains, chosen=data is not None)
            folder = folder or _folder(weights, None, is_run=its_own, overwrite=overwrite)
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
        embedder = embedder.to(choose_device(device or "auto"))
        evaluation = evaluate(embedder, info, domains, parts, settings, listener=shown)
        measured = evaluation.data.get("held_out", {}).get("episodes", {})
        for ways, shots in settings.episode_kinds if episodes is not None else ():
            if f"{ways}-way {shots}-shot" not in measured:
                shown.note(
                    f"{ways}-way {shots}-shot episodes are left out: they need {ways} held-out domains with at "
                    f"least {shots + 1} test images each"
                )
    config = open_run(weights).config if is_run else {"options": {"method": weights.stem}}
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, config)
    print_evaluation(console, evaluation, run.method, write_evaluation(run, evaluation, domains))


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
    from datetime import datetime

    from metasiam.runs import CONFIG_FILE, METRICS_FILE, check_writable

    folder = (
        out if out is not None else weights if is_run else Path("runs") / f"evaluate-{datetime.now():%Y%m%d-%H%M%S}"
    )
    check_writable(folder)
    if not (is_run and folder.resolve() == weights.resolve()) and (folder / CONFIG_FILE).is_file():
        raise MetaSiamError(f"{folder} holds a run of its own. Choose another --out.")
    names = (*_FILES, "figures/loss.svg") if (folder / METRICS_FILE).is_file() else _FILES
    there = [name for name in names if (folder / name).exists()]
    if there and not overwrite:
        what = "an evaluation" if "evaluation.json" in there else " and ".join(there)
        again = "it" if len(there) == 1 or "evaluation.json" in there else "them"
        raise MetaSiamError(f"{folder} holds {what}. Use --overwrite to replace {again}, or another --out.")
    return folder


def _known_distance(distance: str | None) -> str | None:
    if distance not in (None, "cosine", "squared_euclidean"):
        raise MetaSiamError(f"--distance {distance} is unknown. Use cosine or squared_euclidean.")
    return distance


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise MetaSiamError(f"{option} {text} is not a list of numbers. Use e.g. 0.49,0.48,0.45.") from error
