"""Colours stand in one place, and style sheets agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import giemsa
from giemsa.render import palette

PACKAGE = Path(giemsa.__file__).parent
NAMES = "|".join(palette.VERDICT_COLOURS)


def contrast(first, second):
    """Of WCAG 2.2, from 1 to 21."""

    def luminance(colour):
        parts = [value / 255 for value in colour]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def of_hex(text):
    return palette.Colour(*bytes.fromhex(text.removeprefix("#")))


def properties(css, names):
    """Colours of custom properties in the order in which they stand: on light pages first, then on dark ones."""
    found = {}
    for name, value in re.findall(rf"--({names}):([^;}}]*)", css):
        found.setdefault(name, []).extend(colour.lower() for colour in re.findall(r"#[0-9a-fA-F]{6}", value))
    return found


def test_a_colour_is_written_as_each_library_takes_it():
    assert palette.VERMILLION.hex == "#d55e00"
    assert palette.VERMILLION == (213, 94, 0)
    assert palette.VERMILLION.bgr == (0, 94, 213)


def test_the_pages_style_sheet_has_the_colours_of_verdicts():
    sheets = [css for path in PACKAGE.glob("web/**/*.css") if "--parasitized:" in (css := path.read_text())]
    assert sheets, "no style sheet of the page names the colours of verdicts"
    for css in sheets:
        expected = {
            name: [palette.TEXT_ON_LIGHT[name].hex, palette.TEXT_ON_DARK[name].hex] for name in palette.TEXT_ON_LIGHT
        }
        assert properties(css, NAMES) == expected


def test_the_reports_style_sheet_has_the_colours_of_verdicts():
    css = (PACKAGE / "smear" / "report.css").read_text()
    marks, light, dark = palette.VERDICT_COLOURS, palette.TEXT_ON_LIGHT, palette.TEXT_ON_DARK
    assert properties(css, "sick|well|sick-text|well-text") == {
        "sick": [marks["parasitized"].hex, dark["parasitized"].hex],
        "well": [marks["uninfected"].hex, dark["uninfected"].hex],
        "sick-text": [light["parasitized"].hex, dark["parasitized"].hex],
        "well-text": [light["uninfected"].hex, dark["uninfected"].hex],
    }


@pytest.mark.parametrize("name", palette.VERDICT_COLOURS)
def test_text_in_a_verdicts_colour_can_be_read(name):
    for paper in ("#ffffff", "#faf8f7", "#f5f3f8"):
        assert contrast(palette.TEXT_ON_LIGHT[name], of_hex(paper)) >= 4.5
    for paper in ("#17151b", "#221f28"):
        assert contrast(palette.TEXT_ON_DARK[name], of_hex(paper)) >= 4.5


def test_no_other_place_writes_these_colours():
    named = {colour.hex for colour in (*palette.SERIES, *palette.VERDICT_COLOURS.values())} - {palette.BLACK.hex}
    for path in PACKAGE.rglob("*.py"):
        if path.name != "palette.py":
            found = {value.lower() for value in re.findall(r"#[0-9a-fA-F]{6}\b", path.read_text(encoding="utf-8"))}
            assert not found & named, path
