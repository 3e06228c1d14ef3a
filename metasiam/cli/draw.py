"""``metasiam draw``: the drawing app in the browser."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from metasiam.cli import groups
from metasiam.cli.terminal import terminal
from metasiam.options.flags import Flags, takes
from metasiam.options.gallery import DrawOptions, GalleryOptions
from metasiam.progress import Listener


@takes(
    Flags(GalleryOptions, "embedder", only=("weights", "arch"), defaults={"weights": "a small one that is included"}),
    Flags(DrawOptions, "app"),
    groups.MACHINE,
)
def command(embedder: dict[str, Any], app: dict[str, Any], machine: dict[str, Any]) -> None:
    """Draw two symbols and see whether they are the same; or invent some, and have new drawings recognised.

    Everything stays on this machine: nothing is downloaded or sent anywhere. Ctrl-C ends it.

    \b
    Examples:
      metasiam draw
      metasiam draw --weights runs/mnist
    """
    from metasiam.app.opening import open_studio
    from metasiam.app.server import build_app, open_socket, serve
    from metasiam.progress_lines import lines

    console, where = terminal(highlight=False, soft_wrap=True), DrawOptions(**app)
    opened = open_socket(where.host, where.port)
    try:
        with lines(console) as shown:
            studio = open_studio(**embedder, **machine, listener=shown)
        build_app(studio, host=where.host)  # complains about a missing package before anything is promised
        serve(studio, opened, host=where.host, listener=_Opening(console, browser=where.browser))
    finally:
        opened.close()


class _Opening(Listener):
    """Says where the page is once it answers, and opens it."""

    def __init__(self, console: Console, *, browser: bool) -> None:
        self.console, self.browser = console, browser

    def started(self, config: dict[str, Any]) -> None:
        import webbrowser

        self.console.print(f"drawing app on {config['url']} (Ctrl-C ends it)")
        if self.browser:
            webbrowser.open(config["url"])
