"""Fields with boxes, and the forms in which a laboratory gives its cells."""

from __future__ import annotations

import json

import numpy as np
import pytest

from giemsa.data.fields import cut_out, holds_fields, read_fields
from giemsa.data.laboratory import read_laboratory
from giemsa.errors import DataError, SourceError
from giemsa.images import resize


def box(category="ring", x0=10, y0=20, x1=40, y1=44, **more):
    return {"category": category, "x0": x0, "y0": y0, "x1": x1, "y1": y1, **more}


@pytest.fixture
def save(tmp_path, encode):
    """`save([{image, objects}, ...])` writes a folder with noise for photographs, and gives it with their pixels."""

    def write(fields, *, folder="site", size=(96, 128), missing=()):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        pixels = {}
        for number, field in enumerate(fields):
            if field["image"] not in missing:
                noise = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
                (place / field["image"]).write_bytes(encode(noise))
                pixels[field["image"]] = noise
        (place / "annotations.json").write_text(json.dumps(fields), encoding="utf-8")
        return place, pixels

    return write


def test_a_box_is_cut_out_exactly(save):
    place, pixels = save([{"image": "a.png", "objects": [box(), box("red blood cell", 0, 0, 30, 30)]}])
    index, cells = cut_out(read_fields(place), 24)
    assert [cell.label for cell in index] == ["parasitized", "uninfected"]
    assert index.cells[0].file == "a.png#10,20,40,44"
    assert (index.cells[0].width, index.cells[0].height) == (30, 24)
    assert index.cells[0].photograph == "a.png"
    np.testing.assert_array_equal(cells[0], resize(np.ascontiguousarray(pixels["a.png"][20:44, 10:40]), 24))


def test_what_is_outside_of_the_photograph_is_cut_off(save):
    place, pixels = save([{"image": "a.png", "objects": [box(x0=100, y0=-5, x1=140, y1=20)]}])
    index, cells = cut_out(read_fields(place), 20)
    assert (index.cells[0].width, index.cells[0].height) == (28, 20)
    np.testing.assert_array_equal(cells[0], resize(np.ascontiguousarray(pixels["a.png"][:20, 100:]), 20))
    place, _ = save([{"image": "a.png", "objects": [box(x0=200, x1=220)]}])
    with pytest.raises(DataError, match="lies outside of its 128 x 96 pixels"):
        cut_out(read_fields(place), 20)


def test_white_cells_and_difficult_ones_are_left_out_and_said(save):
    objects = [box(), box("White Blood Cell"), box("difficult"), box("difficult")]
    place, _ = save([{"image": "a.png", "objects": objects}])
    fields = read_fields(place)
    assert len(fields) == 1
    assert set(fields.notes) == {"1 box of white blood cell left out", "2 boxes of difficult left out"}


def test_an_unknown_category_is_an_error_unless_it_is_named(save):
    place, _ = save([{"image": "a.png", "objects": [box("P. vivax")]}])
    with pytest.raises(DataError, match=r"category 'P\. vivax' is not known"):
        read_fields(place)
    assert read_fields(place, positive_class="p. vivax").fields[0].boxes[0].label == "parasitized"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "no JSON"),
        ("{}", "expected a list"),
        ("[]", "expected a list"),
        ('[{"image": "a.png"}]', "image and objects"),
        ('[{"image": "a.png", "objects": []}]', "no red cell is boxed"),
        ('[{"image": "a.png", "objects": [{"category": "ring", "x0": 1, "y0": 2, "x1": 3}]}]', "no box with"),
        ('[{"image": "a.png", "objects": [{"category": "ring", "x0": 1.5, "y0": 2, "x1": 3, "y1": 4}]}]', "whole"),
        ('[{"image": "a.png", "objects": [{"category": "ring", "x0": 3, "y0": 2, "x1": 3, "y1": 4}]}]', "no pixels"),
        ('[{"image": "a.png", "objects": []}, {"image": "a.png", "objects": []}]', "twice"),
    ],
)
def test_damaged_annotations_are_refused_with_their_place(tmp_path, content, message):
    (tmp_path / "annotations.json").write_text(content)
    with pytest.raises(DataError, match=message) as refused:
        read_fields(tmp_path)
    assert "annotations.json" in str(refused.value)


