"""What methods whose every iteration is one step of one optimizer have in common."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from metasiam.learners.context import TrainingContext
from metasiam.options.training import GradientStepsOptions
from metasiam.training.optimizers import adam, sgd
from metasiam.training.schedules import step_rate
from metasiam.training.state import counters, prime, running_statistics, snapshot, take_up_, trainable

ConfigType = TypeVar("ConfigType", bound=GradientStepsOptions)


class OptimizedLearner(Generic[ConfigType]):
    """The optimizer that the options name, its rate over the run, and everything it changes as the saved state.

    The embedder is left in training mode.

    Args:
        config: the method's options.
        context: data, embedder, objective.
        total: iterations of the whole run.
    """

    def __init__(self, config: ConfigType, context: TrainingContext, total: int) -> None:
        self.config = config
        self.context = context
        self.total = total
        modules = (context.embedder, context.objective)
        context.embedder.train()
        self.weights = trainable(modules)
        self.optimizer = _optimizer(config, self.weights, context.device)
        self._tensors = {
            "weights": self.weights,
            "statistics": running_statistics(modules),
            "counters": counters(modules),
            "momenta": prime(self.optimizer),
        }

    def rate(self, iteration: int) -> float:
        """Return the learning rate of an iteration."""
        return step_rate(self.config.schedule, self.config.lr, iteration, self.total)

    def state(self) -> dict[str, Any]:
        """Return weights, running statistics and momenta."""
        return {name: snapshot(tensors) for name, tensors in self._tensors.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state that ``state`` returned."""
        for name, tensors in self._tensors.items():
            take_up_([tensor.detach() for tensor in tensors], state[name])

    def finish(self) -> None:
        """Leave the embedder in evaluation mode."""
        self.context.embedder.eval()


def _optimizer(config: GradientStepsOptions, weights: list[Tensor], device: torch.device) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return sgd(weights, config.lr, 0.9, device, nesterov=True, weight_decay=config.weight_decay)
    return adam(weights, config.lr, (0.9, 0.999), device, config.weight_decay)
