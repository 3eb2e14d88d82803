"""What every request passes: its host and origin, the token, security headers, counting.

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

from giemsa.web.problems import problem
from giemsa.web.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from giemsa.web.counts import Counts
    from giemsa.web.settings import Settings

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_GUARDED: Final = ("/api/", "/metrics", "/_dash-update-component")
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
_log = logging.getLogger("giemsa.web")


class Guard:
    """An ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, settings: Settings, counts: Counts, script_hashes: Sequence[str]) -> None:
        self.app = app
        self._settings = settings
        self._counts = counts
        self._token = settings.token.encode() if settings.token is not None else None
        self._headers = _HEADERS | {"Content-Security-Policy": content_security_policy(script_hashes)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await problem(*refusal)(scope, receive, send_guarded)
            else:
                await self.app(scope, receive, send_guarded)
        finally:
            self._counts.answered(_route(scope), _method(scope), status, time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._settings.is_private and not is_loopback(_hostname(host)):
            return 421, f"this server answers to localhost only, and was called {host[:100]!r}", {}
        if scope["method"] not in _SAFE and _is_cross_site(headers, host):
            return 403, "this call comes from another site's page; use the page of this server, or no browser", {}
        if self._token is not None and scope["path"].startswith(_GUARDED):
            kind, _, given = headers.get("authorization", "").partition(" ")
            # compared in constant time, whatever was given
            if not hmac.compare_digest(given.strip().encode(), self._token) or kind.lower() != "bearer":
                return (
                    401,
                    "a token is needed: send the header Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": "Bearer"},
                )
        return None


def content_security_policy(script_hashes: Sequence[str]) -> str:
    """Say what the page may do: run and fetch what this server serves, and nothing else.

    Styles may stand in the page, since Plotly and AG Grid write them there; scripts may not, but for Dash's one line.
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {' '.join(script_hashes)}".strip(),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _is_cross_site(headers: Headers, host: str) -> bool:
    """Tell whether a browser says that a request was made by another site's page (others say nothing)."""
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
    return str(path) or ("/assets" if scope["path"].startswith("/assets/") else "other")


def _method(scope: Scope) -> str:
    return (
        scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH") else "other"
    )
