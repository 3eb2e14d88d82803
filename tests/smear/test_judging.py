"""Judging against the slide: robust where many cells are infected, and where a field has few."""

from __future__ import annotations

import numpy as np
import pytest

from giemsa.smear import judging


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
