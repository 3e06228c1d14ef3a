"""Scores of pairs with the true answers: made from embeddings, put together, thinned, and tried against thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metasiam.evaluation.verification import similarity_matrix


class ScoredPairs(NamedTuple):
    """Scores of pairs with the true answers."""

    scores: Tensor  #: float [P]
    same: Tensor  #: bool [P]

    @property
    def answerable(self) -> bool:
        """Whether there are both same and different pairs to learn from."""
        return len(self.same) > 0 and bool(self.same.any()) and not bool(self.same.all())


def score_images(own: Tensor, negatives: Tensor, distance: str) -> ScoredPairs:
    """Score a domain's images with each other and with images of other domains.

    Args:
        own: float [k, D], embeddings of one domain's images.
        negatives: float [n, D], embeddings of other domains' images.
        distance: as in ``verification.similarity``.

    Returns:
        The k(k − 1)/2 same pairs, then the k · n different ones.
    """
    rows, columns = torch.triu_indices(len(own), len(own), 1)
    same = similarity_matrix(own, own, distance)[rows, columns]
    different = similarity_matrix(own, negatives, distance).flatten()
    answers = torch.zeros(len(same) + len(different), dtype=torch.bool, device=own.device)
    answers[: len(same)] = True
    return ScoredPairs(torch.cat((same, different)), answers)


def half_and_half(first: Tensor, second: Tensor) -> Tensor:
    """Return rows of both, as many of the one as of the other, evenly spread over the longer; of one if one is empty.

    New domains are compared with domains trained on and with other new ones, which are harder to tell apart: what is
    to serve both is learned on both.
    """
    if len(first) == 0 or len(second) == 0:
        return torch.cat((first, second))
    count = min(len(first), len(second))
    return torch.cat([rows[torch.linspace(0, len(rows) - 1, count).round().long()] for rows in (first, second)])


def join(parts: Sequence[ScoredPairs]) -> ScoredPairs:
    """Put scored pairs of several folds or domains together."""
    return ScoredPairs(torch.cat([p.scores for p in parts]), torch.cat([p.same for p in parts]))


def threshold_grid(pairs: Sequence[ScoredPairs], size: int = 2001) -> Tensor:
    """Return thresholds to try: quantiles of all scores, float64 [size]."""
    scores = torch.cat([thin(p, 5000).scores for p in pairs]).double().sort().values
    grid: Tensor = torch.unique(scores[torch.linspace(0, len(scores) - 1, size).round().long()])
    return grid


def accuracy_on_grid(pairs: ScoredPairs, grid: Tensor) -> Tensor:
    """Return the balanced accuracy of every threshold of the grid: float64 [len(grid)]."""
    same = pairs.scores[pairs.same].double().sort().values
    different = pairs.scores[~pairs.same].double().sort().values
    missed = torch.searchsorted(same, grid, right=True).double() / len(same)
    refused = torch.searchsorted(different, grid, right=True).double() / len(different)
    return (1 - missed + refused) / 2


def middle_of_best(grid: Tensor, accuracy: Tensor) -> float:
    """Return the middle of the thresholds whose accuracy is within rounding of the best."""
    best = grid[accuracy >= accuracy.max() - 1e-12]
    return float(best[len(best) // 2])


def thin(pairs: ScoredPairs, most: int = 20_000) -> ScoredPairs:
    """Keep at most so many pairs of each answer, evenly spread over the sorted scores: curves need no more."""
    kept = []
    for answer in (True, False):
        scores = pairs.scores[pairs.same == answer]
        if len(scores) > most:
            scores = scores.sort().values[torch.linspace(0, len(scores) - 1, most).round().long()]
        kept.append(ScoredPairs(scores, torch.full((len(scores),), answer, device=scores.device)))
    return join(kept)


def on_scale_of(pairs: ScoredPairs, different: Tensor) -> ScoredPairs:
    """Bring scores of one embedder to the scale of another, by the different pairs that both have scored.

    Two embedders adapted to one domain differ in how high their scores lie. Every score is moved to where the other
    embedder has the same share of different pairs above it, so a threshold found on the result keeps its rate of
    false alarms; scores above all different pairs keep their distance from the highest.

    Args:
        pairs: scored by the one, with different pairs among them.
        different: float [n], scores of different pairs by the other.
    """
    share = torch.linspace(0, 1, 1001, dtype=torch.float64)
    here, there = (_quantiles(scores, share) for scores in (pairs.scores[~pairs.same], different))
    scores = pairs.scores.double()
    right = torch.searchsorted(here, scores).clamp(1, len(here) - 1)
    span = (here[right] - here[right - 1]).clamp(min=1e-12)
    part = ((scores - here[right - 1]) / span).clamp(0, 1)
    moved = torch.lerp(there[right - 1], there[right], part)
    moved += (scores - here[-1]).clamp(min=0) + (scores - here[0]).clamp(max=0)
    return ScoredPairs(moved.to(pairs.scores.dtype), pairs.same)


def _quantiles(scores: Tensor, share: Tensor) -> Tensor:
    ordered = scores.double().sort().values
    return ordered[(share * (len(ordered) - 1)).round().long()]
