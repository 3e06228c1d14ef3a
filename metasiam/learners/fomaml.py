"""First-order MAML: the gradient of the query loss at the adapted weights, taken as that of the weights themselves.

Source: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks" (2017), section 5.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metasiam.learners.context import TrainingContext
from metasiam.learners.meta_gradient import MetaGradient
from metasiam.losses import episode_cross_entropy
from metasiam.options.few_shot import FomamlOptions
from metasiam.training.distributed import Processes
from metasiam.training.state import restore_, snapshot, trainable


def fomaml(config: FomamlOptions, context: TrainingContext, processes: Processes) -> MetaGradient:
    """Return meta-gradients of whole networks adapted by plain gradient steps.

    Raises:
        MetaSiamError: for several processes, or episodes that the seen domains are too few or too small for.
    """
    weights = trainable((context.embedder, context.objective))
    values = [weight.detach() for weight in weights]

    def loss_of(images: Tensor) -> Tensor:
        return episode_cross_entropy(context.objective.head(context.embedder(images)))  # type: ignore[operator]

    def add_gradients(support: Tensor, query: Tensor) -> Tensor:
        start = snapshot(weights)
        for _ in range(config.inner_steps):
            gradients = torch.autograd.grad(loss_of(support), weights)
            torch._foreach_add_(values, gradients, alpha=-config.inner_rate)
        loss = loss_of(query)
        loss.backward()  # type: ignore[no-untyped-call]
        restore_(values, start)
        return loss.detach()

    return MetaGradient(config, context, processes, add_gradients)
