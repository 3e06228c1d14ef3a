"""How sure a number is: bootstrap intervals, paired comparisons, McNemar's test.

Tasks are what generalises: a new user brings new domains. So the interval of a mean over tasks resamples whole
tasks, with all their pairs (Davison & Hinkley, 1997, section 3.8, on nested data). Within a single task it resamples
images, since the thousands of pairs of a task share its hundred images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from scipy.stats import binomtest, chi2, norm, t
from torch import Tensor

LEVEL = 0.95


class Mean(TypedDict):
    """A mean with its 95 % interval and the number of independent things behind it."""

    mean: float
    ci95: list[float]
    n: int


def as_percent(mean: Mean) -> Mean:
    """Return the same mean in percent."""
    return {"mean": 100 * mean["mean"], "ci95": [100 * bound for bound in mean["ci95"]], "n": mean["n"]}


def bootstrap_mean(values: Tensor, generator: torch.Generator, *, resamples: int = 1000) -> Mean:
    """Return the mean of independent values (tasks, episodes) with an expanded percentile interval.

    The plain percentile bootstrap is too narrow for few values, by √((n − 1)/n) and by normal instead of Student
    quantiles; the expanded percentiles (Hesterberg, 2015, section 4.3) put both right. Values that are not finite
    are left out. A single value says nothing about its spread: its interval is all of 0..1.

    Args:
        values: float [n], fractions.
        generator: on the CPU.
        resamples: bootstrap samples.
    """
    kept = values.double().cpu()
    kept = kept[kept.isfinite()]
    count = len(kept)
    if count == 0:
        raise ValueError("a mean needs at least one finite value")
    centre = float(kept.mean())
    if count == 1:
        return {"mean": centre, "ci95": [0.0, 1.0], "n": 1}
    means = torch.cat([kept[draw].mean(1) for draw in _draws(count, resamples, generator)])
    return {"mean": centre, "ci95": _interval(means, count), "n": count}


def _draws(count: int, resamples: int, generator: torch.Generator) -> list[Tensor]:
    # At most 16 million indices at a time.
    step = max((1 << 24) // count, 1)
    sizes = [min(step, resamples - done) for done in range(0, resamples, step)]
    return [torch.randint(count, (size, count), generator=generator) for size in sizes]


def _tail(count: int) -> float:
    """Return the share of bootstrap means to cut off at each end for a 95 % interval from ``count`` values."""
    if count > 10_000:
        return (1 - LEVEL) / 2
    return float(norm.cdf((count / (count - 1)) ** 0.5 * t.ppf((1 - LEVEL) / 2, count - 1)))


def _interval(means: Tensor, count: int) -> list[float]:
    tail = _tail(count)
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=means.dtype)).tolist()
    return [low, high]


def bootstrap_images(right: Tensor, images: Tensor, generator: torch.Generator, *, resamples: int = 1000) -> Mean:
    """Return the share of right answers within one task, with an interval over its images.

    Pairs that share an image are not independent. Every image gets a random weight and a pair the product of its
    images' weights (pigeonhole bootstrap: Owen, 2007), which is wider than treating pairs as independent, as it
    must be.

    Args:
        right: bool or float [P], the answers.
        images: int64 [m, P], the images of each answer: 2 rows for pairs, 3 for triplets.
        generator: on the CPU.
        resamples: bootstrap samples.

    Returns:
        ``n`` is the number of answers.
    """
    answers = right.double().cpu()
    if len(answers) == 0:
        raise ValueError("a mean needs at least one answer")
    _, place = torch.unique(images.cpu(), return_inverse=True)
    count = int(place.max()) + 1
    shares = []
    for _ in range(0, resamples, 100):
        weight = torch.empty(min(100, resamples), count, dtype=torch.float64)
        weight.exponential_(generator=generator)  # Bayesian bootstrap (Rubin, 1981): no resample is ever empty
        product = weight[:, place[0]]
        for row in place[1:]:
            product = product * weight[:, row]
        shares.append((product @ answers) / product.sum(1))
    low, high = torch.quantile(torch.cat(shares), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"mean": float(answers.mean()), "ci95": [low, high], "n": len(answers)}


class Difference(TypedDict):
    """A paired difference a − b with its 95 % interval and two-sided p-value."""

    difference: float
    ci95: list[float]
    p_value: float
    n: int


def paired_difference(
    first: Sequence[Tensor], second: Sequence[Tensor], generator: torch.Generator, *, resamples: int = 1000
) -> Difference:
    """Compare two methods on the same tasks: the mean over tasks of the difference first − second.

    The p-value inverts the very interval that is returned: it is below 0.05 exactly where that excludes 0.

    Args:
        first: one tensor a task: its answers (bool or float [P]), or its value (float [] or [1]).
        second: the same tasks' of the other method, in the same order, on the same pairs.
        generator: on the CPU.
        resamples: bootstrap samples; of tasks, or of answers when there is only one task.

    Raises:
        ValueError: if the tasks or their numbers of answers differ.
    """
    if len(first) != len(second) or not first or any(a.shape != b.shape for a, b in zip(first, second, strict=True)):
        raise ValueError("paired methods need the same tasks and pairs")
    gaps = [(a.double() - b.double()).flatten().cpu() for a, b in zip(first, second, strict=True)]
    units = torch.stack([gap.mean() for gap in gaps]) if len(gaps) > 1 else gaps[0]
    count = len(units)
    centre = float(units.mean())
    if count == 1:  # nothing is known about the spread of fractions' differences but their range
        return {"difference": centre, "ci95": [-1.0, 1.0], "p_value": 1.0, "n": 1}
    means = torch.cat([units[draw].mean(1) for draw in _draws(count, resamples, generator)])
    return {"difference": centre, "ci95": _interval(means, count), "p_value": _p_value(means, count), "n": count}


def _p_value(means: Tensor, count: int) -> float:
    """Return the smallest α whose expanded percentile interval excludes 0."""
    # Half-way between counting ties as beyond 0 and not, and never 0: at most 1 in (resamples + 1).
    beyond = float((means < 0).double().sum() + (means == 0).double().sum() / 2)
    share = (min(beyond, len(means) - beyond) + 0.5) / (len(means) + 1)
    quantile = float(norm.ppf(share))
    spread = (count / (count - 1)) ** 0.5
    return min(1.0, 2 * float(t.cdf(quantile / spread, count - 1)))


def mcnemar(first: Tensor, second: Tensor) -> float:
    """Return McNemar's two-sided p-value for two methods' right answers, bool [P] each, on the same pairs.

    Exact (binomial) when fewer than 25 answers differ, else chi-squared with Edwards's continuity correction.
    It takes the pairs as independent: it speaks of these images, not of new domains.
    """
    if first.shape != second.shape:
        raise ValueError("McNemar's test needs both methods' answers to the same pairs")
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    differing = only_first + only_second
    if differing == 0:
        return 1.0
    if differing < 25:
        return float(binomtest(only_first, differing).pvalue)
    return float(chi2.sf((max(abs(only_first - only_second) - 1, 0)) ** 2 / differing, 1))
