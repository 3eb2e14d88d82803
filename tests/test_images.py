"""Every kind of picture becomes the same RGB pixels, or an error that says why not."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from giemsa import images
from giemsa.errors import PictureError, UsageError
from giemsa.images import decode, from_pillow, resize, to_rgb

LOSSLESS = [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("WEBP", {"lossless": True})]


@pytest.fixture
def cell(draw_cell):
    return draw_cell(True, size=(40, 60))


def png_chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def raw_png(width, height, *, bits, colour_type, rows, extra=b""):
    """Write a PNG by hand: `rows` are the bytes of each row, without the filter byte."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    )


def raw_tiff(width, height, *, bits, strip, extra=()):
    """Write a grey TIFF of one strip by hand; `extra` are (tag, value)."""
    strip_at = 8
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: strip_at, 277: 1, 278: height, 279: len(strip)}
    tags |= dict(extra)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    ifd = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", strip_at + len(strip)) + strip + ifd


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_files_give_back_their_rgb_pixels(cell, encode, kind, options):
    decoded = decode(encode(cell, kind, **options))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, cell)


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_grey_becomes_three_equal_channels(cell, encode, kind, options):
    grey = cell[:, :, 1]
    np.testing.assert_array_equal(decode(encode(grey, kind, **options)), np.dstack([grey] * 3))


def test_jpeg_is_close_to_what_was_written(cell, encode):
    difference = np.abs(decode(encode(cell, "JPEG", quality=95)).astype(int) - cell)
    assert difference.mean() < 4


def test_progressive_and_cmyk_jpegs_are_read(cell, encode):
    progressive = decode(encode(cell, "JPEG", quality=95, progressive=True))
    assert np.abs(progressive.astype(int) - cell).mean() < 4
    cmyk = decode(encode(Image.fromarray(cell).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk.astype(int) - cell).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_pictures_are_black_and_white(kind, encode):
    mask = np.indices((16, 24)).sum(0) % 3 == 0
    decoded = decode(encode(Image.fromarray(mask), kind))
    np.testing.assert_array_equal(decoded, np.dstack([mask.astype(np.uint8) * 255] * 3))


@pytest.mark.parametrize("bits", [2, 4])
def test_shallow_grey_pngs_reach_from_black_to_white(bits):
    per_byte = 8 // bits
    values = np.arange(2**bits)
    row = b"".join(
        bytes([sum(int(v) << (8 - bits * (i + 1)) for i, v in enumerate(values[start : start + per_byte]))])
        for start in range(0, len(values), per_byte)
    )
    decoded = decode(raw_png(len(values), 1, bits=bits, colour_type=0, rows=[row]))
    np.testing.assert_array_equal(decoded[0, :, 0], np.round(values * 255 / (2**bits - 1)))


def test_sixteen_bit_grey_keeps_its_high_byte(encode):
    grey = np.arange(0, 65536, 13, dtype=np.uint16)[:5000].reshape(50, 100)
    expected = np.dstack([(grey >> 8).astype(np.uint8)] * 3)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(encode(Image.fromarray(grey), kind)), expected)


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_sixteen_bit_rgb_keeps_its_high_byte(cell, ending):
    deep = cell.astype(np.uint16) * 257
    deep[::2] -= deep[::2] & 0xFF  # not only multiples of 257
    _, data = cv2.imencode(ending, deep[:, :, ::-1])
    np.testing.assert_array_equal(decode(data.tobytes()), (deep >> 8).astype(np.uint8))


def test_sixteen_bit_pixels_are_never_stretched_by_their_own_range(encode):
    dim = np.full((10, 10), 4095, np.uint16)  # a 12-bit camera's white in a 16-bit file
    assert decode(encode(Image.fromarray(dim), "PNG")).max() == 15


def test_twelve_bit_tiffs_keep_their_high_byte():
    two_pixels = b"\xff\xf8\x00"  # 0xFFF and 0x800
    np.testing.assert_array_equal(decode(raw_tiff(2, 1, bits=12, strip=two_pixels))[0, :, 0], [255, 128])


