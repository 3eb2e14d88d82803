"""The drawn cells: made by the code beside them, the same each time, and never to be taken for real ones."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import giemsa

EXAMPLES = Path(__file__).parents[1] / "examples"
CELLS = sorted((EXAMPLES / "cells").glob("*.png"))


@pytest.fixture(scope="module")
def drawing():
    spec = importlib.util.spec_from_file_location("giemsa_examples_draw", EXAMPLES / "draw.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]


def test_the_code_draws_every_committed_cell_again_and_no_other(drawing):
    assert {path.stem for path in CELLS} == set(drawing.DRAWINGS)
    for path in CELLS:
        committed, again = read(path).astype(int), drawing.draw(path.stem).astype(int)
        assert committed.shape == again.shape
        # Filters of another OpenCV may round otherwise; a change to the drawing moves far more than that.
        difference = np.abs(committed - again)
        assert (difference > 3).mean() < 0.001
        assert difference.mean() < 0.05


def test_one_name_always_gives_the_same_pixels_whatever_was_drawn_before(drawing):
    first = drawing.draw("drawn_parasitized_ring_01")
    drawing.draw("drawn_uninfected_platelet_01")
    assert np.array_equal(first, drawing.draw("drawn_parasitized_ring_01"))


def test_there_are_two_dozen_cells_or_more_of_both_kinds_and_of_all_look_alikes():
    shown = {re.fullmatch(r"drawn_(parasitized|uninfected)_(\w+)_\d\d", path.stem).groups() for path in CELLS}
    assert 24 <= len(CELLS) <= 32
    assert {what for label, what in shown if label == "parasitized"} >= {"ring", "several_rings", "trophozoite"}
    assert {what for label, what in shown if label == "uninfected"} >= {"plain", "torn", "platelet", "precipitate"}


def test_no_name_looks_like_one_of_the_real_collection():
    assert not [path.name for path in CELLS if "IMG" in path.name or "thin" in path.name.lower()]


@pytest.mark.parametrize("path", CELLS, ids=lambda path: path.stem)
def test_a_cell_lies_on_black_and_fills_its_picture(path):
    rgb = read(path)
    outside = rgb.max(axis=2) == 0
    assert rgb.dtype == np.uint8
    assert all(80 <= side <= 200 for side in rgb.shape[:2])
    assert 0.1 < outside.mean() < 0.6
    assert all((~edge).any() for edge in (outside[0], outside[-1], outside[:, 0], outside[:, -1]))


def test_the_script_writes_the_collection_where_it_is_told_to(drawing, tmp_path, capsys):
    drawing.main(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [path.name for path in CELLS]
    assert str(tmp_path / "new") in capsys.readouterr().out


def test_the_embedded_model_which_never_saw_a_drawing_gets_the_clear_ones_right():
    wrong = [v.image for v in giemsa.load().classify_many(CELLS) if f"drawn_{v.verdict}_" not in v.image]
    look_alikes = [name for name in wrong if "platelet" in name or "precipitate" in name]
    assert wrong == look_alikes
    assert len(wrong) <= 2


def test_the_picture_of_the_readme_is_there_and_small():
    picture = EXAMPLES.parent / "docs" / "images" / "demo.png"
    assert 20_000 < picture.stat().st_size < 300_000
    assert read(picture).shape[1] > 1000
