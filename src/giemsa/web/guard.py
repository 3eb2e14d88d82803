"""What every request passes: its headers, host and origin, the token, security headers, counting, unforeseen errors.

The page needs no cookie: the token is sent in a header that no other site's page can make a browser send. Calls that
change something, or cost something, are besides refused where the browser says that they come from another site. A
server for its own machine only, without a token, answers only to names of this machine, so that no other site can
reach it under a name of its own (DNS rebinding).
"""

from __future__ import annotations

import hmac
import logging
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from giemsa.web.problems import ProblemError, problem_for, unexpected_problem
from giemsa.web.settings import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from giemsa.web.counts import Counts
    from giemsa.web.settings import Settings

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_GUARDED: Final = ("/api/", "/metrics")
_MAX_HEADERS: Final = 100
_MAX_HEADER_BYTES: Final = 16_384
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    # The page runs, shows and fetches what this server serves, and nothing else; what is written into it does nothing.
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    ),
}
_log = logging.getLogger("giemsa.web")


class Guard:
    """An ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, settings: Settings, counts: Counts) -> None:
        self.app = app
        self._settings = settings
        self._counts = counts
        self._token = settings.token.encode() if settings.token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        answer = _Answer(send)
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await problem_for(refusal)(scope, receive, answer.send)
            else:
                await self.app(scope, receive, answer.send)
        except Exception:
            if answer.status:  # begun, so that all that is left is to hang up; uvicorn logs it
                raise
            _log.exception("%s failed", _route(scope))
            await unexpected_problem()(scope, receive, answer.send)
        finally:
            seconds = time.perf_counter() - started
            self._counts.answered(_route(scope), _method(scope), answer.status or 500, seconds)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if len(scope["headers"]) > _MAX_HEADERS or size > _MAX_HEADER_BYTES:
            said = f"there are {len(scope['headers'])} headers of {size:,} bytes; at most {_MAX_HEADERS} of "
            return ProblemError(431, f"{said}{_MAX_HEADER_BYTES:,} bytes are taken", {"Connection": "close"})
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._settings.is_private and not is_loopback(_hostname(host)):
            return ProblemError(421, f"this server answers to localhost only, and was called {host[:100]!r}")
        if scope["method"] not in _SAFE and _is_cross_site(headers, host):
            said = "this call comes from another site's page; use the page of this server, or no browser"
            return ProblemError(403, said)
        if self._token is not None and scope["path"].startswith(_GUARDED):
            kind, _, given = headers.get("authorization", "").partition(" ")
            # compared in constant time, whatever was given
            if not hmac.compare_digest(given.strip().encode(), self._token) or kind.lower() != "bearer":
                said = "a token is needed: send the header Authorization: Bearer TOKEN"
                return ProblemError(401, said, {"WWW-Authenticate": "Bearer"})
        return None


class _Answer:
    """An answer that goes out with the security headers, and its status; 0 before it has begun."""

    def __init__(self, send: Send) -> None:
        self.status = 0
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def _is_cross_site(headers: Headers, host: str) -> bool:
    """Whether a browser says that a request was made by another site's page (others say nothing)."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:
        return True


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _route(scope: Scope) -> str:
    """Name the route and not the path, of which there are endlessly many."""
    route: Any = scope.get("route")
    path = getattr(route, "path_format", getattr(route, "path", ""))
    return str(path) or ("/static" if scope["path"].startswith("/static/") else "other")


def _method(scope: Scope) -> str:
    return (
        scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH") else "other"
    )
