"""Metrics of scores: each against a naive loop or scikit-learn."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor

from metasiam.evaluation import verification as v
from metasiam.evaluation import weighted


@pytest.fixture
def embeddings() -> Tensor:
    return torch.randn(30, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def scored() -> tuple[Tensor, Tensor]:
    """Overlapping scores, a third of them same, with many ties."""
    generator = torch.Generator().manual_seed(2)
    same = torch.rand(300, generator=generator) < 0.33
    scores = (torch.randn(300, generator=generator) + same * 1.2).mul(4).round() / 4
    return scores, same


def naive_similarity(a: Tensor, b: Tensor, distance: str) -> float:
    if distance == "cosine":
        return float(sum(x * y for x, y in zip(a, b, strict=True)) / (a.norm() * b.norm()))
    return -float(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


@pytest.mark.parametrize("distance", ["cosine", "squared_euclidean"])
def test_similarity_equals_a_loop_in_any_block_size(embeddings: Tensor, distance: str) -> None:
    first, second = torch.arange(10), torch.arange(20, 30)
    expected = [naive_similarity(embeddings[i], embeddings[j], distance) for i, j in zip(first, second, strict=True)]
    for block in (3, 1000):
        found = v.similarity(embeddings, first, second, distance, block=block)
        assert found.tolist() == pytest.approx(expected, abs=1e-5)
    matrix = v.similarity_matrix(embeddings[:10], embeddings[20:], distance)
    assert matrix.diagonal().tolist() == pytest.approx(expected, abs=1e-5)


def test_no_pairs_have_no_scores(embeddings: Tensor) -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert v.similarity(embeddings, none, none, "cosine").shape == (0,)


def test_an_unknown_distance_is_refused(embeddings: Tensor) -> None:
    with pytest.raises(ValueError, match="manhattan"):
        v.similarity(embeddings, torch.tensor([0]), torch.tensor([1]), "manhattan")


@pytest.mark.parametrize("distance", ["cosine", "squared_euclidean"])
def test_triplets_equal_a_loop(embeddings: Tensor, distance: str) -> None:
    triplets = torch.randint(30, (3, 40), generator=torch.Generator().manual_seed(3))
    triplets = triplets[:, triplets[1] != triplets[2]]
    expected = []
    for a, p, n in triplets.t().tolist():
        near = naive_similarity(embeddings[a], embeddings[p], distance)
        expected.append(near > naive_similarity(embeddings[a], embeddings[n], distance))
    assert v.triplets_right(embeddings, triplets, distance).tolist() == expected


def test_a_collapsed_embedder_gets_no_triplet_right() -> None:
    triplets = torch.tensor([[0, 1], [1, 2], [2, 0]])
    assert not v.triplets_right(torch.ones(3, 4), triplets, "cosine").any()


def test_all_triplets_equal_a_triple_loop(embeddings: Tensor) -> None:
    own, others = embeddings[:6], embeddings[6:15]
    right = [
        naive_similarity(own[a], own[p], "cosine") > naive_similarity(own[a], others[n], "cosine")
        for a in range(6)
        for p in range(6)
        for n in range(9)
        if p != a
    ]
    assert v.all_triplets_accuracy(own, others, "cosine") == pytest.approx(sum(right) / len(right))


def test_balanced_accuracy_agrees_with_scikit_learn(scored: tuple[Tensor, Tensor]) -> None:
    scores, same = scored
    for threshold in (-0.6, 0.3, 1.1):
        expected = balanced_accuracy_score(same, scores > threshold)
        assert v.balanced_accuracy(scores, same, threshold) == pytest.approx(expected)


def test_best_threshold_is_the_best_of_every_possible_cut(scored: tuple[Tensor, Tensor]) -> None:
    scores, same = scored
    threshold, accuracy = v.best_threshold(scores, same)
    cuts = [float(x) - 0.01 for x in scores] + [float(scores.max()) + 1]
    assert accuracy == pytest.approx(max(v.balanced_accuracy(scores, same, cut) for cut in cuts))
    assert v.balanced_accuracy(scores, same, threshold) == pytest.approx(accuracy)


def test_separable_scores_are_cut_in_the_middle_of_the_gap() -> None:
    scores = torch.tensor([0.0, 0.2, 0.8, 1.0])
    threshold, accuracy = v.best_threshold(scores, torch.tensor([False, False, True, True]))
    assert threshold == pytest.approx(0.5)
    assert accuracy == 1.0


def test_scores_that_say_nothing_have_a_threshold_too() -> None:
    threshold, accuracy = v.best_threshold(torch.zeros(4), torch.tensor([True, True, False, False]))
    assert accuracy == 0.5
    assert abs(threshold) <= 1


@pytest.mark.parametrize("same", [torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)])
def test_one_kind_of_pair_alone_is_refused(same: Tensor) -> None:
    for metric in (v.best_threshold, v.roc_auc, v.equal_error_rate, v.accept_rate_at):
        with pytest.raises(ValueError, match="both same and different"):
            metric(torch.rand(3), same)


def test_auc_agrees_with_scikit_learn_and_with_counting(scored: tuple[Tensor, Tensor]) -> None:
    scores, same = scored
    wins = [float(s > d) + 0.5 * float(s == d) for s in scores[same] for d in scores[~same]]
    assert v.roc_auc(scores, same) == pytest.approx(sum(wins) / len(wins))
    assert v.roc_auc(scores, same) == pytest.approx(roc_auc_score(same, scores))


def test_equal_error_rate_of_known_scores() -> None:
    # At any threshold in 0.4..0.6 one of four same pairs is missed and one of four different ones accepted.
    scores = torch.tensor([0.3, 0.7, 0.8, 0.9, 0.1, 0.2, 0.35, 0.75])
    same = torch.tensor([True] * 4 + [False] * 4)
    rate, threshold = v.equal_error_rate(scores, same)
    assert rate == pytest.approx(0.25)
    assert 0.35 <= threshold <= 0.7


def test_equal_error_rate_equals_a_search(scored: tuple[Tensor, Tensor]) -> None:
    generator = torch.Generator().manual_seed(4)
    same = torch.arange(4000) < 2000
    scores = torch.randn(4000, generator=generator) + same * 2.0
    rate, threshold = v.equal_error_rate(scores, same)
    gaps = [
        (abs(float((scores[same] <= t).double().mean()) - float((scores[~same] > t).double().mean())), float(t))
        for t in scores
    ]
    assert rate == pytest.approx(float((scores[same] <= min(gaps)[1]).double().mean()), abs=1e-3)
    assert threshold == pytest.approx(min(gaps)[1], abs=1e-2)


def test_accept_rate_keeps_to_the_false_accept_rate(scored: tuple[Tensor, Tensor]) -> None:
    generator = torch.Generator().manual_seed(5)
    same = torch.arange(1000) < 500
    scores = torch.randn(1000, generator=generator) + same * 1.5
    for rate in (0.01, 0.1):
        accepted, threshold = v.accept_rate_at(scores, same, rate)
        assert float((scores[~same] > threshold).double().mean()) <= rate
        allowed = [t for t in scores.tolist() if float((scores[~same] > t).double().mean()) <= rate]
        assert accepted == pytest.approx(float((scores[same] > min(allowed) - 1e-6).double().mean()), abs=0.004)
        assert accepted == pytest.approx(float((scores.double()[same] > threshold).double().mean()))


def test_calibration_error_equals_a_loop_over_bins() -> None:
    generator = torch.Generator().manual_seed(6)
    probability = torch.rand(500, generator=generator, dtype=torch.float64)
    same = torch.rand(500, generator=generator) < probability**2
    weight = [0.5 / int((same == answer).sum()) for answer in same.tolist()]  # same and different count alike
    expected = 0.0
    for bin_ in range(15):
        inside = [i for i in range(500) if min(int(probability[i] * 15), 14) == bin_]
        expected += abs(sum(weight[i] * (float(probability[i]) - float(same[i])) for i in inside))
    assert v.expected_calibration_error(probability, same) == pytest.approx(expected)


def test_calibration_error_does_not_hang_on_how_many_pairs_are_same() -> None:
    """Probabilities for even odds, of pairs of which a tenth is same: they are as honest as of half and half."""
    generator = torch.Generator().manual_seed(8)
    same = torch.arange(40_000) % 10 == 0
    scores = torch.randn(40_000, generator=generator, dtype=torch.float64) + same * 2.0
    probability = torch.sigmoid(2 * scores - 2)  # the posterior at even odds
    assert v.expected_calibration_error(probability, same) < 0.02
    weight = torch.ones(1, 40_000, dtype=torch.float64)
    assert float(weighted.expected_calibration_error(probability, same, weight)) < 0.02


def test_honest_probabilities_have_a_small_calibration_error_and_boastful_ones_a_large_one() -> None:
    generator = torch.Generator().manual_seed(7)
    probability = torch.rand(20_000, generator=generator)
    same = torch.rand(20_000, generator=generator) < probability
    assert v.expected_calibration_error(probability, same) < 0.02
    assert v.expected_calibration_error((probability > 0.5).float(), same) > 0.2


def test_probabilities_outside_0_to_1_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        v.expected_calibration_error(torch.tensor([1.2]), torch.tensor([True]))


def test_weighted_metrics_count_a_pair_as_often_as_its_weight_says(scored: tuple[Tensor, Tensor]) -> None:
    scores, same = scored
    weight = torch.randint(1, 5, (3, 300), generator=torch.Generator().manual_seed(8))
    weight[0] = 1
    probability = scores.double().sigmoid()
    again = [torch.repeat_interleave(torch.arange(300), row) for row in weight]
    for found, expected in (
        (weighted.roc_auc(scores, same, weight.double()), [v.roc_auc(scores[i], same[i]) for i in again]),
        (
            weighted.equal_error_rate(scores, same, weight.double()),
            [v.equal_error_rate(scores[i], same[i])[0] for i in again],
        ),
        (
            weighted.accept_rate_at(scores, same, weight.double(), 0.1),
            [v.accept_rate_at(scores[i], same[i], 0.1)[0] for i in again],
        ),
        (
            weighted.expected_calibration_error(probability, same, weight.double()),
            [v.expected_calibration_error(probability[i], same[i]) for i in again],
        ),
    ):
        assert found.tolist() == pytest.approx(expected)
        assert len(set(found.tolist())) == 3


def test_weighted_metrics_of_a_clean_cut_are_perfect() -> None:
    scores, same = torch.tensor([0.9, 0.8, 0.2, 0.1]), torch.tensor([True, True, False, False])
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    assert weighted.roc_auc(scores, same, weight).tolist() == [1]
    assert weighted.equal_error_rate(scores, same, weight).tolist() == [0]
    assert weighted.accept_rate_at(scores, same, weight).tolist() == [1]
    assert weighted.equal_error_rate(scores, ~same, weight).tolist() == [1]
