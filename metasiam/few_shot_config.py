"""Options of the field's few-shot methods. No torch here: the CLI reads it."""

from __future__ import annotations

from dataclasses import dataclass

from metasiam.config import GradientStepsConfig
from metasiam.option_values import require


@dataclass(frozen=True, kw_only=True)
class FewShotConfig(GradientStepsConfig):
    """Options of the few-shot methods.

    Attributes:
        iterations: gradient steps.
    """

    iterations: int = 10000

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.iterations >= 1, f"--iterations must be at least 1, not {self.iterations}.")


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(FewShotConfig):
    """Options of the cosine classifier; ``batch_size`` counts single images, and ``loss`` is ``softmax``."""

    method = "baseline"
    losses = ("softmax",)

    loss: str = "softmax"

    @property
    def batch_shape(self) -> tuple[int, int]:
        """Images of a gradient step: one row of single images."""
        return 1, self.batch_size


@dataclass(frozen=True, kw_only=True)
class EpisodesConfig(FewShotConfig):
    """Options of methods that train on episodes; ``batch_size`` has no meaning and is not used.

    Attributes:
        ways: domains in an episode.
        shots: support images of each.
        queries: query images of each.
    """

    ways: int = 5
    shots: int = 5
    queries: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.ways >= 2, f"--ways must be at least 2 for {self.method}, not {self.ways}.")
        require(self.shots >= 1, f"--shots must be at least 1, not {self.shots}.")
        require(self.queries >= 1, f"--queries must be at least 1, not {self.queries}.")

    @property
    def episode(self) -> tuple[int, int]:
        """Ways and shots of a batch."""
        return self.ways, self.shots

    @property
    def batch_shape(self) -> tuple[int, int]:
        """Images of an episode: one row, way after way, each with its shots and then its queries."""
        return 1, self.ways * (self.shots + self.queries)


@dataclass(frozen=True, kw_only=True)
class ProtoNetConfig(EpisodesConfig):
    """Options of prototypical networks; an episode is a gradient step, and ``loss`` is ``prototypes``."""

    method = "protonet"
    losses = ("prototypes",)

    loss: str = "prototypes"


@dataclass(frozen=True, kw_only=True)
class FomamlConfig(EpisodesConfig):
    """Options of first-order MAML; ``loss`` is ``classifier``, a linear head on the embedding.

    ``lr``, ``optimizer``, ``weight_decay`` and ``schedule`` are those of the outer steps.

    Attributes:
        meta_batch: episodes whose gradients are averaged in an iteration.
        inner_steps: plain gradient steps on an episode's support.
        inner_rate: their learning rate.
    """

    method = "fomaml"
    losses = ("classifier",)

    loss: str = "classifier"
    queries: int = 5
    meta_batch: int = 4
    inner_steps: int = 5
    inner_rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.meta_batch >= 1, f"--meta-batch must be at least 1, not {self.meta_batch}.")
        require(self.inner_steps >= 1, f"--inner-steps must be at least 1, not {self.inner_steps}.")
        require(self.inner_rate > 0, f"--inner-rate must be positive, not {self.inner_rate}. Try 0.1.")

    @property
    def images_per_iteration(self) -> int:
        """Images through the embedder: every inner step the support, then the queries, for every episode."""
        return self.meta_batch * self.ways * (self.inner_steps * self.shots + self.queries)


@dataclass(frozen=True, kw_only=True)
class MamlConfig(FomamlConfig):
    """Options of MAML with second derivatives, through learn2learn."""

    method = "maml"


@dataclass(frozen=True, kw_only=True)
class AnilConfig(FomamlConfig):
    """Options of ANIL, through learn2learn: the inner steps move the head only."""

    method = "anil"

    @property
    def images_per_iteration(self) -> int:
        """Images through the embedder: every image of an episode once."""
        return self.meta_batch * self.ways * (self.shots + self.queries)
