"""Intervals against repeated cells, the normal approximation and scipy's exact test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, t
from sklearn import metrics as reference

from giemsa.errors import DataError
from giemsa.stats.bootstrap import (
    bootstrap_figures,
    bootstrap_reliability,
    draw_figures,
    estimate_difference,
    multiplicities,
    units_of,
)
from giemsa.stats.intervals import Estimate
from giemsa.stats.metrics import METRICS, Tally, expected_calibration_error


def draw_cells(seed: int, patients: int, cells_each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw labels, probabilities and patients who differ from each other."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), cells_each)
    positive = rng.random(patient.size) < rng.beta(2, 2, patients)[patient]
    logit = rng.normal(size=patient.size) * 2 + np.where(positive, 1.5, -1.5) + rng.normal(size=patients)[patient]
    return positive, np.round(1 / (1 + np.exp(-logit)), 2), patient


def figures_of_repeated_cells(positive: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Compute every metric with scikit-learn on cells that really stand there several times."""
    called = p >= 0.5
    return {
        "accuracy": reference.accuracy_score(positive, called),
        "balanced_accuracy": reference.balanced_accuracy_score(positive, called),
        "sensitivity": reference.recall_score(positive, called),
        "specificity": reference.recall_score(~positive, ~called),
        "precision": reference.precision_score(positive, called),
        "f1": reference.f1_score(positive, called),
        "mcc": reference.matthews_corrcoef(positive, called),
        "roc_auc": reference.roc_auc_score(positive, p),
        "pr_auc": reference.average_precision_score(positive, p),
        "brier": reference.brier_score_loss(positive, p),
        "ece": expected_calibration_error(positive, p),
    }


@pytest.mark.parametrize(("patients", "cells_each"), [(5, 40), (12, 9), (150, 1)])
def test_a_bootstrap_is_that_of_patients_whose_cells_are_really_repeated(patients: int, cells_each: int) -> None:
    positive, p, patient = draw_cells(1, patients, cells_each)
    draws = np.concatenate(list(multiplicities(patients, 60, np.random.default_rng(7))))
    naive: dict[str, list[float]] = {name: [] for name in METRICS}
    for times in draws:
        cells = np.concatenate([np.flatnonzero(patient == who) for who in np.repeat(np.arange(patients), times)])
        for name, value in figures_of_repeated_cells(positive[cells], p[cells]).items():
            naive[name].append(value)

    tally = Tally(positive, p, 0.5, patient)
    drawn = draw_figures(tally, "patients", np.random.default_rng(7), resamples=60)
    figures = bootstrap_figures(tally, "patients", np.random.default_rng(7), resamples=60)

    assert list(figures) == list(drawn) == list(METRICS)
    expected = figures_of_repeated_cells(positive, p)
    for name, figure in figures.items():
        assert figure.value == pytest.approx(expected[name]), name
        assert drawn[name].resampled == pytest.approx(np.array(naive[name])), name
        assert (figure.unit, figure.units) == ("patients", patients)


@pytest.mark.parametrize("patients", [5, 12])
def test_what_is_left_out_is_one_patient_with_all_cells(patients: int) -> None:
    positive, p, patient = draw_cells(1, patients, 40)
    drawn = draw_figures(Tally(positive, p, 0.5, patient), "patients", np.random.default_rng(0), resamples=2)
    for who in range(patients):
        kept = patient != who
        for name, value in figures_of_repeated_cells(positive[kept], p[kept]).items():
            assert drawn[name].left_out[who] == pytest.approx(value), name


def test_of_very_many_units_groups_are_left_out() -> None:
    p = np.random.default_rng(0).random(1000)
    drawn = draw_figures(Tally(p > 0.5, p, 0.7), "cells", np.random.default_rng(0), resamples=2)
    assert drawn["sensitivity"].left_out.shape == (200,)
    figure = bootstrap_figures(Tally(p > 0.5, p, 0.7), "cells", np.random.default_rng(0), resamples=200)["sensitivity"]
    assert figure.low < figure.value < figure.high


def test_a_difference_is_that_of_the_same_resamples() -> None:
    positive, p, patient = draw_cells(6, 15, 20)
    other = np.clip(p + np.where(positive, 0.05, -0.05), 0, 1)
    one, two = (
        draw_figures(Tally(positive, scores, 0.5, patient), "patients", np.random.default_rng(3), resamples=200)
        for scores in (p, other)
    )
    found = estimate_difference(one["roc_auc"], two["roc_auc"])
    alone = two["roc_auc"].estimate()
    assert found.value == pytest.approx(two["roc_auc"].value - one["roc_auc"].value)
    assert found.low > 0
    assert found.high - found.low < (alone.high - alone.low) / 2
    assert estimate_difference(one["brier"], one["brier"]).note == "the same in every resample of the patients"


