"""``metasiam draw``: the drawing app in the browser."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from metasiam.cli import own_pictures as o
from metasiam.cli.terminal import terminal
from metasiam.progress import Listener


def command(
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Run folder or weights file.", show_default="a small one that is included"),
    ] = None,
    arch: Annotated[str | None, typer.Option("--arch", help="Architecture, for weights that do not say it.")] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; any other address than this lets other machines in.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option("--port", help="Port; 0 picks a free one.")] = 7860,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    device: o.Device = "auto",
) -> None:
    """Draw two symbols and see whether they are the same; or invent some, and have new drawings recognised.

    Everything stays on this machine: nothing is downloaded or sent anywhere. Ctrl-C ends it.

    Example: [bold]metasiam draw --weights runs/mnist[/bold]
    """
    from metasiam.options.paths import check_weights

    if weights is not None:
        check_weights(weights)
    # torch only now, when what was given can work.
    from metasiam.app.opening import open_studio
    from metasiam.app.server import build_app, open_socket, serve
    from metasiam.progress_lines import lines

    console = terminal(highlight=False, soft_wrap=True)
    opened = open_socket(host, port)
    try:
        with lines(console) as shown:
            studio = open_studio(weights, arch=arch, device=device, listener=shown)
        build_app(studio, host=host)  # complains about a missing package before anything is promised
        serve(studio, opened, host=host, listener=_Opening(console, browser=browser))
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
