"""Backbones: where they are cut off, what is trained, and where their weights come from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.preprocessing import StandardScaler

from giemsa.errors import DataError, DownloadError, RecipeError, RunError
from giemsa.lab.export.onnx import export_run
from giemsa.lab.networks.backbones import Backbone, Standardise, count_levels, whole_model
from giemsa.lab.networks.building import build_network, check_network
from giemsa.lab.networks.pretrained import fit_to_weights, load_pretrained
from giemsa.lab.recipes import load_recipe
from giemsa.lab.training.loop import predict_logits, to_rgb, train
from giemsa.lab.training.runs import open_run
from giemsa.model import open_model

SMALL = {
    "input_size_px": 32,
    "network.model": "resnet10t",  # the smallest residual network of timm's
    "training.epochs": 3,
    "training.batch_size": 16,
    "training.frozen_epochs": 2,
    "optimiser.finetune_learning_rate": 1e-4,
}


def small(**changes):
    return load_recipe("resnet18", SMALL | {key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file with weights of the whole small model, half precision, and its tensors."""
    torch.manual_seed(5)
    settings = small(network__weights="none").network
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in whole_model(settings).state_dict().items()
    }
    path = tmp_path_factory.mktemp("weights") / "whole.safetensors"
    save_file(state, path)
    return path, state


@pytest.fixture(scope="module")
def part(whole, tmp_path_factory):
    """Weights as far as the third level, without counts of batches."""
    path = tmp_path_factory.mktemp("weights") / "part.safetensors"
    kept = ("conv1.", "bn1.", "layer1.", "layer2.")
    save_file({n: v for n, v in whole[1].items() if n.startswith(kept) and "num_batches" not in n}, path)
    return path


def test_a_file_that_holds_a_part_cuts_the_network_off_there_and_says_so(part, whole):
    said = []
    recipe = fit_to_weights(small(network__weights=str(part)), said.append)
    assert recipe.network.level == 2
    assert "up to its level 2 (of 0 to 4)" in said[0]
    network = Backbone(recipe.network)
    record = load_pretrained(network, recipe.network)
    assert record["sha256"] == hashlib.sha256(part.read_bytes()).hexdigest()
    assert record["file"] == "part.safetensors"
    found = network.base.state_dict()
    assert "layer3.0.conv1.weight" not in found
    for name in ("conv1.0.weight", "layer2.0.conv1.weight"):
        assert torch.equal(found[name], whole[1][name].float())


def test_a_whole_file_gives_the_whole_network_or_the_level_that_is_asked_for(whole):
    said = []
    recipe = fit_to_weights(small(network__weights=str(whole[0])), said.append)
    assert recipe.network.level == "last"
    load_pretrained(Backbone(recipe.network), recipe.network)
    inner = fit_to_weights(small(network__weights=str(whole[0]), network__level=1), said.append)
    network = Backbone(inner.network)
    load_pretrained(network, inner.network)
    assert not said
    assert network.width == 64
    assert network.features(torch.rand(2, 3, 32, 32)).shape == (2, 64, 8, 8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {n: v for n, v in state.items() if n != "layer1.0.conv1.weight"}, "level 0"),
        (lambda state: {n: v for n, v in state.items() if n != "conv1.0.weight"}, "they lack conv1.0.weight"),
        (lambda state: state | {"stranger.weight": torch.zeros(2)}, "they have besides stranger.weight"),
        (lambda state: state | {"bn1.weight": torch.zeros(7)}, "in another shape bn1.weight"),
    ],
)
def test_weights_of_another_architecture_are_refused(whole, tmp_path, change, said):
    path = tmp_path / "odd.safetensors"
    save_file(change(dict(whole[1])), path)
    notes = []
    try:
        recipe = fit_to_weights(small(network__weights=str(path)), notes.append)
        load_pretrained(Backbone(recipe.network), recipe.network)
    except RunError as error:
        notes.append(str(error))
    assert said in " ".join(notes)


