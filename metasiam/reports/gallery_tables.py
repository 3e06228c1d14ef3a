"""A gallery's names and its answers, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from metasiam.gallery.answers import Row, runner_up
from metasiam.gallery.enrolled import Enrolled
from metasiam.gallery.pictures import BLANK
from metasiam.gallery.rehearsal import Rehearsal
from metasiam.wording import counted, printable


def names_table(gallery: Enrolled, acted: Rehearsal) -> Table:
    """Return one row a name: its pictures, its threshold, and how many of them would be recognised."""
    assert gallery.rules is not None
    table = Table("name")
    for header in ("pictures", "threshold", "recognised"):
        table.add_column(header, justify="right")
    rows = zip(gallery.counts().items(), gallery.rules.thresholds, acted.named, acted.of, strict=True)
    for (name, count), threshold, right, tried in rows:
        table.add_row(Text(name), str(count), f"{threshold:.3f}", f"{right} of {tried}" if tried else "–")
    return table


def learned_on(gallery: Enrolled) -> str:
    """Say what thresholds were learned on and, next to a background, how much the names' own pictures count."""
    assert gallery.rules is not None
    said = f"thresholds learned on {gallery.rules.learned_on}"
    others, strength = len(gallery.names) - 1, gallery.rules.strength
    if others < 1 or gallery.background is None:
        return said
    return f"{said}; the similarity of your own names counts {100 * others / (others + strength):.0f} %"


def answers_table(rows: Sequence[Row]) -> Table:
    """Return one row a picture: its name with the probability, and the runner-up; or why it has no answer."""
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
    return table


def answers_in_words(rows: Sequence[Row]) -> str:
    """Count the pictures that were recognised, are unknown, could not be read, or have nothing on them."""
    answers = [answer for _, answer in rows]
    read = [answer for answer in answers if not isinstance(answer, str)]
    unknown, blank = sum(answer.name == "unknown" for answer in read), answers.count(BLANK)
    failed = len(rows) - len(read) - blank
    rest = (f", {failed} not read" if failed else "") + (f", {blank} with nothing on it" if blank else "")
    return f"{counted(len(rows), 'picture')}: {len(read) - unknown} recognised, {unknown} unknown{rest}"
