"""Contact sheets: cells with their verdicts, in a word and in a colour that everybody can tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from giemsa.errors import PictureError
from giemsa.files import replace_file
from giemsa.images import decode
from giemsa.render.palette import VERDICT_COLOURS
from giemsa.verdicts import DISCLAIMER, VERDICTS, Verdict

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

CELLS_AT_MOST: Final = 120
"""Cells on one sheet; of more, a random sample is drawn."""

_INK, _FAINT, _PAPER, _GROUND = (20, 20, 20), (90, 90, 90), (255, 255, 255), (235, 235, 235)
_THUMBNAIL, _GAP, _COLUMNS = 128, 14, 8
_TEXT_ROWS = 50  # px below a thumbnail
_FONT_PX, _SMALL_PX = 15, 12


class Readable(Protocol):
    """What can be read to a picture's bytes, such as a `Source`."""

    @property
    def name(self) -> str:
        """What it is called."""

    def read(self) -> bytes:
        """Give the bytes of the picture."""


class ContactSheet:
    """Collects cells and draws them.

    Of more than `CELLS_AT_MOST` cells a random sample is kept (reservoir sampling, always the same seed), so
    that a sheet says of a large set what it is like, and memory stays bounded. Pictures are read again when the
    sheet is drawn.
    """

    def __init__(self) -> None:
        import random

        self.cells = 0
        self._random = random.Random(0)  # noqa: S311 - a sample to look at
        self._kept: list[tuple[int, Readable, Verdict]] = []

    def add(self, pairs: Iterable[tuple[Readable, Verdict]]) -> None:
        """Take in cells with their verdicts."""
        for source, verdict in pairs:
            if self.cells < CELLS_AT_MOST:
                self._kept.append((self.cells, source, verdict))
            else:
                place = self._random.randrange(self.cells + 1)
                if place < CELLS_AT_MOST:
                    self._kept[place] = (self.cells, source, verdict)
            self.cells += 1

    def draw(self, lines: Sequence[str] = ()) -> NDArray[np.uint8]:
        """Draw the sheet.

        Parameters
        ----------
        lines : sequence of str
            Sentences for its head: what was counted, and with which model.

        Returns
        -------
        ndarray
            uint8 [H, W, 3], RGB.
        """
        lines = list(lines)
        if self.cells > CELLS_AT_MOST:
            lines.append(f"Shown are {CELLS_AT_MOST} of these {self.cells:,} pictures, drawn at random.")
        cells = [(_pixels(source), verdict) for _, source, verdict in sorted(self._kept, key=lambda kept: kept[0])]
        return draw_sheet(cells, lines)


