from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from giemsa.errors import DataError, RunError
from giemsa.lab.recipes import load_recipe
from giemsa.lab.training.curves import read_metrics
from giemsa.lab.training.loop import predict_logits, train
from giemsa.lab.training.runs import open_run


def changed(recipe, **overrides):
    content = recipe.model_dump()
    for key, value in overrides.items():
        content["training"][key] = value
    return type(recipe).model_validate(content)


def weights(run):
    return run.load_network().state_dict()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_learns_and_leaves_all_that_it_should(trained, half):
    folder = trained.folder
    for name in ("recipe.toml", "run.json", "training_cells.csv", "weights.safetensors", "metrics.csv", "training.png"):
        assert (folder / name).is_file(), name
    assert any((folder / "tensorboard").iterdir())
    assert load_recipe(folder / "recipe.toml") == trained.recipe
    record = trained.record
    assert record.status == "complete"
    assert record.command == "test"
    assert record.data_digest == half.index.digest
    assert record.recipe_digest == trained.recipe.digest
    assert record.split_digest == half.split_digest
    assert record.counts["left_out"] + record.counts["parasitized"] + record.counts["uninfected"] == len(half.train)
    assert len(record.timings["seconds_per_epoch"]) == trained.recipe.training.epochs
    assert set(record.patients) == {half.index.cells[row].patient for row in half.train}
    with Image.open(folder / "training.png") as image:
        assert image.size[0] > 800


def test_the_metrics_of_each_epoch_are_written(trained):
    with (trained.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["train_loss"]) for row in rows) == trained.recipe.training.epochs
    assert sum(bool(row["validation_accuracy"]) for row in rows) == trained.recipe.training.epochs


def test_disputed_cells_of_infected_patients_are_not_among_those_trained_on(trained, half):
    with (trained.folder / "training_cells.csv").open() as file:
        used = {row["sha256"] for row in csv.DictReader(file)}
    disputed = {
        half.index.cells[row].sha256 for row in half.train if half.labels.disputed[row] and not half.labels.donor[row]
    }
    assert disputed
    assert not used & disputed


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(trained, half, quick_recipe, tmp_path):
    again = train(quick_recipe, half, tmp_path / "again", threads=1)
    assert same(weights(trained), weights(again))
    other = train(changed(quick_recipe, seed=1, epochs=1), half, tmp_path / "other", threads=1)
    assert not same(weights(trained), weights(other))


def test_training_reaches_a_good_accuracy_on_drawn_cells(half, quick_recipe, tmp_path):
    run = train(changed(quick_recipe, epochs=12), half, tmp_path / "longer", threads=1)
    logit = predict_logits(run.load_network(), half.pixels, half.validation)
    truth = half.labels.official[half.validation] == 1
    order = np.sort(logit[~truth])
    above = np.searchsorted(order, logit[truth]).mean() / len(order)
    assert above > 0.9  # the area under the ROC


def test_a_network_that_answers_alike_to_every_cell_is_said_once(half, tmp_path, capsys):
    changes = {"input_size_px": 32, "network.widths": [4, 4], "network.dense": [4], "training.epochs": 3}
    recipe = load_recipe("two-block-cnn-64", changes)
    train(recipe, half, tmp_path / "alive", threads=1)
    assert "alike" not in capsys.readouterr().err
    died = train(load_recipe("two-block-cnn-64", changes | {"optimiser.learning_rate": 10.0}), half, tmp_path / "dead")
    assert np.ptp(predict_logits(died.load_network(), half.pixels, half.validation)) == 0
    said = capsys.readouterr().err
    assert said.count("answers alike to every cell") == 1
    assert "after 1 epoch the network" in said
    assert "optimiser.learning_rate" in said


