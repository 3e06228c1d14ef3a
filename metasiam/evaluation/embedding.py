"""Images to embeddings, each image once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metasiam.arguments import checked
from metasiam.data.augment import normalise
from metasiam.data.domains import DomainSet
from metasiam.models.files import EmbedderInfo, device_of


@checked
@torch.no_grad()
def embed_images(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    index: Tensor,
    *,
    batch_size: int = 512,
    mirror: bool = False,
) -> Tensor:
    """Embed the images at ``index`` in eval mode and full precision; the embedder is left as it was.

    Args:
        embedder: maps normalised float [B, C, H, W] to [B, D].
        info: normalisation and distance.
        domains: where the images are.
        index: int64 [M], each image once: pairs index the result.
        batch_size: images in one forward pass.
        mirror: average each embedding with that of the mirrored image (after length normalisation).

    Returns:
        float32 [M, D] on the embedder's device; rows have length 1 when the distance is cosine.

    Raises:
        ValueError: for indices that are no images of the domain set, or a batch of none.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if index.dtype != torch.int64 or index.ndim != 1:
        raise ValueError(f"index must be int64 [M], not {index.dtype} {list(index.shape)}")
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(domains.images):
        raise ValueError(f"index must be of images: whole numbers from 0 to {len(domains.images) - 1}")
    device = device_of(embedder)
    modes = [(module, module.training) for module in embedder.modules()]
    embedder.eval()
    try:
        blocks = []
        for block in torch.split(index, batch_size):
            pixels = domains.gather(block.to(domains.device)).to(device)
            blocks.append(embed_batch(embedder, info, pixels, mirror=mirror))
        return torch.cat(blocks)
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def embed_batch(embedder: nn.Module, info: EmbedderInfo, pixels: Tensor, *, mirror: bool = False) -> Tensor:
    """Embed uint8 [B, C, H, W] on the embedder's device: float32 [B, D], rows of length 1 when the distance is cosine.

    Args:
        embedder: in eval mode.
        info: normalisation and distance.
        pixels: the images.
        mirror: average each embedding with that of the mirrored image (after length normalisation).
    """
    images = normalise(pixels, info.mean, info.std)
    rows = _lengths(embedder(images), info)
    if mirror:
        rows = _lengths((rows + _lengths(embedder(images.flip(-1)), info)) / 2, info)
    return rows


def _lengths(rows: Tensor, info: EmbedderInfo) -> Tensor:
    return F.normalize(rows.float(), dim=1) if info.distance == "cosine" else rows.float()
