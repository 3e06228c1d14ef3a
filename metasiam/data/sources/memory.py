"""Check that decoded images fit into memory, before the operating system kills the process."""

from __future__ import annotations

import os
from pathlib import Path

from metasiam.errors import MetaSiamError
from metasiam.wording import counted

# What a container may take and takes, in the two layouts that Linux has.
_CONTAINER_LIMITS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def need_memory(count: int, height: int, width: int, image_size: int | None) -> None:
    """Refuse images that would take more than half of the free memory: packing them takes as much again.

    Args:
        count: how many images.
        height: of each, in pixels.
        width: of each, in pixels.
        image_size: what was asked for, for the advice.

    Raises:
        MetaSiamError: saying how much they need and how to need less.
    """
    free = free_memory()
    needed = 3 * count * height * width
    if free is None or needed <= free / 2:
        return
    advice = (
        "Pass --image-size to shrink them, e.g. --image-size 84 or 224."
        if image_size is None
        else f"Lower --image-size {image_size}."
    )
    raise MetaSiamError(
        f"{counted(count, 'picture')} of {width}x{height} pixels take {2 * needed / 1e9:.3g} GB of memory to prepare "
        f"and {free / 1e9:.3g} GB are free. {advice}"
    )


def need_bytes(what: str, needed: int) -> None:
    """Refuse arrays that would take more than half of the free memory: using them takes as much again.

    Raises:
        MetaSiamError: saying how much they need.
    """
    free = free_memory()
    if free is not None and needed > free / 2:
        raise MetaSiamError(
            f"{what} holds arrays of {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB of memory are free. Use fewer "
            "pictures, or smaller ones."
        )


def free_memory() -> int | None:
    """Return how many bytes of memory this process may still take, or None where the system does not say."""
    found = []
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        try:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, ValueError, OSError):
            return None
    for folder, limit, used in _CONTAINER_LIMITS:
        try:
            most, taken = (int(Path(folder, name).read_text("ascii")) for name in (limit, used))
            stat = dict(line.split() for line in Path(folder, "memory.stat").read_text("ascii").splitlines())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        # Files that were read are kept as long as nobody needs the memory.
        kept = sum(int(stat.get(name, 0)) for name in ("active_file", "inactive_file"))
        found.append(most - taken + kept)
    return max(min(found), 0) if found else None
