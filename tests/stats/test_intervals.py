"""Exact and bootstrap limits, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.stats import binomtest

from giemsa.errors import DataError
from giemsa.stats.intervals import bca_limits, beta_quantile, clopper_pearson, exact_limits, t_quantile


@pytest.mark.parametrize(("events", "trials"), [(0, 1), (0, 1290), (1, 1), (7, 7), (3, 30), (29, 30), (500, 15617)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_exact_interval_is_that_of_scipy(events: int, trials: int, confidence: float) -> None:
    expected = binomtest(events, trials).proportion_ci(confidence, method="exact")
    low, high = clopper_pearson(events, trials, confidence)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize(("events", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_an_impossible_share_is_refused(events: int, trials: int) -> None:
    with pytest.raises(DataError, match=f"{events} of {trials} is no share"):
        clopper_pearson(events, trials)


@settings(deadline=None, max_examples=300)
@given(st.floats(-0.5, 4.5), st.floats(-0.5, 4.5), st.sampled_from([1e-4, 0.005, 0.025, 0.3, 0.5, 0.975, 0.9999]))
def test_the_beta_quantile_is_that_of_scipy(log_a: float, log_b: float, p: float) -> None:
    a, b = 10**log_a, 10**log_b
    assert beta_quantile(p, a, b) == pytest.approx(special.betaincinv(a, b, p), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 5, 29, 119, 15_616])
@pytest.mark.parametrize("p", [0.005, 0.025, 0.5, 0.8, 0.975, 0.9999])
def test_the_quantile_of_students_t_is_that_of_scipy(degrees: float, p: float) -> None:
    assert t_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_corrected_limits_are_those_of_scipy(seed: int) -> None:
    values = np.random.default_rng(seed).exponential(size=25)
    expected = stats.bootstrap((values,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(seed))
    left_out = np.array([np.delete(values, which).mean() for which in range(25)])
    # Of very many units the levels are not expanded, as they are not in scipy.
    found = bca_limits(float(values.mean()), expected.bootstrap_distribution, left_out, 10**9)
    assert found == pytest.approx(tuple(expected.confidence_interval), rel=1e-6)
    wider = bca_limits(float(values.mean()), expected.bootstrap_distribution, left_out, 25)
    assert wider[0] < found[0]
    assert wider[1] > found[1]


def test_of_few_units_the_exact_interval_counts_as_many_cells_as_they_are_worth() -> None:
    """Korn and Graubard 1998, computed step by step."""
    events, trials = np.array([0, 1, 9, 2, 0, 4.0]), np.array([40, 55, 60, 38, 70, 45.0])
    share, cells = events.sum() / trials.sum(), trials.sum()
    variance = 6 / 5 * ((events - share * trials) ** 2).sum() / cells**2
    effective = share * (1 - share) / variance * (stats.t.ppf(0.975, cells - 1) / stats.t.ppf(0.975, 5)) ** 2
    low = stats.beta.ppf(0.025, share * effective, (1 - share) * effective + 1)
    high = stats.beta.ppf(0.975, share * effective + 1, (1 - share) * effective)
    assert exact_limits(events, trials) == pytest.approx((low, high))
    alone = clopper_pearson(16, 308)
    assert low < alone[0]
    assert high > alone[1]


def test_a_unit_without_a_trial_counts_for_nothing() -> None:
    events, trials = np.array([1.0, 2, 0]), np.array([30.0, 40, 0])
    assert exact_limits(events, trials) == exact_limits(events[:2], trials[:2])
