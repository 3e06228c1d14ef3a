"""Fisher vectors: a hand-made image descriptor with nothing to train but statistics. Strong where pairs are few.

Source: Simonyan, Parkhi, Vedaldi, Zisserman, "Fisher Vector Faces in the Wild" (BMVC 2013): dense SIFT at five scales,
square root, PCA to 64 dimensions, place appended, a mixture of Gaussians, and the improved Fisher vector of Perronnin
et al. (2010).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BINS, _CELLS = 8, 4
_DESCRIPTOR = _BINS * _CELLS * _CELLS
_LEVELS = 5
_SAMPLED_IMAGES, _SAMPLED_DESCRIPTORS, _ROUNDS = 400, 100_000, 12


class FisherFaces(nn.Module):
    """Dense SIFT descriptors pooled by a mixture of Gaussians. Call ``fit`` before use.

    Args:
        channels: image channels; colours are averaged.
        image_size: height and width in pixels, at least 29 with the default cell.
        components: Gaussians of the mixture.
        stride: pixels between descriptors, on every level.
        cell: pixels of a descriptor's cell; a descriptor covers 4 × 4.
        basis: dimensions that PCA leaves of a descriptor.

    Attributes:
        embedding_size: 2 · components · (basis + 2); embeddings have length 1.
    """

    descriptor_mean: Tensor
    projection: Tensor
    means: Tensor
    variances: Tensor
    weights: Tensor

    def __init__(
        self,
        channels: int,
        image_size: tuple[int, int],
        *,
        components: int = 128,
        stride: int = 3,
        cell: int = 6,
        basis: int = 64,
    ) -> None:
        super().__init__()
        if min(image_size) < _smallest(cell):
            raise ValueError(f"fisher needs at least {_smallest(cell)} pixels, not {min(image_size)}")
        self.stride, self.cell = stride, cell
        width = basis + 2
        self.embedding_size = 2 * components * width
        self.register_buffer("descriptor_mean", torch.zeros(_DESCRIPTOR))
        self.register_buffer("projection", torch.eye(_DESCRIPTOR, basis))
        self.register_buffer("means", torch.zeros(components, width))
        self.register_buffer("variances", torch.ones(components, width))
        self.register_buffer("weights", torch.full((components,), 1 / components))

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images: float [B, C, H, W] to float32 [B, embedding_size], each of length 1."""
        with torch.autocast(images.device.type, enabled=False):
            points, places = self.describe(images.float())
            return torch.stack([self._fisher_vector(self._reduced(own, places)) for own in points])

    def describe(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the SIFT descriptors [B, L, 128] of images [B, C, H, W], and their places [L, 2] in −½ … ½."""
        grey = images.mean(1, keepdim=True)
        points, places = [], []
        for level in range(_LEVELS):
            scaled = grey
            if level:
                factor = 2 ** (-level / 2)
                scaled = F.interpolate(grey, scale_factor=factor, mode="bilinear", antialias=True)
            if min(scaled.shape[-2:]) < _smallest(self.cell):
                break
            found, where = self._describe_level(scaled)
            points.append(found)
            places.append(where)
        return torch.cat(points, 1), torch.cat(places)

    def _describe_level(self, images: Tensor) -> tuple[Tensor, Tensor]:
        cell, stride = self.cell, self.stride
        padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
        right = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        strength = (right.square() + down.square() + 1e-12).sqrt()
        angle = torch.atan2(down, right) * (_BINS / (2 * math.pi))
        # The angle is in −4 … 4 bins, so no difference is beyond 8 and going round the circle needs no division.
        away = (angle - torch.arange(-_BINS // 2, _BINS // 2, device=images.device).view(1, -1, 1, 1)).abs()
        # Each gradient goes to its two nearest orientations and, by a triangular window, to its nearest cells.
        maps = strength * (1 - torch.minimum(away, _BINS - away)).clamp(min=0)
        rows, columns = ((size - _smallest(cell)) // stride + 1 for size in images.shape[-2:])
        # Where strides and cells fit together, only the places that descriptors use are worked out.
        apart = stride if cell % stride == 0 else 1
        maps = _windowed(maps, cell, apart)
        points = F.unfold(maps, _CELLS, dilation=cell // apart, stride=stride // apart)
        points = points.transpose(1, 2)
        points = (points / (points.sum(-1, keepdim=True) + 5e-3)).sqrt()
        middle = cell - 1 + (_CELLS - 1) / 2 * cell
        height, width = images.shape[-2:]
        y = (torch.arange(rows, device=images.device) * stride + middle) / height - 0.5
        x = (torch.arange(columns, device=images.device) * stride + middle) / width - 0.5
        return points, torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)

    def _reduced(self, points: Tensor, places: Tensor) -> Tensor:
        return torch.cat(((points - self.descriptor_mean) @ self.projection, places), 1)

    def _posterior(self, squared: Tensor) -> Tensor:
        """Return which Gaussian each point belongs to, [L, K], for points next to their squares [L, 2 W]."""
        slope = torch.cat((self.means / self.variances, -0.5 / self.variances), 1)
        level = self.weights.log() - 0.5 * (self.means.square() / self.variances + self.variances.log()).sum(1)
        return torch.addmm(level, squared, slope.T).softmax(1)

    def _fisher_vector(self, points: Tensor) -> Tensor:
        """Return the improved Fisher vector [embedding_size] of points [L, W]."""
        squared = torch.cat((points, points.square()), 1)
        posterior = self._posterior(squared)
        count = posterior.sum(0).unsqueeze(1)
        first, second = (posterior.T @ squared).chunk(2, 1)
        weight = self.weights.unsqueeze(1)
        by_mean = (first - self.means * count) / (self.variances * weight).sqrt()
        centred = second - 2 * self.means * first + self.means.square() * count
        by_variance = (centred / self.variances - count) / (2 * weight).sqrt()
        vector = torch.cat((by_mean, by_variance), 1).flatten() / len(points)
        return F.normalize(vector.sign() * vector.abs().sqrt(), dim=0)

    @torch.no_grad()
    def fit(self, images: Callable[[Tensor], Tensor], count: int, generator: torch.Generator) -> None:
        """Learn PCA and mixture from unlabelled images, in place.

        Args:
            images: maps indices int64 [B] below ``count`` to normalised images [B, C, H, W].
            count: number of images.
            generator: on the CPU.
        """
        chosen = torch.randperm(count, generator=generator)[:_SAMPLED_IMAGES]
        each = max(_SAMPLED_DESCRIPTORS // len(chosen), 1)
        sampled = []
        for block in torch.split(chosen, 16):
            points, places = self.describe(images(block).float())
            pick = torch.randint(points.shape[1], (len(block), each), generator=generator).to(points.device)
            own = points.gather(1, pick.unsqueeze(-1).expand(-1, -1, _DESCRIPTOR))
            sampled.append(torch.cat((own, places[pick]), -1).flatten(0, 1))
        sample = torch.cat(sampled)
        self.descriptor_mean.copy_(sample[:, :_DESCRIPTOR].mean(0))
        centred = sample[:, :_DESCRIPTOR] - self.descriptor_mean
        directions = torch.linalg.eigh(centred.T @ centred / len(centred)).eigenvectors.flip(1)
        self.projection.copy_(directions[:, : self.projection.shape[1]])
        self._fit_mixture(self._reduced(sample[:, :_DESCRIPTOR], sample[:, _DESCRIPTOR:]), generator)

    def _fit_mixture(self, points: Tensor, generator: torch.Generator) -> None:
        """Expectation maximisation on points [L, W], from means that are points themselves."""
        start = torch.randperm(len(points), generator=generator)[: len(self.weights)].to(points.device)
        spread = points.var(0)
        # With fewer points than Gaussians some of these start at the same one.
        self.means.copy_(points[start.repeat(-(-len(self.weights) // len(start)))[: len(self.weights)]])
        self.variances.copy_((0.5 * spread).clamp(min=1e-8).expand_as(self.variances))
        self.weights.fill_(1 / len(self.weights))
        squared = torch.cat((points, points.square()), 1)
        for _ in range(_ROUNDS):
            count = torch.zeros_like(self.weights)
            sums = points.new_zeros(len(self.weights), squared.shape[1])
            for block in torch.split(squared, 20_000):
                posterior = self._posterior(block)
                count += posterior.sum(0)
                sums += posterior.T @ block
            mean, square = (sums / count.clamp(min=1e-3).unsqueeze(1)).chunk(2, 1)
            self.means.copy_(mean)
            self.variances.copy_(torch.maximum(square - mean.square(), 0.01 * spread).clamp(min=1e-8))
            self.weights.copy_((count / len(points)).clamp(min=1e-5))


def _windowed(maps: Tensor, cell: int, apart: int) -> Tensor:
    """Average under a triangular window, two cells wide, at every ``apart``-th place: a box twice, along each axis."""
    for kernel, step in (((cell, 1), (apart, 1)), ((1, cell), (1, apart))):
        maps = F.avg_pool2d(F.avg_pool2d(maps, kernel, 1), kernel, step)
    return maps


def _smallest(cell: int) -> int:
    """Return the pixels that one descriptor needs: its cells, each with a window as wide again."""
    return (_CELLS + 1) * cell - 1


#: Name → builder(channels, image_size).
FISHER: dict[str, Callable[[int, tuple[int, int]], nn.Module]] = {
    "fisher": FisherFaces,
    "fisher-256": partial(FisherFaces, components=256),
}
