"""Verification: are two images of the same domain? Metrics of scores, all computed from one embedding matrix.

Scores are similarities: higher always means "more the same". A pair is called same when its score is above the
threshold. Everything here is a fraction in 0..1; percentages are made only where a report is written.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from metasiam.option_values import shown


def similarity(embeddings: Tensor, first: Tensor, second: Tensor, distance: str, *, block: int = 1 << 18) -> Tensor:
    """Compare rows of an embedding matrix.

    Args:
        embeddings: float [M, D].
        first: int64 [P], rows.
        second: int64 [P], rows.
        distance: ``cosine`` (result: the cosine) or ``squared_euclidean`` (result: minus the squared distance).
        block: pairs gathered at a time, to bound the memory.

    Returns:
        float [P], higher for more alike.

    Raises:
        ValueError: for another distance.
    """
    rows = comparable(embeddings, distance)
    blocks = []
    for a, b in zip(torch.split(first, block), torch.split(second, block), strict=True):
        left, right = rows[a], rows[b]
        blocks.append((left * right).sum(1) if distance == "cosine" else -(left - right).square().sum(1))
    return torch.cat(blocks) if blocks else rows.new_empty(0)


def similarity_matrix(first: Tensor, second: Tensor, distance: str) -> Tensor:
    """Compare every row of ``first`` [A, D] with every row of ``second`` [B, D]: float [A, B], as ``similarity``."""
    left, right = comparable(first, distance), comparable(second, distance)
    products = left @ right.transpose(-1, -2)
    if distance == "cosine":
        return products
    # ‖a − b‖² = ‖a‖² + ‖b‖² − 2ab; rounding can leave a tiny negative distance.
    squared = left.square().sum(-1).unsqueeze(-1) + right.square().sum(-1).unsqueeze(-2) - 2 * products
    return -squared.clamp(min=0)


def comparable(embeddings: Tensor, distance: str) -> Tensor:
    """Return float [..., D] embeddings as ``distance`` compares them: of length 1 for ``cosine``, else as they are.

    Raises:
        ValueError: for another distance.
    """
    if distance == "cosine":
        return F.normalize(embeddings, dim=-1)
    if distance == "squared_euclidean":
        return embeddings
    raise ValueError(f"distance must be cosine or squared_euclidean, not {distance}")


def triplets_right(embeddings: Tensor, triplets: Tensor, distance: str) -> Tensor:
    """Tell for each triplet whether the anchor is more like the positive than like the negative.

    A tie counts as wrong, so that a collapsed embedder scores 0 and not 100 %.

    Args:
        embeddings: float [M, D].
        triplets: int64 [3, T], rows of anchors, positives and negatives.
        distance: as in ``similarity``.

    Returns:
        bool [T]; its mean is the triplet accuracy.
    """
    anchor, positive, negative = triplets
    return similarity(embeddings, anchor, positive, distance) > similarity(embeddings, anchor, negative, distance)


def all_triplets_accuracy(own: Tensor, negatives: Tensor, distance: str) -> float:
    """Return the triplet accuracy over every anchor, every other own image and every negative there is.

    No draw, so no noise of drawing: what plans are chosen by.

    Args:
        own: float [m, D], one domain's embeddings, m ≥ 2.
        negatives: float [n, D], other domains' embeddings.
        distance: as in ``similarity``.
    """
    near = similarity_matrix(own, own, distance)
    far = similarity_matrix(own, negatives, distance).sort(dim=1).values
    below = torch.searchsorted(far, near).double() / len(negatives)  # per anchor and positive
    others = ~torch.eye(len(own), dtype=torch.bool, device=own.device)
    return float(below[others].mean())


def pairs_right(scores: Tensor, same: Tensor, threshold: float) -> Tensor:
    """Tell for each pair (float [P], bool [P]) whether the answer at ``threshold`` is right: bool [P]."""
    return (scores.double() > threshold) == same


def balanced_accuracy(scores: Tensor, same: Tensor, threshold: float) -> float:
    """Return the mean of the share of same pairs and the share of different pairs answered rightly.

    Equal to the pair accuracy where half the pairs are same.
    """
    right = pairs_right(scores, same, threshold).double()
    _need_both(same)
    return float((right[same].mean() + right[~same].mean()) / 2)


def best_threshold(scores: Tensor, same: Tensor) -> tuple[float, float]:
    """Find the threshold with the highest balanced accuracy, exactly.

    Of several equally good thresholds the one nearest to their middle is taken, halfway between two scores.

    Args:
        scores: float [P].
        same: bool [P], with both answers present.

    Returns:
        The threshold and its balanced accuracy.

    Raises:
        ValueError: if all pairs are same or all different.
    """
    _need_both(same)
    values, accuracy = balanced_curve(scores, same)
    best = (accuracy >= accuracy.max() - 1e-12).nonzero().flatten()
    # Ties may be far apart, so take the longest stretch of neighbouring ones rather than the mean of all.
    runs = torch.tensor_split(best, ((best.diff() > 1).nonzero().flatten() + 1).tolist())
    run = max(runs, key=len)
    place = int(run[len(run) // 2])
    low = float(values[place - 1]) if place > 0 else float(values[0]) - 1.0
    high = float(values[place]) if place < len(values) else float(values[-1]) + 1.0
    return (low + high) / 2, float(accuracy[place])


def balanced_curve(scores: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct scores [V] in increasing order and the balanced accuracy [V + 1] of cutting below each.

    Entry i of the accuracy is that of any threshold from value i − 1 up to just below value i.
    """
    values, place = torch.unique(scores.double(), return_inverse=True)
    same_here = torch.bincount(place[same], minlength=len(values)).double()
    different_here = torch.bincount(place[~same], minlength=len(values)).double()
    zero = torch.zeros(1, dtype=torch.float64, device=scores.device)
    same_below = torch.cat((zero, same_here.cumsum(0))) / same_here.sum()
    different_below = torch.cat((zero, different_here.cumsum(0))) / different_here.sum()
    return values, (1 - same_below + different_below) / 2


