"""Reading the JSON of ``evaluation.json`` and ``compare.json``, and wording its numbers and keys.

Everything here copes with absent keys: what was not asked for is left out of the JSON, and so of the report.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from metasiam import wording

#: A parsed ``evaluation.json`` or ``compare.json`` (see DESIGN: a run folder), or a part of one.
Json = Mapping[str, Any]

MISSING = "–"
NO_CLEAR_WINNER = "no clear winner"
#: How tables show intervals.
SPREAD = "± half the 95 % interval, or [all of it]"


class Interval(NamedTuple):
    """A mean with its 95 % interval, in the units of the JSON; None where it was not given."""

    mean: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Metric(NamedTuple):
    """How a metric of the JSON is named in a report."""

    label: str
    percent: bool = True
    lower_is_better: bool = False


#: Metrics by the names that ``compare.json`` uses in "paired", in the order of the reports.
METRICS: dict[str, Metric] = {
    "triplet_accuracy": Metric("triplet accuracy"),
    "pair_accuracy_per_task": Metric("pair accuracy, calibrated threshold"),
    "pair_accuracy_global": Metric("pair accuracy, global threshold"),
    "pair_accuracy_fixed": Metric("pair accuracy, fixed threshold"),
    "pair_accuracy_oracle": Metric("pair accuracy, best possible threshold (oracle)"),
    "auc": Metric("ROC AUC", percent=False),
    "eer": Metric("equal error rate", lower_is_better=True),
    "tar_at_far_1pct": Metric("same found at 1 % false alarms"),
    "ece": Metric("calibration error of the probability", lower_is_better=True),
}
REGIMES = ("closed", "antidomain")


def interval(value: object) -> Interval | None:
    """Read a number, or ``{"mean", "ci95", "n"}``; None where there is none or it is not finite."""
    if isinstance(value, Mapping):
        mean = _finite(value.get("mean"))
        if mean is None:
            return None
        bounds = value.get("ci95") or (None, None)
        n = _finite(value.get("n"))
        return Interval(mean, _finite(bounds[0]), _finite(bounds[1]), None if n is None else int(n))
    mean = _finite(value)
    return None if mean is None else Interval(mean)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def metric(metrics: Json, name: str) -> Interval | None:
    """Return one metric of a METRICS dict by the name that ``compare.json`` gives it."""
    if name.startswith("pair_accuracy_"):
        pairs = metrics.get("pair_accuracy")
        return interval(pairs.get(name.removeprefix("pair_accuracy_"))) if isinstance(pairs, Mapping) else None
    return interval(metrics.get(name))


def metrics_of(evaluation: Json, regime: str, shots: str, part: str = "held_out") -> Json:
    """Return the METRICS of one part, regime and number of adaptation images: empty where there are none."""
    found = ((evaluation.get(part) or {}).get(regime) or {}).get(shots)
    return found if isinstance(found, Mapping) else {}


def conditions(evaluations: Iterable[Json], part: str = "held_out") -> list[tuple[str, str]]:
    """Return every (regime, shots) that any of the evaluations has, regimes first, then by growing shots."""
    found = {
        (regime, shots)
        for evaluation in evaluations
        for regime in REGIMES
        for shots in ((evaluation.get(part) or {}).get(regime) or {})
    }
    return sorted(found, key=lambda key: (REGIMES.index(key[0]), shots_order(key[1])))


def shots_order(shots: object) -> float:
    """Sort key of a number of adaptation images: numbers in order, then ``all``."""
    text = str(shots)
    return int(text) if text.isdigit() else math.inf


def task_rows(evaluation: Json, regime: str | None = None, shots: str | None = None) -> list[Json]:
    """Return the task rows, of one regime and number of adaptation images where those are given."""
    rows = (evaluation.get("held_out") or {}).get("tasks") or []
    return [
        row
        for row in rows
        if (regime is None or str(row.get("regime")) == regime) and (shots is None or str(row.get("shots")) == shots)
    ]


def task_conditions(evaluations: Iterable[Json]) -> list[tuple[str, str]]:
    """Return every (regime, shots) that any task row has, closed first, then by growing shots."""
    found = {
        (str(row.get("regime", "closed")), str(row.get("shots", "0")))
        for evaluation in evaluations
        for row in task_rows(evaluation)
    }
    order = {regime: place for place, regime in enumerate(REGIMES)}
    return sorted(found, key=lambda key: (order.get(key[0], len(order)), shots_order(key[1])))


def episodes_of(evaluations: Iterable[Json]) -> list[str]:
    """Return the names of all episode kinds, in the order in which they first appear."""
    names: dict[str, None] = {}
    for evaluation in evaluations:
        names.update(dict.fromkeys((evaluation.get("held_out") or {}).get("episodes") or {}))
    return list(names)


def episode(evaluation: Json, name: str) -> Interval | None:
    """Return the accuracy of one kind of episode, whether it is stored plainly or under a name."""
    found = ((evaluation.get("held_out") or {}).get("episodes") or {}).get(name)
    if isinstance(found, Mapping) and "mean" not in found:
        found = found.get("accuracy")
    return interval(found)


def readings(evaluation: Json) -> Iterator[tuple[str, str, str, Json]]:
    """Yield (part, regime, shots, METRICS) for everything measured, seen domains first."""
    for part in ("seen", "held_out"):
        for regime, shots in conditions([evaluation], part):
            yield part, regime, shots, metrics_of(evaluation, regime, shots, part)


def is_one_answer(value: Interval) -> bool:
    """Tell whether an accuracy over many pairs is that of giving (nearly) all of them the same answer: surely 50 %."""
    low, high = (value.mean if bound is None else bound for bound in (value.low, value.high))
    return 49 < low <= high < 51


def number(value: Interval | float | None, name: str = "triplet_accuracy", more: int = 0) -> str:
    """Word a metric's value: percentages with one decimal, AUC (a fraction) with three; or so many more."""
    if value is None:
        return MISSING
    mean = value.mean if isinstance(value, Interval) else value
    return f"{mean:.{more + (1 if METRICS.get(name, METRICS['triplet_accuracy']).percent else 3)}f}"


