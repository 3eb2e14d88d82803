"""Comparisons: the same cells, the same resamples, and nothing that is not said."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from giemsa.cli import main
from giemsa.errors import DataError, UsageError
from giemsa.formats.evaluations import Predictions, read_evaluation
from giemsa.lab.comparing.comparison import compare
from giemsa.lab.comparing.entries import Entry, measure_speed, open_entries
from giemsa.lab.evaluation.reports import write_evaluation
from giemsa.stats.intervals import bca_limits
from giemsa.stats.metrics import accuracy, confusion, roc_auc


def drawn_predictions(seed=0, noise=1.0, patients=12, each=30, donors=3):
    """Predictions that are right more or less often; the last patients are donors."""
    truth = np.random.default_rng(1)
    cells = patients * each
    patient = np.repeat(np.arange(patients), each)
    donor = patient >= patients - donors
    official = (truth.random(cells) < 0.5) & ~donor
    reviewed = np.where(truth.random(cells) < 0.05, ~official, official)
    logit = np.where(official, 1.5, -1.5) + np.random.default_rng(seed).normal(0, noise, cells)
    return Predictions(
        images=[f"cell_{number}.png" for number in range(cells)],
        p_parasitized=1 / (1 + np.exp(-logit)),
        logit=logit,
        official=official.astype(np.int8),
        reviewed=reviewed.astype(np.int8),
        donor=donor,
        patients=[f"patient {number}" for number in patient],
    )


def save(folder, predictions, *, threshold=0.5, digest="d" * 64, **more):
    report = predictions.evaluate(threshold, resamples=50)
    write_evaluation(folder, predictions, report, provenance={"recipe": folder.name, "data_digest": digest, **more})
    return folder


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluations")
    return save(root / "sharp", drawn_predictions(0, 1.0)), save(root / "blurred", drawn_predictions(1, 2.0))


def entry(name, predictions, **more):
    return Entry(name, name, predictions, **more)


def test_predictions_are_read_back_as_they_were_written(tmp_path):
    written = drawn_predictions()
    written.p_parasitized[3] = written.logit[3] = np.nan
    read = read_evaluation(save(tmp_path / "one", written)).predictions
    np.testing.assert_array_equal(read.p_parasitized, written.p_parasitized)
    np.testing.assert_array_equal(read.official, written.official)
    np.testing.assert_array_equal(read.reviewed, written.reviewed)
    np.testing.assert_array_equal(read.donor, written.donor)
    assert read.patients == written.patients


def test_fields_are_those_that_were_written_and_only_old_evaluations_tell_them_by_names_of_files(tmp_path):
    written = drawn_predictions()
    names = [f"C1P1thinF_IMG_20150604_10472{row % 2}_cell_{row}.png" for row in range(len(written.images))]
    fields = [f"slide {row % 3}" for row in range(len(names))]
    new = replace(written, images=names, fields=fields, patients=None)
    save(tmp_path / "new", new)
    save(tmp_path / "old", replace(new, fields=None))
    with (tmp_path / "old" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "old" / "predictions.csv").open("w", newline="") as file:  # as version 0.1.0 wrote it
        writer = csv.DictWriter(file, [column for column in rows[0] if column != "field"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    one, other = open_entries([str(tmp_path / "new"), str(tmp_path / "old")])
    assert one.predictions.fields == fields
    assert sorted(set(other.predictions.fields)) == ["IMG_20150604_104720", "IMG_20150604_104721"]


def test_differences_are_those_of_the_figures_and_resample_the_same_patients():
    one, other = drawn_predictions(0, 1.0), drawn_predictions(1, 2.0)
    found = compare([entry("one", one), entry("other", other)], resamples=300, seed=7)
    official = next(label_set for label_set in found.sets if label_set.name == "official")
    difference = official.differences[0, 1]
    # Once more, by hand: one patient after the other, cells copied as often as their patient is drawn.
    rng = np.random.default_rng(7)
    names = sorted(set(one.patients))
    rows = {name: [row for row, patient in enumerate(one.patients) if patient == name] for name in names}
    by_hand = {"accuracy": [], "roc_auc": []}
    draws = [rng.integers(0, len(names), len(names)) for _ in range(300)]
    draws += [[place for place in range(len(names)) if place != left_out] for left_out in range(len(names))]
    for places in draws:
        drawn = np.concatenate([rows[names[place]] for place in places])
        truth = one.official[drawn] == 1
        scores = [predictions.p_parasitized[drawn] for predictions in (one, other)]
        right = [float(accuracy(confusion(truth, score >= 0.5))) for score in scores]
        by_hand["accuracy"].append(right[1] - right[0])
        by_hand["roc_auc"].append(roc_auc(truth, scores[1]) - roc_auc(truth, scores[0]))
    for metric, values in by_hand.items():
        figures = [scores.figures[metric].value for scores in official.scores]
        value = difference[metric].value
        assert value == pytest.approx(figures[1] - figures[0])
        low, high = bca_limits(value, np.array(values[:300]), np.array(values[300:]), len(names))
        assert difference[metric].low == pytest.approx(low, abs=1e-9)
        assert difference[metric].high == pytest.approx(high, abs=1e-9)
        assert (difference[metric].unit, difference[metric].units) == ("patients", len(names))


def test_a_run_does_not_differ_from_itself():
    same = drawn_predictions()
    found = compare([entry("a", same), entry("b", same)], resamples=50)
    for label_set in found.sets:
        for figure in label_set.differences[0, 1].values():
            assert (figure.value, figure.low, figure.high) == (0, 0, 0)
            assert "same in every resample" in figure.note


def test_donors_count_as_uninfected_whatever_their_label():
    mislabelled = drawn_predictions()
    mislabelled.official[mislabelled.donor] = 1
    found = compare([entry("a", mislabelled), entry("b", mislabelled)], resamples=50)
    donors = next(label_set for label_set in found.sets if label_set.name == "donors")
    called = mislabelled.p_parasitized[mislabelled.donor] >= 0.5
    assert donors.scores[0].figures["specificity"].value == pytest.approx(1 - called.mean())


def test_figures_are_of_the_cells_that_all_were_evaluated_on():
    whole = drawn_predictions()
    part = replace(
        whole,
        images=whole.images[100:],
        p_parasitized=whole.p_parasitized[100:],
        logit=whole.logit[100:],
        official=whole.official[100:],
        reviewed=whole.reviewed[100:],
        donor=whole.donor[100:],
        patients=whole.patients[100:],
    )
    found = compare([entry("whole", whole), entry("part", part)], resamples=50)
    assert found.sets[0].cells == len(part.images)
    assert found.sets[0].differences[0, 1]["accuracy"].value == 0
    assert any(
        "whole was evaluated on 360 cells" in sentence and "260 cells" in sentence for sentence in found.warnings
    )


def test_the_order_of_rows_does_not_matter():
    one = drawn_predictions()
    order = np.random.default_rng(3).permutation(len(one.images))
    shuffled = Predictions(
        images=[one.images[row] for row in order],
        p_parasitized=one.p_parasitized[order],
        logit=one.logit[order],
        official=one.official[order],
        reviewed=one.reviewed[order],
        donor=one.donor[order],
        patients=[one.patients[row] for row in order],
    )
    found = compare([entry("a", one), entry("b", shuffled)], resamples=50)
    assert all(figure.value == 0 for label_set in found.sets for figure in label_set.differences[0, 1].values())


def test_what_cannot_be_compared_is_refused():
    one = drawn_predictions()
    elsewhere = replace(one, images=[f"other_{name}" for name in one.images])
    with pytest.raises(DataError, match="no cell in common"):
        compare([entry("a", one), entry("b", elsewhere)])
    contradicting = replace(one, official=1 - one.official)
    with pytest.raises(DataError, match=r"different labels, such as that of cell_0\.png"):
        compare([entry("a", one), entry("b", contradicting)])
    with pytest.raises(DataError, match="different data"):
        compare([entry("a", one, data_digest="1" * 64), entry("b", one, data_digest="2" * 64)])


def test_bad_arguments_are_refused_in_one_sentence(evaluations, tmp_path, tiny_model, capsys):
    sharp, blurred = evaluations
    with pytest.raises(UsageError, match="two or more"):
        open_entries([str(sharp)])
    with pytest.raises(UsageError, match="given twice"):
        open_entries([str(sharp), str(sharp)])
    with pytest.raises(DataError, match="does not exist"):
        open_entries([str(sharp), str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match="give --data DIR"):
        open_entries([str(sharp), str(tiny_model)])
    with pytest.raises(DataError, match="no evaluation of its own"):
        open_entries([str(sharp), "default"])
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="giemsa evaluate --data DIR"):
        open_entries([str(sharp), str(tmp_path / "bare")])
    assert main(["compare", str(sharp), str(blurred), "--part", "test"]) == 2
    assert "--part needs --data" in capsys.readouterr().err


def test_a_run_with_two_evaluations_is_not_guessed_about(tmp_path):
    save(tmp_path / "run" / "one", drawn_predictions())
    save(tmp_path / "run" / "two", drawn_predictions())
    with pytest.raises(DataError, match=r"2 evaluations \(one, two\)"):
        open_entries([str(tmp_path / "run"), str(tmp_path / "run" / "one")])


def test_a_damaged_evaluation_is_refused(tmp_path):
    folder = save(tmp_path / "one", drawn_predictions())
    (folder / "predictions.csv").write_text("image,logit\na.png,1\n")
    with pytest.raises(DataError, match="is no evaluation as `giemsa evaluate` writes it"):
        read_evaluation(folder)


def test_a_folder_of_pages_is_written_whole_and_not_over_others(evaluations, tmp_path, capsys):
    sharp, blurred = evaluations
    out = tmp_path / "comparison"
    assert main(["compare", str(sharp), str(blurred), "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Differences from sharp" in said
    assert sorted(path.name for path in out.iterdir()) == [
        "compare.html", "compare.json", "compare.md", "roc.png", "size_and_speed.png",
    ]  # fmt: skip
    content = json.loads((out / "compare.json").read_text())
    assert [run["name"] for run in content["runs"]] == ["sharp", "blurred"]
    difference = next(label_set for label_set in content["differences"] if label_set["labels"] == "official")
    assert (difference["run"], difference["less"]) == ("blurred", "sharp")
    assert difference["accuracy"]["value"] < 0
    text = (out / "compare.md").read_text()
    value = content["runs"][0]["official"]["accuracy"]["value"]
    assert f"{100 * value:.2f} [" in text
    assert "no diagnosis" in text
    assert main(["compare", str(sharp), str(blurred), "--output", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["compare", str(sharp), str(blurred), "--output", str(out), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == 1
    (out / "notes.txt").write_text("mine")
    assert main(["compare", str(sharp), str(blurred), "--output", str(out), "--force"]) == 2
    assert (out / "notes.txt").read_text() == "mine"


def test_the_page_is_sound_html_and_runs_no_name_as_code(tmp_path):
    odd = save(tmp_path / "<b>$x|y", drawn_predictions(0))
    plain = save(tmp_path / "plain", drawn_predictions(1))
    out = tmp_path / "comparison"
    assert main(["compare", str(odd), str(plain), "--output", str(out)]) == 0
    page = (out / "compare.html").read_text()

    class Reader(HTMLParser):
        open_tags: tuple[str, ...] = ()
        heads: tuple[str, ...] = ()

        def handle_starttag(self, tag, attrs):
            assert tag != "b"
            assert not any(value.startswith("http") for _, value in attrs if value)
            if tag not in {"meta", "img", "br"}:
                self.open_tags += (tag,)

        def handle_endtag(self, tag):
            assert self.open_tags[-1] == tag
            self.open_tags = self.open_tags[:-1]

        def handle_data(self, data):
            if self.open_tags and self.open_tags[-1] == "th":
                self.heads += (data,)

    reader = Reader()
    reader.feed(page)
    assert reader.open_tags == ()
    assert "<b>$x|y" in reader.heads
    assert page.count("data:image/png;base64,") == 2
    assert "<b>$x\\|y" in (out / "compare.md").read_text()


def test_models_are_evaluated_on_the_spot_on_the_same_cells(tmp_path, draw_cell, encode, write_model, capsys):
    for number in range(40):
        folder = tmp_path / "cells" / ("Parasitized" if number % 2 else "Uninfected")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"C{number % 5}P{number % 5}ThinF_IMG_1_cell_{number}.png"
        (folder / name).write_bytes(encode(draw_cell(bool(number % 2), size=(40, 40), seed=number)))
    good = write_model(tmp_path / "good.onnx")
    poor = write_model(tmp_path / "poor.onnx", scale=0.0)
    out = tmp_path / "comparison"
    arguments = ["compare", good, poor, "--data", tmp_path / "cells", "--threads", 1, "--output", out]
    assert main([str(argument) for argument in arguments]) == 0
    assert "does not name the patients" in capsys.readouterr().err
    content = json.loads((out / "compare.json").read_text())
    first, second = content["runs"]
    assert first["official"]["accuracy"]["value"] > second["official"]["accuracy"]["value"]
    assert first["model_bytes"] == good.stat().st_size
    assert first["cells_per_second"]["value"] > 0
    assert content["sets"]["official"] == {"n": 40, "parasitized": 20, "patients": 5}


def test_a_run_brings_its_parameters_and_its_training_time(trained, tmp_path, half, write_model):
    import shutil

    from giemsa.lab.networks.building import count_parameters

    run = tmp_path / "run"
    shutil.copytree(trained.folder, run, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    write_model(run / "model.onnx")
    save(run / "evaluation", drawn_predictions(), model={"name": "quick", "digest": "0" * 64, "file": str(run)})
    one, other = open_entries([str(run), str(save(tmp_path / "other", drawn_predictions(1)))])
    assert one.parameters == count_parameters(trained.load_network())
    assert one.training_seconds == trained.record.timings["seconds"]
    assert one.model_bytes == (run / "model.onnx").stat().st_size
    assert any("is not the file that was evaluated" in sentence for sentence in one.warnings)
    assert other.parameters is None
    assert other.model is None


def test_speed_is_the_median_of_its_rounds(tiny_model):
    speed = measure_speed(tiny_model, threads=1)
    assert 0 < speed.lowest <= speed.cells_per_second <= speed.highest
    assert speed.threads == 1
