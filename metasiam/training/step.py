"""The training step: from index tensors to one update of the weights, without a host synchronisation."""

from __future__ import annotations

import gc
import importlib.util
import inspect
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from metasiam.data.augment import Augmentation
from metasiam.data.domains import DomainSet
from metasiam.errors import MetaSiamError
from metasiam.garbage import uncollected
from metasiam.kernels.norm import has_kernels, use_kernels
from metasiam.models.convolutions import make_column_safe
from metasiam.training.state import counters, optimizer_tensors, restore_, running_statistics, snapshot, trainable


class Step(Protocol):
    """One gradient step on one batch of triplets."""

    def __call__(self, index: Tensor, parameters: Tensor) -> Tensor:
        """Take int64 [3, B] images and their augmentation parameters; return the loss, a detached scalar."""
        ...

    def state_tensors(self) -> list[Tensor]:
        """Return everything that a call changes."""
        ...

    @property
    def embedder(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the step runs."""
        ...


#: PyTorch renamed it in 2.14.
_BUFFERS_OPTION = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"
)


#: On a GPU kernels are chosen by timing them: for few channels Inductor's convolutions are faster than cuDNN's.
#: The other options keep that choice from being told to people.
_GPU_OPTIONS = {"max_autotune": True, "autotune_num_choices_displayed": 0, "max_autotune_report_choices_stats": False}


def _compile_options(device_type: str) -> dict[str, Any] | None:
    """Return what Inductor is told about a device; names that this PyTorch does not know are left out."""
    if device_type != "cuda":
        return None
    import torch._inductor

    known = set(torch._inductor.list_options())
    return {name: value for name, value in _GPU_OPTIONS.items() if name in known}


class _Loss(nn.Module):
    """From uint8 images and augmentation parameters to the loss: what DistributedDataParallel wraps."""

    def __init__(
        self,
        embedder: nn.Module,
        objective: nn.Module,
        augmentation: Augmentation,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        precision: torch.dtype,
        compiled: bool,
        device_type: str,
    ) -> None:
        super().__init__()
        self.embedder = embedder
        self.objective = objective
        self.augmentation = augmentation
        self.mean = mean
        self.std = std
        self.precision = precision
        self._embed = self._augment_and_embed
        if compiled and augmentation.own is None and not (device_type == "cpu" and use_kernels(embedder)):
            options = _compile_options(device_type)
            self._embed = torch.compile(self._augment_and_embed, dynamic=False, options=options)

    def _augment_and_embed(self, images: Tensor, parameters: Tensor) -> Tensor:
        inputs = self.augmentation.apply(images, parameters, self.mean, self.std, self.precision)
        # No weight is used twice, and a cached cast must not outlive a captured graph: hence no cache.
        lowered = self.precision != torch.float32
        with torch.autocast(images.device.type, dtype=self.precision, enabled=lowered, cache_enabled=False):
            embeddings: Tensor = self.embedder(inputs)
        return embeddings.float()

    def forward(self, images: Tensor, parameters: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of uint8 [3B, C, H, W] images."""
        loss: Tensor = self.objective(self._embed(images, parameters), labels)
        return loss


class TrainingStep:
    """Gather, augment, one stacked forward pass of 3B images, backward, optimizer.

    Embeddings are computed under autocast in ``precision``; the loss, the weights and the optimizer stay fp32.

    Args:
        embedder: trained in place; its train/eval mode is the caller's choice.
        objective: called as ``objective(embeddings [3B, D] fp32, labels [3B])``.
        optimizer: updates the parameters of both.
        domains: images and labels, on the device where the step runs.
        augmentation: turns uint8 images and drawn parameters into normalised input.
        mean: per channel, as fractions of 255.
        std: per channel, as fractions of 255.
        precision: autocast type; float32 means no autocast.
        compiled: on a CPU, run the embedders that have them on our own kernels (``metasiam.kernels``); build
            everything else, augmentation and embedder, with torch.compile (static shapes).
        average_gradients: average them over all processes, while the backward pass runs.
    """

    def __init__(
        self,
        embedder: nn.Module,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        domains: DomainSet,
        augmentation: Augmentation,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        precision: torch.dtype = torch.float32,
        compiled: bool = False,
        average_gradients: bool = False,
    ) -> None:
        self.embedder = make_column_safe(embedder)  # one that was not built here, too
        self.objective = objective
        self.optimizer = optimizer
        self.domains = domains
        loss: nn.Module = _Loss(embedder, objective, augmentation, mean, std, precision, compiled, self.device.type)
        self.compiled = compiled
        if average_gradients:
            # Running statistics stay each process's own; sending them around every step would buy nothing.
            options: dict[str, Any] = {_BUFFERS_OPTION: False}
            loss = DistributedDataParallel(loss, **options)
        self._loss = loss

    @property
    def device(self) -> torch.device:
        """Where the step runs."""
        return self.domains.device

    def __call__(self, index: Tensor, parameters: Tensor) -> Tensor:
        """Take int64 [3, B] images and [3, B, P] augmentation parameters; return the loss, a detached scalar."""
        flat = index.reshape(-1)
        loss: Tensor = self._loss(self.domains.gather(flat), parameters.flatten(0, 1), self.domains.labels[flat])
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def state_tensors(self) -> list[Tensor]:
        """Return everything that a call changes: weights, running statistics, batch counts, optimizer state."""
        modules = (self.embedder, self.objective)
        return [
            *trainable(modules),
            *running_statistics(modules),
            *counters(modules),
            *optimizer_tensors(self.optimizer),
        ]


@contextmanager
def _timed_convolutions(wanted: bool) -> Iterator[None]:
    """Let cuDNN choose convolutions by timing them, where ``wanted``; a graph keeps the choice."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class GraphedStep:
    """A ``TrainingStep`` captured as a CUDA graph: one launch a step, no Python between kernels.

    The optimizer's state must exist, on the device (``capturable=True``), and its learning rate be a tensor if it is
    to change. Warm-up and capture leave no trace in what is trained.

    Args:
        step: the step to capture, on a CUDA device.
        index: an example of the call's first argument.
        parameters: an example of its second.

    Raises:
        RuntimeError: if CUDA cannot capture it; the step is as it was before.
    """

    def __init__(self, step: TrainingStep, index: Tensor, parameters: Tensor) -> None:
        self._step = step
        self._index = index.clone()
        self._parameters = parameters.clone()
        saved = snapshot(step.state_tensors())
        current = torch.cuda.current_stream()
        # Compiling, cuDNN's choice of algorithms and the allocator's first blocks belong before the capture, on a
        # stream of their own, as PyTorch's notes on graphs ask. The last step leaves no gradients behind, so that
        # the capture allocates them in the graph's own pool.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call,unused-ignore]
        side.wait_stream(current)
        with torch.cuda.stream(side), _timed_convolutions(step.compiled):
            for _ in range(3):
                step(self._index, self._parameters)
        current.wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        try:
            gc.collect()  # now and not in between: an older graph that is destroyed breaks a capture
            with uncollected(), _timed_convolutions(step.compiled), torch.cuda.graph(self._graph, stream=side):
                self._loss = step(self._index, self._parameters)
        finally:
            torch.cuda.set_stream(current)  # a capture that fails stays on its own
            step.optimizer.zero_grad(set_to_none=True)
            restore_([tensor.detach() for tensor in step.state_tensors()], saved)

    @property
    def embedder(self) -> nn.Module:
        """What is trained."""
        return self._step.embedder

    @property
    def device(self) -> torch.device:
        """Where the step runs."""
        return self._step.device

    def state_tensors(self) -> list[Tensor]:
        """Return everything that a call changes."""
        return self._step.state_tensors()

    def __call__(self, index: Tensor, parameters: Tensor) -> Tensor:
        """Replay the graph on int64 [3, B] images and [3, B, P] parameters; return the loss, a detached scalar."""
        self._index.copy_(index)
        self._parameters.copy_(parameters)
        self._graph.replay()
        return self._loss.clone()


@dataclass(frozen=True)
class CompileDecision:
    """Whether the step is compiled, and why, in words for people."""

    compiled: bool
    reason: str


#: Measured on two CPU cores and on an H200 (``benchmarks.gpu_step``), rounded against compiling: seconds that compiling
#: takes, in all and for each convolution, and the part of a step without it that it saves.
COMPILE_SECONDS = {"cpu": 0.0, "cuda": 30.0}
COMPILE_SECONDS_PER_CONVOLUTION = {"cpu": 2.0, "cuda": 1.0}
COMPILE_SAVES = 0.25
#: The same for our own kernels.
KERNEL_SECONDS = 3.0
KERNELS_SAVE = 0.15


def decide_compile(mode: str, step: Step, index: Tensor, parameters: Tensor, steps: int) -> CompileDecision:
    """Decide whether compiling pays back within ``steps`` steps; times a few eager steps and undoes them.

    Args:
        mode: ``on``, ``off`` or ``auto``.
        step: the step without compiling.
        index: int64 [3, B], a batch to time.
        parameters: its augmentation parameters.
        steps: steps still to be made.

    Raises:
        MetaSiamError: for ``on`` where something that it needs is not installed.
    """
    if mode == "off":
        return CompileDecision(False, "--compile off")
    device = step.device
    missing = missing_for_compiling(device)
    if missing is not None:
        if mode == "on":
            raise MetaSiamError(f"--compile on needs {missing}. Install it, or use --compile auto.")
        return CompileDecision(False, f"it needs {missing}")
    if mode == "on":
        return CompileDecision(True, "--compile on")
    if device.type == "mps":
        return CompileDecision(False, "not on mps")
    saved = snapshot(step.state_tensors())
    seconds = min(_time_step(step, index, parameters) for _ in range(3))
    restore_([tensor.detach() for tensor in step.state_tensors()], saved)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in step.embedder.modules())
    kernels = device.type == "cpu" and has_kernels(step.embedder)
    cost = COMPILE_SECONDS[device.type] + COMPILE_SECONDS_PER_CONVOLUTION[device.type] * convolutions
    cost = KERNEL_SECONDS if kernels else cost
    gain = (KERNELS_SAVE if kernels else COMPILE_SAVES) * seconds * steps
    compared = f"compiling takes about {cost:.0f} s and would save about {gain:.0f} s of {seconds * steps:.0f} s"
    return CompileDecision(gain > 1.5 * cost, compared)


def missing_for_compiling(device: torch.device) -> str | None:
    """Return what torch.compile needs on a device and does not find here; None where nothing is missing."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "Triton"
    compilers = {"cpu": ("C++", "g++", "clang++"), "cuda": ("C", "gcc", "clang")}  # Triton compiles its launchers
    if device.type not in compilers:
        return None
    language, *programs = compilers[device.type]
    if any(shutil.which(program) for program in programs) or (device.type == "cuda" and "CC" in os.environ):
        return None
    return f"a {language} compiler ({' or '.join(programs)})"


def _time_step(step: Step, index: Tensor, parameters: Tensor) -> float:
    start = time.perf_counter()
    float(step(index, parameters))  # waits for the device
    return time.perf_counter() - start