def test_every_resample_draws_as_many_units_as_there_are_and_blocks_do_not_change_the_draws() -> None:
    at_once = np.concatenate(list(multiplicities(30, 250, np.random.default_rng(3))))
    in_blocks = np.concatenate(list(multiplicities(30, 250, np.random.default_rng(3), at_once=7)))

    assert at_once.shape == (250, 30)
    assert (at_once.sum(axis=1) == 30).all()
    assert np.array_equal(at_once, in_blocks)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    positive, p, patient = draw_cells(2, 20, 20)
    tally = Tally(positive, p, 0.5, patient)

    first, again, other = (
        bootstrap_figures(tally, "patients", np.random.default_rng(seed), resamples=200) for seed in (5, 5, 6)
    )
    assert first == again
    assert first["brier"].value == other["brier"].value
    assert (first["brier"].low, first["brier"].high) != (other["brier"].low, other["brier"].high)


def test_over_independent_cells_the_interval_is_the_normal_one() -> None:
    n, called = 4000, 0.2
    p = np.where(np.random.default_rng(0).random(n) < called, 0.9, 0.1)
    tally = Tally(np.zeros(n), p, 0.5)

    figure = bootstrap_figures(tally, "cells", np.random.default_rng(0), resamples=4000)["specificity"]

    share = 1 - (p >= 0.5).mean()
    half = 1.96 * np.sqrt(share * (1 - share) / n)
    assert figure.value == pytest.approx(share)
    assert figure.low == pytest.approx(share - half, abs=0.06 * half)
    assert figure.high == pytest.approx(share + half, abs=0.06 * half)


def test_intervals_hold_the_truth_about_as_often_as_they_say_and_those_over_cells_do_not() -> None:
    """Forty patients whose specificity differs: the mean over patients is 0.9, and cells pretend to know it better."""
    rng = np.random.default_rng(11)
    held = {"patients": 0, "cells": 0}
    for trial in range(120):
        patient = np.repeat(np.arange(40), 30)
        false_positive = rng.random(patient.size) < rng.beta(1, 9, 40)[patient]
        for kind in held:
            units = patient if kind == "patients" else None
            tally = Tally(np.zeros(patient.size), np.where(false_positive, 0.9, 0.1), 0.5, units)
            figure = bootstrap_figures(tally, kind, np.random.default_rng(trial), resamples=100)["specificity"]
            held[kind] += figure.low <= 0.9 <= figure.high

    # 95 % is 114 of 120; four standard deviations of that binomial are 10.
    assert held["patients"] >= 104
    assert held["cells"] < held["patients"] - 15


def test_a_share_without_a_single_error_has_the_exact_bound() -> None:
    positive = np.r_[np.ones(40), np.zeros(60)]
    p = np.r_[np.full(40, 0.9), np.full(60, 0.2)]
    figures = bootstrap_figures(Tally(positive, p, 0.5, np.arange(100) % 10), "patients", np.random.default_rng(0))

    # Korn and Graubard 1998: as many cells as ten patients are worth.
    effective = 60 * (t.ppf(0.975, 59) / t.ppf(0.975, 9)) ** 2
    specificity = figures["specificity"]
    assert (specificity.value, specificity.high) == (1.0, 1.0)
    assert specificity.low == pytest.approx(0.025 ** (1 / effective))
    assert specificity.low < binomtest(60, 60).proportion_ci(0.95, method="exact").low
    assert (specificity.exact, specificity.unit, specificity.units) == (True, "patients", 10)
    assert specificity.to_dict()["interval"] == "exact (Clopper-Pearson)"

    assert figures["roc_auc"].value == figures["roc_auc"].low == 1.0
    assert "shows no uncertainty" in figures["roc_auc"].note


def test_of_independent_cells_the_exact_bound_is_that_of_clopper_and_pearson() -> None:
    p = np.full(20, 0.2)
    figures = bootstrap_figures(Tally(np.arange(20) < 8, p, 0.5), "cells", np.random.default_rng(0))

    assert figures["sensitivity"].low == 0
    assert figures["sensitivity"].high == pytest.approx(binomtest(0, 8).proportion_ci(0.95, method="exact").high)


def test_few_events_never_have_less_than_their_exact_interval() -> None:
    """17 of 411 was once published as 3.38 to 4.90 %."""
    p = np.where(np.arange(411) < 17, 0.9, 0.1)
    patient = np.arange(411) % 12  # the events are spread as evenly as can be
    figure = bootstrap_figures(Tally(np.zeros(411), p, 0.5, patient), "patients", np.random.default_rng(0))
    low, high = binomtest(17, 411).proportion_ci(0.95, method="exact")
    specificity = figure["specificity"]
    assert 1 - specificity.high <= low
    assert 1 - specificity.low >= high
    assert specificity.to_dict()["interval"].startswith("the wider of bootstrap")


def test_undefined_figures_have_a_reason_and_no_numbers() -> None:
    figures = bootstrap_figures(Tally(np.zeros(9), np.linspace(0, 0.4, 9), 0.5), "cells", np.random.default_rng(0))

    assert figures["roc_auc"] == Estimate(None, None, None, "cells", 9, reason="all cells have the same label")
    assert figures["roc_auc"].to_dict() == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "all cells have the same label",
    }
    assert figures["sensitivity"].reason == "no cell is labelled parasitized"


