"""From a run to a .tflite file, checked against PyTorch before it is written."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from giemsa.cli import main
from giemsa.errors import MissingExtraError, ModelError
from giemsa.lab.export import tflite as phone
from giemsa.lab.export.tflite import export_tflite
from giemsa.lab.training.calibration import Calibration
from giemsa.lab.training.loop import predict_logits
from giemsa.model import open_model


@pytest.fixture
def _converter():
    pytest.importorskip("litert_torch", exc_type=ImportError)


@pytest.mark.usefixtures("_converter")
@pytest.mark.parametrize("int8", [False, True])
def test_a_run_becomes_a_file_that_agrees(trained, half, tmp_path, int8):
    cells = np.asarray(half.pixels[:60])
    path = tmp_path / "model.tflite"
    calibration = Calibration(2.0, 0.5, 0.25, "the test")
    agreement = export_tflite(trained, path, calibration=calibration, int8=int8, comparison_cells=cells)
    assert agreement.cells == 60
    model = open_model(path)
    assert (model.card.temperature, model.card.bias, model.card.threshold) == (2.0, 0.5, 0.25)
    assert set(model.card.training_patients) == set(trained.record.patients)
    output = model.run(cells)
    expected = predict_logits(trained.load_network(), cells, np.arange(60))
    np.testing.assert_allclose(output.logit, expected, atol=0.2 if int8 else 1e-3)
    np.testing.assert_allclose(output.evidence.mean((1, 2)), output.logit, atol=1e-2)


@pytest.mark.usefixtures("_converter")
def test_what_disagrees_is_not_written(trained, half, tmp_path, monkeypatch):
    convert = phone._convert
    other = trained.load_network()
    other.head.bias.data += 100.0
    monkeypatch.setattr(phone, "_convert", lambda _network, size, *, int8: convert(other, size, int8=int8))
    path = tmp_path / "model.tflite"
    for int8 in (False, True):
        with pytest.raises(ModelError, match="is not written"):
            export_tflite(
                trained,
                path,
                calibration=Calibration(),
                int8=int8,
                comparison_cells=np.asarray(half.pixels[:100]),
            )
    assert not path.exists()


@pytest.mark.usefixtures("_converter")
def test_the_command_writes_one(trained, world, tmp_path, capfd):
    path = tmp_path / "model.tflite"
    arguments = ["export", trained.folder, "--format", "tflite", "--int8", "--data", world.root, "--output", path]
    assert main([str(argument) for argument in arguments]) == 0
    said = capfd.readouterr()
    assert "int8" in said.out
    assert "Agreement: " in said.out
    assert said.err == ""
    assert main(["classify", str(world.root), "--model", str(path), "--output", str(tmp_path / "v.csv")]) == 0


def test_int8_is_not_compared_on_noise(trained, tmp_path):
    with pytest.raises(ModelError, match="give some with --data"):
        export_tflite(trained, tmp_path / "model.tflite", calibration=Calibration(), int8=True)


def test_without_a_converter_it_is_said_what_to_install(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(MissingExtraError, match=r"giemsa\[phone\]"):
        export_tflite(trained, tmp_path / "model.tflite", calibration=Calibration())
    assert not (tmp_path / "model.tflite").exists()
