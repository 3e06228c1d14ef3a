"""``pairs:FILE.csv``: any labelled pairs of image files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import torch

from metasiam.data.pairs import PARTS, PairSet, fold_people
from metasiam.data.sources.pair_images import PairRequest, load_images
from metasiam.errors import MetaSiamError
from metasiam.reading import open_regular, why_no_file

_SAME = {
    "1": True,
    "true": True,
    "yes": True,
    "same": True,
    "0": False,
    "false": False,
    "no": False,
    "different": False,
}
_TEST_SHARE = 5  # one pair in so many becomes test where the list does not say


class NamedPair(NamedTuple):
    """One line of a list of pairs."""

    first: Path
    second: Path
    same: bool
    part: str = "train"  #: of ``PARTS``; empty: not said
    fold: int = 0
    people: tuple[str, str] = ("", "")


def load(request: PairRequest) -> PairSet:
    """Load a CSV file with a header and the columns ``path_a, path_b, same``.

    Paths are relative to the file's folder. ``same`` is 1 or 0 (or true, false, same, different). Optional columns:
    ``part`` (train, validation or test), and ``person_a, person_b``, which keep people out of two parts at once.
    Without ``part``, one pair in five becomes test, such that no person (or image, where people are not named) is in
    both parts.

    Raises:
        MetaSiamError: naming the missing file, line or image.
    """
    file = Path(request.path).expanduser()
    pairs = assemble(f"pairs:{request.path}", list(_lines(file)), request)
    if pairs.part.min() < 0:
        generator = torch.Generator().manual_seed(0)
        rows = torch.arange(len(pairs.part))
        is_test = fold_people(pairs, rows, _TEST_SHARE, generator) == 0
        pairs.part.copy_(torch.where(is_test, PARTS.index("test"), PARTS.index("train")))
    return pairs


def assemble(source: str, lines: Sequence[NamedPair], request: PairRequest) -> PairSet:
    """Make a pair set from named pairs, each image decoded once."""
    people: dict[Path, str] = {}
    for line in lines:
        for path, person in zip((line.first, line.second), line.people, strict=True):
            known = people.get(path, "")
            if known and person and known != person:
                raise MetaSiamError(f"{source} names both '{known}' and '{person}' on {path}. Keep the right one.")
            people[path] = known or person
    files = sorted(people)
    if not files:
        raise MetaSiamError(f"{source} has no pairs. Give lines of path_a,path_b,same below the header.")
    images, preparation = load_images(source, files, request)
    place = {file: index for index, file in enumerate(files)}
    return PairSet(
        images=images,
        names=tuple(str(file) for file in files),
        people=tuple(people[file] for file in files),
        first=torch.tensor([place[line.first] for line in lines]),
        second=torch.tensor([place[line.second] for line in lines]),
        same=torch.tensor([line.same for line in lines]),
        part=torch.tensor([PARTS.index(line.part) if line.part else -1 for line in lines]),
        fold=torch.tensor([line.fold for line in lines]),
        source=source,
        preparation=preparation,
    )


def _lines(file: Path) -> Iterable[NamedPair]:
    if not file.is_file():
        raise MetaSiamError(
            f"{file} {why_no_file(file)}. Give --data pairs:FILE.csv with the columns path_a,path_b,same."
        )
    with TextIOWrapper(open_regular(file), encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text)
        try:
            columns = reader.fieldnames or ()
            missing = [name for name in ("path_a", "path_b", "same") if name not in columns]
            if missing:
                raise MetaSiamError(f"{file} has no column '{missing[0]}'. Its first line must be path_a,path_b,same.")
            for row in reader:
                yield _named_pair(file, reader.line_num, row, "part" in columns)
        except (csv.Error, UnicodeDecodeError) as error:
            raise MetaSiamError(
                f"{file} is not a CSV file in UTF-8 ({error}). Save it as one (Excel calls it CSV UTF-8)."
            ) from error


def _named_pair(file: Path, number: int, row: dict[str, str], says_part: bool) -> NamedPair:
    cells = {name: (row.get(name) or "").strip() for name in ("path_a", "path_b", "same", "part")}
    if not cells["path_a"] or not cells["path_b"]:
        raise MetaSiamError(f"{file}, line {number}: a path is missing. Write path_a,path_b,same.")
    if cells["same"].lower() not in _SAME:
        raise MetaSiamError(f"{file}, line {number}: same is '{cells['same']}'. Write 1 for same, 0 for different.")
    if says_part and cells["part"] not in PARTS:
        raise MetaSiamError(f"{file}, line {number}: part is '{cells['part']}'. Write train, validation or test.")
    return NamedPair(
        file.parent / Path(cells["path_a"]).expanduser(),
        file.parent / Path(cells["path_b"]).expanduser(),
        _SAME[cells["same"].lower()],
        cells["part"],
        people=((row.get("person_a") or "").strip(), (row.get("person_b") or "").strip()),
    )
