"""People's picture files, found and brought to the size and channels that an embedder takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metasiam.data.sources.files import find
from metasiam.data.sources.pictures import decode_picture
from metasiam.errors import MetaSiamError
from metasiam.evaluation.embedding import embed_batch
from metasiam.models.files import EmbedderInfo, device_of
from metasiam.progress import Report, quiet

_BATCH = 64  # pictures decoded and embedded at a time


@dataclass(frozen=True)
class Embedded:
    """Pictures that could be read, as embeddings, and those that could not.

    Attributes:
        paths: the files that were read, in the order given.
        embeddings: float32 [len(paths), D]; rows have length 1 when the distance is cosine.
        unreadable: file and reason of the others.
        statistics: float32 [len(paths), 2 · C]: each picture's mean and standard deviation per channel, 0 … 1.
    """

    paths: tuple[Path, ...]
    embeddings: Tensor
    unreadable: tuple[tuple[Path, str], ...]
    statistics: Tensor


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
            raise MetaSiamError(f"{path} does not exist. Give picture files, or folders of them.")
    if not found:
        raise MetaSiamError(f"{', '.join(map(str, paths))} has no pictures in it. Give files, or folders of them.")
    return list(dict.fromkeys(found))


def embed_pictures(
    embedder: nn.Module,
    info: EmbedderInfo,
    paths: Sequence[Path],
    *,
    mirror: bool,
    report: Report = quiet,
) -> Embedded:
    """Decode and embed picture files; those that cannot be read are left out and listed.

    Pictures are turned upright, their middle square is cut out and scaled to ``info.image_size``.

    Args:
        embedder: in eval mode.
        info: image size, channels, normalisation and distance.
        paths: the files.
        mirror: average each embedding with that of the mirrored picture.
        report: called as ``report(what, done, total)``.
    """
    read, rows, statistics, unreadable = [], [], [], []
    what = "reading pictures"
    for begin in range(0, len(paths), _BATCH):
        pixels = []
        for path in paths[begin : begin + _BATCH]:
            picture = decode_picture(path, max(info.image_size))
            if isinstance(picture, tuple):
                unreadable.append((path, picture.reason))
                continue
            read.append(path)
            pixels.append(fitted(torch.from_numpy(picture.copy()).permute(2, 0, 1), info))
        if pixels:
            batch = torch.stack(pixels)
            rows.append(embed_pixels(embedder, info, batch, mirror=mirror))
            fractions = batch.flatten(2).float() / 255
            statistics.append(torch.cat((fractions.mean(2), fractions.std(2)), 1))
        report(what, min(begin + _BATCH, len(paths)), len(paths))
    embeddings = torch.cat(rows) if rows else torch.empty(0, 0)
    return Embedded(
        tuple(read), embeddings, tuple(unreadable), torch.cat(statistics) if rows else torch.empty(0, 2 * info.channels)
    )


def fitted(picture: Tensor, info: EmbedderInfo) -> Tensor:
    """Bring one uint8 [1 or 3, H, W] picture to the channels and size of ``info``: uint8 [C, h, w]."""
    if info.channels == 3:
        picture = picture.expand(3, -1, -1)
    elif picture.shape[0] == 3:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R BT.601, as Pillow's mode L
        picture = (picture.float() * weights).sum(0, keepdim=True).round().to(torch.uint8)
    if tuple(picture.shape[1:]) != tuple(info.image_size):
        scaled = F.interpolate(picture[None].float(), size=info.image_size, mode="bilinear", antialias=True)
        picture = scaled[0].round().clamp(0, 255).to(torch.uint8)
    return picture


def embed_pixels(embedder: nn.Module, info: EmbedderInfo, pixels: Tensor, *, mirror: bool = False) -> Tensor:
    """Embed uint8 [B, C, H, W]: float32 [B, D] on the CPU, rows of length 1 when the distance is cosine."""
    return embed_batch(embedder, info, pixels.to(device_of(embedder)), mirror=mirror).cpu()
