"""How sure a number is: bootstrap intervals, paired comparisons, McNemar's test.

Tasks are what generalises: a new user brings new domains. So the interval of a mean over tasks resamples whole
tasks, with all their pairs (Davison & Hinkley, 1997, section 3.8, on nested data). Within a single task it resamples
images, since the thousands of pairs of a task share its hundred images.

A method trained anew with another seed would answer differently too. Where it was trained several times, every training
meets the same tasks, its numbers are means over the trainings, and their spread widens the intervals: half widths over
tasks and over trainings are added in quadrature (MOVER: Zou & Donner, 2008), the latter by Student's t. Since what
trainings and tasks do to each other counts in both, this is a little too wide rather than too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict

import torch
from scipy.stats import binomtest, chi2, t
from torch import Tensor

from metasiam.evaluation.resampling import (
    LEVEL,
    Mean,
    balanced_kinds,
    beyond_what_was_seen,
    mean_of_kinds,
    over_images,
)

#: A resample's standard error is taken as at least this share of all values'. Where most values are nearly equal, some
#: resamples hold hardly any spread, and dividing by it would make the interval endless.
LEAST_ERROR = 0.2
#: Few values are resampled more often, up to 20 times as often, for as many values in all: tails take many resamples.
RESAMPLED_VALUES = 2_000_000


def bootstrap_mean(
    values: Tensor, generator: torch.Generator, *, resamples: int = 1000, answers: int | None = None
) -> Mean:
    """Return the mean of independent values (tasks, episodes) with a bootstrap-t interval.

    The plain percentile bootstrap covers 85 to 90 % instead of 95 with ten skewed tasks; studentising each resample
    (Efron & Tibshirani, 1993, section 12.5) covers 93 to 96. Below five values resamples of a single value are too
    common for that, and Student's t is used. Values that are not finite are left out. A single value says nothing
    about its spread: its interval is all of 0..1. Where all are 0, or all 1, it is Wilson's of the answers behind them,
    if these are told.

    Args:
        values: float [n], fractions.
        generator: on the CPU.
        resamples: bootstrap samples.
        answers: independent right or wrong answers behind all values.
    """
    kept = values.double().cpu()
    kept = kept[kept.isfinite()]
    if len(kept) == 0:
        raise ValueError("a mean needs at least one finite value")
    centre, bounds = float(kept.mean()), _interval(kept, _studentised(kept, generator, resamples), 0.0)
    if answers is not None:
        bounds = beyond_what_was_seen(centre, bounds, answers)
    return {"mean": centre, "ci95": bounds, "n": len(kept)}


def _studentised(values: Tensor, generator: torch.Generator, resamples: int) -> Tensor:
    """Return (resample's mean − mean) / resample's standard error, sorted: what a t statistic is compared with."""
    count = len(values)
    resamples = max(resamples, min(20 * resamples, RESAMPLED_VALUES // count))
    if count < 5:  # quantiles of Student's t in place of resamples
        share = (torch.arange(resamples, dtype=torch.float64) + 0.5) / resamples
        return torch.from_numpy(t.ppf(share.numpy(), max(count - 1, 1)))
    least = max(LEAST_ERROR * float(values.std()) / count**0.5, 1e-12)
    found = []
    step = max((1 << 24) // count, 1)  # at most 16 million values at a time
    for done in range(0, resamples, step):
        drawn = values[torch.randint(count, (min(step, resamples - done), count), generator=generator)]
        error = drawn.std(1) / count**0.5
        found.append((drawn.mean(1) - values.mean()) / error.clamp(min=least))
    return torch.cat(found).sort().values


def _interval(values: Tensor, studentised: Tensor, lowest: float) -> list[float]:
    """Return the interval of the mean, cut off at ``lowest`` and 1, which fractions or differences cannot leave."""
    if len(values) == 1:
        return [lowest, 1.0]
    below, above = _half_widths(values, studentised, LEVEL)
    centre = float(values.mean())
    return [max(centre - below, lowest), min(centre + above, 1.0)]


def _half_widths(values: Tensor, studentised: Tensor, level: float) -> tuple[float, float]:
    """Return how far the interval of the mean reaches below and above it."""
    error = float(values.std()) / len(values) ** 0.5
    tails = torch.tensor([(1 + level) / 2, (1 - level) / 2], dtype=torch.float64)
    high, low = torch.quantile(studentised, tails).tolist()
    return high * error, -low * error


def over_trainings(mean: Mean, trainings: Tensor) -> Mean:
    """Return a mean over several trainings with an interval that includes run-to-run variance too.

    Args:
        mean: with an interval over what the trainings have in common, from their averaged answers.
        trainings: float [S], the same quantity of each training; with a single one nothing is known of its chance, and
            the interval stays.
    """
    half = _half_width(*_error_of_training([trainings]), LEVEL)
    return {**mean, "ci95": _widened(mean["mean"], mean["ci95"], half, 0.0)}


def _widened(centre: float, bounds: Sequence[float], half: float, lowest: float) -> list[float]:
    """Return an interval's bounds with another half width added in quadrature, cut off at ``lowest`` and 1."""
    if half == 0:
        return list(bounds)
    low, high = centre - math.hypot(centre - bounds[0], half), centre + math.hypot(bounds[1] - centre, half)
    return [max(low, lowest), min(high, 1.0)]


def _error_of_training(methods: Sequence[Tensor]) -> tuple[float, float]:
    """Return the standard error that training brings to a mean, or to a difference of two, and its degrees of freedom.

    Args:
        methods: float [S] for each method, its trainings' means; those with a single one are left out. Several are
            taken as independent (Welch, 1947).
    """
    several = [values.double()[values.isfinite()] for values in methods]
    shares = [(float(values.var()) / len(values), len(values) - 1) for values in several if len(values) > 1]
    total = sum(variance for variance, _ in shares)
    if total == 0:
        return 0.0, 1.0
    return total**0.5, total**2 / sum(variance**2 / freedom for variance, freedom in shares)


def _half_width(error: float, freedom: float, level: float) -> float:
    return float(t.ppf((1 + level) / 2, freedom)) * error if error else 0.0


class Difference(TypedDict):
    """A paired difference a − b with its 95 % interval and two-sided p-value."""

    difference: float
    ci95: list[float]
    p_value: float
    n: int


def paired_difference(
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    generator: torch.Generator,
    *,
    images: Tensor | None = None,
    same: Tensor | None = None,
    resamples: int = 1000,
) -> Difference:
    """Compare two methods on the same tasks: the mean over tasks of the difference first − second.

    The p-value inverts the very interval that is returned: it is below 0.05 exactly where that excludes 0. Fewer than
    five tasks that all differ by the same say nothing about others: they decide nothing.

    Args:
        first: one tensor a task: its answers (bool or float [P]), or its value (float [] or [1]); of several trainings,
            [S, P] or [S, 1].
        second: the same tasks' of the other method, in the same order, on the same pairs; its trainings may be of
            another number.
        generator: on the CPU.
        images: int64 [m, P], the images of each answer, where there is only one task: then they are resampled, as in
            ``bootstrap_images``. Without them its answers are, as if they were independent.
        same: bool [P], likewise: see ``bootstrap_images``.
        resamples: bootstrap samples; few tasks are resampled more often.

    Raises:
        ValueError: if the tasks or their numbers of answers differ.
    """
    left, right = [_by_training(answers) for answers in first], [_by_training(answers) for answers in second]
    if len(left) != len(right) or not left or any(a.shape[1] != b.shape[1] for a, b in zip(left, right, strict=True)):
        raise ValueError("paired methods need the same tasks and pairs")
    gaps = [a.mean(0) - b.mean(0) for a, b in zip(left, right, strict=True)]
    units = torch.stack([gap.mean() for gap in gaps]) if len(gaps) > 1 else gaps[0]
    centre = float(units.mean())
    alike = len(units) < 5 and float(units.max() - units.min()) == 0
    if len(units) == 1 or (alike and centre != 0):
        return {"difference": centre, "ci95": [-1.0, 1.0], "p_value": 1.0, "n": len(units)}
    if len(gaps) == 1 and images is not None:
        kinds = balanced_kinds(len(units), same)
        centre = mean_of_kinds(units, kinds)
        drawn = over_images(units, images, generator, kinds, resamples).sort().values
        reach = partial(_percentile_widths, centre, drawn)
    else:
        drawn = _studentised(units, generator, resamples)
        reach = partial(_half_widths, units, drawn)
    training = _error_of_training([torch.stack([a.mean(1) for a in side]).mean(0) for side in (left, right)])
    below, above = reach(LEVEL)
    bounds = [max(centre - below, -1.0), min(centre + above, 1.0)]
    return {
        "difference": centre,
        "ci95": _widened(centre, bounds, _half_width(*training, LEVEL), -1.0),
        "p_value": _p_value(centre, reach, len(drawn), training),
        "n": len(units),
    }


def _percentile_widths(centre: float, resampled: Tensor, level: float) -> tuple[float, float]:
    """Return how far the interval of resamples reaches below and above a centre."""
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(resampled, tails).tolist()
    return max(centre - low, 0.0), max(high - centre, 0.0)


def _by_training(answers: Tensor) -> Tensor:
    """Return answers as float64 [S, P] on the CPU, of S trainings."""
    return (answers if answers.ndim == 2 else answers.reshape(1, -1)).double().cpu()


def _p_value(
    centre: float, reach: Callable[[float], tuple[float, float]], resamples: int, training: tuple[float, float]
) -> float:
    """Return the smallest α whose interval excludes 0; at least 1 in resamples + 1, as no bootstrap can say less.

    Args:
        centre: the difference.
        reach: how far the interval of a level reaches below and above it.
        resamples: behind that.
        training: standard error that training brings to it, and its degrees of freedom.
    """
    if centre == 0:
        return 1.0
    lowest, highest = 1 / (resamples + 1), 1.0
    for _ in range(20):  # the wider the interval, the smaller α: halve until it is found
        tried = (lowest + highest) / 2
        below, above = reach(1 - tried)
        half = math.hypot(below if centre > 0 else above, _half_width(*training, 1 - tried))
        lowest, highest = (lowest, tried) if abs(centre) > half else (tried, highest)
    return highest


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
