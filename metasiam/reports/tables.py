"""The tables of a report, from the JSON of one evaluation or of several.

Each function returns a `Table`, which ``rendering`` draws for the terminal, as Markdown or as HTML;
``tasks_csv`` returns the text of ``tasks.csv``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from metasiam.reports.numbers import (
    MISSING,
    SPREAD,
    Interval,
    Json,
    best_condition,
    clean,
    episode,
    episodes_of,
    interval,
    is_one_answer,
    method_name,
    metric,
    metrics_of,
    number,
    plus_minus,
    readings,
    regimes_note,
    shots_order,
    shots_words,
    task_conditions,
    task_rows,
)
from metasiam.reports.rendering import Column, Row, Table, to_csv

#: Columns of tasks.csv and of the rows in ``evaluation.json``.
TASK_COLUMNS = (
    "task",
    "name",
    "regime",
    "shots",
    "triplet_accuracy",
    "pair_accuracy_fixed",
    "pair_accuracy_calibrated",
    "threshold",
    "auc",
    "n_pairs",
)
#: The name in METRICS behind each column of task rows that holds a metric.
TASK_METRICS = {
    "triplet_accuracy": "triplet_accuracy",
    "pair_accuracy_fixed": "pair_accuracy_fixed",
    "pair_accuracy_calibrated": "pair_accuracy_per_task",
    "auc": "auc",
}


def task_table(evaluation: Json, regime: str | None = None, shots: str | None = None) -> Table:
    """Return the per-task accuracy table of one evaluation.

    Args:
        evaluation: a parsed ``evaluation.json``.
        regime: ``closed`` or ``antidomain``; by default closed where there is such a row.
        shots: number of adaptation images as in the JSON; by default 5 if that was measured, else the most there are.
    """
    regime, shots = chosen_condition([evaluation], regime, shots)
    rows = task_rows(evaluation, regime, shots)
    means = {name: _mean_of_tasks(evaluation, rows, regime, shots, name) for name in TASK_METRICS}
    shown = {"triplet_accuracy": "triplet", "pair_accuracy_fixed": "pairs fixed",
             "pair_accuracy_calibrated": "pairs calibrated"}  # fmt: skip
    fixed = means["pair_accuracy_fixed"]
    one_answer = fixed is not None and is_one_answer(fixed)
    if one_answer:
        del shown["pair_accuracy_fixed"]
    titles = ("task", "domain", *shown.values(), "threshold", "AUC")
    columns = tuple(Column(title, "left" if title == "domain" else "right") for title in titles)
    body = tuple(
        (
            str(row.get("task", MISSING)),
            clean(row.get("name", MISSING), 60),
            *(plus_minus(interval(row.get(name)), TASK_METRICS[name]) for name in shown),
            _threshold(row.get("threshold")),
            number(interval(row.get("auc")), "auc"),
        )
        for row in rows
    )
    mean: Row = (
        "mean",
        "",
        *(plus_minus(means[name], TASK_METRICS[name]) for name in shown),
        "",
        number(means["auc"], "auc"),
    )
    note = _one_answer_note(evaluation) if one_answer else ""
    return Table(_task_title(evaluation, rows, regime, shots), columns, body, (mean,) if rows else (), note=note)


def _one_answer_note(evaluation: Json) -> str:
    """Say why the accuracy at the fixed threshold is not shown."""
    fixed = interval((evaluation.get("protocol") or {}).get("threshold"))
    at = "" if fixed is None else f" {_threshold(fixed.mean)}"
    return (
        f"The fixed threshold{at} is left out: nearly all similarities lie on one side of it, so it answers all pairs "
        "alike, and half of them rightly."
    )


def chosen_condition(
    evaluations: Iterable[Json], regime: str | None = None, shots: str | None = None
) -> tuple[str, str]:
    """Return the regime and number of adaptation images that a per-task table is about.

    Unless told, it is what reports lead with: five images where they were measured, else the most; closed before
    antidomain.
    """
    found = [key for key in task_conditions(evaluations) if regime in (None, key[0]) and shots in (None, key[1])]
    return best_condition(found, shots or "5") or (regime or "closed", shots or "0")


def _mean_of_tasks(evaluation: Json, rows: Sequence[Json], regime: str, shots: str, column: str) -> Interval | None:
    """Return the mean with its interval from METRICS, where it is about these rows; else their plain mean."""
    overall = metric(metrics_of(evaluation, regime, shots), TASK_METRICS[column])
    if overall is not None:
        return overall
    values = [found.mean for row in rows if (found := interval(row.get(column))) is not None]
    return Interval(sum(values) / len(values), n=len(values)) if values else None


def _task_title(evaluation: Json, rows: Sequence[Json], regime: str, shots: str) -> str:
    counts = sorted({int(row["n_pairs"]) for row in rows if row.get("n_pairs") is not None})
    seed = (evaluation.get("protocol") or {}).get("seed")
    parts = ["Held-out tasks (never trained on)", regime, shots_words(shots)]
    if counts:
        span = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        parts.append(f"{span} pairs each")
    if "differs_between_trainings" in (evaluation.get("protocol") or {}):
        parts.append("means over trainings")  # the seed is that of the pairs, not theirs
    elif seed is not None:
        parts.append(f"seed {seed}")
    return ", ".join(parts)


def _threshold(value: object) -> str:
    found = interval(value)
    return MISSING if found is None else f"{found.mean:.3f}".replace("-", "−")


def summary_table(evaluation: Json) -> Table:
    """Return one row for each thing measured: seen and held-out domains, by regime and adaptation images."""
    short = {
        "triplet_accuracy": "triplet",
        "pair_accuracy_fixed": "pairs fixed",
        "pair_accuracy_global": "global",
        "pair_accuracy_per_task": "calibrated",
        "pair_accuracy_oracle": "oracle",
        "auc": "AUC",
    }
    rows: list[Row] = []
    fixed = [metric(metrics, "pair_accuracy_fixed") for *_, metrics in readings(evaluation)]
    one_answer = any(fixed) and all(value is None or is_one_answer(value) for value in fixed)
    if one_answer:
        del short["pair_accuracy_fixed"]
    for part, regime, shots, metrics in readings(evaluation):
        cells = [
            (plus_minus if name in ("triplet_accuracy", "pair_accuracy_per_task") else number)(
                metric(metrics, name), name
            )
            for name in short
        ]
        rows.append(("seen" if part == "seen" else regime, shots, *cells))
    columns = (Column("domains", "left"), Column("images"), *(Column(title) for title in short.values()))
    note = regimes_note(row[0] for row in rows)
    note += " Oracle: the best threshold in hindsight, an upper bound, not a result."
    note += f" {_one_answer_note(evaluation)}" if one_answer else ""
    title = f"Accuracy in % ({SPREAD}), by images known of each domain"
    return Table(title, columns, tuple(rows), note=note if rows else "")


def episode_table(evaluations: Mapping[str, Json]) -> Table:
    """Return the accuracy of every kind of few-shot episode, a column for each method."""
    rows = tuple(
        (clean(name), *(plus_minus(episode(evaluation, name)) for evaluation in evaluations.values()))
        for name in episodes_of(evaluations.values())
    )
    columns = (Column("episodes", "left"), *(Column(method_name(name)) for name in evaluations))
    fewer = _fewer_queries(next(iter(evaluations.values()), {})) if rows else ""
    return Table("Few-shot episodes on held-out domains: accuracy in %", columns, rows, note=fewer)


def _fewer_queries(evaluation: Json) -> str:
    """Say which episodes have fewer queries than were asked for, since the domains have too few test images."""
    protocol = evaluation.get("protocol") or {}
    asked, used = protocol.get("queries"), protocol.get("episode_queries") or {}
    fewer = [f"{clean(name)} with {count}" for name, count in used.items() if count != asked]
    return f"Queries of each class: {asked}, but {', '.join(fewer)} (no more test images)." if fewer else ""


def method_task_table(methods: Mapping[str, Json], regime: str | None = None, shots: str | None = None) -> Table:
    """Return the per-task table of several methods side by side: triplet and calibrated pair accuracy each."""
    regime, shots = chosen_condition(methods.values(), regime, shots)
    rows_of = {
        name: {str(row.get("task")): row for row in task_rows(evaluation, regime, shots)}
        for name, evaluation in methods.items()
    }
    names = {task: row.get("name", MISSING) for rows in rows_of.values() for task, row in rows.items()}
    kinds = {"triplets": "triplet_accuracy", "pairs": "pair_accuracy_calibrated"}
    columns = [Column("task"), Column("domain", "left")]
    columns += [Column(f"{kind} ({method_name(method, 24)})") for kind in kinds for method in methods]
    body = tuple(
        (
            task,
            clean(names[task], 60),
            *(
                plus_minus(interval(rows_of[method].get(task, {}).get(column)))
                for column in kinds.values()
                for method in methods
            ),
        )
        for task in sorted(names, key=shots_order)
    )
    means = [
        plus_minus(_mean_of_tasks(methods[method], list(rows_of[method].values()), regime, shots, column))
        for column in kinds.values()
        for method in methods
    ]
    pooled = [each for each in methods.values() if "differs_between_trainings" in (each.get("protocol") or {})]
    first = next(iter([*pooled, *methods.values()]), {})
    title = _task_title(first, list(next(iter(rows_of.values()), {}).values()), regime, shots)
    return Table(title, tuple(columns), body, (("mean", "", *means),) if body else ())


def tasks_csv(evaluation: Json) -> str:
    """Return the text of a run's ``tasks.csv``: the columns of the task rows in ``evaluation.json``.

    Where a value has a 95 % interval, two more columns ``…_low`` and ``…_high`` stand at the end.
    """
    rows, bounds = flat_task_rows(evaluation)
    return to_csv([*TASK_COLUMNS, *bounds], rows)


def methods_csv(methods: Mapping[str, Json]) -> str:
    """Return the text of a comparison's ``tasks.csv``: as a run's, with a first column ``method``."""
    rows: list[dict[str, object]] = []
    bounds: dict[str, None] = {}
    for method, evaluation in methods.items():
        own, own_bounds = flat_task_rows(evaluation)
        rows += [{"method": method, **row} for row in own]
        bounds |= dict.fromkeys(own_bounds)
    return to_csv(["method", *TASK_COLUMNS, *bounds], rows)


def flat_task_rows(evaluation: Json) -> tuple[list[dict[str, object]], list[str]]:
    """Return the task rows with intervals spread over columns of their own, and those columns' names."""
    rows = []
    bounds: dict[str, None] = {}
    for task in task_rows(evaluation):
        flat: dict[str, object] = {}
        for column in TASK_COLUMNS:
            value = task.get(column)
            read = interval(value) if isinstance(value, Mapping) else None
            flat[column] = read.mean if read is not None else value if not isinstance(value, Mapping) else None
            if read is not None and read.low is not None:
                flat |= {f"{column}_low": read.low, f"{column}_high": read.high}
                bounds |= {f"{column}_low": None, f"{column}_high": None}
        rows.append(flat)
    return rows, list(bounds)
