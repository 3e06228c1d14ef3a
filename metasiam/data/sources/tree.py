"""How a folder of pictures is laid out: which domain and which part each picture belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from metasiam.data.names import plain
from metasiam.data.sources.files import Found, find
from metasiam.data.sources.own_split import parts_of
from metasiam.wording import counted, listed

#: What people call the parts of a data set, in any case.
_PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}


class Picture(NamedTuple):
    """One image file of a tree."""

    path: str
    domain: str
    part: str  #: "train", "test", or "" where the tree does not say
    size: int  #: bytes; -1 for a file that cannot even be looked at
    changed: int  #: nanoseconds


@dataclass
class Tree:
    """The pictures of a folder, and what is left out of it.

    Attributes:
        root: the folder.
        pictures: sorted by domain, part (train first) and path.
        foreign: those of a format that is not decoded here, in the same order.
        outside: pictures that lie in no domain's folder.
        validation: pictures of a folder for validation next to train/ and test/, unless ``split`` has them.
        parts: the names of the folders of each part, where the tree has parts: ``{"train": ["train"], …}``.
        split: the part of each domain, where the parts have different domains: these parts are the split then, and a
            picture's own part is for the loader to choose.
    """

    root: Path
    pictures: list[Picture] = field(default_factory=list)
    foreign: list[Picture] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)
    split: dict[str, str] = field(default_factory=dict)
    _spelled: dict[str, str] = field(default_factory=dict)

    def spelled(self, name: str) -> str:
        """Return a folder's name as it was first met: others of the same letters are one."""
        return self._spelled.setdefault(plain(name), name)

    def lost(self) -> list[str]:
        """Return the domains all of whose pictures are of formats that are not decoded here."""
        left = {picture.domain for picture in self.pictures}
        return [domain for domain in dict.fromkeys(p.domain for p in self.foreign) if domain not in left]

    def foreign_words(self, domains: Container[str] | None = None) -> str:
        """Say how many pictures, of some domains or of all, are of formats that are not decoded here, and which."""
        files = [picture for picture in self.foreign if domains is None or picture.domain in domains]
        kinds = Counter(Path(picture.path).suffix.lower() for picture in files)
        which = listed([f"{count:,} {suffix}" for suffix, count in kinds.most_common()])
        example = f"e.g. {files[0].path}" if len(files) > 1 else files[0].path
        are = "are" if len(files) > 1 else "is"
        return f"{counted(len(files), 'picture')} {are} of formats that are not read here ({which}), {example}"

    def foreign_notes(self) -> list[str]:
        """Say in one line what is left out because of its format, and what to do; nothing where that is none."""
        return [f"left out: {self.foreign_words()}: save as JPEG or PNG to use them"] if self.foreign else []

    def outside_notes(self) -> list[str]:
        """Say in one line what is left out because of where it lies, and what to do; nothing where that is none."""
        if not self.outside:
            return []
        where = f"{self.root}/{'<train or test>/' if self.parts else ''}<domain>/"
        count, example = counted(len(self.outside), "picture"), self.outside[0]
        return [f"left out: {count} outside the domains' folders, e.g. {example}: move to {where} to use them"]

    def validation_notes(self) -> list[str]:
        """Say in one line that pictures for validation are left out; nothing where there are none."""
        if not self.validation:
            return []
        count, where = counted(len(self.validation), "picture"), joined(self.parts["validation"])
        return [
            f"left out: {count} of {where}: move into {self.parts['train'][0]}/ to use them (for validation, "
            "--validation N holds out whole domains)"
        ]


def arrange(root: Path) -> Tree:
    """Find the pictures below ``root`` and the domain and part of each.

    A domain's pictures are those at any depth of its folder: ``root/<domain>/`` or, where ``root`` has both, of
    ``root/train/<domain>/`` and ``root/test/<domain>/``.

    Where train/ and test/ share no domain, the parts are a split of domains, see ``Tree.split``.

    Where all that ``root`` has are folders named like parts, with domains in at least one of them, it has those parts.

    Raises:
        MetaSiamError: if a folder cannot be read.
    """
    found = find(root)
    with_domains = dict.fromkeys(file.inside[0] for file in found if len(file.inside) > 1)
    named = {name: _PARTS[name.lower()] for name in with_domains if name.lower() in _PARTS}
    only_parts = all(file.inside[0].lower() in _PARTS for file in found if file.inside)
    tree = Tree(root)
    if {"train", "test"} <= set(named.values()) or (named and only_parts):
        for name, part in named.items():
            tree.parts.setdefault(part, []).append(name)
        _by_part(tree, found, named)
    else:
        _by_domain(tree, found)
    for files in (tree.pictures, tree.foreign):  # sorted by path already, and equals keep their order
        files.sort(key=attrgetter("part"), reverse=True)
        files.sort(key=attrgetter("domain"))
    return tree


def _by_part(tree: Tree, found: Sequence[Found], named: dict[str, str]) -> None:
    in_parts = [file for file in found if len(file.inside) > 1 and file.inside[0] in named]
    domains = [tree.spelled(file.inside[1]) for file in in_parts]
    parts = [named[file.inside[0]] for file in in_parts]
    tree.split = parts_of(zip(domains, parts, strict=True))
    for file, domain, part in zip(in_parts, domains, parts, strict=True):
        if tree.split.get(domain) == part:
            _add(tree, file, domain, "")
        elif part == "validation":
            tree.validation.append(file.path)
        else:
            _add(tree, file, domain, part)
    tree.outside += [file.path for file in found if len(file.inside) < 2 or file.inside[0] not in named]


def _by_domain(tree: Tree, found: Iterable[Found]) -> None:
    for file in found:
        if file.inside:
            _add(tree, file, file.inside[0], "")
        else:
            tree.outside.append(file.path)


def _add(tree: Tree, file: Found, domain: str, part: str) -> None:
    domain = tree.spelled(domain)
    (tree.pictures if file.decoded else tree.foreign).append(Picture(file.path, domain, part, file.size, file.changed))


def joined(folders: Iterable[str]) -> str:
    """Name folders in a sentence: ``train/, val/ and test/``."""
    *names, last = [f"{name}/" for name in folders]
    return f"{', '.join(names)} and {last}" if names else last
