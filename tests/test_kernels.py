"""The training step's own CPU kernels compute what plain PyTorch does."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metasiam.data.augment import Augmentation, _normalised
from metasiam.kernels import build, norm
from metasiam.kernels.norm import norm_relu, use_kernels
from metasiam.kernels.pictures import moved
from metasiam.models import build_embedder

pytestmark = pytest.mark.skipif(build.library() is None, reason="needs Linux and a C++ compiler")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def activations(channels: int, seed: int, dtype: torch.dtype) -> Tensor:
    drawn = torch.randn(6, channels, 5, 8, generator=generator(seed)) * 3 + 20 * (seed == 0)
    return drawn.to(dtype).contiguous(memory_format=torch.channels_last)


def norm_of(channels: int, training: bool) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels).train(training)
    with torch.no_grad():
        for tensor, low in ((made.weight, -1), (made.bias, -1), (made.running_mean, 0), (made.running_var, 1)):
            tensor.copy_(torch.rand(channels, generator=generator(channels)) * 2 + low)
    return made


@pytest.mark.parametrize("channels", [16, 32, 64])
@pytest.mark.parametrize("added", [True, False], ids=["sum", "no sum"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "frozen"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_relu_equals_double_precision_pytorch(channels, added, training, dtype):
    x, extra = activations(channels, 0, dtype), activations(channels, 1, dtype) if added else None
    above = torch.randn(6, channels, 5, 8, generator=generator(2)).to(dtype)
    ours = norm_of(channels, training)
    exact = copy.deepcopy(ours).double()
    found = [tensor.clone().requires_grad_() for tensor in (x, extra) if tensor is not None]
    expected = [tensor.double().requires_grad_() for tensor in (x, extra) if tensor is not None]
    y = norm_relu(ours, *found, fused=True)
    y.backward(above)
    out = F.relu(exact(expected[0]) + (expected[1] if added else 0))
    out.backward(above.double())
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 3e-2}
    assert y.dtype == dtype
    assert type(y.grad_fn).__name__ == "_NormReluBackward"
    torch.testing.assert_close(y.double(), out, **tolerance)
    for ours_, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_.grad.double(), theirs.grad, **tolerance)
    for ours_, theirs in zip(ours.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(ours_.grad.double(), theirs.grad, **tolerance)
    for ours_, theirs in zip(ours.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(ours_.double(), theirs.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same_statistics(threads, monkeypatch):
    monkeypatch.setattr(norm, "threads", lambda: threads)
    ours, plain = norm_of(32, True), norm_of(32, True)
    x = activations(32, 0, torch.float32)
    torch.testing.assert_close(norm_relu(ours, x, fused=True), F.relu(plain(x)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.running_var, plain.running_var)


def test_what_is_not_a_number_stays_so():
    x = activations(16, 0, torch.bfloat16)
    x[0, 3, 0, 0] = float("nan")
    y = norm_relu(norm_of(16, True), x, fused=True)
    assert torch.isnan(y[:, 3]).all()
    assert not torch.isnan(y[:, 4]).any()


@pytest.mark.parametrize(
    "x",
    [torch.randn(2, 24, 4, 4), torch.randn(2, 16, 4, 4), torch.randn(1, 16, 1, 3), torch.randn(2, 16, 4, 4).double()],
    ids=["24 channels", "not channels last", "a part of a row", "double"],
)
def test_what_does_not_fit_the_kernels_is_computed_plainly(x):
    ours = nn.BatchNorm2d(x.shape[1]).to(x.dtype)
    assert torch.equal(norm_relu(ours, x, fused=True), F.relu(copy.deepcopy(ours)(x)))


def test_a_resnet_on_kernels_has_the_gradients_of_the_plain_one():
    torch.manual_seed(0)
    plain = build_embedder("resnet14").to(memory_format=torch.channels_last).train()
    fused = copy.deepcopy(plain)
    assert use_kernels(fused)
    images = torch.randn(8, 3, 32, 32, generator=generator()).contiguous(memory_format=torch.channels_last)
    for embedder in (plain, fused):
        embedder(images).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), fused.parameters(), strict=True):
        assert float((a.grad - b.grad).norm() / a.grad.norm()) < 1e-3, name
    for a, b in zip(plain.buffers(), fused.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(flip=False), Augmentation(), Augmentation(shift=3), Augmentation(flip=False, shift=9, reflect=True)],
    ids=["nothing", "flip", "flip and shift", "reflected far"],
)
def test_pictures_have_the_same_bits_as_plain_pytorchs(augmentation, channels, dtype, monkeypatch):
    images = torch.randint(0, 256, (20, channels, 7, 9), dtype=torch.uint8, generator=generator(9))
    parameters = augmentation.draw((20,), generator())
    mean, std = (0.5, 0.4, 0.3)[:channels], (0.2, 0.25, 0.3)[:channels]
    found = augmentation.apply(images, parameters, mean, std, dtype)
    monkeypatch.setattr("metasiam.data.augment.can_move", lambda *_: False)
    expected = augmentation.apply(images, parameters, mean, std, dtype)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, expected)
    values = torch.arange(256).float().expand(1, channels, 1, 256)
    table = _normalised(values, mean, std).to(dtype).view(channels, 256)
    options = {"shifted": augmentation.shift > 0, "reflect": augmentation.reflect}
    assert torch.equal(moved(images, parameters, table, **options), expected)  # and it was the kernel that ran


def test_a_compiler_that_fails_is_done_without(monkeypatch):
    monkeypatch.setattr(build, "compiler", lambda: "/bin/false")
    assert build.library.__wrapped__() is None


def test_embedders_without_such_parts_do_not_use_the_kernels():
    assert not use_kernels(build_embedder("conv4", image_size=(32, 32)))
    monochrome = build_embedder("resnet8", channels=1)
    assert use_kernels(monochrome)
    assert monochrome.layer3[0].fused
