"""Annotated fields: every form in which they come, the words of every laboratory, and what is refused."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from giemsa.errors import DataError, SourceError
from giemsa.formats.boxed_fields import LabelledField, LabelledObject, read_annotations, write_annotations


def box(category="ring", x0=10, y0=20, x1=40, y1=44):
    return {"category": category, "x0": x0, "y0": y0, "x1": x1, "y1": y1}


@pytest.fixture
def save(tmp_path):
    def write(*entries, name="annotations.json"):
        (tmp_path / name).write_text(json.dumps(entries), encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("word", "kind", "stage"),
    [
        ("red blood cell", "healthy", ""),
        ("RBC", "healthy", ""),
        ("Red-Blood_Cell", "healthy", ""),
        ("ring", "infected", "ring"),
        ("Schizont", "infected", "schizont"),
        ("infected", "infected", ""),
        ("WBC", "white cell", ""),
        ("leukocyte", "white cell", ""),
        ("platelet", "platelet", ""),
        ("artifact", "artefact", ""),
        ("difficult", "difficult", ""),
    ],
)
def test_a_word_has_one_meaning_however_it_is_spelt(save, word, kind, stage):
    ((one,),) = (field.objects for field in read_annotations(save({"image": "a.png", "objects": [box(word)]})))
    assert (one.kind, one.stage, one.category) == (kind, stage, word)


def test_points_and_middles_are_read_and_such_fields_are_not_complete(save):
    place = save(
        {"image": "a.png", "points": [{"category": "Target cell", "x": 5, "y": 7}]},
        {"image": "b.png", "middle": "platelet"},
        {"image": "c.png", "objects": []},
    )
    points, middle, boxes = read_annotations(place)
    assert [(one.kind, one.x0, one.y0) for one in points.points] == [("healthy", 5, 7)]
    assert middle.middle == "platelet"
    assert [field.complete for field in (points, middle, boxes)] == [False, False, True]


def test_a_sample_of_cells_is_read_and_not_complete(save):
    cell = {"cell": "a.png", "label": "parasitized", "x0": 1, "y0": 2, "x1": 30, "y1": 40}
    (field,) = read_annotations(save({"image": "a.jpg", "patient": "P1", "cells": [cell]}, name="cells.json"))
    assert (field.patient, field.complete, field.objects[0].kind) == ("P1", False, "infected")


def test_patient_slide_and_laboratory_are_told_apart(save):
    place = save({"image": "a.png", "patient": 7, "slide": "7-2", "laboratory": "Lahore", "objects": []})
    (field,) = read_annotations(place)
    assert (field.patient, field.slide, field.laboratory) == ("7", "7-2", "Lahore")


def test_a_further_word_may_be_named(save):
    place = save({"image": "a.png", "objects": [box("P. vivax")]})
    with pytest.raises(DataError, match=r"category 'P\. vivax' is not known; known are ring"):
        read_annotations(place)
    assert read_annotations(place, positive_class="p. vivax")[0].objects[0].kind == "infected"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "no JSON"),
        ("[" * 100_000, "nested too deeply|no JSON"),
        ("{}", "expected a list"),
        ("[]", "found an empty list"),
        ("[3]", "expected an object with image"),
        ('[{"image": "a.png"}]', "expected image and objects, points or middle"),
        ('[{"image": "a.png", "objects": 3}]', "objects is int"),
        ('[{"image": "a.png", "middle": "moon"}]', "'moon' is not known"),
        ('[{"image": "a.png", "points": [{"category": "ring", "x": 1}]}]', "no point with"),
        ('[{"image": "a.png", "points": [{"category": "ring", "x": 1, "y": Infinity}]}]', "no point with"),
        ('[{"image": "a.png", "objects": [], "width": "wide"}]', "width is no number of pixels"),
    ],
)
def test_damaged_annotations_are_refused_in_a_sentence(tmp_path, content, message):
    (tmp_path / "annotations.json").write_text(content)
    with pytest.raises(DataError, match=message) as refused:
        read_annotations(tmp_path)
    assert "\n" not in str(refused.value)


def test_missing_annotations_are_said(tmp_path):
    with pytest.raises(SourceError, match="cannot be read"):
        read_annotations(tmp_path)


_NAMES = st.none() | st.text("abc 1", min_size=1).filter(lambda name: name.strip())
_BOXES = st.tuples(*[st.integers(-50, 2000)] * 2, *[st.integers(1, 300)] * 2)
_OBJECTS = st.builds(
    lambda word, at: LabelledObject(
        *word, at[0], at[1], at[0] + at[2], at[1] + at[3], word[1] * (word[0] == "infected")
    ),
    st.sampled_from([("healthy", "rbc"), ("infected", "ring"), ("platelet", "platelet"), ("difficult", "difficult")]),
    _BOXES,
)


@given(st.lists(st.builds(LabelledField, st.text("abc", min_size=1), st.lists(_OBJECTS).map(tuple), patient=_NAMES,
                          slide=_NAMES, laboratory=_NAMES, width=st.none() | st.integers(1, 9999)),
                min_size=1, unique_by=lambda field: field.image))  # fmt: skip
def test_what_is_written_is_read_again(tmp_path_factory, fields):
    path = tmp_path_factory.mktemp("fields") / "annotations.json"
    write_annotations(path, fields)
    assert read_annotations(path) == fields


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "fields", "counts"),
    [
        ("nih", 5, None),
        ("iml", 40, {"healthy": 4202, "infected": 65, "difficult": 1}),
        ("bbbc041", 32, {"healthy": 2334, "infected": 49}),
        ("chula", 304, {"healthy": 10_771, "difficult": 95}),
        ("raabin", 250, {"healthy": 3144, "white cell": 256, "platelet": 16}),
        ("pbc", 250, {"healthy": 4096, "white cell": 271, "platelet": 191}),
        ("pbc-platelets", 250, {"platelet": 250}),
        ("pbc-erythroblasts", 250, {"erythroblast": 250}),
    ],
)
def test_every_shared_folder_is_read(shared_data, folder, fields, counts):
    found = read_annotations(shared_data / "fields" / folder)
    assert len(found) == fields
    kinds = Counter(one.kind for field in found for one in (*field.objects, *field.points))
    kinds.update(field.middle for field in found if field.middle)
    if counts is None:
        assert sum(kinds.values()) == 111
    else:
        assert kinds == counts
