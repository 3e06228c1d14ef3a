"""Training episodes of the seen domains."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metasiam.data.tasks import draw_episodes
from metasiam.errors import MetaSiamError
from metasiam.learners.context import TrainingContext
from metasiam.options.few_shot import EpisodesOptions
from metasiam.wording import counted


def episode_drawer(config: EpisodesOptions, context: TrainingContext) -> Callable[[torch.Generator], Tensor]:
    """Return what draws an episode: int64 [ways, shots + queries], each way's supports first.

    Raises:
        MetaSiamError: for episodes that the seen domains are too few or too small for.
    """
    if config.ways > len(context.split.seen):
        raise MetaSiamError(f"--ways {config.ways} needs as many seen domains, there are {len(context.split.seen)}.")
    wanted, smallest = config.shots + config.queries, context.seen.fewest
    if wanted > smallest:
        raise MetaSiamError(
            f"{config.method}'s {counted(config.shots, 'shot')} and {counted(config.queries, 'query', 'queries')} need "
            f"{counted(wanted, 'image')} of a domain, one has {smallest}. Lower them."
        )

    def draw(generator: torch.Generator) -> Tensor:
        episode = draw_episodes(
            context.seen,
            ways=config.ways,
            shots=config.shots,
            queries=config.queries,
            episodes=1,
            generator=generator,
        )
        return torch.cat((episode.support[0], episode.query[0]), dim=1)

    return draw
