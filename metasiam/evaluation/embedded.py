"""Embeddings of some images of a domain set, looked up by the images' own indices."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from metasiam.data.domains import DomainSet
from metasiam.evaluation.embedding import embed_images
from metasiam.evaluation.verification import similarity, triplets_right
from metasiam.models.files import EmbedderInfo


class EmbeddedImages:
    """One embedding for each of some images, by one state of the weights; kept on the CPU.

    Args:
        index: int64 [M], increasing, indices into the domain set.
        rows: float [M, D].
        distance: how two rows are compared.
    """

    def __init__(self, index: Tensor, rows: Tensor, distance: str) -> None:
        self.index = index
        self.rows = rows
        self.distance = distance

    def places(self, index: Tensor) -> Tensor:
        """Return where these images stand in ``rows``: int64, of the same shape.

        Raises:
            KeyError: if one of them was not embedded.
        """
        place = torch.searchsorted(self.index, index.contiguous()).clamp(max=len(self.index) - 1)
        if not torch.equal(self.index[place], index):
            raise KeyError("an image was not embedded")
        return place

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the embeddings of these images: float [*index.shape, D]."""
        return self.rows[self.places(index)]

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Compare images given by their indices, int64 [P] each: float [P]."""
        return similarity(self.rows, self.places(first), self.places(second), self.distance)

    def triplets_right(self, triplets: Tensor) -> Tensor:
        """Tell which triplets of indices, int64 [3, T], are right: bool [T]."""
        return triplets_right(self.rows, self.places(triplets), self.distance)

    def transformed(self, weight: Tensor) -> EmbeddedImages:
        """Return the embeddings after a linear head, float [D, D], on top."""
        rows = self.rows @ weight.cpu().t()
        rows = torch.nn.functional.normalize(rows, dim=1) if self.distance == "cosine" else rows
        return EmbeddedImages(self.index, rows, self.distance)


def embed_all(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    indices: Iterable[Tensor],
    *,
    mirror: bool = False,
) -> EmbeddedImages:
    """Embed every image that occurs in ``indices``, once.

    Args:
        embedder: on the domain set's device.
        info: normalisation and distance.
        domains: the images.
        indices: int64 tensors on the CPU, of any length.
        mirror: average each embedding with the mirrored image's.
    """
    index = torch.unique(torch.cat([i.flatten() for i in indices]))
    rows = embed_images(embedder, info, domains, index, mirror=mirror)
    return EmbeddedImages(index, rows.cpu(), info.distance)
