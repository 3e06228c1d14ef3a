"""Image files of any format that Pillow reads, decoded to one uint8 array by a pool of threads."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from metasiam.data.sources.memory import need_memory
from metasiam.errors import MetaSiamError
from metasiam.progress import Report
from metasiam.reading import open_regular

Pixels = NDArray[np.uint8]

_CHUNK = 64  # files a thread decodes between two progress reports, at most
_CHUNK_BYTES = 8_000_000
# Formats that Pillow registers but cannot decode by itself, or decodes by starting another program.
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

_FOREIGN = (
    ".3fr .ai .arw .avif .avifs .bpg .cr2 .cr3 .crw .dcr .dng .emf .eps .erf .exr .fff .hdr .heic .heics .heif .heifs "
    ".hif .iiq .j2k .jp2 .jxl .jxr .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .svg "
    ".svgz .wdp .webp .wmf .x3f .xcf"
)
#: Endings of pictures in formats that Pillow decodes only with another package, in some builds, or not at all.
FOREIGN_SUFFIXES = frozenset(_FOREIGN.split())


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
    unreadable: tuple[tuple[Path, str], ...] = ()  #: file and reason of those


def decode_pictures(
    paths: Sequence[Path],
    *,
    image_size: int | None,
    skip_unreadable: bool,
    report: Report,
    finish: Callable[[Image.Image], Image.Image] | None = None,
    remedy: tuple[str, str] = (
        "Remove it, or pass --skip-unreadable.",
        "Remove them, or pass --skip-unreadable to leave them out.",
    ),
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
        remedy: what to do about a file that cannot be read, and about several, for the error.

    Raises:
        MetaSiamError: naming the first file that cannot be read and counting the others, naming one that does not
            suit ``finish`` or has another size than the others, or where memory cannot hold them all.
    """
    pixels: Pixels | None = None
    kept = np.zeros(len(paths), dtype=bool)
    unreadable: list[tuple[Path, str]] = []
    grey = True
    example = 0
    shape = _first_shape(paths, image_size, finish)
    if shape is not None:
        need_memory(len(paths), shape[0], shape[1], image_size)
    with closing(_decoded(paths, image_size, report, finish, shape)) as decoded:
        for index, image in enumerate(decoded):
            if isinstance(image, _Unreadable):
                unreadable.append((paths[index], image.reason))
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
        path, reason = unreadable[0]
        several = f"none of the {len(paths)} pictures can be read, e.g. {path} ({reason})"
        one = f"{path} cannot be read ({reason}), and there is no other picture"
        raise MetaSiamError(f"{one if len(paths) == 1 else several}. Check the path given to --data.")
    if unreadable and not skip_unreadable:
        (path, reason), more = unreadable[0], len(unreadable) - 1
        others = f", nor can {more:,} other{'s' if more > 1 else ''}" if more else ""
        raise MetaSiamError(f"{path} cannot be read ({reason}){others}. {remedy[more > 0]}")
    if grey:
        pixels = np.ascontiguousarray(pixels[:, :1])
    return Decoded(torch.from_numpy(pixels if kept.all() else pixels[kept]), torch.from_numpy(kept), tuple(unreadable))


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _first_shape(
    paths: Sequence[Path], image_size: int | None, finish: Callable[[Image.Image], Image.Image] | None
) -> tuple[int, ...] | None:
    """Return the shape that the images will have, from the first one that can be read (None: not one of many)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths[:_CHUNK]:
            image = decode_picture(path, image_size, finish)
            if not isinstance(image, _Unreadable):
                return image.shape
    return None


class _Unreadable(NamedTuple):
    reason: str


def _decoded(
    paths: Sequence[Path],
    image_size: int | None,
    report: Report,
    finish: Callable[[Image.Image], Image.Image] | None,
    shape: tuple[int, ...] | None,
) -> Generator[Pixels | _Unreadable, None, None]:
    """Decode in threads (Pillow lets go of the interpreter while it works), yield in order.

    What follows an image of another size than ``shape`` is left out: that is an error in any case.
    """
    # Fewer at a time of large ones, which take memory while they wait.
    chunk = _CHUNK if shape is None else max(1, min(_CHUNK, _CHUNK_BYTES // (3 * shape[0] * shape[1])))

    def decode_chunk(start: int) -> list[Pixels | _Unreadable]:
        images: list[Pixels | _Unreadable] = []
        for path in paths[start : start + chunk]:
            image = decode_picture(path, image_size, finish)
            images.append(image)
            if shape is not None and not isinstance(image, _Unreadable) and image.shape[:2] != shape[:2]:
                break
        return images

    report("decoding images", 0, len(paths))
    workers = max(2, os.cpu_count() or 1)
    executor = ThreadPoolExecutor(workers)
    done = 0
    submitted = (executor.submit(decode_chunk, start) for start in range(0, len(paths), chunk))
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged tags and of big images; the latter are refused by size below.
            warnings.simplefilter("ignore")
            waiting = deque(islice(submitted, 2 * workers))  # no more are decoded ahead: what waits takes memory
            while waiting:
                images = waiting.popleft().result()
                waiting.extend(islice(submitted, 1))
                yield from images
                done += len(images)
                report("decoding images", done, len(paths))
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
        with open_regular(path) as file, Image.open(file) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                return _Unreadable(f"{image.width}x{image.height} pixels, more than the {limit:,} that are safe")
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
    if isinstance(error, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS or 0
        return f"it claims to have more than the {limit:,} pixels that are safe"
    if path.suffix.lower() in FOREIGN_SUFFIXES and path.suffix.lower() not in image_suffixes():
        return f"{path.suffix[1:].upper()} pictures are not read here: save it as JPEG or PNG"
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
