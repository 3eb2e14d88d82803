"""Curves, against independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, roc_auc_score

from giemsa.errors import UsageError
from giemsa.formats.evaluations import Predictions
from giemsa.lab.evaluation.reports import write_evaluation
from giemsa.model import open_model
from giemsa.web.figures import embedded_curves, read_curves


@pytest.fixture
def evaluation(tmp_path):
    """`evaluation(name, patients=True)` writes an evaluation and gives its folder and columns."""

    def write(name="evaluation", *, patients=True, n=600, donors=True, **provenance):
        rng = np.random.default_rng(3)
        official = rng.random(n) < 0.4
        p = np.clip(rng.normal(np.where(official, 0.75, 0.25), 0.2), 0.001, 0.999).round(3)  # with ties
        reviewed = official ^ (rng.random(n) < 0.05)
        patient = rng.integers(0, 20, n)
        donor = (patient < 4) & ~official & donors
        predictions = Predictions(
            images=[*(f"{i}.png" for i in range(n)), "broken.png"],
            p_parasitized=np.append(p, np.nan),
            logit=np.append(np.log(p / (1 - p)), np.nan),
            official=np.append(official.astype(np.int8), np.int8(-1)),
            reviewed=np.append(reviewed.astype(np.int8), np.int8(-1)),
            donor=np.append(donor, False),
            patients=[*(f"P{who}" for who in patient), None] if patients else None,
        )
        folder = tmp_path / name
        write_evaluation(folder, predictions, predictions.evaluate(0.5, resamples=20), provenance=provenance)
        return folder, official, reviewed, donor, p

    return write


def test_the_figures_of_the_serving_model_are_told_from_those_of_another(evaluation, serve, tiny_model):
    """`giemsa evaluate` says which model it was, and the page reads it there."""
    digest = open_model(tiny_model).digest
    own, other = evaluation("own", model={"name": "tiny", "digest": digest})[0], evaluation("other")[0]
    assert read_curves(own)["model_sha256"] == digest
    assert read_curves(other)["model_sha256"] is None
    with serve(model=str(tiny_model), runs=(own, other)) as client:
        given = client.get("/api/v1/model/curves").json()
    assert [(one["name"], one["serving"]) for one in given] == [("own", True), ("other", False)]


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
    assert curve["specificity"]["low"][-1] == pytest.approx(1 - exact, rel=2e-3)  # of 20 patients: a little lower
    assert curve["specificity"]["low"][-1] < 1 - exact
    exact = binomtest(curve["positives"], curve["positives"]).proportion_ci(0.95, "exact").low
    assert curve["sensitivity"]["low"][0] == pytest.approx(exact, rel=3e-3)
    assert curve["sensitivity"]["low"][0] < exact


def test_the_unit_is_the_patient_where_all_are_known_and_else_said(evaluation):
    known = read_curves(evaluation("known")[0])["labels"]["official"]
    unknown = read_curves(evaluation("unknown", patients=False)[0])["labels"]["official"]
    assert (known["kind"], known["units"]) == ("patients", 20)
    assert (unknown["kind"], unknown["units"]) == ("cells", 600)


def test_reliability_is_the_share_seen_in_each_of_the_bins_of_every_other_report(evaluation):
    folder, official, _, _, p = evaluation()
    curve = read_curves(folder)["labels"]["official"]["reliability"]
    bin_of = np.digitize(p, np.linspace(0, 1, 16)[1:-1], right=True)
    for place, which in enumerate(np.unique(bin_of)):
        assert curve["n"][place] == (bin_of == which).sum()
        assert curve["said"][place] == pytest.approx(p[bin_of == which].mean(), abs=1e-5)
        assert curve["seen"][place] == pytest.approx(official[bin_of == which].mean(), abs=1e-5)


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
