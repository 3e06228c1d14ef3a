"""What the page sends: drawings and named symbols, checked before anything is computed from them."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from metasiam.app.ground import FAINTEST
from metasiam.app.ink import InkStyle, centre_ink, draw_strokes
from metasiam.data.names import plain_name
from metasiam.errors import MetaSiamError
from metasiam.shapes import many, number, parse_json

MOST_BYTES = 4 << 20  # of a request, and so of a symbol file
MOST_PIXELS = 16_000_000  # of a picture; a small file can hold a huge one
LEAST_SEEN = 0.005  # of what is not transparent, for a white ground
SIDE = 512  # pixels that are kept of a picture's longer side
MOST_STROKES, MOST_POINTS = 500, 20_000
MOST_SYMBOLS, MOST_DRAWINGS, MOST_LETTERS = 40, 20, 40
FORMAT = "metasiam-symbols"
_POINT = many(number(-1e6, 1e6), 2, 2)

Points = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True)
class Drawing:
    """One drawing: strokes of points, or a picture file's bytes."""

    strokes: Points = ()
    picture: bytes = b""

    def seen(self, size: int, style: InkStyle) -> Tensor:
        """Return what the network gets to see: uint8 [size, size].

        Raises:
            MetaSiamError: if there is no ink on it, or the picture cannot be read.
        """
        try:
            if self.picture:
                return centre_ink(_decoded(self.picture), size, style)
            return draw_strokes(self.strokes, size, style)
        except ValueError as error:
            raise MetaSiamError(f"{error}. Draw something.".capitalize()) from error

    def as_json(self) -> dict[str, Any]:
        """Return it as the page sends it."""
        if self.picture:
            return {"picture": "data:;base64," + base64.b64encode(self.picture).decode()}
        return {"strokes": self.strokes}


@dataclass(frozen=True)
class Symbol:
    """A symbol that somebody invented: its name and examples."""

    name: str
    drawings: tuple[Drawing, ...]


def read_drawing(value: Any, where: str) -> Drawing:
    """Check one drawing as JSON.

    Args:
        value: ``{"strokes": [[[x, y], …], …]}`` or ``{"picture": "data:image/…;base64,…"}``.
        where: what it is, for the error, e.g. ``the left pad``.

    Raises:
        MetaSiamError: if it is empty, too large or anything else.
    """
    if not isinstance(value, dict):
        raise MetaSiamError(f"{where} is empty. Draw something on it.")
    picture = value.get("picture")
    if picture is not None:
        return Drawing(picture=_picture_bytes(picture, where))
    strokes = value.get("strokes")
    if not isinstance(strokes, list) or not all(isinstance(stroke, list) for stroke in strokes):
        raise MetaSiamError(f"{where} is not a drawing. Send strokes of [x, y] points.")
    if sum(len(stroke) for stroke in strokes) == 0:
        raise MetaSiamError(f"{where} is empty. Draw something on it.")
    if len(strokes) > MOST_STROKES or sum(len(stroke) for stroke in strokes) > MOST_POINTS:
        raise MetaSiamError(f"{where} has more than {MOST_STROKES} strokes or {MOST_POINTS} points. Clear it.")
    return Drawing(strokes=tuple(tuple(_point(p, where) for p in stroke) for stroke in strokes if stroke))


def _point(value: Any, where: str) -> tuple[float, float]:
    if _POINT(value) is not None:
        raise MetaSiamError(f"{where} has a point that is not two numbers. Draw it again.")
    return float(value[0]), float(value[1])


