"""BatchNorm, an optional sum and ReLU in one: two passes over memory forward and two backward instead of about ten.

Statistics, coefficients and sums are kept in float32 and float64, whatever the type of the activations.
"""

from __future__ import annotations

from ctypes import c_float, c_int, c_int64
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from metasiam.kernels.build import compiler, library, loaded, lowered, pointer, threads

#: Numbers in a row of the kernels: a power of two that channels must divide.
_ROW = 64


def has_kernels(module: nn.Module) -> bool:
    """Return whether parts of a module could run on the kernels here; they say so by an attribute ``fused``."""
    return compiler() is not None and any(hasattr(part, "fused") for part in module.modules())


def use_kernels(module: nn.Module) -> bool:
    """Let a module's ``norm_relu`` run on the kernels; return whether it does: it has such parts, and they build."""
    if not has_kernels(module) or library() is None:
        return False
    for part in module.modules():
        if hasattr(part, "fused"):
            setattr(part, "fused", True)  # noqa: B010, a type checker takes modules' attributes for tensors
    return True


def norm_relu(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None = None, *, fused: bool = False) -> Tensor:
    """Return ``relu(norm(x) + residual)`` of float [B, C, H, W].

    Args:
        norm: its running statistics and batch count are updated in training mode.
        x: what is normalised.
        residual: added before the ReLU; none for None.
        fused: use the kernels where they fit: on a CPU, float32 or bfloat16, channels last, C a divisor of 64.
    """
    if not (fused and _fits(norm, x)):
        normalised = norm(x)
        return F.relu(normalised if residual is None else normalised + residual)
    if norm.training:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
    if residual is not None:
        residual = residual.to(x.dtype).contiguous(memory_format=torch.channels_last)
    fused_out: Tensor = _NormRelu.apply(x, residual, norm.weight, norm.bias, norm)
    return fused_out


def _fits(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and loaded() is not None
        and x.dtype in (torch.float32, torch.bfloat16)
        and norm.affine
        and norm.weight.dtype == torch.float32
        and norm.track_running_stats
        and norm.momentum is not None
        and _ROW % x.shape[1] == 0
        and x.numel() % _ROW == 0
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _NormRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, norm: Any) -> Tensor:
        kernels = library()
        assert kernels is not None
        y = torch.empty_like(x, memory_format=torch.channels_last)
        mean, invstd = torch.empty_like(weight), torch.empty_like(weight)
        kernels.metasiam_forward(
            lowered(x),
            pointer(x),
            pointer(residual),
            pointer(weight),
            pointer(bias),
            pointer(norm.running_mean),
            pointer(norm.running_var),
            c_float(norm.momentum),
            c_float(norm.eps),
            c_int(norm.training),
            pointer(y),
            pointer(mean),
            pointer(invstd),
            c_int64(x.numel() // _ROW),
            c_int64(x.shape[1]),
            threads(),
        )
        ctx.save_for_backward(x, y, weight, mean, invstd)
        ctx.training, ctx.added = norm.training, residual is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kernels = library()
        assert kernels is not None
        x, y, weight, mean, invstd = ctx.saved_tensors
        above = gradients[0].to(y.dtype).contiguous(memory_format=torch.channels_last)
        of_x, of_residual = torch.empty_like(x), torch.empty_like(x) if ctx.added else None
        of_weight, of_bias = torch.empty_like(weight), torch.empty_like(weight)
        kernels.metasiam_backward(
            lowered(x),
            pointer(above),
            pointer(y),
            pointer(x),
            pointer(weight),
            pointer(mean),
            pointer(invstd),
            c_int(ctx.training),
            pointer(of_x),
            pointer(of_residual),
            pointer(of_weight),
            pointer(of_bias),
            c_int64(x.numel() // _ROW),
            c_int64(x.shape[1]),
            threads(),
        )
        return of_x, of_residual, of_weight, of_bias, None
