"""Contact sheets show cells with their verdicts in words and in colours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from giemsa import pictures
from giemsa.errors import OutputError
from giemsa.pictures import ContactSheet, draw_sheet, write_png
from giemsa.render.palette import VERDICT_COLOURS
from giemsa.sources import Source
from giemsa.verdicts import VERDICTS, Verdict


def has_colour(sheet, name):
    return (sheet == np.array(VERDICT_COLOURS[name], np.uint8)).all(-1).any()


@pytest.mark.parametrize("name", VERDICTS)
def test_each_verdict_has_its_colour(draw_cell, name):
    sheet = draw_sheet([(draw_cell(), Verdict("a.png", name, 0.25))], ["One cell."])
    assert sheet.dtype == np.uint8
    assert [other for other in VERDICTS if has_colour(sheet, other)] == [name]


def test_colours_differ_in_brightness_too():
    # What is left to people who see no colour at all: relative luminance (ITU-R BT.709).
    def luminance(name):
        return np.dot([0.2126, 0.7152, 0.0722], (np.array(VERDICT_COLOURS[name]) / 255) ** 2.2)

    assert luminance("parasitized") / luminance("uninfected") > 1.3


def test_the_cells_are_on_the_sheet_and_keep_their_shape(draw_cell):
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, :, 1] = 255
    sheet = draw_sheet([(wide, Verdict("a.png", "uninfected", 0.1))], [])
    green = np.argwhere((sheet == (0, 255, 0)).all(-1))
    height, width = np.ptp(green, axis=0) + 1
    assert (height, width) == (64, 128)


def test_words_and_the_disclaimer_are_drawn(draw_cell, monkeypatch):
    from PIL import ImageDraw

    drawn = []
    true_text = ImageDraw.ImageDraw.text

    def text(self, place, words, *args, **kwargs):
        drawn.append(words)
        return true_text(self, place, words, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    verdicts = [Verdict("folder/a.png", "parasitized", 0.98765), Verdict("b.png", "unreadable", reason="empty")]
    draw_sheet([(draw_cell(), verdicts[0]), (None, verdicts[1])], ["A long head line. " * 30])
    assert {"parasitized", "unreadable", "p parasitized 0.988", "a.png", "empty"} <= set(drawn)
    assert any("no diagnosis without a qualified professional" in words for words in drawn)
    assert sum("A long head line." in words for words in drawn) > 1  # wrapped


def test_long_names_are_shortened_in_the_middle(draw_cell):
    name = "C39P4thinF_original_IMG_20150622_105102_cell_101.png"
    from PIL import ImageFont

    font = ImageFont.load_default(12)
    short = pictures._shortened(name, font, 128)
    assert font.getlength(short) <= 128
    assert short.startswith("C39P4")
    assert short.endswith("101.png")


def pair(i, data):
    return Source(f"{i}.png", lambda: data), Verdict(f"{i}.png", "uninfected", 0.1)


def test_of_many_cells_a_sample_is_drawn_in_their_order_and_said(draw_cell, encode, monkeypatch):
    seen = []

    def remember(cells, lines):
        seen.extend([v.image for _, v in cells])
        seen.append(lines[-1])
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(pictures, "draw_sheet", remember)
    data = encode(draw_cell(size=(20, 20)))
    sheet = ContactSheet()
    sheet.add(pair(i, data) for i in range(1000))
    sheet.draw(["1,000 cells."])
    *names, line = seen
    numbers = [int(name.removesuffix(".png")) for name in names]
    assert len(numbers) == 120
    assert numbers == sorted(set(numbers))
    assert 300 < np.mean(numbers) < 700
    assert line == "Shown are 120 of these 1,000 pictures, drawn at random."


def test_what_cannot_be_read_any_more_is_crossed_out(draw_cell, encode):
    sheet = ContactSheet()
    sheet.add([pair(0, encode(draw_cell())), (Source("b.png", lambda: b""), Verdict("b.png", "unreadable"))])
    drawn = sheet.draw(["Two."])
    assert has_colour(drawn, "unreadable")
    assert has_colour(drawn, "uninfected")


def test_an_empty_sheet_can_be_drawn():
    assert ContactSheet().draw().shape[1] > 100


def test_a_png_is_written_whole_or_not_at_all(tmp_path, draw_cell):
    path = tmp_path / "sheet.png"
    write_png(path, draw_cell())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(path.read_bytes()))), draw_cell())
    with pytest.raises(OutputError, match="does not exist"):
        write_png(tmp_path / "missing" / "sheet.png", draw_cell())
    assert list(tmp_path.iterdir()) == [path]
