"""Reports from arrays, and the folder that they are written to."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest, t
from sklearn import metrics as reference

from giemsa.errors import DataError, OutputError
from giemsa.formats.evaluations import PREDICTION_COLUMNS, Predictions
from giemsa.lab.evaluation.reports import FILES, check_evaluation_folder, write_evaluation
from giemsa.stats.evaluation import evaluate_predictions
from giemsa.stats.metrics import METRICS
from giemsa.verdicts import DISCLAIMER


def draw_predictions(*, patients=20, cells_each=30, donors=6, seed=0, quality=2.0):
    """Draw cells of patients, the last of them donors with a few cells that the second reader took for parasites."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), cells_each)
    donor = patient >= patients - donors
    truth = (rng.random(patient.size) < 0.5) & ~donor
    official = np.where(rng.random(patient.size) < 0.03, ~truth & ~donor, truth).astype(np.int8)
    reviewed = np.where(donor, rng.random(patient.size) < 0.1, truth).astype(np.int8)
    logit = np.where(truth, quality, -quality) + 1.5 * rng.normal(size=patient.size)
    return Predictions(
        images=[f"cell_{row}.png" for row in range(patient.size)],
        p_parasitized=1 / (1 + np.exp(-logit)),
        logit=logit,
        official=official,
        reviewed=reviewed,
        donor=donor,
        patients=[f"patient {who}" for who in patient],
    )