def test_alpha_is_put_on_black(cell, encode):
    alpha = np.zeros(cell.shape[:2], np.uint8)
    alpha[:, 20:] = 255
    alpha[:, 40:] = 128
    expected = (cell.astype(int) * alpha[:, :, None] + 127) // 255
    for kind, options in LOSSLESS:
        if kind != "BMP":
            data = encode(np.dstack([cell, alpha]), kind, **({"exact": True} if kind == "WEBP" else {}) | options)
            np.testing.assert_array_equal(decode(data), expected, err_msg=kind)


def test_grey_with_alpha_is_put_on_black(cell, encode):
    grey = cell[:, :, 0]
    alpha = np.where(np.arange(60) < 30, 0, 255).astype(np.uint8)[None].repeat(40, 0)
    decoded = decode(encode(Image.fromarray(np.dstack([grey, alpha]), "LA"), "PNG"))
    np.testing.assert_array_equal(decoded, np.dstack([np.where(alpha > 0, grey, 0)] * 3))


def test_sixteen_bit_alpha_is_put_on_black(cell):
    deep = np.dstack([cell[:, :, ::-1], np.where(np.arange(60) < 30, 0, 255)[None].repeat(40, 0)]).astype(np.uint16)
    _, data = cv2.imencode(".png", deep * 257)
    expected = cell.copy()
    expected[:, :30] = 0
    np.testing.assert_array_equal(decode(data.tobytes()), expected)


def test_palettes_give_their_colours_and_their_transparency_becomes_black(encode):
    image = Image.new("P", (3, 1))
    image.putpalette([200, 10, 20, 30, 210, 40, 50, 60, 220])
    image.putdata([0, 1, 2])
    opaque = [[200, 10, 20], [30, 210, 40], [50, 60, 220]]
    np.testing.assert_array_equal(decode(encode(image, "PNG"))[0], opaque)
    np.testing.assert_array_equal(decode(encode(image, "BMP"))[0], opaque)
    np.testing.assert_array_equal(decode(encode(image, "PNG", transparency=1))[0], [opaque[0], [0, 0, 0], opaque[2]])
    np.testing.assert_array_equal(
        decode(encode(image, "PNG", transparency=bytes([255, 255, 0])))[0], [*opaque[:2], [0, 0, 0]]
    )


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("colour_type", [0, 2])
def test_a_transparent_colour_becomes_black(bits, colour_type):
    channels = 1 if colour_type == 0 else 3
    values = [10, 200, 90]
    scale, code = (1, "B") if bits == 8 else (257, "H")
    row = struct.pack(f">{3 * channels}{code}", *(v * scale for v in values for _ in range(channels)))
    key = png_chunk(b"tRNS", struct.pack(f">{channels}H", *[200 * scale] * channels))
    data = raw_png(3, 1, bits=bits, colour_type=colour_type, rows=[row], extra=key)
    np.testing.assert_array_equal(decode(data)[0, :, 0], [10, 0, 90])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(cell, encode, kind, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    decoded = decode(encode(cell, kind, exif=exif, **options)).astype(int)
    # The EXIF standard: which edge of the scene the first row and the first column of the file are.
    upright = {
        1: cell,
        2: cell[:, ::-1],
        3: cell[::-1, ::-1],
        4: cell[::-1],
        5: cell.transpose(1, 0, 2),
        6: np.rot90(cell, -1),
        7: cell.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(cell),
    }[orientation]
    assert decoded.shape == upright.shape
    assert np.abs(decoded - upright).mean() < (4 if kind == "JPEG" else 1e-9)


def test_a_damaged_exif_block_does_not_hide_the_pixels(cell, encode):
    data = encode(cell, "PNG")
    data = data[:33] + png_chunk(b"eXIf", b"nonsense") + data[33:]
    np.testing.assert_array_equal(decode(data), cell)


def test_the_first_page_and_the_first_frame_are_taken(cell, encode):
    first, second = Image.fromarray(cell), Image.fromarray(255 - cell)
    for kind, options in (("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        data = encode(first, kind, save_all=True, append_images=[second], **options)
        np.testing.assert_array_equal(decode(data), cell, err_msg=kind)


def test_colour_profiles_text_and_what_stands_behind_the_end_do_no_harm(cell, encode):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", "a microscope")
    info.add_itxt("Comment", "stained")
    np.testing.assert_array_equal(decode(encode(cell, "PNG", pnginfo=info) + b"trailing"), cell)


def test_an_empty_file_is_called_empty():
    with pytest.raises(PictureError, match="empty"):
        decode(b"")


def test_text_is_no_picture():
    with pytest.raises(PictureError, match=r"begins with 'not a pi'.*expected PNG"):
        decode(b"not a picture at all")


@pytest.mark.parametrize("kept", [8, 20, 33, 40, 200, 0.5, -13, -12, -1])
def test_a_png_cut_anywhere_is_refused(cell, encode, kept, capfd):
    data = encode(cell, "PNG")
    cut = data[: int(kept * len(data)) if isinstance(kept, float) else kept]
    with pytest.raises(PictureError, match=r"breaks off|damaged"):
        decode(cut)
    assert capfd.readouterr() == ("", "")  # libraries print nothing of their own


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), *LOSSLESS[1:]])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_every_kind_of_file_is_refused_when_it_is_cut(draw_cell, encode, kind, options, kept):
    data = encode(draw_cell(True, size=(150, 150)), kind, **options)
    with pytest.raises(PictureError, match=r"cut off|breaks off"):
        decode(data[: int(kept * len(data))])


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_no_jpeg_that_was_cut_and_closed_again_is_read(draw_cell, encode, options):
    """Decoders fill the rest with grey, and a verdict on half a cell would look like any other."""
    data = encode(draw_cell(True, size=(150, 150), seed=3), "JPEG", quality=85, **options)
    whole = decode(data)
    for kept in range(100, len(data) - 2, 23):
        with suppress(PictureError):
            np.testing.assert_array_equal(decode(data[:kept] + b"\xff\xd9"), whole, f"{kept} bytes kept")


