"""Calibration: thresholds and probabilities learned from scored pairs, each by ``fit`` and then ``predict``.

Scores are similarities (higher means more the same, see ``verification``). Everything is weighted so that same and
different pairs count alike, however many there are of each: the balanced protocol asks about half-and-half pairs.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from metasiam.evaluation.verification import (
    accept_rate_at,
    best_threshold,
    check_scored,
    equal_error_rate,
    similarity_matrix,
)
from metasiam.wording import counted

Rule = Literal["balanced_accuracy", "eer", "far"]


class ThresholdCalibrator:
    """Learn the score above which two images are called the same.

    Args:
        rule: ``balanced_accuracy`` (the most right answers on half-and-half pairs), ``eer`` (false alarms as
            frequent as misses; steadier on few pairs) or ``far`` (a bound on the share of false alarms).
        target_far: the bound for ``far``, a fraction.

    Attributes:
        threshold: set by ``fit``.

    Raises:
        ValueError: for an unknown rule.
    """

    def __init__(self, rule: Rule = "balanced_accuracy", *, target_far: float = 0.01) -> None:
        if rule not in ("balanced_accuracy", "eer", "far"):
            raise ValueError(f"rule must be balanced_accuracy, eer or far, not {rule}")
        self.rule = rule
        self.target_far = target_far
        self.threshold = math.nan

    def fit(self, scores: Tensor, same: Tensor) -> ThresholdCalibrator:
        """Choose the threshold on float [P] scores with bool [P] answers, both answers present."""
        check_scored(scores, same)
        if self.rule == "balanced_accuracy":
            self.threshold, _ = best_threshold(scores, same)
        elif self.rule == "eer":
            _, self.threshold = equal_error_rate(scores, same)
        else:
            _, self.threshold = accept_rate_at(scores, same, self.target_far)
        return self

    def predict(self, scores: Tensor) -> Tensor:
        """Answer float [P] scores: bool [P], true where the pair is called the same.

        Raises:
            ValueError: before ``fit``.
        """
        if math.isnan(self.threshold):
            raise ValueError("fit the calibrator before predicting")
        return scores.double() > self.threshold


class ProbabilityCalibrator:
    """Learn the probability that two images are the same, from their score.

    The probability is that of a pair drawn with even odds of being same, as in the balanced protocol, and it never
    falls as the score rises.

    Args:
        kind: ``platt`` (a logistic curve: Platt, 1999; safe on few pairs) or ``isotonic`` (any rising curve:
            Zadrozny & Elkan, 2002; needs hundreds of same pairs).
        base: a fitted calibrator of other domains. Its log-odds then take the place of the score: its curve gives
            the shape, and a Platt fit needs only to move and stretch it. Similarities of embeddings are far from
            logistic, so with few images a plain Platt fit of the scores has the wrong shape.
    """

    def __init__(
        self, kind: Literal["platt", "isotonic"] = "platt", *, base: ProbabilityCalibrator | None = None
    ) -> None:
        if kind not in ("platt", "isotonic"):
            raise ValueError(f"kind must be platt or isotonic, not {kind}")
        self.kind = kind
        self.base = base
        self.slope = math.nan  #: of the log-odds, after a Platt fit
        self.intercept = math.nan  #: log-odds where the score (or the base's log-odds) is 0, after a Platt fit
        self.knots: tuple[Tensor, Tensor] | None = None  #: scores and probabilities, float64, after an isotonic fit

    def fit(self, scores: Tensor, same: Tensor) -> ProbabilityCalibrator:
        """Fit to float [P] scores with bool [P] answers, both answers present."""
        check_scored(scores, same)
        values, truth = self._inputs(scores).cpu(), same.cpu()
        weight = torch.where(truth, 0.5 / truth.double().mean(), 0.5 / (~truth).double().mean())
        if self.kind == "isotonic":
            curve = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True, out_of_bounds="clip")
            curve.fit(values.numpy(), truth.double().numpy(), sample_weight=weight.numpy())
            self.knots = torch.from_numpy(curve.X_thresholds_), torch.from_numpy(curve.y_thresholds_)
            return self
        # Standardised, so that the faint L2 penalty (which keeps separable scores finite) is the same on any scale.
        centre, scale = float(values.mean()), max(float(values.std(correction=0)), 1e-12)
        standard = ((values - centre) / scale).unsqueeze(1).numpy()
        model = LogisticRegression(C=100.0).fit(standard, truth.numpy(), sample_weight=weight.numpy())
        self.slope = float(model.coef_[0, 0]) / scale
        self.intercept = float(model.intercept_[0]) - self.slope * centre
        if self.slope <= 0:  # scores that rank pairs the wrong way round say nothing: an even chance for all
            self.slope, self.intercept = 0.0, 0.0
        return self

    def predict(self, scores: Tensor) -> Tensor:
        """Return the probability of being the same, float64 [P] on the scores' device.

        Raises:
            ValueError: before ``fit``.
        """
        values = self._inputs(scores)
        if self.knots is not None:
            at, probability = (knots.numpy() for knots in self.knots)
            return torch.from_numpy(np.interp(values.cpu().numpy(), at, probability)).to(scores.device)
        if math.isnan(self.slope):
            raise ValueError("fit the calibrator before predicting")
        return torch.sigmoid(values * self.slope + self.intercept)

    def _inputs(self, scores: Tensor) -> Tensor:
        if self.base is None:
            return scores.double()
        # An isotonic curve reaches 0 and 1, where log-odds are infinite.
        return torch.logit(self.base.predict(scores), eps=1e-3)

    def shrunk(self, weight: float) -> ProbabilityCalibrator:
        """Return a Platt curve on a base, pulled towards that base: ``weight`` 0 is the base, 1 is this curve."""
        if self.kind != "platt" or self.base is None:
            raise ValueError("only a Platt curve on a base can be pulled towards it")
        pulled = ProbabilityCalibrator("platt", base=self.base)
        pulled.slope = 1 - weight + weight * self.slope
        pulled.intercept = weight * self.intercept
        return pulled


def shrink(threshold_task: float, threshold_global: float, k: int, strength: float) -> float:
    """Pull a domain's own threshold towards the global one, the more the fewer images it was found with.

    The weight of the domain's own is k / (k + strength), the posterior mean's form for a threshold that varies
    around the global one from domain to domain (empirical Bayes: Efron & Morris, 1975). One image has no same
    pair, so the result is the global threshold at k = 0 and k = 1.

    Args:
        threshold_task: found on the domain's own k images.
        threshold_global: found on other domains.
        k: images of the domain.
        strength: in images: with as many, both thresholds weigh the same; see ``trials.learn_strength``.
    """
    if k < 2:
        return threshold_global
    weight = 1.0 if strength <= 0 else k / (k + strength)
    return weight * threshold_task + (1 - weight) * threshold_global


class CohortNormaliser:
    """Score normalisation against a cohort of prototypes, as in speaker verification.

    An image that resembles everything gets high scores with everything. Dividing out how it scores against a
    cohort (the seen domains' mean embeddings) makes one threshold fit more domains: symmetric s-norm (Kenny, 2010),
    with only the closest cohort members where ``nearest`` is given (adaptive s-norm: Matejka et al., 2017).

    Args:
        cohort: float [C, D], at least two prototypes, none of them of the domains to be tested.
        distance: as in ``verification.similarity``.
        nearest: keep only so many of the most alike prototypes for each image.
    """

    def __init__(self, cohort: Tensor, distance: str, *, nearest: int | None = None) -> None:
        if len(cohort) < 2 or (nearest is not None and nearest < 2):
            raise ValueError("a cohort needs at least two prototypes")
        self.cohort = cohort
        self.distance = distance
        self.nearest = min(nearest, len(cohort)) if nearest is not None else len(cohort)

    def statistics(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each row's scores against the cohort: float [M] each."""
        scores = similarity_matrix(embeddings, self.cohort, self.distance)
        kept = scores.topk(self.nearest, dim=1).values
        return kept.mean(1), kept.std(1).clamp(min=1e-6)

    def normalise(self, scores: Tensor, embeddings: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return normalised scores: the mean of both images' z-scores of the raw one.

        Args:
            scores: float [P], raw similarities.
            embeddings: float [M, D].
            first: int64 [P], rows.
            second: int64 [P], rows.
        """
        mean, std = self.statistics(embeddings)
        return ((scores - mean[first]) / std[first] + (scores - mean[second]) / std[second]) / 2


def crossfit_folds(images: Tensor, generator: torch.Generator, *, folds: int = 2) -> list[tuple[Tensor, Tensor]]:
    """Split a domain's images for cross-fitting: adapt on the first part, find scores on the second.

    An embedder finds the very images that it was adapted on too alike; a threshold from their scores would be
    flattered. Every image is in exactly one second part.

    Args:
        images: int64 [k], k ≥ 2 · folds, so that each second part has a pair.
        generator: draws the folds.
        folds: number of folds.

    Returns:
        ``folds`` tuples (adapt on, score on), int64 each, disjoint.

    Raises:
        ValueError: if there are too few images.
    """
    if folds < 2 or len(images) < 2 * folds:
        need = counted(2 * folds, "image")
        raise ValueError(f"{counted(folds, 'fold')} with a pair in each: that takes {need}, there are {len(images)}")
    parts = images[torch.randperm(len(images), generator=generator).to(images.device)].tensor_split(folds)
    return [(torch.cat((*parts[:i], *parts[i + 1 :])), part) for i, part in enumerate(parts)]
