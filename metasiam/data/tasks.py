"""Task samplers: triplets, pairs and episodes as index tensors drawn from pools.

Every sampler returns int64 indices into the domain set, on the pool's device, and takes all its
randomness from the ``torch.Generator`` handed in (which must live on that device).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metasiam.arguments import checked
from metasiam.data.pool import Pool
from metasiam.wording import counted


def _uniform_below(bound: Tensor, generator: torch.Generator) -> Tensor:
    """Draw integers uniformly from 0..bound-1, one for each element of ``bound`` (int64, at least 1)."""
    # float64 has 53 bits: the product's rounding bias is below 1e-9 for any bound that fits in memory. mps has float32
    # only: with its 24 bits the bias is below bound / 2²⁴.
    kind = torch.float32 if bound.device.type == "mps" else torch.float64
    fraction = torch.rand(bound.shape, generator=generator, device=bound.device, dtype=kind)
    return torch.minimum((fraction * bound).long(), bound - 1)


@checked
def draw_triplets(anchors: Pool, negatives: Pool, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw triplets: domains of the task uniformly, then two different images, then an antidomain negative.

    The negative is drawn uniformly from all images of ``negatives`` whose domain is not the anchor's,
    directly (the anchor's block is skipped over), so no draw is ever rejected.

    Args:
        anchors: the task's own domains; each needs at least two images.
        negatives: the pool that antidomain negatives come from, normally all seen domains.
        shape: shape of the draw, e.g. ``(batch,)`` or ``(inner_epochs, batch)``.
        generator: source of randomness.

    Returns:
        int64 [3, *shape]: anchors, positives, negatives.

    Raises:
        ValueError: if an anchor domain has a single image, or a negative cannot be drawn.
    """
    _need("every length in shape", min(shape, default=0), least=0)
    if anchors.fewest < 2:
        raise ValueError("every domain of a task needs at least two images to make a positive pair")
    rows = torch.arange(len(anchors.domains), device=anchors.device)
    return draw_triplets_of(anchors, rows, negatives, shape, generator)


