"""Data before anything is trained on them: what there is of each domain or part, and a grid of their pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from rich.markup import escape
from rich.table import Table

from metasiam.data.domains import DomainSet
from metasiam.data.pairs import PairSet
from metasiam.data.splitting import Split
from metasiam.errors import MetaSiamError
from metasiam.reports.numbers import clean
from metasiam.runs.atomic import atomically
from metasiam.wording import counted

_TOP, _BOTTOM = 20, 10  # domains listed at either end when there are many
_TILE = 32  # smallest side of a picture in the grid, in pixels
_LABEL = 180  # pixels for a domain's name next to its pictures


def pairs_in_words(pairs: PairSet) -> str:
    """Return a line about labelled pairs: how many, of which images."""
    what = f"{counted(len(pairs.part), 'labelled pair')} of {counted(len(pairs.images), 'image')}"
    return f"{pairs.source}: {what}, {_images(pairs)}"


def domains_in_words(domains: DomainSet) -> str:
    """Return a line about a domain set: how many domains and images, and of which kind."""
    train, test = int(domains.counts("train").sum()), int(domains.counts("test").sum())
    what = f"{counted(len(domains.names), 'domain')}, {train:,} train and {counted(test, 'test image')}"
    return f"{domains.source}: {what}, {_images(domains)}"


def _images(data: DomainSet | PairSet) -> str:
    height, width = data.image_size
    kind = "grey" if data.channels == 1 else "colour"
    return f"{width} x {height} pixels, {kind}, fingerprint {data.fingerprint}"


def pair_table(pairs: PairSet) -> Table:
    """Return one row a part: images, people and pairs."""
    table = Table(box=None, pad_edge=False)
    titles = ("part", "images", "people", "pairs", "same", "different")
    for title in titles:
        table.add_column(title, justify="left" if title == "part" else "right")
    for part in ("train", "validation", "test"):
        counts = pairs.counts(part)
        if counts["pairs"]:
            table.add_row(part, *(f"{counts[title]:,}" if counts[title] else "–" for title in titles[1:]))
    return table


def domain_table(domains: DomainSet, split: Split | None, every: bool) -> Table:
    """Return one row a domain: its counts, and its part of a split; of many, unless every one is wanted, the ends."""
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


def write_grid(domains: DomainSet, out: Path, rows: int, columns: int) -> None:
    """Write a PNG with a row of pictures for each of some evenly spread domains, its name on the left.

    Raises:
        MetaSiamError: if the file cannot be written.
    """

    from metasiam.data.pixels import as_pictures

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