def every_number(content):
    """Walk through everything in a JSON document."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return [number for entry in content for number in every_number(entry)]
    return [content]


def test_each_set_of_labels_is_judged_on_its_own_cells():
    predictions = draw_predictions()
    report = predictions.evaluate(0.5, resamples=100).to_dict()
    agreed = predictions.reviewed == predictions.official

    for name, cells in (("official", np.ones(600, bool)), ("confirmed", agreed)):
        entry, label, p = report[name], predictions.official[cells], predictions.p_parasitized[cells]
        assert entry["n"] == cells.sum()
        assert entry["patients"] == 20
        assert entry["parasitized"] == label.sum()
        assert entry["roc_auc"]["value"] == pytest.approx(reference.roc_auc_score(label, p))
        assert entry["pr_auc"]["value"] == pytest.approx(reference.average_precision_score(label, p))
        assert entry["mcc"]["value"] == pytest.approx(reference.matthews_corrcoef(label, p >= 0.5))
        (tn, fp), (fn, tp) = reference.confusion_matrix(label, p >= 0.5)
        assert entry["confusion"] == {
            "parasitized": {"called_parasitized": tp, "called_uninfected": fn},
            "uninfected": {"called_parasitized": fp, "called_uninfected": tn},
        }
        for metric in METRICS:
            assert entry[metric]["low"] <= entry[metric]["value"] <= entry[metric]["high"]
    assert report["official"]["accuracy"]["value"] < report["confirmed"]["accuracy"]["value"]


def test_donors_are_judged_as_healthy_whatever_a_reader_saw():
    predictions = draw_predictions(quality=1.0)
    report = predictions.evaluate(0.5, resamples=200).to_dict()["donors"]
    called = predictions.p_parasitized >= 0.5

    donor = predictions.donor
    assert (report["n"], report["patients"]) == (180, 6)
    assert report["false_positives"] == (called & donor).sum() > 0
    specificity = report["specificity"]
    assert specificity["value"] == pytest.approx(1 - called[donor].mean())
    per_million = report["false_positives_per_million"]
    assert per_million["value"] == pytest.approx(1e6 * called[donor].mean())
    assert per_million["low"] == pytest.approx(1e6 * (1 - specificity["high"]))
    assert per_million["high"] == pytest.approx(1e6 * (1 - specificity["low"]))
    assert report["parasites_per_microlitre"]["value"] == pytest.approx(5 * per_million["value"])
    assert report["parasites_per_microlitre"]["high"] == pytest.approx(5 * per_million["high"])

    undisputed = donor & (predictions.reviewed == 0)
    assert report["undisputed"]["n"] == undisputed.sum() < 180
    assert report["undisputed"]["false_positives"] == (called & undisputed).sum()

    with_any = {who for who, seen in zip(predictions.patients, called & donor, strict=True) if seen}
    share = report["patients_with_false_positives"]
    exact = binomtest(len(with_any), 6).proportion_ci(0.95, method="exact")
    assert share["n"] == len(with_any)
    assert (share["low"], share["high"]) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert share["unit"] == "patients"


def test_donors_without_a_false_alarm_get_the_exact_bound_and_its_unit():
    p = np.r_[np.full(30, 0.9), np.full(90, 0.1)]
    report = evaluate_predictions(
        p,
        p > 0.5,
        threshold=0.5,
        donor=np.arange(120) >= 60,
        patients=[str(row // 10) for row in range(120)],
        resamples=50,
    ).to_dict()["donors"]

    effective = 60 * (t.ppf(0.975, 59) / t.ppf(0.975, 5)) ** 2  # six patients tell less than sixty cells
    bound = 1 - 0.025 ** (1 / effective)
    assert report["false_positives_per_million"]["value"] == 0
    assert report["false_positives_per_million"]["high"] == pytest.approx(1e6 * bound)
    assert report["false_positives_per_million"]["unit"] == "patients"
    assert report["false_positives_per_million"]["units"] == 6
    assert report["false_positives_per_million"]["interval"] == "exact (Clopper-Pearson)"
    assert report["parasites_per_microlitre"]["high"] == pytest.approx(5e6 * bound)
    assert "undisputed" not in report


def test_without_a_review_or_donors_there_are_only_official_figures():
    report = evaluate_predictions([0.9, 0.2, 0.8, 0.4], [1, 0, 1, 0], threshold=0.5).to_dict()
    assert "confirmed" not in report
    assert "donors" not in report
    unread = evaluate_predictions([0.9, 0.2], [1, 0], threshold=0.5, reviewed=[-1, -1], donor=[False, False])
    assert unread.confirmed is None
    assert unread.donors is None


def test_the_interval_is_over_patients_fields_or_cells_and_says_so():
    p, label = np.tile([0.9, 0.2, 0.8, 0.4], 20), np.tile([1, 0, 1, 0], 20)
    names = [str(row // 4) for row in range(80)]
    partly = [None, *names[1:]]

    def unit(**known):
        report = evaluate_predictions(p, label, threshold=0.5, resamples=20, **known)
        return report.to_dict()["bootstrap"], report.official.patients, " ".join(report.warnings)

    known, patients, warnings = unit(patients=names, fields=names)
    assert (known["unit"], known["units"], patients) == ("patients", 20, 20)
    assert (known["resamples"], known["seed"], known["confidence"]) == (20, 0, 0.95)
    assert warnings == ""
    by_field, patients, warnings = unit(patients=partly, fields=names)
    assert (by_field["unit"], by_field["units"], patients) == ("fields", 20, None)
    assert "intervals resample fields" in warnings
    by_cell, patients, warnings = unit()
    assert (by_cell["unit"], by_cell["units"], patients) == ("cells", 80, None)
    assert "intervals resample cells" in warnings


def test_unreadable_cells_are_counted_and_left_out_even_where_nothing_is_known_of_them():
    predictions = draw_predictions()
    p, official = predictions.p_parasitized.copy(), predictions.official.copy()
    p[:3] = np.nan
    official[0] = -1
    patients = [None, *predictions.patients[1:]]
    report = evaluate_predictions(
        p, official, threshold=0.5, reviewed=predictions.reviewed, patients=patients, resamples=20
    )

    content = report.to_dict()
    assert (content["n"], content["unreadable"]) == (597, 3)
    assert content["bootstrap"]["unit"] == "patients"
    assert content["confirmed"]["unreadable"] <= 2
    assert content["official"]["accuracy"]["value"] == pytest.approx(
        reference.accuracy_score(official[3:], p[3:] >= 0.5)
    )
    assert any("3 unreadable pictures" in sentence for sentence in report.warnings)


@pytest.mark.parametrize(("p", "verdict"), [(0.2, "uninfected"), (0.7, "parasitized")])
def test_a_classifier_with_one_verdict_for_everything_is_warned_of(p, verdict):
    report = evaluate_predictions(np.full(40, p), np.arange(40) % 2, threshold=0.5, resamples=20)
    assert f"Every one of the 40 cells is called {verdict}" in report.warnings[0]
    assert report.official.figures["mcc"].value == 0


def test_a_classifier_with_swapped_classes_is_warned_of():
    report = evaluate_predictions(np.tile([0.9, 0.1], 20), np.tile([0, 1], 20), threshold=0.5, resamples=20)
    assert "check the order of classes" in report.warnings[0]


def test_few_patients_make_rough_intervals_and_that_is_said():
    few = evaluate_predictions([0.9, 0.1] * 4, [1, 0] * 4, threshold=0.5, patients=list("aabbccdd"), resamples=20)
    assert "The intervals rest on 4 patients only and are rough." in few.warnings
    predictions = draw_predictions()
    assert "The donors' intervals rest on 6 patients only and are rough." in predictions.evaluate(0.5).warnings


def test_cells_without_a_second_reading_are_not_among_the_confirmed():
    report = evaluate_predictions(
        [0.9, 0.1, 0.8, 0.3], [1, 0, 1, 0], threshold=0.5, reviewed=[1, 0, -1, -1], resamples=20
    )
    assert report.confirmed.cells == 2
    assert any("2 of 4 cells have no second reading" in sentence for sentence in report.warnings)


def test_one_class_of_labels_gives_null_with_a_reason_and_never_nan():
    content = evaluate_predictions(np.linspace(0, 1, 30), np.zeros(30), threshold=0.5, resamples=20).to_dict()
    assert content["official"]["roc_auc"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "all cells have the same label",
    }
    assert content["official"]["specificity"]["value"] == 0.5
    assert "All 30 cells are labelled uninfected" in content["warnings"][0]
    assert not any(isinstance(number, float) and math.isnan(number) for number in every_number(content))


def test_no_readable_cell_at_all_gives_a_report_without_figures():
    report = evaluate_predictions([np.nan] * 3, [1, 0, 1], threshold=0.5, donor=[False, True, False])
    content = report.to_dict()
    assert (content["n"], content["unreadable"]) == (0, 3)
    assert all(content["official"][metric]["value"] is None for metric in METRICS)
    assert content["donors"]["specificity"]["reason"] == "no cells"
    assert report.warnings[0] == "No cell could be judged: there are no figures."
    json.dumps(content, allow_nan=False)


def test_the_same_predictions_give_the_same_report_and_another_seed_other_intervals():
    predictions = draw_predictions()
    first, again, other = (predictions.evaluate(0.5, resamples=50, seed=seed).to_dict() for seed in (1, 1, 2))
    assert first == again
    assert first["official"]["brier"]["value"] == other["official"]["brier"]["value"]
    assert first["official"]["brier"]["low"] != other["official"]["brier"]["low"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"official": [1]}, "official has shape"),
        ({"official": [1, 2]}, "official holds 2"),
        ({"official": [1, -1]}, "official is -1 for a cell with a prediction"),
        ({"reviewed": [1, 0, 1]}, "reviewed has shape"),
        ({"donor": [True]}, "donor has shape"),
        ({"patients": ["a"]}, "1 patients were given for 2 cells"),
        ({"resamples": 0}, "resamples is 0"),
        ({"p_parasitized": [0.5, 7.0]}, "p_parasitized holds 7.0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_sentence(arguments, sentence):
    given = {"p_parasitized": [0.1, 0.9], "official": [0, 1], "threshold": 0.5} | arguments
    with pytest.raises(DataError, match=sentence):
        evaluate_predictions(given.pop("p_parasitized"), given.pop("official"), **given)


def test_an_evaluation_leaves_metrics_predictions_and_figures(tmp_path):
    predictions = draw_predictions()
    report = predictions.evaluate(0.4, resamples=50)
    provenance = {"model": {"name": "$a$_b"}, "command": "giemsa evaluate cells", "warnings": ["The model is a toy."]}
    content = write_evaluation(tmp_path / "runs" / "first", predictions, report, provenance=provenance)

    folder = tmp_path / "runs" / "first"
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(FILES)
    assert [entry.name for entry in folder.parent.iterdir()] == ["first"]
    written = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert written == content
    assert written["official"] == report.to_dict()["official"]
    assert written["command"] == "giemsa evaluate cells"
    assert written["warnings"] == [*report.warnings, "The model is a toy."]
    assert written["disclaimer"] == DISCLAIMER
    assert set(written["versions"]) >= {"python", "giemsa", "numpy", "onnxruntime"}
    assert written["created"].endswith("+00:00")
    for name in FILES[2:]:
        with Image.open(folder / name) as picture:
            picture.load()
            assert min(picture.size) > 500


def test_the_rows_of_predictions_give_the_figures_again(tmp_path):
    predictions = draw_predictions()
    content = write_evaluation(tmp_path / "out", predictions, predictions.evaluate(0.4, resamples=20))
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert list(rows[0]) == list(PREDICTION_COLUMNS)
    assert [row["image"] for row in rows] == predictions.images
    label = [row["official"] == "parasitized" for row in rows]
    p = [float(row["p_parasitized"]) for row in rows]
    assert reference.roc_auc_score(label, p) == content["official"]["roc_auc"]["value"]
    called = [row["verdict"] == "parasitized" for row in rows]
    assert reference.accuracy_score(label, called) == content["official"]["accuracy"]["value"]
    assert sum(row["donor"] == "yes" for row in rows) == content["donors"]["n"]
    assert {row["reviewed"] for row in rows} == {"parasitized", "uninfected"}
    assert np.array([float(row["logit"]) for row in rows]) == pytest.approx(predictions.logit, rel=1e-8)


def test_what_is_not_known_is_an_empty_field(tmp_path):
    predictions = Predictions(
        images=["a.png", "b.png", "c\udcff.png"],
        p_parasitized=np.array([0.8, 0.1, np.nan]),
        logit=np.array([1.4, -2.2, np.nan]),
        official=np.array([1, 0, -1], np.int8),
        reasons=["", "", "the file is empty"],
    )
    write_evaluation(tmp_path / "out", predictions, predictions.evaluate(0.5))
    lines = (tmp_path / "out" / "predictions.csv").read_bytes().splitlines()
    assert lines[1] == b"a.png,,,parasitized,,,parasitized,0.8,1.4,"
    assert lines[3] == b"c\xff.png,,,,,,unreadable,,,the file is empty"


@pytest.mark.parametrize(
    ("p", "official"),
    [
        ([0.2, 0.3, 0.4], [1, 0, 1]),
        ([0.2, 0.3, 0.4], [0, 0, 0]),
        ([0.9, 0.8, 0.7], [1, 1, 1]),
        ([0.5, 0.5, 0.5], [1, 0, 1]),
        ([np.nan, np.nan, np.nan], [1, 0, 1]),
        ([0.9, np.nan, np.nan], [1, 0, 1]),
    ],
)
def test_figures_are_drawn_of_any_predictions(tmp_path, p, official):
    official = np.array(official, np.int8)
    predictions = Predictions(["a", "b", "c"], np.array(p), np.array(p), official, official, np.array([False] * 3))
    write_evaluation(tmp_path / "out", predictions, predictions.evaluate(0.5))
    for name in FILES[2:]:
        with Image.open(tmp_path / "out" / name) as picture:
            picture.load()


def test_an_existing_evaluation_is_replaced_only_by_force(tmp_path):
    predictions = draw_predictions()
    report = predictions.evaluate(0.5, resamples=20)
    (tmp_path / "out").mkdir()  # an empty folder holds nothing that could be lost
    write_evaluation(tmp_path / "out", predictions, report)
    before = (tmp_path / "out" / "metrics.json").read_bytes()

    with pytest.raises(OutputError, match=r"holds an evaluation already; .* --force"):
        write_evaluation(tmp_path / "out", predictions, report)
    assert (tmp_path / "out" / "metrics.json").read_bytes() == before

    write_evaluation(tmp_path / "out", predictions, predictions.evaluate(0.9, resamples=20), force=True)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["threshold"] == 0.9
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_anything_else_in_it_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match=r"holds thesis\.tex, which is no part of an evaluation"):
        check_evaluation_folder(tmp_path, force=True)
    with pytest.raises(OutputError, match="is a file; name a folder"):
        check_evaluation_folder(tmp_path / "thesis.tex", force=True)


def test_a_failure_in_between_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch):
    predictions = draw_predictions()
    report = predictions.evaluate(0.5, resamples=20)
    write_evaluation(tmp_path / "out", predictions, report)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    # The disk is full when the last file is written.
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("giemsa.lab.evaluation.diagrams.draw_reliability", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_evaluation(tmp_path / "out", predictions, report, force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_if_the_last_rename_fails_the_old_evaluation_comes_back(tmp_path, monkeypatch):
    predictions = draw_predictions()
    report = predictions.evaluate(0.5, resamples=20)
    write_evaluation(tmp_path / "out", predictions, report)
    renames = []
    rename = os.rename

    def fail_once(self, target):
        renames.append(self)
        if len(renames) == 2:
            raise OSError(5, "Input/output error")
        rename(self, target)
        return target

    monkeypatch.setattr("pathlib.Path.rename", fail_once)
    with pytest.raises(OutputError, match="Input/output error"):
        write_evaluation(tmp_path / "out", predictions, report, force=True)
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_report_needs_neither_pytorch_nor_matplotlib():
    code = (
        "import sys, giemsa.stats.evaluation as e, giemsa.lab.evaluation.reports, giemsa.lab.evaluation.held_out;"
        "e.evaluate_predictions([.9, .1], [1, 0], threshold=.5);"
        "sys.exit(bool({'torch', 'matplotlib', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
