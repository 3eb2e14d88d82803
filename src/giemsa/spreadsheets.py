"""CSV that people open in a spreadsheet: what begins like a formula is text there, and comes back as it was here.

A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return, whoever named the picture
or the reviewer so. An apostrophe before it says that it is text (OWASP, CSV injection). Since a name may begin with
apostrophes of its own, they are counted in, so that reading takes away exactly what writing added:

>>> guarded("=1+1.png"), guarded("'=1.png"), guarded("cell.png"), unguarded(guarded("'=1.png"))
("'=1+1.png", "''=1.png", 'cell.png', "'=1.png")

Numbers are left alone, negative ones too: they run nothing.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from _typeshed import SupportsWrite

_NUMBER = r"[+-]?[0-9]+(?:[.][0-9]*)?(?:[eE][+-]?[0-9]+)?"
# The full-width signs are those of Chinese and Japanese keyboards.
_FORMULA = re.compile(rf"'*(?!{_NUMBER}\Z)[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_FIRST = frozenset("'=+-@\t\r\uff1d\uff0b\uff0d\uff20")  # a look at one letter spares most texts the other one


def guarded(text: str) -> str:
    """Text as a CSV holds it: with an apostrophe before what a spreadsheet would run."""
    return f"'{text}" if text[:1] in _FIRST and _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """Text as it was before `guarded`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


class GuardedWriter:
    """A `csv.writer` that guards all text; lines end in a newline alone."""

    def __init__(self, file: SupportsWrite[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def writerow(self, row: Iterable[Any]) -> None:
        """Write one row."""
        values = [guarded(value) if isinstance(value, str) else value for value in row]
        # Before Python 3.13, a carriage return is not quoted of itself where lines do not end in one.
        torn = any(isinstance(value, str) and "\r" in value for value in values)
        (self._quoting if torn else self._writer).writerow(values)

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)


def read_guarded(lines: Iterable[str], fieldnames: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    """Rows of a CSV by the names of its first line (or `fieldnames`), as they were before they were guarded.

    Raises
    ------
    csv.Error
        If it is no CSV.
    """
    for row in csv.DictReader(lines, fieldnames):
        yield {name: unguarded(value) if isinstance(value, str) else value for name, value in row.items()}
