"""Listens: one process, one event loop, until it is interrupted."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

import uvicorn

from giemsa.errors import UsageError
from giemsa.web.app import create_app
from giemsa.web.logs import set_up_logging
from giemsa.web.protocol import HEADERS_S, MAX_CONNECTIONS, MAX_HEADER_BYTES, STALLED_S, bounded_protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from giemsa.web.settings import Settings

_LAST_S: Final = 10
"""How long requests under way may take when the server is stopped."""


def serve(settings: Settings, *, ready: Callable[[str], None] = lambda _url: None) -> None:
    """Serve until SIGINT or SIGTERM.

    Parameters
    ----------
    settings : Settings
        What the server is told.
    ready : callable
        Told the address when requests are taken.

    Raises
    ------
    UsageError
        If it cannot listen there.
    """
    set_up_logging()
    try:
        Server(settings, ready=ready).run()
    except KeyboardInterrupt:  # how it is ended
        return


class Server:
    """A server that listens already, and answers once it runs.

    Parameters
    ----------
    settings, ready
        As `serve` takes them.

    Attributes
    ----------
    url : str
        Its address.
    """

    def __init__(self, settings: Settings, *, ready: Callable[[str], None] = lambda _url: None) -> None:
        self._listener = _listen(settings.host, settings.port)
        self.url = _url(settings.host, self._listener.getsockname()[1])
        config = uvicorn.Config(
            create_app(settings),
            log_config=None,
            access_log=False,
            server_header=False,
            http=bounded_protocol(most=_connections(), headers_s=HEADERS_S, stalled_s=STALLED_S),
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            timeout_keep_alive=HEADERS_S,
            timeout_graceful_shutdown=_LAST_S,
            ws="none",
            lifespan="on",
        )
        self._server = _Uvicorn(config, lambda: ready(self.url))

    def run(self) -> None:
        """Answer until SIGINT, SIGTERM or `stop`."""
        with self._listener:
            asyncio.run(self._server.serve(sockets=[self._listener]))

    def stop(self) -> None:
        """Let requests under way end, and then `run`; to be called from another thread."""
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    """Says when it takes requests."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _connections() -> int:
    """Count the connections that there may be: half of the files that this process may open, at most."""
    try:
        import resource
    except ImportError:  # not every system has such a limit
        return MAX_CONNECTIONS
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(MAX_CONNECTIONS, files // 2))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        # asyncio sends small answers at once (TCP_NODELAY) only where a socket says that it is TCP
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror or error}; name another --port or "
                         "--host, or end what listens there") from error  # fmt: skip
    return listener


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"
