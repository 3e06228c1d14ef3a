"""Koch's network and the pair heads: sizes, parameter counts, first weights, symmetry."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metasiam.errors import MetaSiamError
from metasiam.models import build_embedder
from metasiam.models.koch import KOCH_NETWORKS, KochNetwork, initialise_as_in_paper, koch_name
from metasiam.models.pair_heads import PAIR_HEADS, MarginDistance, build_pair_head
from metasiam.options.pairs import SiameseOptions


def parameters(*modules: nn.Module) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())


def on_meta(**options: object) -> tuple[nn.Module, nn.Module]:
    """The network with 105 × 105 grey images and its output unit, without memory for the weights."""
    with torch.device("meta"):
        return KochNetwork(1, (105, 105), **options), build_pair_head("l1", 4096)  # type: ignore[arg-type]


def test_every_layer_has_the_size_of_the_papers_figure() -> None:
    network = KochNetwork(1, (105, 105), units=8)
    sizes = []
    for conv in network.convs:
        conv.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    embedding = network(torch.zeros(1, 1, 105, 105))
    assert sizes == [(64, 96, 96), (128, 42, 42), (128, 18, 18), (256, 6, 6)]
    assert network.dense.in_features == 9216
    assert tuple(embedding.shape) == (1, 8)
    assert on_meta()[0].dense.out_features == 4096  # type: ignore[union-attr]


def test_the_papers_network_has_its_number_of_parameters() -> None:
    assert parameters(*on_meta()) == 38_951_745
    assert parameters(*on_meta(first_bias=False)) == 38_951_745 - 64
    assert parameters(*on_meta(poolings=4)) == 10_640_193


def test_with_batch_norm_it_has_the_number_that_keras_counted_for_the_seed() -> None:
    network, head = on_meta(batch_norm=True)
    running = sum(b.numel() for name, b in network.named_buffers() if "num_batches" not in name)
    assert running == 1_152
    assert parameters(network, head) + running == 38_954_049


def test_every_variant_can_be_built_by_name() -> None:
    assert len(KOCH_NETWORKS) == 8
    assert koch_name(batch_norm=True, first_bias=False, poolings=4) == "koch-bn-nobias-pool4"
    assert set(KOCH_NETWORKS) >= {"koch", "koch-bn", "koch-nobias", "koch-pool4"}


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(MetaSiamError, match="at least 65"):
        build_embedder("koch", channels=1, image_size=(64, 64))
    with pytest.raises(MetaSiamError, match="73 with four"):
        build_embedder("koch-pool4", channels=1, image_size=(70, 70))


def test_the_smallest_images_that_fit_do() -> None:
    network = KochNetwork(1, (65, 65), units=3)
    assert network(torch.zeros(1, 1, 65, 65)).shape == (1, 3)
    network = KochNetwork(3, (73, 73), units=3, poolings=4)
    assert network(torch.zeros(1, 3, 73, 73)).shape == (1, 3)


@torch.no_grad()
def test_the_papers_first_weights_have_the_papers_spread() -> None:
    network = KochNetwork(1, (70, 70), units=200, batch_norm=True)
    initialise_as_in_paper(network, torch.Generator().manual_seed(0))
    conv, dense = network.convs[1], network.dense
    assert float(conv.weight.mean()) == pytest.approx(0, abs=3e-4)
    assert float(conv.weight.std()) == pytest.approx(0.01, rel=0.02)
    assert float(dense.weight.std()) == pytest.approx(0.2, rel=0.02)
    assert float(dense.bias.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(dense.bias.std()) == pytest.approx(0.01, rel=0.2)
    assert bool((network.norms[0].weight == 1).all())


def test_dropout_zeroes_embeddings_in_training_only() -> None:
    network = KochNetwork(1, (65, 65), units=50)
    network.dropout = 0.5
    images = torch.randn(2, 1, 65, 65)
    assert bool((network.train()(images) == 0).any())
    assert not bool((network.eval()(images) == 0).any())


@pytest.mark.parametrize("name", sorted(PAIR_HEADS))
def test_a_head_does_not_care_which_image_comes_first(name: str) -> None:
    torch.manual_seed(0)
    head = build_pair_head(name, 6)
    a, b = torch.randn(5, 6), torch.randn(5, 6)
    assert head(a, b).shape == (5,)
    assert torch.allclose(head(a, b), head(b, a), atol=1e-6)


@torch.no_grad()
def test_heads_compute_what_they_say() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(4, 3), torch.randn(4, 3)
    l1 = build_pair_head("l1", 3)
    cosine, euclidean, features = (build_pair_head(name, 3) for name in ("cosine", "euclidean", "features"))
    for p in range(4):
        by_hand = l1.output.bias + sum(l1.output.weight[0, d] * abs(a[p, d] - b[p, d]) for d in range(3))
        assert float(l1(a, b)[p]) == pytest.approx(float(by_hand), abs=1e-5)
        similar = float(torch.dot(a[p], b[p]) / a[p].norm() / b[p].norm())
        assert float(cosine(a, b)[p]) == pytest.approx(float(torch.tensor(2.0).exp()) * similar - 2, abs=1e-5)
        apart = sum(float(a[p, d] - b[p, d]) ** 2 for d in range(3))
        assert float(euclidean(a, b)[p]) == pytest.approx(1 - apart / 3, abs=1e-5)
        assert float(MarginDistance(2.0)(a, b)[p]) == pytest.approx(1 - apart**0.5, abs=1e-5)
        u, v = F.normalize(a[p], dim=0), F.normalize(b[p], dim=0)
        seen = [float(u[d] * v[d]) * 3 for d in range(3)]
        seen += [abs(float(u[d] - v[d])) * features.difference_weight * 3**0.5 for d in range(3)]
        by_hand = features.output.bias + sum(w * x for w, x in zip(features.output.weight[0], seen, strict=True))
        assert float(features(a, b)[p]) == pytest.approx(float(by_hand), abs=1e-5)


@pytest.mark.parametrize("name", PAIR_HEADS)
def test_every_head_can_be_asked_for(name: str) -> None:
    assert SiameseOptions(head=name).head == name


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(MetaSiamError, match="--head bilinear is unknown"):
        build_pair_head("bilinear", 4)
