"""Small HTML tables for notebooks: every text is escaped, and nothing is fetched or run."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_MOST = 20  # rows: what is longer is cut, and says so


def summary(text: str, columns: Sequence[str] = (), rows: Iterable[Sequence[object]] = ()) -> str:
    """Return a line of text and a table below it.

    Args:
        text: the line, as of ``repr``.
        columns: the table's headings.
        rows: its cells; of many, the first are shown.
    """
    every = [tuple(row) for row in rows]
    lines = [_line(row, "td") for row in every[:_MOST]]
    if len(every) > _MOST:
        lines.append(f'<tr><td colspan="{len(columns)}">… and {len(every) - _MOST:,} more</td></tr>')
    head = f"<thead>{_line(columns, 'th')}</thead>" if columns else ""
    table = f"<table>{head}<tbody>{''.join(lines)}</tbody></table>" if lines else ""
    return f"<div>{html.escape(text)}</div>{table}"


def _line(cells: Iterable[object], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
