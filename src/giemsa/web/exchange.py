"""What a caller would rather have, whether it is still there, and lines of JSON."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

JSON, CSV, LINES, HTML = "application/json", "text/csv", "application/x-ndjson", "text/html"
Result = TypeVar("Result")


class CallerLeftError(Exception):
    """Nobody waits for the answer any more."""


def as_json(content: object) -> bytes:
    """JSON in one line, as short as it can be."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


async def unless_left(request: Request, work: asyncio.Future[Result]) -> Result:
    """Wait for work as long as there is somebody who waits for it.

    Raises
    ------
    CallerLeftError
        If there is nobody.
    """
    leaving = asyncio.ensure_future(until_left(request))
    either: set[asyncio.Future[Any]] = {work, leaving}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise CallerLeftError
        return work.result()
    finally:
        leaving.cancel()
        work.cancel()


async def until_left(request: Request) -> None:
    """Wait until nobody waits for the answer any more; to be called when the body has come in."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def preferred(accept: str, kinds: Sequence[str]) -> str:
    """Kind of answer that a caller would rather have (RFC 9110, 12.5.1): the first, unless another is named."""
    quality: Callable[[str], float] = lambda kind: max(  # noqa: E731
        (_quality(part) for part in accept.split(",") if part.split(";")[0].strip().lower() == kind), default=0.0
    )
    return max(kinds, key=quality)


def _quality(part: str) -> float:
    for parameter in part.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
