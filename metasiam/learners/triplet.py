"""Classic triplet training: one embedder, every seen image an anchor once an epoch.

Source: Schroff et al., "FaceNet" (2015), with the seeds' defaults (cosine, margin 0.3, Adam 1e-3, batch 128).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metasiam.config import TripletConfig
from metasiam.data.tasks import complete_triplets
from metasiam.learners.context import TrainingContext
from metasiam.learners.reptile import adam
from metasiam.training.distributed import Processes
from metasiam.training.learner import StopRequested
from metasiam.training.state import counters, prime, restore_, running_statistics, snapshot, trainable


class Triplet:
    """Gradient steps on triplets whose anchors pass through the seen images in a fresh order every epoch.

    Args:
        config: the method's options.
        context: data, embedder, objective.
        processes: this process's place among those that train together; each takes its part of the anchors.
    """

    def __init__(self, config: TripletConfig, context: TrainingContext, processes: Processes) -> None:
        self.config = config
        self.context = context
        self.processes = processes
        self._images = len(context.seen.images)
        self._global_batch = config.batch_size * processes.count
        self.total = config.iterations or math.ceil(config.epochs * self._images / self._global_batch)
        self.images_per_iteration = 3 * self._global_batch
        modules = (context.embedder, context.objective)
        context.embedder.train()
        weights = trainable(modules)
        if config.optimizer == "sgd":
            self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
                weights, lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay, foreach=True
            )
        else:
            self.optimizer = adam(weights, config.lr, (0.9, 0.999), context.device, config.weight_decay)
        momenta = prime(self.optimizer)
        self._tensors = {
            "weights": weights,
            "statistics": running_statistics(modules),
            "counters": counters(modules),
            "momenta": momenta,
        }
        self._rows = torch.repeat_interleave(
            torch.arange(len(context.seen.domains), device=context.device), context.seen.counts
        )
        self._orders: dict[int, Tensor] = {}
        self._step = context.step(self.optimizer, steps=self.total)

    def iterate(self, iteration: int, stop: Callable[[], bool]) -> Tensor:
        """Make one gradient step; return its loss."""
        if stop():
            raise StopRequested
        generator = self.context.generator("step", iteration, self.processes.rank)
        index = self.draw_batch(iteration, generator)
        parameters = self.context.augmentation.draw((3, self.config.batch_size), generator)
        self._set_rate(self.rate(iteration))
        return self._step(index, parameters)

    def draw_batch(self, iteration: int, generator: torch.Generator) -> Tensor:
        """Return int64 [3, batch]: this step's anchors with positives and antidomain negatives drawn afresh."""
        begin = iteration * self._global_batch + self.processes.rank * self.config.batch_size
        place = self._anchor_stream(begin, self.config.batch_size)
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

    def _set_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value

    def rate(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        done = iteration / self.total
        warm = 0.2
        scale = {
            "constant": 1.0,
            "linear": 1 - done,
            "cosine": (1 + math.cos(math.pi * done)) / 2,
            "onecycle": min((done + 1 / self.total) / warm, (1 - done) / (1 - warm), 1.0),
        }
        return self.config.lr * scale[self.config.schedule]

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
