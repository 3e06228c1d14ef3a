"""``metasiam identify``: which of the enrolled names is it?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from metasiam.cli import groups
from metasiam.cli.next_steps import next_line
from metasiam.cli.terminal import say, terminal
from metasiam.errors import MetaSiamError
from metasiam.options.flags import Flags, takes
from metasiam.options.gallery import AnswerOptions, GalleryOptions
from metasiam.runs import check_new_file
from metasiam.wording import harmless, printable


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
    from metasiam.reports.gallery_tables import answers_in_words, answers_table

    if given.as_json:
        # Where the terminal cannot print every letter, JSON's own escapes keep what is said readable for programs.
        plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        sys.stdout.write(as_json(found.rows, ascii_only=plain))
    elif given.as_csv:
        text = printable(as_csv(found.rows), sys.stdout.encoding or "utf-8")
        sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    else:
        console = terminal(highlight=False)
        console.print(answers_table(found.rows))
        console.print(answers_in_words(found.rows))
        say(found.fit)
        more = ["metasiam", "enroll", "PICTURES", "--name", "NAME", "--gallery", str(gallery.gallery)]
        say(next_line(more, "more pictures of a name that was not recognised"))
    if given.out is not None:
        say(f"wrote {write_answers(given.out, found.rows)}")
    if not found.complete:
        raise typer.Exit(1)
