"""What the headers of a JPEG say of it: its size, and whether all of it is there (ITU T.81).

Decoders need none of this, and therefore do not look: libjpeg shows a progressive picture whose last scans are
missing as a blurred one, without a warning, and goes over all pixels for each of thousands of empty scans.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from giemsa.errors import PictureError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SCANS: Final = 100
"""Most scans of a picture; programs write some ten."""
MAX_SCAN_PIXELS: Final = 1_000_000_000
"""Most pixels that all scans together pass over: 20 scans of 50 megapixels."""

MAX_SEGMENTS: Final = 10_000
"""Most segments of a file: colour profiles and thumbnails take some dozens."""

_FILL = re.compile(rb"\xff*")  # any number of them may stand before a marker
_END_OF_SCAN = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # no stuffed zero, no restart
_SOI, _EOI, _SOS, _APP1, _TEM = 0xD8, 0xD9, 0xDA, 0xE1, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_NOTHING_YET = 16


@dataclass(frozen=True, slots=True)
class JpegHeaders:
    """What the headers of a complete JPEG say.

    Attributes
    ----------
    size : tuple of int
        Width and height in pixels.
    channels : int
        1 for grey, 3 for colours, 4 for inks.
    has_exif : bool
        Whether there is EXIF, which may say that the picture lies on its side.
    """

    size: tuple[int, int]
    channels: int
    has_exif: bool


def read_jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height of a JPEG, from its frame header.

    Raises
    ------
    PictureError
        If the file breaks off or is damaged before it.
    """
    for marker, segment in _segments(data):
        if marker in _FRAMES:
            return _Frame.read(segment, progressive=False).size
    raise PictureError("the JPEG is damaged: it has no pixels")


def read_jpeg_headers(data: bytes) -> JpegHeaders:
    """Headers of a whole JPEG, having made sure that all scans are there and that there are not too many.

    Raises
    ------
    PictureError
        If the file breaks off, is damaged, lacks scans or has too many of them.
    """
    frame: _Frame | None = None
    has_exif, scans = False, 0
    for marker, segment in _segments(data):
        if marker in _FRAMES:
            if frame is not None:
                raise PictureError("the JPEG is damaged: it says twice how large it is")
            frame = _Frame.read(segment, progressive=marker in _PROGRESSIVE)
        elif marker == _SOS:
            if frame is None:
                raise PictureError("the JPEG is damaged: its pixels come before its size")
            scans += 1
            frame.check_scans(scans)
            frame.add_scan(segment)
        elif marker == _APP1 and segment.startswith(b"Exif\0"):
            has_exif = True
    if frame is None:
        raise PictureError("the JPEG is damaged: it has no pixels")
    frame.check_complete()
    return JpegHeaders(frame.size, len(frame.known), has_exif)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Give markers and what belongs to them, up to the end of the picture; packed data are passed over."""
    start = 2
    for _ in range(MAX_SEGMENTS):
        filled = _FILL.match(data, start)
        behind = start if filled is None else filled.end()
        if behind >= len(data):
            raise PictureError(f"the JPEG breaks off after {len(data):,} bytes")
        if behind == start:
            raise PictureError(f"the JPEG is damaged: there is no marker at byte {start:,}")
        marker = data[behind]
        start = behind + 1
        if marker == _EOI:
            return
        if marker == _TEM or 0xD0 <= marker <= _SOI:  # those without a length
            continue
        length = int.from_bytes(data[start : start + 2], "big")
        segment = data[start + 2 : start + length]
        if length < 2 or len(segment) != length - 2:
            raise PictureError(f"the JPEG breaks off or is damaged at byte {start:,}")
        start += length
        yield marker, segment
        if marker == _SOS:
            end = _END_OF_SCAN.search(data, start)
            if end is None:
                raise PictureError(f"the JPEG breaks off after {len(data):,} bytes")
            start = end.end() - 2
    raise PictureError(f"the JPEG has more than {MAX_SEGMENTS:,} segments, and no more are read; save it anew")


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame header, and how exactly each coefficient is known from the scans so far.

    `known` holds, for each channel by its identifier, the lowest bit of its 64 coefficients that has come, and
    `_NOTHING_YET` where none has.
    """

    size: tuple[int, int]
    progressive: bool
    known: dict[int, list[int]]

    @classmethod
    def read(cls, segment: bytes, *, progressive: bool) -> _Frame:
        """Read what T.81, B.2.2 describes."""
        if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
            raise PictureError("the JPEG is damaged: its frame header is cut off")
        height, width = struct.unpack_from(">HH", segment, 1)
        identifiers = segment[6 : 6 + 3 * segment[5] : 3]
        return cls((width, height), progressive, {identifier: [_NOTHING_YET] * 64 for identifier in identifiers})

    def add_scan(self, segment: bytes) -> None:
        """Note what a scan brings (T.81, B.2.3 and G.1.1)."""
        channels = segment[0] if segment else 0
        if not channels or len(segment) != 4 + 2 * channels:
            raise PictureError("the JPEG is damaged: the header of a scan is cut off")
        first, last, bits = segment[-3:] if self.progressive else (0, 63, 0)
        for identifier in segment[1:-3:2]:
            if identifier not in self.known or not first <= last <= 63:
                raise PictureError("the JPEG is damaged: a scan is of something that the picture does not have")
            self.known[identifier][first : last + 1] = [bits & 15] * (last + 1 - first)

    def check_scans(self, scans: int) -> None:
        """Refuse more scans than any program writes: each takes time for all pixels, even where it is empty."""
        width, height = self.size
        at_most = min(MAX_SCANS, MAX_SCAN_PIXELS // max(1, width * height))
        if scans > at_most:
            raise PictureError(f"the JPEG has more than {at_most} scans of {width:,} x {height:,} pixels, and no more "
                               "are read; save it anew")  # fmt: skip

    def check_complete(self) -> None:
        """Refuse a picture of which a scan is missing."""
        if any(bit for channel in self.known.values() for bit in channel):
            raise PictureError("the JPEG breaks off: not all of its scans are there")
