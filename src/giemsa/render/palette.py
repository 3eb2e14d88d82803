"""Colours, in one place: Okabe and Ito's, which everybody can tell apart, and what each of them means.

M. Okabe and K. Ito (2008), Color Universal Design, https://jfly.uni-koeln.de/color/. No meaning rests on colour alone:
a word, a frame or a shape stands beside it.

Style sheets hold the same colours as custom properties; `tests/render/test_palette.py` reads them there and compares.

>>> VERDICT_COLOURS["parasitized"].hex
'#d55e00'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Colour(NamedTuple):
    """A colour as Pillow and numpy take it: red, green, blue, 0 to 255."""

    red: int
    green: int
    blue: int

    @property
    def hex(self) -> str:
        """As style sheets and matplotlib take it."""
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"

    @property
    def bgr(self) -> tuple[int, int, int]:
        """As OpenCV takes it."""
        return self.blue, self.green, self.red


BLUE: Final = Colour(0, 114, 178)
VERMILLION: Final = Colour(213, 94, 0)
GREEN: Final = Colour(0, 158, 115)
PURPLE: Final = Colour(204, 121, 167)
ORANGE: Final = Colour(230, 159, 0)
SKY_BLUE: Final = Colour(86, 180, 233)
BLACK: Final = Colour(0, 0, 0)
OLIVE: Final = Colour(138, 138, 0)
"""Instead of Okabe and Ito's yellow, which cannot be seen on white."""
GREY: Final = Colour(85, 85, 85)
PALE_GREY: Final = Colour(153, 153, 153)

VERDICT_COLOURS: Final[Mapping[str, Colour]] = {
    "parasitized": VERMILLION,
    "uninfected": BLUE,
    "indeterminate": PURPLE,
    "not_a_cell": GREEN,
    "unreadable": Colour(114, 108, 102),
}
"""The colour of each verdict, in pictures and diagrams."""

TEXT_ON_LIGHT: Final[Mapping[str, Colour]] = {
    "parasitized": Colour(168, 70, 0),
    "uninfected": Colour(0, 96, 155),
    "indeterminate": Colour(155, 59, 120),
    "not_a_cell": Colour(0, 112, 79),
    "unreadable": Colour(98, 92, 87),
}
"""The same hues, darkened until text in them has a contrast of 4.5 : 1 on a light page (WCAG 2.2, 1.4.3)."""

TEXT_ON_DARK: Final[Mapping[str, Colour]] = {
    "parasitized": Colour(255, 154, 82),
    "uninfected": Colour(111, 189, 242),
    "indeterminate": Colour(237, 166, 207),
    "not_a_cell": Colour(86, 207, 166),
    "unreadable": Colour(189, 181, 174),
}
"""The same hues, lightened for a dark page."""

TERMINAL: Final[Mapping[str, str]] = {"parasitized": "1;38;5;166", "uninfected": "38;5;32", "unreadable": "38;5;245"}
"""Verdicts in a terminal of 256 colours (SGR parameters): the nearest to `VERDICT_COLOURS`; the others are yellow."""
TERMINAL_OTHER: Final = "33"

SERIES: Final = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK, OLIVE)
"""Lines and points of a diagram, in this order."""
CELLS: Final[Mapping[str, Colour]] = {
    "parasitized": VERMILLION, "uninfected": BLUE, "donor": SKY_BLUE, "disputed": PALE_GREY,
}  # fmt: skip
"""Labelled cells in diagrams of data."""