def test_weights_that_end_before_the_level_that_is_asked_for_are_refused(part):
    with pytest.raises(RunError, match=r"up to its level 2, and network.level = 4 is asked for"):
        fit_to_weights(small(network__weights=str(part), network__level=4))


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    with pytest.raises(RunError, match="--weights none"):
        fit_to_weights(small(network__weights=str(tmp_path / "none.safetensors")))
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(RunError, match="not a safetensors file"):
        fit_to_weights(small(network__weights=str(tmp_path / "text.safetensors")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network.model": "resnet81"}, "the nearest names are"),
        ({"network.level": 5}, "has 0 to 4"),
        ({"network.stem_norm": True}, "for resnetv2 models"),
    ],
)
def test_an_impossible_backbone_is_refused(changes, said):
    with pytest.raises(RecipeError, match=said):
        build_network(load_recipe("resnet18", SMALL | changes).network, 32)


def test_cells_that_a_backbone_cannot_pool_are_refused():
    with pytest.raises(RecipeError, match="smaller than its network can pool"):
        check_network(load_recipe("vgg19", {"input_size_px": 16}))


@pytest.mark.parametrize(
    "model", ["resnetv2_50", "resnet50", "vgg19", "resnet18", "mobilenetv3_small_100", "squeezenet1_1"]
)
def test_every_backbone_of_the_recipes_can_be_cut_off_at_each_level(model):
    settings = load_recipe("resnet18", {"network.model": model}).network
    sides = []
    with torch.device("meta"):
        for level in range(count_levels(settings)):
            network = Backbone(settings.model_copy(update={"level": level})).eval()
            features = network.features(torch.zeros(1, 3, 96, 96))
            assert features.shape[1] == network.width
            sides.append(features.shape[-1])
            names = [name for name, _ in network.base.named_parameters()]
            network.freeze(1)
            trained = [name for name, one in network.base.named_parameters() if one.requires_grad]
            assert names[len(names) - len(trained) :] == trained  # what is trained is what is next to the head
            assert len(trained) < len(names) or level == 0
            network.freeze(0)
            assert not any(one.requires_grad for one in network.base.parameters())
            network.freeze("all")
            assert all(one.requires_grad for one in network.parameters())
    assert sides == sorted(sides, reverse=True)


def test_norms_of_pretrained_weights_keep_their_statistics_and_random_ones_do_not(whole):
    for weights, kept in ((str(whole[0]), True), ("none", False)):
        network = Backbone(small(network__weights=weights).network).train()
        norms = [one for one in network.base.modules() if isinstance(one, torch.nn.BatchNorm2d)]
        assert norms
        assert all(one.training is not kept for one in norms)


def test_a_linear_head_gives_exact_evidence_and_a_hidden_layer_none():
    cells = torch.rand(3, 3, 64, 64)
    for outputs in (1, 2):
        network = Backbone(small(network__weights="none", network__outputs=outputs).network).eval()
        scores = network(cells)
        torch.testing.assert_close(scores.evidence.mean((1, 2)), scores.logit)
        torch.testing.assert_close(
            network.judge(network.features(cells).mean((2, 3))), scores.logit, rtol=1e-4, atol=1e-5
        )
    hidden = Backbone(small(network__weights="none", network__hidden=[8]).network).eval()
    assert hidden(cells).evidence is None


@pytest.fixture(scope="module")
def tuned(part, half_at_32, tmp_path_factory):
    """A run with frozen epochs and one of fine-tuning."""
    recipe = small(network__weights=str(part), network__trained_levels=1)
    return train(recipe, half_at_32, tmp_path_factory.mktemp("runs") / "tuned", threads=1)


@pytest.fixture(scope="module")
def half_at_32(half):
    return half


def test_frozen_epochs_come_first_and_leave_the_base_alone(part, half_at_32, tuned, tmp_path, capsys):
    frozen = train(
        small(network__weights=str(part), network__trained_levels=0), half_at_32, tmp_path / "frozen", threads=1
    )
    assert "Computing" not in capsys.readouterr().err  # the features of `tuned` are these
    first, last = frozen.load_network().base.state_dict(), tuned.load_network().base.state_dict()
    start = Backbone(frozen.recipe.network)
    load_pretrained(start, frozen.recipe.network)
    for name, value in start.base.state_dict().items():
        assert torch.equal(first[name], value), name
    changed = {name for name, value in first.items() if not torch.equal(value, last[name])}
    assert changed
    assert all(name.startswith("layer2.") for name in changed)
    assert len(frozen.record.timings["seconds_per_epoch"]) == len(tuned.record.timings["seconds_per_epoch"]) == 3
    rows = (tuned.folder / "frozen_metrics.csv").read_text().splitlines()
    assert len(rows) == 3
    assert (tuned.folder / "training.png").is_file()
    assert tuned.recipe.network.level == 2
    assert tuned.record.weights["file"] == "part.safetensors"
    assert tuned.record.parameters == sum(value.numel() for value in tuned.load_network().parameters())


