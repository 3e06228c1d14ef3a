"""CIFAR ResNets with parameter-free (option A) shortcuts: ResNet-8 to ResNet-110, 64-d embeddings.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2.
State-dict names (``conv1, bn1, layer1.0.conv1, …``) are those of the published weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from metasiam.kernels.norm import norm_relu


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions with an option-A shortcut: subsample, then pad channels with zeros."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.fused = False  # see metasiam.kernels.norm
        self.padding = (channels_out - channels_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H / stride, W / stride]."""
        out = norm_relu(self.bn1, self.conv1(x), fused=self.fused)
        if self.stride != 1 or self.padding:
            shortcut = _Shortcut.apply if self.fused else _shortcut
            x = shortcut(x, self.stride, self.padding)
        return norm_relu(self.bn2, self.conv2(out), x, fused=self.fused)


def _shortcut(x: Tensor, stride: int, padding: int) -> Tensor:
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, padding, padding))


class _Shortcut(torch.autograd.Function):
    """``_shortcut`` with gradients that stay channels last: PyTorch's own are not, and the sums after them slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, padding: int) -> Tensor:
        ctx.shape, ctx.stride, ctx.padding = x.shape, stride, padding
        return _shortcut(x, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None, None]:
        below = torch.empty(ctx.shape, dtype=above.dtype, device=above.device, memory_format=torch.channels_last)
        kept = above[:, ctx.padding : ctx.padding + ctx.shape[1]]
        below.zero_()[:, :, :: ctx.stride, :: ctx.stride] = kept
        return below, None, None


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 for small images: three stages of n blocks with 16, 32 and 64 channels.

    Args:
        blocks: n, the number of blocks in a stage.
        channels: image channels, 1 or 3.
    """

    embedding_size = 64

    def __init__(self, blocks: int, channels: int = 3) -> None:
        super().__init__()
        self.fused = False
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images: float [B, C, H, W] to [B, 64] (any H, W of at least 4 pixels)."""
        x = norm_relu(self.bn1, self.conv1(images), fused=self.fused)
        x = self.layer3(self.layer2(self.layer1(x)))
        return torch.mean(x, dim=(2, 3))


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(BasicBlock(channels_out, channels_out, 1) for _ in range(blocks - 1)))


def _builder(depth: int) -> Callable[[int, tuple[int, int]], nn.Module]:
    @functools.wraps(CifarResNet)
    def build(channels: int, image_size: tuple[int, int]) -> nn.Module:
        return CifarResNet((depth - 2) // 6, channels)

    return build


RESNETS_CIFAR = {f"resnet{depth}": _builder(depth) for depth in (8, 14, 20, 32, 44, 56, 110)}
