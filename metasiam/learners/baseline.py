"""Baseline: a cosine classifier of the seen domains on single labelled images.

Source: Chen et al., "A Closer Look at Few-shot Classification" (2019), Baseline++.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metasiam.learners.context import TrainingContext
from metasiam.learners.gradient_steps import GradientSteps
from metasiam.options.few_shot import BaselineOptions
from metasiam.training.distributed import Processes


def baseline(config: BaselineOptions, context: TrainingContext, processes: Processes) -> GradientSteps:
    """Return gradient steps on images drawn uniformly from the seen domains, with the normalised-softmax loss.

    Raises:
        MetaSiamError: for several processes.
    """

    def draw_batch(generator: torch.Generator) -> Tensor:
        images = context.seen.images
        return images[torch.randint(len(images), config.batch_shape, generator=generator, device=images.device)]

    return GradientSteps(config, context, processes, draw_batch)
