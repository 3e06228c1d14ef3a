"""The training step: equal to plain PyTorch, the same compiled, and compiled only where that pays."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from metasiam.data.augment import Augmentation
from metasiam.data.domains import DomainSet
from metasiam.errors import MetaSiamError
from metasiam.kernels.build import library
from metasiam.losses import NormalisedSoftmax, TripletCosine
from metasiam.models import build_embedder
from metasiam.training import step as steps
from metasiam.training.optimizers import adam, set_rate, sgd
from metasiam.training.state import prime, snapshot
from metasiam.training.step import TrainingStep, decide_compile

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
CPU = torch.device("cpu")


@pytest.fixture
def batch(tiny_domains) -> tuple[DomainSet, torch.Tensor, torch.Tensor]:
    """Domains, the index of six triplets, and their augmentation parameters."""
    domains = tiny_domains(domains=4, images=8)
    generator = torch.Generator().manual_seed(5)
    index = torch.randint(len(domains.images), (3, 6), generator=generator)
    return domains, index, Augmentation().draw((3, 6), generator)


def make(domains: DomainSet, *, objective: nn.Module | None = None, **options: object) -> TrainingStep:
    torch.manual_seed(0)
    embedder = build_embedder("resnet8", image_size=domains.image_size).to(memory_format=torch.channels_last).train()
    objective = objective or TripletCosine()
    optimizer = adam([*embedder.parameters(), *objective.parameters()], 0.01, (0.9, 0.999), CPU)
    prime(optimizer)
    return TrainingStep(embedder, objective, optimizer, domains, Augmentation(), MEAN, STD, **options)


def test_steps_equal_plain_pytorch_with_adam(batch):
    domains, index, parameters = batch
    objective = NormalisedSoftmax(torch.arange(4), 64, generator=torch.Generator().manual_seed(1))
    naive_objective = copy.deepcopy(objective)
    step = make(domains, objective=objective)
    naive = copy.deepcopy(step.embedder).to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam([*naive.parameters(), *naive_objective.parameters()], lr=0.01)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    for _ in range(3):
        pictures = domains.images[index.flatten()].float() / 255
        mirrored = parameters.flatten(0, 1)[:, 0].bool().view(-1, 1, 1, 1)
        inputs = (torch.where(mirrored, pictures.flip(-1), pictures) - mean) / std
        loss = naive_objective(naive(inputs), domains.labels[index.flatten()])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert float(step(index, parameters)) == pytest.approx(float(loss.detach()), rel=1e-3)
    ours = [*step.embedder.parameters(), *objective.parameters()]
    theirs = [*naive.parameters(), *naive_objective.parameters()]
    # Adam divides by the gradient's size: where that is rounding noise, signs may differ.
    apart = torch.cat([(a - b).detach().abs().flatten() for a, b in zip(ours, theirs, strict=True)])
    assert float(apart.median()) < 1e-5
    assert float((apart > 1e-3).float().mean()) < 0.01


def test_a_step_returns_a_detached_loss_and_leaves_no_gradients(batch):
    domains, index, parameters = batch
    step = make(domains)
    assert not step(index, parameters).requires_grad
    assert all(parameter.grad is None for parameter in step.embedder.parameters())


def test_bf16_lowers_the_embedding_and_keeps_weights_loss_and_gradients_fp32(batch):
    domains, index, parameters = batch
    exact, lowered = make(domains), make(domains, precision=torch.bfloat16)
    loss = lowered(index, parameters)
    assert loss.dtype == torch.float32
    assert {p.dtype for p in lowered.embedder.parameters()} == {torch.float32}
    assert float(loss) == pytest.approx(float(exact(index, parameters)), abs=0.05)


def test_state_tensors_are_all_that_a_step_changes(batch):
    domains, index, parameters = batch
    step = make(domains, objective=NormalisedSoftmax(torch.arange(4), 64, generator=torch.Generator().manual_seed(1)))
    before = snapshot(step.state_tensors())
    first = float(step(index, parameters))
    changed = [not torch.equal(a, b) for a, b in zip(before, step.state_tensors(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)
    for tensor, saved in zip(step.state_tensors(), before, strict=True):
        tensor.detach().copy_(saved)
    assert float(step(index, parameters)) == first


@pytest.mark.skipif(library() is None, reason="needs Linux and a C++ compiler")
def test_a_compiled_step_of_a_resnet_runs_on_the_kernels_and_computes_what_the_eager_one_does(batch):
    domains, index, parameters = batch
    eager, compiled = make(domains), make(domains, compiled=True)
    assert compiled.embedder.fused
    assert not eager.embedder.fused
    for _ in range(2):
        torch.testing.assert_close(compiled(index, parameters), eager(index, parameters), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_step_without_the_kernels_computes_what_the_eager_one_does(batch, monkeypatch):
    domains, index, parameters = batch
    monkeypatch.setattr(steps, "use_kernels", lambda embedder: False)
    eager, compiled = make(domains), make(domains, compiled=True)
    for _ in range(2):
        torch.testing.assert_close(compiled(index, parameters), eager(index, parameters), rtol=1e-3, atol=1e-4)


def test_off_and_on_are_obeyed(batch, monkeypatch):
    domains, index, parameters = batch
    step = make(domains)
    monkeypatch.setattr(steps.shutil, "which", lambda name: "/usr/bin/" + name)
    assert not decide_compile("off", step, index, parameters, 10**9).compiled
    assert decide_compile("on", step, index, parameters, 1).compiled


def test_auto_compiles_long_runs_and_not_short_ones_and_leaves_no_trace(batch, monkeypatch):
    domains, index, parameters = batch
    step = make(domains)
    monkeypatch.setattr(steps.shutil, "which", lambda name: "/usr/bin/" + name)
    before = snapshot(step.state_tensors())
    assert not decide_compile("auto", step, index, parameters, 1).compiled
    long = decide_compile("auto", step, index, parameters, 10**9)
    assert long.compiled
    assert "compiling takes about" in long.reason
    for now, then in zip(step.state_tensors(), before, strict=True):
        assert torch.equal(now, then)


def test_without_a_compiler_auto_does_without_and_on_says_what_is_missing(batch, monkeypatch):
    domains, index, parameters = batch
    step = make(domains)
    monkeypatch.setattr(steps.shutil, "which", lambda name: None)
    assert not decide_compile("auto", step, index, parameters, 10**9).compiled
    with pytest.raises(MetaSiamError, match=r"C\+\+ compiler"):
        decide_compile("on", step, index, parameters, 10**9)


def test_on_a_gpu_compiling_needs_triton_and_a_c_compiler(batch, monkeypatch):
    _, index, parameters = batch
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.delenv("CC", raising=False)
    for what, found, compiler in (("Triton", None, "gcc"), (r"a C compiler \(gcc or clang\)", "triton", None)):
        monkeypatch.setattr(steps.importlib.util, "find_spec", lambda name, found=found: found)
        monkeypatch.setattr(steps.shutil, "which", lambda name, compiler=compiler: compiler)
        assert not decide_compile("auto", on_gpu, index, parameters, 10**9).compiled
        with pytest.raises(MetaSiamError, match=f"--compile on needs {what}"):
            decide_compile("on", on_gpu, index, parameters, 1)
    monkeypatch.setenv("CC", "icc")
    assert decide_compile("on", on_gpu, index, parameters, 1).compiled


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_our_adam_equals_torchs(weight_decay):
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 9)) for _ in range(2))
    fast = adam([ours], 0.1, (0.8, 0.99), CPU, weight_decay)
    plain = torch.optim.AdamW([theirs], lr=0.1, betas=(0.8, 0.99), weight_decay=weight_decay)
    follow(fast, plain, ours, theirs)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_our_sgd_equals_torchs(momentum, nesterov):
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 9)) for _ in range(2))
    fast = sgd([ours], 0.1, momentum, CPU, nesterov=nesterov, weight_decay=0.01)
    plain = torch.optim.SGD([theirs], lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=0.01)
    follow(fast, plain, ours, theirs)


def follow(fast: torch.optim.Optimizer, plain: torch.optim.Optimizer, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Three steps, at two rates, from a primed state."""
    prime(fast)
    for rate in (0.1, 0.1, 0.03):
        set_rate(fast, rate)
        plain.param_groups[0]["lr"] = rate
        for parameter, optimizer in ((ours, fast), (theirs, plain)):
            optimizer.zero_grad()
            (parameter**3).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_compiling_for_a_gpu_times_kernels_in_silence():
    asked = steps._compile_options("cuda")
    assert asked is not None
    assert asked["max_autotune"] is True  # no name was left out, here where PyTorch knows them all
    assert asked == steps._GPU_OPTIONS
    assert steps._compile_options("cpu") is None
    torch.testing.assert_close(torch.compile(torch.neg, options=asked)(torch.ones(2)), -torch.ones(2))


def test_whether_to_compile_on_a_gpu_knows_what_it_costs_there(batch, monkeypatch):
    _, index, parameters = batch
    step: Any = SimpleNamespace(
        device=torch.device("cuda"), embedder=build_embedder("resnet20", image_size=(8, 8)), state_tensors=list
    )
    monkeypatch.setattr(steps, "missing_for_compiling", lambda device: None)
    monkeypatch.setattr(steps, "_time_step", lambda *_: 0.004)  # an H200's, as a graph
    short, long = (decide_compile("auto", step, index, parameters, count) for count in (3_000, 300_000))
    assert not short.compiled
    assert "about 49 s" in short.reason
    assert long.compiled
