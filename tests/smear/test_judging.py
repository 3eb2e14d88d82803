"""Judging against the slide: robust where many cells are infected, and where a field has few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from giemsa.smear import judging
from giemsa.smear.finding import find_cells


def test_a_fifth_of_infected_cells_hardly_moves_the_reference():
    rng = np.random.default_rng(0)
    healthy = rng.normal(-3, 0.8, 4000)
    infected = rng.normal(6, 2, 1000)
    middle, spread = judging.own_reference(np.concatenate([healthy, infected]))
    clean_middle, clean_spread = judging.own_reference(healthy)
    assert middle == pytest.approx(-3, abs=0.2)
    assert clean_middle == pytest.approx(-3, abs=0.2)
    assert clean_spread == pytest.approx(0.8, rel=0.1)
    assert spread == pytest.approx(0.8, rel=0.2)


def test_light_that_moves_all_logits_changes_nothing():
    logits = np.random.default_rng(1).normal(0, 1, 200)
    first = judging.reference(judging.own_reference(logits), 200, judging.own_reference(logits))
    moved = 2.5 * logits + 7
    second = judging.reference(judging.own_reference(moved), 200, judging.own_reference(moved))
    assert judging.relative(moved[3], second) == pytest.approx(judging.relative(logits[3], first))


def test_a_field_is_drawn_most_of_the_way_to_its_slide():
    against = judging.reference((5.0, 2.0), 10, (-3.0, 1.0))
    assert against.centre == pytest.approx(-1)
    assert against.spread == pytest.approx(2**0.25)
    assert (against.cells, against.slide_share) == (10, judging.SLIDES_SHARE)


def test_an_odd_field_does_not_move_the_slide():
    centre, spread, cells = judging.slide_reference([(-3.0, 1.0, 100), (-3.1, 1.1, 90), (9.0, 5.0, 40)])
    assert centre == pytest.approx(-3, abs=0.15)
    assert spread == pytest.approx(1, abs=0.15)
    assert cells == 230


def test_cells_that_are_all_alike_have_a_spread():
    _, spread = judging.own_reference([1.0] * 50)
    assert spread > 0


def test_a_cell_is_seen_in_eight_ways_that_differ():
    cells = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), np.uint8)
    ways = list(judging.eight_ways(cells))
    assert len({way.tobytes() for way in ways}) == 8
    turned = list(judging.eight_ways(np.ascontiguousarray(np.rot90(cells, 1, axes=(1, 2)))))
    assert {way.tobytes() for way in turned} == {way.tobytes() for way in ways}


def test_a_turned_field_has_the_same_logits(drawn_field):
    from giemsa.model import open_model

    model = open_model()
    found = find_cells(drawn_field)
    logits = judging.score_cells(drawn_field, found, model)
    height = drawn_field.shape[0]
    upside_down = [replace(c, y0=height - c.y1, y1=height - c.y0) for c in found.cells]
    mirrored = np.ascontiguousarray(drawn_field[::-1])
    again = judging.score_cells(mirrored, replace(found, cells=tuple(upside_down)), model)
    np.testing.assert_allclose(again, logits, atol=1e-4)
