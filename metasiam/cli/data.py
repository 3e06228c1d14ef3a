"""``metasiam data``: list, download and inspect data sources."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from metasiam import catalogue
from metasiam.cli.command import Command
from metasiam.cli.next_steps import compare_on, say_next
from metasiam.errors import MetaSiamError
from metasiam.options.data import DataOptions
from metasiam.options.flags import Flags, takes
from metasiam.options.paths import check_data, check_pairs
from metasiam.progress import Listener, Relay
from metasiam.runs import check_new_file
from metasiam.runs.atomic import atomically
from metasiam.wording import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from metasiam.data.domains import DomainSet
    from metasiam.data.pairs import PairSet
    from metasiam.data.splitting import Split

app = typer.Typer(help="List, download and inspect data sources.", no_args_is_help=True)

_TOP, _BOTTOM = 20, 10  # domains listed at either end when there are many
_TILE = 32  # smallest side of a picture in the grid, in pixels
_LABEL = 180  # pixels for a domain's name next to its pictures


def _console() -> Console:
    from metasiam.cli.terminal import terminal

    return terminal()


@app.command("list", cls=Command)
@takes(Flags(DataOptions, "where", only=("data_dir",)))
def list_sources(where: dict[str, Any]) -> None:
    """List what --data accepts, and which data sets are on this machine.

    Example: [bold]metasiam data list[/bold]
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
    console = _console()
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

    Example: [bold]metasiam data fetch cifar100[/bold]
    """
    from metasiam import catalogue

    catalogue.find_source(name)
    from metasiam.data.sources import fetch
    from metasiam.data.sources.source import shown
    from metasiam.progress_lines import lines

    console = _console()
    with lines(console) as progress:
        folder = fetch(name, where.get("data_dir"), listener=progress)
    console.print(f"{name} is in {shown(folder)}", highlight=False, markup=False, soft_wrap=True)
    at = where.get("data_dir")
    say_next(console, ["metasiam", "data", "show", name, *([] if at is None else ["--data-dir", str(at)])])


@app.command("show", cls=Command)
@takes(Flags(DataOptions, "chosen", without=("data",)))
def show_source(
    source: Annotated[
        str, typer.Argument(help="What --data takes: glyphs, cifar100, folder:PATH, …", show_default=False)
    ],
    chosen: dict[str, Any],
    every: Annotated[bool, typer.Option("--all", help="List every domain, however many there are.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a grid of pictures to this PNG file.", show_default=False)
    ] = None,
    columns: Annotated[int, typer.Option("--columns", min=1, max=100, help="Pictures of each domain in it.")] = 12,
    rows: Annotated[int, typer.Option("--rows", min=1, max=500, help="Domains in it, evenly spread.")] = 20,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --out names.")] = False,
) -> None:
    """Show a source's domains, counts, image size and fingerprint, and write a grid of its pictures.

    Example: [bold]metasiam data show glyphs --held-out 10 --out glyphs.png[/bold]
    """
    if out is not None:
        check_new_file(out, overwrite=overwrite)
    if source.partition(":")[0] in ("lfw", "pairs"):
        check_pairs(source)
    else:
        check_data(source)
    # torch only now, when what was given can work.
    from rich.markup import escape

    from metasiam.data.sources import PAIR_SOURCES, load_domains, load_pairs
    from metasiam.data.splitting import split_domains
    from metasiam.progress_lines import lines

    console, wanted, size = _console(), DataOptions(**chosen), chosen.get("image_size")
    if source.partition(":")[0] in PAIR_SOURCES:
        if out is not None:
            raise MetaSiamError(f"{source} is a list of pairs: it has no domains to make a grid of. Omit --out.")
        with lines(console) as progress:
            pairs, advice = _of_any_size(
                lambda at, listener: load_pairs(source, data_dir=wanted.data_dir, image_size=at, listener=listener),
                size,
                progress,
            )
        console.print(_pair_table(pairs))
        height, width = pairs.image_size
        words = ["metasiam", "siamese", "--data", pairs.source]
        # Minutes on a CPU, where the defaults take hours.
        words += ["--preset", "quick"] if pairs.source.startswith("lfw") else ["--arch", "conv4", "--head", "features"]
        words += [] if wanted.data_dir is None else ["--data-dir", str(wanted.data_dir)]
        words += ["--image-size", str(height)] if advice or size is not None else []
        kind = "grey" if pairs.channels == 1 else "colour"
        console.print(
            f"{escape(pairs.source)}: {counted(len(pairs.part), 'labelled pair')} of "
            f"{counted(len(pairs.images), 'image')}, {width} x {height} pixels, {kind}, fingerprint "
            f"{pairs.fingerprint}\nnext: {escape(shlex.join(words))}",
            highlight=False,
            soft_wrap=True,
        )
        if advice:
            console.print(advice, highlight=False, markup=False, soft_wrap=True)
        return
    with lines(console) as progress:
        domains, advice = _of_any_size(
            lambda at, listener: load_domains(
                source,
                data_dir=wanted.data_dir,
                image_size=at,
                skip_unreadable=wanted.skip_unreadable,
                listener=listener,
            ),
            size,
            progress,
        )
    split = None
    if wanted.held_out is not None or wanted.split is not None or wanted.validation is not None or domains.own_split:
        split = split_domains(domains, held_out=wanted.held_out, validation=wanted.validation or 0, split=wanted.split)
    console.print(_domain_table(domains, split, every))
    height, width = domains.image_size
    train, test = int(domains.counts("train").sum()), int(domains.counts("test").sum())
    console.print(
        f"{escape(domains.source)}: {counted(len(domains.names), 'domain')}, {train:,} train and "
        f"{counted(test, 'test image')}, {width} x {height} pixels, "
        f"{_kind(domains.channels)}, fingerprint {domains.fingerprint}",
        highlight=False,
        soft_wrap=True,
    )
    if advice:
        console.print(advice, highlight=False, markup=False, soft_wrap=True)
    small = ((domains.counts("train") < 2) | (domains.counts("test") < 2)).nonzero().flatten().tolist()
    if small:
        have = "have" if len(small) > 1 else "has"
        progress.note(
            f"{domains.said(small)} {have} fewer than two train or two test images, and so no pair: too "
            "few to evaluate on. Without train/ and test/, four images of each are enough."
        )
    if split is not None:
        console.print(
            f"split {split.name}: {len(split.seen)} seen, {len(split.validation)} validation, "
            f"{len(split.held_out)} held out",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if out is not None:
        _write_grid(domains, out, rows, columns)
        console.print(f"wrote {out}", highlight=False, markup=False, soft_wrap=True)
    following = None if small else compare_on(source, domains, wanted, several_sizes=bool(advice))
    if following is not None:
        say_next(console, following)


_Loaded = TypeVar("_Loaded")


class _Once(Relay):
    """Says a note once, though what is told is loaded twice."""

    def __init__(self, to: Listener) -> None:
        super().__init__(to)
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            super().note(text)


def _kind(channels: int) -> str:
    return {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")


def _of_any_size(
    load: Callable[[int | None, Listener], _Loaded], image_size: int | None, listener: Listener
) -> tuple[_Loaded, str]:
    """Load data at the size asked for or, where pictures have several and none is, at one that suits them.

    Returns:
        The data, and a line that says what sizes there are and which to give for training; empty where it is one.
    """
    from metasiam.data.sources.pictures import SizesDiffer
    from metasiam.data.sources.sizes import in_words, sizes_of, suited

    once = _Once(listener)
    try:
        return load(image_size, once), ""
    except SizesDiffer as differing:
        sizes = sizes_of(differing.paths, listener)
    size = suited(sizes)
    return load(size, once), (
        f"pictures of {in_words(sizes)}; shown here as the middle square of each at {size}x{size}: "
        f"pass --image-size {size} to train on them like this"
    )


def _pair_table(pairs: PairSet) -> Table:
    """Return one row a part: images, people and pairs."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    titles = ("part", "images", "people", "pairs", "same", "different")
    for title in titles:
        table.add_column(title, justify="left" if title == "part" else "right")
    for part in ("train", "validation", "test"):
        counts = pairs.counts(part)
        if counts["pairs"]:
            table.add_row(part, *(f"{counts[title]:,}" if counts[title] else "–" for title in titles[1:]))
    return table


