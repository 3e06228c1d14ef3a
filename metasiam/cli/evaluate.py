"""``metasiam evaluate``: test a run, or weights trained elsewhere, on domains never trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from metasiam.cli import options as o
from metasiam.errors import MetaSiamError


def command(
    weights: Annotated[Path, typer.Argument(help="Run folder, .safetensors, or a PyTorch state dict (.pt).")],
    arch: Annotated[str | None, typer.Option("--arch", help="Embedder, for weights that do not say it.")] = None,
    distance: Annotated[
        str | None,
        typer.Option("--distance", help="cosine or squared_euclidean.", show_default="as trained, else cosine"),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            "--mean", help="Normalisation per channel, e.g. 0.49,0.48,0.45.", show_default="as trained, else the seeds'"
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", help="Likewise.", show_default="as trained, else the seeds'")
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
        typer.Option("--out", help="Folder for the report.", show_default="the run; for weights runs/evaluate-<time>"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier evaluation there.")] = False,
) -> None:
    """Per-task table, calibrated thresholds and few-shot episodes of an embedder.

    Example: [bold]metasiam evaluate classic-90-10.pt --arch resnet56 --data cifar100 --held-out 10[/bold]
    """
    from metasiam.cli.evaluating import more_settings, print_evaluation, settings_from, write_evaluation
    from metasiam.cli.progress import lines
    from metasiam.cli.training import DataOptions, RunOptions
    from metasiam.evaluation.protocol import evaluate
    from metasiam.models.files import load_embedder
    from metasiam.runs import CONFIG_FILE, Run, open_run
    from metasiam.training.machine import choose_device

    console = Console()
    protocols = tuple(word.strip() for word in (protocol or "balanced").split(","))
    settings = settings_from(
        RunOptions(None, None, overwrite, 60.0, None, pairs, adapt_shots, adapt_steps, curve_steps),
        seed or 0,
        protocols=protocols,
        threshold=threshold,
        mirror=mirror,
        **more_settings(inference, episodes),
    )
    overrides: dict[str, Any] = o.given(
        distance=_known_distance(distance), mean=_numbers("--mean", mean), std=_numbers("--std", std)
    )
    embedder, info = load_embedder(weights, arch=arch, **overrides)
    given = DataOptions(data, data_dir, image_size, skip_unreadable, held_out, split, validation)
    is_run = weights.is_dir() and (weights / CONFIG_FILE).is_file()
    options = given.with_run(open_run(weights)) if is_run else given.with_defaults({})
    folder = _folder(weights, out, is_run=is_run, overwrite=overwrite)
    with lines(console) as shown:
        domains, parts = options.load(shown)
        if domains.channels != info.channels:
            raise MetaSiamError(
                f"{weights} takes images of {info.channels} channels, {domains.source} has {domains.channels}. "
                "Use the kind of images it was trained on."
            )
        embedder = embedder.to(choose_device(device or "auto"))
        evaluation = evaluate(embedder, info, domains, parts, settings, report=shown.update)
    config = open_run(weights).config if is_run else {"options": {"method": weights.stem}}
    folder.mkdir(parents=True, exist_ok=True)
    print_evaluation(console, evaluation, write_evaluation(Run(folder, config), evaluation, domains))


def _folder(weights: Path, out: Path | None, *, is_run: bool, overwrite: bool) -> Path:
    from datetime import datetime

    from metasiam.runs import check_writable

    folder = (
        out if out is not None else weights if is_run else Path("runs") / f"evaluate-{datetime.now():%Y%m%d-%H%M%S}"
    )
    check_writable(folder)
    if (folder / "evaluation.json").exists() and not overwrite:
        raise MetaSiamError(f"{folder} holds an evaluation. Use --overwrite to replace it, or another --out.")
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
        raise MetaSiamError(f"{option} {text} is no list of numbers. Use e.g. 0.49,0.48,0.45.") from error
