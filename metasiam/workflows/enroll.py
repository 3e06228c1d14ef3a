"""A gallery file changed: names and pictures put into it or taken out, thresholds learned again, and saved."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metasiam.data.names import plain
from metasiam.errors import MetaSiamError
from metasiam.options.gallery import EnrollOptions, GalleryOptions
from metasiam.options.paths import check_named_folders, check_pictures
from metasiam.progress import SILENT, Listener
from metasiam.runs import check_new_file
from metasiam.wording import counted

if TYPE_CHECKING:
    from metasiam.gallery import Gallery


@dataclass(frozen=True, eq=False)
class Enrolled:
    """A gallery as it is in its file now.

    Attributes:
        gallery: what is in it.
        path: the file.
        fit: what its embedder was trained on, and whether the new pictures look like that; empty without new ones.
        moved: how many earlier names got another threshold.
        left_out: how many of the new pictures could not be read or have nothing on them.
    """

    gallery: Gallery
    path: Path
    fit: str = ""
    moved: int = 0
    left_out: int = 0


def enroll_pictures(
    paths: Sequence[Path],
    wanted: EnrollOptions,
    where: GalleryOptions,
    listener: Listener = SILENT,
    *,
    device: str = "auto",
) -> Enrolled:
    """Change a gallery file, or make one; where nothing is to change, open it.

    Args:
        paths: folders with DIR/<name>/*.jpg in them; with a name, pictures or folders of them.
        wanted: what to put in and take out.
        where: the gallery, and the embedder of a new one.
        listener: told how far it is, and what was left out or has moved.
        device: where to compute.

    Raises:
        MetaSiamError: for pictures, names, an embedder or a gallery that do not work; the file is as it was then.
    """
    _check(paths, wanted, where.gallery)
    from metasiam.gallery import calibrated, load_gallery
    from metasiam.gallery.adding import left_without
    from metasiam.gallery.recognise import thresholds_moved
    from metasiam.gallery.store import check_writable
    from metasiam.runs.locks import file_held

    path = where.gallery
    if not paths and not wanted.remove and not wanted.forget_missing:
        return Enrolled(load_gallery(path), path)
    with file_held(path, listener):  # neither of two loses the other's
        before = opened = load_gallery(path) if path.exists() else None
        if opened is not None and (wanted.background is not None or wanted.mirror is not None):
            raise MetaSiamError(f"--background and --mirror belong to a new gallery; {path} has its own. Omit them.")
        check_writable(wanted.out or path)  # before pictures are embedded for nothing
        for gone in wanted.remove or ():
            if opened is None:
                raise MetaSiamError(f"{path} does not exist, so '{gone}' cannot be removed from it.")
            opened = left_without(opened, gone, listener)
        fit, left_out = "", 0
        if paths:
            opened, fit, left_out = _with_pictures(opened, paths, wanted, where, listener, device)
        if wanted.forget_missing:
            opened = _without_missing(opened, path, listener)
        assert opened is not None
        changed = calibrated(opened, seed=wanted.seed)
        changed.save(wanted.out or path)
    moved = 0 if before is None else thresholds_moved(before, changed)
    return Enrolled(changed, wanted.out or path, fit, moved, left_out)


def _check(paths: Sequence[Path], wanted: EnrollOptions, gallery: Path) -> None:
    """Raise for what cannot work, before anything is loaded."""
    if wanted.out is not None:
        check_new_file(
            wanted.out, overwrite=False, instead=f"Use --gallery {shlex.quote(str(wanted.out))} to add to it"
        )
    if not paths and not wanted.remove and not wanted.forget_missing:
        if wanted.out is not None:
            raise MetaSiamError(
                f"--out {wanted.out} is for a changed gallery, and nothing changes here. Pass pictures, or --remove."
            )
        if not gallery.exists():
            raise MetaSiamError(
                f"{gallery} does not exist yet. Pass a folder with DIR/<name>/*.jpg, and --weights RUN."
            )
    check_pictures(paths)
    if wanted.name is None:
        check_named_folders(paths)


def _with_pictures(
    opened: Gallery | None,
    paths: Sequence[Path],
    wanted: EnrollOptions,
    where: GalleryOptions,
    listener: Listener,
    device: str,
) -> tuple[Gallery, str, int]:
    """Put pictures into a gallery, or a new one: it, not calibrated yet; how they fit; how many were left out."""
    from metasiam.gallery import Gallery, open_embedder
    from metasiam.gallery.adding import take_up
    from metasiam.gallery.background import chosen_background, of_run
    from metasiam.gallery.enrolled import check_name
    from metasiam.gallery.folders import pictures_by_folder
    from metasiam.gallery.given import find_pictures
    from metasiam.gallery.pictures import embed_pictures
    from metasiam.gallery.recognise import suitability, unlikeness
    from metasiam.training.machine import choose_device

    named = (
        {plain(wanted.name): find_pictures(paths)} if wanted.name is not None else pictures_by_folder(paths, listener)
    )
    for name in named:
        check_name(name)
    key = opened.embedder if opened is not None else None
    embedder, key = open_embedder(where.weights, arch=where.arch, key=key, listener=listener)
    embedder = embedder.to(choose_device(device))
    mirror = opened.mirror if opened is not None else key.info.mirrored if wanted.mirror is None else wanted.mirror
    listed = [path for pictures in named.values() for path in pictures]
    found = embed_pictures(embedder, key.info, listed, mirror=mirror, listener=listener)
    found.tell(listener)
    if opened is None:
        weights = None if where.weights is None else Path(where.weights)
        if wanted.background is None and (weights is None or of_run(weights) is None):
            listener.note("no background pictures: thresholds come from your own pictures alone (see --background)")
        known = chosen_background(
            wanted.background, weights, embedder, key.info, mirror=mirror, names=named, listener=listener
        )
        opened = Gallery(key, mirror, background=known)
    opened = take_up(opened, named, found, key, listener)
    return opened, suitability(key.info, unlikeness(found.statistics, opened)), found.left_out


def _without_missing(opened: Gallery | None, path: Path, listener: Listener) -> Gallery:
    from metasiam.gallery.adding import tell_gone
    from metasiam.gallery.upkeep import without_missing

    if opened is None:
        raise MetaSiamError(f"{path} does not exist, so it has no pictures to forget. Omit --forget-missing.")
    left, count = without_missing(opened)
    listener.note(f"{counted(count, 'missing picture')} removed" if count else "no picture is missing")
    tell_gone(opened, left, listener)
    return left
