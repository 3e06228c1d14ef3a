"""BatchNorm's running statistics after training: of every image alike, whatever their number."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import metasiam
from metasiam.config import ReptileConfig, config_from
from metasiam.data.augment import normalise
from metasiam.few_shot_config import BaselineConfig
from metasiam.kernels.build import compiler
from metasiam.kernels.norm import use_kernels
from metasiam.learners.context import prepare
from metasiam.models import build_embedder
from metasiam.training.norms import set_running_statistics

OPTIONS = {"device": "cpu", "precision": "fp32", "compile": "off"}


@pytest.fixture(params=[(19, 27), (25, 41)], ids=["513 images", "1025 images"])
def data(request, tiny_domains):
    seen, images = request.param
    domains = tiny_domains(domains=seen + 2, images=images + 1, size=8, test_images=1)
    return domains, metasiam.split_domains(domains, held_out=2)


def test_every_seen_image_counts_alike(data):
    context = prepare(config_from(ReptileConfig, {**OPTIONS, "arch": "resnet8"}), *data)
    embedder = context.embedder
    context.estimate_statistics()
    with torch.no_grad():
        images = normalise(context.domains.gather(context.seen.images), context.info.mean, context.info.std)
        values = embedder.conv1(images).double()
    mean, variance = values.mean((0, 2, 3)), values.var((0, 2, 3))
    assert float(((embedder.bn1.running_mean - mean) / variance.sqrt()).abs().max()) < 1e-4
    torch.testing.assert_close(embedder.bn1.running_var.double(), variance, atol=0, rtol=1e-4)


def test_no_number_of_images_leaves_a_batch_of_one(data):
    """ResNet-18 makes one pixel of such images, and BatchNorm cannot normalise one value."""
    context = prepare(config_from(ReptileConfig, {**OPTIONS, "arch": "resnet18"}), *data)
    context.estimate_statistics()
    embedded = context.embedder.eval()(torch.zeros(1, 3, 8, 8))
    assert embedded.isfinite().all()


@pytest.mark.parametrize("fused", [False, True])
def test_of_one_batch_they_are_what_pytorch_measures(fused):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 16, 16, generator=generator).contiguous(memory_format=torch.channels_last)
    ours = build_embedder("resnet14").to(memory_format=torch.channels_last)
    theirs = copy.deepcopy(ours).train()
    if fused:
        if compiler() is None:
            pytest.skip("the kernels need g++")
        assert use_kernels(ours)
    for part in theirs.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        theirs(images)
    ours.eval()
    set_running_statistics(ours, [images])
    assert not ours.training
    found, expected = dict(ours.named_buffers()), dict(theirs.named_buffers())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert all(part.momentum == 0.1 for part in ours.modules() if isinstance(part, nn.BatchNorm2d))


def test_a_batch_of_one_image_is_refused_only_where_it_becomes_one_pixel(tiny_domains):
    domains = tiny_domains(domains=4, images=8)
    split = metasiam.split_domains(domains, held_out=2)
    single = {**OPTIONS, "batch_size": 1}
    with pytest.raises(metasiam.MetaSiamError, match="--batch-size 1 does not fit resnet18 on images of 8x8 pixels"):
        prepare(config_from(BaselineConfig, {**single, "arch": "resnet18"}), domains, split)
    prepare(config_from(BaselineConfig, {**single, "arch": "resnet8"}), domains, split)
    prepare(config_from(ReptileConfig, {**single, "arch": "resnet18"}), domains, split)
