"""Properties of the task samplers, for all shapes of pools."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from conftest import TinyDomains
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metasiam.data.domains import DomainSet
from metasiam.data.pool import Pool
from metasiam.data.tasks import _distinct, _distinct_rows, draw_episodes, draw_pairs, draw_triplets


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(counts: list[int], seed: int) -> DomainSet:
    """A domain set with these numbers of train images, in mixed order, without pixels worth looking at."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator(seed))]
    size = len(labels)
    return DomainSet(
        torch.zeros(size, 1, 1, 1, dtype=torch.uint8),
        labels,
        tuple(str(i) for i in range(len(counts))),
        torch.zeros(size, dtype=torch.bool),
    )


def chi_square(drawn: Tensor, places: int) -> float:
    """Pearson's statistic of draws that should be uniform, in standard deviations from its mean."""
    seen = torch.bincount(drawn.flatten(), minlength=places).double()
    assert len(seen) == places
    expected = seen.sum() / places
    statistic = float(((seen - expected) ** 2 / expected).sum())
    return (statistic - (places - 1)) / (2 * (places - 1)) ** 0.5


COUNTS = st.lists(st.integers(2, 7), min_size=3, max_size=8)
SEEDS = st.integers(0, 10**6)


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, seed=SEEDS, data=st.data())
def test_a_triplet_has_two_images_of_one_domain_and_one_of_another_seen_one(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    whole = make(counts, seed)
    seen = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=2, unique=True))
    task = data.draw(st.lists(st.sampled_from(seen), min_size=1, unique=True))
    pool = whole.pool(seen, "train")
    anchor, positive, negative = draw_triplets(pool.only(task), pool, (4, 16), generator(seed))
    assert anchor.shape == (4, 16)
    assert bool((whole.labels[anchor] == whole.labels[positive]).all())
    assert bool((anchor != positive).all())
    assert bool((whole.labels[anchor] != whole.labels[negative]).all())
    assert set(whole.labels[anchor].unique().tolist()) <= set(task)
    assert set(whole.labels[negative].unique().tolist()) <= set(seen)


@settings(max_examples=30, deadline=None)
@given(counts=COUNTS, seed=SEEDS)
def test_negatives_for_an_unseen_domain_come_from_all_seen_ones(counts: list[int], seed: int) -> None:
    whole = make(counts, seed)
    last = len(counts) - 1
    anchors, seen = whole.pool([last], "train"), whole.pool(range(last), "train")
    anchor, _, negative = draw_triplets(anchors, seen, (400,), generator(seed))
    assert set(whole.labels[anchor].tolist()) == {last}
    assert set(negative.tolist()) <= set(seen.images.tolist())


