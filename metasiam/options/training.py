"""Options of every training, and of the methods whose iteration is one gradient step. Saved with the run.

The defaults are the published systems'.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from metasiam import catalogue
from metasiam.errors import MetaSiamError
from metasiam.option_values import MOST_SEED, shown
from metasiam.options.declare import Opt, check, known, made_of
from metasiam.options.paths import check_weights

Options = TypeVar("Options", bound="TrainingOptions")

#: How a learning rate can change over a run (``metasiam.training.schedules.step_rate``): to 0 in a straight line or
#: along a cosine, or warmed up over the first fifth and then linearly to 0.
Schedule = Literal["constant", "linear", "cosine", "onecycle"]

_MODEL, _TRAINING, _RUN = "Model", "Training", "Run"


def read_loss_options(texts: str | Iterable[str]) -> dict[str, Any]:
    """Read ``--set loss.NAME=VALUE``, each time that it is given: numbers, true and false, and texts.

    Raises:
        MetaSiamError: for another form.
    """
    found: dict[str, Any] = {}
    for text in [texts] if isinstance(texts, str) else texts:
        name, equals, word = text.partition("=")
        of, _, option = name.strip().partition(".")
        if not equals or of != "loss" or not option:
            raise MetaSiamError(f"--set {text} is not loss.NAME=VALUE. Use e.g. --set loss.margin=0.1.")
        found[option] = _plain_value(word.strip())
    return found


def _plain_value(word: str) -> Any:
    for read in (int, float):
        try:
            return read(word)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(word.lower(), word)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options that every method has.

    Attributes:
        method: the method's name, and its command's.
        needs_weights: whether an embedder without weights, as of fixed statistics, is of no use to the method.
        losses: the losses that the method takes; where none is named, all of ``metasiam.catalogue.LOSSES``.
        presets: groups of options by name; ``{}`` is the defaults.
    """

    method: ClassVar[str] = "training"
    needs_weights: ClassVar[bool] = True
    losses: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    arch: Annotated[str, Opt("Embedder, as resnet20 or timm:NAME; metasiam models lists them.")] = "resnet56"
    loss: Annotated[
        str,
        Opt("Loss of a batch", names=catalogue.losses),
    ] = "cosine"
    loss_options: Annotated[
        dict[str, Any],
        Opt("Parameter of the loss, e.g. loss.alpha=32 (repeatable).", flag="--set", read=read_loss_options),
    ] = field(default_factory=dict)
    margin: Annotated[
        float | None, Opt("Margin of the loss.", least=0, nothing="0.3 cosine, 1.0 squared Euclidean")
    ] = None
    temperature: Annotated[float, Opt("Temperature of the softmax and supcon losses: divides cosines.", above=0)] = 0.05
    lr: Annotated[float, Opt("Learning rate (of the inner steps, where there are any).", above=0)] = 0.001
    batch_size: Annotated[int, Opt("Triplets per batch.", least=1, largest=2**20)] = 128
    flip: Annotated[
        bool | None, Opt("Mirror images at random.", nothing="yes, but not symbols", flag="--flip/--no-flip")
    ] = None
    shift: Annotated[int, Opt("Crop at random after padding by so many pixels.", least=0, most=16, unit="pixels")] = 0
    random_crop: Annotated[
        float, Opt("Crop at random at least this share of the area, and enlarge it; 0 does not.", least=0, most=1)
    ] = 0.0
    jitter: Annotated[
        float, Opt("Change brightness, contrast and saturation at random, up to this share.", least=0, most=1)
    ] = 0.0
    erase: Annotated[float, Opt("Erase a random rectangle with this probability.", least=0, most=1)] = 0.0
    augment: Annotated[str | None, Opt("Your own function of uint8 batches: module:function.")] = None
    init: Annotated[str | None, Opt("Start from this run or these weights.", found=check_weights)] = None
    seed: Annotated[
        int, Opt("Random seed: everything random follows from it.", panel=_RUN, least=0, largest=MOST_SEED)
    ] = 0
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Opt("Where to compute.", panel=_RUN)] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Opt("What the network computes with; the loss is fp32", panel=_RUN),
    ] = "auto"
    compile: Annotated[Literal["auto", "on", "off"], Opt("Compile the step; auto: if it saves time", panel=_RUN)] = (
        "auto"
    )

    def __post_init__(self) -> None:
        check(self)
        catalogue.check_embedder(f"{self.method}'s --arch", self.arch, with_weights=self.needs_weights)
        catalogue.check_loss(f"{self.method}'s --loss", self.loss, self.losses)
        if self.augment is not None and not (
            self.augment.startswith(catalogue.OWN) or catalogue.is_place(self.augment)
        ):
            raise MetaSiamError(f"--augment {self.augment} is not module:function. Use e.g. mypackage.data:augment.")
        for name, value in self.loss_options.items():
            if not isinstance(name, str) or not isinstance(value, str | int | float | bool | None):
                raise MetaSiamError(f"loss_options must be texts and numbers by name, not {name!r}: {shown(value)}.")

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
class GradientStepsOptions(TrainingOptions):
    """Options of methods whose iteration is one gradient step."""

    optimizer: Annotated[Literal["adam", "sgd"], Opt("What makes a step; sgd has Nesterov momentum 0.9")] = "adam"
    weight_decay: Annotated[float, Opt("L2 penalty; decoupled with adam.", least=0)] = 0.0
    schedule: Annotated[Schedule, Opt("How the learning rate changes over the run")] = "constant"


def options_of(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Make a method's options from saved or given values; a path among them is taken as its text.

    Raises:
        MetaSiamError: for an option that it does not have, or a value that it does not take.
    """
    return made_of(kind, {name: value for name, value in values.items() if name != "method"}, kind.method)


def value_of(kind: type[TrainingOptions], name: str, word: str, said: str) -> Any:
    """Read an option's value, as typed on a command line.

    Args:
        kind: the method's options.
        name: of the option.
        word: what was typed.
        said: how to name it in a complaint, e.g. ``--try lr=x``.

    Raises:
        MetaSiamError: for an unknown option, or a word that is no value of it.
    """
    return known(kind, name, kind.method, said).from_text(word, said)
