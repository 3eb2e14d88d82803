"""The runner of the benchmarks knows every script, and an order in which each finds what it needs."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("[a-z]*.py"))


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location("run_benchmarks", BENCHMARKS / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_every_script_is_run_and_described(runner):
    assert {target.script for target in runner.TARGETS} == set(SCRIPTS) - {"run"}
    page = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert [name for name in SCRIPTS if f"| `{name}.py` |" not in page] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_its_command(name):
    said = ast.get_docstring(ast.parse((BENCHMARKS / f"{name}.py").read_text(encoding="utf-8")))
    assert f"python benchmarks/{name}.py" in said


def test_everything_is_made_by_one_target_before_it_is_needed(runner):
    made = []
    for target in runner.TARGETS:
        assert set(target.takes) <= set(made), target.title
        made += target.makes
    assert len(made) == len(set(made))
    assert len({target.title for target in runner.TARGETS}) == len(runner.TARGETS)


def test_every_kept_result_has_a_target(runner):
    made = {path for target in runner.TARGETS for path in target.makes}
    kept = {f"benchmarks/results/{path.name}" for path in (BENCHMARKS / "results").iterdir()}
    assert kept <= made


def test_without_data_only_the_pages_are_written(runner):
    chosen = runner.choose(None, anything_given=False)
    assert {target.script for target in chosen} == {name for name in SCRIPTS if name.startswith("write_")}
    assert all(not target.inputs() for target in chosen)
    assert runner.choose(None, anything_given=True) == list(runner.TARGETS)
    assert [target.title for target in runner.choose(["phone", "background"], anything_given=False)] == [
        "background",
        "phone",
    ]


def test_the_plan_is_printed_and_nothing_is_run(tmp_path):
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "run.py", "--list", "--work", tmp_path / "work"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    place = lines.index("training_time: python benchmarks/training_time.py WORK/embedded/crossval/fold-1")
    assert lines[place + 1] == "    after embedded_model"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "phone"], "phone needs --cells and --reviewed"),
        (["--only", "training_time"], "crossval, which embedded_model makes"),
        (["--cells", "nowhere"], "nowhere does not exist"),
        (["--only", "nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(arguments, said, tmp_path):
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "run.py", *arguments, "--work", tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_targets_run_in_order_hand_on_their_work_and_stop_at_a_failure(runner, tmp_path, monkeypatch, capfd):
    for name, code in {
        "first": "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('made')",
        "second": "import sys, pathlib; print(pathlib.Path(sys.argv[1]).read_text(), sys.argv[2])",
        "broken": "raise SystemExit(3)",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    first = runner.Target("first", "{work}/between.pkl", ("{work}/between.pkl",))
    second = runner.Target("second", "{work}/between.pkl {cells}", takes=("{work}/between.pkl",))
    monkeypatch.setattr(runner, "HERE", tmp_path)
    monkeypatch.setattr(runner, "TARGETS", (first, second))
    given = {"cells": tmp_path / "my cells"}
    runner.run_all([first, second, replace(second, arguments="{fields}")], given, tmp_path / "new", forced=False)
    printed = capfd.readouterr().out
    assert f"made {tmp_path / 'my cells'}\n" in printed
    assert "Left out: second needs --fields." in printed
    with pytest.raises(SystemExit, match="broken ended with status 3"):
        runner.run_all([runner.Target("broken"), second], given, tmp_path / "new", forced=False)
