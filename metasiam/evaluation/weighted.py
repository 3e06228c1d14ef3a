"""Verification metrics of pairs that count by weights, many weightings at once: what bootstrap intervals are made of.

With equal weights each is the metric of the same name in ``verification``. Weights are float64 [R, P], positive; every
result is a fraction, float64 [R].
"""

from __future__ import annotations

import torch
from torch import Tensor


def roc(scores: Tensor, same: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return false and true accept rates, float64 [R, V + 1] each, of cutting below each of V scores, strict first.

    Args:
        scores: float [P].
        same: bool [P], with both answers present.
        weight: float64 [R, P].
    """
    values, place = torch.unique(-scores.double(), return_inverse=True)
    rates = []
    for kind in (~same, same):
        found = weight.new_zeros(len(weight), len(values) + 1)
        found.index_add_(1, place[kind] + 1, weight[:, kind])
        rates.append(found.cumsum(1) / weight[:, kind].sum(1, keepdim=True))
    return rates[0], rates[1]


def roc_auc(scores: Tensor, same: Tensor, weight: Tensor) -> Tensor:
    """Return the areas under the ROC curves."""
    false_alarms, hits = roc(scores, same, weight)
    return torch.trapezoid(hits, false_alarms, dim=1)


def equal_error_rate(scores: Tensor, same: Tensor, weight: Tensor) -> Tensor:
    """Return the rates where false alarms are as frequent as misses, interpolated linearly where they cross."""
    false_alarms, hits = roc(scores, same, weight)
    gap = (1 - hits) - false_alarms  # falls from 1 to −1
    place = (gap <= 0).int().argmax(1, keepdim=True)  # the first of them
    before = place - 1
    above, below = gap.gather(1, before), gap.gather(1, place)
    strict, loose = false_alarms.gather(1, before), false_alarms.gather(1, place)
    return (strict + above / (above - below) * (loose - strict)).squeeze(1)


def accept_rate_at(scores: Tensor, same: Tensor, weight: Tensor, false_accept_rate: float = 0.01) -> Tensor:
    """Return the shares of same pairs accepted while at most ``false_accept_rate`` of different ones are."""
    false_alarms, hits = roc(scores, same, weight)
    place = (false_alarms <= false_accept_rate + 1e-12).sum(1, keepdim=True) - 1
    return hits.gather(1, place).squeeze(1)


def expected_calibration_error(probability: Tensor, same: Tensor, weight: Tensor, bins: int = 15) -> Tensor:
    """Return the ECEs over equal-width bins, where same and different pairs count alike.

    Resampled, a bin's share of same pairs is noisier than it is in all pairs: the interval leans upwards.
    """
    place = (probability.double() * bins).long().clamp(max=bins - 1)
    kinds = torch.stack((weight * same, weight * ~same))
    weight = (kinds / kinds.sum(2, keepdim=True).clamp(min=1e-300)).sum(0)
    gaps = weight.new_zeros(len(weight), bins).index_add_(1, place, weight * (probability.double() - same.double()))
    return gaps.abs().sum(1) / weight.sum(1)
