"""People's picture files, found and brought to the size and channels that an embedder takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metasiam.data.preparation import USUAL, Span, TooSmallToCrop, in_grey, levels_left, prepared_images
from metasiam.data.sources.files import find
from metasiam.data.sources.pictures import Read, Unreadable, decode_picture
from metasiam.errors import MetaSiamError
from metasiam.evaluation.embedding import embed_batch
from metasiam.models.files import EmbedderInfo, device_of
from metasiam.progress import SHOWN, SILENT, Listener, heard
from metasiam.wording import counted

_BATCH = 64  # pictures decoded and embedded at a time
_ROUNDING = 2  # levels of 256
_FEW_LEVELS = 64  # of 256: fewer are worth a note


#: Said of a picture with nothing on it.
BLANK = "nothing on it (one colour)"


@dataclass(frozen=True)
class Embedded:
    """Pictures that show something, as embeddings, and those that show nothing or could not be read.

    Attributes:
        paths: the files that were embedded, in the order given.
        embeddings: float32 [len(paths), D]; rows have length 1 when the distance is cosine.
        unreadable: file and reason of those that could not be read.
        statistics: float32 [len(paths), 2 · C]: each picture's mean and standard deviation per channel, 0 … 1.
        notes: what people should know of how the pictures were prepared.
        blank: the files that were read and have nothing on them.
    """

    paths: tuple[Path, ...]
    embeddings: Tensor
    unreadable: tuple[tuple[Path, str], ...]
    statistics: Tensor
    notes: tuple[str, ...] = ()
    blank: tuple[Path, ...] = ()


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """List the picture files among ``paths``: files as they are, folders with everything below them, sorted.

    In folders, pictures are found as ``metasiam.data.sources.files.find`` does, those of formats that are not read
    here among them: embedding them says so. What is named is always taken.

    Raises:
        MetaSiamError: if a path does not exist or cannot be read, or there is no picture at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [Path(file.path) for file in find(path)]
        elif path.exists():
            found.append(path)
        else:
            raise MetaSiamError(f"{path} does not exist. Pass picture files, or folders of them.")
    if not found:
        raise MetaSiamError(f"{', '.join(map(str, paths))} has no pictures in it. Pass files, or folders of them.")
    return list(dict.fromkeys(found))


@heard
def embed_pictures(
    embedder: nn.Module,
    info: EmbedderInfo,
    paths: Sequence[Path],
    *,
    mirror: bool,
    listener: Listener | None = SHOWN,
) -> Embedded:
    """Decode and embed picture files; those that cannot be read or are of one colour are left out and listed.

    They are prepared as the training pictures were (``info.preparation``).

    Args:
        embedder: in eval mode.
        info: preparation, image size, channels, normalisation and distance.
        paths: the files.
        mirror: average each embedding with that of the mirrored picture.
        listener: told how far it is; None is silent.
    """
    read, rows, statistics, unreadable, blank = [], [], [], [], []
    deep: list[tuple[Path, Span]] = []
    what, told = "reading pictures", listener or SILENT
    for begin in range(0, len(paths), _BATCH):
        pixels = []
        for path in paths[begin : begin + _BATCH]:
            picture = _decoded(path, info)
            if isinstance(picture, Unreadable):
                unreadable.append((path, picture.reason))
                continue
            if picture.span is not None:
                deep.append((path, picture.span))
            if is_blank(picture.pixels):
                blank.append(path)
                continue
            read.append(path)
            pixels.append(torch.from_numpy(picture.pixels.copy()).permute(2, 0, 1).expand(info.channels, -1, -1))
        if pixels:
            batch = torch.stack(pixels)
            rows.append(embed_pixels(embedder, info, batch, mirror=mirror))
            fractions = batch.flatten(2).float() / 255
            statistics.append(torch.cat((fractions.mean(2), fractions.std(2)), 1))
        told.progress(what, min(begin + _BATCH, len(paths)), len(paths))
    embeddings = torch.cat(rows) if rows else torch.empty(0, 0)
    numbers = torch.cat(statistics) if rows else torch.empty(0, 2 * info.channels)
    return Embedded(tuple(read), embeddings, tuple(unreadable), numbers, _depth_notes(deep, info), tuple(blank))


def is_blank(pixels: NDArray[np.uint8]) -> bool:
    """Tell whether nothing is seen on a prepared picture, uint8 [H, W, C]: one colour, but for a JPEG's rounding."""
    return bool((np.ptp(pixels, axis=(0, 1)) <= _ROUNDING).all())


def _decoded(path: Path, info: EmbedderInfo) -> Read | Unreadable:
    try:
        return decode_picture(path, info.preparation, info.image_size, info.channels)
    except TooSmallToCrop:
        side = info.preparation.crop
        return Unreadable(f"it is smaller than the {side}x{side} pixels that the embedder was shown of each picture")


def _depth_notes(deep: Sequence[tuple[Path, Span]], info: EmbedderInfo) -> tuple[str, ...]:
    """Say how many pictures of more than 8 bits keep few levels, as the embedder was trained on others."""
    left = {path: levels_left(span, info.preparation.levels) for path, span in deep}
    few = [path for path, levels in left.items() if levels < _FEW_LEVELS]
    if not few:
        return ()
    low, high = info.preparation.levels or (0, 65535)
    worst = min(few, key=lambda path: left[path])
    own_low, own_high = dict(deep)[worst]
    return (
        f"{counted(len(few), 'picture')} of more than 8 bits: of the levels {low} to {high} that the embedder was "
        f"trained on, {worst} has {own_low} to {own_high}, which leaves {left[worst]} of 256. Train on such "
        "pictures, or stretch all of them alike first.",
    )


def fitted(images: Tensor, info: EmbedderInfo) -> Tensor:
    """Bring images that came as arrays to the channels and size of ``info``: uint8 [N, C, H, W] to uint8 [N, C, h, w].

    They are not cut as ``info.preparation`` says: that is for picture files.
    """
    if info.channels == 3:
        images = images.expand(-1, 3, -1, -1)
    elif images.shape[1] == 3:
        images = in_grey(images)
    return prepared_images(images, USUAL, info.image_size)


def embed_pixels(embedder: nn.Module, info: EmbedderInfo, pixels: Tensor, *, mirror: bool = False) -> Tensor:
    """Embed uint8 [B, C, H, W]: float32 [B, D] on the CPU, rows of length 1 when the distance is cosine."""
    return embed_batch(embedder, info, pixels.to(device_of(embedder)), mirror=mirror).cpu()
