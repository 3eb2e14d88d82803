"""Coverage-guided fuzzing of all that takes bytes from outside, some seconds each; `make fuzz` goes on for long."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def load(name):
    spec = importlib.util.spec_from_file_location(f"giemsa_fuzz_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


targets, seeds = load("targets"), load("seeds")


@pytest.mark.parametrize("name", targets.TARGETS)
def test_every_seed_is_taken_or_refused_and_so_are_its_parts(name):
    for seed in getattr(seeds, name)():
        for data in (seed, seed[: len(seed) // 2], seed[::-1], seed + seed, b""):
            targets.TARGETS[name](data)


@pytest.mark.parametrize(("name", "seconds"), [("pictures", 5), ("archives", 3), ("tables", 2)])
def test_nothing_that_is_found_in_some_seconds_does_worse_than_a_refusal(name, seconds, tmp_path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or system")
    command = [
        sys.executable,
        HERE / "run.py",
        name,
        "--seconds",
        str(seconds),
        "--limit-s",
        "20",
        "--corpus",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stderr[-4_000:]
    assert "stat::number_of_executed_units" in done.stderr


ODD = [
    "null", "true", "-1", "0", "1e999", "-1e999", "NaN", "1" * 4_000, "9" * 30, "0.5", '""', '"x"', '"\\ud800"', '"=1"',
    '"\\u0000"', "[]", "{}", "[[]]", '{"a": 1}', "[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000,
]  # fmt: skip


def with_odd_values(seed):
    """Put each odd value in the place of each value of a JSON text, one at a time."""
    places = []

    def walk(value, replace):
        places.append(replace)
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            walk(child, lambda new, key=key, value=value, replace=replace: replace(put(value, key, new)))

    def put(value, key, new):
        copied = value.copy()
        copied[key] = new
        return copied

    walk(json.loads(seed), lambda new: new)
    for replace in places:
        text = json.dumps(replace("ODD"))
        for odd in ODD:
            yield text.replace('"ODD"', odd).encode()


@pytest.mark.parametrize("name", ["cards", "annotations", "decisions", "sites", "splits"])
def test_odd_values_in_every_place_are_refused_in_our_own_words(name):
    for seed in getattr(seeds, name)():
        for data in with_odd_values(seed):
            targets.TARGETS[name](data)
