"""The sentences of a report: the answer at its top, what it is about, and what the methods were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from metasiam.reports.chance import guessing_words
from metasiam.reports.comparison import Verdict, beaten_words, verdict
from metasiam.reports.numbers import (
    NO_CLEAR_WINNER,
    Interval,
    Json,
    best_condition,
    clean,
    conditions,
    interval,
    method_name,
    metric,
    metrics_of,
    more_digits,
    number,
    signed,
    spelled,
    split_sizes,
    task_rows,
)
from metasiam.wording import counted

#: Which pair accuracy to lead with: calibrated if it was measured, never the oracle's.
LEADING = ("pair_accuracy_per_task", "pair_accuracy_global", "pair_accuracy_fixed")
#: What a comparison's answer says of chance: half of the pairs are same.
_GUESSING = "guessing: 50 %"
_AT_CHANCE = ": this cannot be told from guessing (50 %)"
_DATA_NAMES = {
    "cifar100": "CIFAR-100",
    "mnist": "MNIST",
    "omniglot": "Omniglot",
    "omniglot-rotated": "Omniglot",
    "glyphs": "glyph",
    "lfw": "LFW",
    "lfw:10-folds": "LFW",
}


def data_name(data: object) -> str:
    """Word what ``--data`` was, or a run's ``data``: ``CIFAR-100``, or the folder's or file's own name."""
    text = clean(data.get("source", "") if isinstance(data, Mapping) else data, 500)
    kind, colon, path = text.partition(":")
    if colon and kind in ("folder", "npz", "pairs"):
        place = PurePath(path.replace("\\", "/"))
        text = (place.name if kind == "folder" else place.stem) or path
    return _DATA_NAMES.get(text, clean(text, 40))


def leading_condition(compare: Json) -> tuple[str, str, str] | None:
    """Return the (regime, shots, metric) that the report leads with: closed, five images, calibrated pairs."""
    methods = list((compare.get("methods") or {}).values())
    for name in LEADING:
        found = [key for key in conditions(methods) if any(metric(metrics_of(data, *key), name) for data in methods)]
        chosen = best_condition(found, "5")
        if chosen is not None:
            return *chosen, name
    return None


class Answer(NamedTuple):
    """What a report says first."""

    sentence: str  #: the answer
    certainty: str = ""  #: how sure it is, with the interval
    terms: str = ""  #: which pairs and which threshold it is about

    def __str__(self) -> str:
        return " ".join(part for part in self if part)


def headline(compare: Json, data: object = None) -> Answer:
    """Return the answer in plain words.

    Args:
        compare: a parsed ``compare.json``; for a single run, one with just that method.
        data: what ``--data`` was; by default the protocol's own ``data``, if it says so.
    """
    leading = leading_condition(compare)
    if leading is None:
        return _by_the_seeds(compare)
    regime, shots, name = leading
    row = verdict(compare, regime, shots, name)
    first = next(iter((compare.get("methods") or {}).values()))
    if is_of_pairs(first):
        return _of_pairs(row, first, data)
    where = f"On {_classes(first, regime, shots, data)}, "
    after = _after(compare, regime, shots, name)
    present = {method: value for method, value in row.values.items() if value is not None}
    terms = _terms(regime, shots, name)
    if len(present) == 1:
        ((method, value),) = present.items()
        told = f"{where}{method_name(method)} is right about same/different in {number(value)} % of pairs {after}"
        guess = _AT_CHANCE if row.guessing[method] else "; guessing would be right in 50 %"
        return Answer(f"{told}{guess}.", _bounds(value), terms)
    sentence, certainty = (_won if row.winner is not None else _open)(row, present, after)
    return Answer(where + sentence, certainty, terms)


