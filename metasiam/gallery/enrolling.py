"""A gallery from a few pictures of each name, as one call."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from metasiam.data.domains import DomainSet
from metasiam.errors import MetaSiamError
from metasiam.gallery.adding import prepared_rows, take_up, take_up_embeddings
from metasiam.gallery.background import chosen_background
from metasiam.gallery.calibrate import Background
from metasiam.gallery.embedders import EmbedderLike, embedder_from
from metasiam.gallery.enrolled import EMBEDDINGS, EmbedderKey
from metasiam.gallery.gallery import Gallery
from metasiam.gallery.given import NamedPictures, named_embeddings, named_pictures
from metasiam.gallery.recognise import calibrated
from metasiam.models.files import EmbedderInfo
from metasiam.progress import SHOWN_OR_WARNED, SILENT, Listener, heard
from metasiam.runs import Run
from metasiam.training.machine import choose_device


@heard
def enroll(
    pictures: NamedPictures | Any,
    embedder: EmbedderLike | None = None,
    *,
    background: str | DomainSet | Any = None,
    mirror: bool | None = None,
    distance: str = "cosine",
    skip_unreadable: bool = False,
    seed: int = 0,
    device: str = "auto",
    listener: Listener | None = SHOWN_OR_WARNED,
) -> Gallery:
    """Name domains from a few pictures each: a gallery that recognises them, or says ``unknown``.

    Args:
        pictures: a dict of names and their pictures (files, folders, images, arrays, or a list of these); a folder with
            a sub-folder for each name; or ``(images, names)``. Without an embedder, embeddings: a dict of names and
            arrays [n, D], or ``([N, D], names)``.
        embedder: a run, its folder, a weights file, any module (``Embedder`` says how it is fed), or a module and its
            ``EmbedderInfo``. A module without an image size takes arrays of one size as they are; one without a
            normalisation gets that of these pictures.
        background: pictures of other things, which teach what unknown looks like: a domain set, a name as of
            ``load_domains``, or ``"none"``; of embeddings, embeddings by name. None: what the run was trained on, if
            it is one.
        mirror: average each embedding with the mirrored picture's; None: as the embedder was trained, and never for
            modules that do not say.
        distance: of embeddings: ``cosine`` or ``squared_euclidean``.
        skip_unreadable: leave out pictures that cannot be read or show nothing; else they are an error.
        seed: of the draws from the background.
        device: where to compute.
        listener: told how far it is, and what is left out; by default shown in a terminal or a notebook, and a warning
            elsewhere; None is silent.

    Raises:
        MetaSiamError: for pictures, names or an embedder that do not work.

    Example:
        >>> rows = torch.eye(3).repeat_interleave(2, 0) + torch.arange(6).unsqueeze(1) / 50
        >>> gallery = enroll((rows, ["a", "a", "b", "b", "c", "c"]))
        >>> gallery.identify(torch.tensor([0.0, 1.0, 0.0]))[0].nearest
        'b'
    """
    told = listener or SILENT
    if embedder is None:
        return _of_embeddings(pictures, background, distance, seed, told)
    named = named_pictures(pictures, told)
    listed = [picture for own in named.values() for picture in own]
    module, key = embedder_from(embedder, pictures=listed)
    module = module.to(choose_device(device))
    averaged = key.info.mirrored if mirror is None else mirror
    empty = Gallery(key, averaged, module=module)
    found = empty.embed(listed, skip_unreadable=skip_unreadable, listener=told)
    known = chosen_background(
        background, weights_of(embedder), module, key.info, mirror=averaged, names=named, listener=told
    )
    gallery = Gallery(key, averaged, background=known, module=module)
    return calibrated(take_up(gallery, named, found, key, told), seed=seed)


def weights_of(embedder: EmbedderLike) -> Path | None:
    """Return where an embedder came from, if it is a file or a run."""
    if isinstance(embedder, Run):
        return embedder.path
    return None if not isinstance(embedder, str | Path) else Path(embedder)


def _of_embeddings(given: Any, background: Any, distance: str, seed: int, listener: Listener) -> Gallery:
    if isinstance(given, str | Path):
        raise MetaSiamError(f"{given} holds pictures: pass the embedder too, as enroll(pictures, embedder).")
    if distance not in ("cosine", "squared_euclidean"):
        raise MetaSiamError(f"distance {distance!r} is unknown. Use cosine or squared_euclidean.")
    named = named_embeddings(given)
    info = EmbedderInfo(EMBEDDINGS, distance=distance, mirrored=False)
    known = None if background is None or background == "none" else _background(background, info, named)
    empty = Gallery(EmbedderKey("", "", info), mirror=False, background=known)
    return calibrated(take_up_embeddings(empty, named, listener), seed=seed)


def _background(given: Any, info: EmbedderInfo, names: Iterable[str]) -> Background:
    """Return embeddings of other things as a background; what is named like one of ``names`` is left out."""
    wanted = {name.casefold() for name in names}
    named = {name: rows for name, rows in named_embeddings(given).items() if name.casefold() not in wanted}
    if len(named) < 4:
        raise MetaSiamError(f"the background has {len(named)} other names and 4 are needed. Pass more, or none.")
    rows = prepared_rows(torch.cat(list(named.values())), info)
    labels = torch.arange(len(named)).repeat_interleave(torch.tensor([len(own) for own in named.values()]))
    return Background(rows, labels, torch.empty(len(rows), 0), "embeddings")
