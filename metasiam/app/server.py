"""The page and its answers over HTTP, for this machine only unless asked otherwise.

A page of our own on Starlette rather than a Gradio interface: Gradio's drawing component sends pictures, not strokes,
so position, size and pen width could not be taken out exactly; it brings pandas with NumPy 2 and pins Pillow, which
learn2learn and torch's users cannot all follow; and this page needs a few short scripts and one style sheet.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from metasiam.app.drawings import (
    MOST_BYTES,
    MOST_DRAWINGS,
    MOST_SYMBOLS,
    SIDE,
    read_drawing,
    read_symbol_file,
    read_symbols,
    symbols_as_json,
)
from metasiam.app.patience import ANSWERS, BODIES, in_time, patient_protocol
from metasiam.app.studio import Studio
from metasiam.errors import MetaSiamError
from metasiam.progress import SILENT, Listener
from metasiam.shapes import parse_json

_HERE = Path(__file__).parent
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/asking.js": ("asking.js", "text/javascript; charset=utf-8"),
    "/pad.js": ("pad.js", "text/javascript; charset=utf-8"),
    "/pictures.js": ("pictures.js", "text/javascript; charset=utf-8"),
    "/symbols.js": ("symbols.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
#: The browser itself refuses anything that is not from here.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Handler = Callable[[Studio, dict[str, Any]], dict[str, Any]]


def _compare(studio: Studio, request: dict[str, Any]) -> dict[str, Any]:
    first = read_drawing(request.get("first"), "the left pad")
    return studio.compare(first, read_drawing(request.get("second"), "the right pad"))


def _look(studio: Studio, request: dict[str, Any]) -> dict[str, Any]:
    return {"seen": studio.look(read_drawing(request.get("drawing"), "the pad"))}


def _recognise(studio: Studio, request: dict[str, Any]) -> dict[str, Any]:
    query = read_drawing(request.get("query"), "the question's pad")
    return studio.recognise(read_symbols(request.get("symbols")), query, adapted=request.get("adapted") is True)


def _adapt(studio: Studio, request: dict[str, Any]) -> dict[str, Any]:
    return studio.adapt(read_symbols(request.get("symbols")))


def _open_symbols(studio: Studio, request: dict[str, Any]) -> dict[str, Any]:
    text = request.get("text")
    if not isinstance(text, str):
        raise MetaSiamError("there is no symbol file in the request. Open one that was saved here.")
    return {"symbols": symbols_as_json(read_symbol_file(text))}


_ANSWERS: dict[str, Handler] = {
    "/api/compare": _compare,
    "/api/look": _look,
    "/api/recognise": _recognise,
    "/api/adapt": _adapt,
    "/api/symbols": _open_symbols,
}
#: Symbols may take as much as a file of them, and travel with a question or in quotes.
_MOST = {"/api/recognise": MOST_BYTES * 3 // 2, "/api/adapt": MOST_BYTES * 3 // 2, "/api/symbols": MOST_BYTES * 3 // 2}
_LIMITS = {"symbols": MOST_SYMBOLS, "drawings": MOST_DRAWINGS, "side": SIDE}


async def _body(stream: AsyncIterator[bytes], most: int) -> bytes | None:
    """Read a request's body; None where it is longer than ``most`` bytes."""
    body, length = bytearray(), 0
    async for block in in_time(stream):
        length += len(block)
        if length <= most:
            body += block
        elif length > 16 * most:  # up to there it is read, so that the browser listens to the answer
            break
    return bytes(body) if length <= most else None


def _answered(studio: Studio, path: str, body: bytes) -> tuple[int, Any]:
    """Return the status and the answer, or what is wrong."""
    try:
        value = parse_json(body)
    except ValueError:
        return 400, "that is not JSON."
    if not isinstance(value, dict):
        return 400, "that is not a JSON object."
    try:
        return 200, _ANSWERS[path](studio, value)
    except MetaSiamError as error:
        return 422, str(error)


