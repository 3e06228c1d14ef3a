"""What an evaluation shows on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from metasiam.evaluation.result import Evaluation


def print_answer(console: Console, compare: Mapping[str, Any]) -> None:
    """Print the answer that a report begins with, from a dict as of ``compare.json``."""
    from metasiam.reports.wording import headline

    answer = headline(compare)
    words = " ".join(part for part in (answer.sentence, answer.certainty) if part)
    console.print(f"\n{words}", highlight=False, markup=False, soft_wrap=True)


def print_evaluation(console: Console, evaluation: Evaluation, name: str, written: Iterable[Path]) -> None:
    """Print the per-task table, the means, measurements of the published systems, the answer and what was written."""
    from metasiam.reports.reference import reference_table
    from metasiam.reports.rendering import print_table
    from metasiam.reports.tables import episode_table, summary_table, task_table

    if evaluation.data.get("held_out", {}).get("tasks"):
        print_table(console, task_table(evaluation.data))
    summary = summary_table(evaluation.data)
    if summary.rows:
        print_table(console, summary)
    if evaluation.data.get("held_out", {}).get("episodes"):
        print_table(console, episode_table({"accuracy": evaluation.data}))
    if "reference_protocol" in evaluation.data:
        print_table(console, reference_table({"this embedder": evaluation.data}))
    print_answer(console, {"methods": {name: evaluation.data}})
    print_written(console, written)


def print_written(console: Console, written: Iterable[Path]) -> None:
    """Say which files were written, the folder once."""
    paths = list(written)
    if not paths:
        return
    folder = paths[0].parent
    names = ", ".join(str(path.relative_to(folder)) for path in paths).replace("report.html", "report.html (open it)")
    console.print(f"\nwrote to {folder}: {names}", highlight=False, markup=False, soft_wrap=True)
