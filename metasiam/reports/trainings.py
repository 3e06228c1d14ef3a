"""What a comparison says of run-to-run variance: how often each method was trained, and what each training reached."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from metasiam.reports.numbers import (
    Json,
    clean,
    conditions,
    method_name,
    metric,
    metrics_of,
    number,
    shots_words,
    spelled,
)
from metasiam.reports.rendering import Column, Row, Table

_SHOWN = {"triplet": "triplet_accuracy", "pairs": "pair_accuracy_per_task"}


def trainings_words(compare: Json) -> str:
    """Say in a sentence how often each method was trained, and whether the intervals include run-to-run variance.

    Empty where nothing is compared. Where it is not known how many images the methods were trained with, they are
    taken for weights of unknown making.
    """
    several: Mapping[str, Sequence[Json]] = compare.get("trainings") or {}
    methods = list(compare.get("methods") or {})
    if not several:
        if len(methods) < 2:
            return ""
        budget = compare.get("budget") or {}
        if not (budget.get("images") or budget.get("images_by_method")):
            return (
                "These weights, not the methods behind them, are compared: another training would shift these numbers "
                "too."
            )
        return (
            "Each method was trained once: another seed would shift these numbers too, and the intervals do not "
            "include that (--seeds 0,1,2 measures it)."
        )
    seeds = {name: ", ".join(clean(one.get("seed")) for one in listed) for name, listed in several.items()}
    if len(several) == len(methods) and len(set(seeds.values())) == 1:
        count = len(next(iter(several.values())))
        who = f"Every method was trained {spelled(count, 'time')} (seeds {next(iter(seeds.values()))})"
    else:
        parts = [f"{method_name(name)} {spelled(len(several[name]), 'time')} (seeds {seeds[name]})" for name in several]
        parts += [f"{method_name(name)} once" for name in methods if name not in several]
        who = f"Trainings: {', '.join(parts)}"
    once = " (unknown for methods trained once)" if len(several) < len(methods) else ""
    return f"{who}; numbers are means over trainings, and the intervals include run-to-run variance{once}."


def trainings_table(compare: Json) -> Table:
    """Return a row for each training of methods that were trained several times, and their standard deviation.

    Args:
        compare: a parsed ``compare.json``; shown is the closed regime where it was measured.
    """
    several: Mapping[str, Sequence[Json]] = compare.get("trainings") or {}
    evaluations = [one["evaluation"] for listed in several.values() for one in listed]
    found = conditions(evaluations)
    regime = found[0][0] if found else "closed"
    cells = [(name, shots) for kind, shots in found if kind == regime for name in _SHOWN.values()]
    titles = [f"{title}, {shots_words(shots)}" for kind, shots in found if kind == regime for title in _SHOWN]
    rows: list[Row] = []
    for method, listed in several.items():
        values = [
            [metric(metrics_of(one["evaluation"], regime, shots), name) for name, shots in cells] for one in listed
        ]
        for one, row in zip(listed, values, strict=True):
            rows.append((method_name(method), clean(one.get("seed")), *(number(value) for value in row)))
        spread = [
            statistics.stdev([value.mean for value in column if value is not None])
            for column in zip(*values, strict=True)
        ]
        rows.append((method_name(method), "sd", *(f"±{number(value)}" for value in spread)))
    columns = (Column("method", "left"), Column("seed"), *(Column(title) for title in titles))
    title = f"Each training: accuracy in % on held-out domains, {regime}, calibrated threshold"
    note = "sd: standard deviation over trainings, each measured on the same tasks and pairs."
    return Table(title, columns, tuple(rows), note=note if rows else "")
