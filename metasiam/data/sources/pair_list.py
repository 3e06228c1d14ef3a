"""``pairs:FILE.csv``: any labelled pairs of image files."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from metasiam.data.names import plain
from metasiam.data.pairs import PARTS, PairSet, fold_people
from metasiam.data.sources.pair_images import PairRequest, load_images
from metasiam.data.sources.pair_labels import NamedPair, check_consistent, people_of, with_one_path
from metasiam.errors import MetaSiamError
from metasiam.options.paths import check_pair_list
from metasiam.runs.reading import read_text
from metasiam.wording import counted

_SAME = {"true": True, "yes": True, "same": True, "false": False, "no": False, "different": False}
_COLUMNS = ("path_a", "path_b", "same")
_DELIMITERS = ",;\t"
_TEST_SHARE = 5  # one pair in so many becomes test where the list does not say


def load(request: PairRequest) -> PairSet:
    """Load a CSV file with a header and the columns ``path_a, path_b, same``.

    Paths are relative to the file's folder; two paths of one file are one image. ``same`` is 1 or 0 (or true, false,
    same, different). Optional columns: ``part`` (train, validation or test), and ``person_a, person_b``, which keep
    people out of two parts at once. Semicolons and tabs serve as well as commas, backslashes as well as slashes.
    Without ``part``, one pair in five becomes test, such that no person (or image, where people are not named) is in
    both parts.

    Raises:
        MetaSiamError: naming the missing file, line or image, or the lines that contradict each other.
    """
    file = Path(request.path).expanduser()
    pairs = assemble(f"pairs:{request.path}", with_one_path(list(_lines(file))), request)
    if pairs.part.min() < 0:
        generator = torch.Generator().manual_seed(0)
        rows = torch.arange(len(pairs.part))
        is_test = fold_people(pairs, rows, _TEST_SHARE, generator) == 0
        pairs.part.copy_(torch.where(is_test, PARTS.index("test"), PARTS.index("train")))
    return pairs


def assemble(source: str, lines: Sequence[NamedPair], request: PairRequest) -> PairSet:
    """Make a pair set from named pairs, each image decoded once."""
    people = people_of(source, lines)
    check_consistent(source, lines, people)
    files = sorted(people)
    if not files:
        raise MetaSiamError(f"{source} has no pairs. Add lines of path_a,path_b,same below the header.")
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
    check_pair_list(file)
    try:
        text = read_text(file, "utf-8-sig")
        delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        columns = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in _COLUMNS if name not in columns]
        if missing:
            raise MetaSiamError(f"{file} has no column '{missing[0]}'. Its first line must be path_a,path_b,same.")
        for cells in reader:
            if any(cells):
                yield _named_pair(file, reader.line_num, columns, [cell.strip() for cell in cells])
    except (csv.Error, UnicodeDecodeError) as error:
        raise MetaSiamError(
            f"{file} is not a CSV file in UTF-8 ({error}). Save it as one (Excel calls it CSV UTF-8)."
        ) from error


def _named_pair(file: Path, number: int, columns: Sequence[str], cells: Sequence[str]) -> NamedPair:
    if any(cells[len(columns) :]):
        raise MetaSiamError(
            f"{file}, line {number}: {counted(len(cells), 'cell')}, but {len(columns)} columns have names. "
            f"Put a path with commas "
            'in quotes ("a,b.jpg").'
        )
    row = dict.fromkeys((*_COLUMNS, "part", "person_a", "person_b"), "") | dict(zip(columns, cells, strict=False))
    if any("\0" in cell for cell in row.values()):
        raise MetaSiamError(f"{file}, line {number} has a byte that no path can have (NUL). Correct the list.")
    if not row["path_a"] or not row["path_b"]:
        raise MetaSiamError(f"{file}, line {number}: a path is missing. Write path_a,path_b,same.")
    same = _said_same(row["same"])
    if same is None:
        raise MetaSiamError(f"{file}, line {number}: same is '{row['same']}'. Write 1 for same, 0 for different.")
    if "part" in columns and row["part"] not in PARTS:
        raise MetaSiamError(f"{file}, line {number}: part is '{row['part']}'. Write train, validation or test.")
    first, second = _path(file, row["path_a"]), _path(file, row["path_b"])
    people = (plain(row["person_a"]), plain(row["person_b"]))
    return NamedPair(first, second, same, row["part"], people=people, line=number)


def _said_same(cell: str) -> bool | None:
    """Read 1, 0, the words for them, or the 1.0 and 0.0 that a table with gaps is saved with; None: none of these."""
    try:
        return {1.0: True, 0.0: False}.get(float(cell))
    except ValueError:
        return _SAME.get(cell.lower())


def _path(file: Path, cell: str) -> Path:
    path = file.parent / os.path.expanduser(cell)
    if "\\" in cell and not os.path.exists(path):  # as Windows writes it
        return file.parent / os.path.expanduser(cell.replace("\\", "/"))
    return path
