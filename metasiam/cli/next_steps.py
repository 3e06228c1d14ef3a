"""The last line of a command: what to do next, in minutes on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metasiam.progress_lines import in_words

if TYPE_CHECKING:
    from rich.console import Console

    from metasiam.data.domains import DomainSet
    from metasiam.options.data import DataOptions

#: A larger side of images makes the quick methods take longer than minutes on a CPU.
_LARGE, _SMALL = 64, 32
#: Domains that are held out, and as many for validation, where there are enough.
_HELD_OUT = 10


def next_line(words: Sequence[str], why: str = "") -> str:
    """Return ``next:`` and a command as a shell takes it, with what it is for."""
    return f"next: {shlex.join(words)}" + (f"   ({why})" if why else "")


def say_next(console: Console, words: Sequence[str], why: str = "") -> None:
    """Print what to do next as one line that can be pasted."""
    console.print(next_line(words, why), highlight=False, markup=False, soft_wrap=True)


#: What the pictures of ``recognise`` are for.
YOUR_OWN = "your own pictures: DIR/<name>/*.jpg"


def recognise(weights: Path, data: str | None = None, arch: str | None = None) -> list[str]:
    """Return the command that names one's own pictures with trained weights.

    Args:
        weights: a run or a weights file.
        data: what it was trained on; a folder of pictures is enrolled itself.
        arch: of weights that do not say it.
    """
    kind, _, path = str(data or "").partition(":")
    pictures = path if kind == "folder" and path else "DIR"
    return ["metasiam", "enroll", pictures, "--weights", str(weights), *([] if arch is None else ["--arch", arch])]


def after_quick(*, on_cpu: bool, seeds: str | None, seconds: float) -> str:
    """Return what to do after the quick comparison.

    Args:
        on_cpu: whether the methods were trained on one.
        seeds: ``--seeds`` as it was given.
        seconds: what this comparison took.
    """
    if not on_cpu:
        return next_line(
            ["metasiam", "compare", "--preset", "quick", "--data", "cifar100"], "photographs: minutes on this GPU"
        )
    if seeds is None:
        return next_line(
            ["metasiam", "compare", "--preset", "quick", "--seeds", "0,1,2"],
            f"three trainings each show what is chance: about {in_words(3 * seconds)} here",
        )
    return next_line(
        ["metasiam", "compare", "--preset", "quick", "--data", "folder:PATH"],
        f"your own pictures, one folder for each class: about {in_words(seconds / len(seeds.split(',')))} here",
    )


def compare_on(source: str, domains: DomainSet, options: DataOptions, *, several_sizes: bool) -> list[str] | None:
    """Return the quick comparison on data that were looked at, split so that they are enough; None if they are not.

    Args:
        source: what ``--data`` takes.
        domains: the data.
        options: how they were loaded and split.
        several_sizes: whether the pictures differ in size, so that one must be given.
    """
    split: list[str] = []
    if options.split is not None:
        split = ["--split", options.split]
    elif domains.own_split is None or options.held_out is not None:
        fair = min(_HELD_OUT, len(domains.names) // 4)
        held_out = fair if options.held_out is None else options.held_out
        validation = fair if options.validation is None else options.validation
        if held_out < 2 or len(domains.names) - held_out - validation < 2:
            return None
        if (held_out, validation) != (_HELD_OUT, _HELD_OUT):
            split = ["--held-out", str(held_out), "--validation", str(validation)]
    large = max(domains.image_size) > _LARGE and options.image_size is None
    size = _SMALL if large else domains.image_size[0] if several_sizes else options.image_size
    return [
        *("metasiam", "compare", "--preset", "quick", "--data", source, *split),
        *([] if options.data_dir is None else ["--data-dir", str(options.data_dir)]),
        *([] if not isinstance(size, int) else ["--image-size", str(size)]),
        *(["--skip-unreadable"] if options.skip_unreadable else []),
    ]
