"""Snapshots and interpolation of everything that training changes: weights, buffers, optimizer state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def trainable(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Return the parameters of the modules, in order."""
    return [parameter for module in modules for parameter in module.parameters()]


def running_statistics(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Return the floating-point buffers of the modules (BatchNorm's running statistics), in order."""
    return [buffer for module in modules for buffer in module.buffers() if buffer.is_floating_point()]


def counters(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Return the integer buffers of the modules (BatchNorm's batch counts), in order."""
    return [buffer for module in modules for buffer in module.buffers() if not buffer.is_floating_point()]


def prime(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Create the optimizer's state without changing a parameter, zero it, and return its tensors.

    PyTorch's optimizers make their state at the first step; Reptile carries that state from task to task and
    therefore needs it from the start. A step with zero gradients and zero rates makes it.
    """
    rates = [(group["lr"], group.get("weight_decay", 0)) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
        group["weight_decay"] = 0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for group, (rate, decay) in zip(optimizer.param_groups, rates, strict=True):
        group["lr"], group["weight_decay"] = rate, decay
    optimizer.zero_grad(set_to_none=True)
    tensors = optimizer_tensors(optimizer)
    zero_(tensors)
    return tensors


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the tensors of an optimizer's state, in the order of its parameters."""
    return [
        value
        for group in optimizer.param_groups
        for parameter in group["params"]
        for value in optimizer.state[parameter].values()
        if isinstance(value, Tensor)
    ]


@torch.no_grad()
def zero_(tensors: Sequence[Tensor]) -> None:
    """Set every tensor to zero, in place."""
    for tensor in tensors:
        tensor.zero_()


@torch.no_grad()
def snapshot(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return detached copies."""
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def restore_(tensors: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    """Copy ``saved`` into ``tensors``, in place."""
    if tensors:
        torch._foreach_copy_(list(tensors), list(saved))


def take_up_(tensors: Sequence[Tensor], saved: object) -> None:
    """Copy what a file holds into ``tensors``, in place.

    Raises:
        ValueError: if it is not a list of as many tensors of the same shapes and kinds.
    """
    check_fits(tensors, saved)
    restore_(tensors, saved)  # type: ignore[arg-type]


def check_fits(tensors: Sequence[Tensor], saved: object) -> None:
    """Raise unless ``saved`` is a list of tensors of the same shapes and kinds.

    Raises:
        ValueError: saying what differs.
    """
    if not isinstance(saved, list | tuple) or len(saved) != len(tensors):
        raise ValueError(f"it does not hold the {len(tensors)} of this run, but other things")
    for own, other in zip(tensors, saved, strict=True):
        if not isinstance(other, Tensor) or (other.shape, other.dtype) != (own.shape, own.dtype):
            raise ValueError(f"a tensor of {list(own.shape)} is needed, and it holds another thing")


@torch.no_grad()
def add_difference_(total: Sequence[Tensor], end: Sequence[Tensor], start: Sequence[Tensor]) -> None:
    """Add ``end − start`` to ``total``, in place."""
    if total:
        change = torch._foreach_sub([tensor.detach() for tensor in end], list(start))
        torch._foreach_add_(list(total), change)


@torch.no_grad()
def move_(tensors: Sequence[Tensor], change: Sequence[Tensor], step: float) -> None:
    """Interpolate: ``w ← w + step · change``, in place."""
    if tensors:
        torch._foreach_add_(list(tensors), list(change), alpha=step)


def plain_values(module: nn.Module) -> dict[str, int | float | bool]:
    """Return the numbers that a module and its parts keep as plain attributes, as counters of calls are, by name."""
    return {
        f"{name}.{attribute}": value
        for name, part in module.named_modules()
        for attribute, value in vars(part).items()
        if type(value) in (int, float, bool) and attribute != "training" and not attribute.startswith("_")
    }


def set_plain_values(module: nn.Module, saved: object) -> None:
    """Set attributes to what ``plain_values`` returned; what the module does not have is left out.

    Raises:
        ValueError: if it is no dict of numbers.
    """
    if not isinstance(saved, dict):
        raise ValueError("numbers by name are needed, and it holds another thing")
    parts = dict(module.named_modules())
    for key, own in plain_values(module).items():
        if key in saved:
            if type(saved[key]) is not type(own):
                raise ValueError(f"{key} is {type(own).__name__}, and it holds another thing")
            name, _, attribute = key.rpartition(".")
            setattr(parts[name], attribute, saved[key])
