"""Checkpoints that survive a kill at any moment, and cannot run code when they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from metasiam.errors import MetaSiamError
from metasiam.runs.atomic import atomically
from metasiam.runs.safe_load import UnsafeOrDamaged, load_plain
from metasiam.shapes import CHECKPOINT, check

_SCHEMA = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) so that ``path`` is always a whole file.

    Raises:
        OSError: naming ``path``, if it cannot be written; what was there stays.
    """
    with atomically(path) as partial, open(partial, "wb") as file:
        torch.save({"schema": _SCHEMA, **state}, file)
        file.flush()
        os.fsync(file.fileno())


def is_finite(state: Any) -> bool:
    """Tell whether every tensor in a state, however nested, holds finite numbers; waits once for each device."""
    found: dict[torch.device, list[torch.Tensor]] = {}
    waiting = [state]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            found.setdefault(value.device, []).append(value.detach().isfinite().all())
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    return all(bool(torch.stack(flags).all()) for flags in found.values())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, with ``weights_only=True``.

    Raises:
        MetaSiamError: if it is missing, truncated, not a checkpoint of ours, or holds code.
    """
    if not path.exists():
        raise MetaSiamError(f"{path} does not exist: nothing was saved yet. Start the run again with --overwrite.")
    try:
        state = load_plain(path)
    except (UnsafeOrDamaged, OSError) as error:
        raise MetaSiamError(f"{path} cannot be read ({error}). Start again with --overwrite.") from error
    if not isinstance(state, dict) or state.get("schema") != _SCHEMA or "learner" not in state:
        raise MetaSiamError(f"{path} is not a checkpoint of this metasiam. Pass a run folder made by it.")
    try:
        check(state, CHECKPOINT)
    except ValueError as error:
        raise MetaSiamError(f"{path} is damaged: {error}. Start again with --overwrite.") from error
    return state