@settings(max_examples=30, deadline=None)
@given(counts=COUNTS, seed=SEEDS)
def test_equal_seeds_make_equal_draws_and_others_do_not(counts: list[int], seed: int) -> None:
    pool = make(counts, seed).pool(range(len(counts)), "train")
    first, again, other = (draw_triplets(pool, pool, (64,), generator(s)) for s in (seed, seed, seed + 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    pairs, again = (draw_pairs(pool, pool, 12, generator(seed)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(pairs, again, strict=True))


def uneven() -> tuple[DomainSet, Pool]:
    whole = make([2, 9, 4, 6, 3], 5)
    return whole, whole.pool(range(5), "train")


def test_every_domain_of_a_task_is_drawn_equally_often_whatever_its_size() -> None:
    whole, pool = uneven()
    anchor, _, _ = draw_triplets(pool, pool, (20000,), generator())
    assert abs(chi_square(whole.labels[anchor], 5)) < 6


def test_anchors_and_positives_are_uniform_over_ordered_pairs_of_their_domain() -> None:
    whole, pool = uneven()
    anchor, positive, _ = draw_triplets(pool.only([2]), pool, (24000,), generator())
    rank = torch.full((len(whole.labels),), -1)
    rank[pool.only([2]).images] = torch.arange(4)
    place = rank[positive] - (rank[positive] > rank[anchor]).long()
    assert abs(chi_square(rank[anchor] * 3 + place, 12)) < 6


def test_negatives_are_uniform_over_all_images_of_the_other_domains() -> None:
    whole, pool = uneven()
    for domain in range(5):
        _, _, negative = draw_triplets(pool.only([domain]), pool, (20000,), generator(domain))
        allowed = (whole.labels != domain).nonzero().flatten()
        assert abs(chi_square(torch.searchsorted(allowed, negative), len(allowed))) < 6


def test_a_task_of_several_ways_draws_negatives_from_its_other_domains_too() -> None:
    whole, pool = uneven()
    task = pool.only([1, 3])
    anchor, _, negative = draw_triplets(task, task, (2000,), generator())
    assert set(whole.labels[anchor].tolist()) == {1, 3}
    assert bool((whole.labels[anchor] + whole.labels[negative] == 4).all())


def test_triplets_that_cannot_be_are_refused() -> None:
    _, pool = uneven()
    with pytest.raises(ValueError, match="only the anchor's own domain"):
        draw_triplets(pool.only([1]), pool.only([1]), (4,), generator())
    single = Pool(pool.images[:1], pool.domains[:1], torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(ValueError, match="at least two images"):
        draw_triplets(single, pool, (4,), generator())


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, seed=SEEDS, count=st.integers(2, 60))
def test_pairs_are_distinct_truly_labelled_and_half_of_them_same(counts: list[int], seed: int, count: int) -> None:
    whole = make(counts, seed)
    pool = whole.pool(range(len(counts)), "train")
    pairs = draw_pairs(pool, pool, count, generator(seed))
    assert torch.equal(whole.labels[pairs.first] == whole.labels[pairs.second], pairs.same)
    assert bool((pairs.first != pairs.second).all())
    for domain in range(len(counts)):
        mine = whole.labels[pairs.first] == domain
        assert int(pairs.same[mine].sum()) * 2 == int(mine.sum()) >= 2
        drawn = list(zip(pairs.first[mine].tolist(), pairs.second[mine].tolist(), strict=True))
        half = len(drawn) // 2  # a domain's same pairs come first
        same = {frozenset(pair) for pair in drawn[:half]}
        different = set(drawn[half:])
        assert len(same) == len(different) == int(mine.sum()) // 2


def test_all_pairs_of_a_small_domain_are_drawn_when_so_many_are_asked_for() -> None:
    _, pool = uneven()
    pairs = draw_pairs(pool.only([3]), pool, 10**4, generator())
    assert int(pairs.same.sum()) == 15 == int((~pairs.same).sum())


def test_same_pairs_are_uniform_over_all_of_them() -> None:
    pool = make([6, 40], 1).pool([0, 1], "train")
    own = pool.only([0])
    rank = torch.zeros(46, dtype=torch.int64)
    rank[own.images] = torch.arange(6)
    draws = generator()
    codes = []
    for _ in range(1500):
        pairs = draw_pairs(own, pool, 8, draws)
        first, second = rank[pairs.first[pairs.same]], rank[pairs.second[pairs.same]]
        assert bool((first > second).all())
        codes.append(first * (first - 1) // 2 + second)
    assert abs(chi_square(torch.cat(codes), 15)) < 6


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(4, 9), min_size=3, max_size=8), seed=SEEDS, data=st.data())
def test_an_episode_has_different_domains_and_different_images_in_each(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    whole = make(counts, seed)
    pool = whole.pool(range(len(counts)), "train")
    ways = data.draw(st.integers(2, len(counts)))
    shots = data.draw(st.integers(1, 3))
    queries = 4 - shots
    drawn = draw_episodes(pool, ways=ways, shots=shots, queries=queries, episodes=7, generator=generator(seed))
    assert drawn.support.shape == (7, ways, shots)
    assert drawn.query.shape == (7, ways, queries)
    together = torch.cat((drawn.support, drawn.query), dim=2)
    assert torch.equal(whole.labels[together], drawn.domains.unsqueeze(-1).expand_as(together))
    for episode in range(7):
        assert len(drawn.domains[episode].unique()) == ways
        assert len(together[episode].unique()) == 4 * ways


def test_domains_and_images_of_episodes_are_in_uniformly_random_order() -> None:
    pool = make([3, 3, 3], 0).pool(range(3), "train")
    drawn = draw_episodes(pool, ways=3, shots=1, queries=2, episodes=6000, generator=generator())
    order = {permutation: code for code, permutation in enumerate(permutations(range(3)))}
    domains = torch.tensor([order[tuple(row)] for row in drawn.domains.tolist()])
    assert abs(chi_square(domains, 6)) < 6
    place = torch.empty(9, dtype=torch.int64)
    place[pool.images] = torch.arange(9) % 3
    images = place[torch.cat((drawn.support, drawn.query), dim=2)].reshape(-1, 3)
    assert abs(chi_square(torch.tensor([order[tuple(row)] for row in images.tolist()]), 6)) < 6


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"ways": 6, "shots": 1, "queries": 1}, "6-way episodes need 6 domains, the pool has 5"),
        ({"ways": 2, "shots": 1, "queries": 2}, "need 3 images a domain, one has 2"),
    ],
)
def test_episodes_that_cannot_be_are_refused(options: dict[str, int], complaint: str) -> None:
    _, pool = uneven()
    with pytest.raises(ValueError, match=complaint):
        draw_episodes(pool, episodes=3, generator=generator(), **options)


@pytest.mark.parametrize(("bound", "count"), [(4, 2), (5, 3), (3, 3), (6, 1)])
def test_distinct_rows_draws_every_arrangement_equally_often(bound: int, count: int) -> None:
    order = {arrangement: code for code, arrangement in enumerate(permutations(range(bound), count))}
    drawn = _distinct_rows(torch.full((30000,), bound), count, generator(bound))
    codes = torch.tensor([order[tuple(row)] for row in drawn.tolist()])
    assert abs(chi_square(codes, len(order))) < 6


@pytest.mark.parametrize(("total", "count"), [(10, 10), (200, 7), (1 << 17, 50), (1 << 17, 1 << 15), (10**9, 3000)])
def test_distinct_integers_are_distinct_and_in_range(total: int, count: int) -> None:
    drawn = _distinct(total, count, generator())
    assert len(drawn.unique()) == len(drawn) == count
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < total


def test_distinct_integers_from_a_large_range_are_uniform_and_unordered() -> None:
    draws = generator()
    total = 1 << 17
    drawn = torch.cat([_distinct(total, 1000, draws) for _ in range(20)])
    assert abs(chi_square(drawn * 16 // total, 16)) < 6
    rising = (drawn[1:] > drawn[:-1]).float().mean()
    assert abs(float(rising) - 0.5) < 0.02


def test_held_out_domains_never_appear_in_a_training_draw(tiny_domains: TinyDomains) -> None:
    whole = tiny_domains()
    seen = whole.pool(range(10), "train")
    drawn = draw_triplets(seen, seen, (30, 200), generator())
    assert int(whole.labels[drawn].max()) == 9
    assert not bool(whole.is_test[drawn].any())
