"""Tuning: a typed space, trials that never see test cells, studies that outlive a kill and are shared."""

from __future__ import annotations

import csv
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import pytest

from giemsa.cli import main
from giemsa.errors import OutputError, RecipeError
from giemsa.lab.recipes import load_recipe
from giemsa.lab.tuning.search_space import read_space
from giemsa.lab.tuning.study import StudyPlace, open_study

RECIPE = """
name = "quick"
input_size_px = 16
[network]
stem_width = 4
widths = [4]
blocks = [1]
[augmentation]
clean_probability = 1.0
[training]
epochs = 2
batch_size = 16
ema_decay = 0
precision = "32-true"
"""
SPACE = """
metric = "validation_loss"
[parameters.learning_rate]
kind = "float"
key = "optimiser.learning_rate"
low = 1e-4
high = 1e-1
log = true
[parameters.batch_size]
kind = "choice"
key = "training.batch_size"
values = [8, 16]
[parameters.width]
kind = "factor"
keys = ["network.stem_width", "network.widths"]
low = 0.5
high = 2.0
"""


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "quick.toml").write_text(RECIPE)
    (tmp_path / "space.toml").write_text(SPACE)
    return tmp_path


def tune(texts, world, output, *more, trials=2, storage=None):
    arguments = ["tune", texts / "quick.toml", "--space", texts / "space.toml", "--trials", trials]
    arguments += ["--data", world.root, "--output", output, "--threads", 1, *more]
    if storage is not None:
        arguments += ["--storage", storage]
    return [str(argument) for argument in arguments]


