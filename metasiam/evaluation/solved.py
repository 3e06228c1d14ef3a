"""A head solved in closed form: what few images can teach an embedder without a single gradient step.

The embedding space is stretched along the one direction that best tells a domain's own images from all others,
the linear discriminant. With few images it keeps what gradient steps on so few images destroy: nothing else moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metasiam.evaluation.scored_pairs import ScoredPairs
from metasiam.evaluation.verification import comparable

#: Images from which a direction can be solved. One image's direction is mostly its own peculiarity: it lost 0.2 to 2
#: points on unseen domains.
FEWEST = 2


@dataclass(frozen=True, eq=False)
class Background:
    """What embeddings of other domains look like.

    Attributes:
        mean: float64 [D], of all of them.
        precision: float64 [D, D], inverse of their covariance within domains.
    """

    mean: Tensor
    precision: Tensor


def learn_background(embeddings: Tensor, domains: Tensor, distance: str) -> Background:
    """Learn mean and within-domain covariance of other domains' embeddings.

    The covariance is that of linear discriminant analysis (Fisher, 1936), with its average variance added along the
    diagonal so that few images can be inverted too.

    Args:
        embeddings: float [n, D], n ≥ 1.
        domains: int64 [n], the domain of each.
        distance: ``cosine`` brings the embeddings to length 1 first.
    """
    rows = comparable(embeddings, distance).double()
    _, place = torch.unique(domains, return_inverse=True)
    counts = torch.bincount(place).double().unsqueeze(1)
    centres = torch.zeros(len(counts), rows.shape[1], dtype=torch.float64).index_add_(0, place, rows) / counts
    rest = rows - centres[place]
    covariance = rest.t() @ rest / len(rows)
    ridge = covariance.diagonal().mean().clamp(min=1e-12)
    precision = torch.linalg.inv(covariance + ridge * torch.eye(rows.shape[1], dtype=torch.float64))
    return Background(rows.mean(0), precision)


def solve_head(own: Tensor, background: Background, stretch: float, distance: str) -> Tensor:
    """Return the linear map that stretches the space along a domain's discriminant direction.

    The direction is precision · (mean of the domain − mean of the others), as in exemplar models with a shared
    background (Hariharan, Malik & Ramanan, "Discriminative decorrelation", 2012); the map is I + stretch · u uᵀ.

    Args:
        own: float [k, D], embeddings of the domain's labelled images.
        background: of other domains, by the same embedder.
        stretch: how much longer vectors along the direction become; 0 changes nothing.
        distance: as for ``learn_background``.

    Returns:
        float64 [D, D]; the identity with fewer than ``FEWEST`` images.
    """
    size = own.shape[1]
    identity = torch.eye(size, dtype=torch.float64)
    if len(own) < FEWEST or stretch == 0:
        return identity
    direction = _directions(comparable(own, distance).double().mean(0, keepdim=True), background)[0]
    head: Tensor = identity + stretch * torch.outer(direction, direction)
    return head


def default_stretch(k: int) -> float:
    """Return the solved head's stretch for k images where there are no validation domains to choose it on.

    Chosen on the published 50-50 weights, simulating with domains 50 to 89: best were 0 at 1 image, 0.5 at 2, 1 to 2 at
    5, and 8 or more at 20 and 100, with little lost on either side.
    """
    return 0.0 if k < FEWEST else min(k / 5, 8.0)


def _directions(means: Tensor, background: Background) -> Tensor:
    """Return the unit discriminant direction of each mean: float64 [n, D]."""
    found: Tensor = (means - background.mean) @ background.precision
    units: Tensor = found / found.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return units


def leave_out_scores(
    own: Tensor, negatives: Tensor, background: Background, stretch: float, distance: str
) -> ScoredPairs:
    """Score a domain's images under heads that were solved without them: cross-fitting, exact and at no cost.

    Each same pair is scored by the head of the other k − 2 images, each image against the negatives by the head of
    the other k − 1. A threshold from these scores is not flattered by images that the head has seen.

    Args:
        own: float [k, D].
        negatives: float [n, D], other domains' images.
        background: as for ``solve_head``.
        stretch: as for ``solve_head``.
        distance: as in ``verification.similarity``.

    Returns:
        k(k − 1)/2 same pairs and k · n different ones; no same pairs with fewer than FEWEST + 1 images.
    """
    rows, others = comparable(own, distance).double(), comparable(negatives, distance).double()
    count, total = len(rows), rows.sum(0)
    gain = stretch * (2 + stretch)  # of squared lengths along the direction
    same = torch.empty(0, dtype=torch.float64)
    if count > FEWEST:
        i, j = torch.triu_indices(count, count, 1)
        u = _directions((total - rows[i] - rows[j]) / (count - 2), background)
        same = _stretched(rows[i], rows[j], (u * rows[i]).sum(1), (u * rows[j]).sum(1), gain, distance)
    u = _directions((total - rows) / max(count - 1, 1), background)
    along_own, along_others = (u * rows).sum(1, keepdim=True), u @ others.t()
    if distance == "cosine":
        product = rows @ others.t() + gain * along_own * along_others
        lengths = (1 + gain * along_own**2) * (1 + gain * along_others**2)
        different = product / lengths.sqrt()
    else:
        different = -(torch.cdist(rows, others) ** 2 + gain * (along_own - along_others) ** 2)
    answers = torch.arange(len(same) + different.numel()) < len(same)
    return ScoredPairs(torch.cat((same, different.flatten())).float(), answers)


def _stretched(a: Tensor, b: Tensor, along_a: Tensor, along_b: Tensor, gain: float, distance: str) -> Tensor:
    """Compare a and b, float64 [P, D] each, after stretching; ``along`` are their lengths along the direction."""
    if distance == "cosine":  # of unit vectors
        lengths = (1 + gain * along_a**2) * (1 + gain * along_b**2)
        return ((a * b).sum(1) + gain * along_a * along_b) / lengths.sqrt()
    return -((a - b).square().sum(1) + gain * (along_a - along_b) ** 2)
