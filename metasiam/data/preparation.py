"""How pictures are prepared: one value, stored with the weights, and one function that applies it everywhere.

Training, galleries and evaluation all come through ``prepared``, so that a file gets the same embedding from each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]  # height and width
Span = tuple[int, int]  # lowest and highest level

_FITS = ("cut", "square", "squeeze")
_DEEPEST = 65535  # what is white in pictures of 16 bits
_OUTLIERS = 0.1  # percent of a picture's pixels, at either end, that do not decide on a stretch: dead and hot ones


@dataclass(frozen=True)
class Preparation:
    """What is done to a picture on its way to the size and channels that an embedder takes.

    Pictures are turned upright, made grey for an embedder of one channel, cut and brought to its size (bilinear).

    Attributes:
        crop: side in pixels of the square that is cut out of the middle first; None cuts nothing.
        crop_of: the shorter side in pixels of the pictures that ``crop`` was chosen for, where all had the same. Of a
            larger or smaller picture the same share is cut out; where it is None, ``crop`` pixels.
        fit: how the rest is brought to the size: ``cut`` takes the largest middle part of the size's shape, ``squeeze``
            all of it; ``square`` takes the middle square and squeezes that, as for weights that do not say.
        levels: of pictures of more than 8 bits, what becomes black and what white; None: 0 and 65,535.
        inverted: whether light and dark change places.
    """

    crop: int | None = None
    crop_of: int | None = None
    fit: str = "cut"
    levels: Span | None = None
    inverted: bool = False

    def __post_init__(self) -> None:
        if self.fit not in _FITS:
            raise ValueError(f"fit is {self.fit!r} and not one of {', '.join(_FITS)}")
        for name, side in (("crop", self.crop), ("crop_of", self.crop_of)):
            if side is not None and (not _is_whole(side) or side < 1):
                raise ValueError(f"{name} is {side!r} and not a number of pixels")
        levels = self.levels
        if levels is not None and not (len(levels) == 2 and all(map(_is_whole, levels)) and levels[0] < levels[1]):
            raise ValueError(f"levels are {levels!r} and not a lower and a higher one")
        if not isinstance(self.inverted, bool):
            raise ValueError(f"inverted is {self.inverted!r} and neither true nor false")

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @staticmethod
    def from_dict(stored: Any) -> Preparation:
        """Read what ``as_dict`` made; what a newer version added is left out.

        Raises:
            ValueError: if it is anything else.
        """
        if not isinstance(stored, Mapping):
            raise ValueError(f"the preparation is {type(stored).__name__}, not an object")
        values = {name: stored[name] for name in Preparation.__dataclass_fields__ if name in stored}
        if isinstance(values.get("levels"), list):
            values["levels"] = tuple(values["levels"])
        elif values.get("levels") is not None and not isinstance(values["levels"], tuple):
            raise ValueError(f"levels are {values['levels']!r} and not a lower and a higher one")
        return Preparation(**values)

    @property
    def changes(self) -> bool:
        """Whether more is done than bringing pictures to a size."""
        return self.crop is not None or self.inverted

    def done_to(self, images: Preparation) -> bool:
        """Tell whether images that were prepared so show what this preparation shows, equally light or dark."""
        return self.crop in (None, images.crop) and self.inverted <= images.inverted

    def in_words(self) -> str:
        """Say what is done besides bringing pictures to a size: ``the middle 150x150 of 250, inverted``."""
        words = []
        if self.crop is not None:
            words.append(f"the middle {self.crop}x{self.crop}" + (f" of {self.crop_of}" if self.crop_of else ""))
        if self.inverted:
            words.append("light and dark inverted")
        return ", ".join(words) or "all of each picture"

    def draft(self, picture: Image.Image, size: Size | None) -> Size | None:
        """Return the height and width that are enough to decode a JPEG at; None: decode all of it."""
        if size is None or self.fit == "squeeze":  # those runs decoded all of it
            return None
        side = 2 * max(size)
        if self.crop is not None:
            if self.crop_of is None or min(picture.size) <= self.crop_of:
                return None  # as many pixels are cut out as in training
            side = -(-side * self.crop_of // self.crop)
        return side, side


#: That of data for which nothing else is asked.
USUAL = Preparation()
#: That of weights which do not say how pictures are prepared.
UNSAID = Preparation(fit="square")


def squeezed_before(data: str) -> bool:
    """Tell whether these data (``--data``) were squeezed to ``--image-size`` before there was one rule for all.

    Runs of then are loaded as they were trained.
    """
    return data.startswith(("npz:", "pairs:"))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class TooSmallToCrop(ValueError):
    """A picture is smaller than the square that is to be cut out of it."""


def prepared(picture: Image.Image, how: Preparation, size: Size | None, channels: int | None) -> Image.Image:
    """Prepare one picture.

    Args:
        picture: upright, of mode L or RGB.
        how: the preparation.
        size: height and width to bring it to; None keeps what is left after cutting.
        channels: 1 makes it grey; anything else leaves its colours as they are.

    Returns:
        The picture, of mode L or RGB.

    Raises:
        TooSmallToCrop: with its size.
    """
    if channels == 1 and picture.mode != "L":
        picture = picture.convert("L")
    if how.inverted:
        picture = ImageOps.invert(picture)
    if how.crop is not None:
        picture = _middle(picture, how)
    if size is None:
        return picture
    wanted = size[::-1]
    if how.fit == "square" and size[0] != size[1]:
        picture = ImageOps.fit(picture, (max(size), max(size)), Image.Resampling.BILINEAR)
        return picture.resize(wanted, Image.Resampling.BILINEAR)
    if picture.size == wanted:
        return picture
    if how.fit == "squeeze":
        return picture.resize(wanted, Image.Resampling.BILINEAR)
    return ImageOps.fit(picture, wanted, Image.Resampling.BILINEAR)


def _middle(picture: Image.Image, how: Preparation) -> Image.Image:
    assert how.crop is not None
    side, shorter = how.crop, min(picture.size)
    if how.crop_of is not None and shorter != how.crop_of:
        side = max(round(how.crop * shorter / how.crop_of), 1)
    if shorter < side:
        raise TooSmallToCrop(f"{picture.width}x{picture.height} pixels, too small for --crop {side}")
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def in_grey(images: Tensor) -> Tensor:
    """Return uint8 [N, 3, H, W] as grey images, uint8 [N, 1, H, W], weighted as Pillow's mode L (ITU-R BT.601)."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    blocks = torch.split(images, 4096)
    return torch.cat([(block.float() * weights).sum(1, keepdim=True).round().to(torch.uint8) for block in blocks])


