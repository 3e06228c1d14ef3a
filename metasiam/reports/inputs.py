"""What a report shows besides the JSON: pictures, curves and histograms, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PictureExample:
    """A pair of pictures with the true answer and the method's.

    Attributes:
        method: who answered.
        first, second: uint8 [C, H, W] (C is 1 or 3) or [H, W].
        same: the truth, whether both show the same domain.
        answered_same: the method's answer at its threshold.
        similarity: the method's similarity; higher means more the same.
        probability: calibrated probability of "same", 0 to 1; None where none was fitted.
        first_name, second_name: the pictures' domains.
    """

    method: str
    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    same: bool
    answered_same: bool
    similarity: float
    probability: float | None = None
    first_name: str = ""
    second_name: str = ""

    @property
    def right(self) -> bool:
        """Whether the method's answer is true."""
        return self.same == self.answered_same


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Share of same pairs found against share of different pairs taken for same, at every threshold.

    Attributes:
        method: whose scores.
        false_positive_rate, true_positive_rate: float [T], fractions, growing.
        auc: area under the curve, a fraction; None to leave it out.
        condition: regime and images known of the tasks whose scores are pooled, each less its task's own threshold;
            empty for one list of pairs.
    """

    method: str
    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    auc: float | None = None
    condition: str = ""


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """How similar the same and the different pairs are to a method.

    Attributes:
        method: whose scores.
        edges: float [B + 1], the bins' edges in units of the similarity, growing.
        same, different: [B], how many pairs fall into each bin.
        thresholds: where the method says "same" from, by kind (``fixed``, ``global``, ``per_task``: their median).
        condition: regime and images known of the tasks whose scores these are; empty for one list of pairs.
    """

    method: str
    edges: NDArray[np.float64]
    same: NDArray[np.int64]
    different: NDArray[np.int64]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    condition: str = ""


@dataclass(frozen=True)
class Curve:
    """Accuracy of a method along something: adaptation steps, training images, seen domains.

    Attributes:
        method: whose accuracy.
        x: where it was measured, growing.
        accuracy: percent, one for each of ``x``.
        low, high: 95 % interval, percent, one for each of ``x``; None where there is none.
        label: what tells this curve from the method's others, as ``5 images known``; may be empty.
    """

    method: str
    x: Sequence[float]
    accuracy: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    label: str = ""


@dataclass(frozen=True)
class SweepPoint:
    """One class split of a sweep.

    Attributes:
        method: what was trained.
        seen, held_out: how many domains.
        evaluation: the run's parsed ``evaluation.json``.
    """

    method: str
    seen: int
    held_out: int
    evaluation: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Extras:
    """Everything a page may show besides the JSON; whatever is empty is left out.

    Attributes:
        pictures: pairs to show, the most confident first.
        roc: one curve a method.
        histograms: one a method.
        adaptation: accuracy over adaptation steps; ``label`` says for how many images.
        training: accuracy over training images seen.
        histories: the lines of ``metrics.jsonl`` by method.
    """

    pictures: Sequence[PictureExample] = ()
    roc: Sequence[RocCurve] = ()
    histograms: Sequence[ScoreHistogram] = ()
    adaptation: Sequence[Curve] = ()
    training: Sequence[Curve] = ()
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