def test_another_split_of_the_same_cells_finds_their_features(part, half_at_32, tuned, tmp_path, capsys):
    from dataclasses import replace

    turned = replace(half_at_32, train=half_at_32.validation[::-1].copy(), validation=half_at_32.train)
    other = train(small(network__weights=str(part), network__trained_levels=0), turned, tmp_path / "turned", threads=1)
    assert "Computing" not in capsys.readouterr().err
    # With an undisturbed frozen base, what the finished network says of a cell is what its head said of its features.
    logit = predict_logits(other.load_network(), turned.pixels, turned.validation)
    right = ((logit > 0) == (turned.labels.official[turned.validation] == 1)).mean()
    last = (other.folder / "frozen_metrics.csv").read_text().splitlines()[-1].split(",")
    header = (other.folder / "frozen_metrics.csv").read_text().splitlines()[0].split(",")
    assert float(last[header.index("validation_accuracy")]) == pytest.approx(right, abs=0.02)


def test_a_run_needs_no_weights_file_any_more_and_exports_with_evidence(tuned, half_at_32, tmp_path):
    from giemsa.lab.training.calibration import Calibration

    agreement = export_run(
        tuned, tmp_path / "model.onnx", calibration=Calibration(), comparison_cells=half_at_32.pixels[:64]
    )
    assert agreement.changed_verdicts == 0
    found = open_model(tmp_path / "model.onnx").run(half_at_32.pixels[:8])
    np.testing.assert_allclose(found.evidence.mean((1, 2)), found.logit, atol=1e-4)
    expected = predict_logits(tuned.load_network(), half_at_32.pixels, np.arange(8))
    np.testing.assert_allclose(found.logit, expected, atol=1e-4)


def test_a_frozen_base_can_see_disturbed_cells_and_the_same_seed_gives_the_same_head(part, half_at_32, tmp_path):
    recipe = small(network__weights=str(part), network__trained_levels=0, augmentation__brightness=0.2)
    first, again = (train(recipe, half_at_32, tmp_path / name, threads=1) for name in ("first", "again"))
    plain = train(small(network__weights=str(part), network__trained_levels=0), half_at_32, tmp_path / "p", threads=1)
    heads = [run.load_network().head.weight for run in (first, again, plain)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_head_sees_features_whose_range_does_not_matter():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(0.03, 0.01, (500, 6)).astype(np.float32))
    features[:, 5] = 0.5  # dead
    small_, large = Standardise(6), Standardise(6)
    small_.measure(features)
    large.measure(features * 1000)
    found = small_(features)
    torch.testing.assert_close(found, large(features * 1000), atol=1e-3, rtol=1e-3)
    expected = StandardScaler().fit_transform(features[:, :5].numpy())
    np.testing.assert_allclose(found[:, :5].numpy(), expected, atol=0.05)
    assert found[:, 5].abs().max() < 1e-4
    maps = features[:, :, None, None].expand(-1, -1, 2, 3)
    torch.testing.assert_close(small_(maps)[:, :, 1, 2], found)


def test_features_that_never_vary_are_left_as_they_are():
    standardise = Standardise(3)
    standardise.measure(torch.full((10, 3), 2.0))
    assert torch.equal(standardise(torch.ones(2, 3)), torch.ones(2, 3))


def test_the_run_keeps_what_its_features_are_standardised_by(tuned):
    network = tuned.load_network()
    assert not torch.equal(network.standardise.std, torch.ones(network.width))


