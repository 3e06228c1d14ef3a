"""What runs were trained on, held against the data and the split at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from metasiam.config import config_from
from metasiam.data.domains import DomainSet, Split
from metasiam.errors import MetaSiamError
from metasiam.learners import config_class
from metasiam.runs import Run, run_behind


def check_comparable(runs: Iterable[Run], domains: DomainSet, split: Split) -> None:
    """Raise unless every run was trained on this split of these images.

    Raises:
        MetaSiamError: naming the run and what differs.
    """
    for run in runs:
        stored = run.config.get("split")
        if stored is None:
            raise MetaSiamError(
                f"{run.path} was trained on pairs ({run.method}), not on a split of domains. Leave it out."
            )
        for part in ("seen", "validation", "held_out"):
            theirs, ours = set(stored[part]), set(split.as_dict()[part])  # type: ignore[call-overload]
            if theirs != ours:
                raise MetaSiamError(
                    f"{run.path} was trained with another split: {len(theirs)} {part.replace('_', '-')} domains, "
                    f"not these {len(ours)} ({len(theirs ^ ours)} differ). Compare runs of one split."
                )
        if run.config["data"]["fingerprint"] != domains.fingerprint:
            raise MetaSiamError(
                f"{run.path} was trained on other images ({run.config['data']['source']}) than {domains.source} "
                "holds now. Compare runs of the same data."
            )


def check_trained_so(run: Run, method: str, options: Mapping[str, Any], domains: DomainSet, split: Split) -> None:
    """Raise unless a run was, or is being, trained by a method with these options on this split of these images.

    Raises:
        MetaSiamError: naming the run and what differs.
    """
    check_comparable([run], domains, split)
    stored = run.config["options"]
    wanted = config_from(config_class(method), options).as_dict()
    for name, value in wanted.items():
        # Options that depend on the data or on the weights to start from are decided when the training begins.
        if (name in options or name not in ("flip", "arch")) and stored.get(name) != value:
            raise MetaSiamError(
                f"{run.path} was trained with {name} {stored.get(name)}, not {value}. Use that, --overwrite to start "
                "over, or another --out."
            )


def check_never_trained_on(run: Run, domains: DomainSet, split: Split) -> None:
    """Raise if a run, or one that it started from, was trained on domains that the split holds out or keeps back.

    Only what was trained on these very images can be told.

    Raises:
        MetaSiamError: naming the run and how many.
    """
    stored = run.config.get("split")
    if stored is not None and run.config["data"]["fingerprint"] == domains.fingerprint:
        known = set(stored["seen"]) & {*split.held_out, *split.validation}
        if known:
            raise MetaSiamError(
                f"{run.path} was trained on {len(known)} of the domains that would be held out or kept back (e.g. "
                f"'{domains.names[min(known)]}'): the numbers would not be of new domains. Use its --held-out, --split "
                "and --validation."
            )
    start = run_behind(run.config["options"].get("init"))
    if start is not None:
        check_never_trained_on(start, domains, split)
