"""Options and presets of the field's few-shot methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from metasiam.options.declare import Opt
from metasiam.options.training import GradientStepsOptions
from metasiam.options.triplet import STRONG_START

_EPISODES = "Episodes"

#: 192 images a gradient step, as the quick triplets.
_QUICK: dict[str, Any] = {
    "arch": "resnet8",
    "shift": 2,
    "schedule": "onecycle",
    "lr": 0.01,
    "shots": 4,
    "queries": 8,
}
_QUICK_MAML: dict[str, Any] = {**_QUICK, "ways": 8, "meta_batch": 1, "inner_rate": 0.1}
_BEST: dict[str, Any] = {
    "arch": "resnet20",
    "schedule": "onecycle",
    "shift": 4,
    "shots": 5,
    "queries": 5,
    "iterations": 2000,
}
_BEST_MAML: dict[str, Any] = {**_BEST, "lr": 0.003, "ways": 5, "meta_batch": 4, "inner_rate": 0.1}


@dataclass(frozen=True, kw_only=True)
class FewShotOptions(GradientStepsOptions):
    """Options of the few-shot methods."""

    iterations: Annotated[int, Opt("Gradient steps.", least=1)] = 10000


@dataclass(frozen=True, kw_only=True)
class BaselineOptions(FewShotOptions):
    """Options of the cosine classifier."""

    method: ClassVar[str] = "baseline"
    losses: ClassVar[tuple[str, ...]] = ("softmax",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "arch": "resnet8",
            "temperature": 0.1,
            "batch_size": 192,
            "lr": 0.015,
            "schedule": "onecycle",
            "shift": 2,
            "iterations": 180,
        },
        "best": {**STRONG_START, "batch_size": 192},
    }

    loss: Annotated[str, Opt("softmax, over the seen domains.")] = "softmax"
    batch_size: Annotated[int, Opt("Images in a batch.", least=1, largest=2**20)] = 128

    @property
    def batch_shape(self) -> tuple[int, int]:
        """Images of a gradient step: one row of single images."""
        return 1, self.batch_size


@dataclass(frozen=True, kw_only=True)
class EpisodesOptions(FewShotOptions):
    """Options of methods that train on episodes; ``batch_size`` has no meaning and is not used."""

    batch_size: Annotated[int, Opt("Not used: episodes say their size.", hidden=True, least=1, largest=2**20)] = 128
    ways: Annotated[int, Opt("Domains in an episode.", panel=_EPISODES, least=2)] = 5
    shots: Annotated[int, Opt("Support images of each.", panel=_EPISODES, least=1)] = 5
    queries: Annotated[int, Opt("Query images of each.", panel=_EPISODES, least=1)] = 15

    @property
    def episode(self) -> tuple[int, int]:
        """Ways and shots of a batch."""
        return self.ways, self.shots

    @property
    def batch_shape(self) -> tuple[int, int]:
        """Images of an episode: one row, way after way, each with its shots and then its queries."""
        return 1, self.ways * (self.shots + self.queries)


@dataclass(frozen=True, kw_only=True)
class ProtoNetOptions(EpisodesOptions):
    """Options of prototypical networks; an episode is a gradient step."""

    method: ClassVar[str] = "protonet"
    losses: ClassVar[tuple[str, ...]] = ("prototypes",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {**_QUICK, "ways": 16, "iterations": 180},
        "best": {**_BEST, "lr": 0.01, "weight_decay": 0.01, "ways": 20},
    }

    loss: Annotated[str, Opt("prototypes: distances to the support's means.")] = "prototypes"


@dataclass(frozen=True, kw_only=True)
class FomamlOptions(EpisodesOptions):
    """Options of first-order MAML; ``lr``, ``optimizer``, ``weight_decay`` and ``schedule`` are of the outer steps."""

    method: ClassVar[str] = "fomaml"
    losses: ClassVar[tuple[str, ...]] = ("classifier",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {**_QUICK_MAML, "inner_rate": 0.6, "iterations": 160},
        "best": {**_BEST_MAML, "iterations": 670},
    }

    loss: Annotated[str, Opt("classifier: a linear head on the embedding.")] = "classifier"
    queries: Annotated[int, Opt("Query images of each.", panel=_EPISODES, least=1)] = 5
    meta_batch: Annotated[
        int, Opt("Episodes whose gradients are averaged in an iteration.", panel=_EPISODES, least=1)
    ] = 4
    inner_steps: Annotated[int, Opt("Plain gradient steps on an episode's support.", panel=_EPISODES, least=1)] = 5
    inner_rate: Annotated[float, Opt("Learning rate of the inner steps.", panel=_EPISODES, above=0)] = 0.1

    @property
    def images_per_iteration(self) -> int:
        """Images through the embedder: every inner step the support, then the queries, for every episode."""
        return self.meta_batch * self.ways * (self.inner_steps * self.shots + self.queries)


@dataclass(frozen=True, kw_only=True)
class MamlOptions(FomamlOptions):
    """Options of MAML with second derivatives, through learn2learn."""

    method: ClassVar[str] = "maml"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {**_QUICK_MAML, "inner_rate": 0.3, "inner_steps": 1, "iterations": 360},
        "best": {**_BEST_MAML, "inner_steps": 1},
    }


@dataclass(frozen=True, kw_only=True)
class AnilOptions(FomamlOptions):
    """Options of ANIL, through learn2learn: the inner steps move the head only."""

    method: ClassVar[str] = "anil"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {**_QUICK_MAML, "iterations": 360},
        "best": _BEST_MAML,
    }

    @property
    def images_per_iteration(self) -> int:
        """Images through the embedder: every image of an episode once."""
        return self.meta_batch * self.ways * (self.shots + self.queries)
