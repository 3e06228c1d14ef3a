"""``metasiam siamese``: training on labelled pairs, such as LFW's faces."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from metasiam.cli import options as o
from metasiam.config import SiameseConfig

_DATA, _MODEL, _TRAIN, _RUN = "Data", "Model", "Training", "Run"


def _option(name: str, text: str, panel: str, default: object = None) -> Any:
    field = name.strip("-").replace("-", "_")
    shown = default if default is not None else getattr(SiameseConfig, field, None)
    return typer.Option(name, help=text, rich_help_panel=panel, show_default=str(shown) if shown is not None else False)


def command(
    data: Annotated[
        str | None, _option("--data", "lfw, lfw:10-folds or pairs:FILE.csv (path_a,path_b,same).", _DATA, "lfw")
    ] = None,
    data_dir: o.DataDir = None,
    crop: Annotated[
        int | None, _option("--crop", "First crop images to their middle square of N pixels.", _DATA, "all")
    ] = None,
    image_size: Annotated[
        int | None, _option("--image-size", "Then resize the middle square to N pixels.", _DATA, "105 for koch")
    ] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Make all images grey.", rich_help_panel=_DATA)] = False,
    validation: Annotated[
        float | None,
        _option(
            "--validation", "Share of the training pairs held out for validation; no person is in both parts.", _DATA
        ),
    ] = None,
    arch: Annotated[
        str | None,
        _option("--arch", "koch, koch-bn, koch-pool4, …, fisher, resnet20, conv4, resnet12, resnet18.", _MODEL),
    ] = None,
    head: Annotated[str | None, _option("--head", "l1, features, cosine or euclidean.", _MODEL)] = None,
    difference_weight: Annotated[
        float | None, _option("--difference-weight", "Weight of |a − b| next to a · b (head features).", _MODEL)
    ] = None,
    dropout: Annotated[float | None, _option("--dropout", "Dropout on the embedding (koch).", _MODEL)] = None,
    initial: Annotated[str | None, _option("--initial", "Initial weights: torch or paper.", _MODEL)] = None,
    init: o.Init = None,
    freeze: Annotated[
        bool | None,
        typer.Option("--freeze/--no-freeze", help="Train only the head.", rich_help_panel=_MODEL, show_default=False),
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror",
            help="Average embeddings with those of mirrored images.",
            rich_help_panel=_MODEL,
            show_default=False,
        ),
    ] = None,
    solver: Annotated[str | None, _option("--solver", "How the head is fitted: gradient or svm.", _TRAIN)] = None,
    penalty: Annotated[float | None, _option("--penalty", "SVM regularisation constant C.", _TRAIN)] = None,
    folds: Annotated[int | None, _option("--folds", "Cross-validation folds of --solver svm.", _TRAIN)] = None,
    loss: Annotated[str | None, _option("--loss", "bce or contrastive.", _TRAIN)] = None,
    margin: Annotated[float | None, _option("--margin", "Margin of the contrastive loss.", _TRAIN, 1.0)] = None,
    epochs: Annotated[int | None, _option("--epochs", "Passes over the training pairs.", _TRAIN)] = None,
    batch_size: Annotated[int | None, _option("--batch-size", "Pairs per batch.", _TRAIN)] = None,
    lr: Annotated[float | None, _option("--lr", "Learning rate.", _TRAIN)] = None,
    optimizer: Annotated[str | None, _option("--optimizer", "adam or sgd.", _TRAIN)] = None,
    momentum: Annotated[float | None, _option("--momentum", "SGD momentum.", _TRAIN)] = None,
    weight_decay: Annotated[float | None, _option("--weight-decay", "L2 penalty.", _TRAIN)] = None,
    layer_l2: Annotated[
        str | None, _option("--layer-l2", "L2 penalty of each layer in turn, e.g. 2e-4,2e-4,1e-3.", _TRAIN)
    ] = None,
    schedule: Annotated[
        str | None,
        _option("--schedule", "Learning rate per epoch: none, step, multistep, exponential or cosine.", _TRAIN),
    ] = None,
    step_size: Annotated[int | None, _option("--step-size", "Epochs between steps of --schedule step.", _TRAIN)] = None,
    milestones: Annotated[str | None, _option("--milestones", "Epochs of --schedule multistep.", _TRAIN)] = None,
    gamma: Annotated[
        float | None,
        _option("--gamma", "Learning-rate factor per step (step, multistep) or epoch (exponential).", _TRAIN),
    ] = None,
    patience: Annotated[
        int | None, _option("--patience", "Stop after N epochs without improvement; keep the best.", _TRAIN, "never")
    ] = None,
    min_delta: Annotated[
        float | None, _option("--min-delta", "Smallest change that counts as an improvement.", _TRAIN)
    ] = None,
    stop_on: Annotated[
        str | None, _option("--stop-on", "What --patience watches on validation pairs: loss or accuracy.", _TRAIN)
    ] = None,
    flip: o.Flip = None,
    shift: o.Shift = None,
    affine: Annotated[
        float | None,
        _option("--affine", "Strength of random rotation, shear, scale and translation; 1 as in the paper.", _TRAIN),
    ] = None,
    seed: o.Seed = None,
    device: o.Device = None,
    precision: o.Precision = None,
    out: o.Out = None,
    resume: o.Resume = None,
    overwrite: o.Overwrite = False,
    checkpoint_every: o.CheckpointEvery = 120.0,
    preset: Annotated[
        str | None,
        _option("--preset", "quick, best, published, or published-tf, -step, -sgd, -exponential.", _RUN),
    ] = None,
) -> None:
    """Train on labelled pairs (same or different?), tune on held-out people, and evaluate once on the test pairs.

    Example: [bold]metasiam siamese --preset best --data lfw[/bold]
    """
    from metasiam.cli.pair_training import PairOptions, run_siamese

    values = o.given(
        arch=arch,
        head=head,
        difference_weight=difference_weight,
        dropout=dropout,
        initial=initial,
        init=init,
        freeze=freeze,
        mirror=mirror,
        solver=solver,
        penalty=penalty,
        folds=folds,
        loss=loss,
        margin=margin,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer,
        momentum=momentum,
        weight_decay=weight_decay,
        layer_l2=layer_l2,
        schedule=schedule,
        step_size=step_size,
        milestones=milestones,
        gamma=gamma,
        patience=patience,
        min_delta=min_delta,
        stop_on=stop_on,
        flip=flip,
        shift=shift,
        affine=affine,
        validation=validation,
        seed=seed,
        device=device,
        precision=precision,
    )
    run_siamese(
        values,
        PairOptions(data, data_dir, crop, image_size, grey),
        preset=preset,
        out=out,
        resume=resume,
        overwrite=overwrite,
        checkpoint_every=checkpoint_every,
    )
