"""BatchNorm's running statistics, measured on a set of images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def set_running_statistics(embedder: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set every running mean and variance to those of all values that its layer is given; every image counts alike.

    The layers before it normalise each batch by itself, as in training: batches should be large, and none have a
    single image.

    Args:
        embedder: left in the mode it was in.
        batches: normalised images, float [B, C, H, W], on its device.
    """
    norms = [part for part in embedder.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    seen: dict[_BatchNorm, list[tuple[int, Tensor, Tensor]]] = {norm: [] for norm in norms}

    def note(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        values = inputs[0].detach().float().transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(values, dim=1, correction=0)
        seen[norm].append((values.shape[1], mean, variance))

    # Without a momentum our own kernels, which call no hooks, leave the layers to PyTorch.
    momenta = {norm: norm.momentum for norm in norms}
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    was_training = embedder.training
    embedder.train()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for batch in batches:
            embedder(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        embedder.train(was_training)
    for norm, parts in seen.items():
        if parts:
            _set_from(norm, parts)


def _set_from(norm: _BatchNorm, parts: list[tuple[int, Tensor, Tensor]]) -> None:
    """Pool batches' numbers of values, means and variances (of the batches themselves, not unbiased)."""
    count = torch.tensor([n for n, _, _ in parts], dtype=torch.float64).unsqueeze(1)
    mean = torch.stack([mean for _, mean, _ in parts]).cpu().double()
    variance = torch.stack([variance for _, _, variance in parts]).cpu().double()
    total = count.sum()
    middle = (count * mean).sum(0) / total
    spread = (count * (variance + (mean - middle).square())).sum(0) / (total - 1).clamp(min=1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(middle)
    norm.running_var.copy_(spread)
