"""Image files of any format that Pillow reads, decoded to one uint8 array by a pool of threads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from metasiam.errors import MetaSiamError
from metasiam.progress import Report

Pixels = NDArray[np.uint8]

_CHUNK = 64  # files a thread decodes between two progress reports
# Formats that Pillow registers but cannot decode by itself, or decodes by starting another program.
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


@lru_cache(maxsize=1)
def image_suffixes() -> frozenset[str]:
    """Return the file name endings (lower case, with the dot) of the formats that Pillow decodes."""
    Image.init()
    return frozenset(
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in _NOT_DECODED
    )


class Decoded(NamedTuple):
    """Images of one size, and which of the files they are."""

    images: Tensor  #: uint8 [M, C, H, W]; C is 1 when every image is grey, else 3
    kept: Tensor  #: bool [number of files], false for the unreadable ones that were skipped


def decode_pictures(
    paths: Sequence[Path],
    *,
    image_size: int | None,
    skip_unreadable: bool,
    report: Report,
    finish: Callable[[Image.Image], Image.Image] | None = None,
    remedy: str = "Remove it, or pass --skip-unreadable.",
) -> Decoded:
    """Decode image files into one tensor.

    Orientation tags are followed; palette, 16-bit, CMYK and other modes become RGB (or grey);
    transparent pixels are laid on white. An image is grey when its mode is, or when its three channels
    are equal.

    Args:
        paths: the files.
        image_size: scale each image so that its shorter side has this many pixels and cut the middle
            square out; None keeps the size, which must then be the same for all.
        skip_unreadable: leave files out that cannot be decoded.
        report: progress.
        finish: a last step on each image (mode L or RGB) before it is resized; a ``ValueError`` of it says what the
            image is that it must not be.
        remedy: what to do about a file that cannot be read, for the error.

    Raises:
        MetaSiamError: naming the first file that cannot be read, does not suit ``finish``, or has another size than
            the others.
    """
    pixels: Pixels | None = None
    kept = np.zeros(len(paths), dtype=bool)
    grey = True
    example = 0
    with closing(_decoded(paths, image_size, report, finish)) as decoded:
        for index, image in enumerate(decoded):
            if isinstance(image, _Unreadable):
                if not skip_unreadable:
                    raise MetaSiamError(f"{paths[index]} cannot be read ({image.reason}). {remedy}")
                continue
            if pixels is None:
                pixels = np.empty((len(paths), 3, *image.shape[:2]), dtype=np.uint8)
                example = index
            if image.shape[:2] != pixels.shape[2:]:
                raise MetaSiamError(
                    f"{paths[index]} is {_size(image.shape)} but {paths[example]} is {_size(pixels.shape[2:])} "
                    "(width x height). Pass --image-size to resize all, e.g. --image-size 32."
                )
            grey = grey and image.shape[2] == 1
            pixels[index] = image.transpose(2, 0, 1)
            kept[index] = True
    if pixels is None:
        raise MetaSiamError(f"none of the {len(paths)} images can be read. Check the path given to --data.")
    if grey:
        pixels = np.ascontiguousarray(pixels[:, :1])
    return Decoded(torch.from_numpy(pixels if kept.all() else pixels[kept]), torch.from_numpy(kept))


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


class _Unreadable(NamedTuple):
    reason: str


def _decoded(
    paths: Sequence[Path],
    image_size: int | None,
    report: Report,
    finish: Callable[[Image.Image], Image.Image] | None,
) -> Generator[Pixels | _Unreadable, None, None]:
    """Decode in threads (Pillow lets go of the interpreter while it works), yield in order."""

    def decode_chunk(start: int) -> list[Pixels | _Unreadable]:
        return [decode_picture(path, image_size, finish) for path in paths[start : start + _CHUNK]]

    report("decoding images", 0, len(paths))
    executor = ThreadPoolExecutor(max(2, os.cpu_count() or 1))
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged tags and of big images; the latter are refused by size below.
            warnings.simplefilter("ignore")
            for start, chunk in zip(
                range(0, len(paths), _CHUNK),
                executor.map(decode_chunk, range(0, len(paths), _CHUNK)),
                strict=True,
            ):
                yield from chunk
                report("decoding images", min(start + _CHUNK, len(paths)), len(paths))
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def decode_picture(
    path: Path, image_size: int | None, finish: Callable[[Image.Image], Image.Image] | None = None
) -> Pixels | _Unreadable:
    """Decode one file to uint8 [H, W, 1 or 3], or say why it cannot be.

    Raises:
        MetaSiamError: naming the file, if ``finish`` does not take its image.
    """
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                return _Unreadable(f"{image.width}x{image.height} pixels, more than the {limit} that are safe")
            if image_size is not None:
                image.draft(None, (2 * image_size, 2 * image_size))  # JPEG: decode at a fraction of the size
            upright = _plain(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        return _Unreadable(_reason(path, error))
    if finish is not None:
        try:
            upright = finish(upright)
        except ValueError as error:
            raise MetaSiamError(f"{path} is {error}") from error
    if image_size is not None and upright.size != (image_size, image_size):
        upright = ImageOps.fit(upright, (image_size, image_size), Image.Resampling.BILINEAR)
    pixels: Pixels = np.asarray(upright)
    if pixels.ndim == 2:
        return pixels[:, :, None]
    same = np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])
    return pixels[..., :1] if same else pixels


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).replace(repr(str(path)), "the file").replace(str(path), "the file").strip()
    if "cannot identify" in text:
        return "not an image, or a damaged one"
    return text.splitlines()[0] if text else type(error).__name__


def _plain(image: Image.Image) -> Image.Image:
    """Return the image in mode L or RGB."""
    if image.mode in ("L", "RGB"):
        if "transparency" not in image.info:
            return image
    elif image.mode == "1":
        return image.convert("L")
    elif image.mode.startswith("I"):  # 16 bits (old Pillow versions say 32 for those)
        levels = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels; save it with 8 or 16 bits")
    elif image.mode == "P" and "transparency" not in image.info:
        return image.convert("RGB")
    elif image.mode not in ("LA", "La", "PA", "P", "RGBA", "RGBa"):
        return image.convert("RGB")  # CMYK, YCbCr, HSV, RGBX
    if image.mode == "La":
        image = image.convert("LA")
    grey = image.mode in ("L", "LA")
    opaque = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", opaque.size, (255, 255, 255, 255)), opaque)
    return flat.convert("L" if grey else "RGB")
