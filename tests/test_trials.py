"""Acting out few-shot use: strengths that fit, heads that help, scores that are not flattered."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import cosine_similarity

from metasiam.evaluation.plans import choose_stretch
from metasiam.evaluation.prediction import FEWEST_DOMAINS, PENALTY, learn_prediction
from metasiam.evaluation.scored_pairs import ScoredPairs, accuracy_on_grid, score_images
from metasiam.evaluation.solved import Background, default_stretch, learn_background, leave_out_scores, solve_head
from metasiam.evaluation.thresholds import DEFAULT_STRENGTH, STRENGTHS, calibrate_globally
from metasiam.evaluation.trials import (
    ActedDomains,
    act_out,
    calibrate_on_trials,
    learn_strength,
    predict_from_trials,
    surely_higher,
)
from metasiam.evaluation.verification import all_triplets_accuracy, similarity_matrix


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def domains_with_thresholds(spread: float, seed: int, *, count: int = 10) -> tuple[dict[int, Tensor], Tensor]:
    """Domains whose images lie closer together or further apart, so that their best distances differ by ``spread``."""
    drawn = generator(seed)
    negatives = torch.randn(60, 8, generator=drawn)
    rows = {}
    for domain in range(count):
        width = math.exp(spread * (domain / (count - 1) - 0.5))
        rows[domain] = torch.randn(8, generator=drawn) * 0.7 + width * torch.randn(40, 8, generator=drawn)
    return rows, negatives


def nobody(negatives: Tensor) -> Tensor:
    """Owners that are none of the acted domains."""
    return torch.arange(len(negatives)) // 6 + 1000


def test_strength_learned_is_high_where_domains_agree_and_low_where_they_differ() -> None:
    found = []
    for spread in (0.0, 1.0):
        rows, negatives = domains_with_thresholds(spread, 1)
        owners, distance = nobody(negatives), "squared_euclidean"
        parts = [act_out(rows, negatives, owners, distance, generator(), k=k, draws=3) for k in (2, 5, 20)]
        found.append(learn_strength({domain: [t for part in parts for t in part[domain]] for domain in rows}))
    high, low = found
    assert high in STRENGTHS
    assert low < high


def test_strength_falls_back_to_its_default_without_domains_to_learn_on() -> None:
    negatives = torch.randn(10, 3, generator=generator(1))
    rows = {0: torch.randn(9, 3, generator=generator(2))}
    trials = act_out(rows, negatives, nobody(negatives), "cosine", generator(), k=3)
    assert learn_strength(trials) == DEFAULT_STRENGTH
    assert learn_strength({}) == DEFAULT_STRENGTH


def test_acting_out_never_tests_on_the_known_images_nor_on_a_domains_own_negatives() -> None:
    rows = {7: torch.eye(8)[:6] + 0.1}
    negatives = torch.cat((torch.randn(20, 8, generator=generator(3)), rows[7]))
    owners = torch.cat((torch.arange(20) % 4, torch.full((6,), 7)))
    (trial,) = act_out(rows, negatives, owners, "squared_euclidean", generator(), k=2)[7]
    assert int(trial.test.same.sum()) == 6  # the 4 · 3 / 2 pairs of the other four
    assert int((~trial.test.same).sum()) == 4 * 10  # half of the 20 negatives of other domains
    assert float(trial.test.scores.max()) < -0.1  # no image compared with itself


def test_acting_out_tests_against_as_many_images_of_other_new_domains_as_of_seen_ones() -> None:
    rows = {7: torch.eye(8)[:6] + 0.1, 8: torch.full((5, 8), 30.0)}
    negatives = torch.randn(40, 8, generator=generator(3))
    (trial,) = act_out(rows, negatives, nobody(negatives), "squared_euclidean", generator(), k=2)[7]
    different = trial.test.scores[~trial.test.same]
    assert int((different < -5000).sum()) == int((different > -5000).sum()) == 4 * 5
    assert float(trial.known.scores.min()) > -5000  # nothing is known of other new domains


def test_domains_with_too_few_images_are_left_out() -> None:
    negatives = torch.randn(10, 3, generator=generator(1))
    rows = {0: torch.randn(6, 3, generator=generator(2)), 1: torch.randn(7, 3, generator=generator(2))}
    assert list(act_out(rows, negatives, nobody(negatives), "cosine", generator(), k=5)) == [1]


@pytest.fixture
def space() -> tuple[Tensor, Tensor, Tensor]:
    """A domain that differs from others along one direction, which the embedding makes little of."""
    drawn = generator(5)
    negatives = torch.randn(200, 6, generator=drawn)
    own = torch.randn(40, 6, generator=drawn)
    negatives[:, 0] *= 0.3
    own[:, 0] = own[:, 0] * 0.3 + 1.2
    return own, negatives, torch.arange(200) // 10


@pytest.mark.parametrize("distance", ["cosine", "squared_euclidean"])
def test_a_solved_head_tells_a_domain_better_from_others(space: tuple[Tensor, Tensor, Tensor], distance: str) -> None:
    own, negatives, owners = space
    background = learn_background(negatives[::2], owners[::2], distance)
    head = solve_head(own[:8], background, 4.0, distance).float()
    before = all_triplets_accuracy(own[8:], negatives[1::2], distance)
    after = all_triplets_accuracy(own[8:] @ head.t(), negatives[1::2] @ head.t(), distance)
    assert after > before + 0.05


def test_the_direction_is_fishers() -> None:
    """Against the textbook: inverse within-class covariance times the difference of means."""
    drawn = generator(6)
    owners = torch.arange(30) // 5
    negatives, own = torch.randn(30, 4, generator=drawn).double(), torch.randn(5, 4, generator=drawn).double()
    within = torch.zeros(4, 4, dtype=torch.float64)
    for owner in range(6):
        block = negatives[owners == owner]
        for row in block:
            within += torch.outer(row - block.mean(0), row - block.mean(0)) / 30
    within += within.diagonal().mean() * torch.eye(4, dtype=torch.float64)
    direction = torch.linalg.solve(within, own.mean(0) - negatives.mean(0))
    direction /= direction.norm()
    background = learn_background(negatives, owners, "squared_euclidean")
    head = solve_head(own, background, 3.0, "squared_euclidean")
    assert torch.allclose(head, torch.eye(4, dtype=torch.float64) + 3 * torch.outer(direction, direction))


def test_no_stretch_and_one_image_change_nothing(space: tuple[Tensor, Tensor, Tensor]) -> None:
    own, negatives, owners = space
    background = learn_background(negatives, owners, "cosine")
    identity = torch.eye(6, dtype=torch.float64)
    assert torch.equal(solve_head(own, background, 0.0, "cosine"), identity)
    assert torch.equal(solve_head(own[:1], background, 2.0, "cosine"), identity)


@pytest.mark.parametrize("distance", ["cosine", "squared_euclidean"])
@pytest.mark.parametrize("count", [3, 7])
def test_left_out_scores_equal_solving_every_head_anew(
    space: tuple[Tensor, Tensor, Tensor], distance: str, count: int
) -> None:
    own, negatives, owners = space
    own, negatives = own[:count], negatives[:9]
    background = learn_background(space[1], owners, distance)

    def head_without(*left_out: int) -> Tensor:
        rest = torch.stack([own[i] for i in range(count) if i not in left_out])
        if distance == "cosine":
            rest = torch.nn.functional.normalize(rest, dim=1)
        mean = rest.double().mean(0)
        direction = background.precision @ (mean - background.mean)
        direction /= direction.norm()
        return (torch.eye(6, dtype=torch.float64) + 2 * torch.outer(direction, direction)).float()

    expected = []
    for i in range(count):
        for j in range(i + 1, count):
            head = head_without(i, j)
            expected.append(float(similarity_matrix(own[i : i + 1] @ head, own[j : j + 1] @ head, distance)))
    for i in range(count):
        head = head_without(i)
        expected += similarity_matrix(own[i : i + 1] @ head, negatives @ head, distance)[0].tolist()
    scores, same = leave_out_scores(own, negatives, background, 2.0, distance)
    assert scores.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert int(same.sum()) == count * (count - 1) // 2


def test_left_out_scores_are_not_flattered_where_a_heads_own_images_are(space: tuple[Tensor, Tensor, Tensor]) -> None:
    _, negatives, owners = space
    drawn = generator(8)
    background = learn_background(negatives, owners, "cosine")
    flattered, left_out, new = [], [], []
    for _ in range(30):
        own = torch.randn(14, 6, generator=drawn)  # nothing tells this domain from the others
        head = solve_head(own[:4], background, 6.0, "cosine").float()
        for rows, found in ((own[:4], flattered), (own[4:], new)):
            scores, same = score_images(rows @ head, negatives @ head, "cosine")
            found.append(float(scores[same].mean()))
        scores, same = leave_out_scores(own[:4], negatives, background, 6.0, "cosine")
        left_out.append(float(scores[same].mean()))
    mean = [sum(found) / 30 for found in (flattered, left_out, new)]
    assert mean[0] > mean[2] + 0.1
    assert mean[1] == pytest.approx(mean[2], abs=0.08)


def test_two_images_have_no_pair_to_leave_out(space: tuple[Tensor, Tensor, Tensor]) -> None:
    own, negatives, owners = space
    pairs = leave_out_scores(own[:2], negatives, learn_background(negatives, owners, "cosine"), 1.0, "cosine")
    assert not pairs.answerable


def acted(rows: dict[int, Tensor], negatives: Tensor) -> ActedDomains:
    return ActedDomains(rows, negatives, nobody(negatives), "cosine", "test")


def test_a_stretch_is_chosen_where_it_helps() -> None:
    drawn = generator(9)
    negatives = torch.randn(200, 6, generator=drawn)
    helped = {}
    for domain in range(6):
        rows = torch.randn(40, 6, generator=drawn)
        rows[:, domain] = 1.0 + 0.2 * rows[:, domain]
        helped[domain] = rows
    unadapted = calibrate_globally(
        {d: score_images(rows, negatives, "cosine") for d, rows in helped.items()}, strength=5, source="test"
    )
    chosen = choose_stretch(acted(helped, negatives), 10, unadapted, 0)
    assert chosen.plan.stretch > 0
    assert chosen.calibration is not unadapted
    assert choose_stretch(acted(helped, negatives), 1, unadapted, 0).plan.leaves_unadapted


def test_no_stretch_is_chosen_where_it_hurts() -> None:
    """Domains that scatter where the background hardly does: there two images' mean is chance, and stands out most."""
    drawn = generator(9)
    faint = torch.tensor([1.0, 1.0, 1.0, 0.05, 0.05, 0.05])
    scatter = torch.tensor([0.3, 0.3, 0.3, 2.0, 2.0, 2.0])
    negatives = faint * torch.randn(200, 6, generator=drawn)
    misleading = {
        domain: faint * torch.randn(6, generator=drawn) + scatter * torch.randn(40, 6, generator=drawn)
        for domain in range(6)
    }
    unadapted = calibrate_globally(
        {d: score_images(rows, negatives, "cosine") for d, rows in misleading.items()}, strength=5, source="test"
    )
    chosen = choose_stretch(acted(misleading, negatives), 2, unadapted, 0)
    accuracies = [row["triplet_accuracy"] for row in chosen.tried]
    assert accuracies == sorted(accuracies, reverse=True)
    assert chosen.plan.leaves_unadapted


