"""One picture: bytes to RGB pixels, within limits.

PNG, JPEG, TIFF, BMP and WebP are told by their first bytes, never by a name. Limits on bytes and pixels are
checked before anything is decoded. What comes out is always uint8 [H, W, 3] RGB:

- 16-bit samples keep their high byte (and 12-bit ones their high 8 bits), whatever range they use: no picture
  is stretched by its own content;
- grey becomes three equal channels, a palette its colours;
- what is transparent is put on black, since the cells that models learn from stand on black;
- EXIF orientation is applied (PNG, JPEG, TIFF and WebP can carry one);
- of several frames or pages the first is taken.

Plain PNGs, which is what cells come as, are decoded by OpenCV, which gives Python's lock away meanwhile and is
the fastest at hand. It reads a broken file as far as it goes in some versions and prints to standard error in
others, so the chunks and their checksums are verified first; that costs some ten microseconds. Everything
else goes through Pillow, which knows all the odd kinds.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, cast
from zlib import crc32

import cv2
import numpy as np

from giemsa.errors import PictureError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES: Final = 128 * 2**20
"""Largest file that is read: a 16-bit RGB photograph of 20 megapixels, uncompressed."""
MAX_PIXELS: Final = 50_000_000
"""Most pixels that are decoded: the largest microscope cameras have some 45 megapixels."""
SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".webp"})
"""Endings (lower case) by which pictures are found in folders and archives."""

_EXPECTED = "expected PNG, JPEG, TIFF, BMP or WebP"
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
_IHDR = struct.Struct(">IIBB")
_CRC = struct.Struct(">I")
# Chunks that change what the pixels mean (transparency, orientation, several frames): left to Pillow.
_MEANINGFUL_CHUNKS = frozenset({b"tRNS", b"eXIf", b"iTXt", b"zTXt", b"acTL"})
_PLAIN_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


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
    if kind != "PNG" or not _is_plain_png(data):
        return _decode_with_pillow(data, kind)
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), _PLAIN_FLAGS)
    except cv2.error as error:
        raise PictureError(f"the PNG cannot be decoded: {error.err}") from error
    if bgr is None:
        raise PictureError("the PNG is damaged: its compressed pixels cannot be unpacked")
    return _uint8(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr))


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
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        raise UsageError(
            f"the array has dtype {array.dtype}; expected uint8 (0 to 255) or uint16 (0 to 65,535), "
            "so scale and convert it first"
        )
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    channels = array.shape[2]
    colours = array[:, :, : 1 if channels <= 2 else 3]
    if channels in (2, 4):
        # On black, alpha is a factor; 255 * 255 + 127 still fits 16 bits.
        alpha = array[:, :, -1:].astype(np.uint16)
        colours = ((colours * alpha + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


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


def _is_plain_png(data: bytes) -> bool:
    """Verify a PNG's structure and checksums, and tell whether OpenCV reads it right."""
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise PictureError(f"the PNG breaks off or is damaged within its first {len(data[:33])} bytes")
    width, height, bits, colour_type = _IHDR.unpack_from(data, 16)
    _check_size(width, height)
    plain = bits <= 8 and colour_type in (0, 2, 3)  # grey, RGB, palette
    view = memoryview(data)
    size, start, has_pixels = len(data), len(_PNG), False
    while start + 12 <= size:
        length, name = _CHUNK.unpack_from(data, start)
        end = start + 12 + length
        if end > size:
            break
        if crc32(view[start + 4 : end - 4]) != _CRC.unpack_from(data, end - 4)[0]:
            raise PictureError(f"the PNG is damaged: the checksum of its chunk at byte {start:,} is wrong")
        if name == b"IDAT":
            has_pixels = True
        elif name == b"IEND":
            if not has_pixels:
                raise PictureError("the PNG is damaged: it has no pixels")
            return plain
        elif name in _MEANINGFUL_CHUNKS or (name == b"tEXt" and data[start + 8 :].startswith(b"Raw profile")):
            plain = False
        start = end
    raise PictureError(f"the PNG breaks off after {size:,} bytes")


def _decode_with_pillow(data: bytes, kind: str) -> NDArray[np.uint8]:
    from io import BytesIO

    if kind == "WebP":
        _check_size(*_webp_size(data))  # its decoder takes memory for the pixels as soon as it is made
    try:
        # The plugin itself instead of Image.open, which warns about large pictures before they can be refused.
        image = _pillow_opener(kind)(BytesIO(data))
        _check_size(*image.size)
        if kind == "TIFF":
            _check_tiff(image)
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
    twelve_bits = getattr(image, "tag_v2", {}).get(258) == (12,)  # TIFF's BitsPerSample
    image = _upright(image)
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16)
        if twelve_bits:
            grey <<= 4
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            grey[grey == transparent] = 0
        return to_rgb(grey)
    if image.mode in ("I", "F"):
        raise PictureError(f"the picture has 32 bits a sample (mode {image.mode}); expected 1, 8 or 16")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return to_rgb(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _upright(image: Any) -> Any:  # noqa: ANN401
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing about the orientation, and nothing about the pixels
        return image


def _check_tiff(image: Any) -> None:  # noqa: ANN401
    """Refuse tiles far larger than the picture: a whole tile is unpacked at a time."""
    tile_width, tile_height = (int(image.tag_v2.get(tag, 0)) for tag in (322, 323))
    if tile_width * tile_height > MAX_PIXELS:
        raise PictureError(f"the TIFF has tiles of {tile_width:,} x {tile_height:,} pixels; "
                           f"at most {MAX_PIXELS:,} are read")  # fmt: skip


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


def _uint8(array: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    """Tell the type checker what OpenCV's annotations leave open."""
    return cast("NDArray[np.uint8]", array)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
