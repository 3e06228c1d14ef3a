"""Bootstrap intervals of one task's answers: its images are resampled, since its many pairs share few of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypedDict

import torch
from scipy.stats import norm
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


def bootstrap_images(
    right: Tensor,
    images: Tensor,
    generator: torch.Generator,
    *,
    same: Tensor | None = None,
    resamples: int = 1000,
) -> Mean:
    """Return the share of right answers within one task, with an interval over its images.

    Pairs that share an image are not independent. Every image gets a random weight and a pair the product of its
    images' weights (pigeonhole bootstrap: Owen, 2007), which is wider than treating pairs as independent, as it
    must be.

    Args:
        right: bool or float [P], the answers.
        images: int64 [m, P], the images of each answer: 2 rows for pairs, 3 for triplets.
        generator: on the CPU.
        same: bool [P], of pairs: same and different ones count alike (balanced accuracy), in the mean and in every
            resample. Else an embedder that calls everything the same would seem unsure of its 50 %, and one that
            calls everything different good at a list of few same pairs.
        resamples: bootstrap samples.

    Returns:
        ``n`` is the number of answers. Where all answers are right, or all wrong, resamples hold no other ones: the
        interval is then Wilson's, of as many answers as there are without a common image.
    """
    answers = right.double().cpu()
    if len(answers) == 0:
        raise ValueError("a mean needs at least one answer")
    kinds = balanced_kinds(len(answers), same)
    together = over_images(answers, images, generator, kinds, resamples).clamp(0, 1)  # rounding
    centre = mean_of_kinds(answers, kinds)
    bounds = beyond_what_was_seen(centre, _percentiles(together), independent_answers(images))
    return {"mean": centre, "ci95": bounds, "n": len(answers)}


def balanced_kinds(count: int, same: Tensor | None) -> Tensor:
    """Return which of the kinds that count alike each answer is of, float64 [P, kinds]: same and different, or one."""
    kinds = torch.ones(count, 1) if same is None else torch.stack((same, ~same), 1).cpu()
    return kinds[:, kinds.any(0)].double()


def mean_of_kinds(values: Tensor, kinds: Tensor) -> float:
    """Return the mean of values, float64 [P], in which kinds (float64 [P, kinds]) count alike."""
    return float((values @ kinds / kinds.sum(0)).mean())


def independent_answers(images: Tensor) -> int:
    """Return how many of the answers about images, int64 [m, P], can have no image in common, at most."""
    return max(min(images.shape[1], len(torch.unique(images)) // len(images)), 1)


def beyond_what_was_seen(centre: float, bounds: list[float], answers: int) -> list[float]:
    """Return an interval's bounds; of a share of 0 or 1 that no resample differs from, Wilson's (1927) instead.

    Nothing wrong in twenty answers is no proof that nothing ever is: ``answers`` of them leave up to
    z² / (answers + z²), close to the rule of three, of others possible.
    """
    if abs(bounds[1] - bounds[0]) > 1e-9 or 1e-9 < centre < 1 - 1e-9:
        return bounds
    z = float(norm.ppf((1 + LEVEL) / 2)) ** 2
    return [0.0, z / (answers + z)] if centre < 0.5 else [answers / (answers + z), 1.0]


def over_images(values: Tensor, images: Tensor, generator: torch.Generator, kinds: Tensor, resamples: int) -> Tensor:
    """Return the mean of answers' values (float64 [P]) in every resample of their images: float64 [resamples].

    Kinds (float64 [P, kinds]) count alike.
    """
    found = [
        ((weight @ (kinds * values.unsqueeze(1))) / (weight @ kinds)).mean(1)
        for weight in _answer_weights(images, generator, resamples)
    ]
    return torch.cat(found)


def bootstrap_pairs(
    statistic: Callable[[Tensor], Tensor],
    images: Tensor,
    generator: torch.Generator,
    *,
    resamples: int = 1000,
    of_answers: bool = True,
) -> Mean:
    """Return any statistic of one task's pairs, such as the AUC, with an interval over its images.

    Resamples as ``bootstrap_images`` does.

    Args:
        statistic: from weights of the pairs, float64 [R, P], to what it is with each of them, float64 [R].
        images: int64 [m, P], the images of each pair.
        generator: on the CPU.
        resamples: bootstrap samples.
        of_answers: whether it counts right and wrong answers, so that 0 and 1 are never sure: not a calibration error.

    Returns:
        ``mean`` is the statistic of all pairs with equal weights, ``n`` is the number of pairs.
    """
    count = images.shape[1]
    together = torch.cat([statistic(weight) for weight in _answer_weights(images, generator, resamples)])
    plain = float(statistic(torch.ones(1, count, dtype=torch.float64)))
    bounds = _percentiles(together)
    if of_answers:
        bounds = beyond_what_was_seen(plain, bounds, independent_answers(images))
    return {"mean": plain, "ci95": bounds, "n": count}


def _answer_weights(images: Tensor, generator: torch.Generator, resamples: int) -> Iterator[Tensor]:
    """Yield the weights of P answers, from those of their images [m, P], for up to 100 resamples at a time."""
    _, place = torch.unique(images.cpu(), return_inverse=True)
    count = int(place.max()) + 1
    for _ in range(0, resamples, 100):
        weight = torch.empty(min(100, resamples), count, dtype=torch.float64)
        weight.exponential_(generator=generator)  # Bayesian bootstrap (Rubin, 1981): no resample is ever empty
        product = weight[:, place[0]]
        for row in place[1:]:
            product = product * weight[:, row]
        yield product


def _percentiles(resampled: Tensor) -> list[float]:
    tails = torch.tensor([(1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2], dtype=torch.float64)
    low, high = torch.quantile(resampled, tails).tolist()
    return [low, high]
