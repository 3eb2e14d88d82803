from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from giemsa.errors import DataError, ModelError
from giemsa.lab.export import onnx as export
from giemsa.lab.export.onnx import export_run, trained_on
from giemsa.lab.training.calibration import Calibration
from giemsa.lab.training.loop import predict_logits
from giemsa.lab.training.runs import save_weights
from giemsa.model import open_model

CALIBRATION = Calibration(1.7, -0.3, 0.4, "test")


@pytest.fixture(scope="module")
def exported(trained, half, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    agreement = export_run(trained, path, calibration=CALIBRATION, figures={"n": 3}, comparison_cells=half.pixels)
    return path, agreement


def test_the_exported_model_says_what_pytorch_says(exported, trained, half):
    path, agreement = exported
    model = open_model(path)
    expected = predict_logits(trained.load_network(), half.pixels, np.arange(len(half.pixels)))
    found = model.run(half.pixels[:])
    np.testing.assert_allclose(found.logit, expected, atol=1e-4)
    np.testing.assert_allclose(found.evidence.mean((1, 2)), found.logit, atol=1e-4)
    assert agreement.cells == len(half.pixels)
    assert agreement.changed_verdicts == 0


def test_everything_that_the_model_needs_travels_with_it(exported, trained):
    card = open_model(exported[0]).card
    assert card.name == trained.recipe.name
    assert card.input_size_px == 32
    assert (card.temperature, card.bias, card.threshold) == (1.7, -0.3, 0.4)
    assert list(card.training_patients) == trained.record.patients
    stored = json.loads(onnx.load(exported[0]).metadata_props[0].value)
    assert stored["digests"]["recipe"] == trained.recipe.digest
    assert stored["figures"] == {"n": 3}


def test_no_path_of_the_machine_that_exported_is_in_the_file(exported):
    content = exported[0].read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


def test_int8_is_quantised_per_channel_with_unsigned_activations(trained, half, tmp_path):
    path = tmp_path / "int8.onnx"
    # So small a network, trained for seconds, has scores near the threshold: what is tested is the form.
    far = replace(CALIBRATION, threshold=0.999999)
    agreement = export_run(
        trained,
        path,
        calibration=far,
        int8=True,
        calibration_cells=half.pixels[half.train],
        comparison_cells=half.pixels,
    )
    assert agreement.changed_verdicts <= 0.002
    graph = onnx.load(path).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor).shape for tensor in graph.initializer}
    of_activations = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    of_weights = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in types]
    assert of_activations
    assert {types[node.input[2]] for node in of_activations} == {onnx.TensorProto.UINT8}
    convolutions = [node for node in of_weights if types[node.input[0]] == onnx.TensorProto.INT8]
    assert convolutions
    assert any(scales[node.input[1]] == (8,) for node in convolutions)
    logit = ort.InferenceSession(path).run(["logit"], {"cells": half.pixels[:8]})[0]
    assert logit.shape == (8,)


@pytest.fixture
def export_worse(trained, half, tmp_path, monkeypatch):
    """Export in int8 where the first `bad` ways of quantising give another verdict of every cell."""

    def make(bad):
        real, seen = export.run_onnx, []

        def worse_at_first(path, cells):
            seen.append(onnx.load(path).graph)
            return real(path, cells) * (-1 if len(seen) <= bad else 1)

        monkeypatch.setattr(export, "run_onnx", worse_at_first)
        monkeypatch.setattr(export, "INT8_CHANGED_VERDICTS", 0.2)
        path = tmp_path / "int8.onnx"
        agreement = export_run(trained, path, calibration=CALIBRATION, int8=True,
                               calibration_cells=half.pixels[half.train], comparison_cells=half.pixels)  # fmt: skip
        assert len(seen) == bad + 1
        return agreement, path

    return make


def origins(graph):
    """What makes the inputs of each convolution, its activations and its weights; None where the file holds them."""
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    return [[made_by.get(name) for name in node.input[:2]] for node in graph.node if node.op_type == "Conv"]


def weight_bytes(graph):
    return sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)


def test_int8_leaves_the_outer_layers_in_fp32_where_too_many_verdicts_change(export_worse):
    agreement, path = export_worse(1)
    assert str(agreement).endswith("the first and the last layer are left in fp32")
    first, *inner, last = origins(onnx.load(path).graph)
    assert first[0] != "DequantizeLinear"
    assert first[1] is last[1] is None
    assert inner == [["DequantizeLinear"] * 2] * len(inner)


def test_int8_keeps_weights_alone_where_that_is_not_enough(export_worse, exported, trained, half):
    agreement, path = export_worse(2)
    assert "only weights are in int8" in str(agreement)
    graph = onnx.load(path).graph
    assert not [node for node in graph.node if node.op_type == "QuantizeLinear"]
    first, *inner, last = origins(graph)
    assert first[1] is last[1] is None
    assert {weights for _, weights in inner} == {"Mul"}
    assert weight_bytes(graph) < 0.5 * weight_bytes(onnx.load(exported[0]).graph)
    found = open_model(path).run(half.pixels[:]).logit
    expected = predict_logits(trained.load_network(), half.pixels, np.arange(len(half.pixels)))
    assert 0 < agreement.largest_difference < 0.1
    assert np.abs(found - expected).max() == pytest.approx(agreement.largest_difference)


def test_int8_that_changes_verdicts_is_refused_and_not_written(trained, half, tmp_path):
    logit = predict_logits(trained.load_network(), half.pixels, np.arange(len(half.pixels)))
    amid = Calibration(1.0, 0.0, float(1 / (1 + np.exp(-np.median(logit)))), "test")
    path = tmp_path / "int8.onnx"
    with pytest.raises(ModelError, match="verdicts may change"):
        export_run(
            trained,
            path,
            calibration=amid,
            int8=True,
            # Calibrated on black, every range is wrong.
            calibration_cells=np.zeros((8, 32, 32, 3), np.uint8),
            comparison_cells=half.pixels,
        )
    assert not path.exists()


def test_int8_without_cells_is_refused(trained, tmp_path):
    with pytest.raises(ModelError, match="--data"):
        export_run(trained, tmp_path / "int8.onnx", calibration=CALIBRATION, int8=True)


def test_a_graph_that_differs_from_pytorch_is_refused_and_not_written(trained, tmp_path, monkeypatch):
    import giemsa.lab.export.onnx as module

    honest = module.predict_logits
    monkeypatch.setattr(module, "predict_logits", lambda *given: honest(*given) + 0.01)
    with pytest.raises(ModelError, match="is not written"):
        export_run(trained, tmp_path / "model.onnx", calibration=CALIBRATION)
    assert not (tmp_path / "model.onnx").exists()


def test_the_cells_that_a_run_was_trained_on_are_found_by_their_digest(trained, half):
    rows = trained_on(trained, half.index)
    assert set(rows) <= set(half.train)
    assert len(rows) == trained.record.counts["parasitized"] + trained.record.counts["uninfected"]
    with pytest.raises(DataError, match="none of the cells"):
        trained_on(trained, half.index.take(half.validation))


def test_weights_that_do_not_fit_the_recipe_are_refused(trained, tmp_path):
    from giemsa.errors import RunError

    save_weights(torch.nn.Linear(2, 2), tmp_path / "weights.safetensors")
    with pytest.raises(RunError, match="another architecture"):
        replace(trained, folder=tmp_path).load_network()