def table(output):
    with (output / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_study_leaves_a_table_figures_and_a_recipe_that_trains(texts, world, capsys):
    out = texts / "tuned"
    assert main(tune(texts, world, out, trials=6)) == 0
    said = capsys.readouterr()
    assert "60/20/20 by patient" in said.err
    assert "Best trials of quick" in said.out
    rows = table(out)
    assert len(rows) == 6
    complete = [row for row in rows if row["state"] == "complete"]
    content = json.loads((out / "study.json").read_text())
    best = min(complete, key=lambda row: float(row["validation_loss"]))
    assert content["best"]["number"] == int(best["trial"])
    recipe = load_recipe(out / "best.toml")
    assert recipe.name == "quick-tuned"
    assert recipe.optimiser.learning_rate == pytest.approx(float(best["learning_rate"]))
    assert recipe.training.batch_size == int(best["batch_size"])
    assert recipe.network.stem_width == max(1, round(4 * float(best["width"])))
    assert int(best["epochs_trained"]) == recipe.training.epochs
    assert recipe.network.widths == (recipe.network.stem_width,)
    for name in ("history", "importance", "parallel"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert set(content["importance"]) <= {"learning_rate", "batch_size", "width"}
    assert not list(out.glob("trial-*"))


def test_the_test_cells_are_never_read(texts, world, tmp_path, monkeypatch):
    from giemsa.data.index import read_index
    from giemsa.data.splits import read_split
    from giemsa.lab.tuning import study as tuning

    seen = set()
    train = tuning.train

    def watch(recipe, data, *args, **kwargs):
        seen.update(data.train.tolist(), data.validation.tolist())
        return train(recipe, data, *args, **kwargs)

    monkeypatch.setattr(tuning, "train", watch)
    out = tmp_path / "tuned"
    assert main(tune(texts, world, out)) == 0
    parts = read_split(out / "split.json").parts(read_index(world.root))
    assert len(parts["test"])
    assert seen == set(parts["train"].tolist()) | set(parts["validation"].tolist())


def test_a_study_goes_on_to_the_number_of_trials_that_is_wanted(texts, world, capsys):
    out = texts / "tuned"
    assert main(tune(texts, world, out, trials=1)) == 0
    first = table(out)
    assert main(tune(texts, world, out, trials=3)) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(tune(texts, world, out, "--resume", trials=3)) == 0
    assert table(out)[:1] == first
    assert len(table(out)) == 3
    assert len({row["learning_rate"] for row in table(out)}) == 3
    assert main(tune(texts, world, out, "--resume", trials=3)) == 0
    assert len(table(out)) == 3
    assert main(tune(texts, world, out, "--resume", "--set", "training.epochs=1", trials=4)) == 2
    assert "begun with another recipe" in capsys.readouterr().err


def test_after_a_kill_the_interrupted_trial_is_tried_again(texts, world, tmp_path):
    out = tmp_path / "tuned"
    (texts / "quick.toml").write_text(RECIPE.replace("epochs = 2", "epochs = 400"))
    (texts / "space.toml").write_text(
        SPACE + '[parameters.epochs]\nkind = "int"\nkey = "training.epochs"\nlow = 400\nhigh = 400\n'
    )
    child = subprocess.Popen([sys.executable, "-m", "giemsa", *tune(texts, world, out)], stderr=subprocess.DEVNULL)
    storage = f"sqlite:///{out / 'study.db'}"
    deadline = time.monotonic() + 240
    while not (out / "trial-0" / "metrics.csv").is_file() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    study = optuna.load_study(study_name="quick", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    killed = study.trials[0].params
    said = []
    from giemsa.lab.tuning.study import _give_up_dead

    _give_up_dead(study, said.append)
    assert [trial.state.name for trial in study.get_trials()] == ["FAIL", "WAITING"]
    assert study.trials[1].system_attrs["fixed_params"] == killed
    assert said == ["Trial 0 was interrupted; its settings are tried again."]


def test_a_trial_of_a_process_that_lives_is_left_alone(texts):
    space = read_space(texts / "space.toml", load_recipe(texts / "quick.toml"))
    place = StudyPlace(f"sqlite:///{texts / 'study.db'}", "shared")
    study = open_study(place, space, {}, seed=0, resume=True)
    from giemsa.lab.tuning.study import _give_up_dead, _process

    for process in (_process(), f"{os.getpid()} 1"):  # the second one had this process's number before it
        trial = study.ask()
        trial.set_user_attr("host", socket.gethostname())
        trial.set_user_attr("process", process)
    _give_up_dead(study, lambda _: None)
    assert [trial.state.name for trial in study.get_trials()][:2] == ["RUNNING", "FAIL"]


def test_a_hopeless_trial_is_pruned(texts, world, tmp_path, monkeypatch):
    """The sixth trial has a learning rate that ruins it at once."""
    (texts / "quick.toml").write_text(RECIPE.replace("epochs = 2", "epochs = 3"))
    (texts / "space.toml").write_text(SPACE.replace("high = 1e-1", "high = 1e3"))
    from giemsa.lab.tuning import study as tuning

    monkeypatch.setattr(
        tuning.optuna.samplers, "TPESampler", lambda **_: optuna.samplers.PartialFixedSampler(
            {"batch_size": "8", "width": 1.0}, optuna.samplers.RandomSampler(seed=0)
        )
    )  # fmt: skip
    out = tmp_path / "tuned"
    space = read_space(texts / "space.toml", load_recipe(texts / "quick.toml"))
    out.mkdir()
    study = open_study(StudyPlace(f"sqlite:///{out / 'study.db'}", "quick"), space, {}, seed=0, resume=True)
    for _ in range(5):
        study.enqueue_trial({"learning_rate": 0.02})
    study.enqueue_trial({"learning_rate": 1e3})
    from giemsa.lab.training.datasets import read_labelled, training_data

    data = read_labelled(world.root)
    from giemsa.data.splits import make_split

    make_split(data.index, data.labels, validation=0.3, seed=0).save(tmp_path / "split.json")
    tuning.tune(
        study,
        load_recipe(texts / "quick.toml"),
        space,
        lambda recipe: training_data(recipe, data, split=tmp_path / "split.json"),
        out,
        trials=6,
        threads=1,
        report=lambda _: None,
    )
    states = [trial.state.name for trial in study.trials]
    assert states[:5] == ["COMPLETE"] * 5
    assert states[5] == "PRUNED"
    assert not list(out.glob("trial-*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('key = "training.batch_size"', 'key = "training.batchsize"'), r"nearest ones are training\.batch_size"),
        (("low = 1e-4", "low = 1.0"), "low = 1 is above high"),
        (("low = 1e-4", "low = 0.0"), "no logarithm"),
        (("low = 1e-4", 'low = "small"'), "valid number"),
        (('kind = "float"', 'kind = "double"'), "expected tags"),
        (("values = [8, 16]", "values = [8, 0]"), r"training\.batch_size = 0 is impossible"),
        (("values = [8, 16]", "values = []"), "at least 1 item"),
        (('keys = ["network.stem_width", "network.widths"]', 'keys = ["training.precision"]'), "cannot be multiplied"),
        (('keys = ["network.stem_width", "network.widths"]', 'keys = ["training.batch_size"]'), "both vary"),
        (('metric = "validation_loss"', 'metric = "test_loss"'), "metric"),
        (("[parameters.learning_rate]", "[parameters.seconds]"), "'seconds' needs another name"),
        (('metric = "validation_loss"', 'metrics = "validation_loss"'), "no such key"),
        (("[parameters.learning_rate]", "[parameters.learning_rate"), "cannot be read"),
    ],
)  # fmt: skip
def test_a_wrong_space_is_refused_in_one_sentence(texts, change, message):
    assert change[0] in SPACE
    (texts / "space.toml").write_text(SPACE.replace(*change, 1))
    with pytest.raises(RecipeError, match=message) as refused:
        read_space(texts / "space.toml", load_recipe(texts / "quick.toml"))
    assert "space.toml" in str(refused.value)
    assert ": :" not in str(refused.value)


def test_a_choice_may_be_of_lists(texts):
    (texts / "space.toml").write_text(
        '[parameters.width]\nkind = "choice"\nkey = "network.widths"\nvalues = [[4], [8]]\n'
    )
    recipe = load_recipe(texts / "quick.toml")
    space = read_space(texts / "space.toml", recipe)
    drawn = space.suggest(optuna.trial.FixedTrial({"width": "[8]"}), recipe)
    assert drawn.network.widths == (8,)


EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_example_fits_the_default_recipe():
    recipe = load_recipe("default")
    space = read_space(EXAMPLES / "space.toml", recipe)
    drawn = space.suggest(
        optuna.trial.FixedTrial(
            {"learning_rate": 1e-3, "batch_size": "48", "epochs": 5, "width": 0.5, "augmentation": 0.0}
        ),
        recipe,
    )
    assert drawn.network.widths == (8, 20, 40)
    assert (drawn.training.batch_size, drawn.training.epochs, drawn.augmentation.stain) == (48, 5, 0.0)


def test_the_space_of_softmax_cnn_fits_it():
    recipe = load_recipe("softmax-cnn")
    space = read_space(EXAMPLES / "softmax-space.toml", recipe)
    drawn = space.suggest(optuna.trial.FixedTrial({"learning_rate": 2e-3, "batch_size": "64", "epochs": 9}), recipe)
    assert (drawn.training.batch_size, drawn.training.epochs) == (64, 9)
    assert drawn.optimiser.learning_rate == 2e-3


def test_wrong_use_is_refused_before_any_work(texts, world, tmp_path, capsys):
    out = tmp_path / "tuned"
    assert main(tune(texts, world, out, trials=0)) == 2
    assert "argument --trials: '0' is given" in capsys.readouterr().err
    assert not out.exists()
    out.write_text("mine")
    assert main(tune(texts, world, out)) == 2
    assert "is a file" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_storage_that_cannot_be_used_is_named_without_its_password(texts):
    space = read_space(texts / "space.toml", load_recipe(texts / "quick.toml"))
    place = StudyPlace("postgresql://giemsa:geheim@127.0.0.1:1/none", "any")
    with pytest.raises(OutputError, match=r"postgresql://giemsa.127\.0\.0\.1:1/none cannot be used") as refused:
        open_study(place, space, {}, seed=0, resume=False)
    assert "geheim" not in str(refused.value)


@pytest.fixture
def postgres():
    """A server of our own, on a socket in a folder of its own."""
    initdb, server = shutil.which("initdb"), shutil.which("pg_ctl")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, sockets = folder / "data", folder / "sockets"
        sockets.mkdir()
        prefix = []
        if os.geteuid() == 0:  # the server refuses to run as root
            for path in (folder, sockets):
                shutil.chown(path, "nobody")
            prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        user = "nobody" if prefix else getpass.getuser()

        def run(*command):
            subprocess.run(
                [*prefix, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=name
            )

        run(initdb, "-D", data, "-A", "trust", "-U", user)
        options = f"-k {sockets} -c listen_addresses='' -c fsync=off"
        run(server, "-D", data, "-o", options, "-w", "-l", folder / "log", "start")
        try:
            yield f"postgresql+psycopg://{user}@/postgres?host={sockets}"
        finally:
            run(server, "-D", data, "-m", "immediate", "stop")


def test_two_processes_share_a_study_on_a_server(texts, world, tmp_path, postgres):
    one, two = tmp_path / "one", tmp_path / "two"
    split = tmp_path / "split.json"
    assert main(["data", "split", "--data", str(world.root), "--output", str(split), "--validation", "0.3"]) == 0
    more = ["--study", "shared", "--split", split]
    assert main(tune(texts, world, one, *more, trials=2, storage=postgres)) == 0
    assert main(tune(texts, world, two, *more, trials=4, storage=postgres)) == 2
    other = subprocess.Popen(
        [sys.executable, "-m", "giemsa", *tune(texts, world, two, *more, "--resume", trials=6, storage=postgres)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    assert main(tune(texts, world, one, *more, "--resume", trials=6, storage=postgres)) == 0
    assert other.wait(timeout=240) == 0
    finished = [row for row in table(two) if row["state"] in {"complete", "pruned"}]
    assert len(finished) >= 6
    assert len({row["learning_rate"] for row in table(two)}) == len(table(two))
    assert np.unique([row["trial"] for row in table(two)]).size == len(table(two))
