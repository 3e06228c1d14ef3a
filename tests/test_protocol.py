"""The whole evaluation: what it returns, that nothing leaks from test images, that its draws are shared."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from listeners import Heard
from torch import Tensor, nn

from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split, split_domains
from metasiam.errors import MetaSiamError
from metasiam.evaluation import plans
from metasiam.evaluation.adaptation import AdaptationPlan
from metasiam.evaluation.comparison import compare_evaluations
from metasiam.evaluation.draws import draw_protocol
from metasiam.evaluation.plans import ChosenPlan, choose_plan, default_plan, gradient_candidates
from metasiam.evaluation.protocol import evaluate
from metasiam.evaluation.result import METRIC_NAMES, THRESHOLD_KINDS, Evaluation
from metasiam.evaluation.scored_pairs import score_images
from metasiam.evaluation.thresholds import DEFAULT_STRENGTH, Calibration, calibrate_globally
from metasiam.evaluation.trainings import pool
from metasiam.evaluation.verification import best_threshold
from metasiam.models.files import EmbedderInfo
from metasiam.options.evaluation import ProtocolSettings


class TinyEmbedder(nn.Module):
    """Pooled colours and a linear layer, for images of 8 × 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_size = 6
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 6),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


INFO = EmbedderInfo("tiny", image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
QUICK = ProtocolSettings(
    pairs=40, triplets=40, episodes=20, support_draws=5, queries=3, bootstrap=100, shots=(0, 1, 4, "all"), adapt_steps=2
)


@pytest.fixture(scope="module")
def domains(tiny_domains: Callable[..., DomainSet]) -> DomainSet:
    return tiny_domains(12, 16, test_images=6)


@pytest.fixture(scope="module")
def embedder() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyEmbedder().eval()


@pytest.fixture(scope="module")
def split(domains: DomainSet) -> Split:
    return split_domains(domains, held_out=5, validation=3)


@pytest.fixture(scope="module")
def evaluation(embedder: nn.Module, domains: DomainSet, split: Split) -> Evaluation:
    return evaluate(embedder, INFO, domains, split, QUICK)


def means_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "mean" in value and "ci95" in value:
            yield value
        for inner in value.values():
            yield from means_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from means_in(inner)


def with_test_images(domains: DomainSet, images: Tensor) -> DomainSet:
    return replace(domains, images=images)


def test_the_result_has_the_documented_form(evaluation: Evaluation) -> None:
    data = evaluation.data
    assert data["schema"] == 1
    assert list(data["seen"]) == ["closed"]
    assert list(data["seen"]["closed"]) == ["0"]
    for regime in ("closed", "antidomain"):
        assert list(data["held_out"][regime]) == ["0", "1", "4", "all"]
        for metrics in data["held_out"][regime].values():
            assert set(metrics) == {"triplet_accuracy", "pair_accuracy", "auc", "eer", "tar_at_far_1pct", "ece"}
            assert set(metrics["pair_accuracy"]) == set(THRESHOLD_KINDS)
            assert metrics["triplet_accuracy"]["n"] == 5
    assert set(data["held_out"]["episodes"]) == {"5-way 1-shot", "5-way 5-shot", "all-way 1-shot"}
    rows = data["held_out"]["tasks"]
    assert len(rows) == 2 * 4 * 5
    assert set(rows[0]) == {
        "task", "name", "regime", "shots", "triplet_accuracy", "pair_accuracy_fixed", "pair_accuracy_calibrated",
        "threshold", "auc", "n_pairs",
    }  # fmt: skip
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_every_mean_lies_in_its_interval_and_in_range(evaluation: Evaluation) -> None:
    means = list(means_in(evaluation.data))
    assert len(means) > 100
    for mean in means:
        low, high = mean["ci95"]
        assert 0 <= low <= mean["mean"] + 1e-9
        assert mean["mean"] - 1e-9 <= high <= 100


def test_means_of_the_metrics_are_the_means_of_the_task_rows(evaluation: Evaluation) -> None:
    held_out = evaluation.data["held_out"]
    for shots, metrics in held_out["antidomain"].items():
        rows = [r for r in held_out["tasks"] if r["regime"] == "antidomain" and r["shots"] == shots]
        mean = sum(r["triplet_accuracy"]["mean"] for r in rows) / 5
        assert metrics["triplet_accuracy"]["mean"] == pytest.approx(mean)
        calibrated = sum(r["pair_accuracy_calibrated"]["mean"] for r in rows) / 5
        assert metrics["pair_accuracy"]["per_task"]["mean"] == pytest.approx(calibrated)


def test_the_oracle_is_never_beaten(evaluation: Evaluation) -> None:
    for result in evaluation.results:
        best = float(result.pairs_right("oracle").double().mean())
        assert best == pytest.approx(best_threshold(result.scores, result.same)[1])
        for kind in THRESHOLD_KINDS:
            assert float(result.pairs_right(kind).double().mean()) <= best + 1e-9


def test_per_task_thresholds_are_global_at_0_and_1_images(evaluation: Evaluation) -> None:
    for result in evaluation.results:
        if result.shots in ("0", "1"):
            assert result.thresholds["per_task"] == result.thresholds["global"]
    own = {r.thresholds["per_task"] for r in evaluation.select("held_out", "antidomain", "all")}
    assert len(own) == 5


def test_the_same_seed_gives_the_same_result_and_the_embedder_is_left_alone(
    embedder: nn.Module, domains: DomainSet, split: Split, evaluation: Evaluation
) -> None:
    before = copy.deepcopy(embedder.state_dict())
    again = evaluate(embedder, INFO, domains, split, QUICK, draws=draw_protocol(domains, split, QUICK))
    assert again.data == evaluation.data
    assert all(torch.equal(value, before[name]) for name, value in embedder.state_dict().items())
    assert not embedder.training


@pytest.mark.parametrize("steps", [2, None], ids=["given", "chosen"])
def test_nothing_learned_depends_on_test_images(
    embedder: nn.Module, domains: DomainSet, split: Split, steps: int | None
) -> None:
    """Thresholds, plans and adapted weights stay the same when every test image is replaced by noise."""
    noise = torch.randint(0, 256, domains.images.shape, generator=torch.Generator().manual_seed(9), dtype=torch.uint8)
    test = domains.is_test.view(-1, 1, 1, 1)
    settings = replace(QUICK, adapt_steps=steps)
    evaluation = evaluate(embedder, INFO, domains, split, settings)
    other = with_test_images(domains, torch.where(test, noise, domains.images))
    noisy = evaluate(embedder, INFO, other, split, settings)
    changed = 0
    for ours, theirs in zip(evaluation.results, noisy.results, strict=True):
        for kind in ("fixed", "global", "per_task"):
            assert ours.thresholds[kind] == theirs.thresholds[kind]
        changed += not torch.equal(ours.scores, theirs.scores)
    assert changed == len(evaluation.results)
    for key in ("plans", "plans_tried", "global_threshold", "shrinkage_strength"):
        assert evaluation.data["protocol"][key] == noisy.data["protocol"][key]


def test_adapted_scores_depend_on_the_adaptation_images(
    embedder: nn.Module, domains: DomainSet, split: Split, evaluation: Evaluation
) -> None:
    held_out = torch.isin(domains.labels, torch.tensor(split.held_out)) & ~domains.is_test
    other = torch.where(held_out.view(-1, 1, 1, 1), 255 - domains.images, domains.images)
    changed = evaluate(embedder, INFO, with_test_images(domains, other), split, QUICK)
    for shots, same in (("0", True), ("all", False)):
        ours = evaluation.select("held_out", "antidomain", shots)
        theirs = changed.select("held_out", "antidomain", shots)
        assert all(torch.equal(a.scores, b.scores) == same for a, b in zip(ours, theirs, strict=True))


def test_shuffled_labels_give_an_even_chance(embedder: nn.Module, tiny_domains: Callable[..., DomainSet]) -> None:
    domains = tiny_domains(10, 60, test_images=50)
    shuffled = domains.labels.clone()
    for part in (False, True):  # test images stay test images; only which domain they are said to be of is mixed up
        places = (domains.is_test == part).nonzero().flatten()
        drawn = torch.randperm(len(places), generator=torch.Generator().manual_seed(2))
        shuffled[places] = domains.labels[places[drawn]]
    mixed_up = replace(domains, labels=shuffled)
    settings = replace(QUICK, pairs=2000, triplets=2000, shots=(0, "all"), episodes=0, regimes=("antidomain",))
    found = evaluate(embedder, INFO, mixed_up, split_domains(mixed_up, held_out=5), settings).data
    for metrics in found["held_out"]["antidomain"].values():
        assert metrics["triplet_accuracy"]["mean"] == pytest.approx(50, abs=4)
        assert 100 * metrics["auc"]["mean"] == pytest.approx(50, abs=4)
        for kind in ("fixed", "global", "per_task"):
            assert metrics["pair_accuracy"][kind]["mean"] == pytest.approx(50, abs=3)


def test_draws_do_not_depend_on_the_other_settings(domains: DomainSet, split: Split) -> None:
    all_of_it = draw_protocol(domains, split, QUICK)
    less = draw_protocol(domains, split, replace(QUICK, shots=(0, 4), regimes=("antidomain",), episodes=0, seen=False))
    pairs = {(d.part, d.regime, d.domain): d.pairs for d in all_of_it.tasks}
    for draw in less.tasks:
        assert torch.equal(draw.pairs.first, pairs[draw.part, draw.regime, draw.domain].first)
    assert torch.equal(less.shots["4"][11], all_of_it.shots["4"][11])


def test_adaptation_images_are_nested_training_images_of_the_domain(domains: DomainSet, split: Split) -> None:
    draws = draw_protocol(domains, split, QUICK)
    for domain in split.held_out:
        one, four, all_ = (set(draws.shots[k][domain].tolist()) for k in ("1", "4", "all"))
        assert one < four < all_
        assert (len(one), len(four), len(all_)) == (1, 4, 10)
        index = torch.tensor(sorted(all_))
        assert bool((domains.labels[index] == domain).all())
        assert not bool(domains.is_test[index].any())


def test_calibration_and_adaptation_use_seen_training_images_apart(domains: DomainSet, split: Split) -> None:
    draws = draw_protocol(domains, split, QUICK)
    for index in (draws.negatives, draws.adaptation_negatives):
        assert len(index) > 0
        assert not bool(domains.is_test[index].any())
        assert set(domains.labels[index].tolist()) == set(split.seen)
    assert not set(draws.negatives.tolist()) & set(draws.adaptation_negatives.tolist())


def test_regimes_take_negatives_from_where_they_say(domains: DomainSet, split: Split) -> None:
    for draw in draw_protocol(domains, split, QUICK).tasks:
        first, second, same = draw.pairs
        assert set(domains.labels[first].tolist()) == {draw.domain}
        assert bool(domains.is_test[draw.images].all())
        others = set(domains.labels[second[~same]].tolist())
        allowed = set(split.held_out if (draw.part, draw.regime) == ("held_out", "closed") else split.seen)
        assert others <= allowed - {draw.domain}
        assert set(domains.labels[second[same]].tolist()) == {draw.domain}
        assert int(same.sum()) * 2 == len(same)


def test_without_validation_domains_the_protocol_says_where_its_threshold_is_from(
    embedder: nn.Module, domains: DomainSet
) -> None:
    parts = split_domains(domains, held_out=5)
    protocol = evaluate(embedder, INFO, domains, parts, replace(QUICK, adapt_steps=None, shots=(0, 4))).data["protocol"]
    assert protocol["global_threshold_from"] == "seen domains' training images"
    assert protocol["shrinkage_strength"] == DEFAULT_STRENGTH
    assert protocol["plans"]["4"]["steps"] == 0
    assert protocol["plans"]["4"]["stretch"] == pytest.approx(0.8)
    assert protocol["plans"]["4"]["chosen_on"] == "defaults"


def test_the_seeds_steps_are_the_default_for_all_images_only() -> None:
    settings = ProtocolSettings()
    assert default_plan("all", settings).plan == AdaptationPlan(steps=30, rate=1e-3)
    assert not default_plan(20, settings).plan.trains
    assert default_plan(1, settings).plan.leaves_unadapted
    assert default_plan(20, replace(settings, adapt_steps=7)).plan.steps == 7
    assert default_plan(0, replace(settings, adapt_steps=7)).plan.leaves_unadapted


def some_calibration() -> Calibration:
    rows = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    return calibrate_globally({0: score_images(rows[:10] + 1, rows[10:], "cosine")}, strength=5, source="test")


def test_harmful_adaptation_is_not_chosen_on_validation_domains(
    embedder: nn.Module, domains: DomainSet, split: Split
) -> None:
    draws = draw_protocol(domains, split, QUICK)
    unsolved = ChosenPlan(AdaptationPlan(steps=0), "validation domains", some_calibration())
    negatives = draws.adaptation_negatives, draws.negatives
    arguments = (embedder, INFO, domains, split, 4, *negatives, unsolved, some_calibration())
    ruinous = [AdaptationPlan(steps=2, rate=50.0, batch=8)]
    chosen = choose_plan(*arguments, replace(QUICK, adapt_steps=None), candidates=ruinous)
    assert chosen.plan.leaves_unadapted
    assert chosen.chosen_on == "validation domains"
    assert [row["steps"] for row in chosen.tried] == [0, 2, 2]
    assert chosen.tried[0]["triplet_accuracy"] >= max(row["triplet_accuracy"] for row in chosen.tried) - 1


def test_plans_are_chosen_for_every_number_of_images_and_never_surely_lose(
    embedder: nn.Module, domains: DomainSet, split: Split
) -> None:
    protocol = evaluate(embedder, INFO, domains, split, replace(QUICK, adapt_steps=None)).data["protocol"]
    assert set(protocol["plans"]) == {"0", "1", "4", "all"}
    assert protocol["plans"]["1"]["steps"] == protocol["plans"]["1"]["stretch"] == 0
    for shots in ("4", "all"):
        tried = protocol["plans_tried"][shots]
        unadapted = [t["triplet_accuracy"] for t in tried if t["steps"] == 0 and t["stretch"] == 0]
        best = max(t["triplet_accuracy"] for t in tried)
        assert best >= max(unadapted)
        assert {t["steps"] for t in tried} > {0}
        assert {t["stretch"] for t in tried} > {0.0, 0.5, 8.0}


def test_a_plan_is_tried_on_images_that_it_was_not_adapted_to(
    embedder: nn.Module, domains: DomainSet, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted_to: set[int] = set()
    tested_on: set[int] = set()
    path, embed = plans.adaptation_path, plans.embed_images

    def adaptation_path(embedder, info, domains, images, negatives, *others, **options):
        adapted_to.update(torch.cat((images, negatives)).tolist())
        return path(embedder, info, domains, images, negatives, *others, **options)

    def embed_images(embedder, info, domains, index, **options):
        tested_on.update(index.tolist())
        return embed(embedder, info, domains, index, **options)

    monkeypatch.setattr(plans, "adaptation_path", adaptation_path)
    monkeypatch.setattr(plans, "embed_images", embed_images)
    one = replace(split, validation=split.validation[:1])  # another one's images may be tested on where it is not used
    evaluate(embedder, INFO, domains, one, replace(QUICK, adapt_steps=None, shots=(4, "all")))
    assert adapted_to
    assert tested_on
    # Of the validation domain itself, four fifths are adapted to where all are, and others tested on where four are.
    own = set((domains.labels == one.validation[0]).nonzero().flatten().tolist())
    assert not (adapted_to & tested_on) - own


def test_an_embedder_without_batch_norm_is_adapted_by_what_it_has(domains: DomainSet, split: Split) -> None:
    plain = TinyEmbedder()
    plain.layers[1] = nn.Identity()
    settings = replace(QUICK, adapt_steps=None, shots=(5,), seen=False)
    tried = evaluate(plain.eval(), INFO, domains, split, settings).data["protocol"]["plans_tried"]["5"]
    assert {row["part"] for row in tried if row["steps"]} == {"all"}


def test_gradient_plans_are_gentler_with_fewer_images() -> None:
    assert gradient_candidates(1) == ()
    few, more = (sum(plan.steps * plan.rate for plan in gradient_candidates(k)) for k in (5, 20))
    assert few < more < 0.1
    assert all(plan.batch < 128 for plan in gradient_candidates(20))
    assert gradient_candidates("all") == (AdaptationPlan(steps=30, rate=1e-3),)


def test_one_held_out_domain_has_no_closed_regime(embedder: nn.Module, domains: DomainSet) -> None:
    found = evaluate(embedder, INFO, domains, split_domains(domains, held_out=1), replace(QUICK, shots=(0, 4))).data
    assert "closed" not in found["held_out"]
    metrics = found["held_out"]["antidomain"]["0"]
    assert metrics["triplet_accuracy"]["n"] == 40  # one task: the interval is over its images
    assert metrics["triplet_accuracy"]["ci95"] != [0, 100]


def test_no_held_out_domain_leaves_only_the_seen_part(embedder: nn.Module, domains: DomainSet) -> None:
    found = evaluate(embedder, INFO, domains, split_domains(domains, held_out=0), QUICK).data
    assert "seen" in found
    assert "held_out" not in found


def test_squared_distances_and_mirrored_embeddings_work_too(
    embedder: nn.Module, domains: DomainSet, split: Split
) -> None:
    info = replace(INFO, distance="squared_euclidean")
    found = evaluate(embedder, info, domains, split, replace(QUICK, mirror=True, adapt_part="head"))
    assert found.data["protocol"]["distance"] == "squared_euclidean"
    assert all(float(result.scores.max()) <= 0 for result in found.results)


def test_a_head_on_the_embeddings_equals_embedding_again(
    embedder: nn.Module, domains: DomainSet, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(QUICK, shots=("all",), adapt_part="head", episodes=0)
    quick = evaluate(embedder, INFO, domains, split, settings)
    monkeypatch.setattr("metasiam.evaluation.protocol.HeadedEmbedder", str)  # so nothing is one
    slow = evaluate(embedder, INFO, domains, split, settings)
    for a, b in zip(quick.results, slow.results, strict=True):
        assert torch.allclose(a.scores, b.scores, atol=1e-5)


def test_accuracy_over_steps_starts_unadapted_and_ends_at_the_adapted_score(
    embedder: nn.Module, domains: DomainSet, split: Split
) -> None:
    found = evaluate(embedder, INFO, domains, split, replace(QUICK, curve_steps=(0, 1, 2))).data["held_out"]
    curve = {point["steps"]: point["triplet_accuracy"]["mean"] for point in found["adaptation_steps"]["all"]}
    assert sorted(curve) == [0, 1, 2]
    assert curve[0] == pytest.approx(found["closed"]["0"]["triplet_accuracy"]["mean"])
    assert curve[2] == pytest.approx(found["closed"]["all"]["triplet_accuracy"]["mean"])


def test_progress_is_told(embedder: nn.Module, domains: DomainSet, split: Split) -> None:
    heard = Heard()
    settings = replace(QUICK, shots=("all",))
    evaluate(embedder, INFO, domains, split, settings, listener=heard)
    assert any("adapting" in what for what, _, _ in heard.steps)
    assert all(0 <= done <= total for _, done, total in heard.steps)


def test_the_table_names_every_task(evaluation: Evaluation) -> None:
    lines = evaluation.table().splitlines()
    assert sum("domain 11" in line for line in lines) == 8
    assert sum(" mean " in line for line in lines) == 9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(QUICK, shots=(11,)), "--adapt-shots 11 is more than domain 'domain 07' has: 10"),
        (replace(QUICK, shots=(0, 50)), "--adapt-shots 50"),
    ],
)
def test_more_images_than_there_are_is_refused(
    embedder: nn.Module, domains: DomainSet, split: Split, settings: ProtocolSettings, message: str
) -> None:
    with pytest.raises(MetaSiamError, match=message):
        evaluate(embedder, INFO, domains, split, settings)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"pairs": 1}, "--pairs 1 "),
        ({"queries": 0}, "--queries must be at least 1, not 0"),
        ({"triplets": 1.5}, "triplets must be a whole number, not 1.5"),
        ({"shots": "all"}, "shots must be a tuple, not 'all'"),
        ({"threshold": float("nan")}, "threshold must be a finite number, not nan"),
        ({"adapt_part": "last"}, "--adapt-part last is unknown. Use one of: all, last_block"),
        ({"shots": (-1,)}, "--adapt-shots -1 "),
        ({"shots": ("some",)}, "--adapt-shots 'some' "),
        ({"regimes": ("open",)}, "the regime open "),
        ({"adapt_steps": -1}, "--adapt-steps must not be negative, not -1"),
        ({"adapt_rate": 0.0}, "--adapt-rate must be a positive number, not 0.0"),
        ({"bootstrap": 3}, "--bootstrap must be at least 100, not 3"),
        ({"folds": 1}, "--folds must be at least 2, not 1"),
        ({"protocols": ("mine",)}, "--protocol takes"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_words(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(MetaSiamError, match=words):
        replace(QUICK, **wrong)


@pytest.mark.parametrize("validation", [0, 3], ids=["seen", "validation"])
def test_domains_of_one_training_image_each_cannot_choose_a_threshold(
    tiny_domains: Callable[..., DomainSet], embedder: nn.Module, validation: int
) -> None:
    few = tiny_domains(10, 5, test_images=4)
    parts = split_domains(few, held_out=3, validation=validation)
    with pytest.raises(MetaSiamError, match=rf"{validation or 7} domains with a single training image"):
        evaluate(embedder, INFO, few, parts, replace(QUICK, shots=(0,)))
    # The published systems' own measurements need no threshold.
    reference = evaluate(embedder, INFO, few, parts, replace(QUICK, shots=(0,), protocols=("reference",)))
    assert "few_shot" in reference.data["reference_protocol"]


def test_a_method_compared_with_itself_has_no_difference(evaluation: Evaluation) -> None:
    rows = compare_evaluations({"a": evaluation, "b": evaluation}, resamples=100)
    assert len(rows) == 2 * 4 * len(METRIC_NAMES) + 3
    for row in rows:
        assert row["difference"] == 0
        assert row["p_value"] == 1
        assert row["ci95"][0] <= 0 <= row["ci95"][1]


def test_a_worse_method_is_found_worse(embedder: nn.Module, domains: DomainSet, split: Split) -> None:
    settings = replace(QUICK, shots=(0,), pairs=200, triplets=200)
    good = evaluate(embedder, INFO, domains, split, settings)
    useless = copy.deepcopy(embedder)
    with torch.no_grad():
        for parameter in useless.parameters():
            parameter.zero_()
        useless.layers[-1].bias.fill_(1.0)  # type: ignore[index,union-attr,operator]
    bad = evaluate(useless, INFO, domains, split, settings)
    rows = compare_evaluations({"good": good, "bad": bad}, resamples=200)
    triplets = next(r for r in rows if r["metric"] == "triplet_accuracy" and r["regime"] == "antidomain")
    assert triplets["ci95"][0] > 0
    assert triplets["p_value"] < 0.05
    assert triplets["mcnemar_p_value"] < 1e-6


def test_evaluations_of_different_draws_are_not_compared(
    embedder: nn.Module, domains: DomainSet, split: Split, evaluation: Evaluation
) -> None:
    other = evaluate(embedder, INFO, domains, split, replace(QUICK, seed=1))
    with pytest.raises(MetaSiamError, match="not tested on the same pairs"):
        compare_evaluations({"a": evaluation, "b": other})


@pytest.fixture(scope="module")
def trainings(embedder: nn.Module, domains: DomainSet, split: Split) -> list[Evaluation]:
    """One embedder, and two copies of it whose weights differ a little, on the same draws."""
    settings = replace(QUICK, curve_steps=(0, 1))
    found = []
    for seed in range(3):
        other = copy.deepcopy(embedder)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter += (
                    0.3
                    * seed
                    * parameter.std()
                    * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
                )
        found.append(evaluate(other, INFO, domains, split, settings))
    return found


def test_several_trainings_become_one_evaluation_of_their_means(trainings: list[Evaluation]) -> None:
    settings = replace(QUICK, curve_steps=(0, 1))
    pooled = pool(trainings, settings)
    every = [each.data["held_out"] for each in trainings]
    assert pooled.data["held_out"].keys() == every[0].keys()
    for regime in ("closed", "antidomain"):
        for shots, metrics in pooled.data["held_out"][regime].items():
            assert metrics.keys() == every[0][regime][shots].keys()
            means = [one[regime][shots]["triplet_accuracy"]["mean"] for one in every]
            found = metrics["triplet_accuracy"]
            assert found["mean"] == pytest.approx(sum(means) / 3)
            assert found["n"] == every[0][regime][shots]["triplet_accuracy"]["n"]
            assert found["ci95"][0] <= min(found["mean"], 100) <= found["ci95"][1]
    for row, *others in zip(pooled.data["held_out"]["tasks"], *(one["tasks"] for one in every), strict=True):
        assert row["task"] == others[0]["task"]
        for column in ("auc", "threshold"):
            assert row[column] == pytest.approx(sum(other[column] for other in others) / 3)
        means = [other["pair_accuracy_calibrated"]["mean"] for other in others]
        assert row["pair_accuracy_calibrated"]["mean"] == pytest.approx(sum(means) / 3)
    for name, mean in pooled.data["held_out"]["episodes"].items():
        assert mean["mean"] == pytest.approx(sum(one["episodes"][name]["mean"] for one in every) / 3)
    for shots, points in pooled.data["held_out"]["adaptation_steps"].items():
        for place, point in enumerate(points):
            means = [one["adaptation_steps"][shots][place]["triplet_accuracy"]["mean"] for one in every]
            assert point["triplet_accuracy"]["mean"] == pytest.approx(sum(means) / 3)
    assert "pairs" in pooled.data["protocol"]
    assert "global_threshold" not in pooled.data["protocol"]  # each training has its own
    assert "global_threshold" in pooled.data["protocol"]["differs_between_trainings"]
    assert pool(trainings[:1], settings) is trainings[0]
    # What was adapted is scored domain by domain, what was not regime by regime: the order is each training's own.
    other = replace(trainings[1], results=trainings[1].results[::-1])
    assert pool([trainings[0], other, trainings[2]], settings).data == pooled.data


def test_trainings_of_two_methods_are_compared_by_their_means(trainings: list[Evaluation]) -> None:
    settings = replace(QUICK, curve_steps=(0, 1))
    both = {"a": pool(trainings, settings), "b": trainings[0]}
    rows = compare_evaluations(both, resamples=200)
    alone = compare_evaluations({"a": trainings[1], "b": trainings[0]}, resamples=200)
    assert [(r["regime"], r["shots"], r["metric"]) for r in rows] == [
        (r["regime"], r["shots"], r["metric"]) for r in alone
    ]
    for row in rows:
        assert "mcnemar_p_value" not in row
        if row["metric"] == "triplet_accuracy":
            first, second = (
                both[name].data["held_out"][row["regime"]][row["shots"]]["triplet_accuracy"]["mean"] for name in "ab"
            )
            assert row["difference"] == pytest.approx(first - second)


def test_trainings_that_do_not_belong_together_are_not_pooled(
    trainings: list[Evaluation], embedder: nn.Module, domains: DomainSet, split: Split
) -> None:
    other = evaluate(embedder, INFO, domains, split, replace(QUICK, seed=1, curve_steps=(0, 1)))
    with pytest.raises(MetaSiamError, match="not tested on the same pairs"):
        pool([trainings[0], other], QUICK)
    with pytest.raises(MetaSiamError, match="one training at a time"):
        pool(trainings, replace(QUICK, protocols=("balanced", "reference")))
