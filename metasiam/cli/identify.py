"""``metasiam identify``: which of the enrolled names is it?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metasiam.cli import groups
from metasiam.cli.next_steps import next_line
from metasiam.cli.terminal import say, terminal
from metasiam.errors import MetaSiamError
from metasiam.options.flags import Flags, takes
from metasiam.options.gallery import AnswerOptions, GalleryOptions
from metasiam.runs import check_new_file
from metasiam.wording import counted, harmless, printable

if TYPE_CHECKING:
    from metasiam.gallery.answers import Row


@takes(Flags(GalleryOptions, "where"), Flags(AnswerOptions, "told"), groups.MACHINE)
def command(
    where: dict[str, Any],
    told: dict[str, Any],
    machine: dict[str, Any],
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.", show_default=False)],
) -> None:
    """Recognise pictures: a name from the gallery or unknown, with its probability and the runner-up.

    Probabilities of all names and of unknown add up to one. Before a picture is seen, unknown has 50 %, and the names
    share the rest evenly.

    \b
    Examples:
      metasiam identify new/*.jpg --gallery pets.safetensors
      metasiam identify new/ --gallery pets.safetensors --out answers.csv

    Exit codes: 0 every picture was answered (known or not); 1 some could not be read or have nothing on them; 2 bad
    input, or none could be read.
    """
    given, gallery = AnswerOptions(**told), GalleryOptions(**where)
    if given.as_json and given.as_csv:
        raise MetaSiamError("--json and --csv exclude each other. Use one of them.")
    if given.out is not None:  # before any picture is read
        check_new_file(given.out, overwrite=given.overwrite)
    from metasiam.progress_lines import lines
    from metasiam.workflows.identify import identify_pictures

    with lines(terminal(stderr=True)) as shown:
        found = identify_pictures(paths, gallery, shown, **machine)
    from metasiam.gallery.answers import as_csv, as_json, write_answers

    if given.as_json:
        # Where the terminal cannot print every letter, JSON's own escapes keep what is said readable for programs.
        plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        sys.stdout.write(as_json(found.rows, ascii_only=plain))
    elif given.as_csv:
        text = printable(as_csv(found.rows), sys.stdout.encoding or "utf-8")
        sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    else:
        _print_table(found.rows)
        say(found.fit)
        more = ["metasiam", "enroll", "PICTURES", "--name", "NAME", "--gallery", str(gallery.gallery)]
        say(next_line(more, "more pictures of a name that was not recognised"))
    if given.out is not None:
        say(f"wrote {write_answers(given.out, found.rows)}")
    if not found.complete:
        raise typer.Exit(1)


def _print_table(rows: Sequence[Row]) -> None:
    from rich.table import Table
    from rich.text import Text

    from metasiam.gallery.answers import runner_up
    from metasiam.gallery.pictures import BLANK

    table = Table()
    for header in ("picture", "name", "probability", "runner-up"):
        table.add_column(header, justify="right" if header == "probability" else "left", overflow="fold")
    for picture, answer in rows:
        shown = Text(printable(str(picture)))
        if isinstance(answer, str):
            nothing = "no answer" if answer == BLANK else "not read"
            table.add_row(shown, Text(nothing, "dim"), "", Text(answer, "dim"))
            continue
        second, chance = runner_up(answer)
        name = Text(answer.name, "dim" if answer.name == "unknown" else "bold")
        table.add_row(shown, name, f"{100 * answer.probability:.0f} %", Text(f"{second} ({100 * chance:.0f} %)"))
    console = terminal(highlight=False)
    console.print(table)
    answers = [answer for _, answer in rows]
    read = [answer for answer in answers if not isinstance(answer, str)]
    unknown, blank = sum(answer.name == "unknown" for answer in read), answers.count(BLANK)
    failed = len(rows) - len(read) - blank
    rest = (f", {failed} not read" if failed else "") + (f", {blank} with nothing on it" if blank else "")
    console.print(f"{counted(len(rows), 'picture')}: {len(read) - unknown} recognised, {unknown} unknown{rest}")
