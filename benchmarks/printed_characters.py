"""The middle lines of printed characters: from matplotlib's fonts to strokes."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_FONT_PIXELS = 52
_SCRIPTS = (
    *("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN", "HEBREW", "ARABIC", "CANADIAN", "LAO", "NKO", "LISU"),
    *("TIFINAGH", "OLD", "OGHAM", "DIGIT", "APL", "ARABIC-INDIC", "COPTIC"),
)


def printed_characters(count: int, generator: torch.Generator) -> list[tuple[str, list[Tensor]]]:
    """Return the middle lines of up to ``count`` distinct characters of matplotlib's fonts, with their names."""
    import matplotlib
    from matplotlib.ft2font import FT2Font

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    names, pages = [], []
    for file in ("DejaVuSans.ttf", "DejaVuSerif-Italic.ttf", "STIXGeneralItalic.ttf"):
        font = ImageFont.truetype(str(folder / file), _FONT_PIXELS, layout_engine=ImageFont.Layout.BASIC)
        for code in sorted(FT2Font(str(folder / file)).get_charmap()):
            name = unicodedata.name(chr(code), "")
            if (
                name
                and name.split()[0] in _SCRIPTS
                and " WITH " not in name
                and unicodedata.category(chr(code))[0] in "LNS"
            ):
                names.append(f"{name} ({file.removesuffix('.ttf')})")
                pages.append(_page(font, chr(code)))
    ink = torch.stack(pages)
    kept = [index for index in _distinct(ink) if bool(ink[index].any())]
    thinned = torch.cat([thin(part > 0.5) for part in ink[kept].split(200)])
    found = [(names[index], trace(lines)) for index, lines in zip(kept, thinned, strict=True)]
    found = [(name, strokes) for name, strokes in found if strokes]
    order = torch.randperm(len(found), generator=generator)[:count]
    return [found[index] for index in order.tolist()]


def _page(font: ImageFont.FreeTypeFont, letter: str) -> Tensor:
    side = _FONT_PIXELS
    page = Image.new("L", (3 * side, 3 * side))
    ImageDraw.Draw(page).text((side, side), letter, font=font, fill=255)
    box = page.getbbox()
    if box is None:
        return torch.zeros(side, side)
    cut = page.crop(box)
    scale = (side - 6) / max(cut.size)
    cut = cut.resize((max(round(cut.width * scale), 1), max(round(cut.height * scale), 1)), Image.Resampling.BILINEAR)
    whole = Image.new("L", (side, side))
    whole.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    return torch.from_numpy(np.asarray(whole, dtype=np.float32) / 255)


def _distinct(ink: Tensor) -> list[int]:
    """Keep characters that no earlier one looks like (А and A are one), by the cosine of their blurred renderings."""
    blurred = F.avg_pool2d(F.avg_pool2d(ink.unsqueeze(1), 9, 1, 4), 4).flatten(1)
    rows = F.normalize(blurred - blurred.mean(1, keepdim=True), dim=1)
    alike = rows @ rows.mT
    kept: list[int] = []
    for index in range(len(rows)):
        if not kept or float(alike[index, kept].max()) < 0.93:
            kept.append(index)
    return kept


def thin(ink: Tensor) -> Tensor:
    """Thin bool [N, H, W] shapes to lines one pixel wide (Zhang & Suen, 1984)."""
    image = F.pad(ink, (1, 1, 1, 1))
    # The eight neighbours, clockwise from the one above.
    offsets = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
    changed = True
    while changed:
        changed = False
        for phase in (0, 1):
            near = [image.roll((-dy, -dx), (1, 2)) for dy, dx in offsets]
            count = torch.stack(near).sum(0, dtype=torch.uint8)
            rises = torch.stack([~near[i] & near[(i + 1) % 8] for i in range(8)]).sum(0, dtype=torch.uint8)
            up, right, down, left = near[0], near[2], near[4], near[6]
            corner = right & down & (up | left) if phase == 0 else up & left & (right | down)
            goes = image & (count >= 2) & (count <= 6) & (rises == 1) & ~corner
            changed = changed or bool(goes.any())
            image = image & ~goes
    return image[:, 1:-1, 1:-1]


def trace(lines: Tensor) -> list[Tensor]:
    """Follow a thinned shape's lines: one float [P, 2] (x, y) for each stroke, straight on at crossings."""
    free = {(int(x), int(y)) for y, x in lines.nonzero().tolist()}

    def neighbours(x: int, y: int) -> list[tuple[int, int]]:
        around = ((x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy)
        return [pixel for pixel in around if pixel in free]

    strokes = []
    while free:
        start = min(free, key=lambda pixel: (len(neighbours(*pixel)) != 1, pixel[1] + pixel[0]))
        path = [start]
        free.remove(start)
        while nearby := neighbours(*path[-1]):
            back = path[max(len(path) - 5, 0)]
            ahead = (path[-1][0] - back[0], path[-1][1] - back[1])
            here = path[-1]
            following = max(nearby, key=lambda p: (p[0] - here[0]) * ahead[0] + (p[1] - here[1]) * ahead[1])
            path.append(following)
            free.remove(following)
        if len(path) > 5 or not strokes:
            strokes.append(torch.tensor(path[:1] + path[1:-1:3] + path[-1:]).float())
    return [stroke if len(stroke) > 1 else stroke.repeat(2, 1) for stroke in strokes]