def test_a_folder_without_annotations_holds_no_fields(tmp_path):
    assert not holds_fields(tmp_path)
    with pytest.raises(SourceError, match="cannot be read"):
        read_fields(tmp_path)


def test_an_unreadable_photograph_is_listed_and_the_rest_goes_on(save):
    fields = [{"image": "a.png", "objects": [box()]}, {"image": "b.png", "objects": [box()]}]
    place, _ = save(fields, missing=("b.png",))
    index, cells = cut_out(read_fields(place), 16)
    assert len(index) == len(cells) == 1
    assert [picture.file for picture in index.unreadable] == ["b.png"]
    assert "1 field unreadable" in index.notes[0]
    place, _ = save(fields, folder="none", missing=("a.png", "b.png"))
    with pytest.raises(DataError, match="none of its fields gives a cell"):
        cut_out(read_fields(place), 16)


def test_units_are_patients_where_they_are_known_and_fields_else(save):
    place, _ = save([{"image": "a.png", "objects": [box()]}, {"image": "b.png", "objects": [box("rbc")]}])
    found = read_laboratory([place], 16)
    assert (found.kind, list(found.units)) == ("fields", ["field a.png", "field b.png"])
    place, _ = save(
        [
            {"image": "a.png", "patient": 7, "objects": [box()]},
            {"image": "b.png", "patient": "7", "objects": [box("rbc")]},
        ],
        folder="named",
    )
    found = read_laboratory([place], 16)
    assert (found.kind, list(found.units)) == ("patients", ["7", "7"])


def test_a_table_may_name_the_field_of_each_cell(tmp_path, draw_cell, encode):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encode(draw_cell(number < 2, size=(30, 30), seed=number)))
    table = tmp_path / "cells.csv"
    table.write_text(
        "file,label,field\n0.png,parasitized,f1\n1.png,parasitized,f2\n2.png,healthy,f1\n3.png,healthy,f2\n"
    )
    found = read_laboratory([table], 16)
    assert found.kind == "fields"
    assert list(found.units) == ["field f1", "field f2", "field f1", "field f2"]
    assert list(found.positive) == [True, True, False, False]


def test_cells_of_unknown_fields_are_units_of_their_own_and_that_is_said(tmp_path, make_cells):
    make_cells(tmp_path / "cells" / "infected", 2, size=(30, 30))
    make_cells(tmp_path / "cells" / "normal", 2, size=(31, 31))
    found = read_laboratory([tmp_path / "cells"], 16)
    assert found.kind == "cells"
    assert any("figures are too good" in note for note in found.notes)


def test_several_places_are_joined_and_doubled_cells_count_once(save):
    objects = [box(), box("rbc", 0, 0, 30, 30)]
    one, _ = save([{"image": "a.png", "objects": objects}], folder="one")
    two, _ = save([{"image": "a.png", "objects": [*objects, box("rbc", 50, 50, 70, 70)]}], folder="two")
    found = read_laboratory([one, two], 16)
    assert len(found.index) == len(found.pixels) == 3
    assert len(set(found.units)) == 2
    assert "2 cells given twice and counted once" in found.notes
    three, _ = save([{"image": "a.png", "objects": [box("rbc")]}], folder="three")
    with pytest.raises(DataError, match="once parasitized and once uninfected"):
        read_laboratory([one, three], 16)


@pytest.mark.shared
def test_the_shared_fields_give_the_cells_that_their_description_counts(shared_data):
    index, cells = cut_out(read_fields(shared_data / "fields" / "iml"), 16)
    assert len(index) == len(cells) == 4267
    assert sum(cell.label == "parasitized" for cell in index) == 65
    assert len({cell.photograph for cell in index}) == 40
