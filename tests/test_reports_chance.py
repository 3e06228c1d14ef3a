"""Reports call chance what it is, tell every two methods apart that can be, and show no interval that cannot be."""

from __future__ import annotations

import re
from typing import Any

import pytest
from reports_samples import comparison, evaluation, mean, pictures, sweep_points

from metasiam.reports.chance import guessing_score, is_guessing
from metasiam.reports.comparison import comparison_table, pairs_table, verdict
from metasiam.reports.markdown import comparison_markdown
from metasiam.reports.numbers import interval, plus_minus
from metasiam.reports.page import comparison_page, evaluation_page
from metasiam.reports.pictures import picture_groups
from metasiam.reports.reference import sweep_table
from metasiam.reports.tables import method_task_table, summary_table, task_table
from metasiam.reports.wording import headline


def guessing(value: float = 50.8, half: float = 1.3) -> dict[str, Any]:
    """Return an evaluation of a method that knows nothing: all its intervals hold what guessing scores."""
    data = evaluation(60.0, shots=("0", "5"), regimes=("closed",))
    for metrics in data["held_out"]["closed"].values():
        metrics["triplet_accuracy"] = mean(value, half)
        metrics["pair_accuracy"] = {name: mean(value, half) for name in ("fixed", "global", "per_task", "oracle")}
        metrics["auc"] = {"mean": value / 100, "ci95": [(value - half) / 100, (value + half) / 100], "n": 10}
        metrics["eer"] = mean(100 - value, half)
        metrics["tar_at_far_1pct"] = mean(1.2, 0.5)
        metrics["ece"] = mean(0.6, 0.3)
    return data


def with_guessing(*methods: str) -> dict[str, Any]:
    data = comparison({"a": 80.0, "b": 60.0}, shots=("0", "5"), regimes=("closed",))
    for name in methods:
        data["methods"][name] = guessing()
    data["paired"] += [
        {"a": "a", "b": "b", "regime": "closed", "shots": shots, "metric": "ece", "difference": 6.5, "ci95": [5.0, 8.0]}
        for shots in ("0", "5")
    ]
    return data


def test_what_guessing_scores() -> None:
    data = evaluation(names=("a", "b", "c", "d"))
    names = ("triplet_accuracy", "pair_accuracy_per_task", "auc", "eer", "tar_at_far_1pct", "ece")
    assert [guessing_score(data, "closed", name) for name in names] == [50.0, 50.0, 0.5, 50.0, 1.0, None]
    assert guessing_score(data, "episodes", "5-way 1-shot") == 20.0
    assert guessing_score(data, "episodes", "all-way 1-shot") == 25.0
    assert guessing_score({}, "episodes", "all-way 1-shot") is None
    knows, guesses = evaluation(80.0), guessing()
    for name in (*names, "pair_accuracy_oracle"):
        assert is_guessing(guesses, "closed", "5", name)
        assert not is_guessing(knows, "closed", "5", name)
        assert not is_guessing({}, "closed", "5", name)
    assert is_guessing(guessing(51.4, 1.4), "closed", "5", "pair_accuracy_per_task")
    assert not is_guessing(guessing(51.4, 1.3), "closed", "5", "pair_accuracy_per_task")
    assert is_guessing(guessing(30.0), "closed", "5", "pair_accuracy_per_task")  # nor is worse any better
    assert is_guessing(evaluation(38.0), "episodes", "", "5-way 1-shot") is True  # 18 ± 0.6
    assert is_guessing(evaluation(41.0), "episodes", "", "5-way 1-shot") is False  # 21 ± 0.6


def test_a_run_at_chance_is_called_so_in_words() -> None:
    words = "reptile is right about same/different in 50.8 % of pairs"
    said = "this cannot be told from guessing (50 %)."
    data = guessing()
    answer = headline({"methods": {"reptile": data}}).sentence
    assert words in answer
    assert answer.endswith(said)
    for text in (evaluation_page(data, "reptile"), comparison_markdown({"methods": {"reptile": data}})):
        assert "this cannot be told from guessing" in text
    assert "cannot be told" not in headline({"methods": {"reptile": evaluation()}}).sentence


