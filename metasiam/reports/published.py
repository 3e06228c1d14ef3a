"""The published figures that a sweep is compared with: CIFAR-100, ResNet-56, the reference protocol, percent.

Classic triplet training, 150 epochs, classes in alphabetical order with the last ones held out. The "few-shot"
figure pairs one support image of each held-out class with queries of all of them, so that with N held-out
classes one pair in N is same, and always answering "different" is right in 1 − 1/N of all pairs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class PublishedSplit(NamedTuple):
    """Published accuracies of one class split, percent."""

    seen_triplet: float
    seen_pairs: float
    few_shot: float | None


#: By the number of seen classes out of 100.
CLASSIC = {
    10: PublishedSplit(86.90, 78.82, 45.32),
    20: PublishedSplit(85.33, 77.95, 61.72),
    30: PublishedSplit(85.11, 79.13, 67.23),
    40: PublishedSplit(86.15, 79.56, 69.72),
    50: PublishedSplit(86.79, 78.26, 76.77),
    60: PublishedSplit(88.01, 81.63, 72.73),
    70: PublishedSplit(88.58, 81.24, 76.51),
    80: PublishedSplit(88.27, 80.96, 77.81),
    90: PublishedSplit(88.34, 80.95, 83.06),
    100: PublishedSplit(89.09, 82.41, None),
}
#: Reptile, 10,000 iterations of 30 inner epochs, 90 seen classes.
REPTILE = {90: PublishedSplit(73.44, 67.60, None)}
#: Its held-out triplet and pair accuracy after 30 steps on all 500 images of each class.
META_TRIPLET, META_PAIRS = 80.0, 68.80


def is_of_cifar100(evaluation: Mapping[str, Any]) -> bool:
    """Return whether a parsed ``evaluation.json`` is about CIFAR-100, also from a folder or file that is named so."""
    source = (evaluation.get("protocol") or {}).get("data")
    return isinstance(source, str) and re.search(r"cifar[-_ ]?100(?!\d)", source, re.IGNORECASE) is not None


def constant_answer(held_out: int) -> float | None:
    """Return what always answering "different" scores in the published few-shot protocol, percent."""
    return 100 * (1 - 1 / held_out) if held_out > 0 else None
