"""Compile ``fused.cpp`` for this processor and load it."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

#: OpenMP's functions are left to be found in this process: a second OpenMP library would bring threads of its own,
#: which wait busily and take the cores from PyTorch's.
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-fopenmp", "-Wno-unknown-pragmas")
_loaded: ctypes.CDLL | None = None


def compiler() -> str | None:
    """Return g++ where it can build the kernels, else None.

    Only on Linux and only g++: other compilers need another OpenMP library than the one that PyTorch has loaded.
    """
    return shutil.which("g++") if sys.platform.startswith("linux") else None


@functools.cache
def library() -> ctypes.CDLL | None:
    """Build and load the kernels (a second or two, once a process); None where that does not work.

    Without them everything computes the same in plain PyTorch, slower.
    """
    global _loaded
    found = compiler()
    if found is None:
        return None
    with tempfile.TemporaryDirectory(prefix="metasiam-kernels-") as folder:
        compiled, linked = Path(folder) / "fused.o", Path(folder) / "fused.so"
        source = Path(__file__).with_name("fused.cpp")
        try:
            for arguments in (
                [found, *_FLAGS, "-c", str(source), "-o", str(compiled)],
                [found, "-shared", str(compiled), "-o", str(linked)],
            ):
                subprocess.run(arguments, check=True, capture_output=True, timeout=120)
            _loaded = ctypes.CDLL(str(linked))
        except (OSError, subprocess.SubprocessError):
            return None
    for name in ("forward", "backward", "pictures"):
        getattr(_loaded, f"metasiam_{name}").restype = None
    return _loaded


def loaded() -> ctypes.CDLL | None:
    """Return the kernels if this process has built them already."""
    return _loaded


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """Return where a tensor's numbers are, for a kernel."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def lowered(tensor: Tensor) -> ctypes.c_int:
    """Return 1 for bfloat16 and 0 for float32, the two types that the kernels know."""
    return ctypes.c_int(tensor.dtype == torch.bfloat16)


def threads() -> ctypes.c_int:
    """Return how many threads a kernel should take: PyTorch's number."""
    return ctypes.c_int(torch.get_num_threads())
