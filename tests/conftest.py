"""What tests share: drawn cells, a tiny model that follows the contract, and the rule for real data."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

SHARED = Path(os.environ.get("GIEMSA_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_configure():
    """Let processes that the tests start be interrupted: those of a suite run in the background would ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Skip what needs the real cells where they are not, and say so."""
    if (SHARED / "data").is_dir():
        return
    skip = pytest.mark.skip(reason=f"the real cells are not here: expected {SHARED / 'data'}, or GIEMSA_SHARED")
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data; for tests that are marked `shared`."""
    return SHARED / "data"


def _draw_cell(parasitized=False, *, size=(120, 130), seed=0):
    """Draw a pink disc on black, with a violet ring in it where it is parasitized; uint8 [H, W, 3] RGB."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    draw.ellipse((3, 3, width - 4, height - 4), fill=(225, 170, 165))
    if parasitized:
        x, y, r = width * rng.uniform(0.35, 0.65), height * rng.uniform(0.35, 0.65), min(size) * 0.14
        draw.ellipse((x - r, y - r, x + r, y + r), outline=(80, 30, 150), width=max(1, round(r * 0.7)))
    noisy = np.asarray(image) + rng.normal(0, 3, (height, width, 3)) * (np.asarray(image) > 0)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def draw_cell():
    """`draw_cell(parasitized, size=(h, w), seed=0)` gives uint8 [H, W, 3] RGB."""
    return _draw_cell


def _encode(pixels, kind="PNG", **options):
    """Encode an array or a Pillow image as a whole file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def encode():
    """`encode(pixels, "PNG", **options)` gives the bytes of a picture file, by Pillow."""
    return _encode


@pytest.fixture(scope="session")
def make_cells():
    """`make_cells(folder, n)` writes n drawn cells, every third parasitized, and gives their paths in order."""

    def make(folder, n, **options):
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"cell_{i:04d}.png" for i in range(n)]
        for i, path in enumerate(paths):
            path.write_bytes(_encode(_draw_cell(i % 3 == 0, seed=i, **options)))
        return paths

    return make


def _card(size_px=32, **changes):
    card = {
        "contract_version": 1,
        "name": "tiny",
        "class_names": ["uninfected", "parasitized"],
        "input_size_px": size_px,
        "resize": {"kernel": "area", "padding": "stretch"},
        "calibration": {"temperature": 1.5, "bias": -0.25},
        "thresholds": {"parasitized": 0.5},
        "digests": {"data": "0" * 64, "split": "1" * 64, "recipe": "2" * 64},
        "training_patients": [],
        "label_set": "drawn",
        "figures": {},
        "licence": "Apache-2.0",
        "created_by": "the tests",
    }
    return card | changes


@pytest.fixture(scope="session")
def model_card():
    """`model_card(size_px, **changes)` gives the metadata of a model as a dictionary."""
    return _card


def _write_model(
    path,
    *,
    size_px=32,
    card=None,
    metadata=True,
    input_name="cells",
    input_type="uint8",
    channels=3,
    logit_name="logit",
    evidence=True,
    scale=1000.0,
):
    """Write a model that counts violet: evidence is where blue exceeds red, and the logit its mean."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    kind = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}[input_type]
    weights = np.zeros((1, channels, 1, 1), np.float32)
    weights[0, 0], weights[0, -1] = -1 / 255, 1 / 255  # blue less red

    def constant(name, value):
        return numpy_helper.from_array(np.asarray(value), name)

    nodes = [
        helper.make_node("Cast", [input_name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights"], ["violet"]),
        helper.make_node("Relu", ["violet"], ["positive"]),
        helper.make_node("AveragePool", ["positive"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Mul", ["pooled", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "offset"], ["map"]),
        helper.make_node("Squeeze", ["map", "axis"], ["evidence"]),
        helper.make_node("ReduceMean", ["evidence"], [logit_name], axes=[1, 2], keepdims=0),
    ]
    outputs = [helper.make_tensor_value_info(logit_name, TensorProto.FLOAT, ["N"])]
    if evidence:
        side = size_px // 4
        outputs.append(helper.make_tensor_value_info("evidence", TensorProto.FLOAT, ["N", side, side]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, kind, ["N", size_px, size_px, channels])],
        outputs,
        [
            constant("weights", weights),
            constant("scale", np.float32(scale)),
            constant("offset", np.float32(4.0)),
            constant("axis", np.array([1], np.int64)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    if metadata:
        text = card if isinstance(card, str) else json.dumps(card or _card(size_px))
        helper.set_model_props(model, {"giemsa": text})
    save(model, os.fspath(path))
    return Path(path)


@pytest.fixture(scope="session")
def write_model():
    """`write_model(path, ...)` writes a tiny ONNX model; what it is told to do wrong, it does wrong."""
    return _write_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A tiny model that follows the contract and tells drawn cells apart."""
    return _write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def unprivileged():
    """`with unprivileged():` drops the rights of root, to whom every file is open."""

    @contextmanager
    def drop():
        if os.geteuid() != 0:
            yield
            return
        os.setegid(65_534)
        os.seteuid(65_534)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)

    return drop


@pytest.fixture
def open_folder():
    """A folder that everybody may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
