"""The figures of a report, from the JSON and the plain inputs next to it.

Every function returns a matplotlib ``Figure`` in the house style of ``style.py``; ``style.save_figure`` writes it.
Where several methods are drawn, ``order`` fixes who gets which colour, so that it is the same in all figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metasiam.reports.inputs import Curve, SweepPoint
from metasiam.reports.numbers import (
    Interval,
    Json,
    interval,
    method_name,
    metric,
    metric_words,
    metrics_of,
    shots_order,
    shots_words,
    sweep_reading,
    task_rows,
)
from metasiam.reports.published import CLASSIC, constant_answer, is_of_cifar100
from metasiam.reports.style import (
    FAINT,
    INK,
    PAPER,
    draw_curves,
    in_house_style,
    in_legend,
    label_ends,
    method_styles,
    new_figure,
    short,
    upright_grid_off,
)


@in_house_style
def task_bars(
    methods: Mapping[str, Json],
    *,
    regime: str,
    shots: str,
    order: Sequence[str] = (),
) -> Figure:
    """Draw each held-out task's pair accuracy as a group of bars, methods side by side, with their 95 % intervals.

    The threshold is the calibrated one. The bars grow from chance (50 %), so their length is what was learned. Tasks
    are in falling order of the first method's accuracy.
    """
    values: dict[str, dict[str, Interval]] = {}
    names: dict[str, str] = {}
    for method, evaluation in methods.items():
        values[method] = {}
        for row in task_rows(evaluation, regime, shots):
            found = interval(row.get("pair_accuracy_calibrated"))
            if found is not None:
                values[method][str(row.get("task"))] = found
                names[str(row.get("task"))] = short(row.get("name", row.get("task")), 22)
    first = next(iter(values.values()), {})
    tasks = sorted(names, key=lambda task: (-first[task].mean if task in first else 0.0, shots_order(task)))
    styles = method_styles(order, methods)
    thickness = 0.78 / max(len(methods), 1)
    row_height = max(0.13 * len(methods) + 0.09, 0.2)
    figure, (axes,) = new_figure(5.6, 1.1 + row_height * max(len(tasks), 1))
    for place, (method, found_of) in enumerate(values.items()):
        heights = [row - 0.39 + thickness * (place + 0.5) for row, task in enumerate(tasks) if task in found_of]
        found_here = [found_of[task] for task in tasks if task in found_of]
        means = np.array([found.mean for found in found_here])
        axes.barh(heights, means - 50, thickness * 0.86, left=50, color=styles[method].colour, label=in_legend(method))
        for height, found in zip(heights, found_here, strict=True):
            if found.low is not None and found.high is not None:
                for colour, width in ((PAPER, 2.4), (INK, 1.1)):  # a pale rim keeps it visible on the bar
                    axes.plot([found.low, found.high], [height] * 2, color=colour, linewidth=width)
    axes.axvline(50, color=FAINT, linewidth=0.8)
    axes.set_yticks(range(len(tasks)), [names[task] for task in tasks])
    axes.set_ylim(max(len(tasks), 1) - 0.4, -0.6)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(right=100)
    axes.set_xlabel("% right; bars grow from chance, thin lines are 95 % intervals")
    axes.set_title("Pair accuracy of each held-out domain", pad=9 if len(methods) < 2 else 24)
    if len(methods) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(methods), borderaxespad=0.2, handlelength=1.0)
    return figure


@in_house_style
def accuracy_over_shots(
    methods: Mapping[str, Json],
    *,
    regime: str,
    order: Sequence[str] = (),
) -> Figure:
    """Draw pair accuracy against the number of images adapted to, at even distances, with 95 % intervals."""
    name = "pair_accuracy_per_task"
    found: set[str] = set()
    for evaluation in methods.values():
        found |= set((evaluation.get("held_out") or {}).get(regime) or {})
    keys = sorted(found, key=shots_order)
    styles = method_styles(order, methods)
    figure, (axes,) = new_figure()
    ends = []
    for place, (method, evaluation) in enumerate(methods.items()):
        # Side by side, so that intervals do not hide each other.
        shift = 0.05 * (place - (len(methods) - 1) / 2)
        points = [
            (at + shift, value)
            for at, key in enumerate(keys)
            if (value := metric(metrics_of(evaluation, regime, key), name)) is not None
        ]
        if not points:
            continue
        look = styles[method]
        axes.plot(
            [x for x, _ in points], [v.mean for _, v in points],
            color=look.colour, linestyle=look.dashes, marker=look.marker,
        )  # fmt: skip
        for x, value in points:
            if value.low is not None and value.high is not None:
                axes.plot([x, x], [value.low, value.high], color=look.colour, linewidth=1.2)
        ends.append(
            (points[-1][0], points[-1][1].mean, f"{method_name(method, 26)} {points[-1][1].mean:.1f}", look.colour)
        )
    axes.set_xticks(range(len(keys)), keys)
    axes.set_xlim(-0.3, max(len(keys) - 0.7, 0.3))
    axes.set_xlabel("images known of each held-out domain (upright lines: 95 % intervals)")
    _draw_guessing(axes)
    title = metric_words(name)
    axes.set_title(f"{title[:1].upper()}{title[1:]}, {regime}")
    upright_grid_off(axes)
    label_ends(figure, axes, ends)
    return figure


def _draw_guessing(axes: Axes) -> None:
    """Draw the line of guessing, 50 %, where it is not far below what is shown; else say that the axis is cut."""
    low, high = axes.get_ylim()
    if low > 50 + (high - low) / 2:
        axes.set_ylabel("% right (axis is cut: guessing is 50)")
        return
    axes.set_ylabel("% right")
    axes.axhline(50, color=INK, linewidth=1.2, linestyle=":")
    axes.annotate(
        "guessing: 50", (0.01, 50), xycoords=("axes fraction", "data"), xytext=(0, 3),
        textcoords="offset points", fontsize=8.5, color=INK,
    )  # fmt: skip


def adaptation_curves(methods: Mapping[str, Json]) -> list[Curve]:
    """Return triplet accuracy over adaptation steps, as far as the evaluations have ``adaptation_steps``."""
    curves = []
    for method, evaluation in methods.items():
        steps_of = (evaluation.get("held_out") or {}).get("adaptation_steps") or {}
        for shots in sorted(steps_of, key=shots_order):
            points = [(point["steps"], interval(point.get("triplet_accuracy"))) for point in steps_of[shots]]
            found = [(steps, value) for steps, value in points if value is not None]
            curves.append(curve_of(method, found, shots_words(shots)))
    return curves


def curve_of(method: str, points: Sequence[tuple[float, Interval]], label: str = "") -> Curve:
    """Return a curve through values with intervals; its band is left out unless all have one."""
    lows = [value.low for _, value in points if value.low is not None]
    highs = [value.high for _, value in points if value.high is not None]
    bounded = len(lows) == len(highs) == len(points)
    return Curve(
        method,
        [x for x, _ in points],
        [value.mean for _, value in points],
        lows if bounded else None,
        highs if bounded else None,
        label,
    )


@in_house_style
def accuracy_over_steps(curves: Sequence[Curve], *, order: Sequence[str] = ()) -> Figure:
    """Draw accuracy over adaptation steps: a panel a method, a line for each number of images."""
    names = list(dict.fromkeys(curve.method for curve in curves))
    styles = method_styles(order, names)
    figure, panels = new_figure(5.6, 0.8 + 2.2 * max(len(names), 1), panels=max(len(names), 1))
    for axes, name in zip(panels, names, strict=False):
        own = [curve for curve in curves if curve.method == name]
        ends = draw_curves(axes, own, styles[name].colour, shades=True)
        axes.set_title(method_name(name, 26))
        axes.set_ylabel("% right")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        upright_grid_off(axes)
        label_ends(figure, axes, ends)
    panels[-1].set_xlabel("adaptation steps")
    return figure


@in_house_style
def sweep(points: Sequence[SweepPoint]) -> Figure:
    """Draw held-out accuracy against the number of seen domains, with and without the constant-answer trap.

    Above: pair accuracy where half the pairs are same, so that a constant answer scores 50. Below: the published
    "few-shot" figure, where one pair in N is same, next to what always answering "different" scores there.

    Args:
        points: one for each split and method.
    """
    styles = method_styles([point.method for point in points])
    figure = Figure(figsize=(5.6, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    ends: dict[str, list[tuple[float, float, str, str]]] = {"above": [], "below": []}
    for method in dict.fromkeys(point.method for point in points):
        own = sorted((point for point in points if point.method == method), key=lambda point: point.seen)
        for name, axes, read in (("above", above, "pairs"), ("below", below, "few_shot")):
            readings = [(point.seen, sweep_reading(point.evaluation, read)) for point in own]
            found = [(seen, value) for seen, value in readings if value is not None]
            curve = curve_of(method, found)
            ends[name] += draw_curves(axes, [curve], styles[method].colour, look=styles[method], named=True)
    held_out = {point.seen: point.held_out for point in points if point.held_out}
    if any(is_of_cifar100(point.evaluation) for point in points):
        shown = {seen: split.few_shot for seen, split in CLASSIC.items() if split.few_shot is not None}
        below.plot(list(shown), list(shown.values()), color=FAINT, linewidth=1.0, marker="x", markersize=5)
        ends["below"].append((90, shown[90], "published classic", FAINT))
        held_out = {seen: 100 - seen for seen in shown} | held_out
    constant = [(seen, constant_answer(count)) for seen, count in sorted(held_out.items()) if count > 1]
    if constant:
        below.plot([x for x, _ in constant], [y or 0.0 for _, y in constant], color=INK, linewidth=1.2, linestyle=":")
        ends["below"].append((constant[-1][0], constant[-1][1] or 0.0, "always “different”", INK))
    above.axhline(50, color=INK, linewidth=1.2, linestyle=":")
    above.annotate(
        "always “different”: 50", (0.01, 50), xycoords=("axes fraction", "data"), xytext=(0, 3),
        textcoords="offset points", fontsize=8.5, color=INK,
    )  # fmt: skip
    above.set_title("Balanced: half of the pairs are same")
    below.set_title("The published figure: one pair in N is same")
    below.set_xlabel("seen domains")
    for axes in (above, below):
        axes.set_ylabel("% right")
        upright_grid_off(axes)
    above.set_ylim(bottom=min(47.0, above.get_ylim()[0]))
    label_ends(figure, above, ends["above"])
    label_ends(figure, below, ends["below"])
    return figure