def _need(name: str, value: int, *, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def draw_triplets_of(
    pool: Pool, rows: Tensor, negatives: Pool, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Draw triplets of some of a pool's domains without making their pool, and without waiting for the device.

    Args:
        pool: holds the task's domains; the caller has made sure that each of them has at least two images.
        rows: int64 [W], the task's domains as rows of ``pool.domains``.
        negatives: as for ``draw_triplets``.
        shape: shape of the draw.
        generator: source of randomness.

    Returns:
        int64 [3, *shape]: anchors, positives, negatives.
    """
    row = rows[_uniform_below(torch.full(shape, len(rows), dtype=torch.int64, device=pool.device), generator)]
    anchor = _uniform_below(pool.counts[row], generator)
    return complete_triplets(pool, negatives, row, anchor, generator)


def complete_triplets(
    anchors: Pool, negatives: Pool, row: Tensor, offset: Tensor, generator: torch.Generator
) -> Tensor:
    """Add positives and antidomain negatives to given anchors.

    Args:
        anchors: pool that ``row`` and ``offset`` point into; positives come from it too.
        negatives: pool that the antidomain negatives come from.
        row: int64 [*shape], the anchor's domain as a row of ``anchors.domains``.
        offset: int64 [*shape], the anchor's place within its domain's block.
        generator: source of randomness.

    Returns:
        int64 [3, *shape]: anchors, positives, negatives.

    Raises:
        ValueError: if ``negatives`` has only the anchors' domain.
    """
    start, count = anchors.starts[row], anchors.counts[row]
    positive = _uniform_below(count - 1, generator)
    positive = positive + (positive >= offset)
    # The block of the anchor's domain within the negatives, empty where the domain is not among them.
    domain = anchors.domains[row]
    place = torch.searchsorted(negatives.domains, domain).clamp(max=len(negatives.domains) - 1)
    present = negatives.domains[place] == domain
    skip = torch.where(present, negatives.counts[place], 0)
    allowed = len(negatives.images) - skip
    if len(negatives.domains) == 1 and bool(present.any()):
        raise ValueError("the negatives' pool has only the anchor's own domain")
    negative = _uniform_below(allowed, generator)
    negative = negative + torch.where(negative >= negatives.starts[place], skip, 0)
    return torch.stack((anchors.images[start + offset], anchors.images[start + positive], negatives.images[negative]))


class Pairs(NamedTuple):
    """Pairs of images with the true answer."""

    first: Tensor  #: int64 [P]
    second: Tensor  #: int64 [P]
    same: Tensor  #: bool [P], true where both show the same domain


@checked
def draw_pairs(anchors: Pool, negatives: Pool, count: int, generator: torch.Generator) -> Pairs:
    """Draw distinct pairs, half of them same, the same number for each of the task's domains.

    Where a domain has too few distinct pairs, fewer are returned, still half of them same.

    Args:
        anchors: the task's domains; each needs at least two images.
        negatives: where the second image of a different pair comes from (never from the first's domain).
        count: how many pairs to draw in all, over all domains of ``anchors``.
        generator: source of randomness.

    Returns:
        ``Pairs`` of at most ``count`` pairs, but two or more of every domain, grouped by domain: first its same
        pairs, then its different ones.

    Raises:
        ValueError: if a domain has a single image, or ``negatives`` has only that domain.
    """
    _need("count", count, least=2)
    half = max(count // (2 * len(anchors.domains)), 1)
    firsts, seconds, answers = [], [], []
    for row, (domain, start, size) in enumerate(
        zip(anchors.domains.tolist(), anchors.starts.tolist(), anchors.counts.tolist(), strict=True)
    ):
        if size < 2:
            raise ValueError(f"domain {int(anchors.domains[row])} has a single image and so no pair")
        if negatives.domains.tolist() == [domain]:
            raise ValueError("the negatives' pool has only the anchor's own domain")
        own = anchors.images[start : start + size]
        others = negatives.without(domain).images if domain in negatives.domains.tolist() else negatives.images
        here = min(half, size * (size - 1) // 2, size * len(others))
        code = _distinct(size * (size - 1) // 2, here, generator)
        larger = ((1 + (1 + 8 * code.double()).sqrt()) / 2).long()
        larger = larger - (larger * (larger - 1) // 2 > code).long()  # undo a rounded-up square root
        smaller = code - larger * (larger - 1) // 2
        grid = _distinct(size * len(others), here, generator)
        firsts += [own[larger], own[grid // len(others)]]
        seconds += [own[smaller], others[grid % len(others)]]
        answers += [torch.ones_like(code, dtype=torch.bool), torch.zeros_like(grid, dtype=torch.bool)]
    return Pairs(torch.cat(firsts), torch.cat(seconds), torch.cat(answers))


def _distinct(total: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` different integers from 0..total-1 in random order: int64 [count]."""
    device = generator.device
    if total <= 4 * count or total <= 1 << 16:
        return torch.randperm(total, generator=generator, device=device)[:count]
    drawn = torch.empty(0, dtype=torch.int64, device=device)
    while len(drawn) < count:  # with total > 4 * count, one or two rounds
        more = torch.randint(total, (2 * count,), generator=generator, device=device)
        drawn = torch.unique(torch.cat((drawn, more)))
    return drawn[torch.randperm(len(drawn), generator=generator, device=device)[:count]]


class Episodes(NamedTuple):
    """N-way K-shot classification problems; the way's position is the label."""

    support: Tensor  #: int64 [episodes, ways, shots]
    query: Tensor  #: int64 [episodes, ways, queries]
    domains: Tensor  #: int64 [episodes, ways], the domain that each way stands for


@checked
def draw_episodes(
    pool: Pool,
    *,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    generator: torch.Generator,
) -> Episodes:
    """Draw episodes: ``ways`` different domains, and in each ``shots + queries`` different images.

    Args:
        pool: the domains to draw from.
        ways: domains in an episode.
        shots: support images for each domain.
        queries: query images for each domain.
        episodes: how many episodes.
        generator: source of randomness.

    Raises:
        ValueError: if there are fewer than ``ways`` domains, or one has too few images.
    """
    _need("ways", ways, least=1)
    _need("shots", shots, least=1)
    _need("queries", queries, least=0)
    _need("episodes", episodes, least=0)
    if ways > len(pool.domains):
        raise ValueError(f"{ways}-way episodes need {counted(ways, 'domain')}, the pool has {len(pool.domains)}")
    images = shots + queries
    if pool.fewest < images:
        raise ValueError(
            f"{shots}-shot episodes with {counted(queries, 'query image')} need {counted(images, 'image')} a domain, "
            f"one has {pool.fewest}"
        )
    row = _distinct_rows(
        torch.full((episodes,), len(pool.domains), dtype=torch.int64, device=pool.device), ways, generator
    )
    offset = _distinct_rows(pool.counts[row].reshape(-1), images, generator).view(episodes, ways, images)
    index = pool.images[pool.starts[row].unsqueeze(-1) + offset]
    return Episodes(index[..., :shots], index[..., shots:], pool.domains[row])


def _distinct_rows(bound: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` different integers below each bound, in uniformly random order: int64 [*bound.shape, count].

    Draws from what is left over (bound - j values at step j) and maps each draw past the values already
    taken, in increasing order: exact, no rejections, and count² / 2 vector operations.
    """
    rows = bound.reshape(-1)
    raw = _uniform_below(rows.unsqueeze(1) - torch.arange(count, device=bound.device), generator)
    drawn = torch.empty(count, len(rows), dtype=torch.int64, device=bound.device)
    taken = torch.empty(0, len(rows), dtype=torch.int64, device=bound.device)  # sorted along dimension 0
    for step in range(count):
        value = raw[:, step].contiguous()
        for earlier in taken:
            value = value + (value >= earlier)
        drawn[step] = value
        if step + 1 < count:
            taken = torch.cat((taken, value.unsqueeze(0))).sort(dim=0).values
    return drawn.t().reshape(*bound.shape, count)