_DRIVER = """
import sys
from pathlib import Path
import giemsa.lab.training.loop as training
from giemsa.cli import main

# Slow enough to be killed between two epochs, whatever the machine.
original = training.CellTraining.on_train_epoch_start
def pause(self, *_):
    import time
    print("epoch", self.current_epoch, flush=True)
    time.sleep(0.5)
training.CellTraining.on_train_epoch_start = pause
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_training_is_resumed_to_the_same_weights(world, quick_recipe, tmp_path):
    recipe = tmp_path / "quick.toml"
    recipe.write_text(changed(quick_recipe, epochs=4).to_toml(), encoding="utf-8")

    def command(name, *more):
        arguments = ["train", recipe, "--data", world.root, "--reviewed", world.reviewed, "--threads", "1", *more]
        return [sys.executable, "-c", _DRIVER, *map(str, arguments), "--output", str(tmp_path / name)]

    subprocess.run(command("whole"), check=True, capture_output=True)
    killed = subprocess.Popen(command("killed"), stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.strip() == "epoch 2":
            killed.send_signal(signal.SIGKILL)
            break
    killed.wait()
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(RunError, match="--resume"):
        open_run(tmp_path / "killed")
    refused = subprocess.run(command("killed"), capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    # One bit of the newest checkpoint flips: PyTorch would read it all the same.
    newest = max((tmp_path / "killed" / "checkpoints").glob("epoch-*.ckpt"))
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    resumed = subprocess.run(command("killed", "--resume"), capture_output=True, text=True, check=True)
    assert f"{newest.name} is damaged" in resumed.stderr
    assert same(weights(open_run(tmp_path / "whole")), weights(open_run(tmp_path / "killed")))
    assert read_metrics(tmp_path / "whole" / "metrics.csv") == read_metrics(tmp_path / "killed" / "metrics.csv")
    timings = open_run(tmp_path / "killed").record.timings
    assert len(timings["seconds_per_epoch"]) == 4
    assert timings["seconds"] > sum(timings["seconds_per_epoch"])
    before = (tmp_path / "killed" / "weights.safetensors").stat().st_mtime_ns
    time.sleep(0.01)
    subprocess.run(command("killed", "--resume"), capture_output=True, text=True, check=True)
    assert (tmp_path / "killed" / "weights.safetensors").stat().st_mtime_ns == before


def test_a_running_training_has_its_folder_alone_and_says_how_to_go_on_when_interrupted(world, quick_recipe, tmp_path):
    recipe = tmp_path / "quick.toml"
    recipe.write_text(changed(quick_recipe, epochs=50).to_toml(), encoding="utf-8")
    arguments = ["train", recipe, "--data", world.root, "--threads", "1", "--output", tmp_path / "run"]
    command = [sys.executable, "-c", _DRIVER, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "epoch 2":
            second = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
            process.send_signal(signal.SIGINT)
            break
    assert second.returncode == 2
    assert "is being trained by another process" in second.stderr
    _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("giemsa: interrupted")
    assert "--resume" in said
    assert "Traceback" not in said
    assert any((tmp_path / "run" / "checkpoints").iterdir())


def test_weights_with_a_flipped_bit_are_refused(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "run")
    path = tmp_path / "run" / "weights.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(RunError, match=r"weights\.safetensors is damaged"):
        open_run(tmp_path / "run").load_network()
    path.with_name(f"{path.name}.sha256").unlink()  # as runs of version 0.1 were left
    open_run(tmp_path / "run").load_network()


def test_a_folder_that_is_taken_is_refused_and_left_alone(trained, half, quick_recipe):
    before = sorted(path.name for path in trained.folder.iterdir())
    with pytest.raises(RunError, match="exists"):
        train(quick_recipe, half, trained.folder)
    assert sorted(path.name for path in trained.folder.iterdir()) == before


@pytest.mark.parametrize("what", ["recipe", "split", "part"])
def test_a_run_is_not_resumed_as_another_one(trained, half, quick_recipe, what):
    recipe, data = quick_recipe, half
    if what == "recipe":
        recipe = changed(recipe, epochs=9)
    elif what == "split":
        data = replace(data, split_digest="0" * 64)
    else:
        data = replace(data, split_part="fold 3")
    with pytest.raises(RunError, match="cannot be resumed"):
        train(recipe, data, trained.folder, resume=True)


def test_one_class_alone_is_refused_before_anything_is_written(half, quick_recipe, tmp_path):
    only = half.train[half.labels.official[half.train] == 0]
    with pytest.raises(DataError, match="both are needed"):
        train(quick_recipe, replace(half, train=only), tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_an_early_stop_keeps_the_best_epoch(half, quick_recipe, tmp_path):
    content = quick_recipe.model_dump()
    content["training"] |= {"epochs": 30, "patience": 1}
    content["optimiser"] |= {"learning_rate": 0.5, "schedule": "constant", "gradient_clip": 0.0}
    recipe = type(quick_recipe).model_validate(content)
    run = train(recipe, half, tmp_path / "early", threads=1)
    assert len(run.record.timings["seconds_per_epoch"]) < 30
    with (run.folder / "metrics.csv").open() as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file) if row["validation_loss"]]
    logit = torch.from_numpy(predict_logits(run.load_network(), half.pixels, half.validation))
    from giemsa.lab.training.cells import choose_targets

    targets = choose_targets(half.labels, recipe.labels)
    rows = half.validation[targets.weight[half.validation] > 0]
    logit = torch.from_numpy(predict_logits(run.load_network(), half.pixels, rows))
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logit, torch.from_numpy(targets.positive[rows].astype(np.float32)), reduction="none"
    )
    weight = torch.from_numpy(targets.weight[rows])
    assert float((each * weight).sum() / weight.sum()) == pytest.approx(min(losses), rel=1e-3)


def test_a_run_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no run\.json"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be read"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"format": 99}), encoding="utf-8")
    with pytest.raises(RunError, match="format 99"):
        open_run(tmp_path)
