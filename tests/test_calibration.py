"""Thresholds and probabilities: learned on some pairs, right on others, never flattered."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from metasiam.evaluation.calibration import (
    CohortNormaliser,
    ProbabilityCalibrator,
    ThresholdCalibrator,
    crossfit_folds,
    shrink,
)
from metasiam.evaluation.prediction import learn_prediction
from metasiam.evaluation.scored_pairs import ScoredPairs, half_and_half, on_scale_of, score_images, thin
from metasiam.evaluation.thresholds import calibrate_globally
from metasiam.evaluation.verification import balanced_accuracy, expected_calibration_error


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_scores(count: int, seed: int, *, gap: float = 2.0, share_same: float = 0.5) -> ScoredPairs:
    """Normal scores of deviation 1, same ones higher by ``gap``."""
    same = torch.arange(count) < count * share_same
    return ScoredPairs(torch.randn(count, generator=generator(seed)) + same * gap, same)


@pytest.mark.parametrize("rule", ["balanced_accuracy", "eer"])
@pytest.mark.parametrize("share_same", [0.5, 0.02])
def test_thresholds_find_the_middle_however_rare_same_pairs_are(rule: str, share_same: float) -> None:
    calibrator = ThresholdCalibrator(rule).fit(*draw_scores(40_000, 1, share_same=share_same))  # type: ignore[arg-type]
    assert calibrator.threshold == pytest.approx(1.0, abs=0.2)
    assert calibrator.predict(torch.tensor([0.0, 2.0])).tolist() == [False, True]


def test_a_target_false_accept_rate_holds_on_new_pairs() -> None:
    calibrator = ThresholdCalibrator("far", target_far=0.05).fit(*draw_scores(20_000, 1))
    scores, same = draw_scores(20_000, 2)
    assert float(calibrator.predict(scores)[~same].double().mean()) == pytest.approx(0.05, abs=0.01)


def test_nothing_is_predicted_before_fitting() -> None:
    for calibrator in (ThresholdCalibrator(), ProbabilityCalibrator(), ProbabilityCalibrator("isotonic")):
        with pytest.raises(ValueError, match="fit"):
            calibrator.predict(torch.zeros(1))


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="rule"):
        ThresholdCalibrator("guess")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind"):
        ProbabilityCalibrator("guess")  # type: ignore[arg-type]


def test_platt_is_scikit_learns_logistic_regression() -> None:
    scores, same = draw_scores(500, 3)
    calibrator = ProbabilityCalibrator("platt").fit(scores, same)
    model = LogisticRegression(C=1e6).fit(scores.unsqueeze(1).numpy(), same.numpy())
    expected = model.predict_proba(scores.unsqueeze(1).numpy())[:, 1]
    assert calibrator.predict(scores).numpy() == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_probabilities_are_calibrated_on_new_pairs_and_never_fall(kind: str) -> None:
    fitted = ProbabilityCalibrator(kind).fit(*draw_scores(5000, 4, share_same=0.1))  # type: ignore[arg-type]
    scores, same = draw_scores(5000, 5)
    probability = fitted.predict(scores)
    assert expected_calibration_error(probability, same) < 0.05
    assert bool((probability[scores.argsort()].diff() >= 0).all())


def test_platt_survives_separable_scores() -> None:
    scores = torch.tensor([0.0, 0.1, 0.9, 1.0])
    fitted = ProbabilityCalibrator().fit(scores, scores > 0.5)
    assert bool(fitted.predict(scores).isfinite().all())
    assert float(fitted.predict(torch.tensor([0.5]))) == pytest.approx(0.5, abs=0.01)


def test_scores_that_rank_the_wrong_way_round_give_an_even_chance() -> None:
    scores, same = draw_scores(500, 6, gap=-2.0)
    assert ProbabilityCalibrator().fit(scores, same).predict(scores).tolist() == pytest.approx([0.5] * 500)


def test_a_curve_of_other_domains_lends_its_shape_to_a_domain_with_few_pairs() -> None:
    """Scores whose true curve is far from logistic, and moved from domain to domain."""

    def draw(count: int, seed: int, shift: float) -> ScoredPairs:
        scores, same = draw_scores(count, seed, gap=1.0)
        return ScoredPairs((2 * scores).sinh() + shift, same)

    base = ProbabilityCalibrator("isotonic").fit(*draw(5000, 1, 0.0))
    test, plain_errors, based_errors = draw(5000, 3, 0.3), [], []
    for seed in range(4, 10):
        few = draw(60, seed, 0.3)
        based = ProbabilityCalibrator("platt", base=base).fit(*few)
        plain = ProbabilityCalibrator("platt").fit(*few)
        based_errors.append(expected_calibration_error(based.predict(test.scores), test.same))
        plain_errors.append(expected_calibration_error(plain.predict(test.scores), test.same))
        assert torch.allclose(based.shrunk(1).predict(test.scores), based.predict(test.scores))
        nothing_own = based.shrunk(0).predict(test.scores)
        assert torch.allclose(nothing_own, base.predict(test.scores).clamp(1e-3, 1 - 1e-3))
    assert sum(based_errors) < sum(plain_errors)


def test_calibration_on_random_scores_does_not_beat_chance() -> None:
    found = []
    for seed in range(30):
        fit_on, test_on = draw_scores(200, 2 * seed, gap=0.0), draw_scores(2000, 2 * seed + 1, gap=0.0)
        found.append(balanced_accuracy(*test_on, ThresholdCalibrator().fit(*fit_on).threshold))
    assert sum(found) / len(found) == pytest.approx(0.5, abs=0.01)


def test_shuffled_answers_give_chance() -> None:
    scores, same = draw_scores(4000, 8)
    shuffled = same[torch.randperm(4000, generator=generator(9))]
    threshold = ThresholdCalibrator().fit(scores[:2000], shuffled[:2000]).threshold
    assert balanced_accuracy(scores[2000:], shuffled[2000:], threshold) == pytest.approx(0.5, abs=0.04)


def test_shrinkage_is_global_without_a_pair_and_the_tasks_own_with_very_many_images() -> None:
    assert shrink(0.8, 0.2, 0, 5) == shrink(0.8, 0.2, 1, 5) == 0.2
    assert shrink(0.8, 0.2, 5, 5) == pytest.approx(0.5)
    assert shrink(0.8, 0.2, 10**9, 5) == pytest.approx(0.8)
    assert shrink(0.8, 0.2, 2, 0) == pytest.approx(0.8)
    assert shrink(0.8, 0.2, 2, math.inf) == pytest.approx(0.2)
    closer = [abs(shrink(0.8, 0.2, k, 5) - 0.8) for k in (2, 5, 20, 500)]
    assert closer == sorted(closer, reverse=True)


def test_images_are_scored_as_a_loop_would() -> None:
    own, negatives = torch.randn(4, 3, generator=generator(1)), torch.randn(5, 3, generator=generator(2))
    scores, same = score_images(own, negatives, "squared_euclidean")
    pairs = [(own[i], own[j]) for i in range(4) for j in range(i + 1, 4)]
    pairs += [(own[i], negative) for i in range(4) for negative in negatives]
    assert scores.tolist() == pytest.approx([-float((a - b).square().sum()) for a, b in pairs], abs=1e-5)
    assert same.tolist() == [True] * 6 + [False] * 20


def test_global_calibration_counts_every_domain_the_same() -> None:
    many, few = draw_scores(20_000, 1), draw_scores(400, 2)
    moved = ScoredPairs(few.scores + 3, few.same)
    together = calibrate_globally({0: many, 1: moved}, strength=5, source="test")
    mirrored = calibrate_globally(
        {0: draw_scores(400, 3), 1: ScoredPairs(draw_scores(20_000, 4).scores + 3, draw_scores(20_000, 4).same)},
        strength=5,
        source="test",
    )
    assert together.threshold == pytest.approx(mirrored.threshold, abs=0.8)


def test_a_task_is_calibrated_globally_at_0_and_1_images_and_by_its_own_pairs_from_2() -> None:
    overall = calibrate_globally({0: draw_scores(2000, 1)}, strength=5, source="test")
    own = ScoredPairs(draw_scores(2000, 2).scores + 4, draw_scores(2000, 2).same)
    for k in (0, 1):
        task = overall.for_task(own, k)
        assert task.threshold == overall.threshold
        assert task.probability is overall.probability
    five, many = overall.for_task(own, 5), overall.for_task(own, 5000)
    assert overall.threshold < five.threshold < many.threshold
    assert many.threshold == pytest.approx(5, abs=0.3)
    near, far = many.probability.predict(torch.tensor([4.0, 8.0])).tolist()
    assert near < 0.5 < far


def test_few_images_place_a_threshold_by_equal_errors_and_many_by_the_best_cut() -> None:
    """Same pairs in two heaps: the best cut lies below the lower one, errors are equal within the heaps."""
    same = torch.cat((torch.linspace(0.0, 0.1, 300), torch.linspace(0.9, 1.0, 700)))
    different = torch.cat((torch.linspace(-1.0, -0.9, 600), torch.linspace(0.0, 0.2, 400)))
    pairs = ScoredPairs(torch.cat((same, different)), torch.arange(2000) < 1000)
    calibration = calibrate_globally({0: pairs}, strength=0, source="test")
    few, many = (calibration.for_task(pairs, k).threshold for k in (99, 100))
    assert many == calibration.for_task(pairs, 5, rule="balanced_accuracy").threshold
    assert few == calibration.for_task(pairs, 200, rule="eer").threshold
    assert few != many


def test_a_predicted_threshold_counts_half_beside_the_domains_own() -> None:
    overall = calibrate_globally({0: draw_scores(2000, 1)}, strength=5, source="test")
    own = ScoredPairs(draw_scores(2000, 2).scores + 4, draw_scores(2000, 2).same)
    prediction = learn_prediction([own, own], [7.0, 7.0])
    shrunk = overall.for_task(own, 5).threshold
    assert replace(overall, prediction=prediction).for_task(own, 5).threshold == pytest.approx((shrunk + 7) / 2)


def test_half_and_half_takes_as_many_of_each_spread_over_the_longer() -> None:
    first, second = torch.arange(10.0).unsqueeze(1), torch.tensor([[50.0], [51.0], [52.0]])
    assert half_and_half(first, second).flatten().tolist() == [0, 4, 9, 50, 51, 52]
    assert torch.equal(half_and_half(first, second[:0]), first)
    assert torch.equal(half_and_half(first[:0], second), second)


def test_thinning_keeps_the_shape_of_the_scores() -> None:
    pairs = draw_scores(10_000, 1)
    thinned = thin(pairs, 500)
    assert int(thinned.same.sum()) == int((~thinned.same).sum()) == 500
    assert float(thinned.scores[thinned.same].mean()) == pytest.approx(float(pairs.scores[pairs.same].mean()), abs=0.01)


def test_cohort_scores_equal_a_loop_and_take_an_images_own_level_out() -> None:
    rows, cohort = torch.randn(6, 4, generator=generator(1)), torch.randn(9, 4, generator=generator(2))
    normaliser = CohortNormaliser(cohort, "cosine", nearest=5)
    first, second = torch.tensor([0, 1]), torch.tensor([2, 3])
    cosine = torch.nn.functional.cosine_similarity
    raw = cosine(rows[first], rows[second])
    expected = []
    for score, a, b in zip(raw, first, second, strict=True):
        parts = []
        for image in (a, b):
            against = cosine(rows[image].expand(9, 4), cohort).sort(descending=True).values[:5]
            parts.append((score - against.mean()) / against.std())
        expected.append(float(sum(parts) / 2))
    assert normaliser.normalise(raw, rows, first, second).tolist() == pytest.approx(expected, abs=1e-4)


def test_a_cohort_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="two prototypes"):
        CohortNormaliser(torch.randn(1, 4), "cosine")


def test_folds_never_score_an_image_that_they_adapt_on_and_score_each_once() -> None:
    images = torch.arange(100, 111)
    folds = crossfit_folds(images, generator(), folds=3)
    for adapt_on, score_on in folds:
        assert not set(adapt_on.tolist()) & set(score_on.tolist())
        assert sorted([*adapt_on.tolist(), *score_on.tolist()]) == images.tolist()
        assert len(score_on) >= 2
    assert sorted(torch.cat([score for _, score in folds]).tolist()) == images.tolist()


def test_too_few_images_to_cross_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4 images"):
        crossfit_folds(torch.arange(3), generator())


def test_scores_brought_to_anothers_scale_keep_their_share_of_different_pairs_above() -> None:
    here, elsewhere = draw_scores(4000, 5), draw_scores(4000, 6)
    there = elsewhere.scores[~elsewhere.same] ** 3 + 7  # the same shape, bent
    moved = on_scale_of(here, there)
    assert torch.equal(moved.same, here.same)
    assert bool((moved.scores[here.scores.argsort()].diff() >= 0).all())
    for threshold in (5.0, 7.0, 7.5):
        share = float((moved.scores[~moved.same] > threshold).double().mean())
        assert share == pytest.approx(float((there > threshold).double().mean()), abs=0.002)


def test_scores_beyond_all_different_pairs_keep_their_distance() -> None:
    here = ScoredPairs(torch.tensor([9.0, 0.0, 1.0, 2.0, -3.0]), torch.tensor([True, False, False, False, True]))
    moved = on_scale_of(here, torch.tensor([10.0, 11.0, 12.0]))
    assert moved.scores.tolist() == pytest.approx([19, 10, 11, 12, 7])
