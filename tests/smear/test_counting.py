"""Counting: against scipy, brute force and simulation."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from giemsa.errors import UsageError
from giemsa.smear import counting
from giemsa.smear.counting import Evidence, FieldCounts, Known, Reader, assumed_rates, count, measured_rates, posterior
from giemsa.smear.counting import rates as rates_module
from giemsa.smear.counting.counts import BY_CALLS, UPPER, Limits, least_confirmed
from giemsa.smear.counting.likelihood import PI
from giemsa.smear.counting.rates import FALSE_ALARM_BINS, SENSITIVITY_BINS, STEP
from giemsa.smear.counting.special import beta_binomial, log_gamma, normal_cdf, poisson_at_least

_SPEC = importlib.util.spec_from_file_location(
    "write_count_vectors", Path(__file__).with_name("write_count_vectors.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
written = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(written)

SURE = Reader((0.001, 1e5), (0.001, 1e5))
"""A reader who does not err."""


def rate(bins, values):
    """Weights of a rate with these values, all alike, and the values of the bins that they fall into."""
    places = np.round(-np.log(values) / STEP - 0.5).astype(int)
    mass = np.bincount(places, minlength=bins).astype(float)
    return mass / mass.sum(), np.exp(-STEP * (places + 0.5))


def known(
    sensitivity=(0.975,), false_alarms=(1e-5,), infected=(1, 1, 2, 3, 3), healthy=(3, 2, 3, 1, 1), missed=(0.5, 0.2)
):
    return Known(
        rate(SENSITIVITY_BINS, np.array(sensitivity))[0],
        rate(FALSE_ALARM_BINS, np.array(false_alarms))[0],
        infected,
        healthy,
        missed,
    )


def padded(part):
    return (*part, *[0] * (len(counting.STRATA) - len(part)))


def smear(called, confirmed=(0, 0, 0, 0), rejected=(0, 0, 0, 0), n=1000, fields=10):
    """A smear with these called cells; the strata that are not named are empty."""
    rest = n - sum(called)
    return Evidence(
        fields, *map(padded, ((rest - rest // 20, rest // 20, *called), (0, 0, *confirmed), (0, 0, *rejected)))
    )


def reviewed(slides=4, fields=10, false=2, infected=2, seed=0):
    rng = np.random.default_rng(seed)
    return [
        FieldCounts(f"{s}-{f}", str(s), "", (90, 4, *np.bincount(rng.integers(5, size=false), minlength=5).tolist()),
                    (0, 0, *np.bincount(rng.integers(5, size=infected), minlength=5).tolist()), 0, f % 2)
        for s in range(slides)
        for f in range(fields)
    ]  # fmt: skip


# -------------------------------------------------------------------------------------------------- special functions


def test_the_gamma_function_is_scipys():
    x = np.concatenate([np.geomspace(1e-6, 1e6, 400), [1, 2]])
    assert log_gamma(x) == pytest.approx(special.gammaln(x), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(("n", "a", "b"), [(0, 1, 1), (12, 0.05, 3), (400, 2, 300)])
def test_the_beta_binomial_law_is_scipys(n, a, b):
    assert beta_binomial(n, a, b) == pytest.approx(stats.betabinom.pmf(np.arange(n + 1), n, a, b), rel=1e-8)


def test_poissons_tail_is_scipys():
    k, mean = np.array([0, 1, 5, 30, 31, 200, 4000]), np.array([0.01, 2, 5, 40, 30, 180, 4100])
    assert poisson_at_least(k, mean) == pytest.approx(stats.poisson.sf(k - 1, mean), abs=1.5e-3)
    assert normal_cdf([-3, 0, 2]) == pytest.approx(stats.norm.cdf([-3, 0, 2]), abs=2e-7)


# -------------------------------------------------------------------------------------------------------------- rates


def test_a_slides_rate_is_what_brute_force_finds():
    """Draw slides and fields from the prior, keep them by their likelihood, and draw a new slide from each."""
    prior = rates_module.Prior(-3.0, 1.0, 0.8, 0.5)
    slides = [[(3, 90), (6, 110)], [(1, 100), (0, 95)], [(9, 100), (4, 100)]]
    rng = np.random.default_rng(0)
    draws = 400_000
    mu = rng.normal(prior.centre, prior.spread, draws)
    tau = np.abs(rng.normal(0, prior.slides, draws))
    omega = np.abs(rng.normal(0, prior.fields, draws))
    nodes, weights = np.polynomial.hermite_e.hermegauss(11)
    log = np.zeros(draws)
    for slide in slides:
        u = mu + tau * rng.normal(size=draws)
        for k, n in slide:
            p = special.expit(u[:, None] + omega[:, None] * nodes)
            log += np.log(stats.binom.pmf(k, n, p) @ (weights / weights.sum()))
    weight = np.exp(log - log.max())
    new = mu + tau * rng.normal(size=draws) + omega * rng.normal(size=draws)
    unlike = rng.random(draws) < rates_module.UNLIKE
    new = new + unlike * prior.slides * rng.normal(size=draws)
    order = np.argsort(new)
    passed = np.cumsum(weight[order]) / weight.sum()
    found = rates_module.fit_slides(slides, prior).new_slide(1)
    for level in (0.05, 0.5, 0.95):
        expected = new[order][np.searchsorted(passed, level)]
        here = np.interp(level, np.cumsum(found), rates_module._LOGIT + 0.05)
        assert here == pytest.approx(expected, abs=0.15)


def test_few_slides_are_known_less_than_many():
    widths = []
    for slides in (1, 3, 10):
        _, low, high = measured_rates(reviewed(slides)).false_alarms_interval
        widths.append(np.log(high / low))
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.2 * widths[2]


def test_a_clean_review_of_one_slide_does_not_promise_a_clean_next_one():
    rates = measured_rates(reviewed(slides=1, false=0))
    assert rates.false_alarms_interval[2] > 0.01


def test_fields_without_slides_are_one_slide():
    fields = [replace(field, slide="") for field in reviewed(slides=4)]
    assert measured_rates(fields, slides_known=False).slides == 1
    assert "slides" not in measured_rates(fields, slides_known=False).source


def test_infected_cells_that_were_not_found_count_against_sensitivity():
    fields = reviewed()
    lost = [replace(field, infected_not_found=4) for field in fields]
    assert measured_rates(lost).sensitivity_interval[0] < measured_rates(fields).sensitivity_interval[0] - 0.2


def test_assumed_false_alarms_reach_from_well_under_a_thousandth_to_over_a_tenth():
    _, low, high = assumed_rates().false_alarms_interval
    assert low < 0.001
    assert high > 0.1


# ------------------------------------------------------------------------------------------------------ the posterior


@pytest.mark.parametrize(("n", "k"), [(4812, 0), (4812, 7), (1000, 100), (150, 1)])
def test_without_errors_upper_limits_are_the_exact_ones(n, k):
    """One number of infected cells and a known sensitivity: Clopper and Pearson's limit for a Poisson count."""
    mass = rate(SENSITIVITY_BINS, np.array([0.9]))
    result = posterior(smear((0, 0, 0, k), (0, 0, 0, k), n=n), known((0.9,), (1e-5,)), SURE)
    for level in (0.95, 0.975):
        exact = stats.gamma.ppf(level, k + 1) / n / float(mass[1][0])
        assert result.upper(level) == pytest.approx(exact, rel=0.03)
    if k > 1:
        assert result.lower(0.025) < stats.gamma.ppf(0.025, k + 1) / n / float(mass[1][0])


