"""The terminal: what is written there shows names of files and domains, and never obeys them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from metasiam.wording import harmless


class Terminal(Console):
    """A console on which text cannot move the cursor, change colours or turn its own direction."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, every text harmless; rich's own codes stand apart from texts."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


def terminal(**options: Any) -> Console:
    """Return a console to print on; options are rich's."""
    return Terminal(**options)


def say(text: str) -> None:
    """Print a line on stderr: stdout is for answers."""
    terminal(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)
