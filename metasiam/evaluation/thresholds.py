"""Thresholds for new domains: a global one from other domains, and each domain's own from its k images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from metasiam.evaluation.calibration import ProbabilityCalibrator, Rule, ThresholdCalibrator, shrink
from metasiam.evaluation.prediction import ThresholdPrediction
from metasiam.evaluation.scored_pairs import (
    ScoredPairs,
    accuracy_on_grid,
    join,
    middle_of_best,
    thin,
    threshold_grid,
)

#: In images, where no validation domain is there to learn it on. Chosen on the published 50-50 weights with domains
#: 50 to 89 and a global threshold from the seen domains' training images: of 5, 10, 20, 50 and 100 it came nearest to
#: the oracle at 5 and 20 images.
DEFAULT_STRENGTH = 5.0
#: The same for embedders with a solved head, whose global threshold is simulated with heads and so fits better: 20
#: images was the best of the same strengths at 20 and 100 images, and at 5 within 0.1 points of more, on the same
#: domains.
DEFAULT_HEAD_STRENGTH = 20.0
#: Images from which a domain's own pairs (1,225 same ones) give a better curve than other domains' moved one.
ISOTONIC_FROM = 50
#: Images from which there are pairs enough to say where errors are fewest, and not only where they are equal.
MANY = 100
STRENGTHS = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)


def own_rule(k: int) -> Rule:
    """Return how a domain's own threshold is placed on k images.

    Few pairs say where errors are equal better than where they are fewest (``benchmarks/threshold_rules.py``); many say
    both, and fewest is what counts.
    """
    return "balanced_accuracy" if k >= MANY else "eer"


@dataclass(frozen=True)
class Calibration:
    """What other domains teach about scores: used for a domain of which nothing is known yet.

    Attributes:
        threshold: the global threshold.
        probability: the global isotonic curve.
        strength: how strongly a domain's own threshold is shrunk towards the global one, in images.
        source: which domains' images it was learned on, for people to read.
        prediction: of a domain's threshold from its mean scores; None where too few validation domains taught it.
    """

    threshold: float
    probability: ProbabilityCalibrator
    strength: float
    source: str
    prediction: ThresholdPrediction | None = None

    def for_task(self, pairs: ScoredPairs, k: int, rule: Rule | None = None) -> TaskCalibration:
        """Calibrate one domain from its own k images; the threshold is the global one at k < 2.

        It is the domain's own, shrunk towards the global one; where a prediction was learned, the mean of both.

        Args:
            pairs: scores of the k images with each other and with negatives, as from ``score_images``.
            k: number of the domain's images.
            rule: how the domain's own threshold is chosen; default ``own_rule(k)``.
        """
        if k < 2 or not pairs.answerable:
            return TaskCalibration(self.threshold, self.probability, self.threshold)
        own = ThresholdCalibrator(rule or own_rule(k)).fit(*pairs).threshold
        threshold = shrink(own, self.threshold, k, self.strength)
        if self.prediction is not None:
            # They err apart: see ``benchmarks/threshold_rules.py`` for what their mean gains.
            threshold = (threshold + self.prediction.predict(pairs)) / 2
        if k >= ISOTONIC_FROM:
            return TaskCalibration(threshold, ProbabilityCalibrator("isotonic").fit(*thin(pairs)), own)
        curve = ProbabilityCalibrator("platt", base=self.probability).fit(*thin(pairs))
        weight = k / (k + self.strength) if self.strength > 0 else 1.0
        return TaskCalibration(threshold, curve.shrunk(weight), own)


@dataclass(frozen=True)
class TaskCalibration:
    """One domain's calibration.

    Attributes:
        threshold: the one to use: its own shrunk towards the global one, or the mean of that and the predicted one.
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
