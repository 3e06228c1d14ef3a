"""What a search found: one table, and accuracy over each of the options that numbers were tried for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from metasiam.reports.numbers import Json
from metasiam.reports.rendering import Column, Table, to_csv, to_markdown
from metasiam.reports.style import FAINT, SERIES, in_house_style, new_figure, save_figure
from metasiam.runs import write_text

#: The three options that the published study varied; other options that numbers were tried for get one too.
SEED_FIGURES = {"lr": "learning rate", "epochs": "epochs", "batch_size": "batch size"}


def trials_table(rows: Sequence[Json]) -> Table:
    """Return one row a trial, best first: options, validation accuracy and AUC, and how long it took."""
    names = list(dict.fromkeys(name for row in rows for name in row["options"]))
    ranked = sorted(rows, key=lambda row: (-row["score"], row["trial"]))
    columns = [Column("trial"), *(Column(name.replace("_", " ")) for name in names)]
    columns += [Column(title) for title in ("validation accuracy", "AUC", "epochs", "seconds")]
    body = tuple(
        (
            str(row["trial"] + 1),
            *(_shown(row["options"].get(name)) for name in names),
            f"{100 * row['accuracy']:.1f}",
            f"{row['auc']:.3f}",
            _shown(row.get("epochs")),
            f"{row['seconds']:.0f}",
        )
        for row in ranked
    )
    note = (
        "On validation pairs, at the best threshold there, same and different pairs counting alike (a constant answer "
        "scores 50); the test pairs were not used."
    )
    strong = frozenset({(0, len(names) + 1)}) if body else frozenset()
    return Table("Trials, best first", tuple(columns), body, note=note, strong=strong)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "–" if value is None else str(value)


@in_house_style
def accuracy_over(rows: Sequence[Json], name: str) -> Figure:
    """Draw the validation accuracy of every trial over one option, with the best at each value joined."""
    points = sorted((float(row["options"][name]), 100 * row["accuracy"]) for row in rows if name in row["options"])
    figure, (axes,) = new_figure()
    colour = SERIES[0][0]
    axes.plot([x for x, _ in points], [y for _, y in points], "o", color=FAINT, alpha=0.6)
    best: dict[float, float] = {}
    for x, y in points:
        best[x] = max(best.get(x, 0.0), y)
    axes.plot(list(best), list(best.values()), "-", color=colour)
    if points and points[0][0] > 0 and points[-1][0] / points[0][0] >= 20:
        axes.set_xscale("log")
    words = SEED_FIGURES.get(name, name.replace("_", " "))
    axes.set_title(f"Validation accuracy over {words}")
    axes.set_xlabel(words)
    axes.set_ylabel("% right")
    return figure


def numeric_options(rows: Sequence[Json]) -> list[str]:
    """Return the options that several numbers were tried for, those three first."""
    tried: dict[str, set[float]] = {}
    for row in rows:
        for name, value in row["options"].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                tried.setdefault(name, set()).add(float(value))
    several = [name for name, values in tried.items() if len(values) > 1]
    return sorted(several, key=lambda name: (name not in SEED_FIGURES, name))


def write_tune_report(rows: Sequence[Json], out: Path) -> list[Path]:
    """Write ``trials.csv``, ``trials.md`` and figures, one for each numeric option, into ``out``."""
    names = list(dict.fromkeys(name for row in rows for name in row["options"]))
    flat = [{**row["options"], **{key: row[key] for key in ("trial", "accuracy", "auc", "seconds")}} for row in rows]
    written = [
        write_text(out / "trials.csv", to_csv(["trial", *names, "accuracy", "auc", "seconds"], flat)),
        write_text(out / "trials.md", to_markdown(trials_table(rows))),
    ]
    (out / "figures").mkdir(exist_ok=True)
    for name in numeric_options(rows):
        file = out / "figures" / f"accuracy-over-{name.replace('_', '-')}.svg"
        save_figure(accuracy_over(rows, name), file)
        written.append(file)
    return written
