"""Hostile pictures and archives: what is said of each, how long it takes, and how much memory.

Each is drawn here and read in a process of its own. `python benchmarks/hostile_inputs.py` prints a Markdown table for
docs/security.md; with `--cells DIR` (PNGs of cells) also how many of them, as JPEG and damaged in three ways, get
another verdict without a word.
"""

from __future__ import annotations

import argparse
import io
import random
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import giemsa

if TYPE_CHECKING:
    from collections.abc import Callable

READ = """
import sys, time
import PIL.BmpImagePlugin, PIL.JpegImagePlugin, PIL.PngImagePlugin, PIL.TiffImagePlugin, PIL.WebPImagePlugin
import simplejpeg
from giemsa.errors import GiemsaError
from giemsa.images import decode, resize
from giemsa.sources import open_sources

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

before, start, reasons, read = peak(), time.process_time(), {}, 0
try:
    for source in open_sources(sys.argv[1:]):
        try:
            resize(decode(source.read()), 64)
            read += 1
        except GiemsaError as error:
            reasons[str(error)] = reasons.get(str(error), 0) + 1
except GiemsaError as error:
    reasons[str(error)] = 1
first = next(iter(reasons), "read").replace(sys.argv[1], sys.argv[1].rpartition("/")[2])
print(f"{time.process_time() - start:.2f} | {(peak() - before) / 1024:.0f} | {read} | {first}")
"""


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, colour_type: int, packed: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(min(2**24, count - at))) for at in range(0, count, 2**24)) + packer.flush()


def endless_idat() -> bytes:
    return png(100, 100, 2, zeros(4 * 2**30))


def blank(colour_type: int, channels: int) -> bytes:
    return png(7_000, 7_000, colour_type, zeros((7_000 * channels + 1) * 7_000))


def jpeg(size: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), 128, np.uint8)).save(file, "JPEG", **options)
    return file.getvalue()


def empty_scans() -> bytes:
    data = jpeg(1_000, progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * (400_000 // len(scan)) + data[-2:]


def endless_row() -> bytes:
    packed = zlib.compress(bytes(50_000_000))
    tags = {256: 50_000_000, 257: 1, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory


def overlapping(content: bytes, count: int, *, crc: int | None = None) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, 0, 0, 0, 0) + packed
    sizes = (zlib.crc32(content) if crc is None else crc, len(packed), len(content))
    names = [b"%d.png" % number for number in range(count)]
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 0, *sizes, len(name), 0, 0, 0, 0, 0, 0) + name
        for name in names
    )
    return local + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(local), 0)


def many_pngs() -> bytes:
    file = io.BytesIO()
    content = blank(2, 3)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(5_000):
            archive.writestr(f"{number}.png", content)
    return file.getvalue()


def webp(**options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((7_000, 7_000, 4), 128, np.uint8)).save(file, "WEBP", lossless=True, method=0, **options)
    return file.getvalue()


INPUTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "PNG, 49 megapixels, RGB": ("a.png", lambda: blank(2, 3)),
    "PNG, 49 megapixels, with transparency": ("a.png", lambda: blank(6, 4)),
    "JPEG, 49 megapixels": ("a.jpg", lambda: jpeg(7_000, subsampling=0)),
    "JPEG, 49 megapixels, progressive": ("a.jpg", lambda: jpeg(7_000, progressive=True, subsampling=0)),
    "WebP, 49 megapixels, with transparency": ("a.webp", webp),
    "TIFF of 50,000,000 x 1 pixels": ("a.tif", endless_row),
    "PNG of 100 x 100 pixels whose data unpack to 4 GB": ("a.png", endless_idat),
    "JPEG of thousands of empty scans": ("a.jpg", empty_scans),
    "JPEG of 128 MB of filling": ("a.jpg", lambda: b"\xff\xd8" + b"\xff" * (127 * 2**20)),
    "PNG of 8,000,000 empty chunks": ("a.png", lambda: png(9, 9, 2, b"")[:33] + chunk(b"tEXt", b"") * 8_000_000),
    "zip, 5,000 members over each other": ("a.zip", lambda: overlapping(blank(2, 3), 5_000)),
    "zip, the same with wrong checksums": (
        "a.zip",
        lambda: overlapping(blank(2, 3)[:33] + bytes(100_000_000), 5_000, crc=1),
    ),
    "zip, 5,000 PNGs of 49 megapixels": ("a.zip", many_pngs),
}


def damaged_cells(folder: Path, count: int) -> None:
    """Say how many damaged JPEGs of real cells are judged otherwise without a word."""
    classifier = giemsa.load(threads=1)
    rng = random.Random(0)  # noqa: S311
    paths = sorted(folder.rglob("*.png"))
    tried = {"cut, and closed with FFD9": [0, 0, 0], "one bit flipped": [0, 0, 0], "20 bytes replaced": [0, 0, 0]}
    for path in rng.sample(paths, min(count, len(paths))):
        file = io.BytesIO()
        Image.open(path).convert("RGB").save(file, "JPEG", quality=90, progressive=rng.random() < 0.3)
        data = file.getvalue()
        whole = classifier.classify(data)
        at = rng.randrange(data.index(b"\xff\xda") + 20, len(data) - 30)
        flipped = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        replaced = data[:at] + rng.randbytes(20) + data[at + 20 :]
        for name, damaged in zip(tried, (data[:at] + b"\xff\xd9", flipped, replaced), strict=True):
            verdict = classifier.classify(damaged)
            tried[name][0] += 1
            tried[name][1] += verdict.verdict == "unreadable"
            tried[name][2] += verdict.verdict not in ("unreadable", whole.verdict)
    print("\n| damage | JPEGs of cells | unreadable, with a reason | another verdict, in silence |\n|---|---|---|---|")
    for name, (all_of_them, unreadable, silent) in tried.items():
        print(f"| {name} | {all_of_them} | {unreadable} | {silent} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=Path)
    parser.add_argument("--count", type=int, default=1_000)
    args = parser.parse_args()
    print("| input | bytes | s of one core | MB more | pictures read | what is said first |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, make) in INPUTS.items():
            path = Path(folder) / file
            path.write_bytes(make())
            said = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True).stdout
            print(f"| {name} | {path.stat().st_size:,} | {said.strip()} |", flush=True)
    if args.cells is not None:
        damaged_cells(args.cells, args.count)


if __name__ == "__main__":
    main()
