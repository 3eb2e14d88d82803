"""`giemsa train`, `crossval` and `export`, from the command line to a model that classifies."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import onnx
import pytest

from giemsa.cli import main
from giemsa.model import open_model

QUICK = """
name = "quick"
input_size_px = 32
[network]
stem_width = 4
widths = [4, 8]
blocks = [1, 1]
[training]
epochs = 2
batch_size = 16
ema_decay = 0.5
precision = "32-true"
"""


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def world(tmp_path_factory, draw_cell, encode):
    root = tmp_path_factory.mktemp("world")
    for patient in range(8):
        for number in range(30):
            parasitized = patient < 6 and number % 2 == 0
            folder = root / "cells" / ("Parasitized" if parasitized else "Uninfected")
            folder.mkdir(parents=True, exist_ok=True)
            whose = f"C{patient}P{patient}ThinF" if patient < 6 else f"C{patient}NThinF"
            name = f"{whose}_IMG_20200101_120000_cell_{number}.png"
            (folder / name).write_bytes(encode(draw_cell(parasitized, size=(40, 42), seed=patient * 100 + number)))
    (root / "quick.toml").write_text(QUICK, encoding="utf-8")
    return root


def giemsa(*arguments):
    return main([str(argument) for argument in arguments])


def test_after_an_early_stop_the_epoch_whose_weights_are_kept_is_named(world, tmp_path, capsys):
    split, run = tmp_path / "split.json", tmp_path / "run"
    giemsa("data", "split", "--data", world / "cells", "--output", split, "--validation", "0.25")
    settings = ["--set", "training.patience=1", "--set", "training.epochs=6", "--set", "optimiser.learning_rate=0.3"]
    data = ["--data", world / "cells", "--split", split, "--threads", 1]
    assert giemsa("train", world / "quick.toml", *data, *settings, "--output", run) == 0
    with (run / "metrics.csv").open() as file:
        epochs = list(csv.DictReader(file))
    best = min(range(len(epochs)), key=lambda epoch: float(epochs[epoch]["validation_loss"]))
    assert best < len(epochs) - 1
    assert f"after epoch {best + 1}: {float(epochs[best]['validation_accuracy']):.2%}" in capsys.readouterr().out


def test_from_a_split_to_a_run_to_verdicts(world, tmp_path, capsys):
    split, run, exported = tmp_path / "split.json", tmp_path / "run", tmp_path / "model.onnx"
    assert giemsa("data", "split", "--data", world / "cells", "--output", split, "--validation", "0.25") == 0
    status = giemsa(
        "train", world / "quick.toml", "--data", world / "cells", "--split", split, "--threads", 1, "--output", run
    )
    assert status == 0
    said = capsys.readouterr()
    assert "Trained in" in said.out
    with (run / "metrics.csv").open() as file:
        epochs = list(csv.DictReader(file))
    reached = float(epochs[-1]["validation_accuracy"])
    assert f"Validation accuracy after epoch {len(epochs)}: {reached:.2%}" in said.out
    assert "verdicts differ" in said.out
    assert "patients" in said.err
    assert giemsa("export", run, "--data", world / "cells", "--output", exported) == 0
    assert "fp32" in capsys.readouterr().out
    picture = next((world / "cells" / "Parasitized").iterdir())
    for model in (run, exported):
        assert giemsa("classify", picture, "--model", model, "--output", tmp_path / "v.csv", "--force") == 0
    with (tmp_path / "v.csv").open() as file:
        assert next(csv.DictReader(file))["verdict"] in {"parasitized", "uninfected"}


def test_export_does_not_overwrite_unasked_and_takes_calibration_and_figures(world, tmp_path, capsys):
    run = tmp_path / "run"
    quick = ["train", world / "quick.toml", "--data", world / "cells", "--limit", 60, "--output", run, "--json"]
    assert giemsa(*quick) == 0
    printed = capsys.readouterr()
    assert "nothing is left to validate on" in printed.err
    content = json.loads(printed.out)
    assert (content["run"], content["device"], content["validation"]) == (str(run), "cpu", None)
    exported = tmp_path / "model.onnx"
    exported.write_text("precious")
    assert giemsa("export", run, "--output", exported) == 2
    assert exported.read_text() == "precious"
    (tmp_path / "calibration.json").write_text('{"temperature": 2.5, "bias": 0.5, "threshold": 0.25, "source": "me"}')
    (tmp_path / "figures.json").write_text('{"accuracy": 0.5}')
    more = ["--calibration", tmp_path / "calibration.json", "--figures", tmp_path / "figures.json", "--force"]
    capsys.readouterr()
    assert giemsa("export", run, "--output", exported, *more, "--json") == 0
    printed = capsys.readouterr()
    assert "random pixels only" in printed.err
    content = json.loads(printed.out)
    assert (content["bytes"], content["precision"]) == (exported.stat().st_size, "fp32")
    assert content["agreement"]["cells"] > 0
    card = open_model(exported).card
    assert (card.temperature, card.bias, card.threshold) == (2.5, 0.5, 0.25)


def test_an_export_has_its_formats_name(tmp_path, capsys):
    assert giemsa("export", tmp_path, "--output", tmp_path / "model.foo") == 2
    assert "model.foo would be ONNX; expected a name that ends in .onnx" in capsys.readouterr().err
    assert giemsa("export", tmp_path, "--format", "tflite", "--output", tmp_path / "model.onnx") == 2
    assert "expected a name that ends in .tflite" in capsys.readouterr().err


def test_int8_needs_the_data(world, tmp_path, capsys):
    assert giemsa("export", tmp_path, "--int8", "--output", tmp_path / "m.onnx") == 2
    assert "--int8 needs --data" in capsys.readouterr().err


def test_crossval_makes_its_own_folds_and_prints_them(world, tmp_path, capsys):
    out = tmp_path / "cv"
    common = [
        "crossval",
        world / "quick.toml",
        "--data",
        world / "cells",
        "--folds",
        2,
        "--threads",
        1,
        "--output",
        out,
    ]
    assert giemsa(*common, "--fold", 0) == 0
    assert "Folds still to be trained: 1" in capsys.readouterr().err
    assert giemsa(*common, "--resume") == 0
    assert "donor specificity" in capsys.readouterr().out
    assert len(json.loads((out / "folds.json").read_text())["folds"]) == 2
    assert (out / "pooled" / "metrics.json").is_file()
    assert giemsa(*common, "--resume", "--json") == 0, "what is complete is printed again, and nothing is trained"
    assert json.loads(capsys.readouterr().out) == json.loads((out / "folds.json").read_text())


def test_crossval_by_laboratory_leaves_each_out_whole(world, tmp_path, capsys):
    cells = sorted((world / "cells").rglob("*.png"))
    place = {cell: "ABC"[int(cell.name[1]) % 3] for cell in cells}  # whole patients
    with (world / "laboratories.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "laboratory"])
        writer.writerows([cell.relative_to(world).as_posix(), cell.parent.name, lab] for cell, lab in place.items())
    out = tmp_path / "cv"
    common = ["crossval", world / "quick.toml", "--data", world / "laboratories.csv", "--output", out, "--threads", 1]
    assert giemsa(*common, "--by", "laboratory", "--set", "training.epochs=1") == 0
    with (out / "out_of_fold.csv").open() as file:
        fold_of = {row["image"]: row["fold"] for row in csv.DictReader(file)}
    assert {(fold_of[cell.relative_to(world).as_posix()], lab) for cell, lab in place.items()} == {
        ("0", "A"), ("1", "B"), ("2", "C"),
    }  # fmt: skip
    metrics = json.loads((out / "pooled" / "metrics.json").read_text())
    assert metrics["notes"] == ["Every cell was judged by a network that had not seen its laboratory."]
    assert metrics["calibration"]["source"].endswith("laboratories grouped")
    capsys.readouterr()
    assert giemsa(*common, "--by", "laboratory", "--split", tmp_path / "any.json") == 2
    assert "--by laboratory and --split FILE were both given" in capsys.readouterr().err


def test_crossval_takes_a_split_with_folds_and_no_other(world, tmp_path, capsys):
    giemsa("data", "split", "--data", world / "cells", "--output", tmp_path / "hold-out.json")
    giemsa("data", "split", "--data", world / "cells", "--folds", 2, "--output", tmp_path / "folds.json")
    common = ["crossval", world / "quick.toml", "--data", world / "cells", "--output", tmp_path / "cv"]
    assert giemsa(*common, "--split", tmp_path / "hold-out.json") == 2
    assert "hold-out" in capsys.readouterr().err
    assert giemsa(*common, "--split", tmp_path / "folds.json", "--fold", 1) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--fold", 0], "--fold needs --split"),
        (["--set", "training.epoch=3"], "training.epochs"),
        (["--set", "nonsense"], "KEY=VALUE"),
        (["--donors", "nobody.txt"], "nobody.txt"),
        (["--reviewed", "nothing.csv"], "nothing.csv"),
    ],
)
def test_a_wrong_argument_stops_a_training_before_it_begins(world, tmp_path, capsys, more, said):
    run = tmp_path / "run"
    assert giemsa("train", world / "quick.toml", "--data", world / "cells", "--output", run, *more) == 2
    assert said in capsys.readouterr().err
    assert not run.exists()


def test_folds_and_hold_outs_are_not_mistaken_for_each_other(world, tmp_path, capsys):
    giemsa("data", "split", "--data", world / "cells", "--output", tmp_path / "hold-out.json")
    giemsa("data", "split", "--data", world / "cells", "--folds", 2, "--output", tmp_path / "folds.json")
    common = ["train", world / "quick.toml", "--data", world / "cells", "--output", tmp_path / "run", "--split"]
    assert giemsa(*common, tmp_path / "folds.json") == 2
    assert "--fold" in capsys.readouterr().err
    assert giemsa(*common, tmp_path / "folds.json", "--fold", 7) == 2
    assert "fold 7" in capsys.readouterr().err
    assert giemsa(*common, tmp_path / "hold-out.json", "--fold", 0) == 2
    assert "hold-out" in capsys.readouterr().err


def test_help_does_not_load_pytorch():
    import subprocess

    for command in ("train", "crossval", "export"):
        code = (
            "import sys; from giemsa.cli import main; status = main([sys.argv[1], '--help']); "
            "assert status == 0 and 'torch' not in sys.modules"
        )
        shown = subprocess.run([sys.executable, "-c", code, command], check=True, capture_output=True, text=True)
        assert shown.stdout.count("\n") < 50
        assert "examples:" in shown.stdout


def test_logits_of_a_run_are_numbers(world, tmp_path):
    run = tmp_path / "run"
    giemsa("train", world / "quick.toml", "--data", world / "cells", "--limit", 60, "--output", run)
    cells = np.zeros((2, 32, 32, 3), np.uint8)
    assert np.isfinite(open_model(run).run(cells).logit).all()


def test_a_tree_with_train_and_test_folders_is_trained_on_train_alone(tmp_path, draw_cell, encode, capsys):
    for part, count in (("train", 40), ("test", 12)):
        for number in range(count):
            folder = tmp_path / "cells" / part / ("Parasitized" if number % 2 else "Uninfected")
            folder.mkdir(parents=True, exist_ok=True)
            content = encode(draw_cell(number % 2 == 1, size=(40, 40), seed=number + len(part) * 1000))
            (folder / f"cell_{number}.png").write_bytes(content)
    run = tmp_path / "run"
    changes = ["--set", "input_size_px=32", "--set", "network.widths=[4, 4]", "--set", "training.epochs=1"]
    assert giemsa("train", "softmax-cnn", "--data", tmp_path / "cells", *changes, "--output", run) == 0
    assert "40 cells of the folder train/" in capsys.readouterr().err
    with (run / "training_cells.csv").open() as file:
        assert all(row["file"].startswith("train/") for row in csv.DictReader(file))
    model = open_model(run)
    assert not model.has_evidence
    assert model.card.label_set == "disputed: official; donors: official"
    stored = json.loads(onnx.load(run / "model.onnx").metadata_props[0].value)
    assert stored["evidence"].startswith("none")
    assert stored["first_weights"] == {"source": "random"}
    evaluation = tmp_path / "evaluation"
    with_part = ["--model", run, "--part", "test", "--output", evaluation, "--allow-training-patients"]
    assert giemsa("evaluate", "--data", tmp_path / "cells", *with_part) == 0
    assert (evaluation / "gallery_false_negatives.png").is_file()
    assert json.loads((evaluation / "metrics.json").read_text())["n"] == 12
    maps = tmp_path / "maps"
    assert giemsa("explain", tmp_path / "cells" / "test", "--model", run, "--limit", 2, "--output", maps) == 0
    with (maps / "explanations.csv").open() as file:
        assert {row["layer"] for row in csv.DictReader(file)} == {"features.4"}


@pytest.mark.parametrize("recipe", ["mobilenet", "resnet50", "vgg19"])
def test_a_large_network_learns_some_steps_without_weights_from_the_hub(world, tmp_path, recipe):
    steps = ["training.epochs=2", "training.frozen_epochs=1", "training.batch_size=8", "input_size_px=32"]
    changes = [part for step in steps for part in ("--set", step)]
    command = ["train", recipe, "--data", world / "cells", "--limit", 16, "--weights", "none", *changes]
    assert giemsa(*command, "--output", tmp_path / "run") == 0
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert all(0 < float(row["train_loss"]) < 10 for row in rows)
    assert open_model(tmp_path / "run").card.name == recipe


def test_a_run_of_another_version_is_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "status": "complete"}), encoding="utf-8")
    assert giemsa("export", tmp_path, "--output", tmp_path / "m.onnx") == 2
    assert "train it again" in capsys.readouterr().err
