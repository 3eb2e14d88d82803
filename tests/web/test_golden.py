"""What Python and the page's scripts both compute, against one file."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def golden():
    spec = importlib.util.spec_from_file_location("write_golden", HERE / "write_golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_python_computes_it(golden):
    kept, computed = json.loads(golden.PATH.read_text(encoding="utf-8")), golden.computed()
    assert kept["csv"] == computed["csv"]
    for part in ("rates", "predictive_values"):
        assert len(kept[part]) == len(computed[part]) > 0
        for one, other in zip(kept[part], computed[part], strict=True):
            assert one["expected"] == pytest.approx(other["expected"], rel=1e-9, abs=1e-12)


def test_the_pages_scripts_compute_it():
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed: on Debian, apt-get install nodejs")
    done = subprocess.run([node, "--test", HERE / "golden.test.mjs"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 4" in done.stdout
