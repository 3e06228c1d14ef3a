"""Drawings as an embedder sees them: strokes and pictures of ink, centred, scaled and drawn with one pen.

A drawing is a list of strokes, a stroke a list of points (x to the right, y down, in any unit). Because place and
size are taken out before drawing and the pen is ours, neither where on the pad somebody draws nor with how wide a
pen makes a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from metasiam.app.ground import ink_on

Stroke = Sequence[Sequence[float]]

#: More segments than about this are not needed at any size an embedder takes; longer drawings are thinned out.
MOST_SEGMENTS = 512


@dataclass(frozen=True)
class InkStyle:
    """How training images of drawings look.

    Attributes:
        extent: length of a drawing's longer side (of the pen's path), as a fraction of the image.
        pen: width of the pen, as a fraction of the image.
        by_mass: the ink's centre of mass is put in the middle, as in MNIST, instead of the bounding box's.
        ink: grey level of the ink, 0 … 255.
        ground: grey level of the ground.
    """

    extent: float = 22 / 28
    pen: float = 1.9 / 28
    by_mass: bool = False
    ink: int = 255
    ground: int = 0


#: By what an embedder was trained on (``EmbedderInfo.trained_on``). MNIST's digits fill 20 of 28 pixels, Omniglot's
#: characters are drawn with a finer pen; what was not trained on drawings is shown dark ink on white paper.
STYLES = {
    "strokes": InkStyle(),
    "mnist": InkStyle(extent=17.5 / 28, pen=2.6 / 28, by_mass=True),
    "omniglot": InkStyle(extent=20 / 28, pen=1.4 / 28),
    "omniglot-rotated": InkStyle(extent=20 / 28, pen=1.4 / 28),
    "glyphs": InkStyle(extent=20 / 32, pen=3.2 / 32, ink=50, ground=205),
}
PAPER = InkStyle(ink=20, ground=245)


def style_for(trained_on: str, *, inverted: bool = False) -> InkStyle:
    """Return the style that an embedder's training images have.

    Args:
        trained_on: their source.
        inverted: whether light and dark of picture files changed places on the way (``Preparation.inverted``).
    """
    style = STYLES.get(trained_on.split()[0] if trained_on else "")
    if style is not None:
        return style
    return replace(PAPER, ink=PAPER.ground, ground=PAPER.ink) if inverted else PAPER


def segments_of(strokes: Sequence[Stroke]) -> Tensor:
    """Return the straight pieces of a drawing: float [S, 2, 2] (piece, begin and end, x and y).

    S is at most ``MOST_SEGMENTS`` for a drawing of one stroke, and at most one more for each of several.
    A stroke of one point becomes a piece of length 0: a dot.

    Raises:
        ValueError: if there is no point at all, or a coordinate is not finite.
    """
    pieces = []
    total = sum(len(stroke) for stroke in strokes)
    every = -(-total // MOST_SEGMENTS) if total else 1
    for stroke in strokes:
        if len(stroke) == 0:
            continue
        points = torch.tensor([[float(x), float(y)] for x, y in stroke])
        if every > 1 and len(points) > 2:
            points = torch.cat((points[:-1:every], points[-1:]))
        pieces.append(torch.stack((points[:1], points[:1]), 1) if len(points) == 1 else points.unfold(0, 2, 1).mT)
    if not pieces:
        raise ValueError("the drawing is empty")
    segments = torch.cat(pieces)
    if not bool(torch.isfinite(segments).all()):
        raise ValueError("a coordinate is not a finite number")
    return segments


def draw_strokes(strokes: Sequence[Stroke], size: int, style: InkStyle = STYLES["strokes"]) -> Tensor:
    """Draw one drawing: uint8 [size, size].

    Raises:
        ValueError: as ``segments_of``.
    """
    segments = segments_of(strokes).unsqueeze(0)
    placed = place_segments(segments, size, style.extent)
    ink = draw_segments(placed, size, torch.tensor([style.pen * size]))[0]
    if style.by_mass:
        axis = torch.arange(size) + 0.5
        middle = torch.stack(((ink.sum(0) * axis).sum(), (ink.sum(1) * axis).sum())) / ink.sum()
        ink = draw_segments(placed + (size / 2 - middle), size, torch.tensor([style.pen * size]))[0]
    return _levels(ink, style)


def place_segments(segments: Tensor, size: int, extent: float) -> Tensor:
    """Centre drawings and scale their longer side to ``extent`` of the image: float [B, S, 2, 2] to the same."""
    flat = segments.flatten(1, 2)
    low, high = flat.amin(1), flat.amax(1)
    longer = (high - low).amax(1)
    scale = torch.where(longer > 0, extent * size / longer.clamp(min=1e-9), torch.ones_like(longer))
    return (segments - ((low + high) / 2)[:, None, None]) * scale[:, None, None, None] + size / 2


def draw_segments(segments: Tensor, size: int, pen: Tensor) -> Tensor:
    """Draw round-ended pieces: coverage 0 … 1, float [B, size, size].

    Args:
        segments: float [B, S, 2, 2] in pixels.
        size: of the square image.
        pen: float [B], width in pixels.
    """
    axis = torch.arange(size, dtype=segments.dtype) + 0.5
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(-1, 2)  # x, y
    begin, along = segments[:, :, 0], segments[:, :, 1] - segments[:, :, 0]  # [B, S, 2]
    length = along.square().sum(-1).clamp(min=1e-9)
    # The nearest point of each piece to each pixel, without ever holding more than [B, S, pixels].
    from_begin = (pixels @ along.transpose(1, 2)).transpose(1, 2) - (begin * along).sum(-1).unsqueeze(-1)
    share = (from_begin / length.unsqueeze(-1)).clamp(0, 1)
    across = pixels[:, 0] - begin[:, :, :1] - share * along[:, :, :1]
    down = pixels[:, 1] - begin[:, :, 1:] - share * along[:, :, 1:]
    distance = (across.square() + down.square()).amin(1).sqrt()
    return (pen.unsqueeze(-1) / 2 + 0.5 - distance).clamp(0, 1).view(-1, size, size)


def centre_ink(picture: Tensor, size: int, style: InkStyle = STYLES["strokes"]) -> Tensor:
    """Cut a picture's ink out, and centre and scale it as drawings are: uint8 [H, W] to uint8 [size, size].

    Which of dark and light is the ink is told by the picture's edge, which is ground, evenly lit or not. The pen keeps
    its width.

    Raises:
        ValueError: if the picture has no ink on it.
    """
    ink = ink_on(picture)
    ink = (ink / ink.max() - 0.15).clamp(min=0) / 0.85  # paper grain and compression are no ink
    rows, columns = (ink.amax(1) > 0.25).nonzero().flatten(), (ink.amax(0) > 0.25).nonzero().flatten()
    cut = ink[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    scale = (style.extent + style.pen) * size / max(cut.shape)
    shape = [max(round(side * scale), 1) for side in cut.shape]
    small = F.interpolate(cut[None, None], size=shape, mode="bilinear", antialias=True)[0, 0].clamp(0, 1)
    result = torch.zeros(size, size)
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    result[top : top + shape[0], left : left + shape[1]] = small
    if style.by_mass:
        axis = torch.arange(size) + 0.5
        middle = torch.stack(((result.sum(1) * axis).sum(), (result.sum(0) * axis).sum())) / result.sum()
        down, right = (round(size / 2 - float(value)) for value in middle)
        result = F.pad(result, (right, -right, down, -down))
    return _levels(result / result.max(), style)


def _levels(ink: Tensor, style: InkStyle) -> Tensor:
    return (style.ground + (style.ink - style.ground) * ink).round().to(torch.uint8)
