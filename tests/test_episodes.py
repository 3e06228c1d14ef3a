"""Nearest-centroid episodes: against loops, and on embeddings whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from metasiam.data.pool import Pool
from metasiam.data.tasks import Episodes, draw_episodes
from metasiam.evaluation.episodes import accuracy_of_classes, all_way_accuracy, all_way_one_shot, episode_accuracy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pool() -> Pool:
    """Seven domains of 8 … 14 images."""
    counts = torch.arange(8, 15)
    return Pool(torch.arange(int(counts.sum())), torch.arange(7), counts.cumsum(0) - counts, counts)


@pytest.fixture
def embeddings(pool: Pool) -> Tensor:
    """Clusters that overlap."""
    centres = torch.randn(7, 6, generator=generator(1))
    rows = centres.repeat_interleave(pool.counts, dim=0)
    return rows + 1.2 * torch.randn(rows.shape, generator=generator(2))


def naive_accuracy(embeddings: Tensor, episodes: Episodes, distance: str) -> list[float]:
    shares = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        right = []
        rows = normalize(embeddings, dim=1) if distance == "cosine" else embeddings
        centroids = [rows[way].mean(0) for way in support]
        for way, images in enumerate(query):
            for image in images:
                if distance == "cosine":
                    scores = [float(cosine_similarity(rows[image], c, dim=0)) for c in centroids]
                else:
                    scores = [-float((rows[image] - c).square().sum()) for c in centroids]
                right.append(scores.index(max(scores)) == way)
        shares.append(sum(right) / len(right))
    return shares


@pytest.mark.parametrize("distance", ["cosine", "squared_euclidean"])
@pytest.mark.parametrize("shots", [1, 3])
def test_episode_accuracy_equals_a_loop_in_any_chunk(pool: Pool, embeddings: Tensor, distance: str, shots: int) -> None:
    episodes = draw_episodes(pool, ways=5, shots=shots, queries=4, episodes=7, generator=generator(3))
    expected = naive_accuracy(embeddings, episodes, distance)
    assert 0.3 < sum(expected) / 7 < 1
    for chunk in (2, 256):
        found = episode_accuracy(embeddings, episodes, distance, chunk=chunk)
        assert found.shape == (7, 5)
        assert found.mean(1).tolist() == pytest.approx(expected, abs=1e-6)


def test_embeddings_that_know_nothing_are_right_one_time_in_five(pool: Pool) -> None:
    episodes = draw_episodes(pool, ways=5, shots=1, queries=5, episodes=400, generator=generator(4))
    found = episode_accuracy(torch.randn(int(pool.counts.sum()), 8, generator=generator(5)), episodes, "cosine")
    assert float(found.mean()) == pytest.approx(0.2, abs=0.02)


def test_more_supports_help(pool: Pool, embeddings: Tensor) -> None:
    accuracy = [
        float(
            episode_accuracy(
                embeddings,
                draw_episodes(pool, ways=5, shots=shots, queries=3, episodes=300, generator=generator(6)),
                "cosine",
            ).mean()
        )
        for shots in (1, 5)
    ]
    assert accuracy[1] > accuracy[0] + 0.05


def test_one_support_of_every_domain_is_drawn(pool: Pool) -> None:
    supports = all_way_one_shot(pool, 50, generator())
    owner = torch.repeat_interleave(torch.arange(7), pool.counts)
    assert supports.shape == (50, 7)
    assert torch.equal(owner[supports], torch.arange(7).expand(50, 7))
    assert len(supports[:, 0].unique()) > 3


@pytest.mark.parametrize("distance", ["cosine", "squared_euclidean"])
def test_all_way_accuracy_equals_a_loop_over_the_other_images(pool: Pool, embeddings: Tensor, distance: str) -> None:
    supports = all_way_one_shot(pool, 3, generator(7))
    owner = torch.repeat_interleave(torch.arange(7), pool.counts)
    expected = []
    for support in supports:
        right = []
        for image in range(len(embeddings)):
            if image in support.tolist():
                continue
            if distance == "cosine":
                scores = [float(cosine_similarity(embeddings[image], embeddings[s], dim=0)) for s in support]
            else:
                scores = [-float((embeddings[image] - embeddings[s]).square().sum()) for s in support]
            right.append(scores.index(max(scores)) == int(owner[image]))
        expected.append(sum(right) / len(right))
    queries = pool.counts - 1.0
    found = all_way_accuracy(embeddings, pool, supports, distance)
    assert (found @ queries / queries.sum()).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_class_s_accuracy_is_its_mean_over_the_episodes_that_it_is_in() -> None:
    shares = torch.tensor([[1.0, 0.5], [0.0, 0.25], [0.5, 1.0]])
    domains = torch.tensor([[3, 5], [5, 3], [9, 3]])
    found = accuracy_of_classes(shares, domains, torch.tensor([3, 5, 7, 9]))
    assert found[[0, 1, 3]].tolist() == pytest.approx([(1.0 + 0.25 + 1.0) / 3, 0.25, 0.5])
    assert found[2].isnan()
