"""Maps, how they are drawn, galleries and the analysis of errors."""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from giemsa.errors import ModelError, UsageError
from giemsa.formats.evaluations import Predictions
from giemsa.lab.evaluation.error_analysis import (
    PROPERTIES,
    analyse_errors,
    cell_properties,
    describe_errors,
)
from giemsa.lab.evaluation.reports import MORE_FILES
from giemsa.lab.explaining.explainer import EvidenceExplainer, GradCamExplainer, choose_explainer, extent
from giemsa.lab.explaining.galleries import GALLERY_FILES, Judged, draw_galleries
from giemsa.lab.explaining.overlays import draw_explanation, overlay
from giemsa.lab.networks.building import build_network
from giemsa.lab.recipes import ResidualCnnSettings, SequentialCnnSettings
from giemsa.model import open_model
from giemsa.stats.metrics import roc_auc

GREY = np.full((40, 60, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def sequential():
    torch.manual_seed(0)
    settings = SequentialCnnSettings(kind="sequential-cnn", widths=(4, 6), dense=(5,))
    return build_network(settings, 32).eval()


@pytest.fixture(scope="module")
def cells(draw_cell):
    return np.stack([draw_cell(number % 2 == 0, size=(32, 32), seed=number) for number in range(6)])


def test_evidence_is_the_models_own_map(tiny_model, cells):
    model = open_model(tiny_model)
    maps = EvidenceExplainer(model).explain(cells)
    np.testing.assert_allclose(maps.mean((1, 2)), model.run(cells).logit, atol=1e-3)


def test_grad_cam_is_what_its_formula_says(sequential, cells):
    explainer = GradCamExplainer(sequential)
    assert str(explainer.method) == "Grad-CAM at layer features.4, for the logit of parasitized"
    found = explainer.explain(cells)
    rgb = torch.from_numpy(cells).permute(0, 3, 1, 2).float() / 255
    activations = sequential.features[:5](sequential.normalise(rgb)).detach().requires_grad_()
    sequential.head(sequential.features[5:](activations))[:, 0].sum().backward()
    expected = (activations.grad.mean((2, 3), keepdim=True) * activations).sum(1)
    expected = expected * activations.shape[2] * activations.shape[3]
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-3, atol=1e-5)
    assert (found < 0).any()  # what speaks against is not hidden


def test_grad_cam_of_a_network_with_evidence_is_its_evidence_without_the_bias(cells):
    network = build_network(ResidualCnnSettings(stem_width=4, widths=(4,), blocks=(1,)), 32).eval()
    torch.nn.init.constant_(network.head.bias, 0.7)
    found = GradCamExplainer(network, "features").explain(cells)
    with torch.no_grad():
        evidence = network(torch.from_numpy(cells).permute(0, 3, 1, 2).float() / 255).evidence
    np.testing.assert_allclose(found, (evidence - 0.7).numpy(), rtol=1e-3, atol=1e-4)


def test_no_hook_is_left_behind_and_no_tensor_kept(sequential, cells):
    explainer = GradCamExplainer(sequential)
    explainer.explain(cells)
    gc.collect()
    before = sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
    for _ in range(20):
        explainer.explain(cells)
    gc.collect()
    assert sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects()) <= before
    for module in sequential.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks


def test_a_layer_that_is_unknown_or_no_map_is_refused(sequential, cells):
    with pytest.raises(UsageError, match=r"no layer 'featurs.4'.*features.4"):
        GradCamExplainer(sequential, "featurs.4")
    with pytest.raises(UsageError, match="no map"):
        GradCamExplainer(sequential, "head.1").explain(cells)


def test_a_model_without_evidence_needs_its_run(write_model, tmp_path):
    path = write_model(tmp_path / "plain.onnx", evidence=False)
    with pytest.raises(ModelError, match="give the run's folder"):
        choose_explainer(path)


def test_a_layer_asks_for_grad_cam_even_where_there_is_evidence(trained, half, tmp_path):
    from giemsa.lab.export.onnx import export_run
    from giemsa.lab.training.calibration import Calibration

    path = trained.folder / "model.onnx"
    if not path.exists():
        export_run(trained, path, calibration=Calibration(), comparison_cells=half.pixels[:16])
    _, own = choose_explainer(trained.folder)
    assert own.method.name == "evidence"
    _, asked = choose_explainer(trained.folder, layer="features.3")
    assert asked.method.layer == "features.3"
    assert asked.explain(half.pixels[:3]).shape[0] == 3


def test_an_empty_map_leaves_the_cell_as_it_is_and_a_weak_one_hardly_changes_it():
    assert np.array_equal(overlay(GREY, np.zeros((4, 4), np.float32)), GREY)
    weak = overlay(GREY, np.full((4, 4), 0.2, np.float32))
    assert np.abs(weak.astype(int) - GREY).max() <= 1


def test_colours_tell_the_sign_and_end_at_the_scale():
    strong = [overlay(GREY, np.full((4, 4), value, np.float32), 10)[0, 0].astype(int) for value in (10, 50, -10)]
    assert np.array_equal(strong[0], strong[1])
    assert strong[0][0] > strong[0][2]  # orange
    assert strong[2][2] > strong[2][0]  # blue


def test_the_map_lies_on_the_cell_and_not_on_the_page_around_it():
    evidence = np.zeros((4, 4), np.float32)
    evidence[:, 3] = 50  # the right quarter of the picture
    tall = np.full((80, 40, 3), 128, np.uint8)
    page = draw_explanation(tall, evidence, ["a", "b"]).astype(int)
    right = page[16 : 16 + 256, 16 + 256 + 16 : 16 + 256 + 16 + 256]
    orange = (right[:, :, 0] - right[:, :, 2]) > 60
    columns = np.flatnonzero(orange.any(0))
    assert columns.min() >= 64  # the picture is 128 px wide, in the middle of 256
    assert columns.max() < 192


