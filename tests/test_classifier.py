"""Pictures of any kind become verdicts, in order, lazily, and bad ones become rows."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from PIL import Image

import giemsa
from giemsa.classifier import CHUNK, Classifier, usable_cores
from giemsa.errors import ModelError, PictureError, UsageError
from giemsa.model import open_model
from giemsa.sources import Source, open_sources
from giemsa.verdicts import Verdict


@pytest.fixture
def classifier(tiny_model):
    return Classifier(tiny_model, threads=2)


def test_load_gives_a_classifier_that_tells_cells_apart(tiny_model, draw_cell, encode, tmp_path):
    path = tmp_path / "cell.png"
    path.write_bytes(encode(draw_cell(True)))
    verdict = giemsa.load(tiny_model).classify(str(path))
    assert (verdict.image, verdict.verdict, verdict.reason) == (str(path), "parasitized", "")
    assert 0.5 <= verdict.p_parasitized <= 1
    assert giemsa.load(open_model(tiny_model)).classify(draw_cell(False)).verdict == "uninfected"


def test_one_picture_gets_one_verdict_however_it_comes(classifier, draw_cell, encode, tmp_path):
    cell = draw_cell(True)
    data = encode(cell)
    path = tmp_path / "cell.png"
    path.write_bytes(data)
    as_path = classifier.classify(path)
    given = {
        str(path): str(path),
        "#0": cell,
        "s": Source("s", lambda: data),
    }
    others = [classifier.classify(p) for p in (*given.values(), data, bytearray(data), memoryview(data))]
    others += [classifier.classify(Image.open(path)), classifier.classify(Image.fromarray(cell))]
    assert {v.logit for v in others} == {as_path.logit}
    assert [v.image for v in others] == [str(path), "#0", "s", "#0", "#0", "#0", str(path), "#0"]


def test_the_threshold_of_the_model_decides(tmp_path, write_model, model_card, draw_cell):
    cell = draw_cell(True)
    p = Classifier(write_model(tmp_path / "a.onnx")).classify(cell).p_parasitized
    for threshold, expected in ((p, "parasitized"), (np.nextafter(p, 1), "uninfected")):
        card = model_card(32, thresholds={"parasitized": threshold})
        assert Classifier(write_model(tmp_path / "b.onnx", card=card)).classify(cell).verdict == expected


@pytest.mark.parametrize("threads", [1, 2, 3, None])
@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK + 3])
def test_verdicts_come_in_the_order_of_the_pictures(tiny_model, draw_cell, threads, count):
    cells = [draw_cell(True), draw_cell(False)]
    which = np.random.default_rng(0).integers(0, 2, count)
    verdicts = list(Classifier(tiny_model, threads=threads).classify_many(cells[i] for i in which))
    assert [v.verdict for v in verdicts] == [("parasitized", "uninfected")[i] for i in which]
    assert [v.image for v in verdicts] == [f"#{i}" for i in range(count)]


def test_a_bad_picture_is_a_row_and_the_rest_goes_on(classifier, draw_cell, encode, tmp_path):
    good = encode(draw_cell(True))
    stream = [good, b"", good[:200], b"text", str(tmp_path / "missing.png"), np.zeros((0, 3), np.uint8), good] * 20
    verdicts = list(classifier.classify_many(stream))
    assert [v.verdict for v in verdicts[:7]] == ["parasitized"] + ["unreadable"] * 5 + ["parasitized"]
    assert len(verdicts) == 140
    for said, verdict in zip(("empty", "breaks off", "known kind", "no such file", "no pixels"), verdicts[1:6]):  # noqa: B905
        assert said in verdict.reason
        assert (verdict.p_parasitized, verdict.logit) == (None, None)


def test_nothing_but_bad_pictures_is_fine_too(classifier):
    assert {v.verdict for v in classifier.classify_many([b""] * (2 * CHUNK))} == {"unreadable"}


@pytest.mark.parametrize("picture", [None, 3, ["a.png"], np.zeros((4, 4, 3))])
def test_what_can_be_no_picture_is_wrong_use(classifier, picture):
    with pytest.raises(UsageError):
        classifier.classify(picture)
    with pytest.raises(UsageError):
        list(classifier.classify_many([b""] * 100 + [picture] + [b""] * 500))


def test_verdicts_are_frozen_values_that_can_be_sent_elsewhere(classifier, draw_cell):
    verdict = classifier.classify(draw_cell())
    with pytest.raises(AttributeError):
        verdict.verdict = "parasitized"
    assert pickle.loads(pickle.dumps(verdict)) == verdict
    assert isinstance(verdict, Verdict)


def test_pictures_are_read_lazily_and_only_a_few_chunks_ahead(classifier, draw_cell, encode):
    data = encode(draw_cell())
    taken = []

    def stream():
        for i in range(100 * CHUNK):
            taken.append(i)
            yield data

    verdicts = classifier.classify_many(stream())
    assert not taken
    next(verdicts)
    assert len(taken) <= CHUNK * (2 * classifier.threads + 3)
    verdicts.close()
    assert threading.active_count() < 10


def test_memory_does_not_grow_with_the_number_of_pictures(classifier, draw_cell, encode):
    data = encode(draw_cell())

    def peak(chunks):
        tracemalloc.start()
        try:
            for _ in classifier.classify_many(data for _ in range(chunks * CHUNK)):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(8)
    assert peak(60) < 1.5 * peak(12)


def test_an_interruption_gives_what_is_computed_and_then_goes_on_its_way(classifier, draw_cell, encode):
    data = encode(draw_cell())

    def stream():
        for i in range(1000):
            if i == 4 * CHUNK:
                raise KeyboardInterrupt
            yield data

    got = []
    with pytest.raises(KeyboardInterrupt):
        got.extend(verdict.image for verdict in classifier.classify_many(stream()))
    assert got == [f"#{i}" for i in range(len(got))]
    assert len(got) >= CHUNK


def test_an_error_of_the_stream_is_not_swallowed(classifier):
    def stream():
        yield from [b""] * (3 * CHUNK)
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        list(classifier.classify_many(stream()))


def test_a_broken_model_stops_everything(tmp_path, write_model, draw_cell):
    with pytest.raises(ModelError, match="not finite"):
        list(Classifier(write_model(tmp_path / "nan.onnx", scale=float("nan"))).classify_many([draw_cell()] * 100))


def test_threads_are_counted_and_checked(tiny_model):
    assert Classifier(tiny_model).threads == usable_cores() >= 1
    with pytest.raises(UsageError, match="threads is 0; expected 1 or more"):
        Classifier(tiny_model, threads=0)


def test_a_classifier_says_what_it_uses(classifier):
    record = classifier.record(command="giemsa classify x")
    assert record.model_sha256 == classifier.model.digest
    assert (record.provider, record.threads, record.giemsa) == ("CPUExecutionProvider", 2, giemsa.__version__)


def test_a_reason_is_one_line(classifier):
    def read():
        raise PictureError("first\nsecond")

    assert classifier.classify(Source("x", read)).reason == "first second"


def test_a_folder_goes_straight_through(classifier, make_cells, tmp_path):
    paths = make_cells(tmp_path, 2 * CHUNK + 5)
    verdicts = list(classifier.classify_many(open_sources([tmp_path])))
    assert [v.image for v in verdicts] == [str(path) for path in paths]
    assert [v.verdict == "parasitized" for v in verdicts] == [i % 3 == 0 for i in range(len(paths))]


def test_a_lazy_pillow_image_that_is_broken_is_a_row(classifier, draw_cell, encode):
    cut = Image.open(io.BytesIO(encode(draw_cell(), "JPEG")[:900]))
    assert classifier.classify(cut).verdict == "unreadable"


def test_importing_giemsa_imports_nothing_heavy():
    code = (
        "import sys, giemsa, giemsa.cli; giemsa.errors; dir(giemsa); giemsa.Verdict; giemsa.ModelError\n"
        "print([m for m in ('numpy', 'cv2', 'onnxruntime', 'PIL', 'rich', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_there():
    for name in giemsa.__all__:
        assert getattr(giemsa, name) is not None
    assert set(giemsa.__all__) <= set(dir(giemsa))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        giemsa.nonsense  # noqa: B018
    assert issubclass(giemsa.SourceError, giemsa.GiemsaError)
