"""What every command shares when it talks to a person: progress, notes, warnings, interruption and tables.

Results go to standard output; everything else goes to standard error, and progress only where that is a terminal.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from giemsa.cli import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console
    from rich.progress import Progress as Bars

_WIDTH: Final = 118  # columns of tables where there is no terminal
_STAGES: Final = {
    "classify": "classifying",
    "compare": "comparing",
    "decode": "decoding",
    "fetch": "fetching",
    "read": "reading",
    "unpack": "unpacking",
}
_IN_BYTES: Final = frozenset({"fetch"})  # stages that count bytes; all others count pictures


def note(sentence: str) -> None:
    """Print a remark on standard error."""
    print(f"giemsa: note: {sentence}", file=sys.stderr)


def warn(sentence: str) -> None:
    """Print a warning on standard error."""
    print(f"giemsa: warning: {sentence}", file=sys.stderr)


def inform(sentence: str) -> None:
    """Print how the work is going on standard error."""
    print(sentence, file=sys.stderr, flush=True)


def print_json(content: Mapping[str, Any] | list[Any]) -> None:
    """Print a result for another program: one JSON document on standard output, without NaN."""
    import json

    print(json.dumps(content, indent=2, allow_nan=False))


def table_console(*, width: int = _WIDTH) -> Console:
    """Console for tables on standard output, as wide as the terminal, or `width` columns where there is none."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else width)


def in_colour() -> bool:
    """Whether standard output is a terminal whose owner has not asked for no colours (no-color.org)."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


class Progress:
    """Progress bars on standard error, one for each stage; nothing at all where `bars` is None.

    Calling it with a stage's name, the number done and the total (None where it is not known) draws the bar. `read`,
    `fetch` and so on are written as people say them; any other name is shown as it is.
    """

    def __init__(self, bars: Bars | None) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}
        self._done: dict[str, int] = {}

    @property
    def active(self) -> bool:
        """Whether anything is drawn, so that finding out a total is worth the time."""
        return self._bars is not None

    def __call__(self, stage: str, done: int, total: int | None = None) -> None:
        """Show that `done` of `total` are done."""
        if self._bars is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(_STAGES.get(stage, stage), total=total, amount="", rate="")
        self._done[stage] = done
        speed = next(task.speed for task in self._bars.tasks if task.id == self._tasks[stage])
        self._bars.update(
            self._tasks[stage],
            completed=done,
            total=total,
            amount=_amount(done, total, in_bytes=stage in _IN_BYTES),
            rate=f"{_amount(speed, in_bytes=stage in _IN_BYTES)}/s" if speed else "",
        )

    def advance(self, stage: str, count: int = 1, total: int | None = None) -> None:
        """Show that `count` more of `total` are done."""
        self(stage, self._done.get(stage, 0) + count, total)

    def stage(self, name: str) -> Callable[[int, int], None]:
        """One stage's own callback: it takes the number done and the total."""
        return lambda done, total: self(name, done, total)


@contextmanager
def progress(*, wanted: bool = True) -> Iterator[Progress]:
    """Progress bars for the work inside; silent where standard error is no terminal, or they are not wanted."""
    if not wanted or not sys.stderr.isatty():
        yield Progress(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<10}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield Progress(bars)


def _amount(done: float, total: int | None = -1, *, in_bytes: bool = False) -> str:
    """`12/30`, `12/?` where the total is not known, `12` without one; megabytes for bytes."""
    numbers = [done] if total == -1 else [done, total]
    written = ["?" if n is None else f"{n / 1e6:,.1f}" if in_bytes else f"{n:,.0f}" for n in numbers]
    return "/".join(written) + (" MB" if in_bytes else "")


@contextmanager
def interruptible(what_is_left: str | Callable[[], str]) -> Iterator[None]:
    """End the command with exit status 130 when it is interrupted inside, saying what is complete and how to go on.

    SIGTERM, which schedulers send before they kill, interrupts as Ctrl-C does.

    Parameters
    ----------
    what_is_left : str or callable
        The sentence's second half, without a full stop; a callable is asked once everything inside has been closed.
    """
    try:
        with terminated_like_interrupted():
            yield
    except KeyboardInterrupt:
        left = what_is_left if isinstance(what_is_left, str) else what_is_left()
        print(f"giemsa: interrupted: {left}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt inside, where this is the main thread."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def warnings_as_sentences() -> Iterator[None]:
    """Print Giemsa's own warnings as sentences, without the place in the code; leave others as they are."""
    from giemsa.errors import GiemsaWarning

    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:  # noqa: ANN401
            if issubclass(category, GiemsaWarning):
                warn(str(message))
            else:
                usual(message, category, *place, **more)

        warnings.simplefilter("always", GiemsaWarning)
        warnings.showwarning = show
        yield
