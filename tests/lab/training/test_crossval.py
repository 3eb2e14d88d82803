from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from giemsa.data.cache import open_cache
from giemsa.data.splits import make_split
from giemsa.errors import DataError, RunError
from giemsa.lab.training.crossval import cross_validate, read_calibration, write_figures

SILENT = {"report": lambda _sentence: None}


@pytest.fixture(scope="module")
def split(labelled):
    return make_split(labelled.index, labelled.labels, folds=2, seed=0)


@pytest.fixture(scope="module")
def validated(labelled, quick_recipe, split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cv") / "run"
    pixels = open_cache(labelled.index, 32)
    first = cross_validate(
        quick_recipe, labelled.index, labelled.labels, split, pixels, folder, folds=[0], threads=1, **SILENT
    )
    assert first is None  # the other fold is missing
    result = cross_validate(
        quick_recipe, labelled.index, labelled.labels, split, pixels, folder, resume=True, threads=1, **SILENT
    )
    assert result is not None
    table = write_figures(quick_recipe, labelled.index, labelled.labels, result, folder, command="test")
    return folder, result, table


def test_every_cell_is_judged_once_by_a_network_that_has_not_seen_its_patient(validated, labelled, split):
    folder, result, _ = validated
    assert np.isfinite(result.logit).all()
    for k in range(2):
        record = json.loads((folder / f"fold-{k}" / "run.json").read_text())
        held_back = {labelled.index.cells[row].patient for row in np.flatnonzero(result.fold == k)}
        assert held_back
        assert not held_back & set(record["patients"])


def test_out_of_fold_predictions_are_written_for_every_cell(validated, labelled):
    folder, result, _ = validated
    with (folder / "out_of_fold.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [cell.file for cell in labelled.index.cells]
    np.testing.assert_allclose([float(row["logit"]) for row in rows], result.logit, rtol=1e-6)
    assert {row["donor"] for row in rows} == {"yes", "no"}


def test_each_folds_figures_agree_with_scikit_learn(validated, labelled):
    folder, result, table = validated
    folds = json.loads((folder / "folds.json").read_text())
    labels = labelled.labels
    for row in folds["folds"]:
        cells = labels.confirmed & (result.fold == row["fold"])
        assert row["n"] == cells.sum()
        assert row["roc_auc"] == pytest.approx(roc_auc_score(labels.official[cells], result.logit[cells]))
    assert folds["mean"]["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in folds["folds"]]))
    assert "mean" in table
    assert "confirmed" in table


def test_the_pooled_evaluation_uses_the_calibration_that_is_written(validated):
    folder, result, _ = validated
    assert read_calibration(folder / "calibration.json") == result.calibration
    metrics = json.loads((folder / "pooled" / "metrics.json").read_text())
    assert metrics["threshold"] == result.calibration.threshold
    assert metrics["n"] == len(result.logit)
    assert "donors" in metrics


def test_folds_of_different_cross_validations_are_not_pooled(validated, labelled, quick_recipe, split, tmp_path):
    import shutil

    from giemsa.lab.training.crossval import pool

    folder, _, _ = validated
    shutil.copytree(folder, tmp_path / "mixed")
    shutil.copy(tmp_path / "mixed/fold-0/held_back.npz", tmp_path / "mixed/fold-1/held_back.npz")
    with pytest.raises(RunError, match="does not hold one cross-validation"):
        pool(quick_recipe, labelled.index, labelled.labels, split, tmp_path / "mixed")


def test_what_is_no_calibration_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    for content in (None, "{", '{"warmth": 3}'):
        if content is not None:
            path.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match="is not a calibration"):
            read_calibration(path)