def test_a_sweep_names_the_splits_at_chance() -> None:
    points = sweep_points(("m",))
    assert "cannot be told" not in sweep_table(points).note
    closed = points[2].evaluation["held_out"]["closed"]["0"]
    closed["pair_accuracy"]["global"] = mean(50.9, 1.0)
    assert sweep_table(points).note.endswith("Held-out pairs that cannot be told from guessing (50): m 30-70.")


def test_a_comparison_says_who_is_at_chance() -> None:
    one = headline(with_guessing("b"))
    assert one.sentence.startswith(
        "On ten unseen CIFAR-100 classes, a is right about same/different in 74.0 % of pairs"
    )
    assert one.sentence.endswith("guessing: 50 %). b cannot be told from guessing.")
    both = headline(with_guessing("a", "b"))
    assert both.sentence.endswith(": neither of them can be told from guessing.")
    assert "no clear winner" not in both.sentence
    assert "neither of them can be told from guessing" in comparison_page(with_guessing("a", "b"))


def test_a_method_at_chance_wins_nothing() -> None:
    assert verdict(with_guessing(), "closed", "5", "ece").winner == "b"  # less error, and it knows something
    found = verdict(with_guessing("b"), "closed", "5", "ece")
    assert (found.winner, found.words, found.beaten) == (None, "none: guessing", {})
    better = verdict(with_guessing("a", "b"), "closed", "5", "pair_accuracy_per_task")
    assert (better.winner, better.words) == (None, "none: guessing")
    table = comparison_table(with_guessing("b"), ("ece", "triplet_accuracy"))
    assert [row[-1] for row in table.rows[:4]] == ["none: guessing", "none: guessing", "a", "a"]
    assert "never one that cannot be told from guessing" in table.note
    assert "guessing" not in comparison_table(with_guessing(), ("ece",)).note


def test_of_three_every_two_are_told() -> None:
    """b is best beyond doubt of neither, yet better than c: what the old "best two" never said."""
    data = comparison({"a": 82.0, "b": 81.5, "c": 78.0}, shots=("5",), regimes=("closed",))
    table = comparison_table(data)
    assert table.rows[0][-2:] == ("a, b > c", "no clear winner")
    answer = headline(data)
    assert answer.sentence.endswith("no clear winner.")
    assert answer.certainty.endswith(
        "Beyond chance, a and b are better than c; no other two methods can be told apart."
    )
    won = headline(comparison({"a": 84.0, "b": 81.5, "c": 78.0}))
    assert "Beyond chance, a is better than b and c; b is better than c;" in won.certainty
    pairs = pairs_table(data, "closed", "5")
    assert [row[0] for row in pairs.rows] == ["a − b", "a − c", "b − c"]
    assert [column.title for column in pairs.columns] == ["difference", "triplet", "pairs, calibrated"]
    assert pairs.rows[2][1] == "+3.5 [+2.5, +4.5]"
    assert pairs.strong == {(1, 1), (1, 2), (2, 1), (2, 2)}
    for text in (comparison_page(data), comparison_markdown(data)):
        assert "+3.5 [+2.5, +4.5]" in text.replace("\\[", "[").replace("\\]", "]")


def test_answers_are_called_sure_only_where_they_are() -> None:
    examples = pictures("m", 16)
    text = re.sub("<[^>]*>", " ", picture_groups(examples))
    assert "m: sure and wrong" in text
    unsure = [
        type(one)(**{**one.__dict__, "probability": 0.55 if one.answered_same else 0.45}) for one in examples
    ]  # fmt: skip
    text = picture_groups(unsure)
    assert "m: wrong, but never sure (at most 55\u00a0%)" in text
    assert "m: right, but never sure (at most 55\u00a0%)" in text
    assert "sure and" not in text
    mixed = picture_groups([*unsure, *examples])
    assert "55\u00a0%" not in mixed  # some are sure: only those are shown


