"""Intervals that cover, tests that agree with counting."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from metasiam.evaluation.resampling import as_percent, bootstrap_images, bootstrap_pairs
from metasiam.evaluation.statistics import (
    bootstrap_mean,
    mcnemar,
    over_trainings,
    paired_difference,
)
from metasiam.evaluation.weighted import roc_auc


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("tasks", "skewed"), [(3, False), (5, False), (10, False), (20, True), (40, True)])
def test_intervals_over_tasks_cover_the_true_accuracy(tasks: int, skewed: bool) -> None:
    """Tasks of true accuracy 0.8 on average, each measured with 100 answers: at least 93 % of intervals hold 0.8."""
    draw, rounds, covered = generator(tasks), 600, 0
    for _ in range(rounds):
        uniform = torch.rand(tasks, generator=draw)
        # Skewed: a few tasks are very hard; 0.9817 is the mean of an exponential that is cut off at 4.
        truth = 1 - 0.2 * (-uniform.log()).clamp(max=4) / 0.9817 if skewed else 0.7 + 0.2 * uniform
        measured = torch.bernoulli(truth.unsqueeze(1).expand(-1, 100), generator=draw).mean(1)
        low, high = bootstrap_mean(measured, draw, resamples=30)["ci95"]
        covered += low <= 0.8 <= high
    assert covered / rounds >= 0.93
    assert covered / rounds <= 0.99  # nor are they uselessly wide


def test_intervals_over_images_cover_where_pairs_share_images() -> None:
    """Pairs among 40 images of which some are harder than others: independent pairs would be far too sure."""
    draw, rounds, covered, naive = generator(1), 100, 0, 0
    for _ in range(rounds):
        hardness = torch.rand(40, generator=draw) * 0.5
        images = torch.randint(40, (2, 600), generator=draw)
        right = torch.bernoulli(1 - (hardness[images[0]] + hardness[images[1]]) / 2, generator=draw)
        found = bootstrap_images(right, images, draw, resamples=200)
        covered += found["ci95"][0] <= 0.75 <= found["ci95"][1]
        error = float(right.std()) / math.sqrt(600)
        naive += abs(found["mean"] - 0.75) <= 1.96 * error
    assert covered / rounds >= 0.93
    assert naive / rounds < covered / rounds


def test_any_statistic_of_pairs_gets_the_interval_of_their_images() -> None:
    images = torch.randint(40, (2, 300), generator=generator(2))
    right = torch.rand(300, generator=generator(3)) < 0.8
    share = bootstrap_pairs(lambda weight: weight @ right.double() / weight.sum(1), images, generator(4))
    plain = bootstrap_images(right, images, generator(4))
    assert share["mean"] == pytest.approx(plain["mean"])
    assert share["ci95"] == pytest.approx(plain["ci95"])
    assert share["n"] == 300


def test_intervals_of_the_auc_cover_where_pairs_share_images() -> None:
    """Scores carry an effect of each image, so that the AUC of many pairs is only as sure as their images are many."""
    draw, rounds, covered = generator(5), 100, 0
    truth = 0.8413  # Φ(1): same and different scores differ by 1, with variances that add up to 1
    for _ in range(rounds):
        effect = torch.randn(80, generator=draw) * 0.35
        images = torch.randint(80, (2, 400), generator=draw)
        same = torch.arange(400) < 200
        rest = (0.5 - 2 * 0.35**2) ** 0.5
        scores = same + effect[images].sum(0) + rest * torch.randn(400, generator=draw)
        low, high = bootstrap_pairs(partial(roc_auc, scores, same), images, draw, resamples=200)["ci95"]
        covered += low <= truth <= high
    assert covered / rounds >= 0.9


def test_means_are_plain_means_and_say_how_many() -> None:
    values = torch.tensor([0.5, 0.7, 0.9])
    found = bootstrap_mean(values, generator())
    assert found["mean"] == pytest.approx(0.7)
    assert found["n"] == 3
    assert found["ci95"][0] < 0.7 < found["ci95"][1]
    assert as_percent(found)["mean"] == pytest.approx(70)


def test_same_seed_same_interval() -> None:
    values = torch.rand(50, generator=generator(3))
    assert bootstrap_mean(values, generator(1)) == bootstrap_mean(values, generator(1))


def test_one_task_says_nothing_about_other_tasks() -> None:
    assert bootstrap_mean(torch.tensor([0.8]), generator())["ci95"] == [0.0, 1.0]


@pytest.mark.parametrize("noise", [0.0, 0.0002], ids=["equal", "nearly equal"])
@pytest.mark.parametrize("alike", [7, 9])
def test_tasks_of_like_accuracy_do_not_blow_the_interval_up(alike: int, noise: float) -> None:
    """Many resamples of such tasks hold no spread, or next to none, to be measured against."""
    measured = torch.tensor([0.9] * alike + [0.88, 0.87, 0.85][: 10 - alike])
    measured += noise * torch.arange(10)
    low, high = bootstrap_mean(measured, generator())["ci95"]
    assert 0.82 < low < float(measured.mean()) < high < 0.92
    difference = paired_difference([value.view(1) for value in measured], [torch.tensor([0.8])] * 10, generator())
    assert 0.03 < difference["ci95"][0] < difference["ci95"][1] < 0.12
    assert difference["p_value"] < 0.01


def test_an_interval_hardly_depends_on_the_random_stream() -> None:
    """Ten tasks: of 1,000 resamples alone the bounds' standard deviation is 3 % of the interval's width."""
    measured = torch.rand(10, generator=generator(3)) ** 0.5
    bounds = torch.tensor([bootstrap_mean(measured, generator(seed))["ci95"] for seed in range(20)])
    width = float((bounds[:, 1] - bounds[:, 0]).mean())
    assert float(bounds.std(0).max()) < 0.015 * width


def test_one_task_s_methods_are_compared_over_its_images() -> None:
    """Two equal methods whose answers depend on the image: as if pairs were independent, they would often differ."""
    draw, rounds = generator(5), 100
    apart = {"images": 0, "independent": 0}
    for _ in range(rounds):
        images = torch.randint(40, (2, 800), generator=draw)
        same = torch.arange(800) < 400
        answers = []
        for _ in range(2):
            ease = 0.75 + 0.12 * torch.randn(40, generator=draw)
            answers.append(torch.bernoulli(ease[images].mean(0).clamp(0, 1), generator=draw))
        for name, known in (("images", {"images": images, "same": same}), ("independent", {})):
            found = paired_difference([answers[0]], [answers[1]], draw, resamples=100, **known)
            assert (found["p_value"] < 0.05) == (not found["ci95"][0] <= 0 <= found["ci95"][1])
            apart[name] += found["p_value"] < 0.05
    assert apart["images"] <= 0.1 * rounds < apart["independent"]


def test_a_few_tasks_that_differ_by_the_very_same_decide_nothing() -> None:
    found = paired_difference([torch.tensor([0.83])] * 2, [torch.tensor([0.8])] * 2, generator())
    assert (found["ci95"], found["p_value"]) == ([-1.0, 1.0], 1.0)


def test_an_answer_that_is_always_the_same_is_surely_right_half_of_the_time() -> None:
    images = torch.randint(40, (2, 300), generator=generator(2))
    same = torch.arange(300) < 150
    assert bootstrap_images(same, images, generator(), same=same)["ci95"] == pytest.approx([0.5, 0.5])
    low, high = bootstrap_images(same, images, generator())["ci95"]
    assert high - low > 0.05


def test_same_and_different_pairs_count_alike_however_many_there_are_of_each() -> None:
    images = torch.randint(40, (2, 300), generator=generator(2))
    same = torch.arange(300) < 30
    found = bootstrap_images(~same, images, generator(), same=same)  # "different" to all: 90 % of these pairs
    assert found["mean"] == pytest.approx(0.5)
    assert found["ci95"] == pytest.approx([0.5, 0.5])
    right = torch.where(same, torch.arange(300) % 3 == 0, torch.arange(300) % 10 > 0)
    found = bootstrap_images(right, images, generator(), same=same)
    assert found["mean"] == pytest.approx((10 / 30 + 243 / 270) / 2)
    assert found["ci95"][0] < found["mean"] < found["ci95"][1]
    one = paired_difference([right], [~same], generator(), images=images, same=same)
    assert one["difference"] == pytest.approx((10 / 30 + 243 / 270) / 2 - 0.5)


def test_twenty_right_answers_are_no_proof_that_all_are() -> None:
    """Wilson's interval of 20 right answers of 20: 20 / (20 + 1.96²) = 83.9 % at least; and likewise of none."""
    images = torch.arange(40).view(2, 20)
    same = torch.arange(20) < 10
    for kinds in (None, same):
        found = bootstrap_images(torch.ones(20), images, generator(), same=kinds)
        assert found == {"mean": 1.0, "ci95": pytest.approx([0.8389, 1.0], abs=1e-4), "n": 20}
        none = bootstrap_images(torch.zeros(20), images, generator(), same=kinds)
        assert none["ci95"] == pytest.approx([0.0, 0.1611], abs=1e-4)
    shared = torch.stack((torch.arange(20), torch.zeros(20, dtype=torch.int64)))  # all with one image in common
    assert bootstrap_images(torch.ones(20), shared, generator())["ci95"][0] == pytest.approx(10 / 13.8415, abs=1e-4)
    perfect = bootstrap_pairs(partial(roc_auc, same.double(), same), images, generator())
    assert perfect["ci95"] == pytest.approx([0.8389, 1.0], abs=1e-4)
    gap = bootstrap_pairs(lambda weight: weight.sum(1) * 0, images, generator(), of_answers=False)
    assert gap["ci95"] == [0.0, 0.0]  # of no answers: a calibration error
    tasks = bootstrap_mean(torch.ones(3), generator(), answers=60)
    assert tasks["ci95"] == pytest.approx([60 / 63.8415, 1.0], abs=1e-4)
    assert bootstrap_mean(torch.full((3,), 0.9), generator(), answers=60)["ci95"] == pytest.approx([0.9, 0.9])


