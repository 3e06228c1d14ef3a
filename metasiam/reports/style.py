"""How every figure looks: colours, type and lines in one place.

The colours are from Okabe and Ito's palette for all kinds of colour vision, ordered so that neighbours also
differ in lightness and stay apart in grey print; dashes and markers differ too. Figures are made as
``Figure`` objects with no global state but a short ``rc_context``.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metasiam.errors import MetaSiamError
from metasiam.reports.inputs import Curve
from metasiam.reports.numbers import clean, method_name
from metasiam.runs.atomic import atomically

INK = "#1b2430"
FAINT = "#5d6878"
RULE = "#d5dae1"
PAPER = "#ffffff"
SAME = "#0072b2"
DIFFERENT = "#d98a00"

#: Colour, dashes and marker of the first, second, … method. Repeats after six.
SERIES = (
    ("#0072b2", "-", "o"),
    ("#d98a00", (0, (5, 1.6)), "s"),
    ("#009e73", (0, (1.4, 1.4)), "^"),
    ("#b5548c", (0, (6, 1.5, 1.2, 1.5)), "D"),
    ("#4d4d4d", (0, (3, 3)), "v"),
    ("#56b4e9", (0, (8, 2)), "P"),
)

#: The colours above by the names that the page's style sheet gives them, for light and dark.
CSS_NAMES = {
    INK: "--ink",
    FAINT: "--faint",
    RULE: "--rule",
    PAPER: "--paper",
    **{colour: f"--series-{place + 1}" for place, (colour, _, _) in enumerate(SERIES)},
}

_RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a domain may well be called $100
    "axes.edgecolor": FAINT,
    "axes.labelcolor": FAINT,
    "axes.labelsize": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.9,
    "lines.markersize": 4.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",  # real text: searchable, and drawn in the page's own typeface
    "svg.hashsalt": "metasiam",
}


@dataclass(frozen=True)
class SeriesStyle:
    """How one method is drawn in every figure."""

    colour: str
    dashes: str | tuple[float, tuple[float, ...]]
    marker: str


def series_style(place: int) -> SeriesStyle:
    """Return how the method at this place of the order is drawn."""
    return SeriesStyle(*SERIES[place % len(SERIES)])


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the house style. Glyphs that the font lacks are left to the page's typeface, without a warning."""
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support", category=UserWarning)
        yield


Parameters = ParamSpec("Parameters")


def in_house_style(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Make a function that draws a figure do so in the house style."""

    @wraps(draw)
    def styled_draw(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with styled():
            return draw(*args, **kwargs)

    return styled_draw


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself, without pyplot."""

    def _repr_svg_(self) -> str:
        text = io.StringIO()
        with styled():
            self.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()


def new_figure(width: float = 5.6, height: float = 3.5, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure (inches) with panels one above the other that share both axes."""
    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    return figure, list(axes)


def upright_grid_off(axes: Axes) -> None:
    """Leave only the level grid lines, to read heights by."""
    axes.grid(visible=False, axis="x")


def counted_short(value: float, _: object = None) -> str:
    """Write a count briefly, as ``40k`` or ``1.5M``. Serves as a tick formatter."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def method_styles(order: Sequence[str], present: Iterable[str] = ()) -> dict[str, SeriesStyle]:
    """Return how each method is drawn: by its place in ``order``, then in the order of appearance."""
    return {name: series_style(place) for place, name in enumerate(dict.fromkeys((*order, *present)))}


def short(name: object, limit: int = 26) -> str:
    """Return a name that fits next to a line or a bar."""
    return clean(name, limit)


def in_legend(name: object) -> str:
    """Return a method's short name that matplotlib does not hide (as it does names that begin with ``_``)."""
    text = method_name(name, 26)
    return f"\u2009{text}" if text.startswith("_") else text


def draw_curves(
    axes: Axes,
    curves: Sequence[Curve],
    colour: str,
    *,
    look: SeriesStyle | None = None,
    shades: bool = False,
    named: bool = False,
) -> list[tuple[float, float, str, str]]:
    """Draw curves with their bands, and return the labels for their ends.

    Args:
        axes: where.
        curves: which, all in ``colour``.
        look: how the lines look; by default each differently.
        shades: draw the first ones paler.
        named: begin the labels with the method's name.
    """
    ends = []
    for place, curve in enumerate(curves):
        if not len(curve.x):
            continue
        style = look or series_style(place)
        fade = 1 - 0.55 * (1 - (place + 1) / len(curves)) if shades else 1.0
        axes.plot(
            curve.x, curve.accuracy, color=colour, linestyle=style.dashes, marker=style.marker,
            alpha=fade, markevery=max(len(curve.x) // 12, 1),
        )  # fmt: skip
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.12, linewidth=0)
        text = " ".join(part for part in (method_name(curve.method, 26) if named else "", short(curve.label)) if part)
        ends.append((curve.x[-1], curve.accuracy[-1], f"{text} {curve.accuracy[-1]:.1f}".strip(), colour))
    return ends


def label_ends(figure: Figure, axes: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float = 11.5) -> None:
    """Write (x, y, text, colour) labels to the right of where lines end, pushed apart until none overlap.

    Args:
        figure, axes: a panel whose limits are final.
        ends: one label each, at the line's last point in data units.
        gap: least distance between two labels' middles, in points.
    """
    if not ends:
        return
    axes.get_xlim(), axes.get_ylim()  # settles the limits; the layout will change the panel's height by little
    to_points = 72 / figure.dpi
    heights = [axes.transData.transform((x, y))[1] * to_points for x, y, _, _ in ends]
    order = sorted(range(len(ends)), key=heights.__getitem__)
    placed = spread([heights[place] for place in order], gap)
    for place, height in zip(order, placed, strict=True):
        x, y, text, colour = ends[place]
        axes.annotate(
            text,
            (x, y),
            xytext=(7, height - heights[place]),
            textcoords="offset points",
            color=colour,
            va="center",
            ha="left",
            fontsize=9,
            annotation_clip=False,
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move growing heights apart until neighbours are at least ``gap`` apart, as little as possible."""
    groups: list[tuple[float, int]] = []  # middle of the group, how many labels it holds
    for height in heights:
        middle, count = height, 1
        while groups and groups[-1][0] + gap * (groups[-1][1] - 1) / 2 + gap > middle - gap * (count - 1) / 2:
            other, held = groups.pop()
            middle = (other * held + middle * count) / (held + count)
            count += held
        groups.append((middle, count))
    return [middle + gap * (place - (count - 1) / 2) for middle, count in groups for place in range(count)]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, PNG or PDF, by the path's ending, atomically.

    Raises:
        MetaSiamError: if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with styled(), atomically(path) as partial:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(partial, format=path.suffix[1:], dpi=200, metadata=metadata)
    except OSError as error:
        raise MetaSiamError(f"{path} cannot be written ({error.strerror or error}). Choose another --out.") from error


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an ``<svg>`` element to stand in an HTML page.

    Its ids are made unique by ``name`` (letters, digits, hyphens), its colours follow the page's style sheet
    (light or dark), and ``description`` is read out to who cannot see it.
    """
    from html import escape

    text = io.StringIO()
    with styled():
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    for colour, variable in CSS_NAMES.items():
        svg = svg.replace(f": {colour}", f": var({variable}, {colour})")
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1).strip()
