"""Options that several commands share. None means "not given": a preset or the method's default holds then."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from metasiam import catalogue
from metasiam.config import ReptileConfig, TrainingConfig, TripletConfig
from metasiam.errors import MetaSiamError
from metasiam.option_values import check_number


class Command(typer.core.TyperCommand):
    """A command all of whose numbers are finite, and whose whole numbers are below 2^63."""

    def invoke(self, ctx: Any) -> Any:
        for parameter in self.params:
            value = ctx.params.get(str(parameter.name))
            if parameter.name in ("arch", "loss"):
                catalogue.give(value)  # what is typed here is trusted, what a file says is not
            if isinstance(value, int | float):
                check_number(parameter.opts[0], value)
        return super().invoke(ctx)


def saved(options: Any) -> dict[str, Any]:
    """Return a dataclass of options as ``config.json`` keeps them: files and folders are found from anywhere."""
    values = {name: _absolute(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    kind, colon, path = str(values["data"] or "").partition(":")
    if kind in ("folder", "npz", "pairs") and colon:
        values["data"] = f"{kind}:{_absolute(path)}"
    if str(values.get("split") or "").endswith(".json"):
        values["split"] = _absolute(values["split"])
    return values


def _absolute(path: str | Path) -> str:
    return os.path.abspath(Path(path).expanduser())


def _option(*names: str, text: str, panel: str, default: object = None, **more: Any) -> Any:
    shown = str(default) if default is not None else False
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=shown, **more)


_DATA, _TRAIN, _META, _RUN, _MEASURE = "Data", "Training", "Meta-learning", "Run", "Evaluation"

# Data
Data = Annotated[
    str | None,
    _option(
        "--data",
        text="glyphs, cifar100, mnist, omniglot, omniglot-rotated, lfw, folder:PATH or npz:PATH.",
        panel=_DATA,
        default="glyphs",
    ),
]
DataDir = Annotated[
    Path | None,
    _option("--data-dir", text="Where downloads live.", panel=_DATA, default="$METASIAM_DATA or the user cache"),
]
ImageSize = Annotated[
    int | None,
    _option("--image-size", text="Crop images to their middle square and resize it to N pixels.", panel=_DATA),
]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Skip images that cannot be read.", rich_help_panel=_DATA)
]
HeldOut = Annotated[
    int | None,
    _option("--held-out", text="Hold out the last N domains.", panel=_DATA, default="the data's own split, else 10"),
]
SplitName = Annotated[
    str | None,
    _option(
        "--split",
        text="cifar-fs, fc100, omniglot-vinyals or a JSON file, instead of --held-out; NAME:validation to tune.",
        panel=_DATA,
    ),
]
Validation = Annotated[
    int | None,
    _option(
        "--validation",
        text="Hold out N seen domains to choose thresholds and adaptation on.",
        panel=_DATA,
        default=0,
    ),
]

# Training
Arch = Annotated[
    str | None,
    _option(
        "--arch",
        text="Embedder: resnet8 … resnet110, conv4, conv4-scales, resnet12, resnet18.",
        panel=_TRAIN,
        default=TrainingConfig.arch,
    ),
]
Loss = Annotated[
    str | None,
    _option(
        "--loss",
        text="cosine, euclidean, contrastive, softmax, balanced-softmax, mined-hard, mined-semihard or supcon.",
        panel=_TRAIN,
        default=TrainingConfig.loss,
    ),
]
Margin = Annotated[
    float | None,
    _option("--margin", text="Margin of the loss.", panel=_TRAIN, default="0.3 cosine, 1.0 squared Euclidean"),
]
Temperature = Annotated[
    float | None,
    _option(
        "--temperature",
        text="Temperature of the softmax and supcon losses.",
        panel=_TRAIN,
        default=TrainingConfig.temperature,
    ),
]
LearningRate = Annotated[
    float | None, _option("--lr", text="Learning rate (inner, for Reptile).", panel=_TRAIN, default=TrainingConfig.lr)
]
BatchSize = Annotated[
    int | None, _option("--batch-size", text="Triplets per batch.", panel=_TRAIN, default=TrainingConfig.batch_size)
]
Flip = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip",
        help="Mirror images at random.",
        rich_help_panel=_TRAIN,
        show_default="flip, but not symbols",
    ),
]
Shift = Annotated[
    int | None,
    _option("--shift", text="Random crop after padding by N pixels.", panel=_TRAIN, default=TrainingConfig.shift),
]
Init = Annotated[str | None, _option("--init", text="Start from this run or these weights.", panel=_TRAIN)]
Epochs = Annotated[
    int | None, _option("--epochs", text="Passes over the seen images.", panel=_TRAIN, default=TripletConfig.epochs)
]
Steps = Annotated[int | None, _option("--iterations", text="Gradient steps, instead of --epochs.", panel=_TRAIN)]
Optimizer = Annotated[
    str | None, _option("--optimizer", text="adam or sgd.", panel=_TRAIN, default=TripletConfig.optimizer)
]
WeightDecay = Annotated[
    float | None, _option("--weight-decay", text="L2 penalty.", panel=_TRAIN, default=TripletConfig.weight_decay)
]
Schedule = Annotated[
    str | None,
    _option(
        "--schedule",
        text="Learning rate: constant, linear, cosine or onecycle.",
        panel=_TRAIN,
        default=TripletConfig.schedule,
    ),
]

# Meta-learning
Iterations = Annotated[
    int | None, _option("--iterations", text="Outer steps.", panel=_META, default=ReptileConfig.iterations)
]
InnerEpochs = Annotated[
    int | None,
    _option(
        "--inner-epochs",
        text="Gradient steps per task.",
        panel=_META,
        default=ReptileConfig.inner_epochs,
    ),
]
MetaStep = Annotated[
    float | None,
    _option("--meta-step", text="Interpolation coefficient ε.", panel=_META, default=ReptileConfig.meta_step),
]
MetaSchedule = Annotated[
    str | None,
    _option(
        "--meta-schedule",
        text="ε over the run: linear, cosine or constant.",
        panel=_META,
        default=ReptileConfig.meta_schedule,
    ),
]
MetaBatch = Annotated[
    int | None,
    _option(
        "--meta-batch",
        text="Tasks averaged per iteration (per process).",
        panel=_META,
        default=ReptileConfig.meta_batch,
    ),
]
MetaOptimizer = Annotated[
    str | None,
    _option(
        "--meta-optimizer",
        text="sgd, nesterov or adam on the averaged change.",
        panel=_META,
        default=ReptileConfig.meta_optimizer,
    ),
]
MetaMomentum = Annotated[
    float | None,
    _option(
        "--meta-momentum", text="Momentum of nesterov, β1 of adam.", panel=_META, default=ReptileConfig.meta_momentum
    ),
]
TaskShots = Annotated[
    int | None, _option("--task-shots", text="Images of a domain that a task sees.", panel=_META, default="all")
]
Ways = Annotated[
    int | None,
    _option("--ways", text="Domains per task; 0: half of the seen ones.", panel=_META, default=ReptileConfig.ways),
]
InnerOptimizer = Annotated[
    str | None, _option("--inner-optimizer", text="adam or sgd.", panel=_META, default=ReptileConfig.inner_optimizer)
]
Beta1 = Annotated[
    float | None,
    _option(
        "--beta1", text="Adam's β1 (0 in the Reptile paper), or SGD's momentum.", panel=_META, default="0.9; 0 with sgd"
    ),
]
OptimizerState = Annotated[
    str | None,
    _option(
        "--optimizer-state",
        text="keep across tasks, or reset for each task.",
        panel=_META,
        default=ReptileConfig.optimizer_state,
    ),
]
BatchNorm = Annotated[
    str | None,
    _option(
        "--batch-norm",
        text="Running statistics: interpolate, task (discarded after each task) or frozen.",
        panel=_META,
        default=ReptileConfig.batch_norm,
    ),
]

# Run
Seed = Annotated[int | None, _option("--seed", text="Random seed.", panel=_RUN, default=0)]
Device = Annotated[str | None, _option("--device", text="auto, cpu, cuda or mps.", panel=_RUN, default="auto")]
Precision = Annotated[str | None, _option("--precision", text="auto, fp32 or bf16.", panel=_RUN, default="auto")]
Compile = Annotated[
    str | None,
    _option(
        "--compile", text="Compile the training step: auto (if it saves time), on or off.", panel=_RUN, default="auto"
    ),
]
Out = Annotated[Path | None, _option("--out", text="Run folder.", panel=_RUN, default="runs/<method>-<time>")]
Resume = Annotated[Path | None, _option("--resume", text="Resume this run (bit-exact).", panel=_RUN)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.", rich_help_panel=_RUN)]
CheckpointEvery = Annotated[
    float, typer.Option("--checkpoint-every", help="Seconds between checkpoints.", rich_help_panel=_RUN)
]
Preset = Annotated[
    str | None,
    _option(
        "--preset",
        text="quick, best, published, or (Reptile) scratch, scratch-single: many options at once; yours win over them.",
        panel=_RUN,
    ),
]

# Evaluation
Pairs = Annotated[
    int | None, _option("--pairs", text="Test pairs per task, half of them same.", panel=_MEASURE, default=2000)
]
AdaptShots = Annotated[
    str | None,
    _option("--adapt-shots", text="Images to adapt with, e.g. 0,1,5,20,all.", panel=_MEASURE, default="0,all"),
]
AdaptSteps = Annotated[
    int | None,
    _option(
        "--adapt-steps",
        text="Inner epochs of adaptation with all images.",
        panel=_MEASURE,
        default="chosen on validation domains, else 30",
    ),
]
CurveSteps = Annotated[
    str | None,
    _option("--curve-steps", text="Also show accuracy after these adaptation steps, e.g. 0,5,10,30.", panel=_MEASURE),
]
Threshold = Annotated[
    float | None,
    _option("--threshold", text="The fixed threshold.", panel=_MEASURE, default="0.2, as the published classic system"),
]
Protocol = Annotated[
    str | None,
    _option(
        "--protocol",
        text="balanced, reference (the published systems' own measurements), or both: balanced,reference.",
        panel=_MEASURE,
        default="balanced",
    ),
]
SweepProtocol = Annotated[
    str | None,
    _option("--protocol", text="balanced, reference, or both.", panel=_MEASURE, default="balanced,reference"),
]
Mirror = Annotated[
    bool,
    typer.Option("--mirror", help="Average each embedding with that of the mirrored image.", rich_help_panel=_MEASURE),
]
Inference = Annotated[
    str | None,
    typer.Option(
        "--inference",
        help="Refine embeddings without training: mirror,shifts,tukey,centre,lda,normalise,logistic.",
        rich_help_panel=_MEASURE,
    ),
]
Episodes = Annotated[
    str | None,
    typer.Option(
        "--episodes",
        help="Kinds of few-shot episodes, WAYSxSHOTS, e.g. 5x1,20x1.",
        rich_help_panel=_MEASURE,
        show_default="5x1,5x5",
    ),
]


def given(**values: object) -> dict[str, Any]:
    """Return the options that were given (not None)."""
    return {name: value for name, value in values.items() if value is not None}


def refuse(options: Iterable[str], reason: str) -> None:
    """Raise if there are any of these options, named as Python names them.

    Raises:
        MetaSiamError: with the reason and the options.
    """
    names = [f"--{name.replace('_', '-')}" for name in options]
    if names:
        raise MetaSiamError(f"{reason}. Omit {', '.join(names)}.")
