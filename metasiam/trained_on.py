"""What runs were trained on, held against the data and the split at hand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from metasiam.data.domains import DomainSet
from metasiam.data.names import plain
from metasiam.data.splitting import Split
from metasiam.errors import MetaSiamError
from metasiam.methods import options_class
from metasiam.options.declare import declared
from metasiam.options.training import options_of
from metasiam.progress import SHOWN_OR_WARNED, Listener
from metasiam.runs import Run, run_behind
from metasiam.wording import counted


def check_comparable(runs: Iterable[Run], domains: DomainSet, split: Split) -> None:
    """Raise unless every run was trained on this split of these images.

    Raises:
        MetaSiamError: naming the run and what differs.
    """
    for run in runs:
        stored = run.config.get("split")
        if stored is None:
            raise MetaSiamError(f"{run.path} was trained on pairs ({run.method}), not on a split of domains. Omit it.")
        for part in ("seen", "validation", "held_out"):
            theirs, ours = set(stored[part]), set(split.as_dict()[part])  # type: ignore[call-overload]
            if theirs != ours:
                raise MetaSiamError(
                    f"{run.path} was trained with another split: "
                    f"{counted(len(theirs), part.replace('_', '-') + ' domain')}, "
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
    kind = options_class(method)
    # Options that are newer than the run have the defaults that it was trained with.
    stored = {name: option.default for name, option in declared(kind).items()} | run.config["options"]
    wanted = options_of(kind, options).as_dict()
    for name, value in wanted.items():
        # Options that depend on the data or on the weights to start from are decided when the training begins.
        if (name in options or name not in ("flip", "arch")) and stored.get(name) != value:
            raise MetaSiamError(
                f"{run.path} was trained with {name} {stored.get(name)}, not {value}. Use that, --overwrite to start "
                "over, or another --out."
            )


def check_never_trained_on(run: Run, domains: DomainSet, split: Split, listener: Listener = SHOWN_OR_WARNED) -> None:
    """Raise if a run, or one that it started from, was trained on domains that the split holds out or validates on.

    Of the very images, domains are known by their place. Of other images of the same source (one was added, they are of
    another size) they are known by their names. Equal names of another source may be other things, which is noted.

    Args:
        run: whose training is looked at.
        domains: the data to measure on, or to train on.
        split: of these domains.
        listener: told what cannot be known for certain.

    Raises:
        MetaSiamError: naming the run and how many.
    """
    stored = run.config.get("split")
    if stored is not None:
        _check_unseen(run, stored, domains, split, listener)
    start = run_behind(run.config["options"].get("init"))
    if start is not None:
        check_never_trained_on(start, domains, split, listener)


def _check_unseen(run: Run, stored: Mapping[str, Any], domains: DomainSet, split: Split, listener: Listener) -> None:
    data = run.config["data"]
    same_source = _same_source(run, domains)
    new = {*split.held_out, *split.validation}
    if data["fingerprint"] == domains.fingerprint:
        known = set(stored["seen"]) & new
    elif (names := _seen_names(data, stored, domains, same_source)) is not None:
        known = {domain for domain in new if _spelled(domains.names[domain]) in names}
    elif same_source:
        listener.note(
            f"{run.path} does not say by name what it was trained on: it may have been domains that are held out now."
        )
        return
    else:
        return
    if not known:
        return
    example = domains.names[min(known)]
    if data["fingerprint"] == domains.fingerprint or same_source:
        raise MetaSiamError(
            f"{run.path} was trained on {len(known)} of the domains that would be held out or used for validation "
            f"(e.g. '{example}'), so the numbers would not be of new domains. Use its --held-out, --split and "
            "--validation."
        )
    listener.note(
        f"{run.path} was trained on {counted(len(known), 'domain')} of {data['source']} with the names of domains held "
        f"out or used for validation here (e.g. '{example}'): if they are the same things, the numbers are not of new "
        "domains."
    )


def _same_source(run: Run, domains: DomainSet) -> bool:
    """Tell whether a run's data came from where these come from, whatever is there now."""
    theirs = run.config["data"]
    given = (theirs.get("options") or {}).get("data")  # files are found from anywhere by it
    return _place(domains.source) in {_place(source) for source in (theirs["source"], given) if isinstance(source, str)}


def _place(source: str) -> str:
    kind, colon, path = source.partition(":")
    return f"{kind}:{os.path.realpath(os.path.expanduser(path))}" if colon and kind in ("folder", "npz") else source


def _seen_names(
    data: Mapping[str, Any], stored: Mapping[str, Any], domains: DomainSet, same_source: bool
) -> set[str] | None:
    """Return the names of the domains that a run was trained on; None where that cannot be known."""
    if "seen_names" in data:
        return {_spelled(name) for name in data["seen_names"]}
    if same_source and data["domains"] == len(domains.names):  # of an older run: they are in the same order
        return {_spelled(domains.names[domain]) for domain in stored["seen"]}
    return None


def _spelled(name: str) -> str:
    return plain(name).casefold()