@pytest.mark.parametrize(
    ("called", "confirmed", "rejected"),
    [
        ((3, 1, 2, 1), (0,) * 4, (0,) * 4),
        ((6, 4, 2, 2), (0, 0, 1, 2), (0, 1, 0, 0)),
        ((5, 2, 1, 0), (0,) * 4, (5, 2, 1, 0)),
    ],
)
def test_the_likelihood_is_what_brute_force_finds(called, confirmed, rejected):
    """Average the probability of what was seen over draws of all rates and shares."""
    false_alarms, sensitivity = np.geomspace(0.001, 0.03, 12), np.array([0.5, 0.7, 0.9])
    basis = known(sensitivity, false_alarms)
    evidence = smear(called, confirmed, rejected)
    rng = np.random.default_rng(1)
    draws = 300_000
    s = rng.choice(rate(SENSITIVITY_BINS, sensitivity)[1], draws) * rng.gamma(625, 1 / 625, draws)
    f = rng.choice(rate(FALSE_ALARM_BINS, false_alarms)[1], draws) * rng.gamma(625, 1 / 625, draws)
    w, v = (rng.dirichlet(part, draws) for part in (basis.infected, basis.healthy))
    called, confirmed, rejected = (padded((0, 0, *part))[2:] for part in (called, confirmed, rejected))
    result = posterior(evidence, basis, SURE)
    places = [200, 215, 225]
    expected = []
    for pi in PI[places]:
        infected, healthy = 1000 * pi * s[:, None] * w, 1000 * (1 - pi) * f[:, None] * v
        total = infected + healthy
        share = infected / total
        chance = stats.poisson.pmf(called, total) * share**confirmed * (1 - share) ** rejected
        expected.append(chance.prod(axis=1).mean())
    found = result.likelihood[places]
    assert found / found[0] == pytest.approx(np.array(expected) / expected[0], rel=0.05)


