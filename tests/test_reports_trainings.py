"""A report says how often each method was trained, and what each training reached."""

from __future__ import annotations

from typing import Any

from reports_samples import comparison, evaluation

from metasiam.reports.comparison import comparison_table
from metasiam.reports.markdown import comparison_markdown
from metasiam.reports.page import comparison_page
from metasiam.reports.trainings import trainings_table, trainings_words

ONCE = (
    "Each method was trained once: another seed would shift these numbers too, and the intervals do not include "
    "that (--seeds 0,1,2 measures it)."
)


def training(seed: int, triplet: float) -> dict[str, Any]:
    return {"run": f"run-seed-{seed}", "seed": seed, "evaluation": evaluation(triplet, shots=("0", "5"))}


TWICE = comparison() | {
    "trainings": {
        "reptile": [training(0, 80.0), training(1, 83.0)],
        "triplet": [training(0, 79.0), training(1, 81.0)],
    }
}


def test_words_say_how_often_each_method_was_trained() -> None:
    assert trainings_words(comparison()) == ONCE
    assert trainings_words(comparison() | {"budget": {"images_by_method": {"reptile": 9, "triplet": 8}}}) == ONCE
    assert trainings_words(comparison({"reptile": 80.0})) == ""
    assert trainings_words(comparison() | {"budget": None}) == (
        "These weights, not the methods behind them, are compared: another training would shift these numbers too."
    )
    assert trainings_words(TWICE) == (
        "Every method was trained two times (seeds 0, 1); numbers are means over trainings, and the intervals "
        "include run-to-run variance."
    )
    reptile_only = comparison() | {"trainings": {"reptile": TWICE["trainings"]["reptile"]}}
    assert trainings_words(reptile_only) == (
        "Trainings: reptile two times (seeds 0, 1), classic once; numbers are means over trainings, and the intervals "
        "include run-to-run variance (unknown for methods trained once)."
    )


def test_the_table_has_a_row_for_each_training_and_the_standard_deviation() -> None:
    table = trainings_table(TWICE)
    assert [column.title for column in table.columns] == [
        "method", "seed", "triplet, not adapted", "pairs, not adapted", "triplet, 5 images known",
        "pairs, 5 images known",
    ]  # fmt: skip
    assert table.rows[:3] == (
        ("reptile", "0", "80.0", "73.0", "81.0", "74.0"),
        ("reptile", "1", "83.0", "76.0", "84.0", "77.0"),
        ("reptile", "sd", "±2.1", "±2.1", "±2.1", "±2.1"),
    )
    assert [row[:2] for row in table.rows[3:]] == [("classic", "0"), ("classic", "1"), ("classic", "sd")]


def test_page_and_markdown_show_them_where_there_are_any() -> None:
    for text in (comparison_page(TWICE), comparison_markdown(TWICE)):
        assert "Every method was trained two times" in text
        assert "Each training: accuracy" in text
    for text in (comparison_page(comparison()), comparison_markdown(comparison())):
        assert "Every method was trained" not in text
        assert "Each training:" not in text


def test_that_chance_of_training_is_in_no_interval_stands_near_the_answer_and_under_the_table() -> None:
    for text in (comparison_page(comparison()), comparison_markdown(comparison())):
        assert text.count(ONCE) >= 2
        assert text.index(ONCE) < text.index("<table>" if "<table>" in text else "| measured |")
    assert ONCE in comparison_table(comparison()).note
    assert "Every method was trained two times" in comparison_table(TWICE).note
    assert "trained" not in comparison_table(comparison({"reptile": 80.0})).note
