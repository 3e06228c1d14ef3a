"""People's picture files, found and brought to the size and channels that an embedder takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metasiam.data.preparation import USUAL, Span, TooSmallToCrop, in_grey, levels_left, prepared_images
from metasiam.data.sources.pictures import Read, Unreadable, decode_picture, prepare_picture
from metasiam.errors import MetaSiamError
from metasiam.evaluation.embedding import embed_batch
from metasiam.gallery.given import Picture
from metasiam.models.files import EmbedderInfo, device_of
from metasiam.progress import SHOWN, SILENT, Listener, heard
from metasiam.wording import counted

_BATCH = 64  # pictures decoded and embedded at a time
_ROUNDING = 2  # levels of 256
_FEW_LEVELS = 64  # of 256: fewer are worth a note
_NAMED = 5  # pictures that cannot be read and get a line of their own


#: Said of a picture with nothing on it.
BLANK = "nothing on it (one colour)"


@dataclass(frozen=True)
class Embedded:
    """Pictures that show something, as embeddings, and those that show nothing or could not be read.

    Attributes:
        pictures: those that were embedded, in the order given.
        embeddings: float32 [len(pictures), D]; rows have length 1 when the distance is cosine.
        unreadable: picture and reason of those that could not be read.
        statistics: float32 [len(pictures), 2 · C]: each picture's mean and standard deviation per channel, 0 … 1.
        notes: what people should know of how the pictures were prepared.
        blank: those that were read and have nothing on them.
    """

    pictures: tuple[Picture, ...]
    embeddings: Tensor
    unreadable: tuple[tuple[Picture, str], ...]
    statistics: Tensor
    notes: tuple[str, ...] = ()
    blank: tuple[Picture, ...] = ()

    @property
    def left_out(self) -> int:
        """How many could not be read or have nothing on them."""
        return len(self.unreadable) + len(self.blank)

    def check_some(self, *, answer_blank: bool = False) -> None:
        """Raise if nothing is left.

        Args:
            answer_blank: whether pictures of one colour get an answer of their own, so that they are no reason to stop.

        Raises:
            MetaSiamError: if none can be read, or none has something on it.
        """
        if self.pictures or (self.blank and answer_blank):
            return
        count = self.left_out
        if self.blank:
            raise MetaSiamError(self._all_blank(count))
        picture, reason = self.unreadable[0]
        if count == 1:
            raise MetaSiamError(f"{picture} cannot be read ({reason}). Use another picture.")
        raise MetaSiamError(f"none of the {count:,} pictures can be read, e.g. {picture} ({reason}). Pass others.")

    def check_all(self) -> None:
        """Raise unless all could be read and have something on them.

        Raises:
            MetaSiamError: naming the first that could not, and counting the others.
        """
        if not self.left_out:
            return
        picture, reason = self.unreadable[0] if self.unreadable else (self.blank[0], "")
        said = f"cannot be read ({reason})" if reason else f"has {BLANK}"
        others = f", and {counted(self.left_out - 1, 'other')} cannot be used" if self.left_out > 1 else ""
        it = "them" if others else "it"
        raise MetaSiamError(f"{picture} {said}{others}. Leave {it} out, or pass --skip-unreadable.")

    def tell(self, listener: Listener, *, answer_blank: bool = False) -> None:
        """Say how pictures were prepared, which are left out and why; many get a line together.

        Args:
            listener: told.
            answer_blank: whether pictures of one colour get an answer of their own, and so are not left out.

        Raises:
            MetaSiamError: if nothing is left.
        """
        for text in self.notes:
            listener.note(text)
        self.check_some(answer_blank=answer_blank)
        for picture, reason in self.unreadable[:_NAMED]:
            listener.note(f"{picture} cannot be read ({reason}): left out")
        if len(self.unreadable) > 1:
            total = len(self.pictures) + self.left_out
            listener.note(f"{len(self.unreadable):,} of {total:,} pictures could not be read")
        if self.blank and not answer_blank:
            many = len(self.blank) > 1
            said = f"{len(self.blank):,} pictures have nothing on them (one colour), e.g. " if many else ""
            listener.note(f"{said}{self.blank[0]}{'' if many else ' has ' + BLANK}: left out")

    def _all_blank(self, count: int) -> str:
        if count == 1:
            return f"{self.blank[0]} has {BLANK}. Use another picture."
        unread = f" and {len(self.unreadable):,} cannot be read" if self.unreadable else ""
        which = f"{len(self.blank):,} of the {count:,} pictures have" if unread else f"all {count:,} pictures have"
        return f"{which} nothing on them (one colour){unread}, e.g. {self.blank[0]}. Pass others."


@heard
def embed_pictures(
    embedder: nn.Module,
    info: EmbedderInfo,
    pictures: Sequence[Picture],
    *,
    mirror: bool,
    listener: Listener | None = SHOWN,
) -> Embedded:
    """Decode and embed pictures; those that cannot be read or are of one colour are left out and listed.

    They are prepared as the training pictures were (``info.preparation``).

    Args:
        embedder: in eval mode.
        info: preparation, image size, channels, normalisation and distance.
        pictures: files, or what is in memory already.
        mirror: average each embedding with that of the mirrored picture.
        listener: told how far it is; None is silent.
    """
    return embed_each(lambda pixels: embed_pixels(embedder, info, pixels, mirror=mirror), info, pictures, listener)


def embed_each(
    embed: Callable[[Tensor], Tensor], info: EmbedderInfo, pictures: Sequence[Picture], listener: Listener | None
) -> Embedded:
    """Do the same with what turns prepared pixels, uint8 [B, C, H, W], into embeddings, float32 [B, D] on the CPU."""
    read, rows, statistics, unreadable, blank = [], [], [], [], []
    deep: list[tuple[Picture, Span]] = []
    what, told = "reading pictures", listener or SILENT
    for begin in range(0, len(pictures), _BATCH):
        pixels = []
        for picture in pictures[begin : begin + _BATCH]:
            found = _prepared(picture, info)
            if isinstance(found, Unreadable):
                unreadable.append((picture, found.reason))
                continue
            if found.span is not None:
                deep.append((picture, found.span))
            if is_blank(found.pixels):
                blank.append(picture)
                continue
            read.append(picture)
            pixels.append(_as_tensor(found, info.channels))
        if pixels:
            batch = torch.stack(pixels)
            rows.append(embed(batch))
            fractions = batch.flatten(2).float() / 255
            statistics.append(torch.cat((fractions.mean(2), fractions.std(2)), 1))
        told.progress(what, min(begin + _BATCH, len(pictures)), len(pictures))
    embeddings = torch.cat(rows) if rows else torch.empty(0, 0)
    numbers = torch.cat(statistics) if rows else torch.empty(0, 2 * info.channels)
    return Embedded(tuple(read), embeddings, tuple(unreadable), numbers, _depth_notes(deep, info), tuple(blank))


def is_blank(pixels: NDArray[np.uint8]) -> bool:
    """Tell whether nothing is seen on a prepared picture, uint8 [H, W, C]: one colour, but for a JPEG's rounding."""
    return bool((np.ptp(pixels, axis=(0, 1)) <= _ROUNDING).all())


