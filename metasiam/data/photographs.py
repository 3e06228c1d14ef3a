"""What is usual for photographs: crops that are enlarged again, changes of colour, and erased rectangles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

#: Columns of the parameters: the crop's top, left, height and width as shares; factors of brightness, contrast and
#: saturation; the erased rectangle's top, left, height and width.
COLUMNS = 11
_CROP_RATIO, _ERASE_RATIO, _ERASE_AREA = 4 / 3, 3.3, (0.02, 1 / 3)


def draw(shape: Sequence[int], crop: float, jitter: float, erase: float, generator: torch.Generator) -> Tensor:
    """Draw parameters: float32 [*shape, COLUMNS], on the generator's device.

    Args:
        shape: of the images.
        crop: the smallest share of an image's area that is kept; 0 keeps all.
        jitter: by how much brightness, contrast and saturation change at most, as a share.
        erase: the probability that a rectangle of a fiftieth to a third of the area is erased.
        generator: draws.
    """
    random = torch.rand(*shape, COLUMNS + 1, generator=generator, device=generator.device)
    drawn = torch.ones(*shape, COLUMNS, device=generator.device)
    drawn[..., 0:4] = _rectangle(random[..., 0:4], (crop, 1.0) if crop else (1.0, 1.0), _CROP_RATIO if crop else 1.0)
    drawn[..., 4:7] = 1 + (random[..., 4:7] * 2 - 1) * jitter
    drawn[..., 7:11] = _rectangle(random[..., 7:11], _ERASE_AREA, _ERASE_RATIO)
    drawn[..., 9:11] *= (random[..., 11:12] < erase).float()
    return drawn


def _rectangle(random: Tensor, area: tuple[float, float], ratio: float) -> Tensor:
    """Return top, left, height and width as shares, of four random numbers from 0 to 1."""
    size = area[0] + random[..., 0] * (area[1] - area[0])
    wide = ((random[..., 1] * 2 - 1) * math.log(ratio)).exp()
    height, width = (size / wide).sqrt().clamp(max=1), (size * wide).sqrt().clamp(max=1)
    return torch.stack((random[..., 2] * (1 - height), random[..., 3] * (1 - width), height, width), -1)


def apply(pixels: Tensor, parameters: Tensor, fill: Sequence[float]) -> Tensor:
    """Crop, colour and erase.

    Args:
        pixels: float [B, C, H, W] from 0 to 255.
        parameters: float32 [B, COLUMNS].
        fill: what erased places become, per channel, as fractions of 255.

    Returns:
        float [B, C, H, W].
    """
    top, left, height, width = parameters[:, 0:4].unbind(1)
    zero = torch.zeros_like(top)
    across = torch.stack((width, zero, 2 * left + width - 1), 1)
    down = torch.stack((zero, height, 2 * top + height - 1), 1)
    grid = functional.affine_grid(torch.stack((across, down), 1), list(pixels.shape), align_corners=False)
    pixels = functional.grid_sample(pixels, grid, "bilinear", "border", align_corners=False)
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in parameters[:, 4:7].unbind(1))
    pixels = (pixels * brightness).clamp(0, 255)
    grey = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (grey + (pixels - grey) * contrast).clamp(0, 255)
    grey = pixels.mean(1, keepdim=True)
    pixels = (grey + (pixels - grey) * saturation).clamp(0, 255)
    inside = _inside(parameters[:, 7], parameters[:, 9], pixels.shape[2]).view(len(pixels), 1, -1, 1)
    inside = inside & _inside(parameters[:, 8], parameters[:, 10], pixels.shape[3]).view(len(pixels), 1, 1, -1)
    filled = torch.cat([torch.full_like(pixels[:1, :1, :1, :1], 255 * value) for value in fill], 1)
    return torch.where(inside, filled, pixels)


def _inside(start: Tensor, length: Tensor, size: int) -> Tensor:
    place = (torch.arange(size, device=start.device) + 0.5) / size
    return (place >= start.unsqueeze(1)) & (place < (start + length).unsqueeze(1))
