"""``folder:PATH``: one folder of image files for each domain."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from metasiam.data.cache import cached, digest
from metasiam.data.domains import DomainSet
from metasiam.data.preparation import USUAL
from metasiam.data.sources.own_split import PARTS, split_of, split_words, test_count
from metasiam.data.sources.pictures import decode_pictures
from metasiam.data.sources.source import Request, Source
from metasiam.data.sources.tree import Picture, Tree, arrange, joined
from metasiam.errors import MetaSiamError
from metasiam.garbage import uncollected
from metasiam.options.paths import check_folder
from metasiam.progress import Listener
from metasiam.wording import counted, listed

_LARGE = 512  # pixels on the shorter side that few embedders are trained on


@uncollected()
def load(request: Request) -> DomainSet:
    """Load ``PATH/{train,test}/<domain>/<image>`` or ``PATH/<domain>/<image>``.

    A domain's images may lie deeper in its folder. Domains are in sorted order, their images train first, then test,
    each sorted by file name. Where train/ and test/ (and val/) share no domain, they are the split: training, held-out
    (and validation) domains. Then, and without train/ and test/, ``test_fraction`` of each domain becomes test: the
    files whose names hash lowest, at least two and leaving at least two, which is a pair on either side; one of a
    domain of two or three. What is a picture but left out is said in a note; hidden files, empty folders and files that
    are no images are ignored.

    Raises:
        MetaSiamError: if the folder is missing or has no images, a domain has a single one or none of a format that is
            read here, an image cannot be read, or sizes differ and no ``image_size`` is given.
    """
    root = Path(request.path).expanduser()
    check_folder(root)
    tree = arrange(root)
    if tree.parts and not {"train", "test"} <= set(tree.parts):
        raise _incomplete(tree)
    if not tree.pictures:
        raise _no_images(tree)
    lost = tree.lost()
    if lost and not request.skip_unreadable:
        them = "the domain" if len(lost) == 1 else "the domains"
        raise MetaSiamError(
            f"{_domains(lost)} of {root} would be lost: {tree.foreign_words(lost)}. Save those as JPEG or PNG, or pass "
            f"--skip-unreadable to leave {them} out."
        )
    for text in (*tree.foreign_notes(), *tree.outside_notes(), *tree.validation_notes()):
        request.listener.note(text)
    if lost:
        request.listener.note(f"left out {_domains(lost)}: all pictures are of such formats")
    only = tree.pictures[0].domain
    if (
        not tree.parts
        and tree.pictures[-1].domain == only
        and all(Path(p.path).parent.name != only for p in tree.pictures)
    ):
        inner = shlex.quote(f"folder:{root / only}")
        request.listener.note(f"'{only}' is the only domain: if its sub-folders are the domains, use --data {inner}")
    found = packed_pictures(
        f"folder:{request.path}",
        root,
        tree.pictures,
        request,
        is_test=lambda p: _parts(p, request.test_fraction),
        recipe="a pair for the test" if tree.split or not tree.parts else "",
        compare=True,
    )
    if tree.split:
        called = _folders(tree)
        split = split_of([tree.split[name] for name in found.names], f"folders {', '.join(called)}")
        found = found.with_own_split(split)
        request.listener.note(split_words(split, joined(called), request.test_fraction))
    if request.size is None and min(found.image_size) > _LARGE:
        width, height = found.image_size[::-1]
        request.listener.note(
            f"pictures of {width}x{height} pixels take much memory and time: --image-size 84 or 224 is usual",
        )
    return found


def _folders(tree: Tree) -> list[str]:
    return [name for part in PARTS for name in tree.parts.get(part, ()) if part in tree.split.values()]


def _domains(names: Sequence[str]) -> str:
    return f"domain{'s' if len(names) > 1 else ''} {listed([repr(name) for name in names])}"


def _incomplete(tree: Tree) -> MetaSiamError:
    missing = [part for part in ("train", "test") if part not in tree.parts]
    there = [name for folders in tree.parts.values() for name in folders]
    what = f"{tree.root} has {joined(there)} but no {joined(missing)} with domains in it."
    if missing == ["test"] and "validation" in tree.parts:
        return MetaSiamError(f"{what} Rename {tree.parts['validation'][0]}/ to test/, or add a test/.")
    data = shlex.quote(f"folder:{tree.root / there[0]}")
    return MetaSiamError(f"{what} Add it, or use --data {data} and let a fixed fraction become test.")


def _no_images(tree: Tree) -> MetaSiamError:
    there = ""
    if tree.foreign:
        there = f": {tree.foreign_words()}. Save as JPEG or PNG"
    elif tree.outside:
        there = f", only {counted(len(tree.outside), 'picture')} next to them, e.g. {tree.outside[0]}"
    return MetaSiamError(
        f"{tree.root} has no images in folders of domains{there}. Lay images out as PATH/<domain>/<image> or "
        "PATH/train/<domain>/<image> and PATH/test/<domain>/<image>."
    )


def packed_pictures(
    source: str,
    root: Path,
    pictures: Sequence[Picture],
    request: Request,
    *,
    is_test: Callable[[Sequence[Picture]], list[bool]],
    names: Sequence[str] | None = None,
    recipe: str = "",
    compare: bool = False,
) -> DomainSet:
    """Return the pictures as a domain set, from the packed cache when no file has changed since.

    Args:
        source: the domain set's ``source``.
        root: the folder that the pictures lie in.
        pictures: the files, in the order that the images get.
        request: options and progress.
        is_test: says of one domain's pictures which are test.
        names: the domains in their order; sorted when left out.
        recipe: names what ``is_test`` does; a change of it makes the cache stale.
        compare: note pictures that are the same in several domains or in both parts, once, when they are decoded.
    """
    where = os.path.realpath(root)
    side = request.size[0] if request.size is not None and request.size[0] == request.size[1] else request.size
    options = [where, side, request.skip_unreadable, request.test_fraction, recipe, *_asked(request)]
    unreadable: list[tuple[Path, str]] = []
    files = [[p.path[len(str(root)) :], p.part, p.size, p.changed] for p in pictures]

    def build() -> DomainSet:
        decoded = decode_pictures(
            [Path(picture.path) for picture in pictures],
            size=request.size,
            channels=1 if request.grey else None,
            preparation=request.preparation,
            skip_unreadable=request.skip_unreadable,
            listener=request.listener,
        )
        unreadable.extend(decoded.unreadable)
        left = [picture for picture, kept in zip(pictures, decoded.kept.tolist(), strict=True) if kept]
        present = {picture.domain for picture in left}
        domains = tuple(name for name in (names or sorted(present)) if name in present)
        position = {name: index for index, name in enumerate(domains)}
        by_domain: dict[str, list[int]] = {name: [] for name in domains}
        for index, picture in enumerate(left):
            by_domain[picture.domain].append(index)
        test = torch.zeros(len(left), dtype=torch.bool)
        for rows in by_domain.values():
            test[rows] = torch.tensor(is_test([left[row] for row in rows]))
        labels = torch.tensor([position[picture.domain] for picture in left])
        if compare:
            _note_repeated(decoded.images, labels, test, left, request.listener)
        return DomainSet(decoded.images, labels, domains, test, source, decoded.preparation)

    path = request.data_dir / "cache" / f"{source.partition(':')[0]}-{digest(options)}.safetensors"
    found = cached(path, digest(options, files), build, source=source, listener=request.listener)
    _note_unreadable(pictures, found, unreadable, request.listener)
    return found


def _asked(request: Request) -> list[object]:
    """Return what of a request, besides the size, decides on the pixels; nothing for the usual one."""
    usual = request.preparation == USUAL and not request.grey
    return [] if usual else [request.preparation.as_dict(), request.grey]


def _note_unreadable(
    pictures: Sequence[Picture], found: DomainSet, unreadable: Sequence[tuple[Path, str]], listener: Listener
) -> None:
    """Say how many pictures are missing and one of them, or its domain where the images come from the cache."""
    missing = Counter(picture.domain for picture in pictures)
    missing.subtract(dict(zip(found.names, (found.counts("train") + found.counts("test")).tolist(), strict=True)))
    without = [domain for domain, count in missing.items() if count]
    if not without:
        return
    where = f", e.g. {unreadable[0][0]} ({unreadable[0][1]})" if unreadable else f" of {_domains(without)}"
    listener.note(f"left out {counted(missing.total(), 'unreadable picture')}{where}")
    gone = [domain for domain in without if domain not in found.names]
    if gone:
        listener.note(f"left out {_domains(gone)}: no picture can be read")


def _note_repeated(
    images: Tensor, labels: Tensor, test: Tensor, pictures: Sequence[Picture], listener: Listener
) -> None:
    """Say how many pictures stand in several domains, or in both train and test, with the same pixels."""
    rows: dict[bytes, list[int]] = {}
    for row, image in enumerate(images.numpy()):
        rows.setdefault(hashlib.blake2b(image, digest_size=16).digest(), []).append(row)
    repeated = [same for same in rows.values() if len(same) > 1]
    mixed = [same for same in repeated if len(set(labels[same].tolist())) > 1]
    leaked = [same for same in repeated if len(set(test[same].tolist())) > 1 and same not in mixed]
    for groups, where, harm in (
        (mixed, "in more than one domain", "no embedder can tell them apart"),
        (leaked, "in both train and test", "the test is easier than it should be"),
    ):
        if groups:
            first, other = (pictures[row].path for row in (groups[0][0], groups[0][-1]))
            are = "is" if len(groups) == 1 else "are"
            listener.note(f"{counted(len(groups), 'picture')} {are} {where}, e.g. {first} and {other}: {harm}")


def _parts(pictures: Sequence[Picture], test_fraction: float) -> list[bool]:
    if pictures[0].part:
        return [picture.part == "test" for picture in pictures]
    count = test_count(len(pictures), test_fraction)
    ranked = sorted(range(len(pictures)), key=lambda index: _name_hash(pictures[index].path))
    chosen = set(ranked[:count])
    return [index in chosen for index in range(len(pictures))]


def _name_hash(path: str) -> tuple[bytes, str]:
    name = os.path.basename(path)
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), name


SOURCE = Source(load)
