"""Pair accuracy has one meaning, however many pairs are same: same and different pairs count alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from listeners import Heard
from pair_samples import write_lfw
from torch import Tensor, nn

from metasiam.data.pairs import PARTS, PairSet, keep_validation
from metasiam.data.sources import load_pairs
from metasiam.evaluation.calibration import ProbabilityCalibrator
from metasiam.evaluation.pair_result import PairResult, as_evaluation, judge
from metasiam.learners.pair_model import build_pair_model
from metasiam.learners.siamese import Siamese
from metasiam.options.pairs import SiameseOptions


def listed(count: int, same: Tensor) -> PairSet:
    """Return pairs without a common image, all in the test part."""
    images, first = torch.zeros(2 * count, 1, 8, 8, dtype=torch.uint8), torch.arange(count)
    names = tuple(f"{index}.png" for index in range(2 * count))
    part = torch.full((count,), PARTS.index("test"))
    return PairSet(images, names, names, first, first + count, same, part, torch.zeros_like(first))


def test_of_few_same_pairs_the_oracle_is_an_upper_bound_and_a_constant_answer_scores_half() -> None:
    """Of twenty pairs two are same, one of them scored below most different ones."""
    same = torch.arange(20) < 2
    pairs, scores = listed(20, same), torch.linspace(-1, 0.5, 20)
    scores[:2] = torch.tensor([0.4, -0.5])
    for threshold in (0.6, 0.37, 0.3, -0.6, -2.0):
        result = PairResult(
            torch.arange(20), scores, same, torch.full((20,), 0.5), threshold, 0.9, 20, 0.9, ProbabilityCalibrator()
        )
        data = as_evaluation(result, pairs, 0)
        found = data["held_out"]["closed"]["0"]
        right = (scores > threshold) == same
        assert found["pair_accuracy"]["global"]["mean"] == pytest.approx(
            50 * float(right[:2].float().mean() + right[2:].float().mean())
        )
        assert found["pair_accuracy"]["oracle"]["mean"] >= found["pair_accuracy"]["global"]["mean"]
        if threshold in (0.6, -2.0):
            assert found["pair_accuracy"]["global"]["mean"] == pytest.approx(50)
        assert found["ece"]["ci95"] == pytest.approx([0, 0], abs=1e-9)  # even odds were said, and are asked about
    assert data["protocol"]["pair_accuracy"].startswith("balanced")


def test_what_validation_promises_and_what_the_test_finds_are_the_same_measure() -> None:
    """The same scores in both, of which a tenth is same: the accuracies are equal, and the oracle's is no other."""
    torch.manual_seed(0)
    same = torch.arange(200) < 20
    scores = torch.randn(200) + 1.5 * same
    result = judge(torch.arange(200), scores, same, scores, same)
    found = as_evaluation(result, listed(200, same), 0)
    accuracy = found["held_out"]["closed"]["0"]["pair_accuracy"]
    assert accuracy["global"]["mean"] == pytest.approx(found["validation"]["pair_accuracy"])
    assert accuracy["oracle"]["mean"] == pytest.approx(found["validation"]["pair_accuracy"])


class Says(nn.Module):
    """A head that gives every pair the same log-odds."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.full((len(first),), self.logit)


@pytest.mark.parametrize("loss", ["bce", "contrastive"])
def test_no_constant_answer_is_an_accuracy_to_stop_on(tmp_path: Path, loss: str) -> None:
    """Always "different" on pairs of which a tenth is same: 50 %, not 90."""
    pairs = load_pairs("lfw", data_dir=write_lfw(tmp_path), image_size=16)
    train = pairs.part == PARTS.index("train")
    rare = (~pairs.same | (torch.arange(len(train)) % 9 == 0)) & train
    columns = ("first", "second", "same", "part", "fold")
    few = replace(pairs, **{name: getattr(pairs, name)[rare] for name in columns})
    few = keep_validation(few, 0.3, torch.Generator().manual_seed(0))
    config = SiameseOptions(
        arch="conv4", head="features", precision="fp32", loss=loss, stop_on="accuracy", patience=1, epochs=1,
        batch_size=16,
    )  # fmt: skip
    model = build_pair_model(config, few)
    heard = Heard()
    learner = Siamese(config, few, model, heard)
    learner.optimizer = None
    model.head = Says(-9.0)
    for iteration in range(learner.batches):
        learner.iterate(iteration, lambda: False)
    assert [heard.rows[0][f"{part}_accuracy"] for part in ("train", "validation")] == pytest.approx([50.0, 50.0])
    assert learner.stopping.best == pytest.approx(0.5)


def test_log_odds_of_a_rare_kind_are_judged_at_even_odds(tmp_path: Path) -> None:
    """A model that learned that a tenth of all pairs is same answers "same" from log-odds of 1 : 9 on."""
    pairs = load_pairs("lfw", data_dir=write_lfw(tmp_path), image_size=16)
    config = SiameseOptions(arch="conv4", head="features", precision="fp32")
    few = keep_validation(pairs, 0.3, torch.Generator().manual_seed(0))
    same = few.same[few.rows("train")]
    learner = Siamese(config, few, build_pair_model(config, few))
    assert learner.even == pytest.approx(float((same.sum() / (~same).sum()).log()))
    assert Siamese(replace(config, loss="contrastive"), few, build_pair_model(config, few)).even == 0.0
