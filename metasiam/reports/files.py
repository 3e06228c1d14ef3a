"""The files that a comparison leaves: JSON, Markdown, CSV, figures and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from metasiam.reports.figures import accuracy_over_shots, accuracy_over_steps, adaptation_curves, task_bars
from metasiam.reports.inputs import Extras
from metasiam.reports.markdown import comparison_markdown
from metasiam.reports.numbers import Json
from metasiam.reports.page import comparison_page
from metasiam.reports.score_figures import roc, similarity_histograms
from metasiam.reports.style import save_figure
from metasiam.reports.tables import chosen_condition, methods_csv
from metasiam.reports.training_figures import accuracy_over_training, loss_curve
from metasiam.runs import write_text


def write_comparison(
    folder: Path, compare: dict[str, Any], *, settings: Mapping[str, Json], extras: Extras
) -> list[Path]:
    """Write ``compare.json``, ``compare.md``, ``tasks.csv``, ``report.html`` and ``figures/`` into a folder.

    Args:
        folder: is made when missing.
        compare: the dict of ``compare.json``.
        settings: each method's ``config.json``.
        extras: pictures and curves next to the numbers.

    Returns:
        What was written, the page first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(compare, indent=1, ensure_ascii=False) + "\n"
    written = [
        write_text(folder / "report.html", comparison_page(compare, settings=settings, extras=extras)),
        write_text(folder / "compare.json", text),
        write_text(folder / "compare.md", comparison_markdown(compare, settings=dict(settings))),
        write_text(folder / "tasks.csv", methods_csv(compare["methods"])),
    ]
    return written + write_figures(folder / "figures", compare["methods"], extras)


def write_figures(folder: Path, methods: Mapping[str, Json], extras: Extras) -> list[Path]:
    """Write every figure that the numbers allow as SVG; return the files."""
    figures = figures_of(methods, extras)
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.svg")
    return [folder / f"{name}.svg" for name in figures]


def figures_of(methods: Mapping[str, Json], extras: Extras) -> dict[str, Figure]:
    """Return every figure that the numbers allow, by the name of its file."""
    order: Sequence[str] = list(methods)
    figures: dict[str, Figure] = {}
    regime, shots = chosen_condition(methods.values())
    if any(evaluation.get("held_out", {}).get("tasks") for evaluation in methods.values()):
        figures["tasks"] = task_bars(methods, regime=regime, shots=shots, order=order)
        figures["accuracy_over_images"] = accuracy_over_shots(methods, regime=regime, order=order)
    if extras.roc:
        figures["roc"] = roc(extras.roc, order=order)
    if extras.histograms:
        figures["similarity"] = similarity_histograms(extras.histograms)
    if curves := adaptation_curves(methods):
        figures["accuracy_over_steps"] = accuracy_over_steps(curves, order=order)
    if extras.training:
        figures["accuracy_over_training"] = accuracy_over_training(extras.training, order=order)
    if extras.histories:
        figures["loss"] = loss_curve(extras.histories, order=order)
    return figures
