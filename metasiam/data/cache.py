"""Packed domain sets on disk: decoded once, then mapped into memory.

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

from metasiam.atomic import atomically
from metasiam.data.domains import DomainSet
from metasiam.data.preparation import Preparation
from metasiam.progress import Report, note, quiet
from metasiam.reading import check_regular

_LAYOUT = 2  # raise it when the file's layout changes


def digest(*parts: object) -> str:
    """Return a short hash of values with a stable text form (strings, numbers, lists of them)."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def cached(path: Path, key: str, build: Callable[[], DomainSet], *, source: str, report: Report = quiet) -> DomainSet:
    """Return the domain set packed in ``path`` when it was made from ``key``, else build and pack it.

    Args:
        path: the cache file; replaced atomically when its key is another or it is damaged.
        key: a hash of everything that the domain set depends on.
        build: makes the domain set when there is no valid cache file.
        source: the domain set's ``source``.
        report: told when the cache cannot be written, which is not an error.
    """
    packed = _read(path, key, source)
    if packed is not None:
        return packed
    built = replace(build(), source=source)
    try:
        _write(path, key, built)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        note(report, f"{path.parent} cannot be written ({reason}): decoded images are not kept")
    return built


def _read(path: Path, key: str, source: str) -> DomainSet | None:
    try:
        check_regular(path)
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata() or {}
            if about.get("key") != key or about.get("layout") != str(_LAYOUT):
                return None
            names = tuple(json.loads(about["names"]))
            tensors = {name: file.get_tensor(name) for name in ("images", "labels", "is_test")}
            stored = json.loads(about["preparation"])
        how = None if stored is None else Preparation.from_dict(stored)
        domains = DomainSet(tensors["images"], tensors["labels"], names, tensors["is_test"].bool(), source, how)
        # Hashing also brings the pages in, and the fingerprint is wanted by every run anyway.
        return domains if domains.fingerprint == about.get("fingerprint") else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, key: str, domains: DomainSet) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # is_test goes in as bytes: safetensors then puts the int64 labels first and the images right behind,
    # at an offset that eight-byte views of the rows need.
    tensors = {
        "images": domains.images.contiguous(),
        "labels": domains.labels,
        "is_test": domains.is_test.to(torch.uint8),
    }
    about = {
        "key": key,
        "layout": str(_LAYOUT),
        "names": json.dumps(domains.names),
        "preparation": json.dumps(None if domains.preparation is None else domains.preparation.as_dict()),
        "fingerprint": domains.fingerprint,
    }
    with atomically(path) as partial:
        save_file(tensors, partial, metadata=about)
