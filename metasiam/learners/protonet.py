"""Prototypical networks: episodes of N ways and K shots, queries classified by the nearest class mean.

Source: Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning" (2017).
"""

from __future__ import annotations

from metasiam.learners.context import TrainingContext
from metasiam.learners.episodes import episode_drawer
from metasiam.learners.gradient_steps import GradientSteps
from metasiam.options.few_shot import ProtoNetOptions
from metasiam.training.distributed import Processes


def protonet(config: ProtoNetOptions, context: TrainingContext, processes: Processes) -> GradientSteps:
    """Return gradient steps on one episode each, with the prototypical loss.

    Raises:
        MetaSiamError: for several processes, or episodes that the seen domains are too few or too small for.
    """
    draw = episode_drawer(config, context)
    return GradientSteps(config, context, processes, lambda generator: draw(generator).reshape(config.batch_shape))
