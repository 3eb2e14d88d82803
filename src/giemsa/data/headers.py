"""Width and height of a picture, and whether it is sound, without making its pixels where that can be helped.

A PNG's header says how large it is and its checksums that nothing is missing: that costs a tenth of decoding it.
Everything else, and every PNG with something unusual in it, is put to `images.decode`, whose answer counts.
"""

from __future__ import annotations

import zlib
from typing import Final

from giemsa.images import MAX_PIXELS, decode

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# Chunks that cannot carry an orientation (text can, as a raw EXIF profile).
_HARMLESS: Final = frozenset({
    b"PLTE", b"IDAT", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD", b"hIST", b"pHYs", b"tIME",
})  # fmt: skip


def probe(data: bytes) -> tuple[int, int]:
    """Width and height of the picture in `data`, in pixels.

    Raises
    ------
    PictureError
        If it cannot be read; from `images.decode`.
    """
    if (size := _sound_png(data)) is not None:
        return size
    height, width = decode(data).shape[:2]
    return width, height


def _sound_png(data: bytes) -> tuple[int, int] | None:
    """Width and height of a complete, ordinary PNG; None for anything else."""
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not 0 < width * height <= MAX_PIXELS:
        return None
    view = memoryview(data)
    place, has_pixels = 8, False
    while place + 12 <= len(data):
        length = int.from_bytes(view[place : place + 4], "big")
        kind = bytes(view[place + 4 : place + 8])
        end = place + 12 + length
        if end > len(data) or zlib.crc32(view[place + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            return None
        if kind == b"IEND":
            return (width, height) if has_pixels else None
        if kind not in _HARMLESS and kind != b"IHDR":
            return None
        has_pixels = has_pixels or kind == b"IDAT"
        place = end
    return None
