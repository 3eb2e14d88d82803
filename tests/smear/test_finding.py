"""Finding: drawn fields, whose cells are known, under other lights, scales and frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from giemsa.smear.finding import RED_CELL_UM, find_cells
from giemsa.smear.light import burnt_in_marks, measure_stain, seen_area, without_marks
from giemsa.smear.reviewed import matched


def boxes_of(found):
    return np.array([[c.x0, c.y0, c.x1, c.y1] for c in found.cells], float).reshape(-1, 4)


def f1(found, labels, scale=1.0):
    pairs = matched(boxes_of(found), labels * scale, 0.5)
    return 2 * len(pairs) / (len(found.cells) + len(labels))


@pytest.fixture(scope="module")
def found(drawn_field):
    return find_cells(drawn_field)


def test_all_whole_cells_are_found_and_nothing_else(found, whole_cells):
    assert f1(found, whole_cells) > 0.98


def test_the_white_cell_is_passed_over(found, drawn_objects):
    (white,) = [np.array([o[1:]], float) for o in drawn_objects if o[0] == "white blood cell"]
    assert matched(boxes_of(found), white, 0.2) == []


def test_cells_that_the_border_cuts_are_counted_apart(found):
    boxes = boxes_of(found)
    assert found.cut >= 5
    assert boxes.min() > 0
    assert boxes[:, 2].max() < 1280
    assert boxes[:, 3].max() < 960


def test_the_scale_is_estimated_and_told(found, whole_cells):
    drawn_px = np.median(np.sqrt((whole_cells[:, 2:] - whole_cells[:, :2]).prod(axis=1)))
    assert found.cell_diameter_px == pytest.approx(drawn_px, rel=0.1)
    assert found.px_per_um == pytest.approx(found.cell_diameter_px / RED_CELL_UM)


def test_masks_cover_their_cells(found):
    for cell in found.cells:
        mask = cell.mask_px()
        assert mask.shape == (cell.y1 - cell.y0, cell.x1 - cell.x0)
        assert 0.6 < mask.mean() <= 1
        assert mask[mask.shape[0] // 2, mask.shape[1] // 2]


@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_another_magnification_finds_the_same_cells(drawn_field, whole_cells, scale):
    size = (round(1280 * scale), round(960 * scale))
    scaled = cv2.resize(drawn_field, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    assert f1(find_cells(scaled), whole_cells, scale) > 0.97


def test_another_light_finds_the_same_cells(drawn_field, whole_cells):
    x = np.linspace(0.55, 1.0, 1280)[np.newaxis, :, np.newaxis]
    tinted = (drawn_field * x * np.array([0.75, 1.0, 0.8])).astype(np.uint8)
    assert f1(find_cells(tinted), whole_cells) > 0.97


def test_a_given_diameter_is_used(drawn_field):
    assert find_cells(drawn_field, cell_diameter_px=70).cell_diameter_px == 70


def test_an_even_picture_has_no_cells():
    grey = np.full((600, 800, 3), 200, np.uint8)
    result = find_cells(grey)
    assert result.cells == ()
    assert result.cell_diameter_px == 0
    assert result.px_per_um == 0


@pytest.mark.parametrize("offset", [7, 19, 31, 43, 55])
def test_cells_may_be_cut_anywhere(drawn_field, offset):
    cropped = np.ascontiguousarray(drawn_field[offset : 700 + offset, 2 * offset : 900 + 3 * offset])
    result = find_cells(cropped)
    boxes = boxes_of(result)
    assert len(boxes) > 20
    assert (boxes[:, :2] > 0).all()
    assert (boxes[:, 2] < cropped.shape[1]).all()
    assert (boxes[:, 3] < cropped.shape[0]).all()


def test_black_around_a_round_view_is_no_cell_and_its_rim_cuts(drawn_field):
    y, x = np.ogrid[:960, :1280]
    inside = np.hypot(x - 640, y - 480) < 450
    framed = np.where(inside[..., np.newaxis], drawn_field, np.uint8(4))
    assert seen_area(framed).mean() == pytest.approx(inside.mean(), abs=0.03)
    result = find_cells(framed)
    assert 25 < len(result.cells) < 60
    for x0, y0, x1, y1 in boxes_of(result):
        assert all(np.hypot(cx - 640, cy - 480) < 455 for cx in (x0, x1) for cy in (y0, y1))
    assert result.cut > 5


def test_a_burnt_in_scale_bar_is_painted_over(drawn_field):
    marked = drawn_field.copy()
    cv2.line(marked, (1100, 880), (1200, 880), (0, 0, 0), 6)
    cv2.putText(marked, "50 um", (1110, 920), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 3)
    seen = seen_area(marked)
    marks = burnt_in_marks(marked, seen)
    assert marks[878:882, 1105:1195].all()
    assert marks[:800].sum() == 0
    painted = without_marks(marked, marks)
    assert painted[870:930, 1095:1210].max(axis=2).min() > 90
    assert np.array_equal(painted[:800], marked[:800])
    assert not burnt_in_marks(drawn_field, seen).any()


def test_densities_do_not_depend_on_the_light(drawn_field):
    dim = (drawn_field * np.array([0.8, 0.6, 0.7])).astype(np.uint8)
    first, second = (measure_stain(rgb, np.ones((960, 1280), bool)) for rgb in (drawn_field, dim))
    assert np.abs(first.density - second.density).mean() < 0.03
    assert np.median(first.density[first.density > first.threshold]) == pytest.approx(1, abs=0.05)
    assert abs(np.median(first.density[first.density < first.threshold])) < 0.03
