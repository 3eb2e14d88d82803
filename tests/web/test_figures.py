"""Curves and agreement, against independent implementations."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score, confusion_matrix, roc_auc_score

from giemsa.errors import UsageError
from giemsa.web.agreement import agree
from giemsa.web.figures import embedded_curves, read_curves


@pytest.fixture
def evaluation(tmp_path):
    """`evaluation(name, patients=True)` writes labelled predictions and gives their folder and columns."""

    def write(name="evaluation", *, patients=True, n=600, donors=True):
        rng = np.random.default_rng(3)
        folder = tmp_path / name
        folder.mkdir()
        official = rng.random(n) < 0.4
        p = np.clip(rng.normal(np.where(official, 0.75, 0.25), 0.2), 0.001, 0.999).round(3)  # with ties
        reviewed = official ^ (rng.random(n) < 0.05)
        patient = rng.integers(0, 20, n)
        donor = (patient < 4) & ~official & donors
        words = np.array(["uninfected", "parasitized"])
        with (folder / "predictions.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "patient", "official", "reviewed", "donor", "p_parasitized"])
            for i in range(n):
                writer.writerow([f"{i}.png", f"P{patient[i]}" if patients else "", words[int(official[i])],
                                 words[int(reviewed[i])], "yes" if donor[i] else "no", p[i]])  # fmt: skip
            writer.writerow(["broken.png", "", "", "", "", ""])
        return folder, official, reviewed, donor, p

    return write


def test_counts_at_each_threshold_are_those_of_scikit_learn(evaluation):
    folder, official, reviewed, donor, p = evaluation()
    labels = read_curves(folder)["labels"]
    agreed = official == reviewed
    for name, chosen in (("official", np.ones(len(p), bool)), ("confirmed", agreed)):
        curve = labels[name]
        assert curve["n"] == chosen.sum()
        assert curve["roc_auc"]["value"] == pytest.approx(roc_auc_score(official[chosen], p[chosen]))
        assert curve["roc_auc"]["low"] < curve["roc_auc"]["value"] < curve["roc_auc"]["high"]
        for at in range(0, len(curve["thresholds"]), 7):
            called = p[chosen] >= 1 / (1 + np.exp(-np.linspace(-12, 12, 241)[at]))
            (_, fp), (_, tp) = confusion_matrix(official[chosen], called, labels=[False, True])
            assert (curve["false_positives"][at], curve["true_positives"][at]) == (fp, tp)
    assert labels["donors"]["n"] == donor.sum()
    assert labels["donors"]["sensitivity"] is None


def test_intervals_hold_the_value_and_are_exact_at_the_ends(evaluation):
    curve = read_curves(evaluation()[0])["labels"]["official"]
    negatives = curve["n"] - curve["positives"]
    for at, false in enumerate(curve["false_positives"]):
        low, high = curve["specificity"]["low"][at], curve["specificity"]["high"][at]
        assert low - 1e-6 <= 1 - false / negatives <= high + 1e-6
    exact = binomtest(0, negatives).proportion_ci(0.95, "exact").high
    assert curve["specificity"]["low"][-1] == pytest.approx(1 - exact, abs=1e-6)
    exact = binomtest(curve["positives"], curve["positives"]).proportion_ci(0.95, "exact").low
    assert curve["sensitivity"]["low"][0] == pytest.approx(exact, abs=1e-6)


def test_the_unit_is_the_patient_where_all_are_known_and_else_said(evaluation):
    known = read_curves(evaluation("known")[0])["labels"]["official"]
    unknown = read_curves(evaluation("unknown", patients=False)[0])["labels"]["official"]
    assert (known["kind"], known["units"]) == ("patients", 20)
    assert (unknown["kind"], unknown["units"]) == ("cells", 600)


def test_reliability_is_the_share_seen_in_each_tenth(evaluation):
    folder, official, _, _, p = evaluation()
    curve = read_curves(folder)["labels"]["official"]["reliability"]
    tenth = np.minimum((10 * p).astype(int), 9)
    for place, which in enumerate(np.unique(tenth)):
        assert curve["n"][place] == (tenth == which).sum()
        assert curve["said"][place] == pytest.approx(p[tenth == which].mean(), abs=1e-5)
        assert curve["seen"][place] == pytest.approx(official[tenth == which].mean(), abs=1e-5)


@pytest.mark.parametrize(
    "content", [None, "nonsense", "image,official,p_parasitized\na.png,parasitized,high\n",
                "image,official,p_parasitized\na.png,parasitized,0.5\n"],
)  # fmt: skip
def test_a_folder_without_labelled_predictions_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "predictions.csv").write_text(content)
    with pytest.raises(UsageError, match="--runs"):
        read_curves(tmp_path)


def test_curves_of_another_model_are_not_shown_for_the_embedded_one(monkeypatch, tmp_path):
    path = tmp_path / "curves.json"
    monkeypatch.setattr("giemsa.web.figures.EMBEDDED_CURVES", path)
    assert embedded_curves("a") is None
    path.write_text('{"name": "default", "model_sha256": "a", "labels": {}}')
    assert embedded_curves("a") is not None
    assert embedded_curves("b") is None


def test_a_server_gives_the_curves_that_it_was_started_with(serve, tiny_model, evaluation):
    with serve(model=str(tiny_model), runs=(evaluation("first")[0], evaluation("second")[0])) as client:
        given = client.get("/api/v1/model/curves").json()
    assert [one["name"] for one in given] == ["first", "second"]
    assert [one["serving"] for one in given] == [False, False]


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
