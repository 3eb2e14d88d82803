"""One picture: bytes to RGB pixels, within limits.

PNG, JPEG, TIFF, BMP and WebP are told by their first bytes, never by a name. Limits on bytes and pixels are
checked before anything is decoded. What comes out is always uint8 [H, W, 3] RGB:

- 16-bit samples keep their high byte (and 12-bit ones their high 8 bits), whatever range they use: no picture
  is stretched by its own content;
- grey becomes three equal channels, a palette its colours;
- what is transparent is put on black, since the cells that models learn from stand on black;
- EXIF orientation is applied (PNG, JPEG, TIFF and WebP can carry one);
- of several frames or pages the first is taken.

What a decoder warns of is an error: it would otherwise fill what is missing with grey and say nothing. Small plain
PNGs, which is what cells come as, are decoded by OpenCV, which gives Python's lock away meanwhile and is the fastest
at hand. It reads a broken file as far as it goes in some versions and prints to standard error in others, so the
chunks and their checksums are verified first and those that mean nothing are left out; that costs some ten
microseconds. JPEGs go to simplejpeg, the only binding of libjpeg-turbo that hands its warnings on; progressive ones
that lack their last scans, of which libjpeg does not warn, are told by their headers. WebPs without transparency go
to OpenCV, which takes half of Pillow's memory. Everything else goes through Pillow, which knows all the odd kinds,
and is turned into RGB a band of rows at a time, so that a picture takes little more memory than its pixels.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, cast
from zlib import crc32

import cv2
import numpy as np

from giemsa.errors import PictureError, UsageError
from giemsa.jpegs import read_jpeg_headers, read_jpeg_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from giemsa.jpegs import JpegHeaders

MAX_BYTES: Final = 128 * 2**20
"""Largest file that is read: a 16-bit RGB photograph of 20 megapixels, uncompressed."""
MAX_PIXELS: Final = 50_000_000
"""Most pixels that are decoded: the largest microscope cameras have some 45 megapixels."""
MAX_SIDE_PX: Final = 65_535
"""Longest side: a JPEG cannot have more, and one row of 50 megapixels becomes gigabytes once it is made square."""
MAX_RICH_WEBP_PIXELS: Final = 16_000_000
"""Most pixels of a WebP with transparency or several frames: its decoder holds several canvases of 4 bytes a pixel."""
SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".webp"})
"""Endings (lower case) by which pictures are found in folders and archives."""

_EXPECTED = "expected PNG, JPEG, TIFF, BMP or WebP"
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
_IHDR = struct.Struct(">IIBB")
_CRC = struct.Struct(">I")
# Chunks that change what the pixels mean (transparency, orientation, several frames): left to Pillow.
_MEANINGFUL_CHUNKS = frozenset({b"tRNS", b"eXIf", b"iTXt", b"zTXt", b"acTL"})
# What a PNG's pixels cannot be had without. OpenCV is given nothing else: libpng prints what it thinks of the rest.
_NEEDED_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_PLAIN_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_MAX_CHUNKS = 100_000  # libpng writes one for 8 kB, some 16,000 for the largest file
_SMALL_PNG_BYTES = 2**18
# OpenCV unpacks all that a PNG holds, even what no pixel needs, a thousandfold at worst; Pillow stops at the last row.
_BAND_PIXELS = 2**20
_EXIF_ORIENTATION = 0x0112


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode one picture.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    ndarray
        uint8 [H, W, 3], RGB.

    Raises
    ------
    PictureError
        If the bytes are empty, no picture of a known kind, damaged, cut off, or beyond a limit.
    """
    kind = sniff(data)
    if len(data) > MAX_BYTES:
        raise PictureError(f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    if kind == "PNG":
        plain = _plain_png(data)
        return _decode_with_pillow(data, kind) if plain is None else _decode_with_opencv(plain, kind)
    if kind == "JPEG":
        return _decode_jpeg(data)
    if kind == "WebP" and _is_plain_webp(data):
        return _turned(_decode_with_opencv(data, kind), _webp_orientation(data))
    return _decode_with_pillow(data, kind)


def size_of(data: bytes) -> tuple[int, int] | None:
    """Read width and height of a picture out of its first bytes, without decoding it.

    Returns
    -------
    tuple of int, or None
        In pixels, before any EXIF orientation; None where they are not where they should be.
    """
    try:
        kind = sniff(data)
        if kind == "PNG":
            return cast("tuple[int, int]", _IHDR.unpack_from(data, 16)[:2])
        if kind == "JPEG":
            return read_jpeg_size(data)
        if kind == "WebP":
            return _webp_size(data)
        if kind == "BMP":
            return _bmp_size(data)
        return _tiff_size(data)
    except (PictureError, struct.error):
        return None


def sniff(head: bytes) -> str:
    """Tell the kind of a picture file by its first bytes (12 are enough).

    Returns
    -------
    str
        `PNG`, `JPEG`, `TIFF`, `BMP` or `WebP`.

    Raises
    ------
    PictureError
        If it is none of them.
    """
    if head.startswith(_PNG):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith(b"BM"):
        return "BMP"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if not head:
        raise PictureError(f"the file is empty; {_EXPECTED}")
    begins = ascii(bytes(head[:8]).decode("latin-1"))
    raise PictureError(f"this is no picture of a known kind, it begins with {begins}; {_EXPECTED}")


def to_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Turn an array of pixels into RGB, by the same rules as a file.

    Parameters
    ----------
    array : ndarray
        bool, uint8 or uint16, of shape [H, W] (grey), or [H, W, C] with C = 1 (grey), 2 (grey and alpha),
        3 (RGB) or 4 (RGB and alpha). The meaning never depends on the values: uint16 reaches to 65,535.

    Returns
    -------
    ndarray
        uint8 [H, W, 3], RGB, contiguous; the argument itself where it is that already.

    Raises
    ------
    UsageError
        If the dtype or the shape is another one.
    PictureError
        If there are no pixels, or more than `MAX_PIXELS`.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise UsageError(f"the array has shape {array.shape}; expected [H, W] or [H, W, C] with C from 1 to 4")
    _check_size(array.shape[1], array.shape[0])
    if array.dtype not in (np.uint8, np.uint16, np.bool_):
        raise UsageError(
            f"the array has dtype {array.dtype}; expected uint8 (0 to 255) or uint16 (0 to 65,535), "
            "so scale and convert it first"
        )
    if array.dtype == np.uint8 and array.shape[2:] == (3,):
        return np.ascontiguousarray(array)
    return _in_bands(array.shape[1], array.shape[0], lambda top, bottom: _band_to_rgb(array[top:bottom]))


def from_pillow(image: Any) -> NDArray[np.uint8]:  # noqa: ANN401 - Pillow is imported only where it is used
    """Turn a Pillow image into RGB, by the same rules as a file.

    Parameters
    ----------
    image : PIL.Image.Image
        Of any mode with 1, 8 or 16 bits a sample; its EXIF orientation is applied.

    Returns
    -------
    ndarray
        uint8 [H, W, 3], RGB.

    Raises
    ------
    PictureError
        If it cannot be loaded, has a mode that is no picture of 1 to 16 bits, or is beyond a limit.
    """
    _check_size(*image.size)
    try:
        image.load()
        return _pillow_to_rgb(image)
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(f"the image cannot be loaded: {_said(error)}") from error


def resize(rgb: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Stretch a picture to a square: the one way in which cells become the size that a model takes.

    Along an axis that grows, pixels are interpolated linearly. Along one that shrinks, they are averaged over
    their area (the kernel `area` of the model contract), in two steps that OpenCV has fast code for: linearly to
    the nearest whole multiple of `size_px`, and at least to twice that, then the mean of whole blocks. On 130 px
    cells at 64 px that takes half the time of OpenCV's own area kernel and differs from it by 0.2 grey levels
    in the mean.

    Parameters
    ----------
    rgb : ndarray
        uint8 [H, W, 3].
    size_px : int
        Side of the square, in pixels.

    Returns
    -------
    ndarray
        uint8 [size_px, size_px, 3].
    """
    height, width = rgb.shape[:2]
    multiple = (_multiple(width, size_px) * size_px, _multiple(height, size_px) * size_px)
    if multiple != (width, height):
        rgb = _uint8(cv2.resize(rgb, multiple, interpolation=cv2.INTER_LINEAR))
    if multiple != (size_px, size_px):
        rgb = _uint8(cv2.resize(rgb, (size_px, size_px), interpolation=cv2.INTER_AREA))
    return rgb


def shrink(rgb: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    """Shrink a picture, uint8 [H, W, 3], so that its longer side has at most `longest_px`; keep its shape."""
    height, width = rgb.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return _uint8(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def _multiple(length: int, size_px: int) -> int:
    return 1 if length <= size_px else max(2, (2 * length + size_px) // (2 * size_px))


def _decode_with_opencv(data: bytes, kind: str) -> NDArray[np.uint8]:
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), _PLAIN_FLAGS)
    except cv2.error as error:
        raise PictureError(f"the {kind} cannot be decoded: {error.err}") from error
    if bgr is None:
        raise PictureError(f"the {kind} is cut off or damaged: its compressed pixels cannot be unpacked")
    return _uint8(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr))


def _plain_png(data: bytes) -> bytes | None:
    """Verify a PNG's structure and checksums; return what OpenCV reads right of it, None where it does not."""
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise PictureError(f"the PNG breaks off or is damaged within its first {len(data[:33])} bytes")
    width, height, bits, colour_type = _IHDR.unpack_from(data, 16)
    _check_size(width, height)
    plain = bits <= 8 and colour_type in (0, 2, 3)  # grey, RGB, palette
    view = memoryview(data)
    size, start, pixel_bytes = len(data), len(_PNG), 0
    unneeded: list[tuple[int, int]] = []
    for _ in range(_MAX_CHUNKS):
        if start + 12 > size:
            break
        length, name = _CHUNK.unpack_from(data, start)
        end = start + 12 + length
        if end > size:
            break
        if crc32(view[start + 4 : end - 4]) != _CRC.unpack_from(data, end - 4)[0]:
            raise PictureError(f"the PNG is damaged: the checksum of its chunk at byte {start:,} is wrong")
        if name == b"IDAT":
            pixel_bytes += length
        elif name == b"IEND":
            if not pixel_bytes:
                raise PictureError("the PNG is damaged: it has no pixels")
            if not plain or pixel_bytes > _SMALL_PNG_BYTES:
                return None
            return _without(data, unneeded) if unneeded else data
        elif name not in _NEEDED_CHUNKS:
            unneeded.append((start, end))
            if name in _MEANINGFUL_CHUNKS or (name == b"tEXt" and data.startswith(b"Raw profile", start + 8)):
                plain = False
        start = end
    else:
        raise PictureError(f"the PNG has more than {_MAX_CHUNKS:,} chunks, and no more are read; save it anew")
    raise PictureError(f"the PNG breaks off after {size:,} bytes")


def _without(data: bytes, parts: list[tuple[int, int]]) -> bytes:
    """Leave parts out, given by their starts and ends in order."""
    starts = [0, *(end for _, end in parts)]
    ends = [*(start for start, _ in parts), len(data)]
    return b"".join(data[start:end] for start, end in zip(starts, ends, strict=True))


def _decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    import simplejpeg

    headers = _checked_jpeg(data)
    try:
        if headers.channels == 4:
            simplejpeg.decode_jpeg(data, "CMYK", strict=True)  # only whether it warns: Pillow knows inverted inks
            return _decode_with_pillow(data, "JPEG")
        rgb = _uint8(simplejpeg.decode_jpeg(data, "RGB", strict=True))
    except ValueError as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"the JPEG is damaged, cut off or of a rare kind: {_said(error)}") from error
    return _turned(rgb, _jpeg_orientation(data)) if headers.has_exif else rgb


def _checked_jpeg(data: bytes) -> JpegHeaders:
    _check_size(*read_jpeg_size(data))
    return read_jpeg_headers(data)


def _jpeg_orientation(data: bytes) -> int:
    from io import BytesIO

    try:
        return int(_pillow_opener("JPEG")(BytesIO(data)).getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the orientation, and nothing about the pixels
        return 1


def _turned(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror pixels as an EXIF orientation, 1 to 8, asks for."""
    if orientation not in range(2, 9):
        return rgb
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb)


def _decode_with_pillow(data: bytes, kind: str) -> NDArray[np.uint8]:
    from io import BytesIO

    if kind == "WebP":
        width, height = _webp_size(data)
        _check_size(width, height)  # its decoder takes memory for the pixels as soon as it is made
        if width * height > MAX_RICH_WEBP_PIXELS:
            raise PictureError(f"the WebP has {width:,} x {height:,} pixels; with transparency or several frames, at "
                               f"most {MAX_RICH_WEBP_PIXELS:,} are decoded")  # fmt: skip
    try:
        # The plugin itself instead of Image.open, which warns about large pictures before they can be refused.
        image = _pillow_opener(kind)(BytesIO(data))
        _check_size(*image.size)
        if kind == "TIFF":
            _check_tiff(image, data)
        image.load()
        if kind == "PNG" and image.mode == "I":
            # 16-bit grey, as Pillow before 10.3 called it
            return to_rgb(np.asarray(image).astype(np.uint16))
        return _pillow_to_rgb(image)
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(f"the {kind} cannot be decoded, it is cut off, damaged or of a rare kind: "
                           f"{_said(error)}") from error  # fmt: skip


def _pillow_opener(kind: str) -> Any:  # noqa: ANN401
    from importlib import import_module

    name = kind if kind == "WebP" else kind.capitalize()
    return getattr(import_module(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")


def _pillow_to_rgb(image: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    if image.mode in ("I", "F"):
        raise PictureError(f"the picture has 32 bits a sample (mode {image.mode}); expected 1, 8 or 16")
    twelve_bits = getattr(image, "tag_v2", {}).get(258) == (12,)  # TIFF's BitsPerSample
    transparent = image.info.get("transparency")
    deep = image.mode.startswith("I;16")
    width, height = image.size

    def convert(top: int, bottom: int) -> NDArray[np.uint8]:
        band = image.crop((0, top, width, bottom))
        if deep:
            grey = np.asarray(band).astype(np.uint16)
            if twelve_bits:
                grey <<= 4
            if isinstance(transparent, int):
                grey[grey == transparent] = 0
            return _band_to_rgb(grey)
        if transparent is not None:
            band.info["transparency"] = transparent
        if transparent is not None or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
            return _band_to_rgb(np.asarray(band.convert("RGBA")))
        return np.asarray(band if band.mode == "RGB" else band.convert("RGB"))

    return _turned(_in_bands(width, height, convert), _orientation(image))


def _in_bands(width: int, height: int, convert: Callable[[int, int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Fill a picture from `convert(top, bottom)`, some rows at a time, so that what lies between stays small."""
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        rgb[top:bottom] = convert(top, bottom)
    return rgb


def _band_to_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Turn rows of bool, uint8 or uint16 with 1 to 4 channels into RGB, what is transparent on black."""
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    channels = array.shape[2]
    colours = array[:, :, : 1 if channels <= 2 else 3]
    if channels in (2, 4):
        # On black, alpha is a factor; 255 * 255 + 127 still fits 16 bits.
        alpha = array[:, :, -1:].astype(np.uint16)
        colours = ((colours * alpha + 127) // 255).astype(np.uint8)
    return np.broadcast_to(colours, (*colours.shape[:2], 3))


def _orientation(image: Any) -> int:  # noqa: ANN401
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the orientation, and nothing about the pixels
        return 1


def _check_tiff(image: Any, data: bytes) -> None:  # noqa: ANN401
    """Refuse tiles far larger than the picture, since a whole tile is unpacked at a time, and damaged JPEGs in it."""
    tags = image.tag_v2
    tile_width, tile_height = (int(tags.get(tag, 0)) for tag in (322, 323))
    if tile_width * tile_height > MAX_PIXELS:
        raise PictureError(f"the TIFF has tiles of {tile_width:,} x {tile_height:,} pixels; "
                           f"at most {MAX_PIXELS:,} are read")  # fmt: skip
    if tags.get(259) != 7:
        return
    # Pillow does not hand on what libjpeg says of the strips or tiles.
    tables = bytes(tags.get(347, b""))
    starts, lengths = tags.get(324) or tags.get(273), tags.get(325) or tags.get(279)
    if sum(lengths) > len(data):
        raise PictureError("the TIFF is damaged: its strips or tiles overlap")
    pixels = 0
    for start, length in zip(starts, lengths, strict=True):
        part = data[start : start + length]
        pixels += _check_jpeg_part(tables[:-2] + part[2:] if tables else part)
        if pixels > 2 * MAX_PIXELS:
            raise PictureError("the TIFF is damaged: its strips or tiles have more pixels than it")


def _check_jpeg_part(data: bytes) -> int:
    """Refuse a damaged JPEG in a TIFF; count its pixels."""
    import simplejpeg

    headers = _checked_jpeg(data)
    try:
        simplejpeg.decode_jpeg(data, {1: "GRAY", 3: "RGB", 4: "CMYK"}.get(headers.channels, "RGB"), strict=True)
    except ValueError as error:
        raise PictureError(f"a JPEG in the TIFF is damaged: {_said(error)}") from error
    return headers.size[0] * headers.size[1]


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    """Read ImageWidth and ImageLength out of a TIFF's first directory (TIFF 6.0, section 2; BigTIFF)."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    start, count_code, entry = (
        (8, "Q", struct.Struct(order + "HHQ8s")) if big else (4, "H", struct.Struct(order + "HHL4s"))
    )
    (directory,) = struct.unpack_from(order + ("Q" if big else "L"), data, start)
    (count,) = struct.unpack_from(order + count_code, data, directory)
    found: dict[int, int] = {}
    place = directory + struct.calcsize(order + count_code)
    for index in range(min(count, 4_096)):
        tag, kind, _, value = entry.unpack_from(data, place + index * entry.size)
        if tag in (256, 257) and kind in (3, 4, 16):
            (found[tag],) = struct.unpack_from(order + {3: "H", 4: "L", 16: "Q"}[kind], value)
    return (found[256], found[257]) if len(found) == 2 else None


def _bmp_size(data: bytes) -> tuple[int, int]:
    """Read width and height out of a BMP's header, of which there are an old and a new kind."""
    (header,) = struct.unpack_from("<L", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ll", data, 18)
    return abs(width), abs(height)


def _is_plain_webp(data: bytes) -> bool:
    """Whether a WebP is one frame without transparency (RFC 9649, 2.7); its size is checked by the way."""
    _check_size(*_webp_size(data))
    if data[12:16] == b"VP8X":
        return not data[20] & 0b00010010
    return data[12:16] != b"VP8L" or not data[24] & 0b00010000


def _webp_orientation(data: bytes) -> int:
    """Read the EXIF orientation of a WebP, which stands in a chunk behind its pixels."""
    start = 12
    for _ in range(1_000 if data[12:16] == b"VP8X" else 0):
        length = int.from_bytes(data[start + 4 : start + 8], "little")
        if data[start : start + 4] == b"EXIF":
            return _exif_orientation(data[start + 8 : start + 8 + length])
        start += 8 + length + length % 2
    return 1


def _exif_orientation(block: bytes) -> int:
    from PIL import Image

    try:
        exif = Image.Exif()
        exif.load(block)
        return int(exif.get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the orientation, and nothing about the pixels
        return 1


def _webp_size(data: bytes) -> tuple[int, int]:
    """Read width and height out of a WebP's first chunk (RFC 9649)."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise PictureError(f"the WebP breaks off after {len(data):,} bytes")
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise PictureError(f"the picture has no pixels: it is {width} x {height}")
    if width * height > MAX_PIXELS:
        raise PictureError(f"the picture has {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are decoded")
    if max(width, height) > MAX_SIDE_PX:
        raise PictureError(
            f"the picture has {width:,} x {height:,} pixels; at most {MAX_SIDE_PX:,} on a side are decoded"
        )


def _uint8(array: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    """Tell the type checker what OpenCV's annotations leave open."""
    return cast("NDArray[np.uint8]", array)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
