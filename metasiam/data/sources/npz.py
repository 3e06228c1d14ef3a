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
from torch import Tensor

from metasiam.data.domains import DomainSet
from metasiam.data.names import first_twice
from metasiam.data.preparation import TooSmallToCrop, prepared_images
from metasiam.data.sources.memory import need_bytes
from metasiam.data.sources.own_split import parts_of, split_of, split_words, test_count
from metasiam.data.sources.source import Request, Source
from metasiam.errors import MetaSiamError
from metasiam.runs.reading import open_regular
from metasiam.wording import counted, together

#: What the arrays of a part begin with, and what the part is.
_PARTS = {"train": "train", "val": "validation", "test": "test"}
_LAYOUT = "It needs train_images and test_images (uint8 [N, H, W] or [N, H, W, 3]), train_labels and test_labels"


def load(request: Request) -> DomainSet:
    """Load ``train_images``, ``train_labels``, ``test_images``, ``test_labels`` and, if there, ``class_names``.

    Images are uint8 [N, H, W] or [N, H, W, C] with 1 or 3 channels, labels integers [N] or [N, 1]. Labels that have no
    image are no domains. Where train and test (and val) share no label, they are the split: training, held-out (and
    validation) domains, and ``test_fraction`` of each domain, drawn once for all, becomes test. Else ``val_images``, as
    MedMNIST has them, are left alone. Pickled arrays are refused.

    Raises:
        MetaSiamError: saying which array is missing or wrong.
    """
    path = Path(request.path).expanduser()
    arrays = _read(path)
    called = [part for part in _PARTS if f"{part}_images" in arrays or part != "val"]
    parts = [_part(path, arrays, part) for part in called]
    for name, (others, _) in zip(called[1:], parts[1:], strict=True):
        if parts[0][0].shape[1:] != others.shape[1:]:
            raise MetaSiamError(
                f"{path}: train_images are {list(parts[0][0].shape[1:])} and {name}_images {list(others.shape[1:])}. "
                "Bring all to one size."
            )
    images = np.concatenate([part[0] for part in parts])
    given, rows = np.unique(np.concatenate([part[1] for part in parts]), return_inverse=True)
    labels = torch.from_numpy(rows.reshape(-1).astype(np.int64))
    part_of = _own_parts({name: own for name, (_, own) in zip(called, parts, strict=True)})
    domains = DomainSet(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        labels,
        _names(path, arrays.get("class_names"), given.tolist()),
        _drawn(labels, request.test_fraction) if part_of else torch.arange(len(images)) >= len(parts[0][0]),
        f"npz:{request.path}",
        request.preparation,
    )
    try:
        found = replace(domains, images=prepared_images(domains.images, request.preparation, request.size))
    except TooSmallToCrop as error:
        raise MetaSiamError(f"{path} has images of {error}. Lower --crop.") from error
    if not part_of:
        return found
    split = split_of([part_of[label] for label in given.tolist()], f"arrays {', '.join(called)}")
    request.listener.note(split_words(split, together(called), request.test_fraction))
    return found.with_own_split(split)


def _own_parts(labels: dict[str, NDArray[Any]]) -> dict[int, str]:
    """Return the part of each label where the parts are a split of domains; else nothing."""
    return parts_of((label, _PARTS[part]) for part in labels for label in np.unique(labels[part]).tolist())


def _drawn(labels: Tensor, test_fraction: float) -> Tensor:
    """Return bool [N]: which images are test, drawn among those of each domain, always the same."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(int(labels.max()) + 1):
        own = order[labels[order] == label]
        test[own[: test_count(len(own), test_fraction)]] = True
    return test


def _read(path: Path) -> dict[str, NDArray[Any]]:
    labels = tuple(f"{part}_labels" for part in _PARTS)
    try:
        with open_regular(path) as handle:
            file = np.load(handle, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise MetaSiamError(f"{path} holds a single array. {_LAYOUT}, saved with numpy.savez.")
            need_bytes(str(path), sum(_size(file, name) for name in labels if name in file.files))
            found = {name: file[name] for name in labels if name in file.files}
            used = set(_own_parts({part: found.get(f"{part}_labels", np.zeros(0)) for part in _PARTS}).values())
            parts = [part for part, called in _PARTS.items() if part != "val" or called in used]
            there = [name for name in (*(f"{part}_images" for part in parts), "class_names") if name in file.files]
            need_bytes(str(path), sum(_size(file, name) for name in there))
            return found | {name: file[name] for name in there}
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


SOURCE = Source(load)
