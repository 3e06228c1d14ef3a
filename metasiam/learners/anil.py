"""ANIL, almost no inner loop: MAML whose inner steps move the head only, through learn2learn.

Source: Raghu, Raghu, Bengio, Vinyals, "Rapid Learning or Feature Reuse?" (2020).
"""

from __future__ import annotations

import torch
from torch import Tensor

from metasiam.interop.learn2learn import learn2learn
from metasiam.learners.context import TrainingContext
from metasiam.learners.meta_gradient import MetaGradient
from metasiam.losses import episode_cross_entropy
from metasiam.options.few_shot import AnilOptions
from metasiam.training.distributed import Processes


def anil(config: AnilOptions, context: TrainingContext, processes: Processes) -> MetaGradient:
    """Return meta-gradients through heads adapted by ``l2l.algorithms.MAML``; the features are computed once.

    Raises:
        MetaSiamError: when learn2learn is not installed, for several processes, or episodes that the seen domains are
            too few or too small for.
    """
    algorithm = learn2learn().algorithms.MAML(context.objective.head, lr=config.inner_rate)

    def add_gradients(support: Tensor, query: Tensor) -> Tensor:
        rows = context.embedder(torch.cat((support, query)))
        learner = algorithm.clone()
        for _ in range(config.inner_steps):
            learner.adapt(episode_cross_entropy(learner(rows[: len(support)])))
        loss = episode_cross_entropy(learner(rows[len(support) :]))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return MetaGradient(config, context, processes, add_gradients)
