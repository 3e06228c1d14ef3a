"""Figures of the similarities themselves: ROC curves, and histograms with the thresholds drawn in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metasiam.reports.inputs import RocCurve, ScoreHistogram
from metasiam.reports.numbers import method_name
from metasiam.reports.style import (
    DIFFERENT,
    FAINT,
    INK,
    RULE,
    SAME,
    in_house_style,
    in_legend,
    method_styles,
    new_figure,
    upright_grid_off,
)


@in_house_style
def roc(curves: Sequence[RocCurve], *, order: Sequence[str] = ()) -> Figure:
    """Draw the ROC curve of each method, with the diagonal of guessing."""
    styles = method_styles(order, [curve.method for curve in curves])
    figure, (axes,) = new_figure(5.6, 4.8)
    axes.plot([0, 100], [0, 100], color=RULE, linewidth=1.2)
    axes.text(62, 59, "guessing", color=FAINT, fontsize=8.5, rotation=45, rotation_mode="anchor", va="top")
    for curve in curves:
        look = styles[curve.method]
        area = "" if curve.auc is None else f"  AUC {curve.auc:.3f}"
        axes.plot(
            np.asarray(curve.false_positive_rate) * 100,
            np.asarray(curve.true_positive_rate) * 100,
            color=look.colour,
            linestyle=look.dashes,
            label=f"{in_legend(curve.method)}{area}",
        )
    axes.set_aspect("equal")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    found = list(dict.fromkeys(curve.condition for curve in curves if curve.condition))
    axes.set_title("\n".join(("Same pairs found against false alarms (ROC)", *found)))
    axes.set_xlabel("% of different pairs called same")
    axes.set_ylabel("% of same pairs called same")
    if curves:
        axes.legend(loc="lower right", labelcolor=INK)
    return figure


@in_house_style
def similarity_histograms(histograms: Sequence[ScoreHistogram]) -> Figure:
    """Draw how similar same and different pairs are to each method, with its thresholds as upright lines."""
    figure = Figure(figsize=(5.6, 0.7 + 2.1 * max(len(histograms), 1)), layout="constrained")
    panels = figure.subplots(max(len(histograms), 1), 1, squeeze=False)[:, 0]
    for axes, histogram in zip(panels, histograms, strict=False):
        _histogram(axes, histogram)
    panels[-1].set_xlabel("similarity (further right: more the same)")
    return figure


def _histogram(axes: Axes, histogram: ScoreHistogram) -> None:
    edges = np.asarray(histogram.edges, dtype=float)
    tops = []
    for counts, colour, hatch, name in (
        (histogram.different, DIFFERENT, "////", "different"),
        (histogram.same, SAME, None, "same"),
    ):
        share = 100 * np.asarray(counts, dtype=float) / max(float(np.sum(counts)), 1.0)
        axes.stairs(share, edges, fill=True, facecolor=colour, alpha=0.28, hatch=hatch, edgecolor=colour, linewidth=0)
        axes.stairs(share, edges, color=colour, linewidth=1.6, label=f"{name} pairs")
        tops.append(float(share.max(initial=0.0)))
    top = max(*tops, 1e-9)
    axes.set_ylim(0, top * 1.45)
    axes.set_xlim(edges[0], edges[-1])
    marks = sorted(histogram.thresholds.items(), key=lambda item: item[1])
    previous, level = -np.inf, 0
    width = edges[-1] - edges[0]
    for kind, threshold in marks:
        if not edges[0] <= threshold <= edges[-1]:
            continue
        # Names of thresholds that lie close together stand on different lines.
        level = (level + 1) % 3 if threshold - previous < 0.2 * width else 0
        previous = threshold
        axes.axvline(threshold, color=INK, linewidth=1.0, ymax=0.98 - 0.085 * level)
        near_end = threshold > edges[0] + 0.75 * width
        axes.annotate(
            f"{kind.replace('_', ' ')} {threshold:.2f}".replace("-", "−"),
            (threshold, 0.985 - 0.085 * level),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if near_end else 4, 0),
            textcoords="offset points",
            ha="right" if near_end else "left",
            va="top",
            fontsize=8.5,
            color=INK,
        )
    title = f"How similar pairs look to {method_name(histogram.method, 26)}"
    axes.set_title("\n".join(part for part in (title, histogram.condition) if part), pad=20)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1],
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1, handlelength=1.2,
    )  # fmt: skip
    axes.set_ylabel("% of pairs")
    upright_grid_off(axes)
