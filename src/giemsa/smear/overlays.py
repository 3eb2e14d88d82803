"""Fields with their cells drawn in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from giemsa.errors import PictureError
from giemsa.render.palette import VERDICT_COLOURS

if TYPE_CHECKING:
    from giemsa.smear.results import JudgedField


def draw_overlay(judged: JudgedField) -> bytes:
    """A field with its cells as a JPEG: thin blue frames, thick orange ones with a number where parasitized.

    A refused field is shown as it is, with its reason.

    Raises
    ------
    PictureError
        If the picture of the field is damaged.
    """
    bgr = cv2.imdecode(np.frombuffer(judged.read.picture, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise PictureError(f"the kept picture of {judged.read.field} is damaged")
    scale = bgr.shape[1] / max(1, judged.read.width)
    number = 0
    for cell in sorted(judged.cells, key=lambda c: c.verdict == "parasitized"):
        corners = [round(v * scale) for v in (cell.x0, cell.y0, cell.x1, cell.y1)]
        called = cell.verdict == "parasitized"
        cv2.rectangle(bgr, corners[:2], corners[2:], VERDICT_COLOURS[cell.verdict].bgr, 3 if called else 1)
        if called:
            number += 1
            _write(bgr, f"{number}: {cell.relative_logit:.1f}", (corners[0], max(12, corners[1] - 5)))
    if judged.read.refusal:
        _write(bgr, f"left out: {judged.read.refusal}"[:110], (12, 28))
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    return bytes(encoded.tobytes())


def _write(bgr: Any, text: str, at: tuple[int, int]) -> None:  # noqa: ANN401
    for colour, width in (((255, 255, 255), 4), ((20, 20, 20), 1)):
        cv2.putText(bgr, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width, cv2.LINE_AA)
