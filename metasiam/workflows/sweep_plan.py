"""What a sweep will do, from its options: checked without torch, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metasiam.errors import MetaSiamError
from metasiam.methods import options_class
from metasiam.options.budget import SweepOptions
from metasiam.options.data import DataOptions, saved
from metasiam.options.evaluation import ProtocolSettings, read_counts, settings_from
from metasiam.options.presets import check_start, preset_options
from metasiam.options.run import RunOptions
from metasiam.options.training import options_of
from metasiam.runs import SWEEP, check_new
from metasiam.runs.reading import read_text
from metasiam.shapes import parse_json


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep trains on every split.

    Attributes:
        options: of each method.
        data: the data.
        shares: percent of the domains that are seen.
        settings: what is measured.
        out: its folder.
        overwrite: replace the sweep in it.
        device: where to evaluate.
    """

    options: dict[str, dict[str, Any]]
    data: DataOptions
    shares: tuple[int, ...]
    settings: ProtocolSettings
    out: Path
    overwrite: bool = False
    device: str = "auto"


def plan_sweep(
    wanted: SweepOptions, given: Mapping[str, Any], data: DataOptions, protocol: Mapping[str, Any], run: RunOptions
) -> SweepPlan:
    """Return what options ask for; nothing is loaded yet.

    Args:
        wanted: methods, splits and their budget.
        given: options of all methods.
        data: of the data.
        protocol: options of the evaluation that were given.
        run: where it goes, and the preset.

    Raises:
        MetaSiamError: for options that do not fit, or a folder that holds another sweep.
    """
    names = list(dict.fromkeys(name.strip() for name in wanted.methods.split(",") if name.strip()))
    if not names:
        raise MetaSiamError("--methods does not name a method. Use e.g. --methods triplet,reptile.")
    options = {}
    for name in names:
        options[name] = preset_options(run.preset, name)[1] | dict(given)
        options_of(options_class(name), options[name])  # said now, not when the data are loaded
        check_start(run.preset, name, options[name])
        if wanted.budget_images is not None:
            from metasiam.workflows.compare import options_for_budget

            options[name] = options_for_budget(name, options[name], wanted.budget_images)
    settings = settings_from(
        {"protocols": ("balanced", "reference"), **protocol, "shots": (0,)},
        regimes=("closed",),
        episodes=0,
        seed=given.get("seed"),
    )
    plan = SweepPlan(
        options,
        data.with_defaults(preset_options(run.preset, names[0])[0]),
        read_counts("--splits", wanted.splits, "10,50,90"),
        settings,
        run.out or Path("runs/sweep"),
        run.overwrite,
        str(given.get("device", "auto")),
    )
    _check_plan(plan.out, stored(plan), overwrite=plan.overwrite)
    return plan


def stored(plan: SweepPlan) -> dict[str, Any]:
    """Return a plan as ``sweep.json`` keeps it."""
    return {"options": plan.options, "data": saved(plan.data)}


def _check_plan(out: Path, plan: dict[str, Any], *, overwrite: bool) -> None:
    """Refuse to mix runs of other settings, or other files, into a sweep."""
    check_new(SWEEP, out, overwrite=overwrite, goes_on=True)
    file = out / SWEEP.markers[0]
    if overwrite or not file.is_file():
        return
    try:
        earlier = parse_json(read_text(file))
    except ValueError as error:
        raise MetaSiamError(f"{file} is damaged. Use --overwrite to start over, or another --out.") from error
    if _compared(earlier) != _compared(json.loads(json.dumps(plan))):
        raise MetaSiamError(
            f"{out} holds a sweep with other settings (see {file}). Use those, --overwrite to start over, or another "
            "--out."
        )


def _compared(plan: Any) -> Any:
    """Return what must be equal of two plans: not how domains are split, which a sweep decides, nor what is not set."""
    if not isinstance(plan, dict) or not isinstance(plan.get("data"), dict):
        return plan
    own = ("held_out", "validation", "keep_back")
    return {**plan, "data": {name: value for name, value in plan["data"].items() if value and name not in own}}