def test_a_calibration_from_trials_fits_the_stretched_scores() -> None:
    drawn = generator(10)
    negatives = torch.randn(100, 6, generator=drawn)
    rows = {domain: torch.randn(6, generator=drawn) * 1.5 + torch.randn(30, 6, generator=drawn) for domain in range(8)}
    trials = acted(rows, negatives).trials(5, 4.0, 0)
    calibration = calibrate_on_trials(trials, strength=None, source="test")
    plain = calibrate_globally(
        {d: score_images(own, negatives, "cosine") for d, own in rows.items()}, strength=5, source="test"
    )

    def accuracy(threshold: float) -> float:
        right = [((t.test.scores > threshold) == t.test.same) for of in trials.values() for t in of]
        return sum(float(r.double().mean()) for r in right) / len(right)

    assert calibration.strength in STRENGTHS
    assert accuracy(calibration.threshold) >= accuracy(plain.threshold)


def test_a_prediction_is_the_ridge_regression_of_the_best_thresholds_on_the_mean_scores() -> None:
    drawn = generator(11)
    known = [ScoredPairs(torch.randn(9, generator=drawn) + i, torch.arange(9) < 3) for i in range(6)]
    best = [0.5 * i + float(torch.randn(1, generator=drawn)) for i in range(6)]
    inputs = [[sum(p.scores[:3].tolist()) / 3, sum(p.scores[3:].tolist()) / 6] for p in known]
    scaled = StandardScaler().fit_transform(inputs)
    expected = Ridge(alpha=PENALTY * 6).fit(scaled, best).predict(scaled)
    prediction = learn_prediction(known, best)
    assert [prediction.predict(pairs) for pairs in known] == pytest.approx(expected.clip(min(best), max(best)))


