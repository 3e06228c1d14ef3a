"""Meta-gradients: the outer loop of the MAML family. How an episode is adapted to makes the method."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metasiam.errors import MetaSiamError
from metasiam.learners.context import TrainingContext
from metasiam.learners.episodes import episode_drawer
from metasiam.learners.optimized import OptimizedLearner
from metasiam.options.few_shot import FomamlOptions
from metasiam.training.distributed import Processes
from metasiam.training.learner import StopRequested
from metasiam.training.optimizers import set_rate


class MetaGradient(OptimizedLearner[FomamlOptions]):
    """One optimizer step an iteration along the mean gradient of ``meta_batch`` episodes' query losses.

    BatchNorm normalises support and queries by their own batches, as in the source; its running statistics, which the
    adapted copies would not agree on, are estimated on seen images at the end. Steps are never compiled, and computed
    in float32.

    Args:
        config: the method's options.
        context: data, embedder, and the objective that holds the linear head.
        processes: must be a single one.
        add_gradients: called with normalised images float [ways · shots, C, H, W] and [ways · queries, C, H, W], each
            way after way; adds the gradient of the query loss after adaptation to the weights' ``grad`` and returns
            the loss. It leaves the weights as they were.

    Raises:
        MetaSiamError: for several processes, compiling or bf16 asked for, or episodes that the seen domains are too
            few or too small for.
    """

    def __init__(
        self,
        config: FomamlOptions,
        context: TrainingContext,
        processes: Processes,
        add_gradients: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        if processes.count > 1:
            raise MetaSiamError(f"{config.method} trains in one process. Start a single one.")
        for option, value in (("--precision", config.precision), ("--compile", config.compile)):
            if value in ("bf16", "on"):
                raise MetaSiamError(f"{config.method} has no {option} {value}. Omit it.")
        super().__init__(config, context, config.iterations)
        self.add_gradients = add_gradients
        self.draw_episode = episode_drawer(config, context)
        self.images_per_iteration = config.images_per_iteration
        context.compiled, context.precision = False, torch.float32

    def iterate(self, iteration: int, stop: Callable[[], bool]) -> Tensor:
        """Make one outer step; return the mean query loss after adaptation."""
        loss = torch.zeros((), device=self.context.device)
        for episode in range(self.config.meta_batch):
            if stop():
                self.optimizer.zero_grad(set_to_none=True)
                raise StopRequested
            loss += self.add_gradients(*self.images(self.context.generator("episode", iteration, episode)))
        for weight in self.weights:
            if weight.grad is not None:
                weight.grad /= self.config.meta_batch
        set_rate(self.optimizer, self.rate(iteration))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss / self.config.meta_batch

    def images(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw an episode and return its augmented, normalised support and query images."""
        context, index = self.context, self.draw_episode(generator)
        parameters = context.augmentation.draw(index.shape, generator)
        parts = []
        for part in (slice(None, self.config.shots), slice(self.config.shots, None)):
            pixels, drawn = context.domains.gather(index[:, part].flatten()), parameters[:, part].flatten(0, 1)
            parts.append(context.augmentation.apply(pixels, drawn, context.info.mean, context.info.std))
        return parts[0], parts[1]

    def finish(self) -> None:
        """Estimate running statistics and leave the embedder in evaluation mode."""
        self.context.estimate_statistics()
        super().finish()
