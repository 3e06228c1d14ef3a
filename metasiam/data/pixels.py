"""Images in whatever form people have them, as uint8 tensors of channels first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metasiam.errors import MetaSiamError


def as_images(given: Any, name: str = "images") -> Tensor:
    """Return a block of images as uint8 [N, C, H, W].

    Args:
        given: a tensor or an array [N, H, W], [N, H, W, C] or [N, C, H, W], C being 1 or 3, of uint8, bools, or
            floats from 0 to 1; or a list of single images, all of one size, that ``as_image`` takes.
        name: what to call it in a complaint.

    Raises:
        MetaSiamError: for another form, images of several sizes, or values that are no brightness.
    """
    if isinstance(given, list | tuple):
        return stacked((as_image(image, f"image {place} of {name}") for place, image in enumerate(given)), name)
    block = given if isinstance(given, Tensor) else torch.from_numpy(np.ascontiguousarray(np.asarray(given)))
    if block.ndim == 3:
        block = block.unsqueeze(1)
    elif block.ndim == 4 and block.shape[1] not in (1, 3) and block.shape[3] in (1, 3):
        block = block.movedim(-1, 1)
    if block.ndim != 4 or block.shape[1] not in (1, 3):
        raise MetaSiamError(
            f"{name} must be [N, H, W], [N, H, W, C] or [N, C, H, W] with one or three channels, not "
            f"{list(block.shape)}."
        )
    return _as_bytes(block, name).contiguous()


def as_image(given: Any, name: str = "the image") -> Tensor:
    """Return one image as uint8 [C, H, W].

    Args:
        given: a tensor [C, H, W] (torchvision's way), or what Pillow and numpy call an image, [H, W] or [H, W, C]; of
            uint8, or of floats from 0 to 1.
        name: what to call it in a complaint.

    Raises:
        MetaSiamError: for another form, or values that are no brightness.
    """
    if isinstance(given, Tensor):
        image = given
    else:
        array = torch.from_numpy(np.array(given))
        image = array.unsqueeze(0) if array.ndim == 2 else array.movedim(-1, 0)
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise MetaSiamError(f"{name} must have height, width and one or three channels, not {list(image.shape)}.")
    return _as_bytes(image, name).contiguous()


def image_and_label(item: Any, name: str) -> tuple[Any, Any]:
    """Return image and label of a data set's item: a pair, or a dict as Hugging Face's.

    Raises:
        MetaSiamError: for an item of another form.
    """
    if isinstance(item, Mapping):
        image = next((item[key] for key in ("image", "img", "pixel_values") if key in item), None)
        label = next((item[key] for key in ("label", "labels", "fine_label") if key in item), None)
        if image is None or label is None:
            raise MetaSiamError(
                f"items of {name} need the keys image and label; they have {', '.join(map(str, item))}."
            )
        return image, _plain(label)
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise MetaSiamError(f"items of {name} must be (image, label), not a {type(item).__name__}.")
    return item[0], _plain(item[1])


def _plain(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label


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


def _as_bytes(pixels: Tensor, name: str) -> Tensor:
    """Return brightness as uint8, without rounding what is uint8 already."""
    if pixels.dtype == torch.uint8:
        return pixels
    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * 255
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.numel() else (0.0, 0.0)
    if not pixels.is_floating_point() or not (low >= 0 and high <= 1):
        raise MetaSiamError(
            f"{name} has values from {low:.3g} to {high:.3g}. Pass uint8 images, or floats from 0 to 1 (without "
            "Normalize)."
        )
    return (pixels * 255).round().to(torch.uint8)
