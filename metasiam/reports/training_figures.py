"""Figures of how training went: the loss, and accuracy over training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from metasiam.reports.inputs import Curve
from metasiam.reports.numbers import Json, interval, method_name
from metasiam.reports.style import (
    counted_short,
    draw_curves,
    in_house_style,
    label_ends,
    method_styles,
    new_figure,
    upright_grid_off,
)


@in_house_style
def loss_curve(histories: Mapping[str, Sequence[Json]], *, order: Sequence[str] = ()) -> Figure:
    """Draw the loss of one or more trainings: every logged value faintly, a running mean on top.

    Args:
        histories: the lines of ``metrics.jsonl`` by method. The horizontal axis counts training images
            where all lines have them, so that methods can be compared, else steps.
        order: see the module.
    """
    kept = {
        name: [line for line in lines if interval(line.get("loss")) is not None] for name, lines in histories.items()
    }
    lines_of_all = [line for lines in kept.values() for line in lines]
    along = "images" if lines_of_all and all("images" in line for line in lines_of_all) else "step"
    styles = method_styles(order, histories)
    figure, (axes,) = new_figure()
    ends = []
    for name, lines in kept.items():
        if not lines:
            continue
        x = np.array([float(line.get(along, place)) for place, line in enumerate(lines)])
        loss = np.array([float(line["loss"]) for line in lines])
        smooth = running_mean(loss, max(len(loss) // 40, 1))
        look = styles[name]
        if len(loss) > 40:
            axes.plot(x, loss, color=look.colour, linewidth=0.8, alpha=0.28)
        marker = look.marker if len(loss) == 1 else None  # a line of one point shows nothing
        axes.plot(x, smooth, color=look.colour, linestyle=look.dashes, marker=marker)
        ends.append((x[-1], smooth[-1], f"{method_name(name, 26)} {smooth[-1]:.3g}", look.colour))
    axes.set_title("Training loss")
    axes.set_xlabel("training images" if along == "images" else "steps")
    axes.set_ylim(bottom=0 if all(y >= 0 for _, y, _, _ in ends) else None)
    axes.xaxis.set_major_formatter(FuncFormatter(counted_short))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    upright_grid_off(axes)
    label_ends(figure, axes, ends)
    return figure


def running_mean(values: NDArray[Any], reach: int) -> NDArray[Any]:
    """Return the mean of each value and of up to ``reach`` neighbours on each side, fewer at the ends."""
    total = np.concatenate(([0.0], np.cumsum(values)))
    places = np.arange(len(values))
    first, last = np.maximum(places - reach, 0), np.minimum(places + reach, len(values) - 1)
    averaged: NDArray[Any] = (total[last + 1] - total[first]) / (last - first + 1)
    return averaged


@in_house_style
def accuracy_over_training(curves: Sequence[Curve], *, order: Sequence[str] = ()) -> Figure:
    """Draw accuracy over the number of training images that each method has seen."""
    styles = method_styles(order, [curve.method for curve in curves])
    figure, (axes,) = new_figure()
    ends = []
    for curve in curves:
        look = styles[curve.method]
        ends += draw_curves(axes, [curve], look.colour, look=look, named=True)
    axes.set_title("Accuracy over training")
    axes.set_xlabel("training images")
    axes.set_ylabel("% right")
    axes.xaxis.set_major_formatter(FuncFormatter(counted_short))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    upright_grid_off(axes)
    label_ends(figure, axes, ends)
    return figure
