"""Data as options say it: loaded, saved with a run, and loaded again from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from metasiam.errors import MetaSiamError
from metasiam.options.data import DataOptions
from metasiam.options.pairs import PairDataOptions
from metasiam.progress import Listener
from metasiam.shapes import DATA_OPTIONS, check

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet
    from metasiam.data.pairs import PairSet
    from metasiam.data.splitting import Split
    from metasiam.models.files import EmbedderInfo
    from metasiam.runs import Run

Options = TypeVar("Options", DataOptions, PairDataOptions)

_KOCH_SIZE = 105


def load(
    options: DataOptions, listener: Listener | None, shown_to: EmbedderInfo | None = None
) -> tuple[DomainSet, Split]:
    """Load a domain set, prepared for trained weights where these are given, and split its domains."""
    from metasiam.data.preparation import Preparation
    from metasiam.data.sources import load_domains
    from metasiam.data.splitting import split_domains

    assert options.data is not None
    how = shown_to.preparation if shown_to is not None else None
    if options.squeeze:
        how = Preparation(fit="squeeze")
    domains = load_domains(
        options.data,
        data_dir=options.data_dir,
        image_size=options.image_size,
        skip_unreadable=options.skip_unreadable,
        listener=listener,
        preparation=how,
        grey=shown_to is not None and shown_to.channels == 1,
    )
    validation = options.validation
    if validation is None:
        own = options.held_out is None and options.split is None and domains.own_split is not None
        validation = 0 if own else options.keep_back or 0
    return domains, split_domains(domains, held_out=options.held_out, validation=validation, split=options.split)


def data_of_run(run: Run) -> DataOptions:
    """Return the options that a run's data was loaded with.

    Raises:
        MetaSiamError: if it was trained on pairs or from Python, or what it says is damaged.
    """
    stored = dict(run.config["data"]["options"] or {})
    if "split" not in run.config:
        raise MetaSiamError(
            f"{run.path} was trained on pairs ({run.method}) and has no split. Pass --data and --held-out."
        )
    if not stored:
        raise MetaSiamError(
            f"{run.path} was trained from Python and does not say how its data was loaded. Pass --data and "
            "--held-out (or --split)."
        )
    return from_stored(stored)


def from_stored(stored: Mapping[str, Any]) -> DataOptions:
    """Return the options that ``saved`` made into JSON.

    Raises:
        MetaSiamError: if they are damaged.
    """
    return _from_stored(DataOptions, stored)


def with_run(options: DataOptions, run: Run) -> DataOptions:
    """Fill from a run what was not given: its data, its split, or both."""
    stored: dict[str, Any] = {}
    if options.data is None or (run.config["data"]["options"] and "split" in run.config):
        stored = data_of_run(run).__dict__
    missing = ["data", "data_dir", "image_size", "skip_unreadable", "squeeze"] if options.data is None else []
    if options.held_out is None and options.split is None:
        missing += ["held_out", "split", "validation", "keep_back"]
    filled = {name: stored[name] for name in missing if name in stored and name not in options.given()}
    return replace(options, **filled).with_defaults({})


def pairs_with_defaults(options: PairDataOptions, preset: Mapping[str, Any], arch: str) -> PairDataOptions:
    """Fill what was not given from a preset, then from the defaults."""
    values = {"data": "lfw", "image_size": _KOCH_SIZE if arch.startswith("koch") else None} | dict(preset)
    return replace(options, **{name: value for name, value in values.items() if getattr(options, name) is None})


def load_pairs(options: PairDataOptions, listener: Listener | None) -> PairSet:
    """Load pairs."""
    from metasiam.data.sources import load_pairs
    from metasiam.workflows.folds import with_test_fold

    assert options.data is not None
    pairs = load_pairs(
        options.data,
        data_dir=options.data_dir,
        image_size=options.image_size,
        crop=options.crop,
        grey=options.grey,
        listener=listener,
        squeeze=options.squeeze,
    )
    return pairs if options.fold is None else with_test_fold(pairs, options.fold - 1)


def pairs_of_run(run: Run) -> PairDataOptions:
    """Return the options that a run's pairs were loaded with.

    Raises:
        MetaSiamError: if it was not trained on pairs, or from Python.
    """
    run.check_method("siamese")
    return pairs_stored_in(run.path, run.config)


def pairs_stored_in(path: Path, config: Mapping[str, Any]) -> PairDataOptions:
    """Return the options that the ``config.json`` of a run, or ``folds-config.json`` of its folds, says."""
    stored = dict(config["data"]["options"] or {})
    if not stored:
        raise MetaSiamError(f"{path} was trained from Python: it does not say how its data was loaded.")
    return _from_stored(PairDataOptions, stored)


def _from_stored(kind: type[Options], stored: Mapping[str, Any]) -> Options:
    from metasiam.data.preparation import squeezed_before

    try:
        check(stored, DATA_OPTIONS)
        if unknown := sorted(set(stored) - {field.name for field in fields(kind)}):
            raise ValueError(f"{unknown[0]} is not a data option")
        if not stored.get("data"):
            raise ValueError("data is not named")
    except ValueError as error:
        raise MetaSiamError(
            f"the run does not say properly how its data was loaded: {error}. Pass --data again."
        ) from error
    values = {"squeeze": squeezed_before(str(stored.get("data"))), **stored}
    if values.get("data_dir") is not None:
        values["data_dir"] = Path(values["data_dir"])
    return kind(**values)
