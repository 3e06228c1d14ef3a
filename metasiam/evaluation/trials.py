"""Simulate few-shot use on validation domains, to choose thresholds and adaptation for k images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from metasiam.evaluation.calibration import ThresholdCalibrator, shrink
from metasiam.evaluation.prediction import FEWEST_CASES, FEWEST_DOMAINS, ThresholdPrediction, learn_prediction
from metasiam.evaluation.scored_pairs import (
    ScoredPairs,
    accuracy_on_grid,
    half_and_half,
    join,
    middle_of_best,
    score_images,
    thin,
    threshold_grid,
)
from metasiam.evaluation.solved import learn_background, leave_out_scores, solve_head
from metasiam.evaluation.thresholds import DEFAULT_STRENGTH, STRENGTHS, Calibration, calibrate_globally, own_rule
from metasiam.evaluation.verification import all_triplets_accuracy
from metasiam.training.machine import generator_for

#: Thresholds this close in accuracy (a fraction) to a case's best one are as good; the best is their mean.
AS_GOOD = 0.005
#: Acted-out cases to learn from, where the domains are fewer: several draws of each.
CASES = 60


class Trial(NamedTuple):
    """One domain taken for a new one: k of its images known, others tested."""

    k: int
    known: ScoredPairs  #: of the k images, left out of the head that scores them
    own_threshold: float | None  #: found on those pairs; None where there are none to find it on
    test: ScoredPairs  #: of its other images, under the head of the k, against seen and other acted domains
    triplet_accuracy: float  #: of its other images against the same, a fraction


Trials = Mapping[int, Sequence[Trial]]


def act_out(
    domains: Mapping[int, Tensor],
    negatives: Tensor,
    owners: Tensor,
    distance: str,
    generator: torch.Generator,
    *,
    k: int,
    draws: int = 1,
    stretch: float = 0.0,
) -> dict[int, list[Trial]]:
    """Take each domain for a new one and do with k of its images what would be done with a new domain's.

    Half of the negatives are known (for the head and the threshold). Tested is against the other half and as many
    images of the other domains.

    Args:
        domains: float [m, D] embeddings of each domain's images; those with fewer than k + 2 are left out.
        negatives: float [n, D], images of other domains; a domain's own among them are not used for it.
        owners: int64 [n], the negatives' domains.
        distance: as in ``verification.similarity``.
        generator: on the CPU; draws the k images.
        k: images known.
        draws: of each domain.
        stretch: of the solved head; 0 leaves the embeddings as they are.
    """
    found: dict[int, list[Trial]] = {}
    known = torch.arange(len(negatives)) % 2 == 0
    for domain, rows in domains.items():
        other = owners != domain
        near, far = negatives[known & other], negatives[~known & other]
        if len(rows) < k + 2 or len(near) == 0 or len(far) == 0:
            continue
        background = learn_background(near, owners[known & other], distance)
        far = half_and_half(far, _others(domains, domain))
        found[domain] = []
        for _ in range(draws):
            order = torch.randperm(len(rows), generator=generator)
            own, tested = rows[order[:k]], rows[order[k:]]
            scored = leave_out_scores(own, near, background, stretch, distance) if stretch else None
            scored = score_images(own, near, distance) if scored is None else scored
            threshold = ThresholdCalibrator(own_rule(k)).fit(*scored).threshold if scored.answerable else None
            head = solve_head(own, background, stretch, distance).to(rows.dtype)
            tested, against = tested @ head, far @ head  # symmetric
            test = thin(score_images(tested, against, distance), 2000)
            found[domain].append(
                Trial(k, thin(scored, 4000), threshold, test, all_triplets_accuracy(tested, against, distance))
            )
    return found


def _others(domains: Mapping[int, Tensor], domain: int) -> Tensor:
    """Return the images of all domains but one: float [n, D], n = 0 where there is no other."""
    return torch.cat([domains[domain][:0], *(rows for name, rows in domains.items() if name != domain)])


@dataclass(frozen=True, eq=False)
class ActedDomains:
    """Embedded images of domains to act out few-shot use on, by the unadapted embedder.

    Attributes:
        rows: float [m, D] by domain.
        negatives: float [n, D], of seen domains.
        owners: int64 [n], the negatives' domains.
        distance: as in ``verification.similarity``.
        source: which domains, for people to read.
    """

    rows: dict[int, Tensor]
    negatives: Tensor
    owners: Tensor
    distance: str
    source: str

    def against(self, domain: int) -> Tensor:
        """Return what to compare a domain's images with: float [n, D] of seen domains and of the others here."""
        return half_and_half(self.negatives[self.owners != domain], _others(self.rows, domain))

    def trials(self, k: int, stretch: float, seed: int) -> Trials:
        """Act out k images, the same ones for every stretch."""
        draws = max(CASES // max(len(self.rows), 1), 1)
        generator = generator_for("cpu", seed, "trials", k)
        return act_out(
            self.rows, self.negatives, self.owners, self.distance, generator, k=k, draws=draws, stretch=stretch
        )


def learn_strength(trials: Trials) -> float:
    """Return how strongly thresholds should have been shrunk in these trials, in images.

    Each trial's own threshold is shrunk by every candidate strength towards the threshold that is best for the
    *other* domains. The strength with the highest mean test accuracy is taken, the stronger of equals.

    Args:
        trials: by domain, with any mix of numbers of images.

    Returns:
        ``DEFAULT_STRENGTH`` where fewer than two domains have a threshold of their own.
    """
    usable = {d: [t for t in of if t.own_threshold is not None and t.test.answerable] for d, of in trials.items()}
    usable = {domain: of for domain, of in usable.items() if of}
    if len(usable) < 2:
        return DEFAULT_STRENGTH
    grid = threshold_grid([trial.test for of in usable.values() for trial in of])
    curves = {d: torch.stack([accuracy_on_grid(t.test, grid) for t in of]).mean(0) for d, of in usable.items()}
    total = torch.stack(list(curves.values())).sum(0)
    gained = torch.zeros(len(STRENGTHS), dtype=torch.float64)
    for domain, of in usable.items():
        elsewhere = middle_of_best(grid, total - curves[domain])
        for trial in of:
            assert trial.own_threshold is not None
            tried = [shrink(trial.own_threshold, elsewhere, trial.k, strength) for strength in STRENGTHS]
            gained += accuracy_on_grid(trial.test, torch.tensor(tried, dtype=torch.float64))
    best = (gained >= gained.max() - 1e-9).nonzero().flatten()
    return STRENGTHS[int(best[-1])]


def predict_from_trials(trials: Trials) -> ThresholdPrediction | None:
    """Learn what threshold suits which mean scores; None where the trials are too few for that.

    Args:
        trials: by domain, all with the same number of images.
    """
    usable = {d: [t for t in of if t.known.answerable and t.test.answerable] for d, of in trials.items()}
    cases = [trial for of in usable.values() for trial in of]
    if sum(1 for of in usable.values() if of) < FEWEST_DOMAINS or len(cases) < FEWEST_CASES:
        return None
    grid = threshold_grid([trial.test for trial in cases])
    best = []
    for trial in cases:
        accuracy = accuracy_on_grid(trial.test, grid)
        best.append(float(grid[accuracy >= accuracy.max() - AS_GOOD].mean()))
    return learn_prediction([trial.known for trial in cases], best)


def calibrate_on_trials(trials: Trials, *, strength: float | None, source: str, predict: bool = False) -> Calibration:
    """Learn the global threshold and probability curve for domains treated as these were.

    Args:
        trials: by domain, at least one.
        strength: of shrinkage; None learns it from the trials.
        source: said in the result.
        predict: also learn to predict a domain's threshold. Only where these domains were never trained on:
            scores among trained-on images say nothing about new domains.
    """
    tests = {domain: join([trial.test for trial in of]) for domain, of in trials.items() if of}
    learned = learn_strength(trials) if strength is None else strength
    prediction = predict_from_trials(trials) if predict else None
    return replace(calibrate_globally(tests, strength=learned, source=source), prediction=prediction)


def mean_accuracies(trials: Trials) -> Tensor:
    """Return each domain's mean triplet accuracy over its trials: float64 [domains]."""
    found = [sum(trial.triplet_accuracy for trial in of) / len(of) for of in trials.values() if of]
    return torch.tensor(found, dtype=torch.float64)


def surely_higher(values: Tensor, baseline: Tensor) -> bool:
    """Whether paired values, one a domain, beat the baseline on average by more than one standard error."""
    gain = values - baseline
    return len(gain) > 1 and float(gain.mean()) > float(gain.std()) / float(len(gain)) ** 0.5
