"""What the training loop asks of a method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor


class StopRequested(Exception):
    """Raised inside an iteration when the user asked to stop; the iteration leaves no trace."""


class Learner(Protocol):
    """A method that improves an embedder iteration by iteration.

    Attributes:
        total: iterations of the whole run.
        images_per_iteration: images that go through the network in one, over all processes.
    """

    total: int
    images_per_iteration: int

    def iterate(self, iteration: int, stop: Callable[[], bool]) -> Tensor:
        """Run iteration number ``iteration`` (from 0) and return its mean loss as a scalar tensor.

        Raises:
            StopRequested: if ``stop()`` turned true on the way; nothing has changed then.
        """
        ...

    def rate(self, iteration: int) -> float:
        """Return the meta-step or learning rate of that iteration."""
        ...

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, as tensors and plain values."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state that ``state`` returned."""
        ...

    def finish(self) -> None:
        """Leave the embedder ready to be evaluated."""
        ...
