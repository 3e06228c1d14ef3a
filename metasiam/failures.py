"""What a computer lacks when work fails that no bug and no bad input broke, in one line."""

from __future__ import annotations

import os

from metasiam.runs.atomic import storage_error, trouble

_OUT_OF_MEMORY = (
    "there is not enough memory for this. Lower --batch-size, --image-size or --pairs; a saved run continues "
    "with --resume."
)


def in_a_line(error: Exception) -> str | None:
    """Return the line for an error that is no bug: memory, disk, or a name that is no text; None for others."""
    if _is_out_of_memory(error):
        return _OUT_OF_MEMORY
    if (found := storage_error(error)) is not None:
        reason, remedy = trouble(found)
        where = os.fsdecode(found.filename) if found.filename is not None else "the output"
        verb = "used" if isinstance(found, PermissionError) else "written"  # a file to read, perhaps
        return f"{where} cannot be {verb}: {reason}. {remedy}, then try again; a saved run continues with --resume."
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        begin = max(error.object.rfind(mark, 0, error.start) for mark in '"\n,') + 1
        name = error.object[begin : error.end + 40].splitlines()[0].split('"')[0]
        return f"the name {name} has bytes that are not UTF-8 and cannot be stored. Rename it, then try again."
    return None


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether numpy, torch on the CPU or torch on a GPU could not get the memory that it asked for."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator: can't allocate memory" in str(error)
        or "DefaultCPUAllocator: not enough memory" in str(error)
    )