def test_rejections_teach_this_slides_false_alarms():
    """Half of many called cells rejected, whichever half: the other half is not believed any more."""
    rates = assumed_rates()
    before = count(smear((40, 20, 10, 10)), rates)
    after = count(smear((40, 20, 10, 10), (0,) * 4, (20, 10, 5, 5)), rates)
    assert after.rules_out < before.rules_out / 4


@settings(max_examples=30, deadline=None)
@given(
    called=st.tuples(*[st.integers(0, 30)] * 4),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    n=st.integers(130, 60_000),
    measured=st.booleans(),
)
def test_intervals_are_ordered_whatever_is_seen(called, shares, n, measured):
    confirmed = tuple(int(shares[0] * k) for k in called)
    rejected = tuple(int(shares[1] * (k - c)) for k, c in zip(called, confirmed, strict=True))
    result = count(smear(called, confirmed, rejected, n=n), measured_rates(reviewed()) if measured else assumed_rates())
    share = result.parasitaemia
    assert 0 <= share.low <= share.value <= share.high <= 1
    assert 0 <= result.rules_out <= share.high + 1e-12 <= 1 + 1e-12
    assert result.told_from_none or share.low == 0
    assert result.per_ul.low <= result.per_ul.value <= result.per_ul.high
    assert result.to_look_at == sum(called) - sum(confirmed) - sum(rejected)


@settings(max_examples=15, deadline=None)
@given(stratum=st.integers(0, 3), seen=st.integers(0, 8), measured=st.booleans())
def test_one_more_rejection_never_raises_what_can_be_and_one_more_parasite_never_lowers_it(stratum, seen, measured):
    basis = (measured_rates(reviewed()) if measured else assumed_rates()).for_smear(10)
    called = (14, 12, 10, 10)
    one = tuple(int(i == stratum) for i in range(4))
    start = tuple(seen * i for i in one)
    before = posterior(smear(called, rejected=start), basis)
    rejected = posterior(smear(called, rejected=tuple(a + b for a, b in zip(start, one, strict=True))), basis)
    confirmed = posterior(smear(called, one, start), basis)
    assert rejected.upper(0.95) <= before.upper(0.95) * 1.001
    assert confirmed.median() >= before.median() * 0.999


def test_the_same_count_gives_the_same_figures():
    assert count(smear((3, 2, 1, 0)), assumed_rates()) == count(smear((3, 2, 1, 0)), assumed_rates())


def test_cells_seen_by_chance_are_no_sample():
    """One parasite in the bulk that somebody happened to see does not make the bulk full of them."""
    plain = smear((2, 1, 0, 0))
    seen = replace(plain, found_by_eye=1)
    basis = assumed_rates().for_smear(10)
    assert plain.cells == seen.cells
    assert posterior(seen, basis).median() > posterior(plain, basis).median()
    assert posterior(seen, basis).upper(0.95) < 0.1


def test_fields_looked_at_whole_rule_out_what_the_classifier_misses():
    bulk = Evidence(10, padded((4700, 200, 0, 0, 0, 0)))
    whole = Evidence(10, padded((4700, 200, 0, 0, 0, 0)), rejected=padded((4700, 200, 0, 0, 0, 0)))
    assert count(whole, assumed_rates()).rules_out < count(bulk, assumed_rates()).rules_out / 1.5
    assert count(whole, assumed_rates()).rules_out > 3 / 4900 * 0.9


# ----------------------------------------------------------------------------------------------------- told from none


@pytest.mark.parametrize("called", [(0, 0, 0, 1), (40, 20, 10, 10), (100, 200, 300, 400)])
def test_calls_alone_never_tell_where_no_slide_was_reviewed(called):
    result = count(smear(called, n=2000), assumed_rates())
    assert not result.told_from_none
    assert result.parasitaemia.low == 0
    assert result.detection.calls == 1
    assert result.detection.critical is None


