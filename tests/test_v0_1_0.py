"""What version 0.1.0 left still opens: small files that it made itself, of drawn cells and a drawn field.

They are kept as they were written. What opens them may say more than it did then, but must not say anything else.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from giemsa.cli import main
from giemsa.formats.evaluations import read_evaluation
from giemsa.model import open_model

KEPT = Path(__file__).parent / "data" / "v0_1_0"


def giemsa(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of it all in the working folder, so that what is kept stays as it is."""
    shutil.copytree(KEPT, tmp_path / "kept")
    monkeypatch.chdir(tmp_path / "kept")
    return tmp_path / "kept"


def test_a_model_file_classifies(copied, make_cells):
    model = open_model("run/model.onnx")
    assert (model.card.name, model.card.created_by) == ("quick", "giemsa 0.1.0")
    assert len(model.card.training_patients) == 6
    make_cells(copied / "cells", 3)
    assert giemsa("classify", "cells", "--model", "run/model.onnx", "--output", "verdicts.csv") == 0
    with Path("verdicts.csv").open(newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["uninfected"] * 3


def test_a_run_is_exported_to_a_model_that_scores_as_its_own(copied):
    pytest.importorskip("torch")
    assert giemsa("export", "run", "--output", "again.onnx") == 0
    cells = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    before, after = open_model("run"), open_model("again.onnx")
    np.testing.assert_allclose(after.run(cells).logit, before.run(cells).logit, atol=1e-3)
    assert after.card.training_patients == before.card.training_patients


def test_a_split_divides_the_cells_that_it_was_made_for(copied):
    from giemsa.data.splits import read_split

    split = read_split("split.json")
    assert (split.by, split.names) == ("patient", ("train", "validation"))
    record = json.loads(Path("run/run.json").read_text())
    assert split.digest == record["split_digest"]
    assert sorted(dict(split.members)["train"]) == record["patients"]


def test_an_evaluation_is_compared_with_another(copied):
    pytest.importorskip("torch")
    shutil.copytree("evaluation", "second")
    assert giemsa("compare", "evaluation", "second", "--no-speed", "--output", "comparison") == 0
    content = json.loads(Path("comparison/compare.json").read_text())
    written = json.loads(Path("evaluation/metrics.json").read_text())
    for run in content["runs"]:
        for metric in ("accuracy", "roc_auc", "brier", "ece"):
            assert run["official"][metric]["value"] == written["official"][metric]["value"]
    assert content["bootstrap"]["unit"] == "patients"


def test_an_evaluation_is_of_the_model_that_it_names(copied):
    evaluation = read_evaluation(copied / "evaluation")
    assert evaluation.model_sha256 == open_model("run").digest
    assert evaluation.predictions.fields is None
    assert len(evaluation.predictions.images) == evaluation.metrics["n"] == 24
    figures = pytest.importorskip("giemsa.web.figures")
    curves = figures.read_curves(copied / "evaluation")
    assert curves["model_sha256"] == open_model("run").digest
    assert curves["labels"]["official"]["n"] == 24


def test_answers_of_reviewers_are_exported(copied, capsys):
    pytest.importorskip("sqlalchemy")
    assert giemsa("review", "export", "--raw", "--database", "sqlite:///reviews.sqlite", "--output", "answers.csv") == 0
    with Path("answers.csv").open(newline="") as file:
        answers = [(row["reviewer"], row["image"], row["answer"]) for row in csv.DictReader(file)]
    assert set(answers) >= {("A", "b.png", "unsure"), ("A", "a.png", "uninfected"), ("B", "a.png", "uninfected")}


def test_a_smear_goes_on_and_counts_as_before(copied, capsys):
    before = json.loads(Path("smear/summary.json").read_text())
    Path("fields").mkdir()
    shutil.copy("smear/pictures/00001_drawn_field.jpg", "fields/drawn_field.jpg")
    options = ["--output", "smear", "--resume", "--patient", "P1", "--no-overlays", "--json"]
    giemsa("smear", "fields", "--model", "run/model.onnx", *options)
    after = json.loads(capsys.readouterr().out)
    for name in ("patient", "fields", "fields_counted", "model_sha256"):
        assert after[name] == before[name], name
    assert after["count"]["red_cells"] == before["count"]["red_cells"]
    assert after["count"]["called"] == before["count"]["called"]


def test_a_laboratorys_rates_are_read(copied):
    from giemsa.smear.site import read_site

    site = read_site("site.json", model_sha256=open_model("run").digest)
    assert [counts.field for counts in site.fields] == [f"drawn_field_0{number}.jpg" for number in (1, 2, 3)]
    assert sum(counts.true_positives + counts.false_negatives for counts in site.fields) == 6
