"""MAML with second derivatives, through learn2learn.

Source: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks" (2017).
"""

from __future__ import annotations

from torch import Tensor, nn

from metasiam.interop.learn2learn import learn2learn
from metasiam.learners.context import TrainingContext
from metasiam.learners.meta_gradient import MetaGradient
from metasiam.losses import episode_cross_entropy
from metasiam.options.few_shot import MamlOptions
from metasiam.training.distributed import Processes


def maml(config: MamlOptions, context: TrainingContext, processes: Processes) -> MetaGradient:
    """Return meta-gradients of whole networks adapted by ``l2l.algorithms.MAML``.

    Raises:
        MetaSiamError: when learn2learn is not installed, for several processes, or episodes that the seen domains are
            too few or too small for.
    """
    network = nn.Sequential(context.embedder, context.objective.head)  # type: ignore[arg-type]
    algorithm = learn2learn().algorithms.MAML(network, lr=config.inner_rate)

    def add_gradients(support: Tensor, query: Tensor) -> Tensor:
        learner = algorithm.clone()
        for _ in range(config.inner_steps):
            learner.adapt(episode_cross_entropy(learner(support)))
        loss = episode_cross_entropy(learner(query))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return MetaGradient(config, context, processes, add_gradients)
