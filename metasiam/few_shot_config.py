"""Options of the field's two standard baselines. No torch here: the CLI reads it."""

from __future__ import annotations

from dataclasses import dataclass

from metasiam.config import TrainingConfig, one_of, require


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(TrainingConfig):
    """Options of the cosine classifier; ``batch_size`` counts single images, and ``loss`` is ``softmax``.

    Attributes:
        iterations: gradient steps.
        schedule: learning rate over the run: ``constant``, or ``cosine`` to 0.
    """

    method = "baseline"

    loss: str = "softmax"
    iterations: int = 10000
    schedule: str = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("baseline's --loss", self.loss, ("softmax",))
        one_of("--schedule", self.schedule, ("constant", "cosine"))
        require(self.iterations >= 1, f"--iterations must be at least 1, not {self.iterations}.")

    @property
    def batch_shape(self) -> tuple[int, int]:
        """Images of a gradient step: one row of single images."""
        return 1, self.batch_size


@dataclass(frozen=True, kw_only=True)
class ProtoNetConfig(TrainingConfig):
    """Options of prototypical networks; an episode is a batch, ``batch_size`` has no meaning and is not used.

    Attributes:
        iterations: episodes, one gradient step each.
        ways: domains in an episode.
        shots: support images of each.
        queries: query images of each.
        schedule: learning rate over the run: ``constant``, or ``cosine`` to 0.
    """

    method = "protonet"

    loss: str = "prototypes"
    iterations: int = 10000
    ways: int = 5
    shots: int = 5
    queries: int = 15
    schedule: str = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("protonet's --loss", self.loss, ("prototypes",))
        one_of("--schedule", self.schedule, ("constant", "cosine"))
        require(self.iterations >= 1, f"--iterations must be at least 1, not {self.iterations}.")
        require(self.ways >= 2, f"--ways must be at least 2 for protonet, not {self.ways}.")
        require(self.shots >= 1, f"--shots must be at least 1, not {self.shots}.")
        require(self.queries >= 1, f"--queries must be at least 1, not {self.queries}.")

    @property
    def batch_shape(self) -> tuple[int, int]:
        """Images of a gradient step: one row, way after way, each with its shots and then its queries."""
        return 1, self.ways * (self.shots + self.queries)
