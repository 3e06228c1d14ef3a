"""How long the drawing app waits for a browser, and how many requests it works on at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

HEAD_SECONDS = 15.0  #: from opening a connection, or the first byte of a further request, to the end of its head
BLOCK_SECONDS = 15.0  #: without a single byte of a request's body
BODY_SECONDS = 120.0  #: for the whole body
#: Bodies held in memory, and answers computed: more requests than that wait, unread.
BODIES, ANSWERS = 8, 2


async def in_time(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass a request's body on, block by block.

    Raises:
        TimeoutError: if nothing comes for ``BLOCK_SECONDS``, or the end not within ``BODY_SECONDS``.
    """
    clock = asyncio.get_running_loop()
    end = clock.time() + BODY_SECONDS
    while True:
        left = min(BLOCK_SECONDS, end - clock.time())
        try:
            yield await asyncio.wait_for(anext(stream), left)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError as error:  # before Python 3.11 not yet the same
            raise TimeoutError from error


def patient_protocol() -> Any:
    """Return uvicorn's HTTP protocol, closing connections on which no request arrives within ``HEAD_SECONDS``.

    By itself uvicorn waits for ever for the head of a request that was begun, and on connections that send nothing.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class PatientProtocol(H11Protocol):
        _giving_up: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._giving_up is not None:
                self._giving_up.cancel()
            super().connection_lost(exc)

        def _watch(self) -> None:
            wanting = self.cycle is None or self.cycle.response_complete
            if wanting and self._giving_up is None:
                self._giving_up = self.loop.call_later(HEAD_SECONDS, self.transport.close)
            elif not wanting and self._giving_up is not None:
                self._giving_up.cancel()
                self._giving_up = None

    return PatientProtocol
