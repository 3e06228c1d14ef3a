"""N-way K-shot accuracy: which of these domains is it? Nearest centroid on one embedding matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metasiam.data.pool import Pool
from metasiam.data.tasks import Episodes
from metasiam.evaluation.verification import similarity_matrix


def episode_accuracy(embeddings: Tensor, episodes: Episodes, distance: str, *, chunk: int = 256) -> Tensor:
    """Classify every query by the nearest mean of the supports.

    With cosine distance each support is brought to length 1 before averaging, and the mean is compared by cosine
    (as in the published nearest-centroid baselines).

    Args:
        embeddings: float [M, D].
        episodes: support [E, ways, shots] and query [E, ways, queries] as rows of ``embeddings``.
        distance: ``cosine`` or ``squared_euclidean``.
        chunk: episodes at a time, to bound the memory.

    Returns:
        float [E, ways], the share of right answers for each way of each episode.
    """
    rows = F.normalize(embeddings, dim=1) if distance == "cosine" else embeddings
    shares = []
    for support, query in zip(torch.split(episodes.support, chunk), torch.split(episodes.query, chunk), strict=True):
        ways = support.shape[1]
        centroids = rows[support].mean(2)  # [E, ways, D]
        scores = similarity_matrix(rows[query].flatten(1, 2), centroids, distance)  # [E, ways · queries, ways]
        answers = scores.argmax(2).view(len(support), ways, -1)
        truth = torch.arange(ways, device=answers.device).view(1, ways, 1)
        shares.append((answers == truth).float().mean(2))
    return torch.cat(shares)


def accuracy_of_classes(shares: Tensor, domains: Tensor, classes: Tensor) -> Tensor:
    """Return each class's mean accuracy over the episodes that it is in: float64 [D], NaN where it is in none.

    Args:
        shares: float [E, ways], from ``episode_accuracy``.
        domains: int64 [E, ways], the domain of each way.
        classes: int64 [D], in ascending order.
    """
    place = torch.searchsorted(classes, domains.flatten())
    sums = torch.zeros(2, len(classes), dtype=torch.float64)
    values = shares.flatten().double().cpu()
    sums.index_add_(1, place, torch.stack((values, torch.ones_like(values))))
    return sums[0] / sums[1]


def all_way_one_shot(pool: Pool, draws: int, generator: torch.Generator) -> Tensor:
    """Draw one support image of every domain, many times: the assignment's own task.

    Args:
        pool: the domains' test images.
        draws: how many draws of supports.
        generator: on the pool's device.

    Returns:
        int64 [draws, D], places within ``pool.images``; all other images of the pool are queries.
    """
    fraction = torch.rand(draws, len(pool.domains), generator=generator, device=pool.device, dtype=torch.float64)
    return pool.starts + torch.minimum((fraction * pool.counts).long(), pool.counts - 1)


def all_way_accuracy(embeddings: Tensor, pool: Pool, supports: Tensor, distance: str) -> Tensor:
    """Name every other image of the pool by its nearest support.

    Args:
        embeddings: float [len(pool.images), D], in the pool's order.
        pool: the images and their domains.
        supports: int64 [draws, D] from ``all_way_one_shot``.
        distance: ``cosine`` or ``squared_euclidean``.

    Returns:
        float [draws, D], the share of right answers for each domain in each draw.
    """
    device = embeddings.device
    truth = torch.repeat_interleave(torch.arange(len(pool.domains)), pool.counts.cpu()).to(device)
    shares = []
    for support in supports.to(device):
        right = similarity_matrix(embeddings, embeddings[support], distance).argmax(1) == truth
        right[support] = False  # a support is no query
        shares.append(torch.bincount(truth[right], minlength=len(support)))
    return torch.stack(shares) / (pool.counts.to(device) - 1)
