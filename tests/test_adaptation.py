"""Adapting a copy to one domain: it learns, only what it should, and leaves everything else as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from metasiam.data.domains import DomainSet
from metasiam.evaluation.adaptation import (
    AdaptationPlan,
    HeadedEmbedder,
    adapt,
    adaptation_path,
    averaged,
    draw_adaptation_batches,
    last_block,
)
from metasiam.evaluation.embedding import embed_images
from metasiam.evaluation.verification import all_triplets_accuracy
from metasiam.models import build_embedder
from metasiam.models.files import EmbedderInfo


class TinyEmbedder(nn.Module):
    """Two blocks with BatchNorm, for images of 8 × 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_size = 8
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(
            nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8)),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images))  # type: ignore[no-any-return]


INFO = EmbedderInfo("tiny", image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
PLAN = AdaptationPlan(steps=6, rate=0.01, batch=16)


@pytest.fixture
def domains(tiny_domains: Callable[..., DomainSet]) -> DomainSet:
    return tiny_domains(6, 20)


@pytest.fixture
def embedder() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyEmbedder().eval()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def adapted_to(embedder: nn.Module, domains: DomainSet, plan: AdaptationPlan, *, images: int = 10) -> nn.Module:
    own = domains.pool([5], "train").images[:images]
    return adapt(embedder, INFO, domains, own, domains.pool(range(5), "train").images, plan, generator())


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    old = before.state_dict()
    return {name for name, value in after.state_dict().items() if not torch.equal(value, old[name])}


def test_adapting_makes_a_domain_easier_to_tell(embedder: nn.Module, domains: DomainSet) -> None:
    """The domain is a mixture of two that look different: only its labelled images tell that they are one."""
    mixed = replace(domains, labels=domains.labels.clamp(max=4), names=domains.names[:5])
    own, others = mixed.pool([4], "test").images, mixed.pool(range(4), "test").images

    def accuracy(module: nn.Module) -> float:
        rows = embed_images(module, INFO, mixed, torch.cat((own, others)))
        return all_triplets_accuracy(rows[: len(own)], rows[len(own) :], "cosine")

    training = mixed.pool([4], "train").images, mixed.pool(range(4), "train").images
    adapted = adapt(embedder, INFO, mixed, *training, replace(PLAN, steps=30), generator())
    assert accuracy(embedder) < 0.8
    assert accuracy(adapted) > accuracy(embedder) + 0.1


def test_the_embedder_itself_is_untouched(embedder: nn.Module, domains: DomainSet) -> None:
    before = copy.deepcopy(embedder)
    for part in ("all", "last_block", "batchnorm", "head"):
        for frozen in (True, False):
            adapted_to(embedder, domains, replace(PLAN, part=part, freeze_batchnorm=frozen))
    assert not changed(before, embedder)
    assert all(p.requires_grad and p.grad is None for p in embedder.parameters())
    assert not embedder.training


def test_zero_steps_and_a_zero_average_leave_the_weights_as_they_were(embedder: nn.Module, domains: DomainSet) -> None:
    for plan in (replace(PLAN, steps=0), replace(PLAN, average=0.0)):
        assert plan.leaves_unadapted
        assert not changed(embedder, adapted_to(embedder, domains, plan))


def test_only_the_part_asked_for_moves(embedder: nn.Module, domains: DomainSet) -> None:
    names = set(embedder.state_dict())
    statistics = {name for name in names if "running" in name or "num_batches" in name}
    norm = {"first.1.weight", "first.1.bias", "second.0.1.weight", "second.0.1.bias"}
    assert changed(embedder, adapted_to(embedder, domains, PLAN)) == names - statistics
    assert changed(embedder, adapted_to(embedder, domains, replace(PLAN, part="batchnorm"))) == norm
    last = {"second.1.2.weight", "second.1.2.bias"}
    assert changed(embedder, adapted_to(embedder, domains, replace(PLAN, part="last_block"))) == last


def test_batch_norm_statistics_move_only_when_not_frozen(embedder: nn.Module, domains: DomainSet) -> None:
    thawed = changed(embedder, adapted_to(embedder, domains, replace(PLAN, freeze_batchnorm=False)))
    assert "first.1.running_mean" in thawed


def test_a_head_starts_as_the_identity_and_alone_is_trained(embedder: nn.Module, domains: DomainSet) -> None:
    index = domains.pool([5], "test").images
    start = HeadedEmbedder(embedder)
    assert torch.allclose(
        embed_images(start, INFO, domains, index), embed_images(embedder, INFO, domains, index), atol=1e-6
    )
    adapted = adapted_to(embedder, domains, replace(PLAN, part="head"))
    assert isinstance(adapted, HeadedEmbedder)
    assert not changed(embedder, adapted.embedder)
    assert not torch.equal(adapted.head.weight, torch.eye(8))
    half = averaged(embedder, adapted, 0.5)
    assert isinstance(half, HeadedEmbedder)
    assert torch.allclose(half.head.weight, (adapted.head.weight + torch.eye(8)) / 2)


def test_averaging_goes_part_of_the_way(embedder: nn.Module, domains: DomainSet) -> None:
    full, part = adapted_to(embedder, domains, PLAN), adapted_to(embedder, domains, replace(PLAN, average=0.25))
    for start, end, between in zip(embedder.parameters(), full.parameters(), part.parameters(), strict=True):
        assert torch.allclose(between, start + 0.25 * (end - start), atol=1e-6)


def test_tasks_do_not_influence_each_other(embedder: nn.Module, domains: DomainSet) -> None:
    first = adapted_to(embedder, domains, PLAN)
    adapt(
        embedder, INFO, domains, domains.pool([4], "train").images, domains.pool([0], "train").images, PLAN, generator()
    )
    assert not changed(first, adapted_to(embedder, domains, PLAN))


def test_a_path_passes_through_what_adapting_for_fewer_steps_gives(embedder: nn.Module, domains: DomainSet) -> None:
    own, negatives = domains.pool([5], "train").images, domains.pool(range(5), "train").images
    path = dict(adaptation_path(embedder, INFO, domains, own, negatives, PLAN, generator(), at=[0, 2, 5]))
    assert sorted(path) == [0, 2, 5]
    assert not changed(embedder, path[0])
    distance = [
        sum(float((a - b).detach().norm()) for a, b in zip(m.parameters(), embedder.parameters(), strict=True))
        for m in path.values()
    ]
    assert distance[0] < distance[1] < distance[2]  # and the earlier ones stayed as they were when yielded


def test_one_step_is_the_step_computed_by_hand(domains: DomainSet) -> None:
    """One Adam step moves each weight by rate · g / (|g| + ε) against the gradient of the triplet loss."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4, bias=False))
    with torch.no_grad():
        linear[1].weight.copy_(torch.randn(4, 192, generator=generator(1)) / 14)
    own, negatives = domains.pool([5], "train").images, domains.pool(range(5), "train").images
    plan = AdaptationPlan(steps=1, rate=0.001, batch=8, flip=False)
    info = replace(INFO, distance="squared_euclidean")
    drawn = draw_adaptation_batches(own, negatives, (1, 8), generator(2))
    a, p, n = ((domains.images[i[0]].float() / 255 - 0.5) / 0.25 for i in drawn)
    weight = linear[1].weight.detach().clone().requires_grad_(True)
    ea, ep, en = (x.flatten(1) @ weight.t() for x in (a, p, n))
    torch.relu(1 + (ea - ep).square().sum(1) - (ea - en).square().sum(1)).mean().backward()
    assert weight.grad is not None
    expected = weight.detach() - 0.001 * weight.grad / (weight.grad.abs() + 1e-8)
    found = adapt(linear, info, domains, own, negatives, plan, generator(2))
    moved = next(found.parameters()).detach()
    # bfloat16 autocast may turn the sign of a gradient that is nearly 0.
    assert float((moved - expected).abs().lt(1e-5).double().mean()) > 0.97


def test_batches_pair_different_images_of_the_domain_with_others() -> None:
    anchor, positive, negative = draw_adaptation_batches(torch.arange(3), torch.arange(10, 90), (50, 20), generator())
    assert set(anchor.unique().tolist()) == set(positive.unique().tolist()) == {0, 1, 2}
    assert bool((anchor != positive).all())
    assert int(negative.min()) >= 10
    assert len(negative.unique()) == 80


def test_a_single_image_is_its_own_positive() -> None:
    anchor, positive, _ = draw_adaptation_batches(torch.tensor([7]), torch.arange(5), (4,), generator())
    assert anchor.tolist() == positive.tolist() == [7] * 4


def test_adapting_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        draw_adaptation_batches(torch.empty(0, dtype=torch.int64), torch.arange(5), (4,), generator())
    with pytest.raises(ValueError, match="not a plan"):
        AdaptationPlan(steps=-1)


def test_the_last_block_of_a_residual_network_is_its_last_residual_block() -> None:
    network = build_embedder("resnet8")
    assert last_block(network) is network.layer3[-1]  # type: ignore[index]
