"""The pictures in a zip archive, one at a time.

The archive's directory is read as a stream and no member is ever written to disk, so neither the number of
members nor their names can do harm; `zipfile` holds the whole directory in memory, half a kilobyte a member.
A member is unpacked only as far as needed to see that it begins like a picture, and then no further than the
size that the directory states, which is within the limit of `images`. What all members together unpack to, in bytes
and in pixels, is bounded by the size of the archive and charged before anything is unpacked, whether it succeeds or
not: else an archive of a few kilobytes, its members lying over each other, keeps a machine busy for hours.

The format is PKWARE's APPNOTE.TXT 6.3.10, of which the two methods that everybody writes (stored and deflated)
and the 64-bit sizes are read.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final

from giemsa.errors import PictureError, SourceError
from giemsa.images import MAX_BYTES, MAX_PIXELS, size_of, sniff

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MEMBERS: Final = 5_000_000
"""Most members that an archive may have."""

MAX_UNPACKED_RATIO: Final = 200
"""How many times its own bytes an archive may unpack to, or four of the largest files: pictures hardly shrink."""
MAX_PIXELS_PER_BYTE: Final = 100
"""Pixels of all its pictures for each byte of an archive, or four of the largest; a black JPEG has some 60."""

_END = struct.Struct("<4s4H2LH")
_END_64_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_IN_64 = 0xFFFFFFFF
_STORED, _DEFLATED = 0, 8
_NOT_THERE = "the member of the archive is damaged: it is not where the directory says"
_ENCRYPTED = 0x1
_UTF_8 = 0x800


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive, as its directory describes it; sizes and the offset in bytes."""

    name: str
    flags: int
    method: int
    crc: int
    packed_size: int
    size: int
    offset: int


class _Budget:
    """What the members of one archive may still unpack to, whoever reads them."""

    def __init__(self, archive_bytes: int) -> None:
        self._bytes = max(4 * MAX_BYTES, MAX_UNPACKED_RATIO * archive_bytes)
        self._pixels = max(4 * MAX_PIXELS, MAX_PIXELS_PER_BYTE * archive_bytes)
        self._lock = Lock()

    def charge(self, *, unpacked: int = 0, pixels: int = 0) -> None:
        """Take from what is left; where it is not enough, nothing more is read of this archive."""
        with self._lock:
            self._bytes -= unpacked
            self._pixels -= pixels
            if min(self._bytes, self._pixels) >= 0:
                return
        raise PictureError("the archive unpacks to far more than pictures ever shrink by; if you trust it, unpack it "
                           "and give the folder")  # fmt: skip


@dataclass(frozen=True, slots=True)
class ZipArchive:
    """A zip archive whose end was found; made by `open_archive`."""

    path: str
    size: int
    members: int
    directory_start: int
    directory_size: int
    shift: int
    budget: _Budget = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[Member]:
        """Give the members in the order of the directory.

        Raises
        ------
        SourceError
            Where the directory is damaged, or its members lie over each other; those before that place have been
            given.
        """
        packed = 0
        with open(self.path, "rb") as file:  # noqa: PTH123 - a path of any bytes, as the system gave it
            file.seek(self.directory_start)
            for index in range(self.members):
                member = self._next_member(file, index)
                if self._holds(member):
                    packed += member.packed_size
                if packed > self.size:
                    raise SourceError(f"the archive {self.path} is damaged: its first {index + 1:,} members are larger "
                                      "than it, so that they lie over each other")  # fmt: skip
                yield member

    def read(self, member: Member) -> bytes:
        """Unpack one member that begins like a picture.

        Raises
        ------
        PictureError
            If it is encrypted, packed by an unknown method, too large, no picture, or damaged.
        """
        if member.flags & _ENCRYPTED:
            raise PictureError("the member of the archive is encrypted; unpack the archive first")
        if member.method not in (_STORED, _DEFLATED):
            raise PictureError(f"the member of the archive is packed by method {member.method}; only stored (0) and "
                               "deflated (8) are read, so pack it anew")  # fmt: skip
        if member.size > MAX_BYTES:
            raise PictureError(f"the member of the archive has {member.size:,} bytes; at most {MAX_BYTES:,} are read")
        if not self._holds(member):
            raise PictureError(_NOT_THERE)
        if member.packed_size > MAX_BYTES:
            raise PictureError(f"the member of the archive has {member.packed_size:,} packed bytes; at most "
                               f"{MAX_BYTES:,} are read")  # fmt: skip
        self.budget.charge(unpacked=member.size)
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123
                packed = self._packed(file, member)
        except OSError as error:
            raise PictureError(f"the archive {self.path} cannot be read: {error.strerror or error}") from error
        content = _inflated(packed, member.size) if member.method == _DEFLATED else packed
        if len(content) != member.size or zlib.crc32(content) != member.crc:
            raise PictureError("the member of the archive is damaged: its size or checksum is wrong")
        sniff(content)
        width, height = size_of(content) or (0, 0)
        if width * height <= MAX_PIXELS:  # more is refused before it is decoded
            self.budget.charge(pixels=width * height)
        return content

    def _holds(self, member: Member) -> bool:
        """Whether a member lies within the file, as far as the directory goes."""
        return member.offset + member.packed_size <= self.size

    def _next_member(self, file: BinaryIO, index: int) -> Member:
        head = file.read(_ENTRY.size)
        if len(head) < _ENTRY.size or not head.startswith(b"PK\1\2"):
            raise SourceError(f"the directory of the archive {self.path} is damaged after {index:,} of "
                              f"{self.members:,} members")  # fmt: skip
        _, _, _, flags, method, _, _, crc, packed, size, *lengths, _, _, _, offset = _ENTRY.unpack(head)
        name_length, extra_length, comment_length = lengths
        name = file.read(name_length)
        extra = file.read(extra_length)
        file.seek(comment_length, os.SEEK_CUR)
        if _IN_64 in (packed, size, offset):
            size, packed, offset = _sizes_64(extra, size, packed, offset)
        return Member(_text(name, flags), flags, method, crc, packed, size, offset + self.shift)

    def _packed(self, file: BinaryIO, member: Member) -> bytes:
        file.seek(member.offset)
        head = file.read(_LOCAL.size)
        if len(head) == _LOCAL.size and head.startswith(b"PK\3\4"):
            *_, name_length, extra_length = _LOCAL.unpack(head)
            file.seek(name_length + extra_length, os.SEEK_CUR)
            packed = file.read(member.packed_size)
            if len(packed) == member.packed_size:
                return packed
        raise PictureError(_NOT_THERE)


