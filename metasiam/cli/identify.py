"""``metasiam identify``: which of the enrolled names is it?"""

from __future__ import annotations

import csv
import io
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from metasiam.cli import own_pictures as o
from metasiam.cli.next_steps import next_line
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError
from metasiam.runs import check_new_file
from metasiam.wording import counted, harmless, harmless_json, spreadsheet_cell

if TYPE_CHECKING:
    from metasiam.gallery import Answer
    from metasiam.gallery.given import Picture

    Row = Answer | str  # of a picture that has no answer: why


def command(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.", show_default=False)],
    gallery: o.GalleryFile = o.DEFAULT_GALLERY,
    weights: o.Weights = None,
    arch: o.Arch = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line and picture.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values with a header.")] = False,
    device: o.Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Also write the answers to this file: .csv or .jsonl.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --out names.")] = False,
) -> None:
    """Recognise pictures: a name from the gallery or unknown, with its probability and the runner-up.

    Probabilities of all names and of unknown add up to one. Before a picture is seen, unknown has 50 %, and the names
    share the rest evenly.

    Example: [bold]metasiam identify new/*.jpg --gallery pets.safetensors[/bold]

    Exit codes: 0 every picture was answered (known or not); 1 some could not be read or have nothing on them; 2 bad
    input, or none could be read.
    """
    from metasiam.options.paths import check_gallery, check_pictures, check_weights
    from metasiam.runs import write_text

    if as_json and as_csv:
        raise MetaSiamError("--json and --csv exclude each other. Use one of them.")
    if out is not None:
        _check_out(out, overwrite=overwrite)
    check_gallery(gallery)
    check_pictures(paths)
    if weights is not None:
        check_weights(weights)
    # torch only now, when what was given can work.
    from metasiam.gallery import identify, load_gallery, open_embedder
    from metasiam.gallery.given import find_pictures
    from metasiam.gallery.pictures import BLANK
    from metasiam.gallery.recognise import suitability, unlikeness

    opened = load_gallery(gallery)
    if opened.rules is None:
        raise MetaSiamError(
            f"{gallery} has no names. Add some: metasiam enroll DIR --gallery {shlex.quote(str(gallery))}"
        )
    embedder, key = open_embedder(weights, arch=arch, key=opened.embedder, listener=o.Notes())
    pictures = find_pictures(paths)
    embedder = o.on_device(embedder, device)
    found = o.embedded(embedder, key.info, pictures, mirror=opened.mirror, answer_blank=True)
    rows: dict[Picture, Row] = dict(found.unreadable)
    rows |= dict.fromkeys(found.blank, BLANK)
    if found.pictures:
        rows |= dict(zip(found.pictures, identify(opened, found.embeddings), strict=True))
    answers = [(path, rows[path]) for path in pictures]
    if as_json:
        # Where the terminal cannot print every letter, JSON's own escapes keep what is said readable for programs.
        plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        sys.stdout.write(_as_json(answers, ascii_only=plain))
    elif as_csv:
        text = o.printable(_as_csv(answers), sys.stdout.encoding or "utf-8")
        sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    else:
        _print_table(answers)
        o.say(suitability(key.info, unlikeness(found.statistics, opened)))
        more = ["metasiam", "enroll", "PICTURES", "--name", "NAME", "--gallery", str(gallery)]
        o.say(next_line(more, "more pictures of a name that was not recognised"))
    if out is not None:
        try:
            o.say(f"wrote {write_text(out, _FORMATS[out.suffix.lower()](answers))}")
        except OSError as error:
            raise MetaSiamError(f"{out} cannot be written ({error.strerror}). Use another --out.") from error
    if found.unreadable or found.blank:
        raise typer.Exit(1)


def _check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written or must not be, before any picture is read."""
    if out.suffix.lower() not in _FORMATS:
        raise MetaSiamError(f"{out} does not end in {' or '.join(_FORMATS)}. Name such a file with --out.")
    check_new_file(out, overwrite=overwrite)


def _as_json(answers: list[tuple[Path, Row]], *, ascii_only: bool = False) -> str:
    from metasiam.gallery.posterior import UNKNOWN_PRIOR

    lines = []
    for path, answer in answers:
        if isinstance(answer, str):
            row: dict[str, Any] = {"name": None, "probability": None, "guesses": [], "error": answer}
        else:
            guesses = [{"name": g.name, "probability": round(g.probability, 4)} for g in answer.guesses]
            row = {"name": answer.name, "probability": round(answer.probability, 4), "guesses": guesses}
            row |= {"unknown_probability": round(answer.unknown, 4), "unknown_prior": UNKNOWN_PRIOR}
        line = json.dumps({"picture": str(path), **row}, ensure_ascii=ascii_only)
        lines.append(o.printable(harmless_json(line)) + "\n")
    return "".join(lines)


def _as_csv(answers: list[tuple[Path, Row]]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["picture", "name", "probability", "runner_up", "runner_up_probability", "error"])
    for path, answer in answers:
        if isinstance(answer, str):
            rows.writerow(map(spreadsheet_cell, [path, "", "", "", "", answer]))
            continue
        second, chance = _runner_up(answer)
        cells = [path, answer.name, f"{answer.probability:.4f}", second, f"{chance:.4f}", ""]
        rows.writerow(map(spreadsheet_cell, cells))
    return o.printable(text.getvalue())


#: What ``--out`` writes, by the file's ending.
_FORMATS: dict[str, Callable[[list[tuple[Path, Row]]], str]] = {".csv": _as_csv, ".jsonl": _as_json}


def _print_table(answers: list[tuple[Path, Row]]) -> None:
    from metasiam.gallery.pictures import BLANK

    table = Table()
    for header in ("picture", "name", "probability", "runner-up"):
        table.add_column(header, justify="right" if header == "probability" else "left", overflow="fold")
    for path, answer in answers:
        if isinstance(answer, str):
            table.add_row(
                Text(o.printable(str(path))),
                Text("no answer" if answer == BLANK else "not read", "dim"),
                "",
                Text(answer, "dim"),
            )
            continue
        second, chance = _runner_up(answer)
        runner_up = f"{second} ({100 * chance:.0f} %)"
        known = answer.name != "unknown"
        style = "bold" if known else "dim"
        table.add_row(
            Text(o.printable(str(path))), Text(answer.name, style), f"{100 * answer.probability:.0f} %", Text(runner_up)
        )
    console = terminal(highlight=False)
    console.print(table)
    read = [answer for _, answer in answers if not isinstance(answer, str)]
    unknown = sum(answer.name == "unknown" for answer in read)
    blank = sum(answer == BLANK for _, answer in answers)
    failed = len(answers) - len(read) - blank
    rest = (f", {failed} not read" if failed else "") + (f", {blank} with nothing on it" if blank else "")
    console.print(f"{counted(len(answers), 'picture')}: {len(read) - unknown} recognised, {unknown} unknown{rest}")


def _runner_up(answer: Answer) -> tuple[str, float]:
    """Return the second likeliest answer and its probability: a name, or ``unknown`` behind one."""
    names = [guess for guess in answer.guesses if guess.name != answer.name]
    if answer.name != "unknown" and (not names or answer.unknown > names[0].probability):
        return "unknown", answer.unknown
    return names[0].name, names[0].probability
