"""A pool: images of some domains, grouped, so that samplers can draw from each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metasiam.wording import counted


@dataclass(frozen=True, eq=False)
class Pool:
    """Images of some domains, grouped by domain: what every sampler draws from.

    Attributes:
        images: int64 [M], indices into a domain set's images; each domain's stand together.
        domains: int64 [D], the domains' indices, in increasing order.
        starts: int64 [D], where each domain's block begins in ``images``.
        counts: int64 [D], how many images each block has (at least one).
    """

    images: Tensor
    domains: Tensor
    starts: Tensor
    counts: Tensor

    @property
    def device(self) -> torch.device:
        """Where the indices live, and so where draws from this pool are made."""
        return self.images.device

    @cached_property
    def fewest(self) -> int:
        """How many images the smallest domain has; asked of the device once, because the answer waits for it."""
        return int(self.counts.min())

    def only(self, domains: Iterable[int]) -> Pool:
        """Return the pool of just these domains, which must all be here."""
        wanted = torch.tensor(sorted(set(domains)), dtype=torch.int64, device=self.device)
        rows = torch.searchsorted(self.domains, wanted).clamp(max=len(self.domains) - 1)
        if len(wanted) == 0 or not torch.equal(self.domains[rows], wanted):
            raise ValueError(f"domains {wanted.tolist()} are not all in the pool")
        blocks = [
            self.images[start : start + count]
            for start, count in zip(self.starts[rows].tolist(), self.counts[rows].tolist(), strict=True)
        ]
        return grouped(torch.cat(blocks), wanted, self.counts[rows])

    def without(self, domain: int) -> Pool:
        """Return the pool of every domain but this one."""
        return self.only(d for d in self.domains.tolist() if d != domain)

    def shots(self, count: int, generator: torch.Generator) -> Pool:
        """Return the pool with ``count`` images of each domain, drawn at random.

        Pools drawn with equally seeded generators are nested: five shots contain the one shot.

        Raises:
            ValueError: if a domain has fewer than ``count`` images.
        """
        if self.fewest < count:
            raise ValueError(f"a domain has only {counted(self.fewest, 'image')}, {count} were asked for")
        order, rank, _ = self.shuffled(generator)
        kept = order[rank < count]
        return grouped(self.images[kept], self.domains, torch.full_like(self.counts, count))

    def shuffled(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Shuffle the images of each domain among themselves.

        Returns:
            The images' places in ``images``, int64 [M], domain by domain; each one's rank within its domain, int64 [M]
            from 0; and the random keys that they are ordered by, float [M].
        """
        keys = torch.rand(len(self.images), generator=generator, device=self.device)
        rows = torch.repeat_interleave(torch.arange(len(self.domains), device=self.device), self.counts)
        order = torch.argsort(keys)
        order = order[torch.argsort(rows[order], stable=True)]
        rank = torch.arange(len(order), device=self.device) - self.starts[rows]
        return order, rank, keys[order]


def grouped(images: Tensor, domains: Tensor, counts: Tensor) -> Pool:
    return Pool(images, domains, torch.cumsum(counts, 0) - counts, counts)
