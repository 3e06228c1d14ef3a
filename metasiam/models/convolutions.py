"""Convolutions whose gradients are right in bfloat16 too."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ColumnSafeConv2d(nn.Conv2d):
    """A convolution that is computed in float32 where oneDNN's bfloat16 gives gradients of uninitialised memory.

    Seen with torch 2.14 on CPUs that multiply bfloat16: the weight gradient of a strided convolution with a kernel
    wider than 1, of inputs one pixel wide and any pixels high. That is what ResNet-18 makes of pictures of up to
    16 pixels.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map float [B, C, H, W] as ``nn.Conv2d`` does; float32 comes out where it was computed in it."""
        if input.shape[-1] > 1 or input.device.type != "cpu":
            return super().forward(input)
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast("cpu", enabled=False):
            mapped: Tensor = self._conv_forward(input.float(), self.weight.float(), bias)
        return mapped


def make_column_safe(module: nn.Module) -> nn.Module:
    """Turn a module's strided convolutions into ``ColumnSafeConv2d``, in place: weights and names stay."""
    for part in module.modules():
        if type(part) is nn.Conv2d and part.stride[-1] > 1 and part.kernel_size[-1] > 1:
            part.__class__ = ColumnSafeConv2d
    return module
