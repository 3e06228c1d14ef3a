"""Objectives: what a batch of embeddings is pulled towards.

The functions are pure. The modules wrap them behind one call, ``objective(embeddings, labels)``, with the 3B
embeddings of a triplet batch stacked as anchors, positives, negatives, and their domains' labels; an objective
that needs parameters of its own (proxies) holds them.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metasiam.objectives import metric_learning


def triplet_cosine(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 0.3) -> Tensor:
    """Mean of max(0, margin − cos(anchor, positive) + cos(anchor, negative)), the published loss.

    Args:
        anchor: float [B, D].
        positive: float [B, D].
        negative: float [B, D].
        margin: in units of cosine similarity.
    """
    near = F.cosine_similarity(anchor, positive)
    far = F.cosine_similarity(anchor, negative)
    return F.relu(margin - near + far).mean()


def triplet_squared_euclidean(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    """Mean of max(0, margin + ‖anchor − positive‖² − ‖anchor − negative‖²) (Schroff et al., FaceNet, 2015).

    Args:
        anchor: float [B, D].
        positive: float [B, D].
        negative: float [B, D].
        margin: in units of squared distance.
    """
    near = (anchor - positive).square().sum(1)
    far = (anchor - negative).square().sum(1)
    return F.relu(margin + near - far).mean()


def contrastive(first: Tensor, second: Tensor, same: Tensor, margin: float = 1.0) -> Tensor:
    """Mean of d² for same pairs and max(0, margin − d)² for different ones (Hadsell, Chopra, LeCun, 2006).

    Args:
        first: float [P, D].
        second: float [P, D].
        same: bool [P].
        margin: in units of distance.
    """
    squared = (first - second).square().sum(1)
    # The square root's gradient is infinite at 0.
    distance = squared.clamp(min=1e-12).sqrt()
    return torch.where(same, squared, F.relu(margin - distance).square()).mean()


def pair_bce(logits: Tensor, same: Tensor) -> Tensor:
    """Mean binary cross-entropy of same/different answers (Koch et al., 2015).

    Args:
        logits: float [P], log-odds of "same".
        same: bool [P].
    """
    return F.binary_cross_entropy_with_logits(logits, same.to(logits.dtype))


def normalised_softmax(
    embeddings: Tensor, proxies: Tensor, targets: Tensor, temperature: float, prior: Tensor | None = None
) -> Tensor:
    """Cross-entropy over the cosines to one proxy a domain (Zhai & Wu, "Classification is a strong baseline", 2019).

    Args:
        embeddings: float [B, D].
        proxies: float [domains, D].
        targets: int64 [B], rows of ``proxies``.
        temperature: divides the cosines.
        prior: float [domains], how often each domain is shown; None: as often as the others.
    """
    logits = F.linear(F.normalize(embeddings, dim=1), F.normalize(proxies, dim=1)) / temperature
    return F.cross_entropy(logits if prior is None else logits + prior.log(), targets)


def task_prior(labels: Tensor, rows: int) -> Tensor:
    """Return how often each domain is shown by the task that a stacked triplet batch was drawn from: float [rows].

    Anchors and positives come evenly from the task's domains, negatives evenly from all.

    Args:
        labels: int64 [3B], rows of the domains, of anchors, positives and negatives.
        rows: how many domains there are.
    """
    present = torch.zeros(rows, device=labels.device).index_fill_(0, labels[: len(labels) // 3], 1.0)
    return 2 / 3 * present / present.sum() + 1 / (3 * rows)


def prototypical(embeddings: Tensor, shots: int) -> Tensor:
    """Cross-entropy over minus squared distances to the class means (Snell, Swersky, Zemel, 2017).

    Args:
        embeddings: float [ways, shots + queries, D], each way's supports first.
        shots: support images of each way.
    """
    ways = len(embeddings)
    prototypes, queries = embeddings[:, :shots].mean(1), embeddings[:, shots:]
    scores = -(queries.unsqueeze(2) - prototypes).square().sum(-1)  # [ways, queries, ways]
    targets = torch.arange(ways, device=embeddings.device).repeat_interleave(queries.shape[1])
    return F.cross_entropy(scores.flatten(0, 1), targets)


class TripletCosine(nn.Module):
    """``triplet_cosine`` on a stacked triplet batch."""

    distance = "cosine"

    def __init__(self, margin: float = 0.3) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [3B, D] embeddings (anchors, positives, negatives)."""
        anchor, positive, negative = embeddings.chunk(3)
        return triplet_cosine(anchor, positive, negative, self.margin)


class TripletSquaredEuclidean(nn.Module):
    """``triplet_squared_euclidean`` on a stacked triplet batch."""

    distance = "squared_euclidean"

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [3B, D] embeddings (anchors, positives, negatives)."""
        anchor, positive, negative = embeddings.chunk(3)
        return triplet_squared_euclidean(anchor, positive, negative, self.margin)


class Contrastive(nn.Module):
    """``contrastive`` on the two pairs that a triplet holds: anchor with positive, anchor with negative."""

    distance = "squared_euclidean"

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [3B, D] embeddings (anchors, positives, negatives)."""
        anchor, positive, negative = embeddings.chunk(3)
        same = torch.arange(2 * len(anchor), device=embeddings.device) < len(anchor)
        return contrastive(anchor.repeat(2, 1), torch.cat((positive, negative)), same, self.margin)


