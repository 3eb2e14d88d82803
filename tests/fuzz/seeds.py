"""The first inputs of each target, drawn here: nothing of them is anybody's picture."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator


def _drawn(size: int = 16) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.dstack([x * 15 % 256, y * 15 % 256, (x + y) * 7 % 256]).astype(np.uint8)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pictures() -> Iterator[bytes]:
    """Every kind, in the ways that take other paths through the decoders."""
    rgb = Image.fromarray(_drawn())
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba = rgb.copy()
    rgba.putalpha(128)
    for kind, options in (
        ("PNG", {}), ("PNG", {"exif": exif}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"exif": exif}),
        ("JPEG", {"subsampling": 0, "restart_marker_rows": 1}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}), ("TIFF", {"compression": "tiff_adobe_deflate"}), ("BMP", {}), ("WEBP", {}),
        ("WEBP", {"lossless": True}), ("WEBP", {"exif": exif}),
    ):  # fmt: skip
        yield _encoded(rgb, kind, **options)
    for kind in ("PNG", "WEBP", "TIFF"):
        yield _encoded(rgba, kind)
    yield _encoded(rgb.quantize(8), "PNG", transparency=3)
    yield _encoded(rgb.convert("CMYK"), "JPEG")
    for mode in ("L", "1", "LA"):
        yield _encoded(rgb.convert(mode), "PNG")
    for kind in ("PNG", "TIFF"):
        yield _encoded(Image.fromarray(_drawn()[:, :, 0].astype(np.uint16) * 200), kind)
    yield _encoded(rgb, "PNG", save_all=True, append_images=[rgba.convert("RGB")])


def archives() -> Iterator[bytes]:
    """Stored and deflated, with 64-bit sizes, a comment, and something before them."""
    cell = _encoded(Image.fromarray(_drawn(8)), "PNG")
    for method, options, comment, before in (
        (zipfile.ZIP_STORED, {}, b"", b""),
        (zipfile.ZIP_DEFLATED, {"force_zip64": True}, b"a comment", b"#!/bin/sh\n"),
    ):
        file = io.BytesIO()
        file.write(before)
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.comment = comment
            for name in ("a/1.png", "é.png", "../2.png"):
                with archive.open(name, "w", **options) as member:
                    member.write(cell)
        yield file.getvalue()


def cards() -> Iterator[bytes]:
    """The card of a small model."""
    from giemsa.model import ModelCard

    yield (
        ModelCard("tiny", 32, digests={"data": "ab"}, training_patients=("P1",), figures={"auc": 1}).to_json().encode()
    )


def annotations() -> Iterator[bytes]:
    """Two fields with a box each."""
    box = {"category": "red blood cell", "x0": 1, "y0": 2, "x1": 30, "y1": 40}
    field = {"image": "a.png", "patient": "P1", "objects": [box, {**box, "category": "trophozoite"}]}
    yield json.dumps([field, {**field, "image": "b.png", "patient": None}]).encode()


def decisions() -> Iterator[bytes]:
    """One cell confirmed, one rejected."""
    cell = {"field": "a.png", "x0": 1, "y0": 2, "x1": 30, "y1": 40, "decision": "confirmed"}
    content = {"giemsa_decisions": 1, "cells": [cell, {**cell, "x0": 5, "decision": "rejected"}]}
    yield json.dumps({**content, "complete_fields": ["a.png"]}).encode()


def sites() -> Iterator[bytes]:
    """Two fields' counts."""
    counts = {"true_positives": 3, "false_negatives": 1, "false_positives": 2, "true_negatives": 90}
    fields = [{"field": "a.png", **counts}, {"field": "b.png", **counts}]
    yield json.dumps({"giemsa_site": 1, "cut": 4.5, "model_sha256": "ab" * 32, "fields": fields}).encode()


def tables() -> Iterator[bytes]:
    """Both kinds of lines, one torn."""
    yield b'cimage,verdict,p_parasitized,novelty,reason\na.png,parasitized,0.75,,\n\'=1.png,unreadable,,,"x, y"\n#4,u'
    row = {"image": "a.png", "verdict": "parasitized", "p_parasitized": 0.75, "novelty": None, "reason": ""}
    yield b"\xff" + json.dumps(row).encode() + b"\n"


def splits() -> Iterator[bytes]:
    """A hold-out and folds."""
    parts = {"train": ["P1"], "validation": ["P2"], "test": ["P3"]}
    content = {"format": "giemsa split", "version": 1, "by": "patient", "folds": 0, "seed": 0, "data_digest": "ab"}
    yield json.dumps({**content, "parts": parts}).encode()
    yield json.dumps({**content, "folds": 2, "parts": {"0": ["P1"], "1": ["P2"]}}).encode()