def _domain_table(domains: DomainSet, split: Split | None, every: bool) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("task", justify="right")
    table.add_column("domain")
    table.add_column("train", justify="right")
    table.add_column("test", justify="right")
    if split is not None:
        table.add_column("part")
    parts: dict[int, str] = {}
    if split is not None:
        for words, members in (("seen", split.seen), ("validation", split.validation), ("held out", split.held_out)):
            parts.update(dict.fromkeys(members, words))
    train, test = domains.counts("train").tolist(), domains.counts("test").tolist()
    total = len(domains.names)
    for index, name in enumerate(domains.names):
        if every or total <= _TOP + _BOTTOM or index < _TOP or index >= total - _BOTTOM:
            last = [parts.get(index, "unused")] if split is not None else []
            table.add_row(str(index), escape(name), str(train[index]), str(test[index]), *last)
        elif index == _TOP:
            table.add_row("…", f"{total - _TOP - _BOTTOM} more (--all lists them)", "", "")
    return table


def _write_grid(domains: DomainSet, out: Path, rows: int, columns: int) -> None:
    """Write a PNG with a row of pictures for each of some evenly spread domains, its name on the left."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    from metasiam.data.pixels import as_pictures
    from metasiam.reports.numbers import clean

    total = len(domains.names)
    rows = min(rows, total)
    shown = [row * total // rows for row in range(rows)]
    height, width = domains.image_size
    factor = max(1, -(-_TILE // min(height, width)))
    tile = (width * factor, height * factor)
    sheet = Image.new("RGB", (_LABEL + columns * (tile[0] + 2), rows * (tile[1] + 2)), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 11)
    for row, domain in enumerate(shown):
        top = row * (tile[1] + 2)
        label = clean(domains.names[domain])
        while label and pen.textlength(label, font=font) > _LABEL - 8:
            label = label[:-2].rstrip("…") + "…" if len(label) > 2 else ""
        pen.text((4, top + tile[1] // 2 - 7), label, fill="black", font=font)
        index = (domains.labels == domain).nonzero().flatten()[:columns]
        for column, image in enumerate(domains.gather(index)):
            pixels = as_pictures(image[None])[0].permute(1, 2, 0).expand(-1, -1, 3).contiguous().numpy()
            picture = Image.fromarray(pixels).resize(tile, Image.Resampling.NEAREST)
            sheet.paste(picture, (_LABEL + column * (tile[0] + 2), top))
    try:
        with atomically(out) as partial:
            sheet.save(partial, format="PNG")
    except OSError as error:
        raise MetaSiamError(f"{out} cannot be written ({error.strerror or error}). Use another --out.") from error
