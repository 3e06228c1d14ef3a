"""Labelled pairs: images, and which two of them show the same domain. For data that come as pairs, such as LFW."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from metasiam.data.preparation import Preparation
from metasiam.errors import MetaSiamError
from metasiam.option_values import shown
from metasiam.wording import counted

#: The parts that a pair can stand in, by their number in ``PairSet.part``.
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class PairSet:
    """Images and labelled pairs of them.

    Attributes:
        images: uint8 [N, C, H, W]; C is 1 or 3.
        names: a name for each image, e.g. its file.
        people: who or what each image shows, for reports; empty strings where nobody knows.
        first: int64 [P], images.
        second: int64 [P], images.
        same: bool [P], whether both show the same domain.
        part: int64 [P], places in ``PARTS``.
        fold: int64 [P], for data that come in folds (LFW's ten); else all 0.
        source: what names this data on the command line (``--data``).
        preparation: how pictures became the images; None where they came as arrays and nobody says.
        recipe: options that load the same pairs again (``metasiam.options.pairs``); None where they came as arrays.
    """

    images: Tensor
    names: tuple[str, ...]
    people: tuple[str, ...]
    first: Tensor
    second: Tensor
    same: Tensor
    part: Tensor
    fold: Tensor
    source: str = "memory"
    preparation: Preparation | None = None
    recipe: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("images", "first", "second", "same", "part", "fold"):
            if not isinstance(getattr(self, name), Tensor):
                raise ValueError(f"{name} must be a torch.Tensor, not {shown(getattr(self, name))}")
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(f"images must be uint8 [N, C, H, W], not {self.images.dtype} {list(self.images.shape)}")
        count = len(self.first)
        if any(len(column) != count for column in (self.second, self.same, self.part, self.fold)):
            raise ValueError("first, second, same, part and fold must be equally long")
        if len(self.names) != len(self.images) or len(self.people) != len(self.images):
            raise ValueError("every image needs a name and a person (which may be empty)")
        if count and (_beyond(torch.stack((self.first, self.second)), len(self.images))):
            raise ValueError(f"first and second must be images: whole numbers from 0 to {len(self.images) - 1}")
        if count == 0:
            raise MetaSiamError(f"{self.source} has no pairs. Check what was given to --data.")
        lonely = (self.first == self.second).nonzero().flatten()
        if len(lonely):
            name = self.names[int(self.first[lonely[0]])]
            raise MetaSiamError(f"{self.source} pairs {name} with itself. Remove that pair: it would teach nothing.")

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.images.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def to(self, device: torch.device | str) -> PairSet:
        """Return the same pairs with every tensor on ``device``."""
        moved = ("images", "first", "second", "same", "part", "fold")
        return replace(self, **{name: getattr(self, name).to(device) for name in moved})

    def rows(self, part: str) -> Tensor:
        """Return the pairs of one part: int64 [n]."""
        return (self.part == PARTS.index(part)).nonzero().flatten()

    def counts(self, part: str) -> dict[str, int]:
        """Count what a part holds: ``pairs``, ``same``, ``different``, ``images`` and ``people`` (0 where unknown)."""
        rows = self.rows(part)
        images = torch.unique(torch.cat((self.first[rows], self.second[rows])))
        people = {self.people[image] for image in images.tolist()} - {""}
        same = int(self.same[rows].sum())
        return {
            "pairs": len(rows),
            "same": same,
            "different": len(rows) - same,
            "images": len(images),
            "people": len(people),
        }

    def need_both(self, part: str) -> None:
        """Raise ``MetaSiamError`` unless the part has same and different pairs."""
        counts = self.counts(part)
        for kind in ("same", "different"):
            if counts[kind] == 0:
                other = "different" if kind == "same" else "same"
                what = f"only {other} pairs" if counts[other] else "no pairs"
                raise MetaSiamError(f"the {part} part of {self.source} has {what}. Add {kind} pairs to it.")

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of images, pairs and parts: equal data, equal fingerprint."""
        digest = hashlib.blake2b(digest_size=12)
        for tensor in (self.images, self.first, self.second, self.same, self.part, self.fold):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()


def groups_of(pairs: PairSet, rows: Tensor) -> Tensor:
    """Number the groups of pairs that share nobody: int64 [len(rows)].

    Two pairs are in one group when a chain of pairs leads from one to the other, each with a person (or, where people
    are unknown, an image) in common. Whole groups can be put into different parts: no person is then in both.
    """
    who = [name or f"image {index}" for index, name in enumerate(pairs.people)]
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    firsts, seconds = pairs.first[rows].tolist(), pairs.second[rows].tolist()
    for a, b in zip(firsts, seconds, strict=True):
        leader[find(who[a])] = find(who[b])
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(find(who[a]), len(numbers)) for a in firsts], dtype=torch.int64)