class NormalisedSoftmax(nn.Module):
    """``normalised_softmax`` with a learned proxy for every trained domain; uses the labels, not the triplets.

    Args:
        domains: int64 [D], the labels that are trained on, each once.
        embedding_size: dimensions of an embedding.
        temperature: divides the cosines; 0.05 as in the source's code.
        generator: draws the first proxies.
    """

    distance = "cosine"
    row_of: Tensor

    def __init__(
        self,
        domains: Tensor,
        embedding_size: int,
        temperature: float = 0.05,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.proxies = nn.Parameter(torch.randn(len(domains), embedding_size, generator=generator))
        rows = torch.zeros(int(domains.max()) + 1, dtype=torch.int64)
        rows[domains.cpu()] = torch.arange(len(domains))
        self.register_buffer("row_of", rows, persistent=False)

    @torch.no_grad()
    def start_at(self, means: Tensor) -> None:
        """Put the proxies in the direction of their domains' mean embeddings (float [D, size], in ``domains``' order).

        Their length stays that of a random start, because the optimizer's steps are relative to it.
        """
        length = self.proxies.shape[1] ** 0.5
        self.proxies.copy_(F.normalize(means.to(self.proxies), dim=1) * length)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [3B, D] embeddings with int64 [3B] labels."""
        return normalised_softmax(embeddings, self.proxies, self.row_of[labels], self.temperature)


class BalancedSoftmax(NormalisedSoftmax):
    """``NormalisedSoftmax`` for tasks of few domains: a logit is raised by the log of its domain's share in the task.

    Without it a task of one domain is learned by calling everything that domain. With it the proxies are those of
    evenly shown domains (Ren et al., "Balanced Meta-Softmax", 2020; Menon et al., "Logit adjustment", 2021).
    """

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [3B, D] embeddings with int64 [3B] labels."""
        targets = self.row_of[labels]
        prior = task_prior(targets, len(self.proxies))
        return normalised_softmax(embeddings, self.proxies, targets, self.temperature, prior)


class Prototypes(nn.Module):
    """``prototypical`` on one episode, stacked way after way."""

    distance = "squared_euclidean"

    def __init__(self, ways: int, shots: int) -> None:
        super().__init__()
        self.ways = ways
        self.shots = shots

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [ways · (shots + queries), D] embeddings."""
        return prototypical(embeddings.view(self.ways, -1, embeddings.shape[1]), self.shots)


class EpisodeClassifier(nn.Module):
    """Cross-entropy of a linear head whose outputs are the ways of one episode, stacked way after way.

    Args:
        ways: domains of an episode.
        embedding_size: dimensions of an embedding.
        generator: draws the first weights, as torch's own linear layer does.
    """

    distance = "cosine"

    def __init__(self, ways: int, embedding_size: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.head = nn.Linear(embedding_size, ways)
        bound = embedding_size**-0.5
        for weight in (self.head.weight, self.head.bias):
            nn.init.uniform_(weight, -bound, bound, generator=generator)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [ways · images, D] embeddings; the labels are the ways themselves."""
        return episode_cross_entropy(self.head(embeddings))


def episode_cross_entropy(logits: Tensor) -> Tensor:
    """Return the cross-entropy of float [ways · images, ways] logits of an episode stacked way after way."""
    ways = logits.shape[1]
    targets = torch.arange(ways, device=logits.device).repeat_interleave(len(logits) // ways)
    return F.cross_entropy(logits, targets)


class MinedTriplets(nn.Module):
    """Triplet loss on triplets mined within the batch by pytorch-metric-learning.

    Args:
        margin: in units of cosine similarity.
        miner: ``hard`` (hardest positive and negative of each anchor) or ``semihard``.

    Raises:
        MetaSiamError: if pytorch-metric-learning is not installed.
    """

    distance = "cosine"
    #: Sizes depend on the values, which a CUDA graph cannot hold.
    capturable = False

    def __init__(self, margin: float = 0.3, miner: str = "hard") -> None:
        super().__init__()
        library = metric_learning("mined-*")
        cosine = library.distances.CosineSimilarity()
        self._loss = library.losses.TripletMarginLoss(margin=margin, distance=cosine)
        self._miner: Any = (
            library.miners.BatchHardMiner(distance=cosine)
            if miner == "hard"
            else library.miners.TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=cosine)
        )

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [3B, D] embeddings with int64 [3B] labels."""
        return cast(Tensor, self._loss(embeddings, labels, self._miner(embeddings, labels)))


def mined_hard(margin: float = 0.3) -> MinedTriplets:
    """Return ``MinedTriplets`` of the hardest positive and negative of each anchor."""
    return MinedTriplets(margin, "hard")


def mined_semihard(margin: float = 0.3) -> MinedTriplets:
    """Return ``MinedTriplets`` of semi-hard triplets."""
    return MinedTriplets(margin, "semihard")


class SupervisedContrastive(nn.Module):
    """Cross-entropy over a batch: each image finds those of its domain among all others, by pytorch-metric-learning.

    Source: Khosla et al., "Supervised Contrastive Learning" (2020); with two images of a domain, the N-pair loss of
    Sohn (2016) on cosines. Learns from every pair of a batch, so it wants many domains in each (``--ways``).

    Args:
        temperature: what cosines are divided by.

    Raises:
        MetaSiamError: if pytorch-metric-learning is not installed.
    """

    distance = "cosine"
    #: Sizes depend on the values, which a CUDA graph cannot hold.
    capturable = False

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        self._loss = metric_learning("supcon").losses.SupConLoss(temperature=temperature)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [3B, D] embeddings with int64 [3B] labels."""
        return cast(Tensor, self._loss(embeddings, labels))
