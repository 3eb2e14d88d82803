"""HTTP/1.1 as uvicorn speaks it, with limits on what comes before a request is one.

A connection that sends no whole headers, or does not read its answer, is closed after a while; where there are as many
connections as there may be, that which has waited longest for headers makes room for a new one. Headers are bounded
in size by h11, which is why it and not httptools takes them apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from giemsa.web.problems import problem

if TYPE_CHECKING:
    import asyncio

MAX_HEADER_BYTES: Final = 32_768
HEADERS_S: Final = 20
"""How long headers may take, and how long a connection is kept without a request."""
STALLED_S: Final = 60
"""How long an answer may wait for a caller who does not read it."""
MAX_CONNECTIONS: Final = 1_000


def bounded_protocol(*, most: int, headers_s: float, stalled_s: float) -> type[H11Protocol]:
    """Class of the connections of one server, which know of each other."""
    waiting: dict[H11Protocol, asyncio.TimerHandle] = {}  # for headers; the one that waits longest comes first

    class Bounded(H11Protocol):
        _stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > most:
                next(iter(waiting), self).transport.abort()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._forget()
            self._read_again()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled = self.loop.call_later(stalled_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._read_again()

        def send_400_response(self, msg: str) -> None:
            """Answer what is no HTTP, or has headers that are too large, as a problem."""
            answer = problem(400, f"this is no HTTP/1.1, or its headers have more than {MAX_HEADER_BYTES:,} bytes")
            headers = [*answer.raw_headers, (b"connection", b"close")]
            events: list[Any] = [h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                                 h11.Data(data=bytes(answer.body)), h11.EndOfMessage()]  # fmt: skip
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def _watch(self) -> None:
            if self.conn.their_state is not h11.IDLE:
                self._forget()
            elif self not in waiting:
                waiting[self] = self.loop.call_later(headers_s, self.transport.close)

        def _forget(self) -> None:
            timer = waiting.pop(self, None)
            if timer is not None:
                timer.cancel()

        def _read_again(self) -> None:
            if self._stalled is not None:
                self._stalled.cancel()
                self._stalled = None

    return Bounded
