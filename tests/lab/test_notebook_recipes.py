"""The notebooks' recipes: what their texts say of their networks and trainings."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from giemsa.cli import main
from giemsa.errors import RecipeError
from giemsa.lab.networks.building import build_network, check_network
from giemsa.lab.networks.layers import count_recipe_parameters, list_layers
from giemsa.lab.recipes import AugmentationSettings, all_keys, load_recipe, parse_recipe, recipe_names

NOTEBOOKS = [name for name in recipe_names() if name != "default"]


def test_the_default_recipe_has_the_digest_that_it_was_released_with():
    # A change here means that no run of the released recipe can be resumed: it needs a reason and a new release.
    assert load_recipe("default").digest == "cebc4d324e4f8e7c4dbfb084116b8c290b80e552510b8da29841ea6c47cace14"


def test_the_sequential_cnn_has_the_layers_of_its_texts_table():
    layers = list_layers(load_recipe("sequential-cnn-224"))
    assert [(layer.kind, layer.shape, layer.parameters) for layer in layers] == [
        ("Conv2d", (222, 222, 32), 896),
        ("MaxPool2d", (111, 111, 32), 0),
        ("Conv2d", (109, 109, 64), 18_496),
        ("MaxPool2d", (54, 54, 64), 0),
        ("Conv2d", (52, 52, 128), 73_856),
        ("MaxPool2d", (26, 26, 128), 0),
        ("Flatten", (86_528,), 0),
        ("Linear", (128,), 11_075_712),
        ("Dropout", (128,), 0),
        ("Linear", (1,), 129),
    ]
    assert count_recipe_parameters(load_recipe("sequential-cnn-224")) == 11_169_089


def test_the_two_block_cnn_is_trained_as_its_text_says():
    recipe = load_recipe("two-block-cnn-64")
    assert (recipe.input_size_px, recipe.network.dense, recipe.network.outputs) == (64, (128,), 1)
    assert recipe.network.mean == recipe.network.std == (0.5, 0.5, 0.5)
    assert (recipe.training.batch_size, recipe.training.epochs) == (32, 5)
    assert (recipe.optimiser.name, recipe.optimiser.learning_rate) == ("adam", 1e-4)
    assert recipe.optimiser.schedule == "constant"
    assert recipe.augmentation.is_off
    assert (recipe.published.accuracy, recipe.published.tolerance) == (0.93, 0.02)


def test_the_compact_cnn_is_trained_as_its_text_says_and_fits_its_bytes():
    recipe = load_recipe("compact-cnn-128")
    assert (recipe.input_size_px, recipe.training.batch_size, recipe.training.epochs) == (128, 16, 2)
    assert count_recipe_parameters(recipe) < 2_500_000  # a byte each in int8


def test_suggested_recipes_differ_from_the_suggesting_one_in_what_was_suggested():
    base = load_recipe("two-block-cnn-64").model_dump(exclude={"name", "description", "published"})
    larger = load_recipe("two-block-cnn-128").model_dump(exclude={"name", "description", "published"})
    assert larger == base | {"input_size_px": 128}
    augmented = load_recipe("two-block-cnn-64-augmented").model_dump(exclude={"name", "description", "published"})
    assert augmented.pop("augmentation") != base.pop("augmentation")
    assert augmented == base


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_recipe_names_its_source_and_takes_the_labels_as_they_are(name):
    recipe = load_recipe(name)
    check_network(recipe)
    assert recipe.source
    assert (recipe.labels.disputed, recipe.labels.donors, recipe.labels.smoothing) == ("official", "official", 0)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_our_own_ideas_can_be_switched_on_in_any_recipe(name):
    overrides = {"augmentation.start": "giemsa", "labels.donors": "negative", "labels.disputed": "leave-out"}
    recipe = load_recipe(name, overrides)
    assert recipe.augmentation.disturbs
    assert recipe.augmentation.background_probability > 0
    assert recipe.labels.donors == "negative"
    one = load_recipe(name, {"augmentation.stain_probability": 0.5}).augmentation
    assert one.disturbs
    assert one.background_probability == 0


def test_a_recipe_that_starts_from_nothing_is_written_out_and_read_back_as_the_same(tmp_path):
    recipe = load_recipe("two-block-cnn-64-augmented", {"augmentation.light": 0.1})
    (tmp_path / "copy.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(tmp_path / "copy.toml") == recipe
    assert load_recipe(tmp_path / "copy.toml").digest == recipe.digest


def test_two_outputs_give_one_logit_whose_loss_is_the_cross_entropy_of_their_softmax():
    recipe = load_recipe("softmax-cnn", {"input_size_px": 32, "network.widths": [4], "network.dense": [4]})
    network = build_network(recipe.network, 32).eval()
    cells, targets = torch.rand(6, 3, 32, 32), torch.tensor([0, 1, 1, 0, 1, 0])
    both = network.head(network.features(network.normalise(cells)))
    logit = network(cells).logit
    expected = torch.nn.functional.cross_entropy(both, targets)
    torch.testing.assert_close(torch.nn.functional.binary_cross_entropy_with_logits(logit, targets.float()), expected)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("sequential-cnn-224", {"input_size_px": 16}, "smaller than the network can pool"),
        ("two-block-cnn-64", {"network.widht": [4]}, "network.widths"),
        ("two-block-cnn-64", {"network.kind": "transformer"}, "residual-cnn, sequential-cnn, backbone"),
        ("two-block-cnn-64", {"network.outputs": 3}, "network.outputs = 3"),
        ("two-block-cnn-64", {"network.std": [0.5, 0.0, 0.5]}, "network.std"),
        ("two-block-cnn-64", {"training.frozen_epochs": 1}, "kind backbone"),
        ("resnet18", {"training.frozen_epochs": 99}, "more than 12 epochs"),
        ("resnet18", {"network.weights": "weights.bin"}, "network.weights"),
        ("resnet18", {"network.level": "first"}, "network.level = 'first' is impossible: Input should be 'last' or"),
        ("two-block-cnn-64", {"augmentation.rotation_degrees": 200}, "augmentation.rotation_degrees = 200"),
    ],
)
def test_an_impossible_change_is_refused_in_one_sentence(name, changes, said):
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_are_those_of_the_kind_of_network():
    assert "network.level" in all_keys("backbone")
    assert "network.level" not in all_keys("sequential-cnn")
    assert "published.figure" in all_keys()


def test_an_unknown_kind_of_network_is_refused_when_it_is_the_only_word():
    with pytest.raises(RecipeError, match="the kinds are"):
        parse_recipe({"name": "x", "network": {"kind": "none"}}, "x.toml")


def test_recipes_are_listed_with_figure_size_and_parameters(capsys):
    assert main(["recipes", "--json"]) == 0
    described = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert set(described) == set(recipe_names())
    assert described["two-block-cnn-64"]["published"]["accuracy"] == 0.93
    assert described["sequential-cnn-224"]["parameters"] == 11_169_089
    assert described["vgg19"]["input_size_px"] == 128


def test_a_recipe_is_shown_layer_by_layer(capsys):
    assert main(["recipes", "sequential-cnn-224"]) == 0
    shown = capsys.readouterr().out
    assert "(222, 222, 32)" in shown
    assert "11,075,712" in shown
    assert "11,169,089 parameters" in shown
    assert main(["recipes", "two-block-cnn-64", "--set", "network.widths=[8]", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["layers"][0]["shape"] == [64, 64, 8]
    assert sum(layer["parameters"] for layer in content["layers"]) == content["parameters"]
    assert content["recipe"]["network"]["widths"] == [8]


def test_changes_need_a_recipe_and_weights_a_backbone(capsys):
    assert main(["recipes", "--set", "training.epochs=2"]) == 2
    assert main(["recipes", "two-block-cnn-64", "--weights", "none"]) == 2
    assert "no backbone" in capsys.readouterr().err
    assert main(["recipes", "resnet18", "--weights", "weights.bin"]) == 2
    assert main(["recipes", "two-block-cnn-46"]) == 2
    assert "nearest names are two-block-cnn-64" in capsys.readouterr().err


class TestPlainDisturbances:
    """Rotation and jitter, as the notebooks have them."""

    def augmented(self, cells, **settings):
        from giemsa.lab.training.augment import Augment

        augment = Augment(AugmentationSettings(start="nothing", **settings))
        return augment(cells, torch.zeros(len(cells)), torch.Generator().manual_seed(3))

    @pytest.fixture
    def cells(self, draw_cell):
        drawn = [draw_cell(True, size=(48, 48), seed=number) for number in range(16)]
        return torch.from_numpy(np.stack(drawn))

    def test_nothing_leaves_cells_as_they_are(self, cells):
        assert torch.equal(self.augmented(cells), cells.permute(0, 3, 1, 2).float().div(255))

    def test_brightness_multiplies_and_black_stays_black(self, cells):
        rgb = cells.permute(0, 3, 1, 2).float().div(255)
        found = self.augmented(cells, brightness=0.3)
        ratio = (found.mean((1, 2, 3)) / rgb.mean((1, 2, 3))).numpy()
        assert 0.69 < ratio.min() < 0.9
        assert ratio.max() <= 1.31
        assert (found[rgb == 0] == 0).all()

    def test_saturation_keeps_brightness_and_contrast_keeps_the_mean(self, cells):
        rgb = cells.permute(0, 3, 1, 2).float().div(255)
        weights = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
        saturated = self.augmented(cells, saturation=0.2)
        assert not torch.allclose(saturated, rgb)
        assert ((saturated * weights).sum(1) - (rgb * weights).sum(1)).abs().mean() < 0.01
        contrasted = self.augmented(cells, plain_contrast=0.1)
        grey = [(picture * weights).sum(1).mean() for picture in (contrasted, rgb)]
        assert abs(grey[0] - grey[1]) < 0.02

    def test_rotation_turns_about_the_middle_by_no_more_than_was_asked_for(self, cells):
        # A bar through the middle of a black cell: its angle can be measured.
        bar = np.zeros((32, 49, 49, 3), np.uint8)
        bar[:, 23:26, 4:45] = 255
        found = self.augmented(torch.from_numpy(bar), rotation_degrees=20.0)[:, 0].numpy()
        y, x = np.mgrid[-24:25, -24:25]
        angles = []
        for picture in found:
            mass = picture.sum()
            xx, yy, xy = ((picture * part).sum() / mass for part in (x * x, y * y, x * y))
            angles.append(np.degrees(0.5 * np.arctan2(2 * xy, xx - yy)))
        assert 12 < np.abs(angles).max() < 21
        assert min(angles) < -3 < 3 < max(angles)
