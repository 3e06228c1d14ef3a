"""Packed images on disk: decoded once, then mapped into memory.

A cache file is a safetensors file (no code can hide in it) that names what it was made from and
carries the fingerprint of what it holds, so a stale, damaged or foreign one is noticed and made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metasiam.data.domains import DomainSet
from metasiam.data.preparation import Preparation
from metasiam.errors import MetaSiamError
from metasiam.progress import SILENT, Listener
from metasiam.runs.atomic import atomically
from metasiam.runs.reading import check_regular
from metasiam.shapes import parse_json

_LAYOUT = 3  # raise it when the file's layout changes


def digest(*parts: object) -> str:
    """Return a short hash of values with a stable text form (strings, numbers, lists of them)."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def cached(
    path: Path, key: str, build: Callable[[], DomainSet], *, source: str, listener: Listener = SILENT
) -> DomainSet:
    """Return the domain set packed in ``path`` when it was made from ``key``, else build and pack it.

    Args:
        path: the cache file; replaced atomically when its key is another or it is damaged.
        key: a hash of everything that the domain set depends on.
        build: makes the domain set when there is no valid cache file.
        source: the domain set's ``source``.
        listener: told when the cache cannot be written, which is not an error.
    """
    packed = _read(path, key, source)
    if packed is not None:
        return packed
    built = replace(build(), source=source)
    # is_test goes in as bytes: safetensors then puts the int64 labels first and the images right behind,
    # at an offset that eight-byte views of the rows need.
    tensors = {"images": built.images, "labels": built.labels, "is_test": built.is_test.to(torch.uint8)}
    about = {
        "names": json.dumps(built.names),
        "preparation": json.dumps(None if built.preparation is None else built.preparation.as_dict()),
        "fingerprint": built.fingerprint,
    }
    pack(path, key, tensors, about, listener)
    return built


def _read(path: Path, key: str, source: str) -> DomainSet | None:
    try:
        found = unpack(path, key)
        if found is None:
            return None
        tensors, about = found
        names, stored = tuple(parse_json(about["names"])), parse_json(about["preparation"])
        how = None if stored is None else Preparation.from_dict(stored)
        domains = DomainSet(tensors["images"], tensors["labels"], names, tensors["is_test"].bool(), source, how)
        # Hashing also brings the pages in, and the fingerprint is wanted by every run anyway.
        return domains if domains.fingerprint == about["fingerprint"] else None
    except (ValueError, KeyError, TypeError, AttributeError, MetaSiamError):
        return None


def cached_images(
    path: Path, key: str, build: Callable[[], tuple[Tensor, Preparation]], *, listener: Listener = SILENT
) -> tuple[Tensor, Preparation]:
    """Return the images packed in ``path``, uint8 [N, C, H, W], and how they were prepared, as ``cached`` does."""
    packed = _read_images(path, key)
    if packed is not None:
        return packed
    images, how = build()
    about = {"preparation": json.dumps(how.as_dict()), "fingerprint": fingerprint_of(images)}
    pack(path, key, {"images": images}, about, listener)
    return images, how


def _read_images(path: Path, key: str) -> tuple[Tensor, Preparation] | None:
    try:
        found = unpack(path, key)
        if found is None:
            return None
        images, about = found[0]["images"], found[1]
        how = Preparation.from_dict(parse_json(about["preparation"]))
        return (images, how) if fingerprint_of(images) == about["fingerprint"] else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def fingerprint_of(images: Tensor) -> str:
    """Return a short hash of images: equal pixels of equal shape and type, equal fingerprint."""
    about = f"{images.dtype} {tuple(images.shape)}".encode()
    hashed = hashlib.blake2b(about, digest_size=16)
    hashed.update(images.contiguous().numpy().data)
    return hashed.hexdigest()


def unpack(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Return the tensors and texts of a cache file; None where it is none, made from another key, or damaged texts.

    Whether the tensors are what they were is for the caller's fingerprint to say, which is one of the texts.
    """
    try:
        check_regular(path)
        with safe_open(str(path), framework="pt") as file:
            about = dict(file.metadata() or {})
            if about.pop("seal", None) != digest(about) or (about["key"], about["layout"]) != (key, str(_LAYOUT)):
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def pack(path: Path, key: str, tensors: dict[str, Tensor], about: dict[str, str], listener: Listener) -> None:
    """Write a cache file whole or not at all; what keeps it from being written is a note."""
    texts = {**about, "key": key, "layout": str(_LAYOUT)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomically(path) as partial:
            contiguous = {name: value.contiguous() for name, value in tensors.items()}
            save_file(contiguous, partial, metadata={**texts, "seal": digest(texts)})
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        listener.note(f"{path.parent} cannot be written ({reason}): decoded images are not kept")