def _after(compare: Json, regime: str, shots: str, name: str) -> str:
    """Say what was done with the images known before the test: adapted to, a threshold fitted, nothing."""
    if shots == "0":
        return "without having seen any image of them"
    images = {"1": "one image", "all": "all training images"}.get(shots, counted(shots, "image"))
    several: Mapping[str, Sequence[Json]] = compare.get("trainings") or {}  # each chose a plan of its own
    found = {
        _use(one, regime, shots, name)
        for method, evaluation in (compare.get("methods") or {}).items()
        for one in [training["evaluation"] for training in several.get(method, ())] or [evaluation]
    }
    use = found.pop() if len(found) == 1 else "given {}"
    return use.format(f"{images} of each")


def _use(evaluation: Json, regime: str, shots: str, name: str) -> str:
    """Say for what one evaluation used the images known."""
    plan = ((evaluation.get("protocol") or {}).get("plans") or {}).get(shots)
    if not isinstance(plan, Mapping):
        return "after seeing {}"
    if plan.get("steps") or plan.get("stretch"):
        return "after adapting to {}"
    metrics = metrics_of(evaluation, regime, shots)
    fitted = name == "pair_accuracy_per_task" and metric(metrics, name) != metric(metrics, "pair_accuracy_global")
    return "with thresholds fitted to {}" if fitted else "given {}, which changed nothing"


def is_of_pairs(evaluation: Json) -> bool:
    """Tell whether an evaluation is of a given list of labelled pairs, not of held-out domains."""
    return (evaluation.get("protocol") or {}).get("name") == "labelled pairs"


def _of_pairs(row: Verdict, evaluation: Json, data: object) -> Answer:
    """Return the answer about a list of pairs, with what a constant answer would score there."""
    method, value = next((name, value) for name, value in row.values.items() if value is not None)
    protocol = evaluation["protocol"]
    counts = protocol.get("test") or {}
    amount = f"{counts['pairs']:,} " if counts.get("pairs") else ""
    guess = _AT_CHANCE if row.guessing[method] else "; always giving the same answer would be right in 50 %"
    sentence = (
        f"On {amount}test pairs of {data_name(data or protocol.get('data') or '')}, {method_name(method)} is right "
        f"about same/different in {number(value)} %{guess}."
    )
    terms = ""
    if counts.get("same") != counts.get("different"):
        terms = (
            f"{counted(counts['same'], 'pair')} same, {counts['different']:,} different; both kinds count alike "
            "(balanced accuracy). "
        )
    if "threshold_chosen_on" in protocol:
        terms += f"The threshold was chosen on {clean(protocol['threshold_chosen_on'])}."
    shared = protocol.get("test_trained_on")
    note = f" {clean(shared)} in the test pairs are in training pairs too." if shared else ""
    return Answer(sentence, _bounds(value), (terms + note).strip())


def _bounds(value: Interval) -> str:
    bounded = value.low is not None and value.high is not None
    return f"95 % interval: {number(value.low)} to {number(value.high)} %." if bounded else ""


def _by_the_seeds(compare: Json) -> Answer:
    """Return the answer if only the reference protocol was measured, next to that of a constant answer."""
    parts, constant = [], None
    for method, evaluation in (compare.get("methods") or {}).items():
        few_shot = (evaluation.get("reference_protocol") or {}).get("few_shot") or {}
        score = interval(few_shot) if isinstance(few_shot, Mapping) else None
        if score is not None:
            parts.append(f"{method_name(method)} scores {number(score)} %")
            constant = interval(few_shot.get("constant_answer"))
    if not parts:
        return Answer("Nothing was measured on held-out classes.")
    beside = f"; always answering “different” scores {number(constant)} %" if constant is not None else ""
    return Answer(f"By the published systems' own few-shot figure, {', '.join(parts)}{beside}.")


def _classes(evaluation: Json, regime: str, shots: str, data: object) -> str:
    protocol = evaluation.get("protocol") or {}
    name = data_name(data or protocol.get("data") or "")
    rows = task_rows(evaluation, regime, shots) or task_rows(evaluation)
    sizes = split_sizes(evaluation)
    count = len({str(row.get("task")) for row in rows}) or (sizes[1] if sizes is not None else 0)
    word = spelled(count, "class") if count else "classes"
    amount, _, noun = word.rpartition(" ")
    return " ".join(part for part in (amount, "unseen", name, noun) if part)