def _as_tensor(found: Read, channels: int) -> Tensor:
    return torch.from_numpy(found.pixels.copy()).permute(2, 0, 1).expand(channels, -1, -1)


def _prepared(picture: Picture, info: EmbedderInfo) -> Read | Unreadable:
    """Prepare a picture as ``info`` says; an image in memory that has its size already is prepared, as from a set."""
    try:
        if isinstance(picture, Path):
            return decode_picture(picture, info.preparation, info.image_size, info.channels)
        ready = picture.image.size == info.image_size[::-1]
        return prepare_picture(picture.image, USUAL if ready else info.preparation, info.image_size, info.channels)
    except TooSmallToCrop:
        side = info.preparation.crop
        return Unreadable(f"it is smaller than the {side}x{side} pixels that the embedder was shown of each picture")
    except ValueError as error:
        return Unreadable(str(error))


def prepared_pixels(pictures: Sequence[Picture], info: EmbedderInfo) -> Tensor:
    """Return the pixels of pictures that can be read and show something, prepared: uint8 [N, C, H, W].

    Raises:
        MetaSiamError: if there are none.
    """
    found = [_prepared(picture, info) for picture in pictures]
    shown = [one for one in found if isinstance(one, Read) and not is_blank(one.pixels)]
    if not shown:
        raise MetaSiamError(f"none of the {counted(len(pictures), 'picture')} can be read and shows something.")
    return torch.stack([_as_tensor(one, info.channels) for one in shown])


def _depth_notes(deep: Sequence[tuple[Picture, Span]], info: EmbedderInfo) -> tuple[str, ...]:
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
    if images.shape[1] != info.channels and not {int(images.shape[1]), info.channels} <= {1, 3}:
        raise MetaSiamError(
            f"the embedder takes images of {counted(info.channels, 'channel')}, these have {images.shape[1]}."
        )
    if info.channels == 3:
        images = images.expand(-1, 3, -1, -1)
    elif info.channels == 1 and images.shape[1] == 3:
        images = in_grey(images)
    return prepared_images(images, USUAL, info.image_size)


def embed_pixels(embedder: nn.Module, info: EmbedderInfo, pixels: Tensor, *, mirror: bool = False) -> Tensor:
    """Embed uint8 [B, C, H, W]: float32 [B, D] on the CPU, rows of length 1 when the distance is cosine."""
    return embed_batch(embedder, info, pixels.to(device_of(embedder)), mirror=mirror).cpu()
