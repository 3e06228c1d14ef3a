"""Pair heads: from the embeddings of two images to the log-odds that they show the same domain.

Every head is symmetric: swapping the two images changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metasiam.errors import MetaSiamError


class LearnedL1(nn.Module):
    """One linear unit on |a − b| (Koch et al., 2015).

    Args:
        embedding_size: D.
    """

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.output = nn.Linear(embedding_size, 1)

    def features(self, first: Tensor, second: Tensor) -> Tensor:
        """Return what the unit sees: float [P, D] twice to [P, D]."""
        return (first - second).abs()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return log-odds of "same": float [P, D] twice to [P]."""
        logits: Tensor = self.output(self.features(first, second))
        return logits.squeeze(1)


class Features(nn.Module):
    """One linear unit on a · b and |a − b|, element by element, of length-normalised embeddings.

    Args:
        embedding_size: D.

    Attributes:
        difference_weight: what |a − b| counts next to a · b, both brought to a length of about √D. It acts as the
            penalty on its weights; chosen by cross-validation on LFW's training pairs (``benchmarks/faces.py``).
    """

    difference_weight = 0.5

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.output = nn.Linear(2 * embedding_size, 1)

    def features(self, first: Tensor, second: Tensor) -> Tensor:
        """Return what the unit sees: float [P, D] twice to [P, 2 D]."""
        a, b = F.normalize(first, dim=1), F.normalize(second, dim=1)
        # Elements of a unit vector are of order 1 / √D, those of a product 1 / D: bring both to order 1.
        size = float(self.embedding_size)
        return torch.cat((a * b * size, (a - b).abs() * (self.difference_weight * size**0.5)), 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return log-odds of "same": float [P, D] twice to [P]."""
        logits: Tensor = self.output(self.features(first, second))
        return logits.squeeze(1)


class ScaledCosine(nn.Module):
    """scale · cos(a, b) + bias, both learned: ranks pairs as the cosine does.

    Args:
        embedding_size: not needed; every head takes it.
    """

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return log-odds of "same": float [P, D] twice to [P]."""
        return self.log_scale.exp() * F.cosine_similarity(first, second) + self.bias


class ScaledEuclidean(nn.Module):
    """bias − scale · ‖a − b‖², both learned: ranks pairs as the squared distance does.

    Args:
        embedding_size: D; the first scale is 1 / D.
    """

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(-torch.tensor(float(embedding_size)).log())
        self.bias = nn.Parameter(torch.tensor(1.0))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return log-odds of "same": float [P, D] twice to [P]."""
        return self.bias - self.log_scale.exp() * (first - second).square().sum(1)


class MarginDistance(nn.Module):
    """margin / 2 − ‖a − b‖: the contrastive loss's own answer, "same" within half its margin. Nothing to learn.

    Args:
        margin: the loss's margin, in units of distance.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance below half the margin: float [P, D] twice to [P]."""
        return self.margin / 2 - (first - second).square().sum(1).clamp(min=1e-12).sqrt()


#: Name → builder(embedding size).
PAIR_HEADS: dict[str, Callable[[int], nn.Module]] = {
    "l1": LearnedL1,
    "features": Features,
    "cosine": ScaledCosine,
    "euclidean": ScaledEuclidean,
}


def build_pair_head(name: str, embedding_size: int) -> nn.Module:
    """Build a head by name: a module called as ``head(first [P, D], second [P, D])``, returning log-odds [P].

    Raises:
        MetaSiamError: for an unknown name.
    """
    if name not in PAIR_HEADS:
        raise MetaSiamError(f"--head {name} is unknown. Use one of: {', '.join(PAIR_HEADS)}.")
    return PAIR_HEADS[name](embedding_size)