def test_a_predicted_threshold_suits_a_domain_that_is_like_everything_better_than_the_global_one() -> None:
    """Domains whose scores all lie higher or lower: five images place no threshold, but show how high it lies."""
    drawn = generator(12)
    negatives = torch.cat((torch.ones(200, 1) * 2, torch.randn(200, 12, generator=drawn)), 1)

    def domain(common: float) -> Tensor:
        centre = torch.randn(12, generator=drawn)
        rows = centre + torch.randn(40, 12, generator=drawn)
        return torch.cat((torch.full((40, 1), common), rows), 1)

    taught = {number: domain(float(torch.rand(1, generator=drawn)) * 6) for number in range(10)}
    new = {number: domain(float(torch.rand(1, generator=drawn)) * 6) for number in range(30)}
    calibration = calibrate_on_trials(
        acted(taught, negatives).trials(5, 0.0, 0), strength=None, source="", predict=True
    )
    gained = []
    for (trial,) in act_out(new, negatives, nobody(negatives), "cosine", generator(), k=5).values():
        tried = torch.tensor([calibration.for_task(trial.known, 5).threshold, calibration.threshold]).double()
        own, overall = accuracy_on_grid(trial.test, tried).tolist()
        gained.append(own - overall)
    assert sum(gained) / len(gained) > 0.01