def _picture_bytes(value: Any, where: str) -> bytes:
    if not isinstance(value, str) or not value.startswith("data:") or ";base64," not in value[:100]:
        raise MetaSiamError(f"{where} is not a picture. Open a PNG or JPEG file.")
    try:
        data = base64.b64decode(value.split(",", 1)[1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise MetaSiamError(f"{where} holds a damaged picture. Open another file.") from error
    _decoded(data)
    return data


def _decoded(data: bytes) -> Tensor:
    """Decode a picture file to grey uint8 [H, W], at most SIDE pixels on a side."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; ours are refused by size
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF", "BMP")) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise MetaSiamError(
                        f"the picture has {image.width}×{image.height} pixels, more than {MOST_PIXELS:,}. "
                        "Make it smaller."
                    )
                upright = _in_8_bits(ImageOps.exif_transpose(image)).convert("RGBA")
    except MetaSiamError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, many times ours
        raise MetaSiamError(f"the picture has far more than {MOST_PIXELS:,} pixels. Make it smaller.") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise MetaSiamError("the picture cannot be read. Open a PNG or JPEG file.") from error
    upright.thumbnail((SIDE, SIDE))
    return _on_a_ground(upright)


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Scale grey levels of 16 bits down, by as many bits as they use; Pillow would cut them off at 255."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    levels = np.asarray(image).astype(np.float64).clip(min=0)
    full = next((2**bits - 1 for bits in (8, 10, 12, 14) if levels.max() <= 2**bits - 1), max(65535, levels.max()))
    return Image.fromarray((levels * (255 / full)).round().astype(np.uint8))


def _on_a_ground(image: Image.Image) -> Tensor:
    """Lay an RGBA picture on white, or on black where on white next to nothing of it would be seen: uint8 [H, W]."""
    bands = image.convert("RGB").convert("L"), image.getchannel("A")
    grey, alpha = (torch.from_numpy(np.array(band)).float() for band in bands)
    cover = alpha / 255
    seen = (255 - grey) * cover >= FAINTEST
    ground = 255.0 if float((seen * cover).sum()) >= LEAST_SEEN * float(cover.sum()) else 0.0
    return (grey * cover + ground * (1 - cover)).round().to(torch.uint8)


def read_symbols(value: Any) -> tuple[Symbol, ...]:
    """Check named symbols as JSON: a list of ``{"name", "drawings"}``.

    Raises:
        MetaSiamError: saying which symbol is wrong.
    """
    if not isinstance(value, list):
        raise MetaSiamError("the symbols are not a list. Save them again from the page.")
    if len(value) > MOST_SYMBOLS:
        raise MetaSiamError(f"there are {len(value)} symbols, more than {MOST_SYMBOLS}. Remove some.")
    symbols = [_symbol(item, place) for place, item in enumerate(value, 1)]
    names = [symbol.name for symbol in symbols]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise MetaSiamError(f"two symbols are called '{twice}'. Give each its own name.")
    return tuple(symbols)


def _symbol(value: Any, place: int) -> Symbol:
    given = value.get("name") if isinstance(value, dict) else None
    name = plain_name(given) if isinstance(given, str) else ""
    if not name or len(name) > MOST_LETTERS:
        raise MetaSiamError(f"symbol {place} has no name of 1 to {MOST_LETTERS} letters. Name it.")
    drawings = value.get("drawings")
    if not isinstance(drawings, list) or not drawings:
        raise MetaSiamError(f"symbol '{name}' needs 1 to {MOST_DRAWINGS} drawings. Add one.")
    if len(drawings) > MOST_DRAWINGS:
        raise MetaSiamError(f"symbol '{name}' has {len(drawings)} drawings, more than {MOST_DRAWINGS}. Remove some.")
    return Symbol(name, tuple(read_drawing(drawing, f"a drawing of '{name}'") for drawing in drawings))


def read_symbol_file(text: str) -> tuple[Symbol, ...]:
    """Check a symbol file's text.

    Raises:
        MetaSiamError: if it is not a symbol file, damaged, or of another version.
    """
    if len(text) > MOST_BYTES:
        size = len(text) / (1 << 20)
        raise MetaSiamError(f"these symbols take {size:.1f} MiB, more than {MOST_BYTES >> 20}. Remove some examples.")
    try:
        value = parse_json(text)
    except ValueError as error:
        raise MetaSiamError("this is not a symbol file (not JSON). Open one that was saved here.") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise MetaSiamError("this is not a symbol file. Open one that was saved here.")
    if value.get("schema") != 1:
        raise MetaSiamError("this symbol file is of another version. Open it with a newer MetaSiam.")
    return read_symbols(value.get("symbols"))


def symbols_as_json(symbols: Sequence[Symbol]) -> list[dict[str, Any]]:
    """Return symbols as the page keeps them."""
    return [{"name": s.name, "drawings": [drawing.as_json() for drawing in s.drawings]} for s in symbols]
