"""Models that follow the contract run, and every other file is refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from giemsa.errors import ModelError, UsageError
from giemsa.model.card import ModelCard, parse_card
from giemsa.model.opened import open_model
from giemsa.model.shipped import EMBEDDED_PATH, SHIPPED, check_shipped, read_digests, write_digests


def refusal(path):
    with pytest.raises(ModelError) as caught:
        open_model(path)
    said = str(caught.value)
    assert "\n" not in said
    return said


def cells_of(draw_cell, n, size=32):
    from giemsa.images import resize

    return np.stack([resize(draw_cell(i % 2 == 0, seed=i), size) for i in range(n)])


def test_a_model_says_what_it_is(tiny_model, model_card):
    model = open_model(tiny_model, threads=2)
    assert model.digest == hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    assert (model.path, model.provider, model.threads) == (tiny_model, "CPUExecutionProvider", 2)
    assert model.card.name == "tiny"
    assert (model.card.temperature, model.card.bias, model.card.threshold) == (1.5, -0.25, 0.5)
    assert json.loads(model.card.to_json()) == model_card(32)


def test_logits_and_evidence_come_out_and_the_mean_of_the_evidence_is_the_logit(tiny_model, draw_cell):
    model = open_model(tiny_model)
    output = model.run(cells_of(draw_cell, 6))
    assert (output.logit.shape, output.logit.dtype) == ((6,), np.float32)
    assert output.evidence.shape == (6, 8, 8)
    np.testing.assert_allclose(output.evidence.mean((1, 2)), output.logit, rtol=1e-5)
    assert ((output.logit > 0) == [True, False] * 3).all()
    assert model.run(cells_of(draw_cell, 2), evidence=False).evidence is None


def test_a_model_without_evidence_runs(tmp_path, write_model, draw_cell):
    model = open_model(write_model(tmp_path / "plain.onnx", evidence=False))
    assert not model.has_evidence
    assert model.run(cells_of(draw_cell, 3)).evidence is None


def test_several_threads_may_run_one_model(tiny_model, draw_cell):
    model = open_model(tiny_model)
    cells = cells_of(draw_cell, 16)
    alone = model.run(cells).logit
    with ThreadPoolExecutor(4) as pool:
        for logit in pool.map(lambda i: model.run(cells[i : i + 4]).logit, [0, 4, 8, 12] * 5):
            assert np.isin(logit, alone).all()


@pytest.mark.parametrize(
    "cells",
    [np.zeros((1, 32, 32, 3), np.float32), np.zeros((1, 3, 32, 32), np.uint8), np.zeros((32, 32, 3), np.uint8)],
)
def test_cells_of_another_shape_or_dtype_are_wrong_use(tiny_model, cells):
    with pytest.raises(UsageError, match=r"takes uint8 \[N, 32, 32, 3\] and got"):
        open_model(tiny_model).run(cells)


def test_a_run_folder_means_the_model_in_it(tmp_path, write_model):
    path = write_model(tmp_path / "model.onnx")
    assert open_model(tmp_path).path == path


def test_the_embedded_model_is_the_default_or_its_absence_is_said(monkeypatch, tmp_path, tiny_model):
    monkeypatch.setattr("giemsa.model.opened.EMBEDDED_PATH", tiny_model)
    assert open_model().path == tiny_model
    monkeypatch.setattr("giemsa.model.opened.EMBEDDED_PATH", tmp_path / "none.onnx")
    assert "has no embedded model" in refusal(None)


@pytest.mark.skipif(not EMBEDDED_PATH.exists(), reason="no model has been embedded yet")
def test_the_embedded_model_follows_the_contract():
    model = open_model()
    size = model.card.input_size_px
    output = model.run(np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8))
    assert output.evidence is None or np.allclose(output.evidence.mean((1, 2)), output.logit, atol=1e-3)


def test_a_missing_file_is_refused(tmp_path):
    assert "none.onnx does not exist" in refusal(tmp_path / "none.onnx")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_and_a_device_are_refused_and_not_read_for_ever(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "is a device or a pipe and no file" in refusal(tmp_path / "pipe.onnx")
    if Path("/dev/zero").exists():
        assert "is a device or a pipe and no file" in refusal("/dev/zero")


def test_metadata_nested_too_deeply_are_refused(tmp_path, write_model):
    for text in ("[" * 100_000 + "]" * 100_000, '{"contract_version": ' + "[" * 100_000):
        said = refusal(write_model(tmp_path / "deep.onnx", card=text))
        assert "nested too deeply" in said or "damaged metadata" in said


def test_a_graph_that_fails_when_it_runs_is_a_model_that_cannot_be_run(tmp_path, write_model, draw_cell):
    """A Squeeze of an axis that is not 1: it is well formed, and fails at the first cell."""
    path = write_model(tmp_path / "odd.onnx")
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "AveragePool":
            node.op_type = "Reshape"
            del node.attribute[:]
            node.input.append("nowhere")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 1, 8, 8], np.int64), "nowhere"))
    onnx.save(model, path)
    opened = open_model(path)
    with pytest.raises(ModelError, match=r"odd\.onnx cannot be run: .*; the file is damaged or was exported wrongly"):
        opened.run(cells_of(draw_cell, 3))


def test_every_shipped_model_is_the_one_that_was_shipped():
    digests = read_digests()
    assert set(digests) >= {"model.onnx", "finder.onnx", "weights.safetensors"}
    for name, digest in digests.items():
        assert hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest() == digest


def test_a_damaged_installation_is_refused(monkeypatch, tmp_path):
    for name in ("model.onnx", "finder.onnx", "digests.json"):
        (tmp_path / name).write_bytes((SHIPPED / name).read_bytes())
    monkeypatch.setattr("giemsa.model.shipped.SHIPPED", tmp_path)
    assert open_model(tmp_path / "model.onnx").digest == read_digests()["model.onnx"]
    content = bytearray((tmp_path / "model.onnx").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    assert "is not the one that was shipped" in refusal(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="is not the one that was shipped"):
        check_shipped(tmp_path / "finder.onnx", b"another")
    write_digests()
    assert check_shipped(tmp_path / "model.onnx", bytes(content)) == read_digests()["model.onnx"]
    (tmp_path / "digests.json").unlink()
    assert "no list of digests" in refusal(tmp_path / "model.onnx")


def test_the_finder_is_checked_too(monkeypatch, tmp_path):
    from giemsa.smear import finding

    (tmp_path / "finder.onnx").write_bytes(finding.FINDER_PATH.read_bytes() + b"\0")
    (tmp_path / "digests.json").write_bytes((SHIPPED / "digests.json").read_bytes())
    monkeypatch.setattr("giemsa.model.shipped.SHIPPED", tmp_path)
    monkeypatch.setattr(finding, "FINDER_PATH", tmp_path / "finder.onnx")
    finding.finder.cache_clear()
    try:
        with pytest.raises(ModelError, match=r"finder\.onnx is not the one that was shipped"):
            finding.finder()
    finally:
        finding.finder.cache_clear()


def test_a_run_folder_without_a_model_is_refused_with_the_command_that_makes_one(tmp_path):
    assert f"giemsa export {tmp_path} --output" in refusal(tmp_path)


def test_a_file_that_may_not_be_read_is_refused(open_folder, unprivileged, write_model):
    path = write_model(open_folder / "model.onnx")
    path.chmod(0)
    with unprivileged():
        assert "Permission denied" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_onnx_is_refused(tmp_path, content, capfd):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "is no ONNX file" in refusal(path)
    assert capfd.readouterr() == ("", "")


def test_a_cut_file_is_refused(tmp_path, tiny_model):
    path = tmp_path / "cut.onnx"
    path.write_bytes(tiny_model.read_bytes()[:-300])
    refusal(path)


def test_a_huge_file_is_refused(tmp_path):
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(2**40)
    assert "at most 536,870,912 are read" in refusal(tmp_path / "huge.onnx")


def test_a_model_without_metadata_is_refused(tmp_path, write_model):
    said = refusal(write_model(tmp_path / "bare.onnx", metadata=False))
    assert "has no metadata under `giemsa`" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input_name": "image"}, "takes image uint8 ['N', 32, 32, 3]; expected one input, cells uint8"),
        ({"input_type": "float32"}, "takes cells float"),
        ({"channels": 1}, "['N', 32, 32, 1]"),
        ({"logit_name": "score"}, "gives score float"),
    ],
)
def test_a_model_with_another_input_or_output_is_refused(tmp_path, write_model, options, said):
    assert said in refusal(write_model(tmp_path / "other.onnx", **options))


def test_a_model_of_another_size_than_its_metadata_is_refused(tmp_path, write_model, model_card):
    said = refusal(write_model(tmp_path / "other.onnx", size_px=32, card=model_card(64)))
    assert "expected one input, cells uint8 [N, 64, 64, 3]" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"contract_version": 2}, "version 2 of the model contract and this Giemsa knows only version 1; update"),
        ({"contract_version": None}, "version None"),
        ({"class_names": ["parasitized", "uninfected"]}, "class_names is ['parasitized', 'uninfected'], expected"),
        ({"input_size_px": "64"}, "input_size_px is '64'"),
        ({"input_size_px": 4}, "from 8 to 1024"),
        ({"resize": {"kernel": "nearest", "padding": "stretch"}}, "expected the kernel 'area'"),
        ({"resize": {"kernel": "area"}}, "metadata without 'padding'"),
        ({"calibration": {"temperature": 0, "bias": 0}}, "temperature is 0.0, expected a number above 0"),
        ({"calibration": {"temperature": float("nan"), "bias": 0}}, "temperature is nan, expected a finite number"),
        ({"calibration": {"temperature": 1.0, "bias": "0"}}, "bias is '0', expected a finite number"),
        ({"calibration": {"temperature": True, "bias": 0}}, "temperature is True"),
        ({"calibration": [1.0, 0.0]}, "damaged metadata"),
        ({"calibration": {"temperature": 1.0}}, "metadata without 'bias'"),
        ({"thresholds": {"parasitized": 1}}, "the threshold of parasitized is 1.0, expected a number between 0 and 1"),
        ({"thresholds": {}}, "metadata without 'parasitized'"),
    ],
)
def test_metadata_that_cannot_be_right_is_refused(tmp_path, write_model, model_card, changes, said):
    assert said in refusal(write_model(tmp_path / "other.onnx", card=model_card(32, **changes)))


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '"text"', "null"])
def test_metadata_that_is_no_object_is_refused(tmp_path, write_model, text):
    assert "damaged metadata" in refusal(write_model(tmp_path / "other.onnx", card=text or " "))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from(list(json.loads(ModelCard("x", 64).to_json()))) | st.text(), x)))  # fmt: skip
def test_any_metadata_is_a_card_or_a_refusal(value):
    with pytest.raises(ModelError, match="the model x"):
        parse_card(json.dumps(value), source="the model x")


def test_a_card_survives_its_json():
    card = ModelCard("x", 64, temperature=2.0, bias=0.5, threshold=0.3, digests={"data": "ab"},
                     training_patients=("C1", "C2"), label_set="confirmed", figures={"auc": 0.9},
                     licence="Apache-2.0", created_by="giemsa 0.1.0", calibration_source="out-of-fold logits",
                     evidence="exact: its mean is the logit", first_weights={"source": "hub"})  # fmt: skip
    assert parse_card(card.to_json(), source="x") == card


def test_a_model_that_gives_no_finite_logits_is_refused_when_it_runs(tmp_path, write_model, draw_cell):
    model = open_model(write_model(tmp_path / "nan.onnx", scale=float("nan")))
    with pytest.raises(ModelError, match="gave numbers that are not finite of shape"):
        model.run(cells_of(draw_cell, 2))


def test_probabilities_are_calibrated_and_never_overflow(tmp_path, write_model, model_card):
    card = model_card(32, calibration={"temperature": 2.0, "bias": 0.5})
    model = open_model(write_model(tmp_path / "m.onnx", card=card))
    logit = np.array([-1e4, -3, -1, 0, 2, 1e4], np.float32)
    with np.errstate(all="raise", under="ignore"):
        p = model.p_parasitized(logit)
    np.testing.assert_allclose(p[1:-1], 1 / (1 + np.exp(-(logit[1:-1].astype(float) / 2 + 0.5))), rtol=1e-12)
    assert (p[0], p[-1]) == (0, 1)
    assert p.dtype == np.float64
