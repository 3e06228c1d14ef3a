"""``metasiam data``: list, download and inspect data sources."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from metasiam import catalogue
from metasiam.cli.command import Command
from metasiam.cli.next_steps import compare_on, say_next
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError
from metasiam.options.data import DataOptions, ShowOptions
from metasiam.options.flags import Flags, takes
from metasiam.options.paths import check_data, check_pairs
from metasiam.runs import check_new_file

app = typer.Typer(help="List, download and inspect data sources.", no_args_is_help=True)


@app.command("list", cls=Command)
@takes(Flags(DataOptions, "where", only=("data_dir",)))
def list_sources(where: dict[str, Any]) -> None:
    """List what --data accepts, and which data sets are on this machine.

    \b
    Examples:
      metasiam data list
    """
    from rich.table import Table

    from metasiam.data.sources import default_data_dir, source_of
    from metasiam.data.sources.source import shown

    folder = where.get("data_dir") or default_data_dir()
    table = Table(box=None, pad_edge=False)
    for heading in ("--data", "what", "here"):
        table.add_column(heading)
    for typed in catalogue.sources():
        row, _ = catalogue.find_source(typed)
        is_present = source_of(typed)[0].is_present
        table.add_row(typed, row.about, "" if is_present is None else "yes" if is_present(folder) else "no")
    console = terminal()
    console.print(table)
    console.print(f"downloads are kept in {shown(folder)} (--data-dir)", highlight=False, markup=False, soft_wrap=True)
    say_next(
        console,
        ["metasiam", "data", "show", "glyphs", "--out", "glyphs.png"],
        "what the glyphs look like",
    )


@app.command("fetch", cls=Command)
@takes(Flags(DataOptions, "where", only=("data_dir",)))
def fetch_source(
    name: Annotated[str, typer.Argument(help="cifar100, mnist, omniglot or lfw.", show_default=False)],
    where: dict[str, Any],
) -> None:
    """Download a data set, unless it is on this machine already.

    \b
    Examples:
      metasiam data fetch cifar100
    """
    catalogue.find_source(name)
    from metasiam.data.sources import fetch
    from metasiam.data.sources.source import shown
    from metasiam.progress_lines import lines

    console = terminal()
    with lines(console) as progress:
        folder = fetch(name, where.get("data_dir"), listener=progress)
    console.print(f"{name} is in {shown(folder)}", highlight=False, markup=False, soft_wrap=True)
    at = where.get("data_dir")
    say_next(console, ["metasiam", "data", "show", name, *([] if at is None else ["--data-dir", str(at)])])


@app.command("show", cls=Command)
@takes(Flags(ShowOptions, "shown"), Flags(DataOptions, "chosen", without=("data",)))
def show_source(
    source: Annotated[
        str, typer.Argument(help="What --data takes: glyphs, cifar100, folder:PATH, …", show_default=False)
    ],
    shown: dict[str, Any],
    chosen: dict[str, Any],
) -> None:
    """Show a source's domains, counts, image size and fingerprint, and write a grid of its pictures.

    \b
    Examples:
      metasiam data show glyphs --held-out 10 --out glyphs.png
    """
    given, wanted = ShowOptions(**shown), DataOptions(**chosen)
    if given.out is not None:
        check_new_file(given.out, overwrite=given.overwrite)
    if source.partition(":")[0] not in ("lfw", "pairs"):
        check_data(source)
        _show_domains(terminal(), source, given, wanted)
        return
    check_pairs(source)
    if given.out is not None:
        raise MetaSiamError(f"{source} is a list of pairs: it has no domains to make a grid of. Omit --out.")
    _show_pairs(terminal(), source, wanted)


def _show_pairs(console: Console, source: str, wanted: DataOptions) -> None:
    from metasiam.progress_lines import lines
    from metasiam.reports.data_tables import pair_table, pairs_in_words
    from metasiam.workflows.look import look_at_pairs

    with lines(console) as progress:
        pairs, advice = look_at_pairs(source, wanted, progress)
    console.print(pair_table(pairs))
    words = ["metasiam", "siamese", "--data", pairs.source]
    # Minutes on a CPU, where the defaults take hours.
    words += ["--preset", "quick"] if pairs.source.startswith("lfw") else ["--arch", "conv4", "--head", "features"]
    words += [] if wanted.data_dir is None else ["--data-dir", str(wanted.data_dir)]
    words += ["--image-size", str(pairs.image_size[0])] if advice or wanted.image_size is not None else []
    _print(console, pairs_in_words(pairs))
    say_next(console, words)
    _print(console, advice)


def _show_domains(console: Console, source: str, given: ShowOptions, wanted: DataOptions) -> None:
    from metasiam.progress_lines import lines
    from metasiam.reports.data_tables import domain_table, domains_in_words, write_grid
    from metasiam.workflows.look import look_at_domains

    with lines(console) as progress:
        found = look_at_domains(source, wanted, progress)
    domains, split = found.domains, found.split
    console.print(domain_table(domains, split, given.every))
    _print(console, domains_in_words(domains))
    _print(console, found.advice)
    if found.small:
        have = "have" if len(found.small) > 1 else "has"
        progress.note(
            f"{domains.said(found.small)} {have} fewer than two train or two test images, and so no pair: too "
            "few to evaluate on. Without train/ and test/, four images of each are enough."
        )
    if split is not None:
        parts = f"{len(split.seen)} seen, {len(split.validation)} validation, {len(split.held_out)} held out"
        _print(console, f"split {split.name}: {parts}")
    if given.out is not None:
        write_grid(domains, given.out, given.rows, given.columns)
        _print(console, f"wrote {given.out}")
    following = None if found.small else compare_on(source, domains, wanted, several_sizes=bool(found.advice))
    if following is not None:
        say_next(console, following)


def _print(console: Console, line: str) -> None:
    if line:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
