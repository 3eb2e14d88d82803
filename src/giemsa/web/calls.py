"""Calls of the database, apart from all else.

A database that is locked, frozen or gone must not hold up the judging of cells. So its calls have threads of their
own, a bounded number of them, and whoever waits for one is answered after some seconds whether or not it has ended.
The threads are daemons: one that never comes back does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from giemsa.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")
AT_ONCE: Final = 32
"""Calls under way at a time; more than SQLite or a pool of connections serves, so that few wait in vain."""
SECONDS: Final = 8.0
"""How long a call is waited for: longer than the database's own limits on locks and statements (5 s)."""


class Calls:
    """Runs functions in threads, a few at a time, each for a limited time.

    Attributes
    ----------
    under_way : int
        Calls that have not come back, whether or not somebody still waits for them.
    """

    def __init__(self, *, at_once: int = AT_ONCE, seconds: float | None = None) -> None:
        self.under_way = 0
        self._at_once = at_once
        self._seconds = SECONDS if seconds is None else seconds

    async def __call__(self, function: Callable[..., Result], *given: object, **named: object) -> Result:
        """Result of a function that waits for the database.

        Raises
        ------
        OutputError
            If too many calls are under way, or this one takes too long. It may still be carried out.
        """
        if self.under_way >= self._at_once:
            raise OutputError(f"{self.under_way} calls wait for the database of reviews, and no more may")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def run() -> None:
            try:
                result = function(*given, **named)
            except BaseException as error:
                tell(done.set_exception, error)
            else:
                tell(done.set_result, result)

        def tell(act: Callable[[Any], None], content: object) -> None:
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(self._end, done, act, content)

        self.under_way += 1
        threading.Thread(target=run, name="giemsa-reviews", daemon=True).start()
        try:
            return await asyncio.wait_for(asyncio.shield(done), self._seconds)
        except (asyncio.TimeoutError, TimeoutError):
            raise OutputError(f"the database of reviews did not answer in {self._seconds:g} seconds") from None

    def _end(self, done: asyncio.Future[Any], act: Callable[[Any], None], content: object) -> None:
        self.under_way -= 1
        if not done.done():
            act(content)
            if act == done.set_exception:
                done.exception()  # somebody who waits no longer does not ask for it
