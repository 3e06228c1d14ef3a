"""What this machine is and how to get speed from it: device, precision, allocator, random streams."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import sys
from typing import Any

import torch

from metasiam.errors import MetaSiamError


def tune_allocator() -> None:
    """Keep glibc's malloc from handing memory back between steps, and let torch ask for huge pages.

    Training frees and takes the same large blocks every step; by default glibc returns them to the kernel each
    time and pays for fresh zeroed pages. Affects only this process, only Linux with glibc, and only how long
    freed memory is kept. Call before the first large tensor.
    """
    # Read by torch's CPU allocator at its first allocation; a value the user set is respected.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl and others
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, (1 << 31) - 1)


def choose_device(name: str) -> torch.device:
    """Return the device that ``--device`` names; ``auto`` prefers cuda, then mps, then cpu.

    Raises:
        MetaSiamError: if that device is not there.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if present[kind])
    if not present.get(name, False):
        raise MetaSiamError(f"--device {name} is not available here. Use --device cpu or auto.")
    return torch.device(name)


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the autocast type: ``auto`` takes bfloat16 where the hardware multiplies it natively."""
    if precision == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = device.type == "cpu" and _cpu_multiplies_bf16()
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _cpu_multiplies_bf16() -> bool:
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported()) if supported is not None else False


def derive_seed(seed: int, *stream: int | str) -> int:
    """Return the seed of an independent random stream, e.g. ``derive_seed(seed, "task", iteration, slot)``.

    Draws that are named by where they belong, rather than taken in turn from one generator, come out the same
    whichever process makes them and after any resume.
    """
    text = "/".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator_for(device: torch.device | str, seed: int, *stream: int | str) -> torch.Generator:
    """Return a generator on ``device`` for the named stream."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *stream))


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what a saved result must say about where it was made: versions, device, threads."""
    import numpy

    from metasiam import __version__

    named = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "metasiam": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": _torchvision_version(),
        "numpy": numpy.__version__,
        "device": device.type,
        "device_name": named,
        "threads": torch.get_num_threads(),
        "platform": platform.system(),
    }


def _torchvision_version() -> str | None:
    """Return it, or None where torchvision is not installed: only its own data and embedders need it."""
    try:
        import torchvision
    except ImportError:
        return None
    return str(torchvision.__version__)
