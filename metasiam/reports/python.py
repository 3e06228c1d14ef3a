"""Evaluations and comparisons in Python's hands: tables as text and HTML, one figure, a folder with the page."""

from __future__ import annotations

import html
import importlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from metasiam.data.domains import DomainSet
from metasiam.errors import MetaSiamError
from metasiam.evaluation.result import Evaluation
from metasiam.reports.comparison import comparison_table
from metasiam.reports.extras import extras_of
from metasiam.reports.files import figures_of, write_comparison, write_figures
from metasiam.reports.numbers import Json, method_name, task_rows
from metasiam.reports.page import evaluation_page
from metasiam.reports.rendering import Table, print_table, to_html
from metasiam.reports.tables import (
    TASK_COLUMNS,
    episode_table,
    flat_task_rows,
    method_task_table,
    summary_table,
    task_table,
    tasks_csv,
)
from metasiam.reports.wording import headline
from metasiam.runs import write_text
from metasiam.runs.places import COMPARISON, EVALUATION, check_new, holds

_WIDTH = 120  # characters of a table as text


def answer_of(compare: Json) -> str:
    """Return the answer in plain words, as a report begins; empty where nothing was measured on unseen domains."""
    methods = compare.get("methods") or {}
    if not any((evaluation.get("held_out") or {}) for evaluation in methods.values()):
        return ""
    answer = headline(compare)
    return " ".join(part for part in (answer.sentence, answer.certainty) if part)


def tables_of(compare: Json) -> list[Table]:
    """Return the tables of a comparison, or of the only evaluation in it; those without a row are left out."""
    methods: Mapping[str, Json] = compare.get("methods") or {}
    if len(methods) == 1:
        evaluation = next(iter(methods.values()))
        found = [task_table(evaluation)] if task_rows(evaluation) else []
        found.append(summary_table(evaluation))
        if (evaluation.get("held_out") or {}).get("episodes"):
            found.append(episode_table({"accuracy": evaluation}))
    else:
        found = [comparison_table(compare)]
        if any(task_rows(evaluation) for evaluation in methods.values()):
            found.append(method_task_table(methods))
    return [table for table in found if table.rows]


def as_text(compare: Json) -> str:
    """Return the tables and the answer as plain text."""
    text = io.StringIO()
    console = Console(file=text, width=_WIDTH, color_system=None, highlight=False, markup=False)
    for table in tables_of(compare):
        print_table(console, table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([*lines, answer_of(compare)]).strip("\n")


def as_html(compare: Json) -> str:
    """Return the answer and the tables for a notebook."""
    answer = answer_of(compare)
    lead = f"<p><strong>{html.escape(answer)}</strong></p>" if answer else ""
    return lead + "".join(to_html(table) for table in tables_of(compare))


def figure_of(evaluations: Mapping[str, Evaluation], name: str | None) -> Figure:
    """Return one figure of a report.

    Args:
        evaluations: by method.
        name: ``tasks``, ``accuracy_over_images``, ``roc``, ``similarity`` or ``accuracy_over_steps``; None is accuracy
            over images where several numbers of them were measured, else tasks.

    Raises:
        MetaSiamError: if the numbers do not allow it.
    """
    methods = {method: evaluation.data for method, evaluation in evaluations.items()}
    figures = figures_of(methods, extras_of(evaluations, None))
    if not figures:
        raise MetaSiamError("there is nothing to draw: no held-out domain was measured.")
    if name is None:
        counts = {row.get("shots") for evaluation in methods.values() for row in task_rows(evaluation)}
        name = "accuracy_over_images" if len(counts) > 1 else "tasks"
        return figures.get(name) or next(iter(figures.values()))
    if name not in figures:
        raise MetaSiamError(f"there is no figure {name!r} of these numbers. There is: {', '.join(figures)}.")
    return figures[name]


def write_evaluation_report(
    folder: Path, evaluation: Evaluation, *, name: str, domains: DomainSet | None, overwrite: bool
) -> Path:
    """Write ``report.html``, ``evaluation.json``, ``tasks.csv`` and ``figures/`` into a folder; return the page.

    Raises:
        MetaSiamError: if the folder holds a report without ``overwrite``, or something else, or cannot be written.
    """
    check_new(EVALUATION, folder, overwrite=overwrite)
    if (folder / "figures").exists() and not holds(EVALUATION, folder):
        raise MetaSiamError(f"{folder} holds figures/ but no evaluation. Choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    extras = extras_of({name: evaluation}, domains)
    write_text(folder / "evaluation.json", json.dumps(evaluation.data, indent=1, ensure_ascii=False) + "\n")
    if task_rows(evaluation.data):
        write_text(folder / "tasks.csv", tasks_csv(evaluation.data))
    write_figures(folder / "figures", {name: evaluation.data}, extras)
    return write_text(folder / "report.html", evaluation_page(evaluation.data, name, extras=extras))


def write_comparison_report(
    folder: Path,
    compare: dict[str, Any],
    evaluations: Mapping[str, Evaluation],
    *,
    settings: Mapping[str, Json],
    domains: DomainSet | None,
    overwrite: bool,
) -> Path:
    """Write what ``metasiam compare`` writes into a folder, but for trainings; return the page.

    Raises:
        MetaSiamError: if the folder holds a report without ``overwrite``, or something else, or cannot be written.
    """
    check_new(COMPARISON, folder, overwrite=overwrite)
    extras = extras_of(evaluations, domains)
    return write_comparison(folder, compare, settings=settings, extras=extras)[0]


def records_of(methods: Mapping[str, Json]) -> list[dict[str, Any]]:
    """Return a dict for each task, regime and number of images, as of ``tasks.csv``; of several methods with a name."""
    records = []
    for method, evaluation in methods.items():
        rows, bounds = flat_task_rows(evaluation)
        names = [*TASK_COLUMNS, *bounds]
        own = {"method": method} if len(methods) > 1 else {}
        records += [{**own, **{name: row.get(name) for name in names}} for row in rows]
    return records


def frame_of(methods: Mapping[str, Json]) -> Any:
    """Return the records as a ``pandas.DataFrame``.

    Raises:
        MetaSiamError: without pandas.
    """
    try:
        pandas = importlib.import_module("pandas")  # no need of ours: who has it, can use it
    except ImportError as error:
        raise MetaSiamError(
            "to_frame needs pandas: pip install pandas. Without it, records() returns the same rows as dicts."
        ) from error
    return pandas.DataFrame(records_of(methods))


def named(methods: Iterable[str]) -> str:
    """Return methods' names as a short list."""
    return ", ".join(method_name(name) for name in methods)
