"""Every option of a training, as frozen dataclasses that are saved with the run. No torch here: the CLI reads it.

The defaults are the seeds'. Values are checked where they are used, and all of a config's own rules on creation.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from metasiam import catalogue
from metasiam.errors import MetaSiamError
from metasiam.option_values import check_kinds, one_of, require

Config = TypeVar("Config", bound="TrainingConfig")

#: How a learning rate can change over a run (``metasiam.training.schedules.step_rate``).
SCHEDULES = ("constant", "linear", "cosine", "onecycle")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Options that every method has.

    Attributes:
        arch: embedder name (``metasiam.catalogue.EMBEDDERS``).
        loss: objective name (``metasiam.catalogue.LOSSES``).
        margin: the loss's margin in its own units; None takes the source's.
        temperature: divides the cosines of the ``softmax`` and ``supcon`` losses.
        lr: learning rate of the (inner) optimizer.
        batch_size: triplets in a batch; three images each.
        flip: mirror each image with probability ½, drawn afresh for every batch; None: unless the data are symbols,
            which mirroring can turn into others (``metasiam.session`` decides it before the run is saved).
        shift: random crop after padding by this many pixels; 0 does not.
        init: run folder or weights to start from.
        seed: everything random follows from it.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32`` or ``bf16`` (autocast; weights and loss stay fp32).
        compile: ``auto``, ``on`` or ``off``: whether the training step is compiled (our own kernels, torch.compile).
    """

    method = "training"
    #: Whether an embedder without weights, as of fixed statistics, is of no use to the method.
    needs_weights: ClassVar[bool] = True
    #: The losses that the method takes; where none is named, all of ``metasiam.catalogue.LOSSES``.
    losses: ClassVar[tuple[str, ...]] = ()

    arch: str = "resnet56"
    loss: str = "cosine"
    margin: float | None = None
    temperature: float = 0.05
    lr: float = 0.001
    batch_size: int = 128
    flip: bool | None = None
    shift: int = 0
    init: str | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    compile: str = "auto"

    def __post_init__(self) -> None:
        check_kinds(self)
        catalogue.check_embedder(f"{self.method}'s --arch", self.arch, with_weights=self.needs_weights)
        catalogue.check_loss(f"{self.method}'s --loss", self.loss, self.losses)
        require(
            math.isfinite(self.lr) and self.lr > 0, f"--lr must be a positive number, not {self.lr}. Try --lr 0.001."
        )
        require(self.batch_size >= 1, f"--batch-size must be at least 1, not {self.batch_size}.")
        require(self.margin is None or self.margin >= 0, f"--margin must not be negative, not {self.margin}.")
        require(self.temperature > 0, f"--temperature must be positive, not {self.temperature}. Try 0.05.")
        require(0 <= self.shift <= 16, f"--shift must be from 0 to 16 pixels, not {self.shift}.")
        require(0 <= self.seed < 2**63, f"--seed must be from 0 to 2^63 - 1, not {self.seed}.")
        one_of("--device", self.device, ("auto", "cpu", "cuda", "mps"))
        one_of("--precision", self.precision, ("auto", "fp32", "bf16"))
        one_of("--compile", self.compile, ("auto", "on", "off"))

    @property
    def batch_shape(self) -> tuple[int, int]:
        """Images of a gradient step: anchors, positives and negatives, ``batch_size`` of each."""
        return 3, self.batch_size

    @property
    def images_per_iteration(self) -> int:
        """Images that go through the network in one iteration of one process."""
        return math.prod(self.batch_shape)

    @property
    def episode(self) -> tuple[int, int] | None:
        """Ways and shots of a batch that is an episode; None for batches of triplets."""
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return every option, with the method's name, as JSON-ready values."""
        return {"method": self.method, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class ReptileConfig(TrainingConfig):
    """Options of ``metasiam reptile``; the defaults are the seeds'.

    Attributes:
        iterations: outer steps.
        inner_epochs: gradient steps on one task in an iteration, one batch each.
        meta_step: interpolation coefficient ε at the start.
        meta_schedule: how ε goes to its end: ``linear`` to 0, ``cosine`` to 0, or ``constant``.
        meta_batch: tasks whose weight changes are averaged in an iteration (per process).
        meta_optimizer: what is done with the averaged change: ``sgd`` (plain interpolation), ``nesterov`` or ``adam``.
        meta_momentum: momentum of ``nesterov``, β1 of ``adam``.
        task_shots: images of each of its domains that a task sees; None: all.
        ways: domains in a task; 0: half of the seen ones.
        inner_optimizer: ``adam`` or ``sgd``.
        beta1: Adam's β1 (the inventors used 0), or SGD's momentum when given; None: 0.9 and 0.
        optimizer_state: ``keep`` across tasks (seeds) or ``reset`` for each task (inventors).
        schedule: inner learning rate over the run's inner epochs: ``constant``, ``linear`` or ``cosine`` to 0, or
            ``onecycle`` (warm-up over the first fifth, then linearly to 0).
        weight_decay: decoupled weight decay of the inner optimizer (L2 penalty with ``sgd``).
        batch_norm: running statistics: ``interpolate`` with the weights (seeds), ``task`` (each task's are dropped;
            estimated on seen images at the end) or ``frozen`` (inner epochs in evaluation mode).
    """

    method = "reptile"

    iterations: int = 10000
    inner_epochs: int = 30
    meta_step: float = 0.01
    meta_schedule: str = "linear"
    meta_batch: int = 1
    meta_optimizer: str = "sgd"
    meta_momentum: float = 0.9
    task_shots: int | None = None
    ways: int = 1
    inner_optimizer: str = "adam"
    beta1: float | None = None
    optimizer_state: str = "keep"
    schedule: str = "constant"
    weight_decay: float = 0.0
    batch_norm: str = "interpolate"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.iterations >= 1, f"--iterations must be at least 1, not {self.iterations}.")
        require(self.inner_epochs >= 1, f"--inner-epochs must be at least 1, not {self.inner_epochs}.")
        require(0 < self.meta_step <= 10, f"--meta-step must be above 0 and at most 10, not {self.meta_step}.")
        require(self.meta_batch >= 1, f"--meta-batch must be at least 1, not {self.meta_batch}.")
        require(
            self.task_shots is None or self.task_shots >= 2,
            f"--task-shots must be at least 2 (a positive is another image), not {self.task_shots}.",
        )
        require(self.ways >= 0, f"--ways must not be negative, not {self.ways}.")
        require(self.beta1 is None or 0 <= self.beta1 < 1, f"--beta1 must be from 0 to below 1, not {self.beta1}.")
        require(0 <= self.meta_momentum < 1, f"--meta-momentum must be from 0 to below 1, not {self.meta_momentum}.")
        one_of("--meta-schedule", self.meta_schedule, ("linear", "cosine", "constant"))
        one_of("--meta-optimizer", self.meta_optimizer, ("sgd", "nesterov", "adam"))
        one_of("--inner-optimizer", self.inner_optimizer, ("adam", "sgd"))
        one_of("--optimizer-state", self.optimizer_state, ("keep", "reset"))
        one_of("--schedule", self.schedule, SCHEDULES)
        require(self.weight_decay >= 0, f"--weight-decay must not be negative, not {self.weight_decay}.")
        one_of("--batch-norm", self.batch_norm, ("interpolate", "task", "frozen"))

    @property
    def images_per_iteration(self) -> int:
        """Images of all inner epochs of an iteration's tasks."""
        return super().images_per_iteration * self.inner_epochs * self.meta_batch


