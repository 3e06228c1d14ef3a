"""Splits: which domains are trained on, chosen with, and tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metasiam.arguments import checked
from metasiam.data.domains import DomainSet
from metasiam.data.names import plain
from metasiam.data.split_files import read_split
from metasiam.errors import MetaSiamError
from metasiam.notebook import summary
from metasiam.wording import counted, listed

#: What stands between the name of a domain and the degrees, in the name of a copy that is turned by them.
ROTATED = " rotated"


@dataclass(frozen=True, repr=False)
class Split:
    """Which domains are trained on, chosen with, and tested on; the three are disjoint.

    Attributes:
        seen: domains to train on.
        validation: seen-side domains held out for choosing thresholds and hyperparameters.
        held_out: domains never trained on.
        name: how the split was asked for, e.g. ``held-out 10`` or ``cifar-fs``.
        recipe: options that split the same data alike again; None where somebody made it by hand.
    """

    seen: tuple[int, ...]
    validation: tuple[int, ...]
    held_out: tuple[int, ...]
    name: str
    recipe: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        together = [*self.seen, *self.validation, *self.held_out]
        if wrong := [domain for domain in together if not isinstance(domain, int) or domain < 0]:
            raise ValueError(f"a split holds indices of domains from 0 on, not {wrong[0]!r}")
        if len(set(together)) != len(together):
            raise ValueError("a domain is in two parts of the split")

    def __repr__(self) -> str:
        parts = f"{len(self.seen):,} seen, {len(self.validation):,} for validation, {len(self.held_out):,} held out"
        return f"Split({self.name}: {parts})"

    def _repr_html_(self) -> str:
        """Return the parts' domains as a table for a notebook."""
        parts = {"seen": self.seen, "validation": self.validation, "held out": self.held_out}
        rows = [(part, len(own), listed(list(map(str, own)), 12)) for part, own in parts.items()]
        return summary(repr(self), ("part", "domains", "indices"), rows)

    def as_dict(self) -> dict[str, object]:
        """Return the split as JSON-ready values."""
        return {
            "name": self.name,
            "seen": list(self.seen),
            "validation": list(self.validation),
            "held_out": list(self.held_out),
        }


@checked
def split_domains(
    domains: DomainSet, *, held_out: int | None = None, validation: int = 0, split: str | Path | None = None
) -> Split:
    """Split a domain set's domains into seen, validation and held-out ones.

    Args:
        domains: the domain set.
        held_out: hold out the last so many domains (published: 10 of CIFAR-100); 0 trains on all. None is the
            data's own split (``domains.own_split``), or 10 where they have none.
        validation: hold out this many of the remaining domains, evenly spread over them. With a
            published split, or the data's own, 0 keeps its own validation classes.
        split: ``cifar-fs``, ``fc100``, ``omniglot-vinyals`` or a JSON file of ``{"train", "validation", "test"}``
            names; overrides ``held_out``. With ``:validation`` behind it, the validation classes are held out and the
            test classes take no part: for choosing settings. Rotated copies of domains that are trained on are trained
            on too, those of others take no part.

    Raises:
        MetaSiamError: if there are too few domains, or a split file names one that is not there.
    """
    found = _split(domains, held_out, validation, split)
    asked = {"held_out": held_out, "validation": validation, "split": None if split is None else str(split)}
    return replace(found, recipe=asked)


def _split(domains: DomainSet, held_out: int | None, validation: int, split: str | Path | None) -> Split:
    if split is not None:
        return _published_split(domains, split, validation)
    if held_out is None and domains.own_split is not None:
        return _more_validation(domains.own_split, validation, domains.source)
    held_out = 10 if held_out is None else held_out
    total = len(domains.names)
    if held_out < 0 or validation < 0:
        raise MetaSiamError("--held-out and --validation must not be negative.")
    if total - held_out - validation < 2:
        raise MetaSiamError(
            f"{domains.source} has {counted(total, 'domain')}; --held-out {held_out} with --validation {validation} "
            "leaves "
            f"{max(total - held_out - validation, 0)} to train on and at least 2 are needed. Lower them."
        )
    rest = list(range(total - held_out))
    kept = _spread(rest, validation)
    return Split(
        tuple(d for d in rest if d not in kept),
        tuple(sorted(kept)),
        tuple(range(total - held_out, total)),
        f"held-out {held_out}",
    )


def _spread(domains: Sequence[int], count: int) -> set[int]:
    """Pick ``count`` of the domains at even distances, so that neighbours in sorted order stay apart."""
    return {domains[(2 * i + 1) * len(domains) // (2 * count)] for i in range(count)}


def _published_split(domains: DomainSet, split: str | Path, validation: int) -> Split:
    name, colon, choosing = str(split).rpartition(":")
    if choosing == "validation" and colon:
        whole = _published_split(domains, name, validation)
        if not whole.validation:
            raise MetaSiamError(f"--split {split}: {name} has no validation classes. Add --validation N.")
        return Split(whole.seen, (), whole.validation, str(split))
    parts = [[plain(name) for name in names] for names in read_split(split)]
    position = {plain(name): index for index, name in enumerate(domains.names)}
    trained = set(parts[0])
    parts[0] += [name for name in position if ROTATED in name and name.partition(ROTATED)[0] in trained]
    missing = [name for names in parts for name in names if name not in position]
    if missing:
        raise MetaSiamError(
            f"--split {split} names the domain '{missing[0]}', which {domains.source} does not have. "
            "Use the data that the split was made for."
        )
    seen, kept, held_out = (sorted(position[name] for name in names) for names in parts)
    doubled = len(seen) + len(kept) + len(held_out) - len({*seen, *kept, *held_out})
    if doubled:
        raise MetaSiamError(
            f"--split {split} names {counted(doubled, 'domain')} in more than one list. Make them disjoint."
        )
    named = Split(tuple(seen), tuple(kept), tuple(held_out), str(split))
    return _more_validation(named, validation, f"--split {split}")


def _more_validation(split: Split, count: int, whose: str) -> Split:
    """Move ``count`` of the seen domains to the validation ones."""
    if count < 0:
        raise MetaSiamError(f"--validation {count} is below 0. Use 0 for no validation domains.")
    if len(split.seen) - count < 2:
        with_it = f" with --validation {count}" if count else ""
        raise MetaSiamError(f"{whose}{with_it} leaves fewer than 2 domains to train on, of {len(split.seen)}.")
    more = _spread(split.seen, count)
    seen = tuple(domain for domain in split.seen if domain not in more)
    return Split(seen, tuple(sorted({*split.validation, *more})), split.held_out, split.name)
