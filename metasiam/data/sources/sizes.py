"""What sizes pictures have, from the beginnings of their files, and which one suits them all."""

from __future__ import annotations

import statistics
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import ExifTags

from metasiam.data.sources.pictures import opened
from metasiam.progress import Listener
from metasiam.runs.reading import open_regular
from metasiam.wording import counted, listed

_USUAL = (84, 64, 32, 28)  # that embedders are trained on; 224 is there to be asked for: it takes hours
_LEAST = 4
_LYING = range(5, 9)  # orientation tags of pictures that are turned by a right angle


def sizes_of(paths: Sequence[Path], listener: Listener) -> Counter[tuple[int, int]]:
    """Count the widths and heights of pictures, upright; those that cannot be read are left out."""
    found: Counter[tuple[int, int]] = Counter()
    for done, path in enumerate(paths, 1):
        try:
            with warnings.catch_warnings(), open_regular(path) as file, opened(file) as image:
                turned = image.getexif().get(ExifTags.Base.Orientation) in _LYING
                found[image.size[::-1] if turned else image.size] += 1
        except Exception:
            continue
        listener.progress("looking at sizes", done, len(paths))
    return found


def suited(sizes: Counter[tuple[int, int]]) -> int:
    """Return the ``--image-size`` for pictures of such sizes: a usual one that most need not be enlarged to."""
    shorter = int(statistics.median_low(min(size) for size in sizes.elements()))
    return next((size for size in _USUAL if size <= shorter), max(shorter, _LEAST))


def in_words(sizes: Counter[tuple[int, int]]) -> str:
    """Say how many pictures have which sizes: ``20 of 40x30, 4 of 30x40 pixels (width x height)``."""
    which = listed([f"{count:,} of {width}x{height}" for (width, height), count in sizes.most_common()])
    return f"{counted(len(sizes), 'size')}: {which} pixels (width x height)"
