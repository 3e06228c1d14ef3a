"""BatchNorm's running statistics, measured on a set of images: of all of them together, however they are divided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: Images are given all at once where the widest input of a layer takes no more than so many bytes.
_MOST_BYTES = 1 << 30
_BLOCK = 512
#: Number of values a channel, their means and their variances (divided by that number).
_Moments = tuple[int, Tensor, Tensor]


class _Enough(Exception):
    """Ends a forward pass early."""


@torch.no_grad()
def set_running_statistics(
    embedder: nn.Module, count: int, images: Callable[[slice], Tensor], *, most_bytes: int = _MOST_BYTES
) -> None:
    """Set running means and variances to those of all values that a layer is given when all images are one batch.

    As one batch they are given where that fits into memory. Where it does not, one layer is measured after the other,
    over all images in blocks, with the layers before it as they were just set. Both are the same but for rounding: no
    image counts more than another in any layer, and the size of blocks means nothing.

    Args:
        embedder: left in the mode it was in.
        count: number of images, two or more.
        images: returns some of them, normalised: float [B, C, H, W], on the embedder's device.
        most_bytes: what the widest input of a layer may take.
    """
    norms = [part for part in embedder.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    with _measured(embedder, norms):
        example = images(slice(0, 2))
        inputs = _in_order(embedder, norms, example)
        if 4 * count * max(example[0].numel(), *inputs.values()) <= most_bytes:
            counts = _measure_all(embedder, list(inputs), images(slice(0, count)))
        else:
            counts = {}
            for norm, behind in zip_longest(inputs, list(inputs)[1:]):
                blocks = (images(slice(start, min(start + _BLOCK, count))) for start in range(0, count, _BLOCK))
                counts[norm] = _measure_one(embedder, norm, behind, blocks)
        for norm, values in counts.items():  # PyTorch keeps what is divided by one less, and normalises by the other
            assert norm.running_var is not None
            norm.running_var *= values / max(values - 1, 1)


@contextmanager
def _measured(embedder: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    """Evaluate, with statistics of nothing at first, without our own kernels, which call no hooks."""
    momenta, was_training = {norm: norm.momentum for norm in norms}, embedder.training
    embedder.eval()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        yield
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        embedder.train(was_training)


def _in_order(embedder: nn.Module, norms: list[_BatchNorm], images: Tensor) -> dict[_BatchNorm, int]:
    """Return the layers in the order in which they are called, with the number of values of an image given to each."""
    found: dict[_BatchNorm, int] = {}

    def note(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        found.setdefault(norm, inputs[0].numel() // len(images))

    with _hooked(norms, note):
        embedder(images)
    return found


@contextmanager
def _hooked(norms: Iterable[_BatchNorm], note: Callable[[nn.Module, tuple[Any, ...]], None]) -> Iterator[None]:
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _measure_all(embedder: nn.Module, norms: list[_BatchNorm], batch: Tensor) -> dict[_BatchNorm, int]:
    """Measure all layers on one batch; returns how many values a channel each was given."""
    seen: dict[_BatchNorm, list[_Moments]] = {norm: [] for norm in norms}

    def note(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        seen[norm].append(_moments(inputs[0]))

    for norm in norms:
        norm.train()
    with _hooked(norms, note):
        embedder(batch)
    return {norm: _set(norm, parts) for norm, parts in seen.items()}


def _measure_one(embedder: nn.Module, norm: _BatchNorm, behind: _BatchNorm | None, blocks: Iterable[Tensor]) -> int:
    """Measure one layer; returns how many values a channel it was given."""
    parts: list[_Moments] = []

    def note(called: nn.Module, inputs: tuple[Any, ...]) -> None:
        if called is behind:
            raise _Enough
        parts.append(_moments(inputs[0]))

    with _hooked([norm] if behind is None else [norm, behind], note):
        for block in blocks:
            with suppress(_Enough):
                embedder(block)
    return _set(norm, parts)


def _moments(given: Tensor) -> _Moments:
    every = [dimension for dimension in range(given.ndim) if dimension != 1]
    variance, mean = torch.var_mean(given.detach().float(), dim=every, correction=0)
    return given.numel() // given.shape[1], mean, variance


def _set(norm: _BatchNorm, parts: list[_Moments]) -> int:
    """Set mean and variance (divided by the number of values, which is returned) to those of all parts together."""
    count = torch.tensor([n for n, _, _ in parts], dtype=torch.float64).unsqueeze(1)
    mean = torch.stack([mean for _, mean, _ in parts]).cpu().double()
    variance = torch.stack([variance for _, _, variance in parts]).cpu().double()
    middle = (count * mean).sum(0) / count.sum()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(middle)
    norm.running_var.copy_((count * (variance + (mean - middle).square())).sum(0) / count.sum())
    return int(count.sum())
