"""Reptile: learn a task from the current weights, then move the weights part of the way.

Source: Nichol, Achiam, Schulman, "On First-Order Meta-Learning Algorithms" (2018), with the defaults of the published
system: a task is one domain, its loss is a triplet loss against antidomain negatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metasiam.data.tasks import draw_triplets, draw_triplets_of
from metasiam.errors import MetaSiamError
from metasiam.learners.context import TrainingContext
from metasiam.options.reptile import ReptileOptions
from metasiam.training.distributed import Processes
from metasiam.training.learner import StopRequested
from metasiam.training.optimizers import adam, set_rate, sgd
from metasiam.training.schedules import step_rate
from metasiam.training.state import (
    add_difference_,
    counters,
    move_,
    prime,
    restore_,
    running_statistics,
    snapshot,
    take_up_,
    trainable,
    zero_,
)
from metasiam.wording import counted


class Reptile:
    """The outer loop: ``w ← w + ε · mean over tasks of (w_task − w)``.

    The embedder holds the slow weights between iterations; during one it is the clone that learns the tasks. The
    inner optimizer's state, when it is kept, is averaged over an iteration's tasks as the weights are, so that
    tasks spread over processes give the same result as tasks run in turn.

    Args:
        config: the method's options.
        context: data, embedder, objective.
        processes: this process's place among those that share the iteration's tasks.
    """

    def __init__(self, config: ReptileOptions, context: TrainingContext, processes: Processes) -> None:
        self.config = config
        self.context = context
        self.processes = processes
        self.total = config.iterations
        self.tasks_per_iteration = config.meta_batch * processes.planned
        if processes.count > self.tasks_per_iteration:
            raise MetaSiamError(
                f"the run has {counted(self.tasks_per_iteration, 'task')} in an iteration, too few for "
                f"{counted(processes.count, 'process', 'processes')}. Start fewer of them."
            )
        self.ways = config.ways or max(len(context.split.seen) // 2, 1)
        self.images_per_iteration = 3 * config.batch_size * config.inner_epochs * self.tasks_per_iteration
        if config.ways > len(context.split.seen):
            raise MetaSiamError(
                f"--ways {config.ways} needs as many seen domains, there are {len(context.split.seen)}."
            )
        if len(context.split.seen) < 2:
            raise MetaSiamError("Reptile needs at least two seen domains, for antidomain negatives.")
        smallest = context.seen.fewest
        if config.task_shots is not None and config.task_shots > smallest:
            raise MetaSiamError(
                f"--task-shots {config.task_shots}: a seen domain has only {counted(smallest, 'training image')}."
            )

        modules = (context.embedder, context.objective)
        context.embedder.train(config.batch_norm != "frozen")
        self._weights = trainable(modules)
        self._statistics = running_statistics(modules)
        self._counters = counters(modules)
        self.optimizer = _inner_optimizer(config, self._weights, context.device)
        self._momenta = prime(self.optimizer)
        # What the outer loop carries from iteration to iteration: the slow copies of all three.
        self._slow = {name: snapshot(tensors) for name, tensors in self._fast().items()}
        self._change = {name: [torch.zeros_like(t) for t in tensors] for name, tensors in self._slow.items()}
        self._meta_optimizer = _meta_optimizer(config, self._slow["weights"])
        tasks = len(processes.share(self.tasks_per_iteration))
        self._step = context.step(self.optimizer, config.iterations * config.inner_epochs * tasks, processes)

    def _fast(self) -> dict[str, list[Tensor]]:
        return {"weights": self._weights, "statistics": self._statistics, "momenta": self._momenta}

    def iterate(self, iteration: int, stop: Callable[[], bool]) -> Tensor:
        """Learn this iteration's tasks from the slow weights, then interpolate; return the mean inner loss."""
        for tensors in self._change.values():
            zero_(tensors)
        counted = snapshot(self._counters)
        loss = torch.zeros((), device=self.context.device)
        stopped = False
        for slot in self.processes.share(self.tasks_per_iteration):
            self._restore_slow()
            losses = self._learn_task(iteration, slot, stop)
            stopped = len(losses) < self.config.inner_epochs
            if stopped:
                break
            loss += torch.stack(losses).sum()
            for name, tensors in self._fast().items():
                add_difference_(self._change[name], tensors, self._slow[name])
        # Whether to stop is agreed on before anything is interpolated: all processes, or none, finish the iteration.
        if self.processes.any(stopped):
            self._restore_slow()
            restore_(self._counters, counted)
            raise StopRequested
        self.processes.sum_([loss], *self._change.values())
        self._interpolate(iteration)
        return loss / (self.tasks_per_iteration * self.config.inner_epochs)

    def _learn_task(self, iteration: int, slot: int, stop: Callable[[], bool]) -> list[Tensor]:
        """Run the inner epochs on the task that belongs to (iteration, slot); return the losses up to a stop."""
        config = self.config
        generator = self.context.generator("task", iteration, slot)
        index = self.draw_task(generator)
        parameters = self.context.augmentation.draw((config.inner_epochs, 3, config.batch_size), generator)
        losses: list[Tensor] = []
        for epoch in range(config.inner_epochs):
            if stop():
                break
            set_rate(self.optimizer, self.inner_rate(iteration, epoch))
            losses.append(self._step(index[epoch], parameters[epoch]))
        return losses

    def draw_task(self, generator: torch.Generator) -> Tensor:
        """Draw a task's batches: int64 [inner_epochs, 3, batch]; without ``task_shots``, never waits for the device."""
        config, seen = self.config, self.context.seen
        rows = torch.randperm(len(seen.domains), generator=generator, device=seen.device)[: self.ways]
        shape = (config.inner_epochs, config.batch_size)
        if config.task_shots is None:
            index = draw_triplets_of(seen, rows, seen, shape, generator)
        else:
            task = seen.only(seen.domains[rows].tolist()).shots(config.task_shots, generator)
            index = draw_triplets(task, seen, shape, generator)
        return index.transpose(0, 1).contiguous()

    @torch.no_grad()
    def _interpolate(self, iteration: int) -> None:
        change = self._change
        for tensors in change.values():
            torch._foreach_div_(tensors, float(self.tasks_per_iteration)) if tensors else None
        step = self.rate(iteration)
        for group in self._meta_optimizer.param_groups:
            group["lr"] = step
        for slow, difference in zip(self._slow["weights"], change["weights"], strict=True):
            slow.grad = -difference  # the pseudo-gradient
        self._meta_optimizer.step()
        self._meta_optimizer.zero_grad(set_to_none=True)
        if self.config.batch_norm == "interpolate":
            move_(self._slow["statistics"], change["statistics"], step)
        if self.config.optimizer_state == "keep":
            move_(self._slow["momenta"], change["momenta"], 1.0)
        self._restore_slow()

    def _restore_slow(self) -> None:
        for name, tensors in self._fast().items():
            restore_([tensor.detach() for tensor in tensors], self._slow[name])

    def rate(self, iteration: int) -> float:
        """Return the meta-step ε of an iteration."""
        done = iteration / self.total
        scale = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
        return self.config.meta_step * scale[self.config.meta_schedule]

    def inner_rate(self, iteration: int, epoch: int) -> float:
        """Return the learning rate of an inner epoch; all tasks of an iteration have the same."""
        config = self.config
        steps = self.total * config.inner_epochs
        return step_rate(config.schedule, config.lr, iteration * config.inner_epochs + epoch, steps)

    def state(self) -> dict[str, Any]:
        """Return the slow weights, statistics and momenta, and the meta-optimizer's state."""
        return {
            "slow": {name: snapshot(tensors) for name, tensors in self._slow.items()},
            "counters": snapshot(self._counters),
            "meta_optimizer": self._meta_optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state that ``state`` returned."""
        for name, tensors in self._slow.items():
            take_up_(tensors, state["slow"][name])
        take_up_(self._counters, state["counters"])
        self._meta_optimizer.load_state_dict(state["meta_optimizer"])
        self._restore_slow()

    def finish(self) -> None:
        """Leave the slow weights in the embedder; estimate running statistics that the tasks did not keep."""
        self._restore_slow()
        if self.config.batch_norm == "task":
            self.context.estimate_statistics()
        self.context.embedder.eval()


def _inner_optimizer(config: ReptileOptions, weights: list[Tensor], device: torch.device) -> torch.optim.Optimizer:
    if config.inner_optimizer == "sgd":
        return sgd(weights, config.lr, config.beta1 or 0.0, device, weight_decay=config.weight_decay)
    beta1 = 0.9 if config.beta1 is None else config.beta1
    return adam(weights, config.lr, (beta1, 0.999), device, config.weight_decay)


def _meta_optimizer(config: ReptileOptions, slow: list[Tensor]) -> torch.optim.Optimizer:
    if config.meta_optimizer == "adam":
        return torch.optim.Adam(slow, lr=config.meta_step, betas=(config.meta_momentum, 0.999))
    nesterov = config.meta_optimizer == "nesterov"
    momentum = config.meta_momentum if nesterov else 0.0
    return torch.optim.SGD(slow, lr=config.meta_step, momentum=momentum, nesterov=nesterov)
