"""``npz:PATH``: one file of arrays in MedMNIST's layout (Yang et al., 2023)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as numpy_format
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from metasiam.data.domains import DomainSet
from metasiam.data.names import first_twice
from metasiam.data.preparation import TooSmallToCrop, prepared_images
from metasiam.data.sources.memory import need_bytes
from metasiam.data.sources.source import Request, Source
from metasiam.errors import MetaSiamError
from metasiam.runs.reading import open_regular
from metasiam.wording import counted

_LAYOUT = "It needs train_images and test_images (uint8 [N, H, W] or [N, H, W, 3]), train_labels and test_labels"


def load(request: Request) -> DomainSet:
    """Load ``train_images``, ``train_labels``, ``test_images``, ``test_labels`` and, if there, ``class_names``.

    Images are uint8 [N, H, W] or [N, H, W, C] with 1 or 3 channels, labels integers [N] or [N, 1]. Labels
    that have no image are no domains. MedMNIST's ``val_images`` are left alone. Pickled arrays are refused.

    Raises:
        MetaSiamError: saying which array is missing or wrong.
    """
    path = Path(request.path).expanduser()
    arrays = _read(path)
    parts = [_part(path, arrays, part) for part in ("train", "test")]
    if parts[0][0].shape[1:] != parts[1][0].shape[1:]:
        raise MetaSiamError(
            f"{path}: train_images are {list(parts[0][0].shape[1:])} and test_images {list(parts[1][0].shape[1:])}. "
            "Bring both to one size."
        )
    images = np.concatenate([part[0] for part in parts])
    given, labels = np.unique(np.concatenate([part[1] for part in parts]), return_inverse=True)
    is_test = np.arange(len(images)) >= len(parts[0][0])
    domains = DomainSet(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        torch.from_numpy(labels.reshape(-1).astype(np.int64)),
        _names(path, arrays.get("class_names"), given.tolist()),
        torch.from_numpy(is_test),
        f"npz:{request.path}",
        request.preparation,
    )
    try:
        return replace(domains, images=prepared_images(domains.images, request.preparation, request.size))
    except TooSmallToCrop as error:
        raise MetaSiamError(f"{path} has images of {error}. Lower --crop.") from error


def _read(path: Path) -> dict[str, NDArray[Any]]:
    wanted = ("train_images", "train_labels", "test_images", "test_labels", "class_names")
    try:
        with open_regular(path) as handle:
            file = np.load(handle, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise MetaSiamError(f"{path} holds a single array. {_LAYOUT}, saved with numpy.savez.")
            there = [name for name in wanted if name in file.files]
            need_bytes(str(path), sum(_size(file, name) for name in there))
            return {name: file[name] for name in there}
    except FileNotFoundError as error:
        raise MetaSiamError(f"{path} does not exist. Check the path given to --data npz:PATH.") from error
    except MetaSiamError:
        raise
    except Exception as error:  # damaged bytes make zipfile, zlib and NumPy fail in any way they like
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if "pickle" in reason.lower():
            reason = "it holds pickled objects, which are never run"
        raise MetaSiamError(f"{path} cannot be read ({reason}). {_LAYOUT}, saved with numpy.savez.") from error


def _size(file: NpzFile, name: str) -> int:
    """Return how many bytes an array takes by its header: before it is read, a small file can hold a huge one."""
    with file.zip.open(f"{name}.npy") as member:
        head: Any = numpy_format
        version = head.read_magic(member)
        read = head.read_array_header_1_0 if version == (1, 0) else head.read_array_header_2_0
        shape, _, dtype = read(member)
    return int(math.prod(shape)) * int(dtype.itemsize)


def _part(path: Path, arrays: dict[str, NDArray[Any]], part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    for name in (f"{part}_images", f"{part}_labels"):
        if name not in arrays:
            raise MetaSiamError(f"{path} has no array {name}. {_LAYOUT}.")
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise MetaSiamError(f"{path}: {part}_images are {images.dtype} {list(images.shape)}. {_LAYOUT}.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "ui" or len(labels) != len(images):
        raise MetaSiamError(
            f"{path}: {part}_labels are {labels.dtype} {list(labels.shape)} for {counted(len(images), 'image')}. "
            "They must be integers, one for each image (several labels for an image are not supported)."
        )
    return images, labels.astype(np.int64)


def _names(path: Path, names: NDArray[Any] | None, given: list[int]) -> tuple[str, ...]:
    if names is None:
        return tuple(str(label) for label in given)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise MetaSiamError(f"{path}: class_names are {names.dtype} {list(names.shape)}. They must be a list of texts.")
    if given and (given[0] < 0 or given[-1] >= len(names)):
        raise MetaSiamError(
            f"{path} has the label {given[-1] if given[0] >= 0 else given[0]} but class_names names "
            f"{len(names)} class{'es' if len(names) != 1 else ''}. Name every class."
        )
    if (twice := first_twice(map(str, names))) is not None:
        raise MetaSiamError(f"{path}: class_names has '{twice}' twice. Give every class a name of its own.")
    return tuple(str(names[label]) for label in given)


SOURCE = Source("one .npz file in MedMNIST's layout", load, takes_path=True)