def prepared_images(images: Tensor, how: Preparation, size: Size | None) -> Tensor:
    """Prepare images that came as arrays: uint8 [N, C, H, W] with one or three channels; they keep their channels.

    Raises:
        TooSmallToCrop: with their size.
    """
    height, width = images.shape[2:]
    plain = how.crop is None and not how.inverted
    if plain and size in (None, (height, width)) and (how.fit != "square" or height == width):
        return images
    if plain and size is not None and (how.fit == "squeeze" or height * size[1] == width * size[0]):
        return torch.cat([_scaled(block, size) for block in torch.split(images, 4096)])
    return torch.stack([_prepared_array(image, how, size) for image in images])


def _scaled(images: Tensor, size: Size) -> Tensor:
    scaled = functional.interpolate(images.float(), size=size, mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8)


def _prepared_array(image: Tensor, how: Preparation, size: Size | None) -> Tensor:
    if len(image) not in (1, 3):
        return torch.cat([_prepared_array(channel[None], how, size) for channel in image])
    pixels = image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).contiguous().numpy()
    done = np.array(prepared(Image.fromarray(pixels), how, size, None))
    return torch.from_numpy(done[None] if done.ndim == 2 else done.transpose(2, 0, 1).copy())


def eight_bits(levels: NDArray[np.integer[Any]], span: Span | None) -> NDArray[np.uint8]:
    """Bring levels of more than 8 bits to 0 … 255; those outside of the span (None: 0 … 65,535) to its ends."""
    low, high = span or (0, _DEEPEST)
    width = high - low
    return (((np.clip(levels.astype(np.int64), low, high) - low) * 255 + width // 2) // width).astype(np.uint8)


def span_of(levels: NDArray[np.integer[Any]]) -> Span:
    """Return the lowest and highest level of a picture of more than 8 bits, single dead and hot pixels left out."""
    low, high = np.percentile(levels, (_OUTLIERS, 100 - _OUTLIERS), method="nearest")
    return int(low), int(high)


def common_stretch(spans: Iterable[Span]) -> Span | None:
    """Return the one stretch for a set of pictures of more than 8 bits; None where 0 … 65,535 serves them.

    That is where together they use half of those levels or more, and none beyond them.
    """
    spans = list(spans)
    low, high = min(span[0] for span in spans), max(span[1] for span in spans)
    inside = low >= 0 and high <= _DEEPEST
    return None if low == high or (inside and 2 * (high - low) >= _DEEPEST) else (low, high)


def levels_left(span: Span, stretch: Span | None) -> int:
    """Return how many of 256 levels are left of a picture that uses ``span``."""
    low, high = eight_bits(np.array(span), stretch).tolist()
    return int(high - low + 1)


def completed(how: Preparation, *, shorter_sides: Iterable[int], spans: Iterable[Span]) -> Preparation:
    """Return the preparation of a set, with what is learned from all of its pictures: their size and their stretch.

    Args:
        how: what was asked for.
        shorter_sides: of the pictures, in pixels.
        spans: the levels of those of more than 8 bits.
    """
    spans = list(spans)
    if how.crop is not None and how.crop_of is None and len(sides := set(shorter_sides)) == 1:
        how = replace(how, crop_of=sides.pop())
    if how.levels is None and spans:
        how = replace(how, levels=common_stretch(spans))
    return how
