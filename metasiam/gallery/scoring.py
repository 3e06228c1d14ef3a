"""How much a picture looks like each name: similarity to the name's mean, set in proportion to a cohort."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metasiam.evaluation.calibration import CohortNormaliser
from metasiam.evaluation.verification import comparable, similarity_matrix

#: Fewer prototypes say too little about what is usual.
LEAST_COHORT = 8


def centroids(embeddings: Tensor, labels: Tensor, count: int, distance: str) -> Tensor:
    """Return each name's mean embedding: float [count, D]; with cosine, of embeddings of length 1."""
    rows = comparable(embeddings, distance)
    sums = torch.zeros(count, rows.shape[1], dtype=rows.dtype).index_add_(0, labels, rows)
    return sums / torch.bincount(labels, minlength=count).clamp(min=1).unsqueeze(1)


@dataclass(frozen=True, eq=False)
class NameScorer:
    """Scores pictures against names.

    An embedding that resembles everything scores high with every name. With a cohort (the background domains' means)
    that is taken out: a score says by how many standard deviations the picture is more like the name than like the
    cohort (t-norm: Auckenthaler et al., 2000). Of this, z- and s-norm, adaptive cohorts, whitening and PLDA it was the
    best on domains held out from the published 50-50 weights. Without a cohort, the score is the similarity itself.

    Attributes:
        means: float [names, D].
        distance: as in ``evaluation.verification.similarity``.
        cohort: float [C, D] prototypes of other domains, or None.
    """

    means: Tensor
    distance: str
    cohort: Tensor | None

    @staticmethod
    def of(embeddings: Tensor, labels: Tensor, count: int, distance: str, cohort: Tensor | None) -> NameScorer:
        """Make the scorer of names 0 … count − 1 from their pictures."""
        usable = cohort is not None and len(cohort) >= LEAST_COHORT
        return NameScorer(centroids(embeddings, labels, count, distance), distance, cohort if usable else None)

    def scores(self, queries: Tensor) -> Tensor:
        """Score float [Q, D] pictures against every name: float [Q, names], higher for more alike."""
        return self._in_proportion(similarity_matrix(queries, self.means, self.distance), queries)

    def _in_proportion(self, raw: Tensor, queries: Tensor) -> Tensor:
        """Set similarities float [Q, any] in proportion to those of the cohort."""
        usual = self._usual(queries)
        return raw if usual is None else (raw - usual[0]) / usual[1]

    def _usual(self, queries: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return mean and standard deviation of each picture's similarities to the cohort: float [Q, 1] each."""
        if self.cohort is None:
            return None
        mean, std = CohortNormaliser(self.cohort, self.distance).statistics(queries)
        return mean.unsqueeze(1), std.unsqueeze(1)

    def leave_one_out(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Score each of the pictures that the names are made of against its name without it.

        Args:
            embeddings: float [M, D], as in ``of``.
            labels: int64 [M], as in ``of``.

        Returns:
            float [M]; NaN for a name's only picture.
        """
        rows = comparable(embeddings, self.distance)
        counts = torch.bincount(labels, minlength=len(self.means))[labels].unsqueeze(1)
        others = (self.means[labels] * counts - rows) / (counts - 1)
        if self.distance == "cosine":
            raw = (rows * F.normalize(others, dim=1)).sum(1, keepdim=True)
        else:
            raw = -(rows - others).square().sum(1, keepdim=True)
        return self._in_proportion(raw, embeddings).squeeze(1).where(counts.squeeze(1) > 1, torch.nan)