def draw_sheet(cells: Sequence[tuple[NDArray[np.uint8] | None, Verdict]], lines: Sequence[str]) -> NDArray[np.uint8]:
    """Draw cells with their verdicts on one page, under some sentences and above the disclaimer.

    Parameters
    ----------
    cells : sequence of (ndarray or None, Verdict)
        Pixels, uint8 [H, W, 3] RGB of any size, or None where there are none.
    lines : sequence of str
        Sentences for the head.

    Returns
    -------
    ndarray
        uint8 [H, W, 3], RGB.
    """
    from PIL import Image, ImageDraw, ImageFont

    fonts = ImageFont.load_default(_FONT_PX), ImageFont.load_default(_SMALL_PX)
    small = fonts[1]
    pitch_x, pitch_y = _THUMBNAIL + _GAP, _THUMBNAIL + _TEXT_ROWS + _GAP
    width = _GAP + _COLUMNS * pitch_x
    head = [part for line in lines for part in _wrapped(line, small, width - 2 * _GAP)]
    top = _GAP + (len(head) + 1) * 18 + _GAP
    rows = -(-len(cells) // _COLUMNS)
    page = Image.new("RGB", (width, top + rows * pitch_y + 18 + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for index, line in enumerate(head):
        draw.text((_GAP, _GAP + 18 * index), line, _INK, small)
    _draw_legend(draw, {verdict.verdict for _, verdict in cells}, small, _GAP + 18 * len(head))
    for index, (pixels, verdict) in enumerate(cells):
        x, y = _GAP + index % _COLUMNS * pitch_x, top + index // _COLUMNS * pitch_y
        _draw_cell(page, (x, y), pixels, verdict, fonts)
    draw.text((_GAP, top + rows * pitch_y), DISCLAIMER, _INK, small)
    return np.array(page)


def write_png(path: str | os.PathLike[str], rgb: NDArray[np.uint8]) -> None:
    """Write pixels, uint8 [H, W, 3] RGB, as a PNG, complete or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from PIL import Image

    with replace_file(path) as beside:
        Image.fromarray(rgb).save(beside, format="PNG")


def _pixels(source: Readable) -> NDArray[np.uint8] | None:
    """Read a picture and shrink it to what is shown of it."""
    try:
        return np.asarray(_thumbnail(decode(source.read())))
    except PictureError:
        return None


def _thumbnail(rgb: NDArray[np.uint8]) -> Any:  # noqa: ANN401
    from PIL import Image

    height, width = rgb.shape[:2]
    scale = _THUMBNAIL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    kernel = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return Image.fromarray(rgb).resize(size, kernel)


def _draw_legend(draw: Any, shown: set[str], font: Any, y: int) -> None:  # noqa: ANN401
    x = _GAP
    for name in VERDICTS:
        if name in shown:
            draw.rectangle((x, y + 2, x + 11, y + 13), VERDICT_COLOURS[name])
            word = f"{name.replace('_', ' ')}"
            draw.text((x + 17, y), word, _INK, font)
            x += 17 + int(draw.textlength(word, font)) + 2 * _GAP


def _draw_cell(
    page: Any,  # noqa: ANN401
    corner: tuple[int, int],
    pixels: NDArray[np.uint8] | None,
    verdict: Verdict,
    fonts: tuple[Any, Any],
) -> None:
    from PIL import ImageDraw

    draw, (x, y), (font, small) = ImageDraw.Draw(page), corner, fonts
    colour = VERDICT_COLOURS[verdict.verdict]
    # The frame of what needs a second look is wider, which shows without any colour too.
    border = 2 if verdict.verdict == "uninfected" else 5
    draw.rectangle((x - border, y - border, x + _THUMBNAIL - 1 + border, y + _THUMBNAIL - 1 + border), colour)
    draw.rectangle((x, y, x + _THUMBNAIL - 1, y + _THUMBNAIL - 1), _GROUND)
    if pixels is None:
        draw.line((x, y, x + _THUMBNAIL - 1, y + _THUMBNAIL - 1), colour, 2)
        draw.line((x, y + _THUMBNAIL - 1, x + _THUMBNAIL - 1, y), colour, 2)
    else:
        shown = _thumbnail(pixels)
        page.paste(shown, (x + (_THUMBNAIL - shown.width) // 2, y + (_THUMBNAIL - shown.height) // 2))
    p = "" if verdict.p_parasitized is None else f"p parasitized {verdict.p_parasitized:.3f}"
    below = y + _THUMBNAIL + 7
    draw.text((x, below), verdict.verdict.replace("_", " "), colour, font)
    draw.text((x, below + 18), p or _shortened(verdict.reason, small, _THUMBNAIL), _FAINT, small)
    draw.text((x, below + 32), _shortened(verdict.image.rpartition("/")[2], small, _THUMBNAIL), _FAINT, small)


def _shortened(text: str, font: Any, width: int) -> str:  # noqa: ANN401
    """Leave out the middle of a text that is too wide: names differ at both ends."""
    if font.getlength(text) <= width:
        return text
    kept = len(text)
    while kept > 2 and font.getlength(f"{text[: kept // 2]}...{text[-(kept - kept // 2) :]}") > width:
        kept -= 1
    return f"{text[: kept // 2]}...{text[-(kept - kept // 2) :]}"


def _wrapped(line: str, font: Any, width: int) -> list[str]:  # noqa: ANN401
    lines = [""]
    for word in line.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
