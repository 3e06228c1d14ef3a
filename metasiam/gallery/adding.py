"""Pictures into a gallery, and out of it again; what is found out on the way is said."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from metasiam.data.names import plain
from metasiam.errors import MetaSiamError
from metasiam.gallery.enrolled import IN_MEMORY, EmbedderKey, Enrolled, Kind
from metasiam.gallery.given import Picture
from metasiam.gallery.pictures import Embedded
from metasiam.gallery.upkeep import content_of, join, without_picture
from metasiam.models.files import EmbedderInfo
from metasiam.progress import Listener


def take_up(
    gallery: Kind, named: Mapping[str, Sequence[Picture]], found: Embedded, key: EmbedderKey, listener: Listener
) -> Kind:
    """Return the gallery with the pictures of ``named`` that were embedded; it is to be calibrated again.

    A picture that is there already moves or is counted once, see ``upkeep.join``.

    Args:
        gallery: empty or not.
        named: pictures by name.
        found: these pictures' embeddings.
        key: what embedded them.
        listener: told what was left out, has moved, or is a copy.
    """
    place = {picture: row for row, picture in enumerate(found.pictures)}
    names: list[str] = []
    rows: list[int] = []
    for name, pictures in named.items():
        own = [place[picture] for picture in pictures if picture in place]
        if not own:
            listener.note(f"'{name}' has no usable picture: left out")
        names += [name] * len(own)
        rows += own
    files, hashes = _files_of([found.pictures[row] for row in rows])
    return _joined(gallery, names, files, hashes, found.embeddings[rows], found.statistics[rows], key, listener)


def take_up_embeddings(gallery: Kind, named: Mapping[str, Tensor], listener: Listener) -> Kind:
    """Return a gallery of embeddings with more of them, float [n, D] by name; it is to be calibrated again.

    Raises:
        MetaSiamError: if they are of another width than its own.
    """
    rows = prepared_rows(torch.cat(list(named.values())), gallery.embedder.info)
    if gallery.files and rows.shape[1] != gallery.embeddings.shape[1]:
        raise MetaSiamError(
            f"the embeddings are {rows.shape[1]} wide and the gallery's {gallery.embeddings.shape[1]}. Pass those of "
            "the same embedder."
        )
    names = [name for name, own in named.items() for _ in own]
    files = [IN_MEMORY + _hash_of(row) for row in rows]
    return _joined(
        gallery, names, files, [""] * len(files), rows, torch.empty(len(rows), 0), gallery.embedder, listener
    )


def prepared_rows(rows: Tensor, info: EmbedderInfo) -> Tensor:
    """Return embeddings as a gallery keeps them: rows of length 1 when the distance is cosine."""
    return F.normalize(rows, dim=1) if info.distance == "cosine" else rows


def left_without(gallery: Kind, what: str, listener: Listener) -> Kind:
    """Return the gallery without a name or, where it is none, a picture, there or not; names left empty are told.

    Raises:
        MetaSiamError: if it has neither.
    """
    left = None if plain(what) in map(plain, gallery.names) else without_picture(gallery, what)
    if left is None:
        return gallery.without(what)
    tell_gone(gallery, left, listener)
    return left


def tell_gone(before: Enrolled, after: Enrolled, listener: Listener) -> None:
    """Say which names have no picture left."""
    for name in before.names:
        if plain(name) not in map(plain, after.names):
            listener.note(f"'{name}' has no picture left and was removed")


def _files_of(pictures: Sequence[Picture]) -> tuple[list[str], list[str]]:
    """Return what a gallery calls pictures, and hashes of their contents.

    Paths are resolved: the same name in two folders is two pictures, and two names of one file are one.
    """
    files, hashes = [], []
    for picture in pictures:
        path = picture.resolve() if isinstance(picture, Path) else None
        files.append(str(path) if path is not None else picture.file)  # type: ignore[union-attr]
        hashes.append(content_of(path) if path is not None else picture.content)  # type: ignore[union-attr]
    return files, hashes


def _hash_of(row: Tensor) -> str:
    return hashlib.blake2b(row.contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def _joined(
    gallery: Kind,
    names: Sequence[str],
    files: Sequence[str],
    hashes: Sequence[str],
    embeddings: Tensor,
    statistics: Tensor,
    key: EmbedderKey,
    listener: Listener,
) -> Kind:
    joined = join(gallery, names, files, hashes)
    for text in joined.notes:
        listener.note(text)
    names, files, hashes = ([values[i] for i in joined.add] for values in (names, files, hashes))
    taken = joined.gallery.with_named(
        names, files, embeddings[joined.add], statistics[joined.add], embedder=key, hashes=hashes
    )
    tell_gone(gallery, taken, listener)
    return taken
