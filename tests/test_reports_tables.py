"""Tables say what the JSON says, whatever is missing from it and whatever its names hold."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from reports_samples import evaluation, mean
from rich.console import Console

from metasiam.reports.numbers import (
    Interval,
    clean,
    interval,
    more_digits,
    plus_minus,
    shots_order,
    signed,
    spelled,
)
from metasiam.reports.rendering import Column, Table, print_table, to_html, to_markdown, to_rich
from metasiam.reports.tables import (
    methods_csv,
    summary_table,
    task_table,
    tasks_csv,
)


def printed(table: Table, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(to_rich(table))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_the_task_table_has_a_row_for_each_task_and_the_mean_with_its_interval() -> None:
    text = " ".join(printed(task_table(evaluation(80.0), "closed", "5")).split())
    assert "Held-out tasks (never trained on)" in text
    assert "closed, 5 images known, 2,000 pairs each, seed 0" in text
    text = printed(task_table(evaluation(80.0), "closed", "5"))
    for name in ("willow_tree", "wardrobe"):
        assert sum(name in line for line in text.splitlines()) == 1
    mean_line = next(line for line in text.splitlines() if line.strip().startswith("mean"))
    assert "82.0 ± 1.3" in mean_line  # METRICS of closed, 5 shots: 80 + 2
    assert "75.0 ± 1.3" in mean_line


def test_the_task_table_leads_with_five_images_else_the_most_and_the_closed_regime() -> None:
    assert ", 5 images known" in task_table(evaluation()).title
    assert ", all images known" in task_table(evaluation(shots=("0", "20", "all"))).title
    assert ", 20 images known" in task_table(evaluation(), shots="20").title
    assert ", closed," in task_table(evaluation()).title
    assert ", antidomain," in task_table(evaluation(regimes=("antidomain",))).title
    assert "not adapted" in task_table(evaluation(shots=("0",))).title


def test_the_mean_row_falls_back_to_the_mean_of_the_tasks() -> None:
    data = evaluation(intervals=False, shots=("0",), regimes=("closed",))
    del data["held_out"]["closed"]
    values = [row["triplet_accuracy"] for row in data["held_out"]["tasks"]]
    assert task_table(data).footer[0][2] == f"{sum(values) / len(values):.1f}"


def test_numbers_stay_whole_on_a_terminal_of_eighty_columns() -> None:
    data = evaluation(names=("a domain with a name that goes on and on and on and on", "b"))
    text = printed(task_table(data, "closed", "0"), width=80)
    row = task_table(data, "closed", "0").rows[0]
    assert all(cell in text for cell in row[2:])
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(
    "names", [("a domain with a name that goes on and on and on", "b"), ("onelongwordof24letters__", "b")]
)
def test_lopsided_intervals_fit_eighty_columns_too(names: tuple[str, ...]) -> None:
    data = evaluation(99.0, names=names, shots=("0",), regimes=("closed",))
    for row in data["held_out"]["tasks"]:
        for name in ("triplet_accuracy", "pair_accuracy_fixed", "pair_accuracy_calibrated"):
            row[name] = {"mean": 100.0, "ci95": [86.1, 100.0], "n": 20}
    text = printed(task_table(data), width=80)
    assert text.count("[86.1, 100.0]") == 6
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_a_narrower_terminal_cuts_no_number_off() -> None:
    table = task_table(evaluation(names=("a domain with a name that goes on and on", "b")), "closed", "0")
    for width in (60, 30):
        console = Console(width=width, file=io.StringIO(), color_system=None)
        print_table(console, table)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        for row in (*table.rows, *table.footer):
            assert all(part in text for cell in row[2:] for part in cell.split(" ± "))
        if width == 60:
            assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    wide = Console(width=80, file=io.StringIO(), color_system=None)
    print_table(wide, table)
    assert wide.file.getvalue() == printed(table, width=80)  # type: ignore[attr-defined]


def test_domain_names_are_never_read_as_markup() -> None:
    name = "[red]x[/red] </td><script>|*y*\x1b[31m\n"
    table = task_table(evaluation(names=(name,)))
    assert "[red]x[/red] </td><script>|*y*" in printed(table, width=200)
    assert "\x1b" not in printed(table, width=200)
    assert "<script>" not in to_html(table)
    assert "&lt;script&gt;" in to_html(table)
    lines = [line for line in to_markdown(table).splitlines() if "script" in line]
    assert len(lines) == 1
    assert "\\|\\*y\\*" in lines[0]
    assert "<script>" not in lines[0]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"schema": 1, "protocol": {}, "held_out": {}},
        {"held_out": {"tasks": [{"task": 3, "name": "x", "regime": "closed", "shots": "0"}]}},
        {"held_out": {"closed": {"0": {"triplet_accuracy": {"mean": float("nan"), "ci95": None, "n": 0}}}}},
        {"held_out": {"closed": {"0": {}}, "tasks": None}, "seen": None},
        {"held_out": {"tasks": [{"task": 3, "name": "x"}]}},
    ],
)
def test_absent_keys_leave_gaps_and_never_fail(data: dict[str, Any]) -> None:
    assert printed(task_table(data))
    assert printed(summary_table(data))
    assert tasks_csv(data).startswith("task,name,regime,shots")
    assert "nan" not in printed(summary_table(data))


def test_fifty_tasks_make_fifty_rows() -> None:
    data = evaluation(names=tuple(f"domain {number}" for number in range(50)))
    assert len(task_table(data).rows) == 50


def test_the_summary_has_a_row_for_each_regime_and_number_of_images_in_order() -> None:
    table = summary_table(evaluation())
    assert [row[:2] for row in table.rows][:3] == [("seen", "0"), ("closed", "0"), ("closed", "1")]
    assert [row[1] for row in table.rows[-5:]] == ["0", "1", "5", "20", "all"]
    assert len(table.rows) == 1 + 2 * 5
    assert "upper bound" in table.note


def test_tasks_csv_has_the_schema_columns_then_the_intervals() -> None:
    data = evaluation(names=("a, b", 'c "d"'), shots=("0",), regimes=("closed",))
    rows = list(csv.DictReader(io.StringIO(tasks_csv(data))))
    assert list(rows[0])[:10] == [
        "task", "name", "regime", "shots", "triplet_accuracy", "pair_accuracy_fixed",
        "pair_accuracy_calibrated", "threshold", "auc", "n_pairs",
    ]  # fmt: skip
    task = data["held_out"]["tasks"][0]
    assert rows[0]["name"] == "a, b"
    assert rows[1]["name"] == 'c "d"'
    assert float(rows[0]["triplet_accuracy"]) == task["triplet_accuracy"]["mean"]
    assert float(rows[0]["triplet_accuracy_low"]) == task["triplet_accuracy"]["ci95"][0]


def test_the_csv_of_several_methods_names_the_method_first() -> None:
    methods = {"reptile": evaluation(names=("a",), intervals=False), "triplet": evaluation(names=("a",))}
    rows = list(csv.DictReader(io.StringIO(methods_csv(methods))))
    assert next(iter(rows[0])) == "method"
    assert {row["method"] for row in rows} == {"reptile", "triplet"}
    assert rows[0]["triplet_accuracy_low"] == ""
    assert rows[-1]["triplet_accuracy_low"] != ""


def test_markdown_tables_have_the_same_number_of_cells_in_every_line() -> None:
    text = to_markdown(task_table(evaluation(names=("a|b", "c"))))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert len(lines) == 2 + 2 + 1


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells for 1 column"):
        Table("", (Column("a"),), (("1", "2"),))


def test_values_are_read_from_numbers_and_from_intervals_alike() -> None:
    assert interval(83.2) == (83.2, None, None, None)
    assert interval(mean(80.0, 2.0, 7)) == (80.0, 78.0, 82.0, 7)
    assert interval({"mean": None, "ci95": [1, 2]}) is None
    assert interval(float("inf")) is None
    assert interval(True) is None
    assert interval("83") is None
    assert plus_minus(interval(mean(80.0, 2.0))) == "80.0 ± 2.0"
    assert plus_minus(interval(0.9), "auc") == "0.900"


def test_words_for_counts_differences_and_orders() -> None:
    assert spelled(10, "class") == "ten classes"
    assert spelled(1, "image") == "one image"
    assert spelled(1500, "domain") == "1,500 domains"
    assert signed(1.25) == "+1.2"
    assert signed(-0.4) == "−0.4"
    assert signed(0.04) == "0.0"
    assert signed(-0.04, more=1) == "−0.04"
    assert [more_digits(Interval(-3.0, low, high)) for low, high in ((-7.6, -0.3), (-7.6, -0.04), (-7.6, 0.04))] == [
        0,
        1,
        0,
    ]
    assert more_digits(Interval(2.0, 0.004, 5.0)) == 2
    assert more_digits(Interval(0.1, 0.0004, 0.2), "auc") == 1
    assert sorted(["all", "20", "5", "0"], key=shots_order) == ["0", "5", "20", "all"]
    assert clean("a\nb\x00c\u202ed") == "a bcd"
    assert len(clean("x" * 500, 20)) == 20
