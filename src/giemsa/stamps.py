"""Which bytes a verdict was given on: size, time and digest, so that a picture replaced meanwhile is noticed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from giemsa.errors import PictureError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Stamp:
    """What was read of one picture.

    Attributes
    ----------
    size : int
        Bytes; `UNREADABLE` where there were none to be had.
    changed_ns : int
        When the file that it is in was last written or put in place, the later of the two, in nanoseconds since 1970;
        0 where that is not known.
    digest : str
        The first 32 hexadecimal digits of its SHA-256; empty where it could not be read.
    """

    size: int
    changed_ns: int
    digest: str

    def to_line(self) -> str:
        """Write a line of always the same length."""
        return f"{self.size:>12} {self.changed_ns:>20} {self.digest:<32}\n"

    @classmethod
    def of_line(cls, line: str) -> Stamp | None:
        """Read a line; None where it is none."""
        size, changed, digest = line[:12], line[13:33], line[34:66]
        try:
            return cls(int(size), int(changed), digest.rstrip()) if len(line) == LINE_BYTES else None
        except ValueError:
            return None


UNREADABLE: Final = -1
LINE_BYTES: Final = 67


class Stamped:
    """Reads a picture and keeps its stamp.

    Parameters
    ----------
    read : callable
        Gives the bytes, or raises `PictureError`.
    path : str
        The file that it is in; empty where it is in none.
    """

    __slots__ = ("_path", "_read", "stamp")

    def __init__(self, read: Callable[[], bytes], path: str) -> None:
        self._read = read
        self._path = path
        self.stamp: Stamp | None = None

    def __call__(self) -> bytes:
        """Read it."""
        changed_ns = _changed_ns(self._path)  # before it is read: what is written meanwhile shows later
        try:
            data = self._read()
        except PictureError:
            self.stamp = Stamp(UNREADABLE, changed_ns, "")
            raise
        self.stamp = Stamp(len(data), changed_ns, sha256(data).hexdigest()[:32])
        return data

    def difference(self, before: Stamp) -> str:
        """Say in a few words what differs from an earlier stamp; empty where nothing does.

        A file that was not touched is not read again.
        """
        if before.changed_ns and before.changed_ns == _changed_ns(self._path):
            return ""
        try:
            size = len(self())
        except PictureError:
            return "" if before.size == UNREADABLE else f"{before.size:,} bytes then, unreadable now"
        if before.size == UNREADABLE:
            return f"unreadable then, {size:,} bytes now"
        if self.stamp is not None and self.stamp.digest == before.digest:
            return ""
        return f"{before.size:,} bytes then, {'others' if size == before.size else f'{size:,}'} now"


def _changed_ns(path: str) -> int:
    """When a file was last written or put in place, 0 where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a path of any bytes, as the system gave it
    except (OSError, ValueError):
        return 0
    return max(status.st_mtime_ns, status.st_ctime_ns)
