"""The gallery file: everything needed to recognise named domains, in one safetensors file with a JSON header."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metasiam.errors import MetaSiamError
from metasiam.gallery.calibrate import Background
from metasiam.gallery.enrolled import EmbedderKey, Enrolled, Kind
from metasiam.gallery.rules import Rules
from metasiam.models.files import EmbedderInfo, info_fields
from metasiam.options.paths import check_gallery
from metasiam.runs.atomic import atomically, check_can_write, storage_error, trouble
from metasiam.runs.reading import check_regular
from metasiam.shapes import GALLERY, check, parse_json, record, whole

SCHEMA = 1


def write_gallery(gallery: Enrolled, path: Path) -> None:
    """Write a gallery's file, atomically.

    Raises:
        MetaSiamError: if it cannot be written there.
    """
    about = {
        "schema": SCHEMA,
        "embedder": asdict(gallery.embedder),
        "mirror": gallery.mirror,
        "names": gallery.names,
        "files": gallery.files,
        "hashes": gallery.hashes,
        "background": gallery.background.source if gallery.background is not None else None,
        "rules": gallery.rules.as_dict() if gallery.rules is not None else None,
    }
    tensors = {"embeddings": gallery.embeddings, "labels": gallery.labels, "statistics": gallery.statistics}
    if gallery.background is not None:
        tensors |= {
            "background": gallery.background.embeddings,
            "background_labels": gallery.background.labels,
            "background_statistics": gallery.background.statistics,
        }
    whole = {name: value.contiguous() for name, value in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomically(path) as partial:
            save_file(whole, partial, metadata={"metasiam_gallery": json.dumps(about)})
    except (OSError, SafetensorError) as error:
        raise _unwritable(path, error) from error


def check_writable(path: Path) -> None:
    """Raise unless a gallery can be written at ``path``; changes nothing. For before pictures are embedded.

    Raises:
        MetaSiamError: naming the file and the reason.
    """
    if path.is_dir():
        raise MetaSiamError(f"{path} is a folder, not a gallery file. Pass --gallery FILE, e.g. gallery.safetensors.")
    try:
        check_can_write(path.absolute().parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> MetaSiamError:
    found = storage_error(error)
    reason, remedy = trouble(found) if found is not None else (str(error), "Look at its folder")
    remedies = [] if remedy == "Use another folder" else [remedy.removesuffix(", or use another folder")]
    advice = ", or ".join([*remedies, "write the gallery elsewhere with --out FILE"])
    return MetaSiamError(f"{path} cannot be written: {reason}. {advice[0].upper()}{advice[1:]}.")


def read_gallery(path: str | Path, make: Callable[..., Kind]) -> Kind:
    """Read a gallery file.

    Args:
        path: the file.
        make: the class of the gallery: ``Enrolled``, or one that adds to it.

    Raises:
        MetaSiamError: if it is missing, damaged, no gallery, or of a newer MetaSiam.
    """
    path = Path(path)
    check_gallery(path)
    try:
        check_regular(path)
        with safe_open(str(path), framework="pt") as file:
            header = (file.metadata() or {}).get("metasiam_gallery")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        if (found := storage_error(error)) is not None:
            reason, remedy = trouble(found)
            raise MetaSiamError(f"{path} cannot be read: {reason}. {remedy}.") from error
        raise MetaSiamError(f"{path} is not a whole gallery file ({error}). Enroll again into a new one.") from error
    if header is None:
        raise MetaSiamError(f"{path} is not a gallery file. Pass one created by metasiam enroll.")
    try:
        about = parse_json(header)
        check(about, record({"schema": whole()}))
        if about["schema"] != SCHEMA:
            raise MetaSiamError(f"{path} is of schema {about['schema']}, not {SCHEMA}. Use a newer MetaSiam.")
        check(about, GALLERY)
        return _checked(make(**_parts(about, tensors)))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise MetaSiamError(f"{path} is a damaged gallery ({reason}). Enroll again into a new one.") from error


def _parts(about: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    key = about["embedder"]
    background = None
    if about["background"] is not None:
        background = Background(
            tensors["background"],
            tensors["background_labels"],
            tensors["background_statistics"],
            str(about["background"]),
        )
    return {
        "embedder": EmbedderKey(str(key["path"]), str(key["fingerprint"]), EmbedderInfo(**info_fields(key["info"]))),
        "mirror": bool(about["mirror"]),
        "names": tuple(map(str, about["names"])),
        "labels": tensors["labels"],
        "embeddings": tensors["embeddings"],
        "files": tuple(map(str, about["files"])),
        "statistics": tensors["statistics"],
        "background": background,
        "hashes": tuple(map(str, about.get("hashes", ()))),
        "rules": Rules.from_dict(about["rules"]) if about["rules"] is not None else None,
    }


def _checked(gallery: Kind) -> Kind:
    """Raise ValueError unless the parts fit each other."""
    count = len(gallery.files)
    right = (
        gallery.labels.dtype == torch.int64
        and gallery.labels.shape == (count,)
        and len(gallery.hashes) in (0, count)
        and gallery.embeddings.ndim == 2
        and gallery.embeddings.dtype == torch.float32
        and len(gallery.embeddings) == count
        and bool(torch.isfinite(gallery.embeddings).all())
        and _fit(gallery.statistics, count)
        and _background_fits(gallery)
        and torch.equal(torch.unique(gallery.labels), torch.arange(len(gallery.names)))
        and (gallery.rules is None or gallery.rules.fits(len(gallery.names)))
        and all(math.isfinite(value) for value in (gallery.rules.values() if gallery.rules is not None else ()))
    )
    if not right:
        raise ValueError("its parts do not fit each other")
    return gallery


def _fit(numbers: Tensor, count: int) -> bool:
    """Tell whether numbers are finite, of one precision, and in so many rows."""
    shape = numbers.ndim == 2 and numbers.dtype == torch.float32 and len(numbers) == count
    return shape and bool(torch.isfinite(numbers).all())


def _background_fits(gallery: Enrolled) -> bool:
    """Tell whether a background is whole, and as wide as the pictures."""
    background = gallery.background
    if background is None:
        return True
    labels, count = background.labels, len(background.embeddings)
    wide = not gallery.files or (
        background.embeddings.shape[1:] == gallery.embeddings.shape[1:]
        and background.statistics.shape[1:] == gallery.statistics.shape[1:]
    )
    return (
        _fit(background.embeddings, count)
        and _fit(background.statistics, count)
        and labels.dtype == torch.int64
        and labels.shape == (count,)
        and wide
    )
