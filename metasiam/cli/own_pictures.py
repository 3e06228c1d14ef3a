"""What enroll, identify and match have in common: options, progress, and saying what could not be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from metasiam.errors import MetaSiamError

if TYPE_CHECKING:
    from metasiam.gallery.pictures import Embedded

DEFAULT_GALLERY = Path("gallery.safetensors")

GalleryFile = Annotated[Path, typer.Option("--gallery", help="The gallery file.")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", help="Run folder or weights file.", show_default="the gallery's"),
]
Arch = Annotated[
    str | None,
    typer.Option("--arch", help="For weights that do not say it; resnet18-imagenet needs no --weights."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]

_NAMED = 5  # unreadable pictures that get a line of their own


def on_device(embedder: Any, device: str) -> Any:
    """Bring an embedder to the device that the option names."""
    from metasiam.training.machine import choose_device

    return embedder.to(choose_device(device))


def embedded(embedder: Any, info: Any, paths: list[Path], *, mirror: bool) -> Embedded:
    """Embed pictures with progress on stderr, and name there the first that cannot be read and how many they are.

    Raises:
        MetaSiamError: if none can be read.
    """
    from metasiam.cli.progress import lines
    from metasiam.gallery.pictures import embed_pictures

    console = Console(stderr=True)
    with lines(console) as shown:
        result = embed_pictures(embedder, info, paths, mirror=mirror, report=shown.update)
    if not result.paths:
        path, reason = result.unreadable[0]
        if len(paths) == 1:
            raise MetaSiamError(f"{path} cannot be read ({reason}). Give another picture.")
        raise MetaSiamError(f"none of the {len(paths):,} pictures can be read, e.g. {path} ({reason}). Give others.")
    for path, reason in result.unreadable[:_NAMED]:
        say(f"metasiam: {path} cannot be read ({reason}): left out")
    for text in result.notes:
        say(f"note: {text}")
    if len(result.unreadable) > 1:
        say(f"metasiam: {len(result.unreadable):,} of {len(paths):,} pictures could not be read")
    return result


def say(text: str) -> None:
    """Print a line on stderr: stdout is for answers."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(escape(text))


def note(text: str) -> None:
    """Print what somebody should know as a line of its own on stderr."""
    say(f"note: {text}")


def printable(text: str, encoding: str = "utf-8") -> str:
    """Return text that an encoding can hold: what it cannot becomes an escape, a file name's odd byte ``\\udcff``."""
    return text.encode(encoding, "backslashreplace").decode(encoding)