def fold_people(pairs: PairSet, rows: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """Deal pairs into folds that share nobody, as evenly as whole groups allow: int64 [len(rows)].

    Same and different pairs are balanced: the largest groups are dealt first, each to the fold that has the fewest
    pairs of its kinds.

    Args:
        pairs: where the rows are from.
        rows: int64 [n], the pairs to deal.
        folds: at least 2.
        generator: on the CPU; decides between equals.

    Raises:
        MetaSiamError: if there are fewer groups than folds.
    """
    group = groups_of(pairs, rows)
    count = int(group.max()) + 1 if len(group) else 0
    if count < folds:
        raise MetaSiamError(
            f"{pairs.source} has {counted(count, 'group')} of pairs that share nobody, too few for "
            f"{counted(folds, 'part')}. Add pairs of other people, or give the parts in a column 'part'."
        )
    same = torch.zeros(count, dtype=torch.int64).index_add_(0, group, pairs.same[rows].long().cpu())
    total = torch.bincount(group, minlength=count)
    shuffled = torch.randperm(count, generator=generator)
    order = shuffled[torch.argsort(total[shuffled], descending=True, stable=True)]
    kinds = torch.stack((same, total - same), 1)
    filled = torch.zeros(folds, 2, dtype=torch.int64)
    home = torch.empty(count, dtype=torch.int64)
    for place in order.tolist():
        # The fold whose squared load grows least: whichever kind the group brings most of decides.
        home[place] = int((filled * kinds[place]).sum(1).argmin())
        filled[home[place]] += kinds[place]
    return home[group]


def keep_validation(pairs: PairSet, share: float, generator: torch.Generator) -> PairSet:
    """Move about ``share`` of the training pairs to the validation part, so that nobody is in both.

    Args:
        pairs: without validation pairs; with some, it is returned as it is.
        share: between 0 and 1.
        generator: on the CPU.

    Raises:
        MetaSiamError: if a part is then without same or without different pairs.
    """
    pairs.need_both("train")
    if len(pairs.rows("validation")) == 0:
        rows = pairs.rows("train").cpu()
        folds = max(round(1 / share), 2)
        kept = rows[fold_people(pairs, rows, folds, generator) == 0]
        part = pairs.part.clone()
        part[kept] = PARTS.index("validation")
        pairs = replace(pairs, part=part)
    for name in ("train", "validation"):
        pairs.need_both(name)
    return pairs


def shared_people(pairs: PairSet, first: str, second: str) -> set[str]:
    """Return the people (or, where unknown, the images) that stand in both parts; empty is what one wants."""
    return _who(pairs, first) & _who(pairs, second)


def also_in_test(pairs: PairSet, *parts: str) -> str | None:
    """Say how many of those in the test pairs stand in other parts too, e.g. ``3 of the 12 people``; None: nobody."""
    test = _who(pairs, "test")
    shared = test & {who for part in parts for who in _who(pairs, part)}
    return f"{len(shared)} of the {len(test):,} {whom(pairs)}" if shared else None


def whom(pairs: PairSet) -> str:
    """Return what ``shared_people`` counts: ``people``, or ``images`` where nobody is named, or both."""
    named = {bool(pairs.people[image]) for image in torch.cat((pairs.first, pairs.second)).tolist()}
    return "people or images" if len(named) > 1 else "people" if True in named else "images"


def _who(pairs: PairSet, part: str) -> set[str]:
    rows = pairs.rows(part)
    images = torch.cat((pairs.first[rows], pairs.second[rows])).tolist()
    return {pairs.people[image] or pairs.names[image] for image in images}


def _beyond(index: Tensor, count: int) -> bool:
    return int(index.min()) < 0 or int(index.max()) >= count