def open_archive(path: str) -> ZipArchive:
    """Find the directory of a zip archive.

    Raises
    ------
    SourceError
        If the file cannot be read, is no zip archive, is damaged, or has more than `MAX_MEMBERS` members.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            archive = _find_directory(file, path)
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"the archive {path} cannot be read: {error.strerror or error}") from error
    if archive.members > MAX_MEMBERS:
        raise SourceError(f"the archive {path} has {archive.members:,} members; at most {MAX_MEMBERS:,} are read, "
                          "so split it or unpack it")  # fmt: skip
    return archive


def _find_directory(file: BinaryIO, path: str) -> ZipArchive:
    size = file.seek(0, os.SEEK_END)
    tail_start = max(0, size - _END.size - 0xFFFF)  # a comment of up to 65,535 bytes may follow
    file.seek(tail_start)
    tail = file.read()
    found = tail.rfind(b"PK\5\6")
    if found < 0 or found + _END.size > len(tail):
        raise SourceError(f"{path} is no zip archive, or its end is missing; expected a complete one")
    end_start = tail_start + found
    _, _, _, _, members, directory_size, directory_start, _ = _END.unpack_from(tail, found)
    locator = found - _END_64_LOCATOR.size
    if locator >= 0 and tail[locator:].startswith(b"PK\6\7"):
        _, _, end_64, _ = _END_64_LOCATOR.unpack_from(tail, locator)
        file.seek(min(end_64, size))
        record = file.read(_END_64.size)
        if len(record) < _END_64.size or not record.startswith(b"PK\6\6"):
            raise SourceError(f"the archive {path} is damaged: its 64-bit end is not where it says")
        end_start = end_64
        *_, members, directory_size, directory_start = _END_64.unpack(record)
    # Something may stand before an archive (a program that unpacks it): all offsets are shifted by that much.
    shift = end_start - directory_size - directory_start
    if shift < 0:
        raise SourceError(f"the archive {path} is damaged: its directory would reach beyond its end")
    return ZipArchive(path, size, members, directory_start + shift, directory_size, shift, _Budget(size))


def _sizes_64(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Take those sizes that do not fit 32 bits out of the extra field; an absent one stays beyond every limit."""
    start = 0
    values: list[int] = []
    while start + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, start)
        if kind == 1:
            field = extra[start + 4 : start + 4 + length]
            values = [value for (value,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8])]
        start += 4 + length
    size, packed, offset = (values.pop(0) if value == _IN_64 and values else value for value in (size, packed, offset))
    return size, packed, offset


def _inflated(packed: bytes, size: int) -> bytes:
    """Unpack to at most one byte more than `size`, and not even that if it begins like no picture."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        head = unpacker.decompress(packed[:512], 64)
        sniff(head)
        rest = unpacker.decompress(unpacker.unconsumed_tail + packed[512:], max(1, size - len(head) + 1))
    except zlib.error as error:
        raise PictureError(f"the member of the archive is damaged: {error}") from error
    return head + rest


def _text(name: bytes, flags: int) -> str:
    if flags & _UTF_8:
        return name.decode("utf-8", "backslashreplace")
    try:
        return name.decode()  # many programs write UTF-8 without saying so
    except UnicodeDecodeError:
        return name.decode("cp437")
