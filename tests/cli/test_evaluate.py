"""`giemsa evaluate`, as it is typed."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from sklearn import metrics as reference

from giemsa.cli import main
from giemsa.lab.evaluation.reports import FILES, MORE_FILES
from giemsa.stats.metrics import METRICS
from giemsa.verdicts import DISCLAIMER


@pytest.fixture(scope="module")
def tree(tmp_path_factory, draw_cell, encode):
    """Cells of eight infected patients and four donors, some of them labelled wrongly; for reading only."""
    root = tmp_path_factory.mktemp("data") / "cells"
    for folder in ("Parasitized", "Uninfected"):
        (root / folder).mkdir(parents=True)
    for patient in range(12):
        donor = patient >= 8
        name = f"C{patient}ThinF" if donor else f"C{patient}P{patient}ThinF"
        for cell in range(6):
            parasitized = not donor and cell % 2 == 0
            wrongly = cell == 5 and patient == 3
            folder = "Parasitized" if parasitized != wrongly else "Uninfected"
            picture = encode(draw_cell(parasitized or (donor and cell == 0), seed=100 * patient + cell))
            (root / folder / f"{name}_IMG_{patient}{cell // 2}_cell_{cell}.png").write_bytes(picture)
    return root


@pytest.fixture
def reviewed(tree, tmp_path):
    """A second reading that disputes each patient's first cell that is called uninfected."""
    path = tmp_path / "reviewed.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "official", "reviewed"])
        for picture in sorted(tree.glob("*/*.png")):
            label = picture.parent.name.lower()
            disputed = label == "uninfected" and picture.stem.endswith("cell_0")
            writer.writerow([picture.name, label, "parasitized" if disputed else label])
    return path


def evaluate(*arguments):
    return main(["evaluate", *map(str, arguments)])