def test_a_progressive_jpeg_without_its_last_scans_is_refused(cell, encode):
    data = encode(cell, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    tables = data.rindex(b"\xff\xc4")
    with pytest.raises(PictureError, match="not all of its scans"):
        decode(data[: min(last, tables)] + b"\xff\xd9")


def test_a_jpeg_with_damaged_pixels_says_what_the_decoder_said(draw_cell, encode):
    data = bytearray(encode(draw_cell(True, size=(150, 150)), "JPEG"))
    middle = len(data) // 2
    data[middle : middle + 40] = b"\xff\0" * 20  # no code is all ones
    with pytest.raises(PictureError, match=r"JPEG is damaged, cut off or of a rare kind: .*bad Huffman code"):
        decode(bytes(data))


def test_jpegs_have_the_pixels_that_pillow_gives(draw_cell, encode):
    cell = draw_cell(True, size=(77, 61))
    for options in ({}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 30}):
        data = encode(cell, "JPEG", **options)
        np.testing.assert_array_equal(decode(data), np.array(Image.open(io.BytesIO(data)).convert("RGB")))
    grey = encode(cell[:, :, 1], "JPEG")
    np.testing.assert_array_equal(decode(grey), np.array(Image.open(io.BytesIO(grey)).convert("RGB")))


