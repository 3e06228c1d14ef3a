"""Names of files and domains are shown on a terminal and in spreadsheets, and never obeyed by them."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rich.table import Table as RichTable
from rich.text import Text

import metasiam.cli
from metasiam.cli import run
from metasiam.cli.terminal import say, terminal
from metasiam.gallery import Answer, Guess
from metasiam.gallery.answers import as_csv, as_json
from metasiam.progress_lines import lines
from metasiam.reports.rendering import Column, Table, print_table, to_csv
from metasiam.wording import harmless, harmless_json, spreadsheet_cell

#: Colours, a cleared screen, a window's title by C1, a turned direction, a new line by its own sign.
NASTY = "a\x1b[31m\x1b[2Jb\x9d0;t\x1a\u202egnp.exe\u2028z"
SHOWN = "a\\x1b[31m\\x1b[2Jb\\x9d0;t\\x1a\\u202egnp.exe\\u2028z"


def test_what_a_terminal_obeys_is_written_out_and_other_letters_stay():
    assert harmless(NASTY) == SHOWN
    for name in ("José", "नमस्ते", "می‌خواهم", "👨‍👩‍👧", "שלום", "two words\nand\ttabs", "\udcff"):
        assert harmless(name) == name
    assert harmless(SHOWN) == SHOWN


def test_a_console_shows_names_and_keeps_its_own_colours():
    file = io.StringIO()
    console = terminal(file=file, force_terminal=True, width=200, color_system="standard")
    table = RichTable("name")
    table.add_row(Text(NASTY, "red"))
    console.print(Text(f"{NASTY} is here"), table)
    console.print(f"{NASTY} again", markup=False, highlight=False)
    with lines(console) as shown:
        shown.say(NASTY)
        shown.progress(NASTY, 1, 2)
    text = file.getvalue()
    assert "\x1b[31m" in text  # rich's own red
    assert "\x1b[31m\x1b[2J" not in text
    assert not re.search("[\x1a\x9d\u202e\u2028]", text)
    assert text.count(SHOWN) >= 4


def test_tables_of_reports_hold_no_sign_that_is_obeyed():
    file = io.StringIO()
    table = Table("", (Column("domain", "left"), Column("accuracy")), ((NASTY, "1"), ("b", "2")))
    print_table(terminal(file=file, width=120), table)
    assert "gnp.exe" in file.getvalue()
    assert not re.search("[\x1b\x9d\u202e]", file.getvalue())


def test_errors_and_lines_show_them_too(capsys):
    assert run(["match", f"{NASTY}.png", "b.png", "--weights", "nowhere"]) == 2
    assert run(["data", "show", f"folder:{NASTY}"]) == 2
    say(f"{NASTY}: left out")
    shown = capsys.readouterr().err
    assert not re.search("[\x1b\x1a\x9d\u202e]", shown)
    assert SHOWN in shown


def test_every_console_of_the_commands_is_such_a_one():
    for file in Path(metasiam.cli.__file__).parent.glob("*.py"):
        assert re.search(r"(?<![\w.])Console\(", file.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize("cell", ["=1+2", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "=HYPERLINK(1)"])
def test_a_cell_that_would_run_is_quoted(cell):
    assert spreadsheet_cell(cell) == f"'{cell}"
    assert next(csv.reader(io.StringIO(to_csv(["name"], [{"name": cell}]).partition("\n")[2]))) == [f"'{cell}"]


@pytest.mark.parametrize("cell", ["a=b", "-0.5", "+3", "-1e-05", "", "cat", 0.5, -3, Path("a.png")])
def test_numbers_and_other_texts_stay(cell):
    assert spreadsheet_cell(cell) == cell


def test_answers_are_quoted_in_csv_and_exact_in_json():
    answer = Answer("=1+2", 0.9, (Guess("=1+2", 0.9, 1.0, 0.5), Guess("@x", 0.1, 0.1, 0.5)), 0.05)
    answers = [(Path(f"{NASTY}.png"), answer), (Path("-b.png"), "it is =damaged")]
    first, second = list(csv.reader(io.StringIO(as_csv(answers))))[1:]
    assert first[1:] == ["'=1+2", "0.9000", "'@x", "0.1000", ""]
    assert second[0] == "'-b.png"
    rows = as_json(answers)
    assert not re.search("[\x1b\x9d\u202e\u2028]", rows)
    assert json.loads(rows.split("\n")[0])["picture"] == f"{NASTY}.png"
    assert json.loads(harmless_json(json.dumps(NASTY, ensure_ascii=False))) == NASTY
