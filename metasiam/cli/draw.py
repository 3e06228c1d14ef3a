"""``metasiam draw``: the drawing app in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from metasiam.cli import own_pictures as o
from metasiam.cli.terminal import terminal


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
    import webbrowser

    from metasiam.app.opening import open_studio
    from metasiam.app.server import build_app, open_socket, serve
    from metasiam.cli.progress import lines

    console = terminal(highlight=False, soft_wrap=True)
    opened = open_socket(host, port)
    try:
        with lines(console) as shown:
            studio = open_studio(weights, arch=arch, device=device, report=shown.update, note=shown.say)
        build_app(studio, host=host)  # complains about a missing package before anything is promised
        shown_host = f"[{host}]" if ":" in host else host
        url = f"http://{shown_host}:{opened.getsockname()[1]}"

        def ready() -> None:
            console.print(f"drawing app on {url} (Ctrl-C ends it)")
            if browser:
                webbrowser.open(url)

        serve(studio, opened, host=host, ready=ready)
    finally:
        opened.close()