def test_a_person_tells_where_no_slide_was_reviewed():
    result = count(smear((4, 3, 2, 6), (0, 0, 1, 5), (0, 0, 0, 0)), assumed_rates())
    assert result.told_by == "review"
    assert result.parasitaemia.low > 0.001


@pytest.mark.parametrize("looked_at", [1, 25, 250, 1000])
def test_a_readers_errors_alone_hardly_ever_tell(looked_at):
    reader = counting.ASSUMED_READER
    least = least_confirmed(looked_at, reader)
    assert stats.betabinom.sf(least - 1, looked_at, *reader.false_confirmations) <= 0.02
    assert stats.betabinom.sf(least - 2, looked_at, *reader.false_confirmations) > 0.02


def test_what_calls_tell_is_what_false_alarms_of_another_slide_do_not_explain():
    basis = measured_rates(reviewed()).for_smear(10)
    critical = Limits(basis, counting.ASSUMED_READER).critical(3000)
    rates = np.exp(-STEP * (np.arange(FALSE_ALARM_BINS) + 0.5))
    above = float(stats.poisson.sf(critical, 3000 * rates) @ basis.false_alarms)
    assert above <= BY_CALLS * 1.05
    assert float(stats.poisson.sf(critical - 1, 3000 * rates) @ basis.false_alarms) >= BY_CALLS * 0.9


def test_calls_that_a_person_rejects_tell_nothing_any_more():
    rates = measured_rates(reviewed())
    called = (200, 80, 30, 10)
    assert count(smear(called), rates).told_by == "calls"
    assert not count(smear(called, rejected=called), rates).told_from_none


def test_no_number_of_cells_gets_under_the_floor():
    rates = measured_rates(reviewed())
    few, many = (count(smear((1, 0, 0, 0), n=n), rates).detection for n in (1000, 100_000))
    assert few.calls > many.calls >= few.calls_floor * 0.98
    assert few.calls_floor == pytest.approx(many.calls_floor)
    assert few.review > many.review >= few.review_floor * 0.98
    assert few.review < few.calls


def test_the_detection_limit_by_review_keeps_its_word():
    rates = measured_rates(reviewed())
    basis, n = rates.for_smear(10), 2000
    limit = count(smear((0,) * 4, n=n), rates).detection.review
    rng = np.random.default_rng(0)
    s = rng.choice(np.exp(-STEP * (np.arange(SENSITIVITY_BINS) + 0.5)), 20_000, p=basis.sensitivity)
    f = rng.choice(np.exp(-STEP * (np.arange(FALSE_ALARM_BINS) + 0.5)), 20_000, p=basis.false_alarms)
    infected, healthy = rng.poisson(n * limit * s), rng.poisson(n * (1 - limit) * f)
    confirmed = rng.binomial(infected, 0.95) + rng.binomial(healthy, 2 / 302)
    least = {k: least_confirmed(k, counting.ASSUMED_READER) for k in np.unique(infected + healthy).tolist()}
    told = [c >= least[k] for c, k in zip(confirmed.tolist(), (infected + healthy).tolist(), strict=True)]
    assert np.mean(told) == pytest.approx(0.97, abs=0.015)


def test_smears_without_parasites_are_hardly_ever_told():
    """New slides drawn by a law that is not the model's: gamma distributed rates that vary as much as their mean."""
    rng = np.random.default_rng(5)
    told = []
    for _ in range(60):
        slides = []
        for slide in range(3):
            false = rng.binomial(99, 0.01 * rng.gamma(1.0), 10)
            infected = padded((0, 0, 0, 1, 1))
            slides += [FieldCounts("", str(slide), "", padded((99 - k, 0, k)), infected) for k in false.tolist()]
        critical = Limits(measured_rates(slides).for_smear(30), counting.ASSUMED_READER).critical(3000)
        told += [bool(k > critical) for k in rng.poisson(3000 * 0.01 * rng.gamma(1.0, size=10))]
    assert np.mean(told) <= 0.06


# -------------------------------------------------------------------------------------------------- what else is said