def test_a_jpeg_of_thousands_of_empty_scans_is_refused_before_it_is_decoded(cell, encode, monkeypatch):
    data = encode(cell, "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    monkeypatch.setattr("simplejpeg.decode_jpeg", None)
    with pytest.raises(PictureError, match="more than 100 scans"):
        decode(data[:-2] + scan * 1_000 + data[-2:])


def test_a_jpeg_of_endless_segments_or_filling_is_refused(cell, encode):
    data = encode(cell, "JPEG")
    with pytest.raises(PictureError, match="more than 10,000 segments"):
        decode(data[:2] + b"\xff\xe5\0\2" * 20_000 + data[2:])
    np.testing.assert_array_equal(decode(data[:2] + b"\xff" * 10_000 + data[2:]), decode(data))


def test_a_damaged_jpeg_inside_a_tiff_is_refused(draw_cell, encode):
    cell = draw_cell(True, size=(150, 150))
    data = encode(cell, "TIFF", compression="jpeg")
    assert np.abs(decode(data).astype(int) - cell).mean() < 6
    image = Image.open(io.BytesIO(data))
    start, length = image.tag_v2[273][0], image.tag_v2[279][0]
    damaged = bytearray(data)
    middle = start + length // 2
    damaged[middle : middle + 40] = b"\xff\0" * 20
    with pytest.raises(PictureError, match="JPEG in the TIFF is damaged"):
        decode(bytes(damaged))


def test_chunks_that_libpng_would_complain_of_are_left_out(capfd):
    odd = {
        b"gAMA": bytes(4),
        b"cHRM": bytes(32),
        b"sRGB": b"\x09",
        b"pHYs": b"1",
        b"iCCP": b"x\0\0bad",
        b"sBIT": bytes(3),
    }
    extra = b"".join(png_chunk(name, content) for name, content in odd.items())
    pixels = [bytes(range(12))] * 4
    plain = decode(raw_png(4, 4, bits=8, colour_type=2, rows=pixels))
    np.testing.assert_array_equal(decode(raw_png(4, 4, bits=8, colour_type=2, rows=pixels, extra=extra)), plain)
    assert capfd.readouterr() == ("", "")


def test_a_png_that_holds_far_more_than_its_pixels_is_not_unpacked_to_the_end(monkeypatch):
    """OpenCV would unpack all of it, a thousandfold; so what is large goes to Pillow, which stops at the last row."""
    monkeypatch.setattr(cv2, "imdecode", None)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0))
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(bytes(2**20)) for _ in range(300)) + packer.flush()
    data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    assert not decode(data).any()


def test_a_png_of_endless_chunks_is_refused():
    extra = png_chunk(b"tEXt", b"") * 1_000_000  # looked at without being copied: each copy would be of megabytes
    with pytest.raises(PictureError, match="more than 100,000 chunks"):
        decode(raw_png(1, 1, bits=8, colour_type=0, rows=[b"\0"], extra=extra))


def test_a_picture_of_one_endless_row_is_refused():
    with pytest.raises(PictureError, match="at most 65,535 on a side"):
        decode(raw_tiff(50_000_000, 1, bits=8, strip=b"1234"))
    with pytest.raises(PictureError, match="at most 65,535 on a side"):
        to_rgb(np.zeros((70_000, 2), np.uint8))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_turning_pixels_into_rgb_takes_little_more_memory_than_they_do(channels):
    array = np.zeros((3_000, 4_000, channels), np.uint8)
    tracemalloc.start()
    try:
        rgb = to_rgb(array)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < rgb.nbytes + 2**24


@pytest.mark.parametrize(("kind", "options"), [*LOSSLESS, ("JPEG", {}), ("JPEG", {"progressive": True})])
def test_the_size_is_read_without_decoding(cell, encode, kind, options):
    assert images.size_of(encode(cell, kind, **options)) == (cell.shape[1], cell.shape[0])


@given(
    st.binary(max_size=100), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM"])
)
def test_the_size_of_anything_is_none_or_two_numbers(data, head):
    size = images.size_of(head + data)
    assert size is None or len(size) == 2


