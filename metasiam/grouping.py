"""Which runs are trainings of one method, and what a report calls the methods."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from metasiam.errors import MetaSiamError
from metasiam.runs import Run, run_behind

#: Options that do not make a training another method's: where and how it is computed, and its seed.
_NOT_OF_THE_METHOD = ("seed", "device", "compile", "init")


def methods_of(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Tell which runs are trainings of one method, and name the methods for a report.

    Runs whose options differ in the seed alone are one method's trainings (likewise the runs that they started from),
    unless all of them are: then each is compared by itself. A method is named as such where that tells it apart, else
    by what its runs' folders have in common.

    Raises:
        MetaSiamError: if a run is given twice.
    """
    listed = list(runs)
    paths = [run.path.resolve() for run in listed]
    if len(set(paths)) < len(paths):
        raise MetaSiamError("the same run is given twice. Pass each once.")
    groups: dict[tuple[str, ...], list[Run]] = {}
    seeds: set[tuple[str, ...]] = set()
    for run in listed:
        recipe = json.dumps(_recipe(run), sort_keys=True)
        known = (recipe, json.dumps(_seeds(run)))
        # The very same training again adds nothing to the first: it stands by itself.
        groups.setdefault((recipe,) if known not in seeds else (*known, str(run.path)), []).append(run)
        seeds.add(known)
    found = list(groups.values()) if len(groups) > 1 else [[run] for run in listed]
    methods = [group[0].method for group in found]
    if len(set(methods)) == len(methods):
        return dict(zip(methods, found, strict=True))
    names = [_folder_name(group) for group in found]
    parts, length = [group[0].path.resolve().parts for group in found], 2
    while len(set(names)) < len(names):  # paths differ, so some length tells them apart
        names = ["/".join(path[-length:]) for path in parts]
        length += 1
    return dict(zip(names, found, strict=True))


def _recipe(run: Run) -> dict[str, Any]:
    """Return what makes a run's method: its options, those of the run that it started from, and how far it went."""
    options = run.config["options"]
    start = run_behind(options.get("init"))
    return {
        "options": {name: value for name, value in options.items() if name not in _NOT_OF_THE_METHOD},
        "init": options.get("init") if start is None else _recipe(start),
        "images": run.images,
    }


def _seeds(run: Run) -> list[Any]:
    """Return the seeds of a run and of those that it started from."""
    start = run_behind(run.config["options"].get("init"))
    return [run.config["options"].get("seed"), *(_seeds(start) if start is not None else [])]


def _folder_name(runs: Sequence[Run]) -> str:
    """Name a method by its runs' folders: ``triplet-seed-0`` and ``triplet-seed-1`` have ``triplet`` in common."""
    names = [run.path.resolve().name for run in runs]
    without = {re.sub(r"[-_. ]*(seed)?[-_. ]*\d+$", "", name) for name in names}
    return without.pop() or names[0] if len(names) > 1 and len(without) == 1 else names[0]
