"""Pictures answered with a gallery file: which name is it, and who judges whether two show the same?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metasiam.errors import MetaSiamError
from metasiam.options.gallery import GalleryOptions
from metasiam.options.paths import check_gallery, check_pictures
from metasiam.progress import SILENT, Listener

if TYPE_CHECKING:
    from metasiam.gallery.answers import Row
    from metasiam.gallery.matching import Judge


@dataclass(frozen=True, eq=False)
class Identified:
    """Pictures and what they were recognised as.

    Attributes:
        rows: each picture in the order given, with its answer, or why it has none.
        fit: what the embedder was trained on, and whether these pictures look like that.
        complete: whether each has an answer.
    """

    rows: list[Row]
    fit: str
    complete: bool


def identify_pictures(
    paths: Sequence[Path], where: GalleryOptions, listener: Listener = SILENT, *, device: str = "auto"
) -> Identified:
    """Recognise pictures with a gallery file.

    Args:
        paths: pictures, or folders of them.
        where: the gallery, and its embedder where that is no longer in its place.
        listener: told how far it is, and what cannot be read.
        device: where to compute.

    Raises:
        MetaSiamError: for a gallery, an embedder or pictures that do not work, or where none can be read.
    """
    check_gallery(where.gallery)
    check_pictures(paths)
    from metasiam.gallery import identify, load_gallery, open_embedder
    from metasiam.gallery.given import find_pictures
    from metasiam.gallery.pictures import BLANK, embed_pictures
    from metasiam.gallery.recognise import suitability, unlikeness
    from metasiam.training.machine import choose_device

    gallery = load_gallery(where.gallery)
    if gallery.rules is None:
        file = shlex.quote(str(where.gallery))
        raise MetaSiamError(f"{where.gallery} has no names. Add some: metasiam enroll DIR --gallery {file}")
    embedder, key = open_embedder(where.weights, arch=where.arch, key=gallery.embedder, listener=listener)
    pictures = find_pictures(paths)
    embedder = embedder.to(choose_device(device))
    found = embed_pictures(embedder, key.info, pictures, mirror=gallery.mirror, listener=listener)
    found.tell(listener, answer_blank=True)
    answers = dict(found.unreadable) | dict.fromkeys(found.blank, BLANK)
    if found.pictures:
        answers |= dict(zip(found.pictures, identify(gallery, found.embeddings), strict=True))  # type: ignore[arg-type]
    fit = suitability(key.info, unlikeness(found.statistics, gallery))
    return Identified([(picture, answers[picture]) for picture in pictures], fit, found.left_out == 0)


def choose_judge(
    where: GalleryOptions, listener: Listener = SILENT, *, with_gallery: bool, device: str = "auto"
) -> Judge:
    """Return what decides whether two pictures show the same.

    Args:
        where: the gallery and the embedder.
        listener: told what of a weights file is left out.
        with_gallery: use the gallery's embedder and its calibrated threshold. Else those of the weights, of which a
            pair head decides where they have one.
        device: where to compute.

    Raises:
        MetaSiamError: for a gallery or an embedder that do not work.
    """
    if with_gallery:
        check_gallery(where.gallery)
    from metasiam.gallery import load_gallery, open_embedder
    from metasiam.gallery.matching import judge_by_head, judge_by_rules
    from metasiam.learners.trained_head import has_head
    from metasiam.training.machine import choose_device

    weights = None if where.weights is None else Path(where.weights)
    if not with_gallery and where.arch is None and weights is not None and has_head(weights):
        return judge_by_head(weights, choose_device(device))
    gallery = load_gallery(where.gallery) if with_gallery else None
    key = gallery.embedder if gallery is not None else None
    embedder, key = open_embedder(weights, arch=where.arch, key=key, listener=listener)
    mirror = gallery.mirror if gallery is not None else key.info.mirrored
    return judge_by_rules(embedder.to(choose_device(device)), key.info, mirror=mirror, gallery=gallery)
