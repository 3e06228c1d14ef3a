"""Classic triplet training: one embedder, every seen image an anchor once an epoch.

Source: Schroff et al., "FaceNet" (2015), with the published defaults (cosine, margin 0.3, Adam 1e-3, batch 128).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from metasiam.data.tasks import complete_triplets
from metasiam.errors import MetaSiamError
from metasiam.learners.context import TrainingContext
from metasiam.learners.optimized import OptimizedLearner
from metasiam.options.triplet import TripletOptions
from metasiam.training.distributed import Processes
from metasiam.training.learner import StopRequested
from metasiam.training.optimizers import set_rate
from metasiam.wording import counted


class Triplet(OptimizedLearner[TripletOptions]):
    """Gradient steps on triplets whose anchors pass through the seen images in a fresh order every epoch.

    With several processes a step's batch is as many times larger, each process takes an equal part of it, and the
    gradients are averaged (DistributedDataParallel). BatchNorm normalises each process's own part; the running
    statistics that are kept are the writing process's.

    Args:
        config: the method's options.
        context: data, embedder, objective.
        processes: this process's place among those that train together; each takes its part of the anchors.
    """

    def __init__(self, config: TripletOptions, context: TrainingContext, processes: Processes) -> None:
        images = len(context.seen.images)
        whole = config.batch_size * processes.planned
        part, rest = divmod(whole, processes.count)
        if rest:
            raise MetaSiamError(
                f"a step's {counted(whole, 'triplet')} cannot be shared equally by "
                f"{counted(processes.count, 'process', 'processes')}. "
                f"Start {processes.planned} of them, or another number that divides it."
            )
        super().__init__(config, context, config.iterations or math.ceil(config.epochs * images / whole))
        self.processes = processes
        self._images = images
        self._global_batch = whole
        self._own = slice(processes.rank * part, (processes.rank + 1) * part)
        self.images_per_iteration = 3 * whole
        self._rows = torch.repeat_interleave(
            torch.arange(len(context.seen.domains), device=context.device), context.seen.counts
        )
        self._orders: dict[int, Tensor] = {}
        self._step = context.step(self.optimizer, self.total, processes, batch_size=part, average_gradients=True)

    def iterate(self, iteration: int, stop: Callable[[], bool]) -> Tensor:
        """Make one gradient step; return its loss."""
        if self.processes.any(stop()):
            raise StopRequested
        # Every process draws the whole batch and takes its part: the triplets do not depend on how many they are.
        generator = self.context.generator("step", iteration)
        index = self.draw_batch(iteration, generator)
        parameters = self.context.augmentation.draw((3, self._global_batch), generator)
        set_rate(self.optimizer, self.rate(iteration))
        with self.processes.noticing_loss():
            return self._step(index[:, self._own], parameters[:, self._own])

    def draw_batch(self, iteration: int, generator: torch.Generator) -> Tensor:
        """Return int64 [3, batch]: a step's anchors with positives and antidomain negatives drawn afresh."""
        place = self._anchor_stream(iteration * self._global_batch, self._global_batch)
        row = self._rows[place]
        seen = self.context.seen
        return complete_triplets(seen, seen, row, place - seen.starts[row], generator)

    def _anchor_stream(self, begin: int, count: int) -> Tensor:
        """Return ``count`` places in the seen pool from position ``begin`` of the endless stream of epochs."""
        parts = []
        while count > 0:
            epoch, offset = divmod(begin, self._images)
            part = self._order(epoch)[offset : offset + count]
            parts.append(part)
            begin, count = begin + len(part), count - len(part)
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = self.context.generator("epoch", epoch)
            order = torch.randperm(self._images, generator=generator, device=self.context.device)
            self._orders = {e: o for e, o in self._orders.items() if e >= epoch - 1} | {epoch: order}
        return self._orders[epoch]
