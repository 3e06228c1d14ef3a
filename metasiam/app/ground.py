"""The ground under a picture's ink: paper or board, evenly lit or under a shadow or vignette."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Edges whose levels differ by no more than this share of the ink's contrast, and of their own, are one level.
EVEN = 0.15
#: Grey levels by which ink stands out at the least.
FAINTEST = 32
#: Ink is nowhere as wide as this share of the picture's longer side, or it does not reach the picture's edge.
WIDEST = 1 / 6
_BLOCKS = 64  # about how many blocks of pixels a side has where only large shapes matter


def ink_on(picture: Tensor) -> Tensor:
    """Return how much ink each pixel has, in a unit that depends on the picture: float [H, W], none below 0.

    The picture's edge is ground. Where it is even, ink is whatever differs from it. Where the light is uneven, the
    ground is followed: ink is what is narrow, or does not reach the edge, and is measured in proportion to its ground,
    as light falls on both alike.

    Args:
        picture: uint8 [H, W].

    Raises:
        ValueError: if nothing on it stands out from the ground by ``FAINTEST`` levels.
    """
    pixels = picture.float()
    edge = torch.cat((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    even = (pixels - edge.median()).abs()
    low, high = float(edge.quantile(0.05)), float(edge.quantile(0.95))
    if high - low <= EVEN * min(float(even.max()), high + FAINTEST):
        return _seen(even)
    smooth = _mean_of_neighbours(pixels)  # a photograph's noise is no ink
    if _dark_ink(pixels):
        ground = _ground(smooth)
        return _seen(ground - smooth) / ground.clamp(min=1)
    ground = 255 - _ground(255 - smooth)
    return (_seen(smooth - ground) / (ground + FAINTEST / 2)).log1p()  # a board is nearly black


def _seen(ink: Tensor) -> Tensor:
    if float(ink.max()) < FAINTEST:
        raise ValueError("the picture is empty")
    return ink


def _dark_ink(pixels: Tensor) -> bool:
    """Tell whether ink is darker than its surroundings, by which side of the local median strays further."""
    small = F.adaptive_avg_pool2d(pixels[None, None], min(_BLOCKS, *pixels.shape))
    reach = small.shape[-1] // 6
    around = F.pad(small, (reach,) * 4, mode="replicate").unfold(2, 2 * reach + 1, 1).unfold(3, 2 * reach + 1, 1)
    strays = small - around.flatten(4).median(-1).values
    return float(strays.pow(3).sum()) <= 0


def _ground(pixels: Tensor) -> Tensor:
    """Return the ground's level under dark ink: narrow shapes and such as do not reach the edge are filled.

    Near a step, such as a shadow's edge, it is the darker side's, so that the step itself is no ink.
    """
    smooth = _mean_of_neighbours(pixels)
    filled = torch.maximum(_narrow_filled(smooth), _islands_filled(smooth))
    return torch.maximum(-F.max_pool2d(-filled[None], 7, 1, 3)[0], pixels)


def _mean_of_neighbours(pixels: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(pixels[None, None], (1,) * 4, mode="replicate"), 3, 1)[0, 0]


def _narrow_filled(pixels: Tensor) -> Tensor:
    """Fill dark shapes into which neither a square nor an octagon as wide as the widest ink fits.

    Shadows keep their edges: straight ones, round ones and right angles.
    """
    width = max(3, round(max(pixels.shape) * WIDEST))
    straight, slanted = max(2, round(width * 0.42)), max(2, round(width * 0.3))
    square = (((0, 1), width), ((1, 0), width))
    octagon = (((0, 1), straight), ((1, 0), straight), ((1, 1), slanted), ((1, -1), slanted))
    # Beyond the picture everything goes on as at its edge, so that where a shadow leaves it is no narrow shape.
    padded = F.pad(pixels[None, None], (2 * width,) * 4, mode="replicate")[0, 0]
    closed = torch.minimum(_closed(padded, square), _closed(padded, octagon))
    return closed[2 * width : -2 * width, 2 * width : -2 * width]


def _closed(pixels: Tensor, shape: Sequence[tuple[tuple[int, int], int]]) -> Tensor:
    """Take the maximum over a shape, a sum of lines, around each pixel, and then the minimum."""
    for sign in (1, -1):
        pixels = pixels * sign
        for step, length in shape:
            pixels = _highest_along(pixels, step, length, before=sign < 0)
        pixels = pixels * sign
    return pixels


def _highest_along(pixels: Tensor, step: tuple[int, int], length: int, *, before: bool) -> Tensor:
    """Return the maximum of ``length`` pixels of a line from each pixel on, or up to it (wrapping around)."""
    sign, covered = 1 if before else -1, 1
    while covered < length:
        shift = min(covered, length - covered) * sign
        pixels = torch.maximum(pixels, pixels.roll((step[0] * shift, step[1] * shift), (0, 1)))
        covered += abs(shift)
    return pixels


def _islands_filled(pixels: Tensor) -> Tensor:
    """Fill dark shapes that do not reach the edge, coarsely and rather too dark than too light."""
    block = max(1, -(-max(pixels.shape) // _BLOCKS))
    padded = F.pad(pixels[None, None], (0, -pixels.shape[1] % block, 0, -pixels.shape[0] % block), mode="replicate")
    low = -F.max_pool2d(-padded, block)
    inner = torch.zeros_like(low)
    inner[..., 1:-1, 1:-1] = 255
    filled = torch.maximum(low, inner)
    while True:  # the lowest level on the way to the edge
        further = torch.maximum(low, -F.max_pool2d(-filled, 3, 1, 1))
        if torch.equal(further, filled):
            break
        filled = further
    filled = -F.max_pool2d(-filled, 3, 1, 1)
    return F.interpolate(filled, scale_factor=block)[0, 0, : pixels.shape[0], : pixels.shape[1]]
