"""A new domain's threshold predicted from two mean scores, as validation domains taught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metasiam.evaluation.scored_pairs import ScoredPairs
from metasiam.wording import counted

#: Domains and cases from which a prediction can be learned; with fewer, a domain's own threshold is shrunk instead.
FEWEST_DOMAINS, FEWEST_CASES = 5, 10
#: Ridge penalty on standardised means, in parts of the number of cases. It and the two means were chosen on the
#: published 50-50 weights with domains 50 to 89 (ten as validation domains, thirty as new ones), among spreads,
#: quantiles and own thresholds too; ``benchmarks/threshold_rules.py`` compares the result with the other rules there.
PENALTY = 0.1


@dataclass(frozen=True, eq=False)
class ThresholdPrediction:
    """A linear map from the mean scores of k images to the threshold that suits their domain.

    Where a domain's pairs are too few to place a threshold on, their mean scores still say how high it lies: a domain
    that is like everything needs a higher one. The same idea as score normalisation (Auckenthaler, Carey &
    Lloyd-Thomas, 2000), but how much each mean counts is learned, for just this number of images.

    Attributes:
        weight: float64 [3]: of 1, of the mean score of same pairs and of the mean score of different pairs.
        lowest: thresholds never go below the lowest best one of the domains it was learned on.
        highest: nor above the highest.
    """

    weight: Tensor
    lowest: float
    highest: float

    def predict(self, pairs: ScoredPairs) -> float:
        """Return the threshold for a domain with these scored pairs, both answers present."""
        found = float(self.weight @ mean_scores(pairs))
        return min(max(found, self.lowest), self.highest)


def mean_scores(pairs: ScoredPairs) -> Tensor:
    """Return 1 and the mean scores of same and of different pairs: float64 [3]."""
    scores = pairs.scores.double()
    return torch.stack((scores.new_ones(()), scores[pairs.same].mean(), scores[~pairs.same].mean())).cpu()


def learn_prediction(known: Sequence[ScoredPairs], best: Sequence[float]) -> ThresholdPrediction:
    """Learn by ridge regression what threshold suits which mean scores.

    Args:
        known: what was known of each case, scored as a new domain's images will be.
        best: the threshold that was best on the case's other images.

    Raises:
        ValueError: for unequal lengths or no case.
    """
    if len(known) != len(best) or not best:
        raise ValueError(
            f"{counted(len(known), 'case')} and {counted(len(best), 'best threshold')}: give as many of each"
        )
    means = torch.stack([mean_scores(pairs) for pairs in known])
    wanted = torch.tensor(best, dtype=torch.float64)
    centre, scale = means[:, 1:].mean(0), means[:, 1:].std(0, correction=0).clamp(min=1e-9)
    standard = (means[:, 1:] - centre) / scale
    gram = standard.t() @ standard + PENALTY * len(best) * torch.eye(2, dtype=torch.float64)
    slope = torch.linalg.solve(gram, standard.t() @ (wanted - wanted.mean())) / scale
    weight = torch.cat(((wanted.mean() - slope @ centre).unsqueeze(0), slope))
    return ThresholdPrediction(weight, min(best), max(best))
