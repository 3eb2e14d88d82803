"""Counting: against scipy's distributions where the rates are known, and by simulation where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from giemsa.errors import UsageError
from giemsa.smear import counting
from giemsa.smear.counting import FieldCounts, Rates, assumed_rates, count, design_effect, measured_rates


def known(sensitivity, false_alarms, effect=1.0):
    draws = np.ones(counting.DRAWS)
    return Rates(sensitivity * draws, false_alarms * draws, effect, "known", measured=True)


@pytest.mark.parametrize(("n", "k"), [(4812, 0), (4812, 7), (1000, 200), (150, 1)])
def test_with_a_perfect_classifier_the_posterior_is_beta(n, k):
    grid, weight = counting.posterior(n, k, known(1, 0))
    for level in (0.025, 0.5, 0.95, 0.975):
        expected = stats.beta.ppf(level, k + 1, n - k + 1)
        assert counting.quantile(grid, weight, level) == pytest.approx(expected, rel=0.02, abs=2e-6)


@pytest.mark.parametrize(("sensitivity", "false_alarms"), [(0.8, 0.002), (0.6, 0.03)])
def test_with_known_rates_the_posterior_is_the_exact_one(sensitivity, false_alarms):
    n, k = 3000, 60
    pi = np.linspace(0, 0.2, 200_001)
    likelihood = stats.binom.pmf(k, n, pi * sensitivity + (1 - pi) * false_alarms)
    cumulated = np.cumsum(likelihood) / likelihood.sum()
    grid, weight = counting.posterior(n, k, known(sensitivity, false_alarms))
    for level in (0.025, 0.5, 0.975):
        expected = pi[np.searchsorted(cumulated, level)]
        assert counting.quantile(grid, weight, level) == pytest.approx(expected, rel=0.02, abs=2e-5)


@pytest.mark.parametrize("mean", [0.3, 4.0, 25.0, 80.0, 900.0])
def test_the_critical_count_is_poissons(mean):
    n = 100_000
    critical = counting.critical_count(n, known(0.8, mean / n))
    assert stats.poisson.cdf(critical, mean) >= 0.949
    assert stats.poisson.cdf(critical - 1, mean) < 0.951


def test_a_design_effect_widens_what_false_alarms_explain():
    assert counting.critical_count(10_000, known(0.8, 0.005, effect=4)) > counting.critical_count(
        10_000, known(0.8, 0.005)
    )


def test_without_false_alarms_the_detection_limit_is_the_rule_of_three():
    assert counting.detection_limit(5000, known(1, 0)) == pytest.approx(-np.log(0.05) / 5000, rel=0.01)
    assert counting.detection_limit(5000, known(0.5, 0)) == pytest.approx(-np.log(0.05) / 2500, rel=0.01)


def test_the_detection_limit_keeps_its_word():
    rates = known(0.7, 0.004)
    n = 3000
    limit, critical = counting.detection_limit(n, rates), counting.critical_count(n, rates)
    rng = np.random.default_rng(1)
    none = rng.binomial(n, 0.004, 20_000)
    some = rng.binomial(n, limit * 0.7 + (1 - limit) * 0.004, 20_000)
    assert (none > critical).mean() <= 0.05
    assert (some > critical).mean() == pytest.approx(0.95, abs=0.012)


def test_more_cells_halve_the_limit_as_told():
    rates = known(0.7, 0.001)
    result = count(2000, 0, rates)
    assert result.cells_to_halve_it is not None
    more = counting.detection_limit(2000 + result.cells_to_halve_it, rates)
    assert more == pytest.approx(result.detection_limit / 2, rel=0.03)


def test_nothing_halves_a_limit_that_comes_from_unknown_rates():
    assert count(50_000, 0, assumed_rates()).cells_to_halve_it is None


def test_no_call_rules_out_what_it_says():
    result = count(4812, 0, known(1, 0))
    assert not result.told_from_none
    assert result.parasitaemia.low == 0
    assert result.rules_out == pytest.approx(3 / 4812, rel=0.01)
    assert result.parasitaemia.high == result.rules_out


@pytest.mark.parametrize("true", [0.0, 0.003, 0.02, 0.15])
def test_intervals_cover_the_truth_as_often_as_they_say(true):
    """Over smears with rates that are themselves drawn, as the site's posterior says that they are."""
    rates = measured_rates([FieldCounts(str(i), 9, 3, 2, 300) for i in range(8)])
    rng = np.random.default_rng(3)
    covered, claimed, runs, n = 0, 0, 300, 2500
    for _ in range(runs):
        one = rng.integers(counting.DRAWS)
        k = rng.binomial(n, true * rates.sensitivity[one] + (1 - true) * rates.false_alarms[one])
        grid, weight = counting.posterior(n, k, rates)
        told = k > counting.critical_count(n, rates)
        low = counting.quantile(grid, weight, 0.025) if told else 0.0
        high = counting.quantile(grid, weight, 0.975 if told else 0.95)
        covered += low <= true <= high
        claimed += told
    assert covered / runs >= 0.92
    if true == 0:
        assert claimed / runs <= 0.08