def roc_auc(scores: Tensor, same: Tensor) -> float:
    """Return the area under the ROC curve: the chance that a same pair scores above a different one."""
    _need_both(same)
    return float(roc_auc_score(same.cpu().numpy(), scores.cpu().numpy()))


def equal_error_rate(scores: Tensor, same: Tensor) -> tuple[float, float]:
    """Return the error rate where false alarms are as frequent as misses, and the threshold there.

    Both rates are interpolated linearly between the two points of the ROC curve where they cross.
    """
    false_alarms, hits, thresholds = roc(scores, same)
    gap = (1 - hits) - false_alarms  # falls from 1 to −1
    place = int((gap <= 0).nonzero()[0])
    before = max(place - 1, 0)
    span = float(gap[before] - gap[place])
    share = float(gap[before]) / span if span > 0 else 0.0
    rate = float(false_alarms[before]) + share * float(false_alarms[place] - false_alarms[before])
    high, low = float(thresholds[before]), float(thresholds[place])
    return rate, low if math.isinf(high) else high + share * (low - high)


def accept_rate_at(scores: Tensor, same: Tensor, false_accept_rate: float = 0.01) -> tuple[float, float]:
    """Return the share of same pairs accepted (TAR) while at most ``false_accept_rate`` of different ones are.

    Returns:
        The true accept rate at the loosest threshold that keeps to the false accept rate (no interpolation:
        a rate that this set really reached), and that threshold.
    """
    false_alarms, hits, thresholds = roc(scores, same)
    place = int((false_alarms <= false_accept_rate + 1e-12).nonzero()[-1])
    threshold = float(thresholds[place])
    return float(hits[place]), float(scores.max()) if math.isinf(threshold) else threshold


def roc(scores: Tensor, same: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return false accept rate, true accept rate and threshold (float64 [R] each), from strict to loose.

    Thresholds are halfway between neighbouring scores, so that "above the threshold" reaches exactly these rates;
    the first one, where nothing is accepted, is infinite.
    """
    _need_both(same)
    # Every distinct score is kept: dropping collinear points would move the thresholds halfway between.
    false_alarms, hits, reached = roc_curve(same.cpu().numpy(), scores.double().cpu().numpy(), drop_intermediate=False)
    thresholds = torch.from_numpy(reached).double()
    below = torch.cat((thresholds[1:], thresholds[-1:] - 1.0))
    middle = (thresholds + below) / 2
    return torch.from_numpy(false_alarms), torch.from_numpy(hits), middle


def expected_calibration_error(probability: Tensor, same: Tensor, bins: int = 15) -> float:
    """Return the ECE (Naeini et al., 2015): |mean probability − share of same pairs|, averaged over equal-width bins.

    Probabilities are those of even odds (``ProbabilityCalibrator``), so same and different pairs count alike in it.

    Args:
        probability: float [P] in 0..1, of being the same domain.
        same: bool [P].
        bins: number of bins; 15 as in Guo et al., 2017.

    Raises:
        ValueError: if a probability is outside 0..1 or there are no pairs.
    """
    if len(probability) == 0 or float(probability.min()) < 0 or float(probability.max()) > 1:
        raise ValueError("probabilities must lie in 0..1 and there must be at least one")
    place = (probability.double() * bins).long().clamp(max=bins - 1)
    kinds = torch.stack((same, ~same)).double()
    weight = (kinds / kinds.sum(1, keepdim=True).clamp(min=1)).sum(0)
    gaps = torch.zeros(bins, dtype=torch.float64, device=place.device)
    gaps.index_add_(0, place, weight * (probability.double() - same.double()))
    return float(gaps.abs().sum() / weight.sum())


def check_scored(scores: Tensor, same: Tensor) -> None:
    """Raise unless float [P] scores and bool [P] answers fit each other, are finite, and hold both answers.

    Raises:
        ValueError: saying what does not fit.
    """
    for name, value in (("scores", scores), ("same", same)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} must be a torch.Tensor, not {shown(value)}")
    if scores.shape != same.shape or scores.ndim != 1 or same.dtype != torch.bool:
        raise ValueError(
            f"scores must be float [P] and same bool [P], not {list(scores.shape)} and {same.dtype} {list(same.shape)}"
        )
    if not bool(scores.isfinite().all()):
        raise ValueError("scores must be finite numbers")
    _need_both(same)


def _need_both(same: Tensor) -> None:
    if len(same) == 0 or bool(same.all()) or not bool(same.any()):
        raise ValueError("both same and different pairs are needed")
