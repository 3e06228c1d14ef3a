"""What guessing scores, and which methods cannot be told from it."""

from __future__ import annotations

from collections.abc import Mapping

from metasiam.reports.numbers import (
    METRICS,
    Interval,
    Json,
    episode,
    method_name,
    metric,
    metrics_of,
    split_sizes,
)
from metasiam.wording import together

#: What guessing scores, in the units of the JSON. What is missing here says nothing of itself: a probability that is
#: always 50 % is calibrated perfectly, and a threshold chosen in hindsight is never below half.
_GUESSING = {"auc": 0.5, "tar_at_far_1pct": 1.0}
_SILENT = ("ece", "pair_accuracy_oracle")


def guessing_score(evaluation: Json, regime: str, name: str) -> float | None:
    """Return what guessing scores in a metric or, of the regime ``episodes``, in a kind of them; None: unknown."""
    if regime != "episodes":
        return None if name in _SILENT else _GUESSING.get(name, 50.0)
    ways = name.partition("-way")[0]
    sizes = split_sizes(evaluation)
    count = int(ways) if ways.isdecimal() else sizes[1] if ways == "all" and sizes is not None else 0
    return 100 / count if count else None


def is_guessing(evaluation: Json, regime: str, shots: str, name: str) -> bool:
    """Tell whether the 95 % interval of a measured quantity reaches down to what guessing scores.

    Args:
        evaluation: a parsed ``evaluation.json``.
        regime: ``closed``, ``antidomain`` or ``episodes``.
        shots: images known, as in the JSON; empty for episodes.
        name: of ``METRICS``, or the kind of episode. What says nothing of itself, as the calibration error, is judged
            by the AUC.
    """
    metrics = metrics_of(evaluation, regime, shots)
    if regime != "episodes" and name in _SILENT:
        proofs = ("auc", "pair_accuracy_per_task", "pair_accuracy_global", "triplet_accuracy")
        name = next((proof for proof in proofs if metric(metrics, proof) is not None), name)
    score = guessing_score(evaluation, regime, name)
    value = episode(evaluation, name) if regime == "episodes" else metric(metrics, name)
    if score is None or value is None:
        return False
    lower = regime != "episodes" and name in METRICS and METRICS[name].lower_is_better
    return _reaches(value, score, lower=lower)


def _reaches(value: Interval, score: float, *, lower: bool) -> bool:
    bound = value.high if lower else value.low
    return bound is not None and (bound >= score if lower else bound <= score)


def guessing_words(guessing: Mapping[str, bool]) -> str:
    """Say in a sentence which of some methods cannot be told from guessing; empty where all can."""
    names = [method_name(name) for name, guesses in guessing.items() if guesses]
    if not names:
        return ""
    if len(names) == len(guessing) > 1:
        return f"{'Neither' if len(names) == 2 else 'None'} of them can be told from guessing."
    return f"{together(names)} cannot be told from guessing."
