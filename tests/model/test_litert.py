"""A .tflite file as a model: read, refused, and run from several threads; nothing here needs what writes such files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from giemsa.classifier import Classifier
from giemsa.cli import main
from giemsa.errors import MissingExtraError, ModelError
from giemsa.model.litert import read_metadata, with_metadata
from giemsa.model.opened import is_tflite, open_model

VIOLET = Path(__file__).parents[1] / "files" / "violet.tflite"


@pytest.fixture
def _litert():
    pytest.importorskip("ai_edge_litert")


def violet_by_hand(cells):
    rgb = cells.astype(np.float64) / 255
    violet = np.maximum(rgb[..., 2] - rgb[..., 0], 0)
    squares = violet.reshape(len(cells), 8, 4, 8, 4).mean((2, 4))
    return squares * 1000 - 4


def test_the_card_stands_behind_the_flatbuffer():
    content = VIOLET.read_bytes()
    assert is_tflite(content)
    assert json.loads(read_metadata(content))["name"] == "violet"
    assert read_metadata(b"\x1c\0\0\0TFL3 and nothing behind it") is None
    assert read_metadata(with_metadata(b"\x1c\0\0\0TFL3", "ä")) == "ä"
    assert with_metadata(b"a", "b") == with_metadata(b"a", "b")


@pytest.mark.usefixtures("_litert")
def test_it_is_a_model_like_any_other():
    model = open_model(VIOLET)
    assert model.card.name == "violet"
    assert model.provider == "LiteRT"
    assert model.has_evidence
    cells = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    expected = violet_by_hand(cells)
    found = model.run(cells)
    np.testing.assert_allclose(found.evidence, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.logit, expected.mean((1, 2)), rtol=1e-4, atol=1e-3)
    assert model.run(cells[:0]).logit.shape == (0,)


@pytest.mark.usefixtures("_litert")
def test_several_threads_give_what_one_gives(make_cells, tmp_path):
    paths = make_cells(tmp_path / "cells", 80, size=(40, 40))
    one = list(Classifier(VIOLET, threads=1).classify_many(paths))
    three = list(Classifier(VIOLET, threads=3).classify_many(paths))
    assert one == three
    assert [verdict.verdict == "parasitized" for verdict in one] == [number % 3 == 0 for number in range(80)]


@pytest.mark.usefixtures("_litert")
def test_classify_takes_it_and_names_what_computed(make_cells, tmp_path, capfd):
    make_cells(tmp_path / "cells", 3, size=(40, 40))
    table = tmp_path / "verdicts.csv"
    status = main(["classify", str(tmp_path / "cells"), "--model", str(VIOLET), "--output", str(table)])
    said = capfd.readouterr()
    assert status == 0
    assert "LiteRT" in said.out + said.err
    assert "XNNPACK" not in said.err
    assert table.read_text().count("\n") == 4


@pytest.mark.usefixtures("_litert")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (VIOLET.read_bytes().partition(b"PK\x03\x04")[0], "no metadata"),
        (b"\x1c\0\0\0TFL3" + b"\0" * 64, "no TensorFlow Lite file that LiteRT can run"),
    ],
)
def test_what_is_no_model_of_ours_is_refused(tmp_path, content, message):
    (tmp_path / "odd.tflite").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        open_model(tmp_path / "odd.tflite")


@pytest.mark.usefixtures("_litert")
def test_a_card_that_does_not_fit_the_graph_is_refused(tmp_path):
    content = VIOLET.read_bytes()
    card = json.loads(read_metadata(content)) | {"input_size_px": 64}
    flatbuffer = content[: content.index(b"PK\x03\x04")]
    (tmp_path / "odd.tflite").write_bytes(with_metadata(flatbuffer, json.dumps(card)))
    with pytest.raises(ModelError, match="expected one input, cells uint8"):
        open_model(tmp_path / "odd.tflite")


def test_without_litert_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingExtraError, match=r"giemsa\[phone\]"):
        open_model(VIOLET)


@pytest.mark.usefixtures("_litert")
def test_no_damage_to_a_file_brings_the_program_down(tmp_path):
    """Number 60 has a tensor of a thousand million numbers, for which LiteRT alone would fill the memory."""
    content = VIOLET.read_bytes()
    flatbuffer = content[: content.index(b"PK\x03\x04")]
    rng = np.random.default_rng(7)
    for number in range(80):
        damaged = bytearray(content)
        for place in rng.integers(8, len(flatbuffer), 1 + number % 6):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / f"{number}.tflite").write_bytes(damaged)
    code = """
import sys
import numpy as np
from pathlib import Path
from giemsa.errors import ModelError
from giemsa.model import open_model

for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
    try:
        open_model(path).run(np.zeros((1, 32, 32, 3), np.uint8))
    except ModelError as error:
        assert len(str(error).splitlines()) == 1, error
"""
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-500:]
