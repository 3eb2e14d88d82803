"""A log that nobody can fill: few lines of a kind in a minute, none of them long."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PER_MINUTE: Final = 20
"""Lines of one kind, which is one place in the code or, of other packages, one message."""
MAX_LINE: Final = 8_000
_MINUTE_S: Final = 60.0
_MAX_KINDS: Final = 1_000


class Sparing(logging.Filter):
    """Lets a few records of each kind through in a minute, and says how many it kept back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        kind = (record.name, record.pathname, record.lineno)
        begun, count = self._kinds.get(kind, (0.0, 0))
        now = self._clock()
        if now - begun > _MINUTE_S or kind not in self._kinds:
            if count > PER_MINUTE:
                record.msg = f"({count - PER_MINUTE:,} more like this were not written) {record.msg}"
            begun, count = now, 0
        if len(self._kinds) > _MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = (begun, count + 1)
        return count < PER_MINUTE


class ShortLines(logging.Formatter):
    """Formats a record, its traceback too, in at most `MAX_LINE` characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Text of a record."""
        text = super().format(record)
        if len(text) <= MAX_LINE:
            return text
        half = MAX_LINE // 2
        return f"{text[:half]} [... {len(text) - MAX_LINE:,} characters left out ...] {text[-half:]}"


def set_up_logging() -> None:
    """Write warnings and errors to standard error, sparingly."""
    handler = logging.StreamHandler()
    handler.addFilter(Sparing())
    handler.setFormatter(ShortLines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
