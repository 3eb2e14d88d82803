"""Maps drawn over cells, on one scale for all of them, with that scale beside.

Orange is evidence for parasitized, blue for uninfected (Okabe and Ito 2008, distinguishable by the colour-blind); the
colour's strength is proportional to the map's absolute value, up to a fixed number of logits. An empty map therefore
leaves the cell as it is, however small the values of its neighbours on the page are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from giemsa.render.palette import VERDICT_COLOURS
from giemsa.verdicts import DISCLAIMER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SCALE_LOGITS: Final = 20.0
"""Where colours end: evidence of +20 at every place would be odds of e^20 to 1."""
_STRONGEST: Final = 0.75  # of the colour over the cell, which stays visible
_INK, _FAINT, _PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)
_SIDE, _GAP, _BAR = 256, 16, 18
_TILE, _COLUMNS = 112, 4


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One cell of a page.

    Attributes
    ----------
    rgb : (H, W, 3) ndarray of uint8
        The cell.
    evidence : (h, w) ndarray of float32 or None
        Its map, where there is one.
    lines : tuple of str
        Text below the cell.
    """

    rgb: NDArray[np.uint8]
    evidence: NDArray[np.float32] | None
    lines: tuple[str, ...]


def overlay(rgb: NDArray[np.uint8], evidence: NDArray[np.float32], scale: float = SCALE_LOGITS) -> NDArray[np.uint8]:
    """A cell with its map drawn over it.

    Parameters
    ----------
    rgb : (H, W, 3) ndarray of uint8
        The cell.
    evidence : (h, w) ndarray of float32
        Signed, in logit units; stretched to the cell.
    scale : float
        The absolute value from which colours are strongest.

    Returns
    -------
    (H, W, 3) ndarray of uint8
    """
    height, width = rgb.shape[:2]
    spread = cv2.resize(evidence.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    strength = np.clip(np.abs(spread) / scale, 0, 1)[:, :, None] * _STRONGEST
    colour = np.where(spread[:, :, None] > 0, VERDICT_COLOURS["parasitized"], VERDICT_COLOURS["uninfected"])
    mixed = rgb * (1 - strength) + colour * strength
    return np.round(mixed).astype(np.uint8)


def draw_explanation(
    rgb: NDArray[np.uint8],
    evidence: NDArray[np.float32],
    lines: Sequence[str],
    *,
    colour: tuple[int, int, int] = _INK,
    scale: float = SCALE_LOGITS,
) -> NDArray[np.uint8]:
    """A page with a cell, its map, the scale and some lines of text, uint8 [H, W, 3] RGB."""
    from PIL import Image, ImageDraw, ImageFont

    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    width = 4 * _GAP + 2 * _SIDE + _BAR + 44
    page = Image.new("RGB", (width, _SIDE + 2 * _GAP + 20 * len(lines) + 24), _PAPER)
    draw = ImageDraw.Draw(page)
    for place, picture in enumerate((_fitted(rgb, _SIDE), _fitted(rgb, _SIDE, evidence, scale))):
        page.paste(Image.fromarray(picture), (_GAP + place * (_SIDE + _GAP), _GAP))
    _draw_scale(page, (2 * _SIDE + 3 * _GAP, _GAP), _SIDE, scale, small)
    for number, line in enumerate(lines):
        y = _SIDE + 2 * _GAP + 20 * number
        draw.text((_GAP, y), line, colour if number == 0 else _INK, font if number == 0 else small)
    draw.text((_GAP, page.height - 20), DISCLAIMER, _FAINT, small)
    return np.array(page)


def draw_gallery(
    tiles: Sequence[Tile], heading: Sequence[str], *, scale: float | None = SCALE_LOGITS
) -> NDArray[np.uint8]:
    """A page of cells, each beside its map, under a heading, uint8 [H, W, 3] RGB; a `scale` of None means no maps."""
    from PIL import Image, ImageDraw, ImageFont

    font, small = ImageFont.load_default(15), ImageFont.load_default(11)
    rows = -(-len(tiles) // _COLUMNS)
    text = 15 * max((len(tile.lines) for tile in tiles), default=0) + 8
    pitch_x, pitch_y = 2 * _TILE + _GAP + 6, _TILE + text + _GAP
    top = _GAP + 20 * len(heading) + 8
    width = _GAP + _COLUMNS * pitch_x + (_BAR + 60 if scale is not None else 0)
    page = Image.new("RGB", (width, top + max(rows * pitch_y, 150) + 24), _PAPER)
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(heading):
        draw.text((_GAP, _GAP + 20 * number), line, _INK, font if number == 0 else ImageFont.load_default(12))
    for number, tile in enumerate(tiles):
        x, y = _GAP + number % _COLUMNS * pitch_x, top + number // _COLUMNS * pitch_y
        page.paste(Image.fromarray(_fitted(tile.rgb, _TILE)), (x, y))
        if tile.evidence is not None and scale is not None:
            page.paste(Image.fromarray(_fitted(tile.rgb, _TILE, tile.evidence, scale)), (x + _TILE + 4, y))
        for which, line in enumerate(tile.lines):
            draw.text((x, y + _TILE + 4 + 15 * which), _cut(line, small, 2 * _TILE), _INK, small)
    if scale is not None:
        _draw_scale(page, (_GAP + _COLUMNS * pitch_x, top), 150, scale, small)
    draw.text((_GAP, page.height - 20), DISCLAIMER, _FAINT, ImageFont.load_default(12))
    return np.array(page)


def _fitted(
    rgb: NDArray[np.uint8], side: int, evidence: NDArray[np.float32] | None = None, scale: float = SCALE_LOGITS
) -> NDArray[np.uint8]:
    """A cell, under its map where one is given, fitted into a light grey square without changing its shape."""
    height, width = rgb.shape[:2]
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC if factor < 4 else cv2.INTER_NEAREST
    shown = np.asarray(cv2.resize(rgb, size, interpolation=kind), np.uint8)
    if evidence is not None:
        shown = overlay(shown, evidence, scale)
    square = np.full((side, side, 3), 235, np.uint8)
    y, x = (side - size[1]) // 2, (side - size[0]) // 2
    square[y : y + size[1], x : x + size[0]] = shown
    return square


def _draw_scale(page: Any, corner: tuple[int, int], height: int, scale: float, font: Any) -> None:  # noqa: ANN401
    """Draw the legend of the colours, on the grey that they are mixed with, its ends marked as open."""
    from PIL import Image, ImageDraw

    ramp = np.linspace(scale, -scale, height, dtype=np.float32)[:, None].repeat(_BAR, 1)
    bar = overlay(np.full((height, _BAR, 3), 200, np.uint8), ramp, scale)
    page.paste(Image.fromarray(bar), corner)
    draw, x = ImageDraw.Draw(page), corner[0] + _BAR + 4
    for share, label in ((0.0, f"> +{scale:g}"), (0.5, "0"), (1.0, f"< -{scale:g}")):
        draw.text((x, corner[1] + share * (height - 13)), label, _INK, font)
    draw.text((corner[0], corner[1] + height + 2), "logits", _FAINT, font)


def _cut(text: str, font: Any, width: int) -> str:  # noqa: ANN401
    """Text without its middle, where it is too wide."""
    kept = text
    while font.getlength(kept) > width and len(kept) > 8:
        middle = len(kept) // 2
        kept = f"{kept[: middle - 3]}...{kept[middle + 3 :]}"
    return kept