def read_metrics(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def read_rows(folder):
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_model_is_measured_on_all_sets_of_labels(tree, reviewed, tiny_model, tmp_path, capsys):
    output = tmp_path / "evaluation"
    assert evaluate("--data", tree, "--model", tiny_model, "--reviewed", reviewed, "--output", output) == 0

    printed = capsys.readouterr()
    content = read_metrics(output)
    assert sorted(path.name for path in output.iterdir()) == sorted((*FILES, *MORE_FILES))
    assert (content["n"], content["patients"], content["unreadable"]) == (72, 12, 0)
    assert content["confirmed"]["n"] == 68
    assert (content["donors"]["n"], content["donors"]["patients"]) == (24, 4)
    assert content["donors"]["false_positives"] == 4
    assert content["donors"]["undisputed"]["false_positives"] == 0
    assert content["bootstrap"]["unit"] == "patients"

    rows = read_rows(output)
    label = np.array([row["official"] == "parasitized" for row in rows])
    p = np.array([float(row["p_parasitized"]) for row in rows])
    assert content["official"]["roc_auc"]["value"] == pytest.approx(reference.roc_auc_score(label, p))
    called = [row["verdict"] == "parasitized" for row in rows]
    assert content["official"]["sensitivity"]["value"] == pytest.approx(reference.recall_score(label, called))
    assert [row["verdict"] == "parasitized" for row in rows] == (p >= content["threshold"]).tolist()

    assert "sensitivity" in printed.out
    assert "official labels" in printed.out
    assert "of cells labelled parasitized" in printed.out
    assert "undisputed cells" in printed.out
    assert str(output) in printed.out
    assert printed.out.rstrip().endswith(DISCLAIMER)
    assert "does not name the patients that it was trained on" in printed.err


def test_the_verdicts_are_those_of_classify(tree, tiny_model, tmp_path, capsys):
    assert evaluate("--data", tree, "--model", tiny_model, "--output", tmp_path / "out") == 0
    assert main(["classify", str(tree), "--model", str(tiny_model), "--output", str(tmp_path / "verdicts.csv")]) == 0
    with (tmp_path / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        classified = {row["image"].rpartition("/")[2]: row for row in csv.DictReader(file)}
    for row in read_rows(tmp_path / "out"):
        other = classified[row["image"].rpartition("/")[2]]
        assert row["verdict"] == other["verdict"]
        assert float(row["p_parasitized"]) == pytest.approx(float(other["p_parasitized"]), rel=1e-6)
    capsys.readouterr()


def test_the_report_says_what_was_measured_on_what(tree, reviewed, tiny_model, tmp_path, capsys):
    output = tmp_path / "evaluation"
    evaluate("--data", tree, "--model", tiny_model, "--reviewed", reviewed, "--output", output, "--threads", "1")
    content = read_metrics(output)

    assert content["model"]["name"] == "tiny"
    assert len(content["model"]["digest"]) == 64
    assert content["model"]["calibration"] == {"temperature": 1.5, "bias": -0.25}
    assert content["model"]["label_set"] == "drawn"
    assert (content["model"]["provider"], content["model"]["threads"]) == ("CPUExecutionProvider", 1)
    assert len(content["data"]["digest"]) == 64
    assert content["split"]["part"] == "all cells"
    assert len(content["label_sets"]["confirmed"]["digest"]) == 64
    assert content["label_sets"]["donors"].startswith("patients of the official set")
    assert content["command"].startswith("giemsa evaluate ")
    assert content["disclaimer"] == DISCLAIMER
    capsys.readouterr()


def test_json_is_the_file_and_nothing_else(tree, tiny_model, tmp_path, capsys):
    assert evaluate("--data", tree, "--model", tiny_model, "--output", tmp_path / "out", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == read_metrics(tmp_path / "out")


def test_a_part_of_a_split_is_measured_alone(tree, tiny_model, tmp_path, capsys):
    split = tmp_path / "split.json"
    _make_split(tree, split, folds=3)
    seen = []
    for fold in range(3):
        output = tmp_path / f"fold-{fold}"
        assert (
            evaluate("--data", tree, "--model", tiny_model, "--split", split, "--fold", fold, "--output", output) == 0
        )
        content = read_metrics(output)
        assert content["split"]["part"] == f"fold {fold}"
        assert (content["split"]["by"], len(content["split"]["digest"])) == ("patient", 64)
        assert content["data"]["cells"] == 72
        seen += [{row["patient"] for row in read_rows(output)}]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 12

    assert evaluate("--data", tree, "--model", tiny_model, "--split", split, "--output", tmp_path / "none") == 2
    assert "name the one that is held back with --fold" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_donors_are_those_of_the_whole_set_also_in_a_part(tree, tiny_model, tmp_path, capsys):
    split = tmp_path / "split.json"
    _make_split(tree, split, validation=0.25, test=0.25)
    counts = []
    for part in ("train", "validation", "test"):
        output = tmp_path / part
        evaluate("--data", tree, "--model", tiny_model, "--split", split, "--part", part, "--output", output)
        counts.append(read_metrics(output).get("donors", {"n": 0})["n"])
    assert sum(counts) == 24
    capsys.readouterr()


def test_patients_that_the_model_was_trained_on_are_refused_unless_allowed(
    tree, tmp_path, write_model, model_card, capsys
):
    model = write_model(tmp_path / "trained.onnx", card=model_card(32, training_patients=["C1P1ThinF", "C9ThinF"]))
    output = tmp_path / "out"
    assert evaluate("--data", tree, "--model", model, "--output", output) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "2 of 12 patients" in error
    assert "--allow-training-patients" in error
    assert not output.exists()

    assert evaluate("--data", tree, "--model", model, "--output", output, "--allow-training-patients") == 0
    assert "better than they will be for new patients" in capsys.readouterr().err
    assert any("2 of 12 patients" in sentence for sentence in read_metrics(output)["warnings"])


def test_unreadable_pictures_are_listed_and_give_status_1(tree, tiny_model, tmp_path, capsys):
    tree = shutil.copytree(tree, tmp_path / "cells")
    (tree / "Uninfected" / "C2P2ThinF_IMG_2_cell_99.png").write_bytes(b"")
    (tree / "Uninfected" / "C9ThinF_IMG_2_cell_99.png").write_bytes(b"this is text")
    output = tmp_path / "out"
    assert evaluate("--data", tree, "--model", tiny_model, "--output", output) == 1

    content, rows = read_metrics(output), read_rows(output)
    assert (content["n"], content["unreadable"]) == (72, 2)
    assert (content["donors"]["n"], content["donors"]["unreadable"]) == (24, 1)
    unreadable = [row for row in rows if row["verdict"] == "unreadable"]
    assert [row["patient"] for row in unreadable] == ["C2P2ThinF", "C9ThinF"]
    assert all(row["reason"] and not row["p_parasitized"] for row in unreadable)
    assert content["bootstrap"]["unit"] == "patients"
    assert "Left out as unreadable: 2 pictures" in capsys.readouterr().out


def test_a_model_with_one_verdict_for_everything_is_warned_of(tree, tmp_path, write_model, capsys):
    model = write_model(tmp_path / "blind.onnx", scale=0.0)
    assert evaluate("--data", tree, "--model", model, "--output", tmp_path / "out") == 0
    error = capsys.readouterr().err
    assert "warning: Every one of the 72 cells is called uninfected" in error
    content = read_metrics(tmp_path / "out")
    assert content["official"]["roc_auc"]["value"] == 0.5
    assert content["official"]["precision"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "no cell is called parasitized",
    }


def test_cells_of_one_class_give_no_figures_that_need_two(tmp_path, draw_cell, encode, tiny_model, capsys):
    (tmp_path / "cells" / "Healthy").mkdir(parents=True)
    for cell in range(5):
        (tmp_path / "cells" / "Healthy" / f"{cell}.png").write_bytes(encode(draw_cell(seed=cell)))
    assert evaluate("--data", tmp_path / "cells", "--model", tiny_model, "--output", tmp_path / "out") == 0
    content = read_metrics(tmp_path / "out")
    assert content["official"]["roc_auc"]["value"] is None
    assert content["official"]["specificity"]["value"] == 1.0
    assert content["patients"] is None
    assert content["bootstrap"]["unit"] == "cells"
    printed = capsys.readouterr()
    assert "not defined: all cells have the same label" in printed.out
    assert "Patients are not known" in printed.err


def test_one_s_own_folders_with_patients_and_donors_from_files(tmp_path, draw_cell, encode, tiny_model, capsys):
    lines = ["file,label,patient"]
    for cell in range(12):
        (tmp_path / f"{cell}.png").write_bytes(encode(draw_cell(cell % 4 == 0, seed=cell)))
        lines.append(f"{cell}.png,{'ring' if cell % 4 == 0 else 'none'},{'ann' if cell < 6 else 'ben'}")
    (tmp_path / "cells.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "donors.txt").write_text("ben\n", encoding="utf-8")
    output = tmp_path / "out"
    status = evaluate(
        "--data", tmp_path / "cells.csv", "--model", tiny_model, "--positive-class", "ring", "--donors",
        tmp_path / "donors.txt", "--output", output,
    )  # fmt: skip
    assert status == 0
    content = read_metrics(output)
    assert (content["patients"], content["donors"]["patients"], content["donors"]["n"]) == (2, 1, 6)
    assert content["label_sets"]["donors"]["file"].endswith("donors.txt")
    assert content["donors"]["specificity"]["reason"] == "an interval takes at least two patients"
    assert "an interval takes at least two patients" in capsys.readouterr().out


def test_an_existing_evaluation_is_not_replaced_without_force(tree, tiny_model, tmp_path, capsys):
    output = tmp_path / "out"
    assert evaluate("--data", tree, "--model", tiny_model, "--output", output) == 0
    before = (output / "metrics.json").read_bytes()
    assert evaluate("--data", tree, "--model", tiny_model, "--output", output) == 2
    assert "--force" in capsys.readouterr().err
    assert (output / "metrics.json").read_bytes() == before
    assert evaluate("--data", tree, "--model", tiny_model, "--output", output, "--force") == 0
    assert (output / "metrics.json").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere"),
        (["cells", "--model", "nowhere.onnx"], "nowhere.onnx"),
        (["cells", "--split", "nowhere.json"], "nowhere.json"),
        (["cells", "--fold", "1"], "--fold 1 needs --split"),
        (["cells", "--part", "test"], "no part 'test'"),
        (["cells", "--fold", "1", "--part", "test"], "not allowed with"),
        (["cells", "--reviewed", "nowhere.csv"], "nowhere.csv"),
        (["cells", "--threads", "0"], "argument --threads: '0' is given"),
    ],
)
def test_wrong_use_is_one_sentence_and_nothing_is_written(tree, tiny_model, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tree.parent)
    model = [] if "--model" in arguments else ["--model", str(tiny_model)]
    assert evaluate("--data", *arguments, *model, "--output", "out") == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert [entry.name for entry in tree.parent.iterdir()] == ["cells"]


def test_an_interruption_writes_nothing_and_says_so(tree, tiny_model, tmp_path, monkeypatch, capsys):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("giemsa.classifier.Classifier.classify_batches", interrupt)
    assert evaluate("--data", tree, "--model", tiny_model, "--output", tmp_path / "out") == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_terminal_shows_progress_on_standard_error(tree, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert evaluate("--data", tree, "--model", tiny_model, "--output", tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert "classify" in printed.err
    assert "72/72" in printed.err
    assert "72/72" not in printed.out


def test_help_fits_a_screen_and_has_examples(capsys):
    assert evaluate("--help") == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 50
    assert text.count("  giemsa evaluate") >= 2


@pytest.mark.shared
def test_real_cells_have_all_figures(shared_data, tiny_model, tmp_path, capsys):
    """A sixteenth of the real cells, by the real review: every figure is there, with patients as the unit."""
    import subprocess
    import sys

    subprocess.run([sys.executable, shared_data / "unpack.py", tmp_path / "all"], check=True, capture_output=True)
    for number, path in enumerate(sorted((tmp_path / "all").glob("*/*.png"))):
        if number % 16:
            path.unlink()
    output = tmp_path / "out"
    status = evaluate(
        "--data",
        tmp_path / "all",
        "--model",
        tiny_model,
        "--reviewed",
        shared_data / "reviewed.csv",
        "--output",
        output,
    )
    assert status == 0
    content = read_metrics(output)
    for name in ("official", "confirmed"):
        assert all(content[name][metric]["value"] is not None for metric in METRICS)
    assert content["bootstrap"]["unit"] == "patients"
    assert content["donors"]["patients"] > 20
    capsys.readouterr()


def _make_split(tree, path, **how):
    from giemsa.data.index import read_index
    from giemsa.data.labels import read_label_sets
    from giemsa.data.splits import make_split

    index = read_index(tree)
    make_split(index, read_label_sets(index), **how).save(path)
