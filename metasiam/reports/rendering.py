"""One plain table, drawn in four ways: on the terminal, as Markdown, as HTML and as CSV."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import rich.box
import rich.table
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from metasiam.reports.numbers import clean
from metasiam.wording import counted, spreadsheet_cell

Row = tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A column's title, and on which side its cells stand."""

    title: str
    align: Literal["left", "right"] = "right"


@dataclass(frozen=True)
class Table:
    """A table of text, not yet drawn.

    Attributes:
        title: what the table shows; may be empty.
        columns: one for each cell of a row.
        rows: the body.
        footer: rows set apart below the body, as a mean.
        note: a sentence or two below the table; may be empty.
        strong: (row of the body, column) of the cells to stand out.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footer: tuple[Row, ...] = ()
    note: str = ""
    strong: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        """Check that every row has a cell for each column."""
        for row in (*self.rows, *self.footer):
            if len(row) != len(self.columns):
                raise ValueError(f"{counted(len(row), 'cell')} for {counted(len(self.columns), 'column')}: {row}")


def print_table(console: Console, table: Table) -> None:
    """Print the table on the terminal; where that is too narrow, intervals go below, and nothing is cut off."""
    drawn = to_rich(table)
    if _width(drawn, console.width) > console.width:
        drawn = to_rich(table, narrow=True)
    console.print(drawn, crop=False)


def _width(drawn: rich.table.Table, width: int) -> int:
    """Return how many cells the widest line of a table takes on a terminal of this width."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(drawn, crop=False)
    return max(cell_len(line.rstrip()) for line in captured.get().split("\n"))


def to_rich(table: Table, *, narrow: bool = False) -> rich.table.Table:
    """Return the table for the terminal. Names are shown as they are, never read as markup.

    Args:
        table: what to draw.
        narrow: for terminals that do not hold it: intervals below their numbers, headings in several lines.
    """
    drawn = rich.table.Table(
        title=Text(table.title) if table.title else None,
        caption=Text(table.note) if table.note else None,
        box=rich.box.SIMPLE,
        title_style="bold",
        caption_style="dim",
        caption_justify="left",
        header_style="bold",
        padding=(0, 0 if narrow else 1, 0, 0),
        pad_edge=False,
    )
    # In wide tables what follows a colon or stands in brackets goes below, and headings take several
    # lines, so that eighty columns hold them.
    below, stacked = narrow or len(table.columns) > 6, narrow or len(table.columns) > 7

    def text(cell: str) -> str:
        line = clean(cell)
        if not below:
            return line
        if narrow:
            line = line.replace(" ±", "\n±").replace(" [", "\n[")
        return line.replace(": ", ":\n") if ": " in line else re.sub(r" (?=[(\[])", "\n", line)

    for place, column in enumerate(table.columns):
        # Numbers stay whole; on a narrow terminal it is headings and names that give way.
        cells = [text(row[place]) for row in (*table.rows, *table.footer)]
        words = [word for word in column.title.split() if column.align == "right"]
        whole = max((cell_len(line) for part in [*cells, *words] for line in part.split("\n")), default=0)
        title = column.title.replace(" ", "\n") if stacked else column.title
        drawn.add_column(Text(title), justify=column.align, min_width=whole if column.align == "right" else None)
    for place, row in enumerate(table.rows):
        texts = [
            Text(text(cell), style="bold" if (place, column) in table.strong else "") for column, cell in enumerate(row)
        ]
        drawn.add_row(*texts, end_section=place == len(table.rows) - 1 and bool(table.footer))
    for row in table.footer:
        drawn.add_row(*(Text(text(cell)) for cell in row), style="bold")
    return drawn


def to_markdown(table: Table, *, heading: str = "") -> str:
    """Return the table as GitHub Markdown, with its title (after ``heading``, e.g. ``### ``) and note."""
    parts = [f"{heading}{markdown_text(table.title)}\n\n" if table.title else ""]
    titles = [markdown_text(column.title) for column in table.columns]
    rules = ["---:" if column.align == "right" else ":---" for column in table.columns]
    lines = [titles, rules]
    for place, row in enumerate(table.rows):
        marked = [
            f"**{markdown_text(cell)}**" if (place, column) in table.strong and cell else markdown_text(cell)
            for column, cell in enumerate(row)
        ]
        lines.append(marked)
    lines += [[f"**{markdown_text(cell)}**" if cell else "" for cell in row] for row in table.footer]
    parts += ["| " + " | ".join(line) + " |\n" for line in lines]
    if table.note:
        parts.append(f"\n{markdown_text(table.note)}\n")
    return "".join(parts)


def markdown_text(text: str) -> str:
    """Return the text so that Markdown shows it as it is, on one line and inside one table cell."""
    escaped = re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", clean(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def to_html(table: Table, *, css_class: str = "") -> str:
    """Return the table as an HTML ``<figure>`` that scrolls sideways by itself where it is too wide."""
    side = ["" if column.align == "right" else ' class="left"' for column in table.columns]

    def line(row: Row, tag: str = "td", place: int = -1) -> str:
        cells = []
        for column, cell in enumerate(row):
            text = html.escape(clean(cell))
            inner = f"<strong>{text}</strong>" if (place, column) in table.strong else text
            scope = ' scope="col"' if tag == "th" else ""
            cells.append(f"<{tag}{side[column]}{scope}>{inner}</{tag}>")
        return "<tr>" + "".join(cells) + "</tr>"

    title = f'<p class="caption">{html.escape(table.title)}</p>' if table.title else ""
    label = f' role="region" aria-label="{html.escape(table.title)}"' if table.title else ""
    head = line(tuple(column.title for column in table.columns), "th")
    body = "".join(line(row, place=place) for place, row in enumerate(table.rows))
    foot = "".join(line(row) for row in table.footer)
    return (
        f'<figure class="table {html.escape(css_class)}">{title}<div class="scroll" tabindex="0"{label}><table>'
        f"<thead>{head}</thead><tbody>{body}</tbody>{f'<tfoot>{foot}</tfoot>' if foot else ''}</table></div>"
        + (f"<figcaption>{html.escape(table.note)}</figcaption>" if table.note else "")
        + "</figure>"
    )


def to_csv(columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows of JSON as CSV text with a header line; absent values are empty."""
    names = list(columns)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: "" if row.get(name) is None else spreadsheet_cell(row[name]) for name in names} for row in rows
    )
    return text.getvalue()
