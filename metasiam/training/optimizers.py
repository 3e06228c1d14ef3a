"""The optimizers of the training step in their fastest form for a device, ready for a CUDA graph.

A captured graph keeps a learning rate that is a number, and follows one that is a tensor: on GPUs it is one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def adam(
    weights: list[Tensor], lr: float, betas: tuple[float, float], device: torch.device, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Return Adam (decoupled weight decay, which is plain Adam without any)."""
    cuda = device.type == "cuda"
    return torch.optim.AdamW(
        weights,
        lr=torch.tensor(lr, device=device) if cuda else lr,
        betas=betas,
        weight_decay=weight_decay,
        fused=device.type in ("cpu", "cuda"),
        capturable=cuda,
    )


def sgd(
    weights: list[Tensor],
    lr: float,
    momentum: float,
    device: torch.device,
    *,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Return SGD with momentum."""
    return torch.optim.SGD(
        weights,
        lr=torch.tensor(lr, device=device) if device.type == "cuda" else lr,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate, in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
