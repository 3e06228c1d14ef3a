"""Plain training: draw a batch, make a gradient step. What a batch is makes the method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metasiam.errors import MetaSiamError
from metasiam.few_shot_config import GradientStepsConfig
from metasiam.learners.context import TrainingContext
from metasiam.training.distributed import Processes
from metasiam.training.learner import StopRequested
from metasiam.training.optimizers import adam, set_rate, sgd
from metasiam.training.schedules import step_rate
from metasiam.training.state import counters, prime, restore_, running_statistics, snapshot, trainable


class GradientSteps:
    """One gradient step an iteration on a batch that ``draw_batch`` draws.

    Args:
        config: the method's options.
        context: data, embedder, objective.
        processes: must be a single one.
        draw_batch: from a generator to int64 indices of the images of one step, of ``config.batch_shape``.

    Raises:
        MetaSiamError: for several processes.
    """

    def __init__(
        self,
        config: GradientStepsConfig,
        context: TrainingContext,
        processes: Processes,
        draw_batch: Callable[[torch.Generator], Tensor],
    ) -> None:
        if processes.count > 1:
            raise MetaSiamError(f"{config.method} trains in one process. Start a single one.")
        self.config = config
        self.context = context
        self.draw_batch = draw_batch
        self.total = config.iterations
        self.images_per_iteration = config.images_per_iteration
        modules = (context.embedder, context.objective)
        context.embedder.train()
        weights = trainable(modules)
        self.optimizer = optimizer_of(config, weights, context.device)
        self._tensors = {
            "momenta": prime(self.optimizer),
            "weights": weights,
            "statistics": running_statistics(modules),
            "counters": counters(modules),
        }
        self._step = context.step(self.optimizer, self.total)

    def iterate(self, iteration: int, stop: Callable[[], bool]) -> Tensor:
        """Make one gradient step; return its loss."""
        if stop():
            raise StopRequested
        generator = self.context.generator("step", iteration)
        index = self.draw_batch(generator)
        parameters = self.context.augmentation.draw(self.config.batch_shape, generator)
        set_rate(self.optimizer, self.rate(iteration))
        return self._step(index, parameters)

    def rate(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        return step_rate(self.config.schedule, self.config.lr, iteration, self.total)

    def state(self) -> dict[str, Any]:
        """Return weights, running statistics and momenta."""
        return {name: snapshot(tensors) for name, tensors in self._tensors.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state that ``state`` returned."""
        for name, tensors in self._tensors.items():
            restore_([tensor.detach() for tensor in tensors], state[name])

    def finish(self) -> None:
        """Leave the embedder in evaluation mode."""
        self.context.embedder.eval()


def optimizer_of(config: GradientStepsConfig, weights: list[Tensor], device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer that the options name."""
    if config.optimizer == "sgd":
        return sgd(weights, config.lr, 0.9, device, nesterov=True, weight_decay=config.weight_decay)
    return adam(weights, config.lr, (0.9, 0.999), device, config.weight_decay)
