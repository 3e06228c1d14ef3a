"""How much a picture looks like each name: similarity to the name's mean, set in proportion to a cohort."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metasiam.evaluation.calibration import CohortNormaliser
from metasiam.evaluation.verification import similarity_matrix

#: Fewer prototypes say too little about what is usual.
LEAST_COHORT = 8


def centroids(embeddings: Tensor, labels: Tensor, count: int, distance: str) -> Tensor:
    """Return each name's mean embedding: float [count, D]; with cosine, of embeddings of length 1."""
    rows = F.normalize(embeddings, dim=1) if distance == "cosine" else embeddings
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
        raw = similarity_matrix(queries, self.means, self.distance)
        if self.cohort is None:
            return raw
        mean, std = CohortNormaliser(self.cohort, self.distance).statistics(queries)
        return (raw - mean.unsqueeze(1)) / std.unsqueeze(1)


def leave_one_out_scores(embeddings: Tensor, labels: Tensor, name: int, distance: str, cohort: Tensor | None) -> Tensor:
    """Score each of a name's k ≥ 2 pictures against the name's other k − 1: float [k]."""
    own = embeddings[labels == name]
    keep = ~torch.eye(len(own), dtype=torch.bool)
    found = []
    for picture, others in zip(own, keep, strict=True):
        rest = own[others]
        scorer = NameScorer.of(rest, torch.zeros(len(rest), dtype=torch.int64), 1, distance, cohort)
        found.append(scorer.scores(picture.unsqueeze(0))[0, 0])
    return torch.stack(found)
