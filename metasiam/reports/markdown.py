"""Reports as Markdown: ``compare.md``, and the table of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from metasiam.reports.comparison import comparison_table, pairs_table
from metasiam.reports.inputs import SweepPoint
from metasiam.reports.numbers import Json, episodes_of, method_name, task_rows
from metasiam.reports.reference import reference_table, sweep_table
from metasiam.reports.rendering import Table, markdown_text, to_markdown
from metasiam.reports.settings import settings_table
from metasiam.reports.tables import episode_table, method_task_table
from metasiam.reports.trainings import trainings_table, trainings_words
from metasiam.reports.wording import budget_words, headline, leading_condition


def comparison_markdown(compare: Json, *, settings: dict[str, Json] | None = None) -> str:
    """Return ``compare.md``: the answer, the comparison, the held-out tasks side by side, the settings.

    Args:
        compare: a parsed ``compare.json``.
        settings: each method's parsed ``config.json``, if they are to be listed.
    """
    methods = compare.get("methods") or {}
    tables = [comparison_table(compare)]
    leading = leading_condition(compare)
    if len(methods) > 2 and leading is not None:
        tables.append(pairs_table(compare, *leading[:2]))
    if any(task_rows(evaluation) for evaluation in methods.values()):
        tables.append(method_task_table(methods))
    if episodes_of(methods.values()):
        tables.append(episode_table(methods))
    if compare.get("trainings"):
        tables.append(trainings_table(compare))
    if any(evaluation.get("reference_protocol") for evaluation in methods.values()):
        tables.append(reference_table(methods))
    data = next((own.get("data") for own in (settings or {}).values() if own.get("data")), None)
    words = [str(headline(compare, data)), budget_words(compare.get("budget")), trainings_words(compare)]
    title = "Comparison: " + ", ".join(method_name(name) for name in methods)
    return _document(title, words, tables, methods, settings or {})


def sweep_markdown(points: Sequence[SweepPoint]) -> str:
    """Return a sweep's table as Markdown."""
    return to_markdown(sweep_table(points), heading="## ")


def _document(
    title: str, words: Sequence[str], tables: Sequence[Table], methods: Json, settings: dict[str, Json]
) -> str:
    parts = [f"# {markdown_text(title)}\n"]
    parts += [f"{markdown_text(sentence)}\n" for sentence in words if sentence]
    parts += [to_markdown(table, heading="## ") for table in tables]
    listed = settings_table(methods, settings)
    if listed.rows:
        parts.append(to_markdown(listed, heading="## "))
    return "\n".join(parts)
