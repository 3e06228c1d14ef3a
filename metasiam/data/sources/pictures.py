"""Image files of any format that Pillow reads, decoded to one uint8 array by a pool of threads."""

from __future__ import annotations

import os
import struct
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin, UnidentifiedImageError
from torch import Tensor

from metasiam.data.preparation import (
    USUAL,
    Preparation,
    Size,
    Span,
    TooSmallToCrop,
    completed,
    eight_bits,
    prepared,
    span_of,
)
from metasiam.data.sources.lookalikes import what_it_is
from metasiam.data.sources.memory import need_memory
from metasiam.errors import MetaSiamError
from metasiam.progress import Listener
from metasiam.runs.reading import open_regular
from metasiam.wording import counted

Pixels = NDArray[np.uint8]

_CHUNK = 64  # files a thread decodes between two progress reports, at most
_CHUNK_BYTES = 8_000_000
_LARGEST_JPEG = 4  # times as many pixels as are safe whole: phones make 200 million
_FEWEST_LEVELS = 32  # of 256, in what is read of 16 bits a channel
# Formats that Pillow registers but cannot decode by itself, or decodes by starting another program.
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

_FOREIGN = (
    ".3fr .ai .arw .avif .avifs .bpg .cr2 .cr3 .crw .dcr .dng .emf .eps .erf .exr .fff .hdr .heic .heics .heif .heifs "
    ".hif .iiq .j2k .jp2 .jxl .jxr .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .svg "
    ".svgz .wdp .webp .wmf .x3f .xcf"
)
#: What transparent pictures are laid on, and levels of 256 below which what is on it is as good as not there.
_GROUNDS, _SEEN = ((255, 255, 255, 255), (0, 0, 0, 255)), 32
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
    preparation: Preparation = USUAL  #: what was asked for, with what all the images together decide


class SizesDiffer(MetaSiamError):
    """Pictures are of several sizes, and none is given to bring them to."""

    def __init__(self, paths: tuple[Path, ...], text: str) -> None:
        super().__init__(text)
        self.paths = paths  #: of all the pictures


class Read(NamedTuple):
    """One image, and what it was before it was prepared."""

    pixels: Pixels  #: [H, W, 1 or 3]; 1 when it is grey
    shorter: int  #: pixels on the shorter side that it came with
    span: Span | None  #: lowest and highest level that it came with, if it had more than 8 bits


class _Asked(NamedTuple):
    """How images are prepared."""

    how: Preparation
    size: Size | None
    channels: int | None