@dataclass(frozen=True, kw_only=True)
class GradientStepsConfig(TrainingConfig):
    """Options of methods whose iteration is one gradient step.

    Attributes:
        optimizer: ``adam`` or ``sgd`` (momentum 0.9, Nesterov).
        weight_decay: L2 penalty (decoupled with ``adam``).
        schedule: learning rate over the run: ``constant``, ``linear`` or ``cosine`` to 0, or ``onecycle`` (warm-up over
            the first fifth, then linearly to 0).
    """

    optimizer: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.weight_decay >= 0, f"--weight-decay must not be negative, not {self.weight_decay}.")
        one_of("--optimizer", self.optimizer, ("adam", "sgd"))
        one_of("--schedule", self.schedule, SCHEDULES)


@dataclass(frozen=True, kw_only=True)
class TripletConfig(GradientStepsConfig):
    """Options of ``metasiam triplet``; the defaults are the seeds'.

    Attributes:
        epochs: passes in which every seen training image is an anchor once.
        iterations: gradient steps; overrides ``epochs`` when given.
    """

    method = "triplet"

    epochs: int = 150
    iterations: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.epochs >= 1, f"--epochs must be at least 1, not {self.epochs}.")
        require(
            self.iterations is None or self.iterations >= 1, f"--iterations must be at least 1, not {self.iterations}."
        )