def test_the_error_of_an_assumed_red_cell_count_is_in_the_interval():
    evidence = smear((4, 3, 2, 6), (0, 0, 1, 5))
    assumed, given = (count(evidence, assumed_rates(), red_cells_per_ul=red) for red in (None, 5e6))
    assert assumed.red_cells_per_ul_assumed
    assert not given.red_cells_per_ul_assumed
    assert given.per_ul.low == pytest.approx(given.parasitaemia.low * 5e6)
    assert assumed.per_ul.low < given.per_ul.low
    assert assumed.per_ul.high > given.per_ul.high

    def below(ul):  # the limit's own definition, by quadrature
        result = posterior(evidence, assumed_rates().for_smear(10))
        return integrate.quad(
            lambda z: float(result.chance_below(ul / 5e6 / np.exp(0.2 * z), limit="upper")) * stats.norm.pdf(z), -6, 6
        )[0]

    assert below(assumed.per_ul.high) == pytest.approx(UPPER, abs=0.003)


def test_fields_are_missing_up_to_two_thousand_cells():
    assert count(smear((0,) * 4, n=1000, fields=10), assumed_rates()).fields_missing == 10
    assert count(smear((0,) * 4, n=2500, fields=10), assumed_rates()).fields_missing == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Evidence(1, padded((5,)), padded((6,))),
        lambda: Evidence(1, padded((5, 0, 2)), padded((0, 0, 1)), padded((0, 0, 2))),
        lambda: Evidence(1, padded((0, 0, 0, 0, 0, 0))),
        lambda: Evidence(0, padded((5, 0, 0, 0, 0, 0))),
        lambda: Evidence(1, (5, 0, 0)),
        lambda: Evidence(1, padded((5, 0, 0, 0, 0, 0)), found_by_eye=6),
    ],
)
def test_counts_that_do_not_fit_together_are_refused(wrong):
    with pytest.raises(UsageError, match="fit together"):
        wrong()


def test_cells_fall_into_strata_by_their_score():
    stratum = counting.stratum_of([-3, 4.7, 4.8, 7.99, 8, 9.3, 11.3, 14.4, 20.8, 99], 8)
    assert stratum.tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 6]
    with pytest.raises(UsageError, match="more than 0"):
        counting.stratum_of([1], 0)


# --------------------------------------------------------------------------------------------------- which cells next


def test_the_next_cells_narrow_the_interval_more_than_others():
    """Expected width after ten cells, by simulation over what they turn out to be."""
    basis = measured_rates(reviewed()).for_smear(10)
    evidence = smear((60, 20, 10, 10), n=5000)
    chosen = counting.next_strata(evidence, basis, 10)
    assert sum(chosen) == 10
    assert chosen[0] == 0

    def width(seen):
        rng = np.random.default_rng(0)
        widths = []
        for _ in range(30):
            share = [rng.beta(a, b) for a, b in zip(basis.infected[:4], basis.healthy[:4], strict=True)]
            confirmed = tuple(int(rng.binomial(k, p)) for k, p in zip(seen, share, strict=True))
            rejected = tuple(k - c for k, c in zip(seen, confirmed, strict=True))
            result = posterior(smear((60, 20, 10, 10), confirmed, rejected, n=5000), basis)
            widths.append(np.log(result.upper(0.975) / result.lower(0.025)))
        return np.mean(widths)

    assert width(chosen[2:6]) < width((0, 0, 0, 10))


def test_the_next_cells_are_open_ones():
    stratum = np.array([0, 0, 1, 2, 2, 3, 5, 5])
    decided = np.array([0, 0, 0, 1, 0, 0, 1, 0], bool)
    evidence = counting.evidence_of(1, stratum, decided, ~decided & False)
    places = counting.next_cells(evidence, assumed_rates().for_smear(1), stratum, np.arange(8.0), decided, 10)
    assert places.tolist() == [7, 5, 4, 2]


def test_a_random_sample_is_of_undecided_cells_only():
    decided = np.arange(50) % 2 == 0
    sample = counting.random_sample(decided, 10, np.random.default_rng(0))
    assert len(set(sample.tolist())) == 10
    assert not decided[sample].any()
    assert len(counting.random_sample(decided, 99, np.random.default_rng(0))) == 25


# ------------------------------------------------------------------------------------------------ Python and the page


def close(found, expected, where=""):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            close(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            close(one, other, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-12), where
    else:
        assert found == expected, where


def test_python_computes_what_the_vectors_hold():
    close(json.loads(json.dumps(written.vectors())), json.loads(written.VECTORS.read_text(encoding="utf-8")))


def test_the_page_computes_what_the_vectors_hold():
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    script = Path(__file__).parent / "count_vectors.test.mjs"
    done = subprocess.run([node, "--test", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