def decode_pictures(
    paths: Sequence[Path],
    *,
    size: Size | None,
    skip_unreadable: bool,
    listener: Listener,
    preparation: Preparation = USUAL,
    channels: int | None = None,
    remedy: tuple[str, str] = (
        "Remove it, or pass --skip-unreadable.",
        "Remove them, or pass --skip-unreadable to leave them out.",
    ),
) -> Decoded:
    """Decode image files into one tensor.

    Orientation tags are followed; palette, CMYK and other modes become RGB (or grey); transparent pixels are laid on
    white, or on black what could not be seen on white. Images of more than 8 bits get one common stretch, see
    ``common_stretch``. An image is grey when its mode is, or when its three channels are equal.

    Args:
        paths: the files.
        size: height and width to bring each image to; None keeps the size, which must then be the same for all.
        skip_unreadable: leave files out that cannot be decoded.
        listener: told how far it is.
        preparation: what else is done to each.
        channels: 1 makes every image grey.
        remedy: what to do about a file that cannot be read, and about several, for the error.

    Raises:
        MetaSiamError: naming the first file that cannot be read and counting the others, naming one that is too small
            to be cut or has another size than the others, or where memory cannot hold them all.
    """
    asked = _Asked(preparation, size, channels)
    shorter: set[int] = set()
    spans: dict[int, Span] = {}
    pixels: Pixels | None = None
    kept = np.zeros(len(paths), dtype=bool)
    unreadable: list[tuple[Path, str]] = []
    grey = True
    example = 0
    shape = _first_shape(paths, asked)
    if shape is not None:
        need_memory(len(paths), shape[0], shape[1], None if size is None else max(size))
    with closing(_decoded(paths, asked, listener, shape)) as decoded:
        for index, read in enumerate(decoded):
            if isinstance(read, Unreadable):
                unreadable.append((paths[index], read.reason))
                continue
            image = read.pixels
            shorter.add(read.shorter)
            if read.span is not None:
                spans[index] = read.span
            if pixels is None:
                pixels = np.empty((len(paths), 3, *image.shape[:2]), dtype=np.uint8)
                example = index
            if image.shape[:2] != pixels.shape[2:]:
                raise SizesDiffer(
                    tuple(paths),
                    f"{paths[index]} is {_size(image.shape)} but {paths[example]} is {_size(pixels.shape[2:])} "
                    "(width x height). Pass --image-size to resize all, e.g. --image-size 32.",
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
    how = completed(preparation, shorter_sides=shorter, spans=spans.values())
    if how.levels != preparation.levels:
        _stretch(pixels, [(index, paths[index]) for index in spans], asked._replace(how=how), listener)
    if grey:
        pixels = np.ascontiguousarray(pixels[:, :1])
    images = torch.from_numpy(pixels if kept.all() else pixels[kept])
    return Decoded(images, torch.from_numpy(kept), tuple(unreadable), how)


def _stretch(pixels: Pixels, deep: Sequence[tuple[int, Path]], asked: _Asked, listener: Listener) -> None:
    """Decode images of more than 8 bits again, into their places: now the stretch that serves all of them is known."""
    low, high = asked.how.levels or (0, 0)
    listener.note(f"{counted(len(deep), 'picture')} of more than 8 bits: levels {low} to {high} become 0 to 255 in all")
    with closing(_decoded([path for _, path in deep], asked, listener, None)) as decoded:
        for (index, path), read in zip(deep, decoded, strict=True):
            if isinstance(read, Unreadable):
                raise MetaSiamError(f"{path} cannot be read any more ({read.reason}). Start again.")
            pixels[index] = read.pixels.transpose(2, 0, 1)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _first_shape(paths: Sequence[Path], asked: _Asked) -> tuple[int, ...] | None:
    """Return the shape that the images will have, from the first one that can be read (None: not one of many)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths[:_CHUNK]:
            read = _decode(path, asked)
            if not isinstance(read, Unreadable):
                return read.pixels.shape
    return None


class Unreadable(NamedTuple):
    """Why a file could not be read."""

    reason: str


def _decoded(
    paths: Sequence[Path], asked: _Asked, listener: Listener, shape: tuple[int, ...] | None
) -> Generator[Read | Unreadable, None, None]:
    """Decode in threads (Pillow lets go of the interpreter while it works), yield in order.

    What follows an image of another size than ``shape`` is left out: that is an error in any case.
    """
    # Fewer at a time of large ones, which take memory while they wait.
    chunk = _CHUNK if shape is None else max(1, min(_CHUNK, _CHUNK_BYTES // (3 * shape[0] * shape[1])))

    def decode_chunk(start: int) -> list[Read | Unreadable]:
        images: list[Read | Unreadable] = []
        for path in paths[start : start + chunk]:
            image = _decode(path, asked)
            images.append(image)
            if shape is not None and not isinstance(image, Unreadable) and image.pixels.shape[:2] != shape[:2]:
                break
        return images

    listener.progress("decoding images", 0, len(paths))
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
                listener.progress("decoding images", done, len(paths))
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _decode(path: Path, asked: _Asked) -> Read | Unreadable:
    try:
        return decode_picture(path, asked.how, asked.size, asked.channels)
    except TooSmallToCrop as error:
        raise MetaSiamError(f"{path} is {error}. Lower --crop.") from error


def decode_picture(path: Path, how: Preparation, size: Size | None, channels: int | None = None) -> Read | Unreadable:
    """Decode and prepare one file, or say why it cannot be read.

    Args:
        path: the file.
        how: what is done to it, see ``prepared``.
        size: height and width to bring it to; None keeps its own.
        channels: 1 makes it grey.

    Raises:
        TooSmallToCrop: with its size.
    """
    try:
        with warnings.catch_warnings(), open_regular(path) as file, opened(file) as image:
            whole, shorter, halved = image.size, min(image.size), _is_deep_colour(image)
            draft = how.draft(image, size)
            if draft is not None:
                image.draft(None, draft)  # JPEG: decode at a fraction of the size
            if (refused := _too_large(image, whole)) is not None:
                return Unreadable(refused)
            upright, span = _upright(image, how)
            if halved:
                _need_levels(upright)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        return Unreadable(_reason(path, error))
    return _read(upright, how, size, channels, shorter, span)


def prepare_picture(image: Image.Image, how: Preparation, size: Size | None, channels: int | None = None) -> Read:
    """Prepare a picture that is open already, just as ``decode_picture`` does that of a file.

    Raises:
        TooSmallToCrop: with its size.
        ValueError: for pixels that are not read, as those of floating point.
    """
    upright, span = _upright(image, how)
    return _read(upright, how, size, channels, min(upright.size), span)


def _upright(image: Image.Image, how: Preparation) -> tuple[Image.Image, Span | None]:
    """Return a picture turned upright, of mode L or RGB, and of more than 8 bits the levels that it uses."""
    upright, span = ImageOps.exif_transpose(image), None
    if upright.mode.startswith("I"):  # 16 bits (old Pillow versions say 32 for those)
        levels = np.asarray(upright)
        span = span_of(levels)
        upright = Image.fromarray(eight_bits(levels, how.levels))
    return _plain(upright), span


def _read(
    upright: Image.Image, how: Preparation, size: Size | None, channels: int | None, shorter: int, span: Span | None
) -> Read:
    pixels: Pixels = np.asarray(prepared(upright, how, size, channels))
    if pixels.ndim == 2:
        return Read(pixels[:, :, None], shorter, span)
    same = np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])
    return Read(pixels[..., :1] if same else pixels, shorter, span)


def opened(file: BinaryIO) -> ImageFile.ImageFile:
    """Open a picture; JPEGs of any size, as they may be decoded at a fraction of it: see ``_too_large``."""
    warnings.simplefilter("ignore")  # of damaged tags and of many pixels: what matters is said in our words
    begins = file.read(3)
    file.seek(0)
    if begins != b"\xff\xd8\xff":
        return Image.open(file)
    try:
        return JpegImagePlugin.jpeg_factory(file)  # Image.open refuses by the pixels of the whole
    except (SyntaxError, LookupError, TypeError, EOFError, struct.error) as error:  # as Image.open takes them
        raise UnidentifiedImageError("cannot identify it") from error


def _too_large(image: Image.Image, whole: tuple[int, int]) -> str | None:
    """Say that a picture has more pixels than are safe to decode, if it has.

    Args:
        image: as it will be decoded.
        whole: width and height in the file, by which goes what a progressive JPEG takes while it is decoded.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None or (image.width * image.height <= limit and whole[0] * whole[1] <= _LARGEST_JPEG * limit):
        return None
    smaller = ": --image-size reads it smaller" if image.format in ("JPEG", "MPO") and image.size == whole else ""
    return f"{whole[0]}x{whole[1]} pixels, more than the {limit:,} that are safe{smaller}"


def _is_deep_colour(image: ImageFile.ImageFile) -> bool:
    """Tell whether an image has 16 bits for each of several channels, of which Pillow reads the upper 8."""
    return not image.mode.startswith("I") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _need_levels(image: Image.Image) -> None:
    """Refuse an image whose levels were in the lower bits, which are not read."""
    shown = np.asarray(image)
    left = int(shown.max()) - int(shown.min()) + 1
    if left < _FEWEST_LEVELS:
        raise ValueError(
            f"16 bits a channel, of which the upper 8 are read, and they have {left} of 256 levels; save it with 8 "
            "bits, stretched as all the others"
        )


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
        return what_it_is(path) or "not an image, or a damaged one"
    return text.splitlines()[0] if text else type(error).__name__


def _plain(image: Image.Image) -> Image.Image:
    """Return the image in mode L or RGB."""
    if image.mode in ("L", "RGB"):
        if "transparency" not in image.info:
            return image
    elif image.mode == "1":
        return image.convert("L")
    elif image.mode == "F":
        raise ValueError("floating-point pixels; save it with 8 or 16 bits")
    elif image.mode == "P" and "transparency" not in image.info:
        return image.convert("RGB")
    elif image.mode not in ("LA", "La", "PA", "P", "RGBA", "RGBa"):
        return image.convert("RGB")  # CMYK, YCbCr, HSV, RGBX
    if image.mode == "La":
        image = image.convert("LA")
    grey = image.mode in ("L", "LA")
    return _on_ground(image.convert("RGBA")).convert("L" if grey else "RGB")


def _on_ground(image: Image.Image) -> Image.Image:
    """Lay a transparent image on white, or on black where hardly anything of it is seen on white."""
    white, black = (Image.alpha_composite(Image.new("RGBA", image.size, ground), image) for ground in _GROUNDS)
    seen = _contrast(white)
    return black if seen < _SEEN and _contrast(black) > seen else white


def _contrast(image: Image.Image) -> int:
    """Return how many levels an image uses in the channel that uses most; its alpha is full."""
    return max(int(high) - int(low) for low, high in image.convert("RGB").getextrema())  # type: ignore[misc]
