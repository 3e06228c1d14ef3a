"""Answers of ``identify`` as JSON lines and as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from metasiam.errors import MetaSiamError
from metasiam.gallery.given import Picture
from metasiam.gallery.posterior import UNKNOWN_PRIOR
from metasiam.gallery.recognise import Answer
from metasiam.options.gallery import ANSWER_FILES
from metasiam.runs import write_text
from metasiam.wording import harmless_json, printable, spreadsheet_cell

#: A picture, and its answer or why it has none.
Row = tuple[Picture, Answer | str]


def as_json(rows: Iterable[Row], *, ascii_only: bool = False) -> str:
    """Return one JSON object a line: ``picture``, ``name``, ``probability``, ``guesses``, or an ``error``.

    Args:
        rows: pictures and their answers.
        ascii_only: write letters of other alphabets as JSON's escapes.
    """
    lines = []
    for picture, answer in rows:
        if isinstance(answer, str):
            row: dict[str, Any] = {"name": None, "probability": None, "guesses": [], "error": answer}
        else:
            guesses = [{"name": g.name, "probability": round(g.probability, 4)} for g in answer.guesses]
            row = {"name": answer.name, "probability": round(answer.probability, 4), "guesses": guesses}
            row |= {"unknown_probability": round(answer.unknown, 4), "unknown_prior": UNKNOWN_PRIOR}
        line = json.dumps({"picture": str(picture), **row}, ensure_ascii=ascii_only)
        lines.append(printable(harmless_json(line)) + "\n")
    return "".join(lines)


def as_csv(rows: Iterable[Row]) -> str:
    """Return comma-separated values with a header; no cell is one that a spreadsheet would run as a formula."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["picture", "name", "probability", "runner_up", "runner_up_probability", "error"])
    for picture, answer in rows:
        cells = [picture, "", "", "", "", answer]
        if not isinstance(answer, str):
            second, chance = runner_up(answer)
            cells = [picture, answer.name, f"{answer.probability:.4f}", second, f"{chance:.4f}", ""]
        table.writerow(map(spreadsheet_cell, cells))
    return printable(text.getvalue())


def runner_up(answer: Answer) -> tuple[str, float]:
    """Return the second likeliest answer and its probability: a name, or ``unknown`` behind one."""
    names = [guess for guess in answer.guesses if guess.name != answer.name]
    if answer.name != "unknown" and (not names or answer.unknown > names[0].probability):
        return "unknown", answer.unknown
    return names[0].name, names[0].probability


#: How answers are written, by the file's ending.
FORMATS: dict[str, Callable[[Iterable[Row]], str]] = dict(zip(ANSWER_FILES, (as_csv, as_json), strict=True))


def write_answers(out: Path, rows: Iterable[Row]) -> Path:
    """Write answers to a file that ends in one of ``FORMATS``, and return its path.

    Raises:
        MetaSiamError: if it cannot be written.
    """
    try:
        return write_text(out, FORMATS[out.suffix.lower()](rows))
    except OSError as error:
        raise MetaSiamError(f"{out} cannot be written ({error.strerror}). Use another --out.") from error
