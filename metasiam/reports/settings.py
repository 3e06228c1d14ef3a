"""Every setting needed to repeat what a report shows, as one table with a column for each method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from metasiam.reports.numbers import Json, clean, method_name, task_rows
from metasiam.reports.rendering import Column, Row, Table

#: Longest setting that is written out; more is cut (a run's ``config.json`` has it whole).
LONGEST = 600
#: What ``protocol`` holds besides settings: how the plans that were not chosen fared.
_NOT_SETTINGS = ("plans_tried",)


def settings_table(methods: Mapping[str, Json], settings: Mapping[str, Json]) -> Table:
    """Return the protocol of each evaluation and the config of each run, one line a setting.

    Where all methods agree the value stands once, in the first column; where they differ, it stands out.

    Args:
        methods: parsed ``evaluation.json`` by method.
        settings: parsed ``config.json`` by method; may lack some or all.
    """
    names = list(dict.fromkeys((*methods, *settings)))
    of_each: dict[str, dict[str, str]] = {}
    for name in names:
        own = {"protocol": _protocol(methods.get(name) or {}), "run": settings.get(name) or {}}
        for part, values in own.items():
            for key, value in _flat({key: value for key, value in values.items() if key not in _NOT_SETTINGS}):
                of_each.setdefault(f"{part}: {key}", {})[name] = value
    rows: list[Row] = []
    strong = set()
    for place, (key, values) in enumerate(of_each.items()):
        agree = len(values) == len(names) and len(set(values.values())) == 1
        if agree:
            rows.append((key, values[names[0]], *("same" for _ in names[1:])))
        else:
            rows.append((key, *(values.get(name, "not set") for name in names)))
            strong.add((place, 0))
    columns = (Column("setting", "left"), *(Column(method_name(name), "left") for name in names))
    note = "Settings that differ between methods stand out." if len(names) > 1 and rows else ""
    return Table("Settings to repeat this", columns, tuple(rows), note=note, strong=frozenset(strong))


def _protocol(evaluation: Json) -> dict[str, object]:
    """Return an evaluation's protocol, worded where bare numbers would not say what they are."""
    protocol = dict(evaluation.get("protocol") or {})
    if kinds := protocol.get("episode_kinds"):
        protocol["episode_kinds"] = [f"{ways}-way {shots}-shot" for ways, shots in kinds]
    asked, drawn = protocol.get("pairs"), [row["n_pairs"] for row in task_rows(evaluation) if row.get("n_pairs")]
    if asked is not None and drawn and min(drawn) < asked:
        span = f"{min(drawn)}" if min(drawn) == max(drawn) else f"{min(drawn)} to {max(drawn)}"
        protocol["pairs"] = f"{asked}, but {span} drawn for each task (no more test images)"
    return protocol


def _flat(values: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested JSON with its dotted name."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield clean(prefix), _words(values)


def _words(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "none" if value is None else "yes" if value else "no"
    if isinstance(value, list | tuple) and len(value) > 3 and all(type(item) is int for item in value):
        return clean(_ranges(value), LONGEST)
    if isinstance(value, list | tuple):
        return clean(", ".join(_words(item) for item in value) or "none", LONGEST)
    if isinstance(value, float):
        return f"{value:g}"
    return clean(value if value != {} else "none", LONGEST)


def _ranges(numbers: Sequence[int]) -> str:
    """Write integers briefly: runs of neighbours as ``3–17``."""
    runs: list[list[int]] = []
    for value in numbers:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)