def test_one_patient_gives_values_without_intervals() -> None:
    positive, p, _ = draw_cells(3, 1, 50)
    tally = Tally(positive, p, 0.5, np.zeros(50, dtype=int))

    figure = bootstrap_figures(tally, "patients", np.random.default_rng(0))["roc_auc"]
    assert figure.value == pytest.approx(reference.roc_auc_score(positive, p))
    assert (figure.low, figure.high) == (None, None)
    assert figure.reason == "an interval takes at least two patients"
    low, high = bootstrap_reliability(tally, "patients", np.random.default_rng(0))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_resamples_in_which_a_figure_is_undefined_are_left_out_and_counted() -> None:
    # One of five patients has all the parasitized cells: in (4/5)^5, a third, of the resamples there are none.
    patient = np.repeat(np.arange(5), 10)
    positive = (patient == 0) & (np.arange(50) % 2 == 0)
    p = np.random.default_rng(0).random(50)

    figures = bootstrap_figures(Tally(positive, p, 0.5, patient), "patients", np.random.default_rng(0))
    assert "resamples, which the interval leaves out" in figures["roc_auc"].note
    assert figures["roc_auc"].low < figures["roc_auc"].value < figures["roc_auc"].high
    assert figures["brier"].note == ""


def test_a_figure_that_most_resamples_cannot_have_gets_no_interval() -> None:
    # Of two patients one has the parasitized cells, the other the uninfected: half of the resamples have both.
    patient = np.repeat([0, 1], 20)
    p = np.random.default_rng(0).random(40)
    rng = np.random.default_rng(0)
    draws = np.concatenate(list(multiplicities(2, 99, np.random.default_rng(0))))
    undefined = int((draws != 1).any(axis=1).sum())
    assert undefined > 49

    figure = bootstrap_figures(Tally(patient == 0, p, 0.5, patient), "patients", rng, resamples=99)["roc_auc"]
    assert figure.value is not None
    assert (figure.low, figure.high) == (None, None)
    assert figure.reason == f"undefined in {undefined} of 99 resamples of the patients"


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 4)), min_size=1, max_size=40),
    st.floats(0, 1),
)
def test_an_interval_always_holds_its_value_and_nothing_is_nan(
    drawn: list[tuple[bool, float, int]], threshold: float
) -> None:
    positive, p, patient = (np.array(column) for column in zip(*drawn, strict=True))
    units = units_of(p.size, patients=[f"patient {who}" for who in patient])
    tally = Tally(positive, p, threshold, units.of_cell, units.count)

    for name, figure in bootstrap_figures(tally, units.kind, np.random.default_rng(0), resamples=20).items():
        numbers = [number for number in (figure.value, figure.low, figure.high) if number is not None]
        assert np.isfinite(numbers).all(), name
        assert (len(numbers) < 3) == bool(figure.reason), name
        if figure.low is not None:
            assert figure.low <= figure.value <= figure.high, name


def test_reliability_limits_lie_around_the_curve_and_only_where_there_are_cells() -> None:
    positive, p, patient = draw_cells(4, 40, 30)
    p = np.where((p > 0.4) & (p < 0.6), 0.3, p)  # a bin without cells, in the middle
    tally = Tally(positive, p, 0.5, patient)
    low, high = bootstrap_reliability(tally, "patients", np.random.default_rng(0), resamples=300)

    curve = tally.reliability()
    filled = curve.cells > 0
    assert not filled.all()
    assert np.isnan(low[~filled]).all()
    assert (low[filled] <= curve.share[filled]).all()
    assert (curve.share[filled] <= high[filled]).all()


def test_patients_are_the_unit_where_all_are_known_then_fields_then_cells() -> None:
    names, photographs = ["b", "a", "b"], ["1", "2", "3"]
    known = units_of(3, patients=names, fields=photographs)
    assert (known.kind, known.count, known.of_cell.tolist()) == ("patients", 2, [1, 0, 1])
    partly = units_of(3, patients=["b", None, "b"], fields=photographs)
    assert (partly.kind, partly.count) == ("fields", 3)
    unknown = units_of(3, patients=[None, None, None], fields=["", "x", "x"])
    assert (unknown.kind, unknown.count, unknown.of_cell.tolist()) == ("cells", 3, [0, 1, 2])
    assert units_of(2).kind == "cells"
    with pytest.raises(DataError, match="2 patients were given for 3 cells"):
        units_of(3, patients=["a", "b"])


def test_some_of_the_cells_have_their_own_units() -> None:
    some = units_of(4, patients=["a", "b", "c", "a"]).select(np.array([True, False, True, True]))
    assert (some.kind, some.count, some.of_cell.tolist()) == ("patients", 2, [0, 1, 0])


def test_a_figure_can_be_turned_into_its_complement_per_million() -> None:
    specificity = Estimate(0.98, 0.97, 0.99, "patients")
    per_million = specificity.scaled(1e6, complement=True)
    assert (per_million.value, per_million.low, per_million.high) == pytest.approx((20_000, 10_000, 30_000))
    assert Estimate(0.5, None, None).scaled(5) == Estimate(2.5, None, None)
    assert Estimate(None, None, None, reason="no cells").scaled(5, complement=True).value is None
