"""Characters as pen strokes, drawn by many imagined hands: what the drawing app's embedder is tried on.

Two kinds of characters, both made here from nothing but matplotlib's fonts and random numbers: the middle lines of
printed characters of many scripts, and invented ones of one to five curves. A hand draws each of a character's
strokes a little moved, turned and scaled, with a trembling line, and the whole slanted, stretched and bent.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from printed_characters import printed_characters
from torch import Tensor

from metasiam.app.ink import InkStyle, place_segments
from metasiam.data.domains import DomainSet

POINTS = 64  # of every character, shared out among its strokes by length
STROKES = 8  # of which move on their own; further ones move with the last
_BLOCK = 400  # drawings at a time


def character_set(
    classes: int, hands: int, size: int, style: InkStyle, generator: torch.Generator, *, invented_share: float = 0.6
) -> DomainSet:
    """Draw every character by many hands, and each drawing as the app shows it to the network.

    Args:
        classes: how many characters; as many printed ones as are distinct, at most the share that is left to them.
        hands: drawings of each.
        size: pixels of the square images.
        style: pen and extent, white on black.
        generator: on the CPU.
        invented_share: how many of the characters are invented.
    """
    printed = printed_characters(round(classes * (1 - invented_share)), generator)
    invented = [invented_character(generator) for _ in range(classes - len(printed))]
    named = [*printed, *((f"invented {index:04d}", strokes) for index, strokes in enumerate(invented))]
    order = torch.randperm(len(named), generator=generator).tolist()
    named = [named[index] for index in order]
    points, places = zip(*(resampled(strokes) for _, strokes in named), strict=True)
    images = torch.empty(len(named) * hands, 1, size, size, dtype=torch.uint8)
    labels = torch.arange(len(named)).repeat_interleave(hands)
    all_points, all_places = torch.stack(points), torch.stack(places)
    for begin in range(0, len(images), _BLOCK):
        block = labels[begin : begin + _BLOCK]
        drawn = drawn_by_hand(all_points[block], all_places[block], generator)
        ink = _draw(drawn, size, torch.full((len(block),), style.extent), torch.full((len(block),), style.pen * size))
        images[begin : begin + _BLOCK, 0] = (ink * 255).round().to(torch.uint8)
    return DomainSet(
        images, labels, tuple(name for name, _ in named), torch.zeros(len(images), dtype=torch.bool), "strokes"
    )


def _draw(segments: Tensor, size: int, extent: Tensor, pen: Tensor) -> Tensor:
    """Draw as ``ink.draw_segments`` does, ten times as fast where thousands are wanted: float [B, size, size]."""
    fine = 4  # subpixels a pixel
    placed = (place_segments(segments, size, 1.0) - size / 2) * extent[:, None, None, None] + size / 2
    pages = []
    for pieces, width in zip((placed * fine).round().int().tolist(), (pen * fine).tolist(), strict=True):
        page = Image.new("L", (size * fine, size * fine))
        draw = ImageDraw.Draw(page)
        path: list[tuple[int, ...]] = []
        for begin, end in pieces:
            path += [tuple(begin), tuple(end)]
            if begin == end:  # the end of a stroke
                _draw_path(draw, path, round(width))
                path = []
        pages.append(np.asarray(page.reduce(fine), dtype=np.float32))
    return torch.from_numpy(np.stack(pages)) / 255


def _draw_path(draw: ImageDraw.ImageDraw, path: list[tuple[int, ...]], width: int) -> None:
    draw.line(path, fill=255, width=width, joint="curve")
    for x, y in (path[0], path[-1]):
        draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)


def resampled(strokes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Share POINTS points out among the strokes by length: float [POINTS, 2] in −1 … 1, int64 [POINTS] strokes."""
    lengths = [float((stroke[1:] - stroke[:-1]).norm(dim=1).sum()) + 0.05 for stroke in strokes]
    kept = sorted(sorted(range(len(strokes)), key=lambda i: -lengths[i])[: POINTS // 4])
    total = sum(lengths[i] for i in kept)
    counts = [max(2, int(POINTS * lengths[i] / total)) for i in kept]
    while sum(counts) != POINTS:
        counts[counts.index(max(counts))] += 1 if sum(counts) < POINTS else -1
    points = torch.cat([_along(strokes[i], count) for i, count in zip(kept, counts, strict=True)])
    places = torch.arange(len(kept)).clamp(max=STROKES - 1).repeat_interleave(torch.tensor(counts))
    breaks = torch.cat([F.one_hot(torch.tensor(c - 1), c) for c in counts]).bool()
    low, high = points.amin(0), points.amax(0)
    points = (points - (low + high) / 2) / (high - low).max().clamp(min=1e-6) * 2
    return points, torch.where(breaks, -1 - places, places)


def _along(stroke: Tensor, count: int) -> Tensor:
    steps = (stroke[1:] - stroke[:-1]).norm(dim=1)
    reached = torch.cat((torch.zeros(1), steps.cumsum(0))).numpy()
    wanted = np.linspace(0, reached[-1], count)
    return torch.stack(
        [torch.from_numpy(np.interp(wanted, reached, stroke[:, axis].numpy())) for axis in (0, 1)], 1
    ).float()


def drawn_by_hand(points: Tensor, places: Tensor, generator: torch.Generator) -> Tensor:
    """Draw characters as a hand would: float [B, POINTS, 2] to segments float [B, POINTS, 2, 2].

    Args:
        points: in −1 … 1.
        places: int64 [B, POINTS], each point's stroke; −1 − stroke at a stroke's last point.
        generator: draws the hands.
    """
    count = len(points)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * 2 - 1

    last = places < 0
    stroke = torch.where(last, -1 - places, places)
    own = F.one_hot(stroke, STROKES).float()  # [B, P, K]
    centre = (own.mT @ points) / own.sum(1).clamp(min=1).unsqueeze(-1)
    middle = own @ centre
    care = 0.4 + 1.0 * torch.rand(count, 1, 1, generator=generator)  # how careless this hand is
    turn = own @ (normal(STROKES, 1) * 0.09 * care)
    grow = own @ (normal(STROKES, 2) * 0.08 * care)
    move = own @ (normal(STROKES, 2) * 0.055 * care)
    points = middle + _turned(points - middle, turn.squeeze(-1)) * (1 + grow) + move
    tremble = F.avg_pool1d(normal(2, POINTS + 16), 9, 1).mT
    tremble = F.avg_pool1d(tremble.mT, 9, 1).mT  # smooth along the line
    points = points + tremble * 0.10 * care
    points = points + _bend(points, normal(2, 4, 4) * 0.07 * care.unsqueeze(-1))
    points = _turned(points, uniform(1).expand(-1, POINTS) * 0.26)
    slant = torch.stack((points[..., 0] + uniform(1) * 0.28 * points[..., 1], points[..., 1]), -1)
    points = slant * (uniform(1, 2) * 0.25).exp()
    following = torch.where(last.unsqueeze(-1), points, points.roll(-1, 1))
    return torch.stack((points, following), 2)


def _turned(points: Tensor, angle: Tensor) -> Tensor:
    cosine, sine = angle.cos(), angle.sin()
    x, y = points.unbind(-1)
    return torch.stack((cosine * x - sine * y, sine * x + cosine * y), -1)


def _bend(points: Tensor, coarse: Tensor) -> Tensor:
    field = F.grid_sample(
        coarse, (points * 0.8).unsqueeze(2), mode="bicubic", padding_mode="border", align_corners=True
    )
    return field.squeeze(-1).mT


def invented_character(generator: torch.Generator) -> list[Tensor]:
    """Invent a character of one to five strokes, many of which begin, cross or end on an earlier one."""

    def rand() -> float:
        return float(torch.rand(1, generator=generator))

    def choose(weights: list[float]) -> int:
        return int(torch.multinomial(torch.tensor(weights), 1, generator=generator))

    strokes: list[Tensor] = []
    for _ in range(1 + choose([0.2, 0.3, 0.27, 0.15, 0.08])):
        shape = _STROKES[choose([0.24, 0.26, 0.18, 0.14, 0.12, 0.06])](rand, generator)
        at = torch.rand(2, generator=generator) * 2 - 1
        if strokes and rand() < 0.65:
            other = strokes[choose([1.0] * len(strokes))]
            at = other[choose([1.0] * len(other))]
            joint = (0, len(shape) // 2, len(shape) - 1)[choose([0.5, 0.35, 0.15])]
            shape = shape - shape[joint]
        else:
            shape = shape - shape.mean(0)
        strokes.append(shape + at)
    return strokes


def _line(rand, generator) -> Tensor:
    # Half of all lines are upright or level.
    angle = (round(rand() * 3) * math.pi / 2 if rand() < 0.5 else rand() * 2 * math.pi) + (rand() - 0.5) * 0.1
    length = 0.5 + 1.5 * rand()
    return torch.linspace(0, length, 12).unsqueeze(1) * torch.tensor([[math.cos(angle), math.sin(angle)]])


def _arc(rand, generator) -> Tensor:
    span, start = (0.5 + 1.3 * rand()) * math.pi, rand() * 2 * math.pi
    angle = torch.linspace(start, start + span * (1 if rand() < 0.5 else -1), 24)
    radius = torch.tensor([0.25 + 0.6 * rand(), 0.25 + 0.6 * rand()])
    return torch.stack((angle.cos(), angle.sin()), 1) * radius


def _loop(rand, generator) -> Tensor:
    angle = torch.linspace(0, 2 * math.pi * (0.95 + 0.1 * rand()), 28) + rand() * 2 * math.pi
    radius = torch.tensor([0.15 + 0.5 * rand(), 0.15 + 0.5 * rand()])
    return torch.stack((angle.cos(), angle.sin()), 1) * radius


def _bent_line(rand, generator) -> Tensor:
    corners = torch.rand(2 + int(rand() * 3) + 1, 2, generator=generator) * 1.8 - 0.9
    return _along(corners, 24)


def _curve(rand, generator) -> Tensor:
    control = (torch.rand(4 + int(rand() * 3), 2, generator=generator) * 2 - 1).cumsum(0) * 0.55
    fine = F.interpolate(control.mT[None], size=48, mode="linear", align_corners=True)[0].mT
    padded = torch.cat((fine[:1].expand(7, 2), fine, fine[-1:].expand(7, 2)))
    return F.avg_pool1d(padded.mT[None], 15, 1)[0].mT


def _dot(rand, generator) -> Tensor:
    return torch.tensor([[0.0, 0.0], [0.05, 0.05]]) * rand()


_STROKES = (_line, _arc, _bent_line, _curve, _loop, _dot)