def plus_minus(value: Interval | None, name: str = "triplet_accuracy") -> str:
    """Word a value with half its interval, as ``83.7 ± 1.2``, or with all of one that is lopsided."""
    if value is None or value.low is None or value.high is None:
        return number(value, name)
    percent = METRICS.get(name, METRICS["triplet_accuracy"]).percent
    digits, most = (1, 100.0) if percent else (3, 1.0)
    return wording.plus_minus(value.mean, value.low, value.high, digits=digits, most=most)


def more_digits(gap: Interval, name: str = "triplet_accuracy") -> int:
    """Return how many more decimals a difference needs whose interval excludes zero, for its ends to say so.

    ``[−7.6, 0.0]`` next to a winner would read as if zero were within: with one more it is ``[−7.60, −0.03]``.
    """
    ends = (gap.low, gap.high)
    if None in ends or not (all(end > 0 for end in ends if end) or all(end < 0 for end in ends if end)) or 0 in ends:
        return 0
    return next((more for more in range(4) if not any(float(number(end, name, more)) == 0 for end in ends)), 0)


def signed(value: float | None, name: str = "triplet_accuracy", more: int = 0) -> str:
    """Word a difference with its sign, as ``+1.2`` or ``−0.4``; what rounds to zero has none."""
    if value is None:
        return MISSING
    text = number(abs(value), name, more)
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def shots_words(shots: object) -> str:
    """Word a number of adaptation images: ``not adapted``, ``1 image known``, ``5 images known``, ``all images known``.

    Known, not adapted to: what is done with them is chosen, and may be nothing.
    """
    text = str(shots)
    return {"0": "not adapted", "1": "1 image known"}.get(text, f"{text} images known")


def regime_words(regime: str) -> str:
    """Say in a few words where the negatives of a regime come from."""
    return {
        "closed": "against other held-out domains",
        "antidomain": "against seen domains",
    }.get(regime, regime)


def regimes_note(mentions: Iterable[str]) -> str:
    """Say what the regimes are, as far as a table mentions them."""
    text = " ".join(mentions)
    notes = [
        f"{regime.capitalize()}: held-out domains, pairs {regime_words(regime)}."
        for regime in REGIMES
        if regime in text
    ]
    return " ".join(notes)


def metric_words(name: str) -> str:
    """Word a metric's name."""
    return METRICS[name].label if name in METRICS else name.replace("_", " ")


def split_sizes(evaluation: Json) -> tuple[int, int] | None:
    """Return how many domains were seen and held out; None where the protocol does not say."""
    split = (evaluation.get("protocol") or {}).get("split")
    if not isinstance(split, Mapping) or "seen" not in split or "held_out" not in split:
        return None
    # Validation domains are seen-side domains held out.
    return len(split["seen"]) + len(split.get("validation") or ()), len(split["held_out"])


def sweep_reading(evaluation: Json, name: str) -> Interval | None:
    """Return one number of a sweep: ``triplet``, ``pairs`` (balanced, held out, unadapted), or one of the reference
    protocol's ``seen_triplet``, ``seen_pairs``, ``few_shot`` (the mean over support draws).
    """
    if name in ("triplet", "pairs"):
        metrics = metrics_of(evaluation, "closed", "0") or metrics_of(evaluation, "antidomain", "0")
        if name == "triplet":
            return metric(metrics, "triplet_accuracy")
        return metric(metrics, "pair_accuracy_global") or metric(metrics, "pair_accuracy_fixed")
    return interval((evaluation.get("reference_protocol") or {}).get(name))


def best_condition(found: list[tuple[str, str]], shots: str | None = None) -> tuple[str, str] | None:
    """Choose the (regime, shots) to lead with: the shots wanted, else the most; closed before antidomain."""
    wanted = [key for key in found if key[1] == shots] or found
    if not wanted:
        return None
    most = max(shots_order(key[1]) for key in wanted)
    return next(key for key in wanted if shots_order(key[1]) == most)


def clean(text: object, limit: int = 2000) -> str:
    """Return a name as one printable line: no control characters (a folder's name may hold any), at most ``limit``."""
    line = "".join(
        " " if letter in "\t\n\r" else letter
        for letter in str(text)
        if letter in "\t\n\r"
        or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        or letter == "\u200d"
    ).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def method_name(name: object, limit: int = 40) -> str:
    """Return what people read for a method or run: ``triplet`` is called classic, apart from triplet accuracy.

    Args:
        name: as in ``compare.json``.
        limit: the most letters.
    """
    text = clean(name, limit)
    return "classic" if text == "triplet" else text


def spelled(count: int, noun: str) -> str:
    """Return ``one task``, ``ten classes``, ``50 classes``: small numbers as words, with a plain plural."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    ending = "" if count == 1 else "es" if noun.endswith(("s", "x", "ch")) else "s"
    return f"{words[count] if count < len(words) else f'{count:,}'} {noun}{ending}"
