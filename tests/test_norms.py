"""BatchNorm's running statistics after training: of every image alike, whatever their number."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import metasiam
import metasiam.training.norms
from metasiam.data.augment import normalise
from metasiam.kernels.build import compiler
from metasiam.kernels.norm import use_kernels
from metasiam.learners.context import prepare
from metasiam.models import build_embedder
from metasiam.options.few_shot import BaselineOptions
from metasiam.options.reptile import ReptileOptions
from metasiam.options.training import options_of
from metasiam.training.norms import set_running_statistics

OPTIONS = {"device": "cpu", "precision": "fp32", "compile": "off"}


@pytest.fixture(params=[(19, 27), (25, 41)], ids=["513 images", "1025 images"])
def data(request, tiny_domains):
    seen, images = request.param
    domains = tiny_domains(domains=seen + 2, images=images + 1, size=8, test_images=1)
    return domains, metasiam.split_domains(domains, held_out=2)


def every_layer_of_one_batch(embedder: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The running statistics that PyTorch keeps of all images as a single batch."""
    one = copy.deepcopy(embedder).train()
    for part in one.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        one(images)
    return {name: value for name, value in one.named_buffers() if "running" in name}


def check_every_layer(embedder: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    found = dict(embedder.named_buffers())
    for name, value in expected.items():
        if name.endswith("mean"):
            spread = expected[name.replace("mean", "var")].sqrt()
            assert float(((found[name] - value) / spread).abs().max()) < 2e-5, name
        else:
            torch.testing.assert_close(found[name], value, atol=0, rtol=5e-5, msg=name)


def test_every_seen_image_counts_alike_in_every_layer(data):
    context = prepare(options_of(ReptileOptions, {**OPTIONS, "arch": "resnet8"}), *data)
    images = normalise(context.domains.gather(context.seen.images), context.info.mean, context.info.std)
    expected = every_layer_of_one_batch(context.embedder, images)
    context.estimate_statistics()
    check_every_layer(context.embedder, expected)


@pytest.mark.parametrize(("arch", "block"), [("resnet14", 3), ("resnet18", 24), ("conv4", 50)])
def test_layer_by_layer_in_blocks_of_any_size_they_are_the_same(monkeypatch, arch, block):
    """Of 49 images the last block has one. Not all are alike: the first ones are darker."""
    monkeypatch.setattr(metasiam.training.norms, "_BLOCK", block)
    images = torch.randn(49, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:10] -= 2
    embedder = build_embedder(arch)
    expected = every_layer_of_one_batch(embedder, images)
    set_running_statistics(embedder, len(images), images.__getitem__, most_bytes=0)
    check_every_layer(embedder, expected)
    assert embedder.training


def test_no_number_of_images_leaves_a_batch_of_one(data):
    """ResNet-18 makes one pixel of such images, and BatchNorm cannot normalise one value."""
    context = prepare(options_of(ReptileOptions, {**OPTIONS, "arch": "resnet18"}), *data)
    context.estimate_statistics()
    embedded = context.embedder.eval()(torch.zeros(1, 3, 8, 8))
    assert embedded.isfinite().all()


@pytest.mark.parametrize("fused", [False, True])
def test_of_one_batch_they_are_what_pytorch_measures(fused):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 16, 16, generator=generator).contiguous(memory_format=torch.channels_last)
    ours = build_embedder("resnet14").to(memory_format=torch.channels_last)
    if fused:
        if compiler() is None:
            pytest.skip("the kernels need g++")
        assert use_kernels(ours)
    ours.eval()
    set_running_statistics(ours, len(images), images.__getitem__)
    assert not ours.training
    check_every_layer(ours, every_layer_of_one_batch(ours, images))
    assert all(part.momentum == 0.1 for part in ours.modules() if isinstance(part, nn.BatchNorm2d))


def test_a_batch_of_one_image_is_refused_only_where_it_becomes_one_pixel(tiny_domains):
    domains = tiny_domains(domains=4, images=8)
    split = metasiam.split_domains(domains, held_out=2)
    single = {**OPTIONS, "batch_size": 1}
    with pytest.raises(metasiam.MetaSiamError, match="--batch-size 1 does not fit resnet18 on images of 8x8 pixels"):
        prepare(options_of(BaselineOptions, {**single, "arch": "resnet18"}), domains, split)
    prepare(options_of(BaselineOptions, {**single, "arch": "resnet8"}), domains, split)
    prepare(options_of(ReptileOptions, {**single, "arch": "resnet18"}), domains, split)