def test_a_png_with_a_changed_byte_is_refused(cell, encode, capfd):
    data = bytearray(encode(cell, "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(PictureError, match="checksum"):
        decode(bytes(data))
    assert capfd.readouterr() == ("", "")


def test_a_png_without_pixels_or_with_nonsense_for_pixels_is_refused(capfd):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    start, end = b"\x89PNG\r\n\x1a\n" + header, png_chunk(b"IEND", b"")
    with pytest.raises(PictureError, match="no pixels"):
        decode(start + end)
    with pytest.raises(PictureError, match="cannot be unpacked"):
        decode(start + png_chunk(b"IDAT", b"nonsense") + end)
    with pytest.raises(PictureError, match="no pixels: it is 0 x 4"):
        decode(raw_png(0, 4, bits=8, colour_type=2, rows=[b""] * 4))


def test_a_png_with_an_impossible_kind_of_pixel_is_refused():
    with pytest.raises(PictureError):
        decode(raw_png(4, 4, bits=8, colour_type=1, rows=[b"\0" * 12] * 4))


def bomb(kind):
    """Files of some bytes that claim 20,000 x 20,000 pixels."""
    side = 20_000
    if kind == "PNG":
        return raw_png(side, side, bits=8, colour_type=2, rows=[b"\0" * 3 * side])
    if kind == "PNG16":
        return raw_png(side, side, bits=16, colour_type=2, rows=[b"\0" * 6 * side])
    small = io.BytesIO()
    if kind == "TIFF":
        return raw_tiff(side, side, bits=8, strip=b"1234")
    if kind == "WEBP":
        return (
            b"RIFF"
            + struct.pack("<I", 22)
            + b"WEBPVP8X"
            + struct.pack("<I", 10)
            + bytes(4)
            + ((16_383).to_bytes(3, "little") * 2)
        )
    Image.new("RGB", (8, 8)).save(small, kind)
    data = bytearray(small.getvalue())
    if kind == "BMP":
        struct.pack_into("<ii", data, 18, side, side)
    else:
        at = data.index(b"\xff\xc0")
        struct.pack_into(">HH", data, at + 5, side, side)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "PNG16", "TIFF", "BMP", "WEBP", "JPEG"])
def test_too_many_pixels_are_refused_before_they_are_decoded(kind, recwarn):
    data = bomb(kind)
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match=r"at most 50,000,000 are decoded"):
            decode(data)
        decode_size = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decode_size < 10 * 2**20
    assert not recwarn.list


@pytest.mark.parametrize(("code", "body", "size"), [(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(5), (16384, 16384))])
def test_the_size_of_a_lossless_webp_is_read_from_its_head(code, body, size):
    data = b"RIFF" + struct.pack("<I", 30) + b"WEBP" + code + struct.pack("<I", len(body)) + body
    with pytest.raises(PictureError, match=f"{size[0]:,} x {size[1]:,} pixels"):
        decode(data)


def test_a_tiff_with_tiles_far_larger_than_the_picture_is_refused():
    tiled = raw_tiff(2, 2, bits=8, strip=b"1234", extra=[(322, 65_520), (323, 65_520)])
    with pytest.raises(PictureError, match="tiles of 65,520 x 65,520"):
        decode(tiled)


def test_too_many_bytes_are_refused(cell, encode, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    with pytest.raises(PictureError, match="at most 1,000 are read"):
        decode(encode(cell, "PNG"))


def test_pictures_of_32_bits_are_refused(encode):
    with pytest.raises(PictureError, match=r"32 bits.*expected 1, 8 or 16"):
        decode(encode(Image.new("F", (4, 4)), "TIFF"))
    with pytest.raises(PictureError, match="32 bits"):
        decode(encode(Image.new("I", (4, 4)), "TIFF"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bytes_give_pixels_or_a_picture_error(data):
    starts = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"BM", b"RIFF1234WEBP"]
    picture = data.draw(st.sampled_from(starts)) + data.draw(st.binary(max_size=200))
    with suppress(PictureError):
        assert decode(picture).ndim == 3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3), st.data())
def test_a_damaged_file_gives_pixels_or_a_picture_error(which, data):
    kind, options = [("JPEG", {}), ("TIFF", {}), ("BMP", {}), ("WEBP", {"lossless": True})][which]
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(file, kind, **options)
    damaged = bytearray(file.getvalue())
    for _ in range(3):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(PictureError):
        assert decode(bytes(damaged)).dtype == np.uint8


def test_arrays_follow_the_rules_of_files(cell):
    grey = cell[:, :, 0]
    three = np.dstack([grey] * 3)
    np.testing.assert_array_equal(to_rgb(cell), cell)
    np.testing.assert_array_equal(to_rgb(grey), three)
    np.testing.assert_array_equal(to_rgb(grey[:, :, None]), three)
    np.testing.assert_array_equal(to_rgb(grey.astype(np.uint16) * 257), three)
    np.testing.assert_array_equal(to_rgb(grey > 100), np.where(three > 100, 255, 0))
    half = np.full(grey.shape, 128, np.uint8)
    np.testing.assert_array_equal(to_rgb(np.dstack([grey, half])), (three.astype(int) * 128 + 127) // 255)
    np.testing.assert_array_equal(to_rgb(np.dstack([cell, half])), (cell.astype(int) * 128 + 127) // 255)
    assert to_rgb(cell[:, ::-1]).flags.c_contiguous


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), "dtype float32.*uint8"),
        (np.zeros((4, 4, 3), np.int64), "dtype int64"),
        (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"expected \[H, W\]"),
    ],
)
def test_arrays_whose_meaning_is_unknown_are_wrong_use(array, said):
    with pytest.raises(UsageError, match=said):
        to_rgb(array)


