"""The same limits and deadlines for the body of every request, whatever route it is for.

A body is counted while it comes in: against what its route takes, and against the memory that is set aside for all
bodies together (`Room`). It must also keep coming: an upload that was fast and then stops is given up after
half a minute, as is one that drips. Only the time for which the server waits counts, so that a busy server blames
nobody. Where memory is scarce, slow bodies have to be faster, and a part of it is kept for small ones.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers, MutableHeaders

from giemsa.web.problems import ProblemError, busy, problem_for

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOADS: Final = frozenset({("POST", "/api/v1/cells"), ("POST", "/api/v1/smears"), ("POST", "/api/v1/pictures")})
"""What takes pictures; every other route takes `SMALL_BODY` at most."""
SMALL_BODY: Final = 65_536
"""Bytes: an answer of a reviewer has 10,000 at most, of which a name of four-byte characters is nearly all."""
GRACE_S: Final = 30.0
"""How long a body may pause, or lag behind the slowest speed."""
SLOWEST: Final = 4_096
"""Bytes a second on average: a slow telephone line has as much."""
SLOWEST_WHEN_CROWDED: Final = 65_536
"""The same while more than half of the room is held."""
_SHARE: Final = "giemsa.share"


class Room:
    """Bytes of bodies that are held, in all requests together.

    Parameters
    ----------
    size : int
        How many all may hold.
    reserve : int
        How many more there are for requests of at most `small` bytes.
    small : int
        Bytes.
    """

    def __init__(self, size: int, *, reserve: int = 0, small: int = 0) -> None:
        self.size = size
        self.reserve = reserve
        self.small = small
        self.held = 0

    @property
    def slowest(self) -> int:
        """Bytes a second that a body must bring on average."""
        return SLOWEST if self.held <= self.size / 2 else SLOWEST_WHEN_CROWDED


@dataclass(slots=True)
class Share:
    """What one request holds of a room.

    Attributes
    ----------
    kept : bool
        Whether somebody holds it for longer than the request lasts, and will release it.
    """

    room: Room
    held: int = 0
    kept: bool = False

    def take(self, count: int) -> None:
        """Take some more.

        Raises
        ------
        ProblemError
            503, if there is no room.
        """
        reserve = self.room.reserve if self.held + count <= self.room.small else 0
        if self.room.held + count > self.room.size + reserve:
            raise busy("the server holds as many pictures as it has room for")
        self.room.held += count
        self.held += count

    def keep(self) -> Share:
        """Hold it until `release`, though the request may end before."""
        self.kept = True
        return self

    def release(self) -> None:
        """Return all of it to the room."""
        self.room.held -= self.held
        self.held = 0


def share_of(request: Request) -> Share:
    """What a request's body holds."""
    share: Share = request.scope[_SHARE]
    return share


class BodyLimits:
    """An ASGI middleware through which every body comes in.

    Parameters
    ----------
    app : callable
        What is behind it.
    room : Room
        What all bodies together may hold.
    max_upload_bytes : int
        Largest body with pictures.
    """

    def __init__(self, app: ASGIApp, room: Room, max_upload_bytes: int) -> None:
        self.app = app
        self._room = room
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request whose body is watched."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        upload = (scope["method"], scope["path"]) in UPLOADS
        body = _Body(scope, receive, Share(self._room), self._max_upload_bytes if upload else SMALL_BODY)
        if body.refusal is not None:
            await problem_for(body.refusal)(scope, receive, send)
            return
        scope[_SHARE] = body.share
        answer = _Answer(body, send, scope, receive)
        try:
            await self.app(scope, body.receive, answer.send)
        finally:
            if not body.share.kept:
                body.share.release()


class _Body:
    """A body that comes in, and why it is refused if it is."""

    def __init__(self, scope: Scope, receive: Receive, share: Share, limit: int) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        self.share = share
        self.complete = length == "0" and "transfer-encoding" not in headers
        self.refusal = _too_large(limit) if length.isdecimal() and int(length[:20]) > limit else None
        self._receive = receive
        self._limit = limit
        self._received = 0
        self._patience_s = GRACE_S

    async def receive(self) -> Message:
        """Next message of the server, if it comes in time and fits; after the body, whether the caller has left."""
        if self.complete:
            return await self._receive()
        try:
            return await self._piece()
        except ProblemError as error:
            self.refusal = error
            raise

    async def _piece(self) -> Message:
        begun = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(self._patience_s, 0.001))
        except (asyncio.TimeoutError, TimeoutError):
            said = f"the body came too slowly, {self._received:,} bytes and then too little for {GRACE_S:g} seconds"
            raise ProblemError(408, f"{said}; send it again", _CLOSE) from None
        piece = len(message.get("body", b""))
        self._patience_s -= time.monotonic() - begun
        self._patience_s = min(GRACE_S, self._patience_s + piece / self.share.room.slowest)
        self._received += piece
        if self._received > self._limit:
            raise _too_large(self._limit)
        self.share.take(piece)
        self.complete = not message.get("more_body", False)
        return message


class _Answer:
    """What is answered: a refused body's reason in the place of what the application made of it."""

    def __init__(self, body: _Body, send: Send, scope: Scope, receive: Receive) -> None:
        self._body = body
        self._send = send
        self._request = scope, receive
        self._begun = self._replaced = False

    async def send(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start" and not self._begun:
            self._begun = True
            if self._body.refusal is not None:
                self._replaced = True
                await problem_for(self._body.refusal)(*self._request, self._send)
                return
            if not self._body.complete:  # what still comes is not read
                MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)


_CLOSE: Final[dict[str, Any]] = {"Connection": "close"}


def _too_large(limit: int) -> ProblemError:
    if limit == SMALL_BODY:
        return ProblemError(413, f"the body has more than {limit:,} bytes; nothing here takes as many", _CLOSE)
    said = f"the body has more than {limit / 2**20:,.0f} MB; send the pictures in several requests"
    return ProblemError(413, said, _CLOSE)
