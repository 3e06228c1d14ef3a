"""What a comparison leaves: files, tables on the terminal, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from metasiam.workflows.compare import Comparison


def render(console: Console, comparison: Comparison, written: list[Path]) -> None:
    """Print each method's per-task table side by side, the comparison, and what was written."""
    from metasiam.cli.evaluating import print_answer, print_written
    from metasiam.reports.comparison import comparison_table, pairs_table
    from metasiam.reports.numbers import method_name
    from metasiam.reports.reference import reference_table
    from metasiam.reports.rendering import print_table
    from metasiam.reports.tables import method_task_table, task_table
    from metasiam.reports.wording import leading_condition

    methods = comparison.data["methods"]
    if any(evaluation.get("held_out", {}).get("tasks") for evaluation in methods.values()):
        for name, evaluation in methods.items():
            console.print(Text(f"\n{method_name(name)}", style="bold"))
            print_table(console, task_table(evaluation))
        if len(methods) > 1:
            print_table(console, method_task_table(methods))
    print_table(console, comparison_table(comparison.data))
    leading = leading_condition(comparison.data)
    if len(methods) > 2 and leading is not None:
        print_table(console, pairs_table(comparison.data, *leading[:2]))
    if any("reference_protocol" in evaluation for evaluation in methods.values()):
        print_table(console, reference_table(methods))
    print_answer(console, comparison.data)
    print_written(console, written)
