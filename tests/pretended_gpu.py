"""A pretended CUDA device: tensors that say they are on a GPU while the CPU computes them.

On a machine without a GPU it finds what would fail on one, operations between devices, and what would make the host
wait for it. It knows nothing of streams, graphs, kernels or bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from metasiam.learners import context, pair_model
from metasiam.training import machine

CUDA = torch.device("cuda:0")
aten = torch.ops.aten

#: What ends on the host, or has a size that only the device knows.
WAITS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.bincount.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}
COPIES = {aten._to_copy.default, aten.copy_.default, aten._foreach_copy_.default}
#: These move a scalar tensor from the host themselves; others take it as a number.
MOVE_SCALARS = {aten.where.self, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class OnDevice(Tensor):
    """A tensor whose numbers are in ``numbers``, on the CPU. Outside Python its device is ``meta``."""

    numbers: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, numbers: Tensor) -> OnDevice:
        layout = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset(), "dtype": numbers.dtype}
        with torch.inference_mode(False):
            made = torch.Tensor._make_wrapper_subclass(cls, numbers.size(), device="meta", **layout)
        made.numbers = numbers
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    def tolist(self) -> Any:
        waiting().append("tolist")
        return self.numbers.tolist()

    def numpy(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = self.detach().clone()
        kept = torch.nn.Parameter(copied) if isinstance(self, torch.nn.Parameter) else copied
        return memo.setdefault(id(self), kept.requires_grad_(self.requires_grad))

    def __reduce_ex__(self, protocol: Any) -> Any:  # saved as what load_checkpoint makes of a GPU's tensor
        return self.numbers.detach().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} outside of the pretended GPU")


class PretendedGpu(TorchDispatchMode):
    """While it is active, ``device="cuda:0"`` works.

    Attributes:
        waits: what made the host wait, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        asked = options.get("device")
        if OnDevice not in types and (asked is None or torch.device(asked).type == "cpu"):
            return func(*args, **options)
        flat = tree_flatten((args, options))[0]
        tensors = [value for value in flat if isinstance(value, Tensor)]
        there, here = [t for t in tensors if isinstance(t, OnDevice)], [t for t in tensors if type(t) is not OnDevice]
        result_there = bool(there) if asked is None else torch.device(asked).type != "cpu"
        self._judge(func, args, there, here, result_there)
        if asked is not None:
            options["device"] = torch.device("cpu")
        computed = func(*tree_map(_numbers, args), **tree_map(_numbers, options))
        first = func._schema.arguments[0] if func._schema.arguments else None
        if first is not None and first.alias_info is not None and first.alias_info.is_write:  # in place
            return args[0] if func._schema.returns else None
        return tree_map(_on_device, computed) if result_there else computed

    def _judge(self, func: Any, args: Any, there: list[Tensor], here: list[Tensor], result_there: bool) -> None:
        indices = [i for i in args[1] if i is not None] if func in INDEXING else []
        moved = func in MOVE_SCALARS and any(tensor.ndim == 0 for tensor in here)
        masked = any(index.dtype == torch.bool for index in indices)
        indexed = any(not isinstance(index, OnDevice) for index in indices)  # allowed, and copied
        copied = func in COPIES and (bool(there) != result_there or bool(there and here))
        if there and not indexed and func not in COPIES and any(tensor.ndim for tensor in here):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found cuda:0 and cpu")
        if func in WAITS or moved or masked or indexed or copied:
            self.waits.append(str(func))


def _numbers(value: Any) -> Any:
    return value.numbers if isinstance(value, OnDevice) else value


def _on_device(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, Tensor) else value


class _Generator(torch.Generator):
    """A generator of the CPU that says it is the device's."""

    def __new__(cls, device: torch.device | str = "cpu") -> _Generator:
        return super().__new__(cls, "cpu")

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._named = torch.device(device)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._named


_active: list[PretendedGpu] = []


def waiting() -> list[str]:
    """Return the list that the active pretended GPU notes in."""
    return _active[-1].waits


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    """Let ``device="cuda"`` mean the pretended GPU in the code under test; steps are not captured.

    torch warns that there is no CUDA to autocast on: the test must allow it.
    """
    if not hasattr(torch._C, "_only_lift_cpu_tensors"):
        pytest.skip("this torch has no switch that tensors made from numbers need to pretend")
    unpatched: Callable[..., Any] = torch._C._only_lift_cpu_tensors
    before, overwrite = unpatched(), torch.__future__.get_overwrite_module_params_on_conversion()
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "get_device_name", lambda *device: "pretended")
        patch.setattr(torch, "Generator", _Generator)
        for module in (context, pair_model):
            patch.setattr(module, "choose_device", lambda name: CUDA if name == "cuda" else torch.device(name))
            patch.setattr(module, "choose_precision", lambda precision, device: torch.float32)
        patch.setattr(machine.torch.cuda, "is_bf16_supported", lambda *_, **__: False)
        patch.setattr(context, "GraphedStep", lambda step, *example: step)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        torch._C._set_only_lift_cpu_tensors(True)
        gpu = PretendedGpu()
        _active.append(gpu)
        try:
            with gpu:
                yield gpu
        finally:
            _active.pop()
            torch._C._set_only_lift_cpu_tensors(before)
            torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