def _terms(regime: str, shots: str, name: str) -> str:
    other = "another held-out class" if regime == "closed" else "a class seen in training"
    # Without images, and from a single one, nothing can be calibrated: the global threshold stands.
    from_images = name == "pair_accuracy_per_task" and shots not in ("0", "1")
    threshold = (
        "was calibrated for each class from the images known"
        if from_images
        else "was set beforehand"
        if name == "pair_accuracy_fixed"
        else "was chosen on other classes"
    )
    return f"Half of the pairs show one class twice, half show it next to {other}. The threshold {threshold}."


def _won(row: Verdict, present: Mapping[str, Interval], after: str) -> tuple[str, str]:
    winner = row.winner or ""
    rivals = sorted((method for method in present if method != winner), key=lambda method: -present[method].mean)
    rival = rivals[0]
    beside = [f"{number(present[rival])} %"]
    beside += [f"{method_name(method)}: {number(present[method])} %" for method in rivals[1:]]
    beside.append(_GUESSING)
    gap = row.difference
    sentence = (
        f"{method_name(winner)} is right about same/different in {number(present[winner])} % of pairs {after}, "
        f"{number(present[winner].mean - present[rival].mean)} points more than {method_name(rival)} "
        f"({'; '.join(beside)})."
    )
    if guess := guessing_words(row.guessing):
        sentence += f" {guess}"
    others = _others(row)
    if gap is None or gap.low is None or gap.high is None:
        return sentence, others.strip()
    low, high = (gap.low, gap.high) if row.first == winner else (-gap.high, -gap.low)
    ends = " to ".join(signed(end, more=more_digits(gap)) for end in (low, high))
    return sentence, f"95 % interval of the difference, pair by pair: {ends} points.{others}"


def _open(row: Verdict, present: Mapping[str, Interval], after: str) -> tuple[str, str]:
    parts = [f"{method_name(method)} in {number(value)} %" for method, value in present.items()]
    parts[0] = parts[0].replace(" in ", " is right about same/different in ", 1)
    listed = f"{', '.join(parts[:-1])} and {parts[-1]} of pairs {after} ({_GUESSING})"
    gap = row.difference
    if not row.compared:
        return f"{listed}.", "The methods were not compared pair by pair."
    guess = guessing_words(row.guessing)
    lost = bool(row.guessing) and all(row.guessing.values())
    sentence = f"{listed}: {guess[:1].lower()}{guess[1:]}" if lost else f"{listed}: {NO_CLEAR_WINNER}. {guess}".strip()
    if len(present) > 2 or gap is None or gap.low is None or gap.high is None:
        return sentence, f"No method is significantly better than all others.{_others(row)}"
    return sentence, (
        f"95 % interval of the difference between {method_name(row.first)} and {method_name(row.second)}, pair by "
        f"pair: {signed(gap.low)} to {signed(gap.high)} points, which includes zero."
    )


def _others(row: Verdict) -> str:
    """Say of three methods or more who is better than whom beyond chance; empty for two."""
    if len(row.guessing) < 3 or not row.beaten:
        return ""
    return f" Beyond chance, {beaten_words(row)}; no other two methods can be told apart."


def budget_words(budget: Mapping[str, Any] | None) -> str:
    """Say in a sentence what each method was given to train with; empty where that is not known."""
    if not budget:
        return ""
    if isinstance(by_method := budget.get("images_by_method"), Mapping):
        shares = ", ".join(f"{method_name(method)} with {images:,}" for method, images in by_method.items())
        return f"The methods were not trained equally long, on numbers of training images: {shares}."
    parts = []
    for key, value in budget.items():
        shown = f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else clean(value)
        unit = {"images": "training image", "minutes": "minute"}.get(key)
        parts.append(counted(shown, unit) if unit else f"{key.replace('_', ' ')}: {shown}")
    return f"Every method was given the same budget: {', '.join(parts)}."
