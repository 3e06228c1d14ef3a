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

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return log-odds of "same": float [P, D] twice to [P]."""
        logits: Tensor = self.output((first - second).abs())
        return logits.squeeze(1)


class Features(nn.Module):
    """Two layers on |a − b| and a · b (element by element), for length-normalised embeddings.

    Args:
        embedding_size: D.
        hidden: units between.
    """

    def __init__(self, embedding_size: int, hidden: int = 64) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.hidden = nn.Linear(2 * embedding_size, hidden)
        self.output = nn.Linear(hidden, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return log-odds of "same": float [P, D] twice to [P]."""
        # Unit length times √D: every feature is of order 1, whatever the embedder's scale.
        a, b = (F.normalize(part, dim=1) * self.embedding_size**0.5 for part in (first, second))
        features = torch.cat(((a - b).abs(), a * b), 1)
        logits: Tensor = self.output(F.relu(self.hidden(features)))
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
