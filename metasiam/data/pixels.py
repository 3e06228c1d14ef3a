"""Images in whatever form people have them, as uint8 tensors of channels first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metasiam.errors import MetaSiamError

#: The most channels that an array is taken to have: a longer side is a side of the images.
_MOST_CHANNELS = 64
Levels = tuple[float, float]


def as_images(given: Any, name: str = "images", *, channels: str | None = None, levels: Levels | None = None) -> Tensor:
    """Return a block of images as uint8 [N, C, H, W].

    Args:
        given: a tensor or an array [N, H, W], [N, H, W, C] or [N, C, H, W], of uint8, bools, or floats from 0 to 1; or
            a list of single images, all of one size, that ``as_image`` takes.
        name: what to call it in a complaint.
        channels: ``first`` or ``last``, where the sizes do not say it: 1 and 3 are channels, else the smaller number.
        levels: what becomes 0 and what 255, for other numbers (16 bits, metres of depth); those outside go to its ends.

    Raises:
        MetaSiamError: for another form, images of several sizes, or values that are no brightness.
    """
    if isinstance(given, list | tuple):
        each = (as_image(one, f"image {i} of {name}", channels=channels, levels=levels) for i, one in enumerate(given))
        return stacked(each, name)
    block = given if isinstance(given, Tensor) else _tensor(given, name)
    if block.ndim == 3:
        block = block.unsqueeze(1)
    if block.ndim != 4 or 0 in block.shape[1:]:
        raise MetaSiamError(f"{name} must be [N, H, W], [N, H, W, C] or [N, C, H, W], not {list(block.shape)}.")
    if not _is_first(block.shape[1:], channels, name, usual=None):
        block = block.movedim(-1, 1)
    return _as_bytes(block, name, levels).contiguous()


def as_image(
    given: Any, name: str = "the image", *, channels: str | None = None, levels: Levels | None = None
) -> Tensor:
    """Return one image as uint8 [C, H, W].

    Args:
        given: a picture of Pillow's, an array or a tensor, [H, W], [H, W, C] or [C, H, W]; of uint8, bools, or floats
            from 0 to 1. Where the sizes do not say which, an array is [H, W, C], and a tensor [C, H, W].
        name: what to call it in a complaint.
        channels: as for ``as_images``.
        levels: as for ``as_images``.

    Raises:
        MetaSiamError: for another form, or values that are no brightness.
    """
    image = given if isinstance(given, Tensor) else _tensor(_picture(given), name)
    if image.ndim == 2:
        image = image.unsqueeze(0)
    if image.ndim != 3 or 0 in image.shape:
        raise MetaSiamError(f"{name} must be [H, W], [H, W, C] or [C, H, W], not {list(image.shape)}.")
    if not _is_first(image.shape, channels, name, usual="first" if isinstance(given, Tensor) else "last"):
        image = image.movedim(-1, 0)
    return _as_bytes(image, name, levels).contiguous()


def _tensor(given: Any, name: str) -> Tensor:
    array = np.ascontiguousarray(np.asarray(given))
    if array.dtype.kind not in "biuf":
        raise MetaSiamError(f"{name} must hold numbers, not {array.dtype}.")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch knows little of other unsigned numbers
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _picture(given: Any) -> Any:
    """Return a picture of Pillow's in grey or in colour: palettes hold numbers of colours; nothing is transparent."""
    mode = getattr(given, "mode", None)
    if mode in ("P", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "PA", "RGBX"):
        return given.convert("RGB")
    return given.convert("L") if mode in ("1", "LA", "La") else given


def _is_first(sizes: Sequence[int], channels: str | None, name: str, usual: str | None) -> bool:
    """Tell whether of three sizes the first is the channels', or the last.

    Raises:
        MetaSiamError: if it cannot be known, or neither can be.
    """
    first, last = sizes[0], sizes[2]
    if channels is not None:
        if channels not in ("first", "last"):
            raise MetaSiamError(f"channels must be first or last, not {channels!r}.")
        return channels == "first"
    if usual == "last" and last in (1, 3):
        return False
    if first in (1, 3) or last in (1, 3):
        return first in (1, 3)
    if min(first, last) > _MOST_CHANNELS or (first == last and usual is None):
        raise MetaSiamError(
            f"{name} of sizes {list(sizes)}: it cannot be told which are the channels. Pass channels='first' or 'last'."
        )
    return usual == "first" if first == last else first < last


def stacked(images: Iterable[Tensor], name: str) -> Tensor:
    """Return single images of one size as a block.

    Raises:
        MetaSiamError: if there are none, or one has another size.
    """
    listed = list(images)
    if not listed:
        raise MetaSiamError(f"{name} has no images.")
    for place, image in enumerate(listed):
        if image.shape != listed[0].shape:
            raise MetaSiamError(
                f"image {place} of {name} is {list(image.shape)}, the first is {list(listed[0].shape)}. "
                "Resize them to one size."
            )
    return torch.stack(listed)


def _as_bytes(pixels: Tensor, name: str, levels: Levels | None) -> Tensor:
    """Return brightness as uint8, without rounding what is uint8 already."""
    if levels is not None:
        low, high = levels
        if not low < high:
            raise MetaSiamError(f"levels must be a lower and a higher number, not {levels}.")
        return ((pixels.double() - low) / (high - low)).clamp(0, 1).mul(255).round().to(torch.uint8)
    if pixels.dtype == torch.uint8:
        return pixels
    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * 255
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.numel() else (0.0, 0.0)
    if not pixels.is_floating_point() or not (low >= 0 and high <= 1):
        raise MetaSiamError(
            f"{name} has values from {low:.3g} to {high:.3g}. Pass uint8 images, floats from 0 to 1 (without "
            "Normalize), or levels=(black, white)."
        )
    return (pixels * 255).round().to(torch.uint8)


def as_pictures(images: Tensor) -> Tensor:
    """Return uint8 [N, C, H, W] images as people look at them, with one or three channels: of more, the first three."""
    channels = images.shape[1]
    return images if channels in (1, 3) else images[:, : 1 if channels == 2 else 3]