def test_a_run_from_before_features_were_standardised_judges_as_it_did(tuned, half_at_32, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tuned.folder, old)
    weights = load_file(old / "weights.safetensors")
    save_file({k: v for k, v in weights.items() if not k.startswith("standardise.")}, old / "weights.safetensors")
    (old / "weights.safetensors.sha256").unlink()  # runs of that time have no digest beside their weights
    network = open_run(old).load_network().eval()
    cells = to_rgb(torch.from_numpy(np.array(half_at_32.pixels[:4])))
    with torch.inference_mode():
        expected = network.head(network.features(cells).mean((2, 3)))[:, 0]
        torch.testing.assert_close(network(cells).logit, expected, atol=1e-5, rtol=1e-5)


def test_one_class_alone_is_refused(half_at_32, part, tmp_path):
    from dataclasses import replace

    only = half_at_32.train[half_at_32.labels.official[half_at_32.train] == 0]
    with pytest.raises(DataError, match="both are needed"):
        train(small(network__weights=str(part)), replace(half_at_32, train=only), tmp_path / "one")
    assert not (tmp_path / "one").exists()


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as its client asks for."""

    content = b""
    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body):
        self.asked.append(f"{self.command} {self.path}")
        if self.path.endswith("/resolve/main/model.safetensors"):
            content, status = self.content, 200
        else:
            content, status = b"{}", 200 if self.path == "/" else 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(whole):
    _Hub.content, _Hub.asked = whole[0].read_bytes(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


_LOAD = """
import json, sys
from giemsa.lab.recipes import load_recipe
from giemsa.lab.networks.pretrained import load_pretrained
from giemsa.lab.networks.backbones import Backbone
from giemsa.errors import DownloadError
recipe = load_recipe("resnet18", {"network.model": "resnet10t"})
network = Backbone(recipe.network)
try:
    record = load_pretrained(network, recipe.network)
except DownloadError as error:
    sys.exit(str(error))
print(json.dumps(record | {"sum": float(network.base.conv1[0].weight.double().sum())}))
"""


def load_from(endpoint, home, **more):
    environment = dict(os.environ, HF_ENDPOINT=endpoint, HF_HOME=str(home), HF_HUB_DISABLE_XET="1", **more)
    environment.pop("HF_HUB_OFFLINE", None)
    return subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, check=False, env=environment)


def test_weights_come_from_the_hub(hub, whole, tmp_path):
    done = load_from(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["source"].startswith(f"{hub}/timm/resnet10t")
    assert record["sum"] == pytest.approx(float(whole[1]["conv1.0.weight"].double().sum()), rel=1e-4)
    assert any(asked.startswith("GET /timm/resnet10t") for asked in _Hub.asked)


def test_a_hub_that_cannot_be_reached_is_said_with_both_ways_out(tmp_path):
    done = load_from("http://127.0.0.1:9", tmp_path)
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert "resnet10t cannot be fetched from http://127.0.0.1:9" in said
    assert "--weights FILE.safetensors" in said
    assert "--weights none" in said


def test_squeezenets_hub_that_cannot_be_reached_is_said_too(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    recipe = load_recipe("squeezenet")
    with pytest.raises(DownloadError, match="--weights none"):
        load_pretrained(Backbone(recipe.network), recipe.network)


WEIGHTS = Path(os.environ.get("GIEMSA_SHARED", Path(__file__).parents[4] / "shared")) / "weights"


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "file", "width"),
    [
        ("resnet50v2-frozen", "resnetv2_50-stages0-2", 1024),
        ("resnet18", "resnet18-layers1-3", 256),
        ("squeezenet", "squeezenet1_1", 512),
    ],
)
def test_real_partial_weights_load_strictly_and_see_more_than_random_ones(name, file, width):
    if not (WEIGHTS / f"{file}.safetensors").is_file():
        pytest.skip(f"there are no weights at {WEIGHTS}")
    recipe = fit_to_weights(load_recipe(name, {"network.weights": str(WEIGHTS / f"{file}.safetensors")}))
    network = Backbone(recipe.network).eval()
    load_pretrained(network, recipe.network)
    assert network.width == width
    with torch.inference_mode():
        features = network.features(torch.rand(2, 3, 96, 96))
    assert torch.isfinite(features).all()
    assert (features >= 0).all()  # all three end in a ReLU
