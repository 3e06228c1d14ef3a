"""Batched augmentation of uint8 images, on their device, in two halves: draw parameters, then apply them.

Drawing takes the generator; applying is pure arithmetic with fixed shapes that neither waits for the device
nor copies to it, so a training step can compile it and capture it in a CUDA graph.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from metasiam.data import photographs
from metasiam.errors import MetaSiamError
from metasiam.kernels.pictures import can_move, moved

_PIXELS = 3  # columns of the parameters that move whole pixels: flip, rows down, columns right
_AFFINE = 6  # columns of the affine matrix


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image, in this order: mirrored, shifted by whole pixels, distorted.

    Each image draws its own. The four affine distortions are drawn each with probability ½, as Koch et al.
    (2015) do for Omniglot with ``rotation=10, shear=0.3, scale=0.2, translation=2``.

    Attributes:
        flip: mirror left and right with probability ½.
        shift: move by up to this many pixels in both directions (a random crop after padding).
        reflect: fill what moves in with the mirrored image instead of zeros (black).
        rotation: turn by up to this many degrees.
        shear: slant by up to this much, in pixels a pixel.
        scale: stretch height and width, each by a factor within ``1 - scale … 1 + scale``.
        translation: move by up to this many pixels, in fractions of pixels.
        crop: cut out at random at least this share of the area, and enlarge it; 0 does not.
        jitter: change brightness, contrast and saturation by up to this share.
        erase: the probability that a rectangle is erased.
        own: somebody's function of a batch, uint8 [B, C, H, W] to the same, before all others; it draws from torch's
            global generator.
    """

    flip: bool = True
    shift: int = 0
    reflect: bool = False
    rotation: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    translation: float = 0.0
    crop: float = 0.0
    jitter: float = 0.0
    erase: float = 0.0
    own: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if min(self.shift, self.rotation, self.shear, self.scale, self.translation) < 0 or self.scale >= 1:
            raise ValueError(f"augmentation strengths must not be negative, and scale below 1: {self}")

    @property
    def is_affine(self) -> bool:
        """Whether images are resampled."""
        return max(self.rotation, self.shear, self.scale, self.translation) > 0

    @property
    def width(self) -> int:
        """How many parameters an image has."""
        return self._before + (photographs.COLUMNS if self.is_photographic else 0)

    @property
    def _before(self) -> int:
        """How many parameters stand before the photographs'."""
        return _PIXELS + (_AFFINE if self.is_affine else 0)

    @property
    def is_photographic(self) -> bool:
        """Whether images are cropped, coloured or erased."""
        return max(self.crop, self.jitter, self.erase) > 0

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draw parameters for images of this shape: float32 [*shape, width], on the generator's device.

        The columns are: mirrored (0 or 1), rows and columns of the shift, and with any affine distortion
        the 2x3 matrix, in pixels, from places in the result to places in the image.
        """
        device = generator.device
        drawn = torch.zeros(*shape, self.width, device=device)
        if self.flip:
            drawn[..., 0] = (torch.rand(*shape, generator=generator, device=device) < 0.5).float()
        if self.shift:
            size = (*shape, 2)
            drawn[..., 1:3] = torch.randint(
                -self.shift, self.shift + 1, size, generator=generator, device=device
            ).float()
        if self.is_affine:
            drawn[..., _PIXELS : self._before] = self._draw_matrix(shape, generator).flatten(-2)
        if self.is_photographic:
            drawn[..., self._before :] = photographs.draw(shape, self.crop, self.jitter, self.erase, generator)
        return drawn

    def _draw_matrix(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        # Seven strengths in -1 … 1 (angle, two shears, two scales, two moves) and whether each of the four happens.
        amount = torch.rand(*shape, 7, generator=generator, device=generator.device) * 2 - 1
        happens = (torch.rand(*shape, 4, generator=generator, device=generator.device) < 0.5).float()
        angle = amount[..., 0] * happens[..., 0] * math.radians(self.rotation)
        slant = amount[..., 1:3] * happens[..., 1:2] * self.shear
        stretch = 1 / (1 + amount[..., 3:5] * happens[..., 2:3] * self.scale)
        move = amount[..., 5:7] * happens[..., 3:4] * self.translation
        one = torch.ones_like(angle)
        turned = _matrix(angle.cos(), -angle.sin(), angle.sin(), angle.cos())
        slanted = _matrix(one, slant[..., 0], slant[..., 1], one)
        matrix = turned @ slanted @ torch.diag_embed(stretch)
        return torch.cat((matrix, move.unsqueeze(-1)), dim=-1)

    def apply(
        self,
        images: Tensor,
        parameters: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Augment and normalise a batch.

        Args:
            images: uint8 [B, C, H, W].
            parameters: float32 [B, width], as drawn, on the images' device.
            mean: per channel, as a fraction of 255.
            std: per channel, as a fraction of 255.
            dtype: of the result.

        Returns:
            [B, C, H, W] in channels-last memory format.
        """
        if self.own is not None:
            images = _as_it_was(self.own(images), images)
        resampled = self.is_affine or self.is_photographic
        if not resampled and not torch.compiler.is_compiling() and images.device.type == "cpu":
            table = _table(tuple(mean), tuple(std), dtype)
            if can_move(images, parameters, table):
                return moved(images, parameters, table, shifted=self.shift > 0, reflect=self.reflect)
        if self.shift:
            images = self._moved(images, parameters)
        elif self.flip:
            mirrored = parameters[:, 0].bool().view(-1, 1, 1, 1)
            images = torch.where(mirrored, images.flip(-1), images)
        pixels = images.float()
        if self.is_affine:
            pixels = self._distorted(pixels, parameters[:, _PIXELS : self._before].view(-1, 2, 3))
        if self.is_photographic:
            pixels = photographs.apply(pixels, parameters[:, self._before :], mean)
        return _normalised(pixels, mean, std).to(dtype).contiguous(memory_format=torch.channels_last)

    def _moved(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Mirror and shift with one gather of rows' and columns' places."""
        count, channels, height, width = images.shape
        moves = parameters[:, :_PIXELS].long()
        rows = torch.arange(height, device=images.device) + moves[:, 1:2]
        columns = torch.arange(width, device=images.device) + moves[:, 2:3]
        inside = ((rows >= 0) & (rows < height)).unsqueeze(2) & ((columns >= 0) & (columns < width)).unsqueeze(1)
        rows, columns = _reflected(rows, height), _reflected(columns, width)
        columns = torch.where(moves[:, :1] > 0, width - 1 - columns, columns)
        place = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).view(count, 1, -1)
        moved = images.reshape(count, channels, -1).gather(2, place.expand(-1, channels, -1)).view_as(images)
        return moved if self.reflect else moved * inside.unsqueeze(1)

    def _distorted(self, pixels: Tensor, matrix: Tensor) -> Tensor:
        # affine_grid counts in half images, and height and width may differ.
        height, width = pixels.shape[-2:]
        across = torch.stack((matrix[:, 0, 0], matrix[:, 0, 1] * (height / width), matrix[:, 0, 2] * (2 / width)), 1)
        down = torch.stack((matrix[:, 1, 0] * (width / height), matrix[:, 1, 1], matrix[:, 1, 2] * (2 / height)), 1)
        grid = functional.affine_grid(torch.stack((across, down), 1), list(pixels.shape), align_corners=False)
        padding = "reflection" if self.reflect else "zeros"
        return functional.grid_sample(pixels, grid, "bilinear", padding, align_corners=False)


def _as_it_was(changed: Tensor, images: Tensor) -> Tensor:
    """Return what somebody's own augmentation made, if it is such a batch as it got.

    Raises:
        MetaSiamError: saying what it is.
    """
    if not isinstance(changed, Tensor) or changed.dtype != torch.uint8 or changed.shape != images.shape:
        kind = f"{changed.dtype} {list(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
        raise MetaSiamError(f"augment must return uint8 {list(images.shape)}, as it got, not {kind}.")
    return changed.contiguous()


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack((torch.stack((a, b), -1), torch.stack((c, d), -1)), -2)


def _reflected(place: Tensor, size: int) -> Tensor:
    """Mirror places at the first and last pixel (which are not doubled), once."""
    last = size - 1
    return (last - (last - place.abs()).abs()).clamp(0, last)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return uint8 images as the embedders want them: float32, ``(pixel / 255 - mean) / std``, same shape.

    Args:
        images: uint8 [B, C, H, W].
        mean: per channel, as a fraction of 255.
        std: per channel, as a fraction of 255.
    """
    return _normalised(images.float(), mean, std)


def _normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    scale = _by_channel([1 / (255 * s) for s in std], pixels)
    offset = _by_channel([-m / s for m, s in zip(mean, std, strict=True)], pixels)
    return pixels * scale + offset


@functools.lru_cache(maxsize=8)
def _table(mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    """Return what a pixel of each value becomes, [C, 256]: the same bits as ``_normalised`` gives images."""
    values = torch.arange(256).float().expand(1, len(mean), 1, 256)
    return _normalised(values, mean, std).to(dtype).view(len(mean), 256)


def _by_channel(values: Sequence[float], like: Tensor) -> Tensor:
    # Filled on the device: a tensor made from a list would be a copy from the host, which graphs cannot hold.
    filled = [torch.full((1, 1, 1, 1), value, dtype=like.dtype, device=like.device) for value in values]
    return torch.cat(filled, dim=1)
