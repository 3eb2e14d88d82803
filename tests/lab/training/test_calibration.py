from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from giemsa.errors import DataError
from giemsa.lab.training.calibration import Calibration, fit_calibration


def draw(n=4000, slope=0.5, bias=-0.4, seed=0):
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 4, n)
    return logit, rng.random(n) < expit(logit * slope + bias)


def fit(logit, positive, *, donor=None, specificity=0.0, weight=None):
    return fit_calibration(
        logit,
        positive,
        np.ones(len(logit)) if weight is None else weight,
        donor=np.zeros(len(logit), bool) if donor is None else donor,
        donor_specificity=specificity,
        source="test",
    )


def test_temperature_and_bias_agree_with_scikit_learn():
    logit, positive = draw()
    found = fit(logit, positive)
    # Platt's softened targets differ from hard ones by one part in two thousand here.
    expected = LogisticRegression(C=np.inf).fit(logit[:, None], positive)
    assert 1 / found.temperature == pytest.approx(expected.coef_[0, 0], rel=0.01)
    assert found.bias == pytest.approx(expected.intercept_[0], abs=0.01)


def test_separable_scores_give_a_finite_calibration():
    logit = np.concatenate([np.linspace(-9, -1, 100), np.linspace(1, 9, 100)])
    found = fit(logit, logit > 0)
    assert np.isfinite([found.temperature, found.bias]).all()
    assert ((found.probability(logit) >= found.threshold) == (logit > 0)).all()


def test_the_threshold_is_the_most_accurate_one():
    logit, positive = draw(600, seed=1)
    found = fit(logit, positive)
    reached = ((found.probability(logit) >= found.threshold) == positive).mean()
    assert reached == max(((logit >= cut) == positive).mean() for cut in [*logit, np.inf])


def test_the_threshold_keeps_the_donors_specificity():
    logit, positive = draw(seed=2)
    donor = ~positive & (np.arange(len(logit)) % 3 == 0)
    for specificity in (0.5, 0.9, 0.99, 1.0):
        found = fit(logit, positive, donor=donor, specificity=specificity)
        assert (found.probability(logit[donor]) < found.threshold).mean() >= specificity


def test_cells_of_weight_zero_are_not_looked_at():
    logit, positive = draw(seed=3)
    spoilt, weight = positive.copy(), np.ones(len(logit))
    spoilt[::5], weight[::5] = ~positive[::5], 0
    assert fit(logit, spoilt, weight=weight) == fit(logit, positive, weight=weight)


def test_tied_scores_are_never_cut_apart():
    logit = np.repeat([-1.0, 0.0, 1.0], 100)
    positive = np.concatenate([np.zeros(100), np.arange(100) % 2, np.ones(100)]).astype(bool)
    found = fit(logit, positive)
    called = found.probability(logit) >= found.threshold
    assert len(set(called[100:200])) == 1


def test_too_few_cells_of_a_class_are_refused():
    logit = np.linspace(-1, 1, 200)
    with pytest.raises(DataError, match="there are 3 parasitized and 197"):
        fit(logit, np.arange(200) < 3)


def test_without_calibration_the_logit_is_taken_as_it_is():
    assert Calibration().probability(np.array([0.0, 2.0])) == pytest.approx([0.5, expit(2.0)])
