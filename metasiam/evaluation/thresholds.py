"""Thresholds for new domains: a global one from other domains, and each domain's own from its k images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metasiam.evaluation.calibration import ProbabilityCalibrator, Rule, ThresholdCalibrator, shrink
from metasiam.evaluation.verification import similarity_matrix

#: In images, where no validation domain is there to learn it on. Chosen on the published 50-50 weights with domains
#: 50 to 89 and a global threshold from the seen domains' training images: of 0, 2, 5, 10, 20, 50, 100 and 200 it and
#: 2 came nearest to the oracle, on average over 2, 3, 5, 10 and 20 images (2.5 points; 3.7 with 200).
DEFAULT_STRENGTH = 5.0
#: The same for embedders with a solved head, whose global threshold is acted out with heads and so fits better: 20
#: images was the best of the same strengths at 20 images and within 0.3 points of it at 5, on the same domains.
DEFAULT_HEAD_STRENGTH = 20.0
#: Images from which a domain's own pairs (1,225 same ones) give a better curve than other domains' moved one.
ISOTONIC_FROM = 50
STRENGTHS = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)


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


def join(parts: Sequence[ScoredPairs]) -> ScoredPairs:
    """Put scored pairs of several folds or domains together."""
    return ScoredPairs(torch.cat([p.scores for p in parts]), torch.cat([p.same for p in parts]))


@dataclass(frozen=True)
class Calibration:
    """What other domains teach about scores: used for a domain of which nothing is known yet.

    Attributes:
        threshold: the global threshold.
        probability: the global isotonic curve.
        strength: how strongly a domain's own threshold is shrunk towards the global one, in images.
        source: which domains' images it was learned on, for people to read.
    """

    threshold: float
    probability: ProbabilityCalibrator
    strength: float
    source: str

    def for_task(self, pairs: ScoredPairs, k: int, rule: Rule = "balanced_accuracy") -> TaskCalibration:
        """Calibrate one domain from its own k images: shrunk towards the global threshold, equal to it at k < 2.

        Args:
            pairs: scores of the k images with each other and with negatives, as from ``score_images``.
            k: number of the domain's images.
            rule: how the domain's own threshold is chosen.
        """
        if k < 2 or not pairs.answerable:
            return TaskCalibration(self.threshold, self.probability, self.threshold)
        own = ThresholdCalibrator(rule).fit(*pairs).threshold
        threshold = shrink(own, self.threshold, k, self.strength)
        if k >= ISOTONIC_FROM:
            return TaskCalibration(threshold, ProbabilityCalibrator("isotonic").fit(*thin(pairs)), own)
        curve = ProbabilityCalibrator("platt", base=self.probability).fit(*thin(pairs))
        weight = k / (k + self.strength) if self.strength > 0 else 1.0
        return TaskCalibration(threshold, curve.shrunk(weight), own)


@dataclass(frozen=True)
class TaskCalibration:
    """One domain's calibration.

    Attributes:
        threshold: the one to use: its own shrunk towards the global one.
        probability: the curve to use, shrunk alike.
        own_threshold: before shrinking.
    """

    threshold: float
    probability: ProbabilityCalibrator
    own_threshold: float


def calibrate_globally(domains: Mapping[int, ScoredPairs], *, strength: float, source: str) -> Calibration:
    """Learn the global threshold and probability curve from several domains, each counting the same.

    Args:
        domains: scored pairs by domain, with both answers in each.
        strength: from ``trials.learn_strength``, or ``DEFAULT_STRENGTH``.
        source: said in the result.
    """
    pairs = list(domains.values())
    grid = threshold_grid(pairs)
    accuracy = torch.stack([accuracy_on_grid(p, grid) for p in pairs]).mean(0)
    probability = ProbabilityCalibrator("isotonic").fit(*join([thin(p, 2000) for p in pairs]))
    return Calibration(middle_of_best(grid, accuracy), probability, strength, source)


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
