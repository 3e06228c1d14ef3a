"""What a trained pair model is worth: the test pairs answered once, at a threshold chosen on validation pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metasiam.data.pairs import PairSet, also_in_test, whom
from metasiam.evaluation import weighted
from metasiam.evaluation.calibration import ProbabilityCalibrator
from metasiam.evaluation.resampling import Mean, as_percent, bootstrap_images, bootstrap_pairs
from metasiam.evaluation.verification import best_threshold, pairs_right, roc_auc
from metasiam.training.machine import generator_for
from metasiam.wording import counted


@dataclass(frozen=True, eq=False)
class PairResult:
    """Scores of the test pairs, and what was learned about scores from validation pairs.

    Attributes:
        rows: int64 [P], the test pairs in the pair set.
        scores: float [P], higher for more the same.
        same: bool [P].
        probability: float [P], calibrated on validation pairs.
        threshold: chosen on validation pairs.
        validation_accuracy: the balanced accuracy there; a little too good, since the threshold was chosen for it.
        validation_pairs: how many there were.
        validation_auc: their area under the curve, a fraction.
        curve: what made probabilities of scores.
    """

    rows: Tensor
    scores: Tensor
    same: Tensor
    probability: Tensor
    threshold: float
    validation_accuracy: float
    validation_pairs: int
    validation_auc: float
    curve: ProbabilityCalibrator

    @property
    def right(self) -> Tensor:
        """Which answers are right: bool [P]."""
        return pairs_right(self.scores, self.same, self.threshold)


def judge(rows: Tensor, scores: Tensor, same: Tensor, validation_scores: Tensor, validation_same: Tensor) -> PairResult:
    """Choose threshold and probabilities on validation pairs (float [V], bool [V]) and apply them to the test pairs.

    Args:
        rows: int64 [P], the test pairs.
        scores: float [P].
        same: bool [P].
        validation_scores: float [V], from the same model or, out of fold, from its like.
        validation_same: bool [V].
    """
    threshold, accuracy = best_threshold(validation_scores, validation_same)
    curve = ProbabilityCalibrator("platt").fit(validation_scores, validation_same)
    return PairResult(
        rows.cpu(),
        scores.cpu(),
        same.cpu(),
        curve.predict(scores.cpu()),
        threshold,
        accuracy,
        len(validation_same),
        roc_auc(validation_scores, validation_same),
        curve,
    )


def as_evaluation(result: PairResult, pairs: PairSet, seed: int) -> dict[str, Any]:
    """Return the dict of ``evaluation.json``: the test pairs were not trained on, so they are ``held_out``.

    Accuracies are percentages, AUC is a fraction, each with an interval over images (``bootstrap_images``); that of the
    oracle takes its threshold as given. Accuracies and the ECE are balanced: same and different pairs count alike,
    however many there are of each, so that a constant answer scores 50. Where the given parts have people in common,
    ``protocol`` counts those in the test pairs who were trained on.
    """
    rows = result.rows.to(pairs.first.device)
    images = torch.stack((pairs.first[rows], pairs.second[rows]))
    scores, same = result.scores, result.same

    def share(right: Tensor) -> Mean:
        return as_percent(bootstrap_images(right, images, generator_for("cpu", seed, "bootstrap"), same=same))

    def over_images(statistic: Callable[[Tensor], Tensor], *, of_answers: bool = True) -> Mean:
        return bootstrap_pairs(statistic, images, generator_for("cpu", seed, "bootstrap"), of_answers=of_answers)

    oracle, _ = best_threshold(scores, same)
    trained_on = also_in_test(pairs, "train")
    return {
        "schema": 1,
        "protocol": {
            "name": "labelled pairs",
            "data": pairs.source,
            "seed": seed,
            "global_threshold": result.threshold,
            "threshold_chosen_on": _chosen_on(result, pairs),
            "pair_accuracy": "balanced: same and different pairs count alike",
            "test": pairs.counts("test"),
            **({"test_trained_on": trained_on} if trained_on else {}),
        },
        "validation": {
            "pair_accuracy": 100 * result.validation_accuracy,
            "auc": result.validation_auc,
            "pairs": result.validation_pairs,
        },
        "held_out": {
            "closed": {
                "0": {
                    "pair_accuracy": {
                        "global": share(result.right),
                        "oracle": share(pairs_right(scores, same, oracle)),
                    },
                    "auc": over_images(lambda weight: weighted.roc_auc(scores, same, weight)),
                    "eer": as_percent(over_images(lambda weight: weighted.equal_error_rate(scores, same, weight))),
                    "tar_at_far_1pct": as_percent(
                        over_images(lambda weight: weighted.accept_rate_at(scores, same, weight))
                    ),
                    "ece": as_percent(
                        over_images(
                            lambda weight: weighted.expected_calibration_error(result.probability, same, weight),
                            of_answers=False,
                        )
                    ),
                }
            }
        },
    }


def _chosen_on(result: PairResult, pairs: PairSet) -> str:
    """Say which pairs the threshold was chosen on, and whom they share with the test pairs."""
    own = result.validation_pairs == len(pairs.rows("validation"))  # else training pairs, answered out of fold
    shared = also_in_test(pairs, "validation", *(() if own else ("train",)))
    count = counted(result.validation_pairs, "validation pair")
    if shared is None:
        return f"{count} of {whom(pairs)} not in the test pairs"
    return f"{count}, with {shared} of the test pairs among them"
