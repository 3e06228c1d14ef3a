"""The images that a list of pairs names: decoded once each, cropped, resized and kept packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metasiam.atomic import atomically
from metasiam.data.cache import digest
from metasiam.data.sources.pictures import decode_pictures
from metasiam.errors import MetaSiamError
from metasiam.progress import Report, note, quiet
from metasiam.reading import check_regular


@dataclass(frozen=True)
class PairRequest:
    """Everything that ``load_pairs`` was asked for.

    Attributes:
        data_dir: where downloads and the cache live.
        path: what stands behind the colon of ``pairs:``, ``lfw:``.
        image_size: resize images to this many pixels square; None keeps their size.
        crop: cut this many pixels square out of the middle first; None keeps all.
        grey: make every image grey.
        report: told of progress as ``report(what, done, total)``.
    """

    data_dir: Path
    path: str = ""
    image_size: int | None = None
    crop: int | None = None
    grey: bool = False
    report: Report = quiet


def load_images(source: str, files: Sequence[Path], request: PairRequest) -> Tensor:
    """Return the files' images, uint8 [N, 1 or 3, H, W], from the cache when no file has changed since.

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
    key = digest(stamps, request.image_size, request.crop, request.grey)
    options = digest([str(file) for file in files], request.image_size, request.crop, request.grey)
    path = request.data_dir / "cache" / f"{source.partition(':')[0]}-pairs-{options}.safetensors"
    kept = _read(path, key)
    if kept is not None:
        return kept
    decoded = decode_pictures(
        files,
        image_size=None,
        skip_unreadable=False,
        report=request.report,
        finish=_Finish(request),
        remedy=("Restore it, or take its pairs out of the list.", "Restore them, or take their pairs out of the list."),
    ).images
    _need_one_kind(files, decoded)
    try:
        _write(path, key, decoded)
    except (OSError, SafetensorError) as error:
        note(request.report, f"{path.parent} cannot be written ({error}): decoded images are not kept")
    return decoded


@dataclass(frozen=True)
class _Finish:
    """The last step on a decoded image: the middle square, its size, its colours."""

    request: PairRequest

    def __call__(self, image: Image.Image) -> Image.Image:
        crop, size = self.request.crop, self.request.image_size
        if crop is not None:
            if min(image.size) < crop:
                raise ValueError(f"{image.width}x{image.height} pixels, too small for --crop {crop}. Lower --crop.")
            left, top = (image.width - crop) // 2, (image.height - crop) // 2
            image = image.crop((left, top, left + crop, top + crop))
        if self.request.grey:
            image = image.convert("L")
        if size is not None and image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=None)
        return image


def _need_one_kind(files: Sequence[Path], images: Tensor) -> None:
    """Refuse a mix of grey and coloured images: that difference would be learned instead of the content."""
    if images.shape[1] == 1:
        return
    blocks = torch.split(images, 512)
    grey = torch.cat([((b[:, 0] == b[:, 1]) & (b[:, 0] == b[:, 2])).flatten(1).all(1) for b in blocks])
    if bool(grey.any()):
        first, other = files[int(grey.int().argmax())], files[int((~grey).int().argmax())]
        raise MetaSiamError(f"{first} is grey but {other} is coloured. Pass --grey to make all images grey.")


def _read(path: Path, key: str) -> Tensor | None:
    try:
        check_regular(path)
        with safe_open(str(path), framework="pt") as file:
            return file.get_tensor("images") if (file.metadata() or {}).get("key") == key else None
    except (OSError, SafetensorError):
        return None


def _write(path: Path, key: str, images: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomically(path) as partial:
        save_file({"images": images.contiguous()}, partial, metadata={"key": key})