@dataclass(frozen=True, kw_only=True)
class SiameseConfig(TrainingConfig):
    """Options of ``metasiam siamese``; the defaults are the PyTorch seed's (Koch's network, Adam at 1e-4).

    ``loss`` is ``bce`` or ``contrastive``, and ``batch_size`` counts pairs.

    Attributes:
        head: how two embeddings become an answer (``metasiam.models.pair_heads.PAIR_HEADS``).
        epochs: passes over the training pairs.
        validation: share of the training pairs kept for choosing, nobody of whom is trained on.
        difference_weight: what |a − b| counts beside a · b in the ``features`` head.
        solver: ``gradient`` descent, or ``svm``: the embedder stays as it is (``freeze``), and the head is the exact
            solution of a support vector machine, for heads that are one linear unit (``l1``, ``features``).
        penalty: the machine's C; lower is smoother.
        folds: of the machine's cross-validation: every training pair is answered by a head that never met anybody
            in it, and those answers choose the threshold. The final head learns from all training pairs.
        optimizer: ``adam`` or ``sgd``.
        momentum: of ``sgd``.
        weight_decay: L2 penalty added to the gradient of every weight.
        layer_l2: the same for each convolution and linear layer in turn, separated by commas; the last one is
            repeated. Overrides ``weight_decay``.
        schedule: of the learning rate, epoch by epoch: ``none``, ``step``, ``multistep``, ``exponential``, ``cosine``.
        step_size: epochs between two steps of ``step``.
        milestones: epochs of ``multistep``, separated by commas.
        gamma: factor of a step (``step``, ``multistep``) or an epoch (``exponential``).
        patience: epochs without improvement on validation after which training stops; None: never. The best weights
            are restored then.
        min_delta: what counts as an improvement, in units of the loss or as a fraction of right answers.
        stop_on: ``loss`` or ``accuracy``.
        affine: strength of the paper's rotation, shear, scaling and translation; 1 as in the paper, 0 for none.
        dropout: of the embedding, in training.
        initial: first weights: ``torch`` (its defaults) or ``paper``.
        freeze: embed every image once, and train the head alone.
        mirror: average every embedding with the mirrored image's when it is measured.
    """

    method = "siamese"
    needs_weights = False  # a head can be trained on statistics
    losses = ("bce", "contrastive")

    arch: str = "koch"
    loss: str = "bce"
    lr: float = 0.0001
    batch_size: int = 32
    head: str = "l1"
    epochs: int = 30
    validation: float = 0.2
    difference_weight: float = 0.5
    solver: str = "gradient"
    penalty: float = 1.0
    folds: int = 5
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    layer_l2: str | None = None
    schedule: str = "none"
    step_size: int = 10
    milestones: str = "15,25"
    gamma: float = 0.1
    patience: int | None = None
    min_delta: float = 0.0
    stop_on: str = "loss"
    affine: float = 0.0
    dropout: float = 0.0
    initial: str = "torch"
    freeze: bool = False
    mirror: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("--optimizer", self.optimizer, ("adam", "sgd"))
        one_of("--schedule", self.schedule, ("none", "step", "multistep", "exponential", "cosine"))
        one_of("--stop-on", self.stop_on, ("loss", "accuracy"))
        one_of("--initial", self.initial, ("torch", "paper"))
        require(self.epochs >= 1, f"--epochs must be at least 1, not {self.epochs}.")
        require(0 < self.validation <= 0.5, f"--validation must be above 0 and at most 0.5, not {self.validation}.")
        require(self.difference_weight >= 0, f"--difference-weight must not be negative, not {self.difference_weight}.")
        one_of("--solver", self.solver, ("gradient", "svm"))
        one_of("--head", self.head, ("l1", "features", "cosine", "euclidean"))
        require(
            self.solver != "svm" or self.head in ("l1", "features"),
            f"--solver svm needs a head that is one linear unit, not {self.head}. Use --head features or l1.",
        )
        require(self.penalty > 0, f"--penalty must be positive, not {self.penalty}. Try --penalty 1.")
        require(2 <= self.folds <= 20, f"--folds must be from 2 to 20, not {self.folds}.")
        require(0 <= self.momentum < 1, f"--momentum must be from 0 to below 1, not {self.momentum}.")
        require(self.weight_decay >= 0, f"--weight-decay must not be negative, not {self.weight_decay}.")
        require(self.step_size >= 1, f"--step-size must be at least 1 epoch, not {self.step_size}.")
        require(0 < self.gamma <= 1, f"--gamma must be above 0 and at most 1, not {self.gamma}.")
        require(self.patience is None or self.patience >= 1, f"--patience must be at least 1, not {self.patience}.")
        require(self.min_delta >= 0, f"--min-delta must not be negative, not {self.min_delta}.")
        require(0 <= self.affine <= 3, f"--affine must be from 0 to 3, not {self.affine}.")
        require(0 <= self.dropout < 1, f"--dropout must be from 0 to below 1, not {self.dropout}.")
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


def value_of(config: type[TrainingConfig], name: str, word: str, said: str) -> Any:
    """Read an option's value, as typed on a command line, by the type of its field.

    Args:
        config: the method's options.
        name: of the field.
        word: what was typed.
        said: how to name it in a complaint, e.g. ``--try lr=x``.

    Raises:
        MetaSiamError: for an unknown option, or a word that is no value of it.
    """
    kinds = {field.name: str(field.type) for field in fields(config)}
    if name not in kinds:
        raise MetaSiamError(f"{said}: {config.method} has no option '{name}'. It has: {', '.join(sorted(kinds))}.")
    kind = kinds[name]
    try:
        if "None" in kind and word.lower() in ("none", "null"):
            return None
        if "bool" in kind:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[word.lower()]
        if "int" in kind:
            return int(word)
        if "float" in kind:
            return float(word)
    except (ValueError, KeyError) as error:
        raise MetaSiamError(f"{said}: '{word}' is not a valid value for {name}.") from error
    return word


def config_from(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Make a config of ``kind`` from saved or given values; a path among them is taken as its text.

    Raises:
        MetaSiamError: for an option that it does not have, or a value that it does not take.
    """
    known = {f.name for f in fields(kind)}
    unknown = [key for key in values if key not in known and key != "method"]
    require(not unknown, f"{kind.method} has no option '{', '.join(unknown)}'. It has: {', '.join(sorted(known))}.")
    texts = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in values.items()}
    return kind(**{key: value for key, value in texts.items() if key in known})
