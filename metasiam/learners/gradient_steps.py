"""Plain training: draw a batch, make a gradient step. What a batch is makes the method."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metasiam.errors import MetaSiamError
from metasiam.learners.context import TrainingContext
from metasiam.learners.optimized import OptimizedLearner
from metasiam.options.few_shot import FewShotOptions
from metasiam.training.distributed import Processes
from metasiam.training.learner import StopRequested
from metasiam.training.optimizers import set_rate


class GradientSteps(OptimizedLearner[FewShotOptions]):
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
        config: FewShotOptions,
        context: TrainingContext,
        processes: Processes,
        draw_batch: Callable[[torch.Generator], Tensor],
    ) -> None:
        if processes.count > 1:
            raise MetaSiamError(f"{config.method} trains in one process. Start a single one.")
        super().__init__(config, context, config.iterations)
        self.draw_batch = draw_batch
        self.images_per_iteration = config.images_per_iteration
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
