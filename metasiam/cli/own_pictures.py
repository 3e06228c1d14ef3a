"""What enroll, identify and match have in common: options, progress, and saying what could not be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from metasiam.cli.terminal import terminal
from metasiam.progress import Listener

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
    typer.Option("--arch", help="Architecture, for weights that do not say it; timm:NAME.TAG needs no --weights."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]

_NAMED = 5  # unreadable pictures that get a line of their own


def on_device(embedder: Any, device: str) -> Any:
    """Bring an embedder to the device that the option names."""
    from metasiam.training.machine import choose_device

    return embedder.to(choose_device(device))


def embedded(embedder: Any, info: Any, paths: list[Path], *, mirror: bool, answer_blank: bool = False) -> Embedded:
    """Embed pictures with progress on stderr, and say there which are left out and how many they are.

    Args:
        embedder: in eval mode.
        info: of the embedder.
        paths: the pictures.
        mirror: as for ``embed_pictures``.
        answer_blank: whether pictures of one colour get an answer of their own, so that they are no reason to stop.

    Raises:
        MetaSiamError: if none can be read, or none has something on it.
    """
    from metasiam.gallery.pictures import BLANK, embed_pictures
    from metasiam.progress_lines import lines

    console = terminal(stderr=True)
    with lines(console) as shown:
        result = embed_pictures(embedder, info, paths, mirror=mirror, listener=shown)
    for text in result.notes:
        note(text)
    result.check_some(answer_blank=answer_blank)
    for path, reason in result.unreadable[:_NAMED]:
        say(f"metasiam: {path} cannot be read ({reason}): left out")
    if len(result.unreadable) > 1:
        say(f"metasiam: {len(result.unreadable):,} of {len(paths):,} pictures could not be read")
    if result.blank and not answer_blank:
        many = len(result.blank) > 1
        said = f"{len(result.blank):,} pictures have nothing on them (one colour), e.g. " if many else ""
        say(f"metasiam: {said}{result.blank[0]}{'' if many else ' has ' + BLANK}: left out")
    return result


def say(text: str) -> None:
    """Print a line on stderr: stdout is for answers."""
    terminal(stderr=True, highlight=False, soft_wrap=True).print(escape(text))


def note(text: str) -> None:
    """Print what somebody should know as a line of its own on stderr."""
    say(f"note: {text}")


class Notes(Listener):
    """Prints notes on stderr."""

    def note(self, text: str) -> None:
        note(text)


def printable(text: str, encoding: str = "utf-8") -> str:
    """Return text that an encoding can hold: what it cannot becomes an escape, a file name's odd byte ``\\udcff``."""
    return text.encode(encoding, "backslashreplace").decode(encoding)
