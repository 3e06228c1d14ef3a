"""Mirroring, shifting and normalising a batch of uint8 images in one pass, to channels last.

A pixel has 256 values, so normalising is a look into a table; whoever makes the table decides every bit of the result.
"""

from __future__ import annotations

from ctypes import c_int, c_int64

import torch
from torch import Tensor

from metasiam.kernels.build import loaded, lowered, pointer, threads


def can_move(images: Tensor, parameters: Tensor, table: Tensor) -> bool:
    """Return whether ``moved`` works here: the kernels are built, and it is their case."""
    return (
        loaded() is not None
        and images.device.type == "cpu"
        and images.is_contiguous()
        and parameters.is_contiguous()
        and parameters.dtype == torch.float32
        and table.dtype in (torch.float32, torch.bfloat16)
    )


def moved(images: Tensor, parameters: Tensor, table: Tensor, *, shifted: bool, reflect: bool) -> Tensor:
    """Mirror, shift and look up.

    Args:
        images: uint8 [B, C, H, W].
        parameters: float32 [B, at least 3]: mirrored (0 or 1), rows down, columns right.
        table: float32 or bfloat16 [C, 256], what a pixel of each value becomes.
        shifted: whether there are shifts; what moves in is black,
        reflect: or the mirrored image.

    Returns:
        [B, C, H, W] of the table's type, channels last.
    """
    kernels = loaded()
    assert kernels is not None
    out = torch.empty(images.shape, dtype=table.dtype, memory_format=torch.channels_last)
    kernels.metasiam_pictures(
        lowered(table),
        pointer(images),
        pointer(parameters),
        c_int64(parameters.shape[1]),
        pointer(table),
        pointer(out),
        *(c_int64(size) for size in images.shape),
        c_int(shifted),
        c_int(reflect),
        threads(),
    )
    return out