def test_values_that_are_not_finite_are_left_out_and_nothing_is_refused() -> None:
    assert bootstrap_mean(torch.tensor([0.5, math.nan, 0.7]), generator())["n"] == 2
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean(torch.tensor([math.nan]), generator())
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_images(torch.empty(0), torch.empty(2, 0, dtype=torch.int64), generator())


def test_a_paired_difference_is_the_mean_over_tasks_and_sees_what_unpaired_intervals_cannot() -> None:
    draw = generator(5)
    base = torch.rand(12, generator=draw)  # tasks differ a lot, the methods by little
    first = [torch.bernoulli((0.5 + 0.4 * b).expand(2000), generator=draw) for b in base]
    second = [torch.where(torch.rand(2000, generator=draw) < 0.03, torch.zeros(()), answers) for answers in first]
    found = paired_difference(first, second, draw)
    expected = sum(float(a.mean() - b.mean()) for a, b in zip(first, second, strict=True)) / 12
    assert found["difference"] == pytest.approx(expected)
    assert found["ci95"][0] > 0
    assert found["p_value"] < 0.01
    alone = bootstrap_mean(torch.stack([a.mean() for a in first]), draw)["ci95"]
    assert found["ci95"][1] - found["ci95"][0] < (alone[1] - alone[0]) / 3