def test_rates_come_from_what_was_counted():
    rates = measured_rates([FieldCounts("a", 30, 10, 5, 995), FieldCounts("b", 30, 10, 5, 995)])
    assert rates.mean_sensitivity == pytest.approx(60 / 80, abs=0.02)
    assert rates.mean_false_alarms == pytest.approx(10 / 2000, abs=0.001)
    assert "60 of 80 infected" in rates.source


def test_rates_need_both_kinds_of_cells():
    with pytest.raises(UsageError, match="0 infected"):
        measured_rates([FieldCounts("a", 0, 0, 5, 100)])


def test_the_design_effect_is_one_for_independent_cells_and_the_clusters_size_for_copies():
    rng = np.random.default_rng(0)
    independent = [(int(rng.binomial(100, 0.1)), 100) for _ in range(400)]
    assert design_effect(independent) == pytest.approx(1, abs=0.25)
    copied = [(10 * int(rng.random() < 0.1), 10) for _ in range(4000)]
    assert design_effect(copied) == pytest.approx(10, rel=0.1)
    assert design_effect([(0, 10), (0, 10)]) == 1
    assert design_effect([(3, 10)]) == 1


def test_a_persons_decisions_take_false_alarms_out():
    before = count(3000, 40, assumed_rates())
    after = count(3000, 40, assumed_rates(), rejected=38, confirmed=2)
    assert after.told_from_none
    assert after.called == 2
    assert after.parasitaemia.low > 0
    assert after.parasitaemia.high < before.parasitaemia.high / 3
    all_rejected = count(3000, 40, assumed_rates(), rejected=40)
    assert not all_rejected.told_from_none
    assert all_rejected.rules_out < before.rules_out / 3


def test_parasites_per_microlitre_say_what_they_assume():
    assumed, given = count(1000, 100, known(1, 0)), count(1000, 100, known(1, 0), red_cells_per_ul=4e6)
    assert assumed.red_cells_per_ul_assumed
    assert not given.red_cells_per_ul_assumed
    assert given.per_ul.value == pytest.approx(0.1 * 4e6)


@pytest.mark.parametrize("wrong", [(0, 0, 0, 0), (10, 11, 0, 0), (10, 2, 2, 1), (10, 2, -1, 0)])
def test_counts_that_do_not_fit_together_are_refused(wrong):
    n, k, confirmed, rejected = wrong
    with pytest.raises(UsageError, match="fit together"):
        count(n, k, known(1, 0), confirmed=confirmed, rejected=rejected)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 200_000), share=st.floats(0, 1), sensitivity=st.floats(0.05, 1), alarms=st.floats(0, 0.2))
def test_intervals_are_ordered_whatever_is_counted(n, share, sensitivity, alarms):
    result = count(n, int(share * n), known(sensitivity, alarms))
    assert 0 <= result.parasitaemia.low <= result.parasitaemia.value <= result.parasitaemia.high <= 1
    assert 0 <= result.rules_out <= 1
    assert 0 < result.detection_limit <= 1
    assert result.told_from_none or result.parasitaemia.low == 0


def test_the_same_count_gives_the_same_figures():
    assert count(2000, 12, assumed_rates()) == count(2000, 12, assumed_rates())