def test_extent_is_one_where_all_is_even_and_small_where_it_is_one_place():
    one = np.zeros((1, 4, 4), np.float32)
    one[0, 1, 2] = 9
    assert extent(np.full((1, 4, 4), 3, np.float32)) == pytest.approx([1])
    assert extent(one) == pytest.approx([1 / 16])
    assert extent(-one) == pytest.approx([0])


def test_properties_follow_what_they_are_called_after(draw_cell):
    plain = draw_cell(False, size=(100, 100))
    purple = plain.copy()
    purple[:, :, 1] //= 2
    assert cell_properties(purple)["purple"] > cell_properties(plain)["purple"]
    assert cell_properties(draw_cell(False, size=(160, 160)))["size_px"] > cell_properties(plain)["size_px"]
    import cv2

    blurred = cv2.GaussianBlur(plain, (9, 9), 0)
    assert cell_properties(blurred)["sharpness"] < cell_properties(plain)["sharpness"]
    assert all(np.isfinite(value) for value in cell_properties(np.zeros((20, 20, 3), np.uint8)).values())


def test_the_weighted_area_is_that_of_cells_counted_so_often():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 12, 80).astype(float)  # with ties
    positive, weight = rng.random(80) < 0.4, rng.integers(0, 4, 80).astype(float)
    expected = roc_auc_score(positive, values, sample_weight=weight)
    assert roc_auc(positive, values, weight) == pytest.approx(expected)


@pytest.fixture
def judged(labelled):
    """Verdicts that are wrong on purpose: the smallest uninfected and the darkest parasitized cells."""
    rng = np.random.default_rng(1)
    positive = labelled.labels.official == 1
    p = np.where(positive, 0.9, 0.1) + rng.normal(0, 0.01, len(positive))
    wrong = rng.permutation(np.flatnonzero(~positive))[:12]
    p[wrong] = 0.8
    missed = np.flatnonzero(positive)[:11]
    p[missed] = 0.2
    predictions = Predictions(
        images=[cell.file for cell in labelled.index],
        p_parasitized=p,
        logit=np.log(p / (1 - p)),
        official=labelled.labels.official.astype(np.int8),
        reviewed=labelled.labels.reviewed,
        donor=labelled.labels.donor,
        patients=[cell.patient for cell in labelled.index],
    )
    return Judged(labelled.index, predictions, 0.5)


def test_galleries_show_every_kind_of_error_and_what_the_model_was_given(judged, tiny_model, tmp_path):
    model = open_model(tiny_model)
    draw_galleries(tmp_path, judged, model, EvidenceExplainer(model))
    from PIL import Image

    sizes = {name: Image.open(tmp_path / name).size for name in GALLERY_FILES}
    # 12 cells in rows of 4, 11 likewise, and the sample of 24 is taller.
    assert sizes["gallery_false_positives.png"] == sizes["gallery_false_negatives.png"]
    assert sizes["sample_predictions.png"][1] > sizes["gallery_false_positives.png"][1]


def test_galleries_without_maps_or_without_errors_say_so(judged, tiny_model, tmp_path):
    from dataclasses import replace

    p = np.where(judged.positive, 0.9, 0.1)
    right = Judged(judged.index, replace(judged.predictions, p_parasitized=p, donor=None), 0.5)
    draw_galleries(tmp_path, right, open_model(tiny_model), None)
    assert all((tmp_path / name).stat().st_size for name in GALLERY_FILES)


def test_the_analysis_finds_what_was_made_different(judged, tiny_model, tmp_path, monkeypatch):
    import giemsa.lab.evaluation.error_analysis as module

    wrong = set(np.flatnonzero(judged.predicted & ~judged.positive))
    honest = module.cell_properties
    reading = Judged.read
    last = []

    def read(self, row):
        last.append(row)
        return reading(self, row)

    seen = iter(range(10**6))

    def measured(rgb):
        row = last[next(seen)]
        return honest(rgb) | {"purple": 2.0 + row / 1e6 if row in wrong else 1.0 + row / 1e6}

    monkeypatch.setattr(Judged, "read", read)
    monkeypatch.setattr(module, "cell_properties", measured)
    model = open_model(tiny_model)
    content = analyse_errors(tmp_path, judged, model, None)
    purple = content["false_positives"]["comparisons"]["purple"]
    assert (purple["auc"], purple["low"], purple["high"]) == (1.0, 1.0, 1.0)
    assert content["false_positives"]["n"] == len(wrong)
    assert "extent" not in content["false_positives"]["comparisons"]
    assert any("False positives are more purple than true negatives" in one for one in describe_errors(content))
    assert json.loads((tmp_path / "error_analysis.json").read_text()) == content
    assert set(MORE_FILES) == set(GALLERY_FILES) | set(module.ERROR_FILES)


def test_few_errors_are_not_explained(judged, tiny_model, tmp_path):
    from dataclasses import replace

    p = np.where(judged.positive, 0.9, 0.1)
    p[0] = 1 - p[0]
    content = analyse_errors(
        tmp_path, Judged(judged.index, replace(judged.predictions, p_parasitized=p), 0.5), open_model(tiny_model), None
    )
    assert all("comparisons" not in content[kind] for kind in ("false_positives", "false_negatives"))
    assert all("too few" in one for one in describe_errors(content))
    assert set(PROPERTIES) >= set(content["properties"])