def test_two_equal_methods_differ_significantly_in_about_one_comparison_of_twenty() -> None:
    draw, rounds, found = generator(6), 400, 0
    for _ in range(rounds):
        first = [torch.bernoulli(torch.full((200,), 0.8), generator=draw) for _ in range(8)]
        second = [torch.bernoulli(torch.full((200,), 0.8), generator=draw) for _ in range(8)]
        result = paired_difference(first, second, draw, resamples=20)
        excludes_zero = result["ci95"][0] > 0 or result["ci95"][1] < 0
        found += excludes_zero
        if not 0.03 < result["p_value"] < 0.07:  # the p-value says the same as the interval
            assert (result["p_value"] < 0.05) == excludes_zero
    assert found / rounds <= 0.075


def trained(draw: torch.Generator, *, tasks: torch.Tensor, trainings: int, spread: float) -> torch.Tensor:
    """Accuracies [S, T]: of tasks, plus the luck of each training, plus what is between the two."""
    luck = spread * torch.randn(trainings, 1, generator=draw, dtype=torch.float64)
    return tasks + luck + 0.005 * torch.randn(trainings, len(tasks), generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.05])
def test_intervals_over_trainings_cover_the_true_accuracy(spread: float) -> None:
    """Three trainings on ten tasks; without the trainings' part, intervals are too sure where training is chancy."""
    draw, rounds, covered, without = generator(11), 500, 0, 0
    for _ in range(rounds):
        tasks = 0.8 + 0.04 * torch.randn(10, generator=draw, dtype=torch.float64)
        values = trained(draw, tasks=tasks, trainings=3, spread=spread)
        plain = bootstrap_mean(values.mean(0), draw, resamples=20)
        low, high = over_trainings(plain, values.mean(1))["ci95"]
        covered += low <= 0.8 <= high
        without += plain["ci95"][0] <= 0.8 <= plain["ci95"][1]
    assert covered / rounds >= 0.93
    assert without / rounds <= 0.7 or spread < 0.05