def test_arrays_without_pixels_are_unreadable():
    with pytest.raises(PictureError, match="0 x 4"):
        to_rgb(np.zeros((4, 0, 3), np.uint8))


@given(arrays(st.sampled_from([np.uint8, np.uint16, np.bool_]), array_shapes(min_dims=2, max_dims=3, max_side=5)))
def test_an_array_becomes_rgb_or_is_refused(array):
    try:
        rgb = to_rgb(array)
    except UsageError:
        assert array.ndim == 3
        assert array.shape[2] > 4
    else:
        assert (rgb.dtype, rgb.shape) == (np.uint8, (*array.shape[:2], 3))


def test_pillow_images_follow_the_rules_of_files(cell, encode):
    np.testing.assert_array_equal(from_pillow(Image.fromarray(cell)), cell)
    np.testing.assert_array_equal(from_pillow(Image.fromarray(cell).convert("HSV")).shape, cell.shape)
    exif = Image.Exif()
    exif[0x112] = 6
    opened = Image.open(io.BytesIO(encode(cell, "PNG", exif=exif)))
    np.testing.assert_array_equal(from_pillow(opened), np.rot90(cell, -1))
    with pytest.raises(PictureError, match="32 bits"):
        from_pillow(Image.new("F", (4, 4)))
    with pytest.raises(PictureError, match="0 x 0"):
        from_pillow(Image.new("RGB", (0, 0)))
    cut = Image.open(io.BytesIO(encode(cell, "BMP")[:500]))
    with pytest.raises(PictureError, match="cannot be loaded"):
        from_pillow(cut)


def area(rgb, size):
    """Average over areas, by the definition: an independent implementation of the kernel."""

    def weights(length):
        if length <= size:
            return None
        edges = np.linspace(0, length, size + 1)
        pixel = np.arange(length)
        overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
        return np.clip(overlap, 0, None) * size / length

    rows, columns = weights(rgb.shape[0]), weights(rgb.shape[1])
    return np.einsum("yh,hwc,xw->yxc", rows, rgb.astype(float), columns)


@pytest.mark.parametrize("shape", [(128, 128), (130, 142), (97, 65), (200, 391), (64, 64)])
def test_shrinking_averages_over_areas(draw_cell, shape):
    rgb = draw_cell(True, size=shape)
    small = resize(rgb, 64)
    assert (small.shape, small.dtype) == ((64, 64, 3), np.uint8)
    if shape == (64, 64):
        np.testing.assert_array_equal(small, rgb)
    elif shape[0] % 64 == shape[1] % 64 == 0:
        assert np.abs(small - area(rgb, 64)).max() <= 0.5
    else:
        assert np.abs(small - area(rgb, 64)).mean() < 1.5


@pytest.mark.parametrize("shape", [(20, 30), (20, 300), (300, 20), (1, 1), (1, 5000), (65, 63)])
def test_growing_is_linear_and_axes_do_not_touch_each_other(shape):
    height, width = shape
    ramp = np.broadcast_to(np.linspace(0, 255, width)[None, :, None], (height, width, 3)).astype(np.uint8)
    small = resize(np.ascontiguousarray(ramp), 64)
    assert small.shape == (64, 64, 3)
    # Nothing varies along the axis along which nothing varied (but for OpenCV's rounding).
    assert np.ptp(small.astype(int), axis=0).max() <= 1
    assert (np.diff(small[0, :, 0].astype(int)) >= -1).all()


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 255))
def test_a_flat_picture_stays_flat(height, width, value):
    assert (resize(np.full((height, width, 3), value, np.uint8), 48) == value).all()
