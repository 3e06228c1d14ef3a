"""Prototypical networks: episodes of N ways and K shots, queries classified by the nearest class mean.

Source: Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning" (2017).
"""

from __future__ import annotations

import torch
from torch import Tensor

from metasiam.data.tasks import draw_episodes
from metasiam.errors import MetaSiamError
from metasiam.few_shot_config import ProtoNetConfig
from metasiam.learners.context import TrainingContext
from metasiam.learners.gradient_steps import GradientSteps
from metasiam.training.distributed import Processes


def protonet(config: ProtoNetConfig, context: TrainingContext, processes: Processes) -> GradientSteps:
    """Return gradient steps on one episode each, with the prototypical loss.

    Raises:
        MetaSiamError: for several processes, or episodes that the seen domains are too few or too small for.
    """
    if config.ways > len(context.split.seen):
        raise MetaSiamError(f"--ways {config.ways} needs as many seen domains, there are {len(context.split.seen)}.")
    wanted, smallest = config.shots + config.queries, int(context.seen.counts.min())
    if wanted > smallest:
        raise MetaSiamError(
            f"protonet's {config.shots} shots and {config.queries} queries need {wanted} images of a domain, "
            f"one has {smallest}. Lower them."
        )

    def draw_batch(generator: torch.Generator) -> Tensor:
        episode = draw_episodes(
            context.seen,
            ways=config.ways,
            shots=config.shots,
            queries=config.queries,
            episodes=1,
            generator=generator,
        )
        return torch.cat((episode.support, episode.query), dim=2).reshape(config.batch_shape)

    return GradientSteps(config, context, processes, draw_batch)