def build_app(studio: Studio, *, host: str = "127.0.0.1") -> Any:
    """Return the ASGI application.

    Args:
        studio: what answers.
        host: the address it will listen on; requests for other host names are refused, so that no web page
            elsewhere can reach it by pointing its own name here.

    Raises:
        MetaSiamError: if Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import ClientDisconnect, Request
        from starlette.responses import JSONResponse, Response
        from starlette.routing import Route
    except ImportError as error:
        raise MetaSiamError(
            "the drawing app needs Starlette and uvicorn. Install them: pip install starlette uvicorn"
        ) from error

    def refuse(status: int, text: str) -> Response:
        return JSONResponse({"error": " ".join(text.split())}, status, headers=_HEADERS)

    async def file(request: Request) -> Response:
        name, kind = _FILES[request.url.path]
        return Response((_HERE / name).read_bytes(), headers={**_HEADERS, "Content-Type": kind})

    async def about(request: Request) -> Response:
        return JSONResponse({**studio.about(), "limits": _LIMITS}, headers=_HEADERS)

    bodies, answers, adapting = asyncio.Semaphore(BODIES), asyncio.Semaphore(ANSWERS), asyncio.Semaphore(1)

    async def answer(request: Request) -> Response:
        # A page from elsewhere cannot send this type without being asked first, and is never allowed to.
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return refuse(415, "send JSON.")
        path = request.url.path
        async with bodies:
            try:
                body = await _body(request.stream(), _MOST.get(path, MOST_BYTES))
            except ClientDisconnect:
                return Response(status_code=400)  # that nobody reads
            except TimeoutError:
                text = "the request did not arrive in time. Try again."
                return JSONResponse({"error": text}, 408, headers={**_HEADERS, "Connection": "close"})
            if body is None:
                most = _MOST.get(path, MOST_BYTES) >> 20
                return refuse(413, f"that is more than {most} MiB. Send smaller or fewer pictures.")
            # Adapting takes seconds: it does not hold up the answers to others.
            async with adapting if path == "/api/adapt" else answers:
                status, value = await run_in_threadpool(_answered, studio, path, body)
        return JSONResponse(value, headers=_HEADERS) if status == 200 else refuse(status, value)

    routes = [Route(path, file) for path in _FILES]
    routes += [Route(path, answer, methods=["POST"]) for path in _ANSWERS]
    routes.append(Route("/api/about", about))
    # Of "[::1]:7860" Starlette compares "[::1]", and older ones what stands before the first colon.
    allowed = ["*"] if host not in _LOOPBACK else [*_LOOPBACK, "[::1]", "["]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=allowed)])


def open_socket(host: str, port: int) -> socket.socket:
    """Bind the address that the page will be served on.

    Raises:
        MetaSiamError: if it is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
    except OSError as error:
        opened.close()
        reason = error.strerror or str(error)
        no_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        again = "Pass --host an address of this machine" if no_host else "Try --port 0 for a free one"
        raise MetaSiamError(f"{host}:{port} cannot be used ({reason}). {again}.") from error
    except OverflowError as error:
        opened.close()
        raise MetaSiamError(f"--port {port} is not between 0 and 65535. Use another, or 0 for a free one.") from error
    return opened


def address(host: str, opened: socket.socket) -> str:
    """Return where a browser finds the page of a bound socket."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{opened.getsockname()[1]}"


def serve(studio: Studio, opened: socket.socket, *, host: str, listener: Listener = SILENT) -> None:
    """Serve the page on a bound socket until Ctrl-C; the listener is told ``{"url"}`` when it answers.

    Raises:
        MetaSiamError: if uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MetaSiamError("the drawing app needs uvicorn. Install it: pip install uvicorn") from error

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            listener.started({"url": address(host, opened)})

    with contextlib.suppress(KeyboardInterrupt):
        Server(configured(build_app(studio, host=host))).run(sockets=[opened])


def configured(app: Any) -> Any:
    """Return uvicorn's settings for the application: quiet, and patient to a point."""
    import uvicorn

    return uvicorn.Config(app, log_level="error", access_log=False, ws="none", http=patient_protocol())