def test_nothing_is_predicted_from_too_few_domains_nor_for_a_single_image() -> None:
    drawn = generator(13)
    negatives = torch.randn(60, 6, generator=drawn)
    rows = {domain: torch.randn(30, 6, generator=drawn) for domain in range(FEWEST_DOMAINS)}
    assert predict_from_trials(acted(rows, negatives).trials(5, 0.0, 0)) is not None
    assert predict_from_trials(acted(rows, negatives).trials(1, 0.0, 0)) is None
    del rows[0]
    assert predict_from_trials(acted(rows, negatives).trials(5, 0.0, 0)) is None


def test_default_stretches_grow_with_the_images_from_none_at_one() -> None:
    stretches = [default_stretch(k) for k in (0, 1, 2, 5, 20, 500)]
    assert stretches[:2] == [0, 0]
    assert stretches == sorted(stretches)
    assert stretches[-1] == 8


def test_sure_means_more_than_a_standard_error() -> None:
    base = torch.zeros(4)
    assert surely_higher(torch.tensor([1.0, 1.1, 0.9, 1.0]), base)
    assert not surely_higher(torch.tensor([3.0, -3.0, 2.0, -1.0]), base)
    assert not surely_higher(torch.tensor([5.0]), torch.zeros(1))


def test_a_background_of_single_images_can_be_inverted() -> None:
    background = learn_background(torch.randn(3, 5, generator=generator(1)), torch.arange(3), "cosine")
    assert isinstance(background, Background)
    assert bool(background.precision.isfinite().all())
    assert float(cosine_similarity(background.precision[0], background.precision[0], dim=0)) == pytest.approx(1)
