"""Convolution gradients in bfloat16: right for images of any width."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from metasiam.models import build_embedder
from metasiam.models.convolutions import make_column_safe


def leave_nan_behind() -> None:
    """Fill memory that the allocator hands out next with NaN: what is not written is then seen."""
    for size in (10**3, 10**4, 10**5, 10**6):
        torch.full((size,), float("nan"))


@pytest.mark.parametrize("height", [1, 4])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (7, 3)])
def test_gradients_of_columns_are_those_of_double_precision(height, kernel, padding):
    generator = torch.Generator().manual_seed(0)
    layer = make_column_safe(nn.Conv2d(16, 32, kernel, stride=2, padding=padding)).to(memory_format=torch.channels_last)
    exact = copy.deepcopy(layer).double()
    images = torch.randn(32, 16, height, 1, generator=generator)
    above = torch.randn(exact(images.double()).shape, generator=generator)
    exact(images.double()).backward(above.double())
    leave_nan_behind()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(images).float().backward(above)
    for ours, theirs in zip(layer.parameters(), exact.parameters(), strict=True):
        assert float((ours.grad - theirs.grad).norm() / theirs.grad.norm()) < 0.02


def test_resnet18_has_the_same_gradients_every_time_on_small_images_in_bf16():
    torch.manual_seed(0)
    embedder = build_embedder("resnet18", image_size=(16, 16)).to(memory_format=torch.channels_last).train()
    images = torch.randn(8, 3, 16, 16)
    found = []
    for _ in range(4):
        embedder.zero_grad()
        leave_nan_behind()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedder(images).float().square().sum().backward()
        found.append(torch.cat([weight.grad.flatten() for weight in embedder.parameters()]))
    assert all(gradients.isfinite().all() for gradients in found)
    assert all(float((gradients - found[0]).norm() / found[0].norm()) < 1e-3 for gradients in found)


def test_other_convolutions_and_all_names_stay_as_they_are():
    embedder = build_embedder("resnet18")
    convolutions = {name: type(part).__name__ for name, part in embedder.named_modules() if isinstance(part, nn.Conv2d)}
    assert convolutions["backbone.conv1"] == convolutions["backbone.layer4.0.conv1"] == "ColumnSafeConv2d"
    assert convolutions["backbone.layer4.0.conv2"] == convolutions["backbone.layer4.0.downsample.0"] == "Conv2d"
    assert "backbone.layer4.0.conv1.weight" in embedder.state_dict()
