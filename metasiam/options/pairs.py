"""Options and presets of ``metasiam siamese``: training on labelled pairs, and how pairs are loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from metasiam.option_values import require
from metasiam.options.declare import Opt
from metasiam.options.paths import check_pairs, check_weights
from metasiam.options.training import TrainingOptions

#: Options of ``SiameseOptions`` that do nothing to pairs, and have no flag.
UNUSED = ("temperature", "compile")

_DATA, _MODEL = "Data", "Model"

_PUBLISHED: dict[str, Any] = {"arch": "koch", "head": "l1", "lr": 1e-4, "batch_size": 32, "epochs": 30, "flip": False}


@dataclass(frozen=True, kw_only=True)
class SiameseOptions(TrainingOptions):
    """Options of ``metasiam siamese``; the defaults are the published PyTorch system's.

    ``--solver svm`` keeps the embedder as it is, and the head is the exact solution of a support vector machine.
    Every training pair is then answered by a head that never met anybody in it; those answers choose the threshold.
    """

    method: ClassVar[str] = "siamese"
    needs_weights: ClassVar[bool] = False  # a head can be trained on statistics
    losses: ClassVar[tuple[str, ...]] = ("bce", "contrastive")
    #: What the published systems do not say of their settings is torch's or Keras's default.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"arch": "conv4", "head": "features", "lr": 1e-3, "epochs": 5, "batch_size": 64, "patience": 2},
        # Chosen by cross-validation on the training pairs: benchmarks/results/faces/ablation.json.
        "best": {
            "arch": "fisher",
            "head": "features",
            "difference_weight": 1.0,
            "solver": "svm",
            "penalty": 1.0,
            "mirror": True,
        },
        # The published PyTorch system's four experiments: Adam at 1e-4 without a schedule gave its best, 78.5 %. That
        # one stopped after 3 epochs without improvement.
        "published": _PUBLISHED | {"patience": 3},
        # The published TensorFlow system, 73.1 %: BatchNorm, the paper's first weights, an L2 penalty for each layer.
        "published-tf": _PUBLISHED
        | {
            "arch": "koch-bn",
            "initial": "paper",
            "layer_l2": "2e-4,2e-4,2e-4,2e-4,1e-3,0",
            "patience": 5,
            "min_delta": 0.0,
        },
        "published-step": _PUBLISHED | {"schedule": "step", "step_size": 10, "gamma": 0.1},
        "published-sgd": _PUBLISHED
        | {"optimizer": "sgd", "lr": 1e-2, "momentum": 0.9, "schedule": "multistep", "milestones": "15,25"},
        "published-exponential": _PUBLISHED | {"schedule": "exponential", "gamma": 0.95},
    }

    validation: Annotated[
        float,
        Opt(
            "Share of the training pairs held out for validation; no person is in both parts.",
            panel=_DATA,
            above=0,
            most=0.5,
        ),
    ] = 0.2
    arch: Annotated[str, Opt("Embedder, as koch, fisher or resnet20; metasiam models lists them.", panel=_MODEL)] = (
        "koch"
    )
    head: Annotated[
        Literal["l1", "features", "cosine", "euclidean"], Opt("How two embeddings become an answer", panel=_MODEL)
    ] = "l1"
    difference_weight: Annotated[
        float, Opt("Weight of |a − b| next to a · b (head features).", panel=_MODEL, least=0)
    ] = 0.5
    dropout: Annotated[float, Opt("Dropout on the embedding (koch).", panel=_MODEL, least=0, below=1)] = 0.0
    initial: Annotated[Literal["torch", "paper"], Opt("Initial weights: torch's own or the paper's", panel=_MODEL)] = (
        "torch"
    )
    init: Annotated[str | None, Opt("Start from this run or these weights.", panel=_MODEL, found=check_weights)] = None
    freeze: Annotated[
        bool, Opt("Train only the head: every image is embedded once.", panel=_MODEL, flag="--freeze/--no-freeze")
    ] = False
    mirror: Annotated[
        bool, Opt("Average embeddings with those of mirrored images.", panel=_MODEL, flag="--mirror/--no-mirror")
    ] = False
    solver: Annotated[Literal["gradient", "svm"], Opt("How the head is fitted")] = "gradient"
    penalty: Annotated[float, Opt("SVM regularisation constant C; lower is smoother.", above=0)] = 1.0
    folds: Annotated[int, Opt("Cross-validation folds of --solver svm.", least=2, most=20)] = 5
    loss: Annotated[str, Opt("Loss of a batch", names=lambda: ("bce", "contrastive"))] = "bce"
    margin: Annotated[float | None, Opt("Margin of the contrastive loss.", least=0, nothing="1.0")] = None
    epochs: Annotated[int, Opt("Passes over the training pairs.", least=1)] = 30
    batch_size: Annotated[int, Opt("Pairs per batch.", least=1, largest=2**20)] = 32
    lr: Annotated[float, Opt("Learning rate.", above=0)] = 0.0001
    optimizer: Annotated[Literal["adam", "sgd"], Opt("What makes a step of a gradient")] = "adam"
    momentum: Annotated[float, Opt("SGD momentum.", least=0, below=1)] = 0.9
    weight_decay: Annotated[float, Opt("L2 penalty.", least=0)] = 0.0
    layer_l2: Annotated[
        str | None,
        Opt("L2 penalty of each layer in turn, e.g. 2e-4,2e-4,1e-3; the last is repeated.", nothing="--weight-decay"),
    ] = None
    schedule: Annotated[
        Literal["none", "step", "multistep", "exponential", "cosine"],
        Opt("Learning rate per epoch"),
    ] = "none"
    step_size: Annotated[int, Opt("Epochs between steps of --schedule step.", least=1, unit="epoch")] = 10
    milestones: Annotated[str, Opt("Epochs of --schedule multistep.")] = "15,25"
    gamma: Annotated[
        float, Opt("Learning-rate factor per step (step, multistep) or epoch (exponential).", above=0, most=1)
    ] = 0.1
    patience: Annotated[
        int | None, Opt("Stop after so many epochs without improvement; keep the best.", least=1, nothing="never")
    ] = None
    min_delta: Annotated[float, Opt("Smallest change that counts as an improvement.", least=0)] = 0.0
    stop_on: Annotated[Literal["loss", "accuracy"], Opt("What --patience watches on validation pairs")] = "loss"
    affine: Annotated[
        float, Opt("Strength of random rotation, shear, scale and translation; 1 as in the paper.", least=0, most=3)
    ] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.solver != "svm" or self.head in ("l1", "features"),
            f"--solver svm needs a head that is one linear unit, not {self.head}. Use --head features or l1.",
        )
        koch = self.arch.startswith("koch")
        require(koch or not self.dropout, f"--dropout is of koch's networks, and {self.arch} has none. Omit it.")
        self.numbers("milestones", self.milestones)
        self.numbers("layer_l2", self.layer_l2 or "0")

    @staticmethod
    def numbers(option: str, text: str) -> tuple[float, ...]:
        """Return the numbers of a comma-separated list.

        Raises:
            MetaSiamError: if it is none, or one is negative.
        """
        try:
            found = tuple(float(part) for part in text.split(","))
        except ValueError:
            found = (-1.0,)
        name = option.replace("_", "-")
        require(
            all(0 <= number < math.inf for number in found),
            f"--{name} must be numbers separated by commas, not '{text}'. Try --{name} 10,20.",
        )
        return found


@dataclass(frozen=True)
class PairDataOptions:
    """Which pairs, and what is done to their images; None means not given."""

    data: Annotated[
        str | None,
        Opt("lfw, lfw:10-folds or pairs:FILE.csv (path_a,path_b,same).", panel=_DATA, nothing="lfw", found=check_pairs),
    ] = None
    data_dir: Annotated[
        Path | None, Opt("Where downloads live.", panel=_DATA, nothing="$METASIAM_DATA or the user cache")
    ] = None
    crop: Annotated[
        int | None,
        Opt("First crop images to their middle square of so many pixels.", panel=_DATA, least=1, nothing="all"),
    ] = None
    image_size: Annotated[
        int | None,
        Opt("Then resize the middle square to so many pixels.", panel=_DATA, least=1, nothing="105 for koch"),
    ] = None
    grey: Annotated[bool, Opt("Make all images grey.", panel=_DATA)] = False
    squeeze: Annotated[bool, Opt("Pictures to their size, as runs of before did.", hidden=True)] = False
    fold: Annotated[int | None, Opt("The test part of data in folds, from 1; None: all in turn.", hidden=True)] = None
