"""What ``compare`` and ``sweep`` train, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from metasiam.methods import names as method_names
from metasiam.options.declare import Opt

_WHAT = "Trainings"


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """Methods to train for a comparison, each under the same budget."""

    methods: Annotated[
        str,
        Opt("Methods to train", panel=_WHAT, names=method_names),
    ] = "triplet,reptile"
    budget_images: Annotated[int | None, Opt("Training images for each method.", panel=_WHAT)] = None
    budget_minutes: Annotated[
        float | None, Opt("Or training time for each method, at this machine's measured speed.", panel=_WHAT)
    ] = None
    settings: Annotated[
        list[str] | None,
        Opt("Set an option of one method, e.g. reptile.lr=0.01 (repeatable).", panel=_WHAT, flag="--set"),
    ] = None
    seeds: Annotated[
        str | None,
        Opt("Train each method once per seed, e.g. 0,1,2, and report means with run-to-run variance.", panel=_WHAT),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Methods to train on every class split."""

    methods: Annotated[str, Opt("Methods to train on every split.", panel=_WHAT)] = "triplet"
    splits: Annotated[str, Opt("Percentages of the domains to train on.", panel=_WHAT)] = (
        "10,20,30,40,50,60,70,80,90,100"
    )
    budget_images: Annotated[int | None, Opt("Training images for each run.", panel=_WHAT)] = None
