"""What a list of pairs says of its images: one image under one path, and nothing that contradicts itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metasiam.errors import MetaSiamError


class NamedPair(NamedTuple):
    """One line of a list of pairs."""

    first: Path
    second: Path
    same: bool
    part: str = "train"  #: of ``PARTS``; empty: not said
    fold: int = 0
    people: tuple[str, str] = ("", "")
    line: int = 0  #: its number in the list; 0: it has none


def with_one_path(pairs: Sequence[NamedPair]) -> list[NamedPair]:
    """Return the pairs with each image under the first path that is given for it, links and ``..`` followed."""
    first: dict[str, Path] = {}
    paths: dict[Path, Path] = {}
    for pair in pairs:
        for path in (pair.first, pair.second):
            if path not in paths:
                paths[path] = first.setdefault(os.path.realpath(path), path)
    return [pair._replace(first=paths[pair.first], second=paths[pair.second]) for pair in pairs]


def people_of(source: str, pairs: Sequence[NamedPair]) -> dict[Path, str]:
    """Return who or what each image shows; empty where no pair says it.

    Raises:
        MetaSiamError: if an image is said to show two.
    """
    told: dict[Path, NamedPair] = {}
    named: dict[Path, str] = {}
    for pair in pairs:
        for path, person in zip((pair.first, pair.second), pair.people, strict=True):
            known = named.get(path, "")
            if known and person and known != person:
                where = _where(told[path], pair)
                raise MetaSiamError(f"{source}{where} names both '{known}' and '{person}' on {path}. Keep one of them.")
            if not known:
                told[path], named[path] = pair, person
    return named


def check_consistent(source: str, pairs: Sequence[NamedPair], people: dict[Path, str]) -> None:
    """Raise if two pairs, or a pair and the people on its images, say opposite things.

    Raises:
        MetaSiamError: naming the lines and the images.
    """
    said: dict[tuple[Path, Path], NamedPair] = {}
    for pair in pairs:
        images = (min(pair.first, pair.second), max(pair.first, pair.second))
        earlier = said.setdefault(images, pair)
        both = f"{pair.first} and {pair.second}"
        if earlier.same != pair.same:
            raise MetaSiamError(
                f"{source}{_where(earlier, pair)} calls {both} both the same and different. Keep one of them."
            )
        first, second = people[pair.first], people[pair.second]
        if first and second and (first == second) != pair.same:
            shown = f"both show '{first}'" if first == second else f"show '{first}' and '{second}'"
            word = "the same" if pair.same else "different"
            raise MetaSiamError(
                f"{source}{_where(pair)} calls {both} {word}, but they {shown}. Correct one of the two."
            )


def _where(*pairs: NamedPair) -> str:
    lines = [str(line) for line in dict.fromkeys(pair.line for pair in pairs) if line]
    return f", line{'s' if len(lines) > 1 else ''} {' and '.join(lines)}," if lines else ""