@pytest.mark.parametrize("trainings", [2, 4])
def test_two_equal_methods_whose_trainings_are_chancy_are_rarely_told_apart(trainings: int) -> None:
    draw, rounds, found, once = generator(12), 200, 0, 0
    for _ in range(rounds):
        tasks = 0.8 + 0.04 * torch.randn(10, generator=draw, dtype=torch.float64)
        first, second = (trained(draw, tasks=tasks, trainings=trainings, spread=0.01) for _ in range(2))
        result = paired_difference(list(first.T.unsqueeze(2)), list(second.T.unsqueeze(2)), draw, resamples=20)
        assert result["difference"] == pytest.approx(float(first.mean() - second.mean()))
        excludes_zero = result["ci95"][0] > 0 or result["ci95"][1] < 0
        found += excludes_zero
        if not 0.03 < result["p_value"] < 0.07:
            assert (result["p_value"] < 0.05) == excludes_zero
        single = paired_difference(list(first[0].unsqueeze(1)), list(second[0].unsqueeze(1)), draw, resamples=20)
        once += single["p_value"] < 0.05
    assert found / rounds <= 0.075
    assert once / rounds > 0.5  # one training each: what differs is the luck of training, and looks like the method


def test_a_better_method_is_found_over_trainings_too() -> None:
    draw = generator(13)
    tasks = 0.8 + 0.04 * torch.randn(10, generator=draw, dtype=torch.float64)
    first = trained(draw, tasks=tasks + 0.05, trainings=3, spread=0.005)
    second = trained(draw, tasks=tasks, trainings=4, spread=0.005)  # as many of each are not needed
    result = paired_difference(list(first.T.unsqueeze(2)), list(second.T.unsqueeze(2)), draw)
    assert result["ci95"][0] > 0
    assert result["p_value"] < 0.01


def test_one_training_or_none_but_equal_ones_leave_the_interval_as_it_is() -> None:
    mean = bootstrap_mean(torch.rand(10, generator=generator(14)), generator())
    assert over_trainings(mean, torch.tensor([0.5])) == mean
    assert over_trainings(mean, torch.tensor([0.5, 0.5, 0.5])) == mean


def test_values_instead_of_answers_can_be_compared_too() -> None:
    first, second = [torch.tensor([0.9]), torch.tensor([0.8])], [torch.tensor([0.7]), torch.tensor([0.7])]
    assert paired_difference(first, second, generator())["difference"] == pytest.approx(0.15)


def test_one_tasks_single_value_decides_nothing() -> None:
    found = paired_difference([torch.tensor([0.9])], [torch.tensor([0.1])], generator())
    assert found["ci95"] == [-1.0, 1.0]
    assert found["p_value"] == 1.0


def test_different_pairs_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same tasks and pairs"):
        paired_difference([torch.rand(3)], [torch.rand(4)], generator())
    with pytest.raises(ValueError, match="same pairs"):
        mcnemar(torch.ones(3).bool(), torch.ones(4).bool())


def test_mcnemar_equals_counting_coin_tosses() -> None:
    first = torch.tensor([True] * 9 + [False] * 1 + [True] * 50)
    second = torch.tensor([False] * 9 + [True] * 1 + [True] * 50)
    tail = sum(math.comb(10, wins) for wins in (0, 1)) / 2**10
    assert mcnemar(first, second) == pytest.approx(2 * tail)
    assert mcnemar(second, first) == mcnemar(first, second)
    assert mcnemar(first, first) == 1.0


def test_mcnemar_of_many_pairs_is_the_corrected_chi_squared_test() -> None:
    first = torch.tensor([True] * 60 + [False] * 40)
    second = ~first
    statistic = (abs(60 - 40) - 1) ** 2 / 100
    assert mcnemar(first, second) == pytest.approx(math.erfc(math.sqrt(statistic / 2)))
