"""The images that a list of pairs names: decoded once each, cropped, resized and kept packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from metasiam.data.cache import cached_images, digest
from metasiam.data.preparation import USUAL, Preparation
from metasiam.data.sources.pictures import decode_pictures
from metasiam.errors import MetaSiamError
from metasiam.progress import SILENT, Listener

_REMEDY = ("Restore it, or take its pairs out of the list.", "Restore them, or take their pairs out of the list.")


@dataclass(frozen=True)
class PairRequest:
    """Everything that ``load_pairs`` was asked for.

    Attributes:
        data_dir: where downloads and the cache live.
        path: what stands behind the colon of ``pairs:``, ``lfw:``.
        image_size: bring images to this many pixels square; None keeps their size.
        preparation: what is done to them before.
        grey: make every image grey.
        listener: told how far it is.
    """

    data_dir: Path
    path: str = ""
    image_size: int | None = None
    preparation: Preparation = USUAL
    grey: bool = False
    listener: Listener = SILENT


def load_images(source: str, files: Sequence[Path], request: PairRequest) -> tuple[Tensor, Preparation]:
    """Return the files' images, uint8 [N, 1 or 3, H, W], and how they were prepared.

    They come from the cache when no file has changed since.

    Raises:
        MetaSiamError: naming the first file that is missing, unreadable, smaller than the crop, of another size,
            or grey among coloured.
    """
    stamps = []
    for file in files:
        try:
            about = file.stat()
        except OSError as error:
            raise MetaSiamError(f"{source} names {file}, which does not exist. Correct the list or add it.") from error
        stamps.append([str(file), about.st_size, about.st_mtime_ns])
    asked = (request.image_size, request.preparation.as_dict(), request.grey)
    key = digest(stamps, *asked)
    options = digest([str(file) for file in files], *asked)
    path = request.data_dir / "cache" / f"{source.partition(':')[0]}-pairs-{options}.safetensors"

    def build() -> tuple[Tensor, Preparation]:
        decoded = decode_pictures(
            files,
            size=None if request.image_size is None else (request.image_size, request.image_size),
            channels=1 if request.grey else None,
            preparation=request.preparation,
            skip_unreadable=False,
            listener=request.listener,
            remedy=_REMEDY,
        )
        _need_one_kind(files, decoded.images)
        return decoded.images, decoded.preparation

    return cached_images(path, key, build, listener=request.listener)


def _need_one_kind(files: Sequence[Path], images: Tensor) -> None:
    """Refuse a mix of grey and coloured images: that difference would be learned instead of the content."""
    if images.shape[1] == 1:
        return
    blocks = torch.split(images, 512)
    grey = torch.cat([((b[:, 0] == b[:, 1]) & (b[:, 0] == b[:, 2])).flatten(1).all(1) for b in blocks])
    if bool(grey.any()):
        first, other = files[int(grey.int().argmax())], files[int((~grey).int().argmax())]
        raise MetaSiamError(f"{first} is grey but {other} is coloured. Pass --grey to make all images grey.")
