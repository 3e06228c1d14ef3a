"""Better answers from the same weights: several views, and what the seen domains say about the embedding space.

An embedder is wrapped in one that does more at inference. All that follows (pairs, thresholds, adaptation, episodes)
meets the wrapped one, so pairs and episodes gain alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metasiam.data.domains import DomainSet
from metasiam.evaluation.embedding import embed_images
from metasiam.models.files import EmbedderInfo, device_of
from metasiam.options.evaluation import WRAPPING

#: Seen-domain training images that mean and covariance are learned from, at most.
SEEN_IMAGES = 5000
#: Pixels that the views of ``shifts`` are moved by.
SHIFT = 2
#: Exponent of ``tukey``, as in its source.
POWER = 0.5


class InferenceEmbedder(nn.Module):
    """An embedder that averages views of an image, then maps the result: power, centring, weighting, length, in turn.

    Gradient steps on it see one view and move the embedder's own weights; the map stays.

    Args:
        embedder: float [B, C, H, W] to [B, D], with ``embedding_size``.
        distance: ``cosine`` brings each view to length 1 before averaging.
        steps: names out of ``metasiam.options.evaluation.WRAPPING``.
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, embedder: nn.Module, distance: str, steps: tuple[str, ...]) -> None:
        super().__init__()
        self.embedder = embedder
        self.embedding_size = int(embedder.embedding_size)  # type: ignore[arg-type]
        self.distance = distance
        self.steps = steps
        device = device_of(embedder)
        self.register_buffer("mean", torch.zeros(self.embedding_size, device=device))
        self.register_buffer("weight", torch.eye(self.embedding_size, device=device))
        self.training = embedder.training

    def forward(self, images: Tensor) -> Tensor:
        """Map float [B, C, H, W] to float [B, embedding_size]."""
        rows = self.powered(images)
        if {"centre", "lda"} & set(self.steps):
            rows = rows - self.mean
        if "lda" in self.steps:
            rows = rows @ self.weight.t()
        return F.normalize(rows, dim=1) if "normalise" in self.steps else rows

    def powered(self, images: Tensor) -> Tensor:
        """Return the averaged views after the power transform, before anything that is learned: [B, D]."""
        views = [images] if torch.is_grad_enabled() else list(_views(images, self.steps))
        rows = torch.stack([self._unit(self.embedder(view).float()) for view in views]).mean(0)
        if "tukey" in self.steps:
            # Of |x| with its sign kept: embeddings need not be positive. The gradient at 0 is infinite without the ε.
            rows = rows.sign() * (rows.abs() + 1e-6) ** POWER
        return self._unit(rows)

    def _unit(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=1) if self.distance == "cosine" else rows


class _Powered(nn.Module):
    def __init__(self, wrapped: InferenceEmbedder) -> None:
        super().__init__()
        self.wrapped = wrapped

    def forward(self, images: Tensor) -> Tensor:
        return self.wrapped.powered(images)


def _views(images: Tensor, steps: tuple[str, ...]) -> Iterator[Tensor]:
    """Yield the image, with ``shifts`` four moved copies (edges repeated), and with ``mirror`` all of them mirrored."""
    moved = [images]
    if "shifts" in steps:
        height, width = images.shape[-2:]
        padded = F.pad(images, (SHIFT,) * 4, mode="replicate")
        for down, right in ((0, SHIFT), (2 * SHIFT, SHIFT), (SHIFT, 0), (SHIFT, 2 * SHIFT)):
            moved.append(padded[..., down : down + height, right : right + width])
    for view in moved:
        yield view
        if "mirror" in steps:
            yield view.flip(-1)


def wrap(
    embedder: nn.Module, info: EmbedderInfo, domains: DomainSet, seen: Tensor, steps: tuple[str, ...]
) -> tuple[nn.Module, EmbedderInfo]:
    """Return the embedder with its inference steps, learned on seen-domain training images, and how to compare it.

    ``centre`` subtracts their mean embedding and ``normalise`` compares by cosine whatever the embedder was trained for
    (Wang et al., "SimpleShot", 2019); ``tukey`` is a power transform (Yang et al., "Free Lunch for Few-shot Learning",
    2021); ``lda`` whitens by their covariance within domains, with its average variance added along the diagonal.

    Args:
        embedder: on the domain set's device; its weights are shared with the result.
        info: normalisation and distance.
        domains: the images.
        seen: int64 [n], seen-domain training images.
        steps: out of ``WRAPPING``; with none the embedder comes back as it is.
    """
    steps = tuple(step for step in WRAPPING if step in steps)
    if not steps:
        return embedder, info
    wrapped = InferenceEmbedder(embedder, info.distance, steps)
    if {"centre", "lda"} & set(steps):
        rows = embed_images(_Powered(wrapped), info, domains, seen).double()
        wrapped.mean.copy_(rows.mean(0))
        if "lda" in steps:
            wrapped.weight.copy_(whitening(rows, domains.labels[seen.to(domains.device)]))
    distance = "cosine" if "normalise" in steps else info.distance
    return wrapped, replace(info, distance=distance, threshold=None)


def whitening(rows: Tensor, labels: Tensor) -> Tensor:
    """Return (S + s · I)^(-1/2), S the covariance within domains and s its mean variance: float64 [D, D].

    Scaled so that its mean eigenvalue is 1. Comparing rows after it weighs each direction as linear discriminant
    analysis does.

    Args:
        rows: float64 [n, D].
        labels: int64 [n], their domains.
    """
    _, place = torch.unique(labels, return_inverse=True)
    counts = torch.bincount(place).to(rows).unsqueeze(1)
    centres = torch.zeros(len(counts), rows.shape[1]).to(rows).index_add_(0, place, rows) / counts
    rest = rows - centres[place]
    variances, directions = torch.linalg.eigh(rest.t() @ rest / len(rows))
    scales = (variances + variances.mean().clamp(min=1e-12)).rsqrt()
    scaled: Tensor = (directions * (scales / scales.mean())) @ directions.t()
    return scaled
