"""Kappa, against scikit-learn and the formula for large samples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from giemsa.stats.agreement import agree

WORDS = np.array(["uninfected", "parasitized"])


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    first = rng.random(200) < 0.3
    second = first ^ (rng.random(200) < 0.15)
    found = agree(WORDS[first.astype(int)], WORDS[second.astype(int)])
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second))
    assert found.low < found.kappa < found.high
    assert found.table == tuple(map(tuple, confusion_matrix(first, second)))


def test_the_interval_is_near_the_one_of_large_samples():
    """Fleiss, Cohen and Everitt 1969, Psychological Bulletin 72:323, for a table of 1,000 pictures."""
    table = np.array([[450, 50], [70, 430]])
    first = np.repeat([0, 0, 1, 1], table.ravel())
    second = np.repeat([0, 1, 0, 1], table.ravel())
    found = agree(WORDS[first], WORDS[second])
    p = table / table.sum()
    rows, columns = p.sum(1), p.sum(0)
    chance, observed = (rows * columns).sum(), np.trace(p)
    kappa = (observed - chance) / (1 - chance)
    a = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in range(2))
    b = (1 - kappa) ** 2 * sum(p[i, j] * (columns[i] + rows[j]) ** 2 for i in range(2) for j in range(2) if i != j)
    error = np.sqrt((a + b - (kappa - chance * (1 - kappa)) ** 2) / (1 - chance) ** 2 / 1000)
    assert (found.high - found.low) == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_pictures_of_few_patients_tell_less():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(10), 30)
    first = rng.random(300) < 0.5
    second = first ^ (rng.random(300) < np.where(patient < 3, 0.5, 0.02))  # readers differ in three patients
    alone = agree(WORDS[first.astype(int)], WORDS[second.astype(int)])
    grouped = agree(WORDS[first.astype(int)], WORDS[second.astype(int)], list(patient))
    assert grouped.kappa == alone.kappa
    assert (grouped.units, grouped.kind) == (10, "patients")
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


def test_perfect_agreement_has_a_lower_limit_and_no_variety_no_kappa():
    found = agree(["parasitized", "uninfected"] * 20, ["parasitized", "uninfected"] * 20)
    assert (found.kappa, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - (1 - 0.025 ** (1 / 40)) / 0.5)
    assert "same answer" in agree(["uninfected"] * 5, ["uninfected"] * 5).reason
    constant = agree(["parasitized", "uninfected"] * 2, ["parasitized"] * 4)  # kappa is 0, whatever the first says
    assert (constant.kappa, constant.low) == (None, None)
    assert "one of them gave the same answer" in constant.reason
    assert "no picture" in agree(["unsure"], ["parasitized"]).reason
