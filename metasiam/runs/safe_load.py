"""Reading PyTorch files that anyone may have made, without running anything that is in them."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from metasiam.runs.reading import check_regular

#: How a file of torch.save begins: a zip archive, or before torch 1.6 a pickle.
_STARTS = (b"PK", b"\x80")


class UnsafeOrDamaged(Exception):
    """The file is not a complete PyTorch file of plain tensors and values; the text says why, in one line."""


def load_plain(path: Path) -> Any:
    """Load a file of tensors, numbers, strings, lists and dicts onto the CPU (``weights_only=True``).

    Raises:
        UnsafeOrDamaged: if it is truncated, of another format, or a pickle with code in it (which is not run).
        OSError: if it cannot be read at all.
    """
    check_regular(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files of other versions; what matters is raised
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # foreign bytes make the reader fail in any way it likes
        with open(path, "rb") as file:
            begins = file.read(2)
        if not begins.startswith(_STARTS):
            raise UnsafeOrDamaged("not a PyTorch file") from error
        if isinstance(error, pickle.UnpicklingError):
            raise UnsafeOrDamaged("damaged, or a pickle with code in it, which is never run") from error
        lines = str(error).splitlines()
        raise UnsafeOrDamaged(f"not a whole PyTorch file: {lines[0] if lines else type(error).__name__}") from error