@pytest.mark.parametrize(
    ("plan", "per_task", "words"),
    [
        ({"steps": 5, "stretch": 0.0}, 61.0, "after adapting to 5 images of each"),
        ({"steps": 0, "stretch": 2.0}, 61.0, "after adapting to 5 images of each"),
        ({"steps": 0, "stretch": 0.0}, 61.0, "with thresholds fitted to 5 images of each"),
        ({"steps": 0, "stretch": 0.0}, 60.0, "given 5 images of each, which changed nothing"),
        (None, 61.0, "after seeing 5 images of each"),
    ],
)
def test_what_was_done_with_the_images_known_is_said(plan: Any, per_task: float, words: str) -> None:
    data = evaluation(shots=("0", "5"), regimes=("closed",))
    data["held_out"]["closed"]["5"]["pair_accuracy"] |= {"global": mean(60.0), "per_task": mean(per_task)}
    data["protocol"] |= {"plans": {"5": plan}} if plan else {}
    assert f"% of pairs {words}; guessing" in headline({"methods": {"m": data}}).sentence
    other = evaluation(shots=("0", "5"), regimes=("closed",))
    other["protocol"]["plans"] = {"5": {"steps": 9}}
    runs = [{"seed": seed, "evaluation": data} for seed in (0, 1)]
    pooled = {"methods": {"m": evaluation(shots=("0", "5"))}, "trainings": {"m": runs}}  # plans stand with trainings
    assert f"% of pairs {words}; guessing" in headline(pooled).sentence
    both = headline({"methods": {"m": data, "n": other}}).sentence
    assert (words if plan and (plan["steps"] or plan["stretch"]) else " given 5 images of each (guessing") in both


def test_a_fixed_threshold_that_answers_everything_alike_is_left_out_and_explained() -> None:
    data = evaluation(shots=("0", "5"), regimes=("closed",))
    assert "pairs fixed" in [column.title for column in task_table(data).columns]
    data["protocol"]["threshold"] = 0.2
    for row in data["held_out"]["tasks"]:
        row["pair_accuracy_fixed"] = mean(50.0, 0.0)
    for metrics in (*data["held_out"]["closed"].values(), *data["seen"]["closed"].values()):
        metrics["pair_accuracy"]["fixed"] = mean(50.1, 0.2)
    for table in (task_table(data), summary_table(data)):
        assert "pairs fixed" not in [column.title for column in table.columns]
        assert "The fixed threshold 0.200 is left out: nearly all similarities lie on one side of it" in table.note
        assert all(len(row) == len(table.columns) for row in (*table.rows, *table.footer))
    compare = {"methods": {"a": data, "b": data}, "paired": []}
    labels = [row[0] for row in comparison_table(compare, ("pair_accuracy_fixed", "triplet_accuracy")).rows]
    assert "pairs, fixed, closed" not in labels
    compare["methods"]["b"] = evaluation(shots=("0", "5"), regimes=("closed",))
    labels = [row[0] for row in comparison_table(compare, ("pair_accuracy_fixed", "triplet_accuracy")).rows]
    assert "pairs, fixed, closed" in labels


def test_a_lopsided_interval_stands_in_brackets_and_never_beyond_all_or_nothing() -> None:
    def worded(value: float, low: float, high: float, name: str = "triplet_accuracy") -> str:
        return plus_minus(interval({"mean": value, "ci95": [low, high], "n": 10}), name)

    assert worded(83.7, 82.5, 84.9) == "83.7 ± 1.2"
    assert worded(83.7, 82.3, 84.9) == "83.7 ± 1.3"  # as even as rounding tells
    assert worded(62.3, 57.8, 71.4) == "62.3 [57.8, 71.4]"
    assert worded(90.3, 72.0, 100.0) == "90.3 [72.0, 100.0]"
    assert worded(99.0, 97.9, 100.1) == "99.0 [97.9, 100.0]"
    assert worded(100.0, 83.9, 100.0) == "100.0 [83.9, 100.0]"
    assert worded(1.0, -1.0, 3.0) == "1.0 [0.0, 3.0]"
    assert worded(0.668, 0.614, 0.768, "auc") == "0.668 [0.614, 0.768]"
    assert worded(0.9, 0.88, 0.92, "auc") == "0.900 ± 0.020"
    assert worded(50.0, 50.0, 50.0) == "50.0 ± 0.0"


def test_a_table_of_several_seeds_names_none_of_them() -> None:
    data = evaluation(shots=("0",), regimes=("closed",))
    assert task_table(data).title.endswith(", seed 0")
    pooled = {**data, "protocol": {**data["protocol"], "differs_between_trainings": ["plans"]}}
    assert task_table(pooled).title.endswith(", means over trainings")
    for methods in ({"a": pooled, "b": data}, {"a": data, "b": pooled}):
        assert method_task_table(methods).title.endswith(", means over trainings")
