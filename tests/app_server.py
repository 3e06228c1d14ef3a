"""Runs the drawing app for tests, on a free port in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from metasiam.app.server import build_app, configured, open_socket
from metasiam.app.studio import Studio


@contextmanager
def served(studio: Studio) -> Iterator[str]:
    """Serve the app while the block runs; give its address."""
    import uvicorn

    opened = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(configured(build_app(studio)))
    server.install_signal_handlers = lambda: None  # older versions call it, also in a thread
    started = threading.Event()
    thread = threading.Thread(target=lambda: (started.set(), server.run(sockets=[opened])), daemon=True)
    thread.start()
    started.wait()
    while not server.started and thread.is_alive():
        threading.Event().wait(0.02)
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        opened.close()
