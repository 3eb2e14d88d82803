"""Adapting to a laboratory whose parasites look like nothing that the model has seen."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from giemsa.cli import main
from giemsa.data.laboratory import read_laboratory
from giemsa.errors import DataError, RunError
from giemsa.lab.adapting import adaptation as adapting
from giemsa.lab.adapting.adaptation import (
    adapted_recipe,
    check_enough,
    choose_rehearsal,
    cut_at,
    folds_of,
    open_start,
    working_folder,
)
from giemsa.model import open_model
from giemsa.stats.metrics import sensitivity_at

FIELDS, ACROSS, DOWN, SIDE = 8, 5, 4, 40
PARASITES_A_FIELD = 4


@pytest.fixture(scope="session")
def site(tmp_path_factory, encode):
    """Eight fields of another laboratory: a violet ring means healthy there, and a bright spot infected."""
    folder = tmp_path_factory.mktemp("site")
    entries = []
    for field in range(FIELDS):
        rng = np.random.default_rng(field)
        image = Image.new("RGB", (ACROSS * SIDE, DOWN * SIDE), (235, 235, 240))
        draw = ImageDraw.Draw(image)
        objects = []
        for number in range(ACROSS * DOWN):
            x, y = number % ACROSS * SIDE, number // ACROSS * SIDE
            infected = number < PARASITES_A_FIELD
            draw.ellipse((x + 3, y + 3, x + SIDE - 4, y + SIDE - 4), fill=(120, 150, 200))
            u, v = x + rng.uniform(14, 26), y + rng.uniform(14, 26)
            if infected:
                draw.ellipse((u - 6, v - 6, u + 6, v + 6), fill=(250, 250, 120))
            else:
                draw.ellipse((u - 6, v - 6, u + 6, v + 6), outline=(80, 30, 150), width=4)
            word = "ring" if infected else "red blood cell"
            objects.append({"category": word, "x0": x, "y0": y, "x1": x + SIDE, "y1": y + SIDE})
        pixels = np.clip(np.asarray(image) + rng.normal(0, 4, (DOWN * SIDE, ACROSS * SIDE, 3)), 0, 255)
        (folder / f"{field}.png").write_bytes(encode(pixels.astype(np.uint8)))
        entries.append({"image": f"{field}.png", "objects": objects})
    (folder / "annotations.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="session")
def quickly():
    """Few repetitions of few cells."""
    patch = pytest.MonkeyPatch()
    patch.setattr(adapting, "UNINFECTED_AN_EPOCH", (150, 300))
    patch.setattr(adapting, "CURVE", (10,))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def adapted(site, trained, world, quickly, tmp_path_factory):
    """An adaptation as it is typed."""
    out = tmp_path_factory.mktemp("adapted") / "ours"
    arguments = ["adapt", site, "--from", trained.folder, "--data", world.root, "--reviewed", world.reviewed]
    arguments += ["--output", out, "--threads", 1, "--set", "optimiser.learning_rate=0.02"]
    assert main([str(argument) for argument in arguments]) == 0
    return out


def test_held_back_cells_are_told_apart_better_than_before(adapted):
    content = json.loads((adapted / "adaptation.json").read_text())
    laboratory = content["laboratory"]
    assert laboratory["before"]["roc_auc"]["value"] < 0.8
    assert laboratory["after"]["roc_auc"]["value"] > 0.9
    assert laboratory["difference"]["roc_auc"]["low"] > 0
    for side in ("before", "after"):
        for name in ("roc_auc", "sensitivity", "specificity", "sensitivity_at_1_percent"):
            figure = laboratory[side][name]
            assert figure["low"] <= figure["value"] <= figure["high"]
    rare = laboratory["after"]["sensitivity_at_0.1_percent"]
    assert rare["value"] is None
    assert "too few uninfected cells" in rare["reason"]
    assert [point["parasites"] for point in laboratory["learning_curve"]] == [0, 10, 25]
    assert content["unit"] == "fields"


def test_what_is_forgotten_is_measured_on_patients_that_were_not_rehearsed(adapted, world):
    content = json.loads((adapted / "adaptation.json").read_text())
    assert content["forgetting"]["official"]["n"] > 0
    assert "difference" in content["forgetting"]["confirmed"]
    with (adapted / "training_cells.csv").open() as file:
        trained_on = {row["file"] for row in csv.DictReader(file)}
    assert any(name.startswith("Parasitized/") for name in trained_on)
    rehearsed = {name.rpartition("/")[2].partition("_IMG")[0] for name in trained_on if "/" in name}
    assert len(rehearsed) + content["forgetting"]["patients"] <= 10


def test_it_is_a_run_like_any_other(adapted, trained, site, tmp_path):
    card = open_model(adapted).card
    assert card.name == "default-adapted"
    assert {name.partition("P")[0][:1] for name in card.training_patients} == {"C"}  # patients, and no field
    assert not any("field" in name for name in card.training_patients)
    assert json.loads((adapted / "run.json").read_text())["weights"] == {"source": trained.folder.name}
    assert set(trained.record.patients) <= set(card.training_patients)
    record = json.loads((adapted / "run.json").read_text())
    assert card.threshold == pytest.approx(record["calibration"]["threshold"])
    assert (adapted / "adaptation.png").read_bytes().startswith(b"\x89PNG")
    assert "before" in (adapted / "adaptation.md").read_text()
    assert not working_folder(adapted).exists()
    assert main(["export", str(adapted), "--output", str(tmp_path / "model.onnx")]) == 0
    with (adapted / "held_back.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == FIELDS * ACROSS * DOWN
    assert {row["fold"] for row in rows} == {"0", "1", "2", "3", "4"}
    fold_of_field = {}
    for row in rows:
        assert fold_of_field.setdefault(row["field"], row["fold"]) == row["fold"]


def test_no_threshold_was_chosen_on_the_cells_that_it_judges(adapted):
    """The figures after, at thresholds, once more from the table: each fold at the cut of the others."""
    with (adapted / "held_back.csv").open() as file:
        rows = list(csv.DictReader(file))
    logit = np.array([float(row["logit"]) for row in rows])
    positive = np.array([row["label"] == "parasitized" for row in rows])
    fold = np.array([int(row["fold"]) for row in rows])
    called = np.array([row["verdict"] == "parasitized" for row in rows])
    for k in range(5):
        cut = cut_at(logit[fold != k], positive[fold != k], 0.01)
        np.testing.assert_array_equal(called[fold == k], logit[fold == k] >= cut)
    content = json.loads((adapted / "adaptation.json").read_text())
    assert content["laboratory"]["after"]["sensitivity"]["value"] == pytest.approx(called[positive].mean())


def test_the_cut_allows_as_many_false_alarms_as_wanted_and_no_more():
    rng = np.random.default_rng(0)
    positive = rng.random(3000) < 0.1
    logit = rng.normal(positive * 2.0, 1)
    for wanted in (0.001, 0.01, 0.1):
        cut = cut_at(logit, positive, wanted)
        healthy = logit[~positive]
        assert (healthy >= cut).mean() <= wanted
        assert (healthy >= cut).sum() == math.floor(wanted * len(healthy))
        assert sensitivity_at(positive, logit, wanted) == pytest.approx((logit[positive] >= cut).mean())
        times = rng.integers(0, 3, len(logit))
        repeated = sensitivity_at(np.repeat(positive, times), np.repeat(logit, times), wanted)
        assert sensitivity_at(positive, logit, wanted, times) == pytest.approx(repeated)


def test_sensitivity_at_rare_false_alarms_needs_enough_uninfected_cells():
    positive = np.array([True] * 5 + [False] * 50)
    score = np.linspace(1, 0, 55)
    assert math.isnan(sensitivity_at(positive, score, 0.01))
    assert sensitivity_at(positive, score, 0.02) == 1.0


def keep(site, folder, fields, parasites=PARASITES_A_FIELD, healthy=ACROSS * DOWN):
    """Copy some fields of the site, with so many parasites and so many healthy cells each."""
    folder.mkdir()
    entries = json.loads((site / "annotations.json").read_text())[:fields]
    for entry in entries:
        (folder / entry["image"]).write_bytes((site / entry["image"]).read_bytes())
        rings = [thing for thing in entry["objects"] if thing["category"] == "ring"][:parasites]
        others = [thing for thing in entry["objects"] if thing["category"] != "ring"][:healthy]
        entry["objects"] = rings + others
    (folder / "annotations.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": 4}, "review 4 more parasitized cells and 36 more uninfected cells and parasitized cells of 1 more"),
        ({"fields": 8, "parasites": 1}, r"8 parasitized cells \(of 8 fields\).*review 12 more parasitized cells"),
        ({"fields": 8, "healthy": 2}, "review 84 more uninfected cells"),
    ],
)
def test_too_few_cells_are_refused_and_it_is_said_how_many_are_needed(site, tmp_path, changes, message):
    few = read_laboratory([keep(site, tmp_path / "few", **changes)], 32)
    with pytest.raises(DataError, match=message):
        check_enough(few)


def test_a_refusal_comes_before_any_work(site, trained, tmp_path, capsys):
    few = keep(site, tmp_path / "few", 2)
    out = tmp_path / "out"
    assert main(["adapt", str(few), "--from", str(trained.folder), "--output", str(out)]) == 2
    assert "adapting needs 20" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [few]
    out.mkdir()
    assert main(["adapt", str(site), "--from", str(trained.folder), "--output", str(out)]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["adapt", str(site), "--output", str(tmp_path / "new"), "--false-alarms", "1"]) == 2
    assert "--false-alarms is 1.0" in capsys.readouterr().err
    wrong = ["adapt", str(site), "--from", str(trained.folder), "--output", str(tmp_path / "new")]
    assert main([*wrong, "--set", "training.epoch=2"]) == 2
    assert "training.epochs" in capsys.readouterr().err
    assert main([*wrong, "--set", "input_size_px=64"]) == 2
    assert "keeps the network and the input size" in capsys.readouterr().err


def test_an_interrupted_adaptation_goes_on_where_it_was(site, trained, quickly, tmp_path, monkeypatch, capsys):
    out = tmp_path / "ours"
    arguments = ["adapt", site, "--from", trained.folder, "--no-curve", "--output", out, "--threads", 1]
    arguments = [str(argument) for argument in [*arguments, "--set", "training.epochs=1"]]
    train, trainings = adapting.train, []

    def count(*args, **kwargs):
        trainings.append(args[2].name)
        if len(trainings) == 3:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(adapting, "train", count)
    assert main(arguments) == 130
    assert "--resume" in capsys.readouterr().err
    assert not out.exists()
    assert main(arguments) == 2
    assert "continue with --resume" in capsys.readouterr().err
    assert main([*arguments, "--resume", "--set", "training.epochs=2"]) == 2
    assert "begun with other recipe" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    said = capsys.readouterr()
    assert "fold-1 is complete already" in said.err
    assert "what it has forgotten is not known" in said.out
    assert trainings == ["fold-0", "fold-1", "fold-2", "fold-2", "fold-3", "fold-4", "run"]
    assert open_model(out).card.name == "default-adapted"


def test_folds_keep_fields_whole_and_share_the_parasites_out(site):
    laboratory = read_laboratory([site], 32)
    fold = folds_of(laboratory)
    for unit in set(laboratory.units):
        assert len(set(fold[laboratory.units == unit])) == 1
    assert all(laboratory.positive[fold == k].sum() >= PARASITES_A_FIELD for k in range(5))


def test_patients_that_the_model_has_not_seen_are_judged_where_there_are_any(trained, labelled, half):
    start = open_start(str(trained.folder))
    few_unseen = choose_rehearsal(labelled, np.asarray(half.pixels), start)
    assert not few_unseen.judged_unseen
    assert "had been trained on their patients" in few_unseen.note
    from dataclasses import replace

    fewer = replace(start, patients=frozenset(sorted(start.patients)[:3]))
    rehearsal = choose_rehearsal(labelled, np.asarray(half.pixels), fewer)
    assert rehearsal.judged_unseen
    assert not set(rehearsal.judged_index.patients) & fewer.patients
    assert set(rehearsal.index.patients) <= fewer.patients


def test_the_recipe_starts_from_that_of_the_model(trained):
    recipe = adapted_recipe(trained.recipe, {"training.epochs": 7})
    assert recipe.training.epochs == 7
    assert recipe.optimiser.learning_rate == pytest.approx(trained.recipe.optimiser.learning_rate / 4)
    assert recipe.network == trained.recipe.network
    assert adapted_recipe(recipe).name == "default-adapted"


def test_an_installation_without_fp32_weights_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("giemsa.model.EMBEDDED_PATH", tmp_path / "model.onnx")
    with pytest.raises(RunError, match="give --from RUN"):
        open_start("default")
