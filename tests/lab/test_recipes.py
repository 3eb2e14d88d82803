from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from giemsa.errors import RecipeError
from giemsa.lab.recipes import all_keys, load_recipe, parse_overrides, parse_recipe, recipe_names


def test_every_recipe_that_comes_along_is_read_and_bears_the_name_of_its_file():
    assert "default" in recipe_names()
    for name in recipe_names():
        assert load_recipe(name).name == name


def test_a_recipe_written_out_in_full_is_read_back_as_the_same(tmp_path):
    recipe = load_recipe("default", {"training.epochs": 7, "network.widths": [8, 8], "network.blocks": [1, 2]})
    path = tmp_path / "copy.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert load_recipe(path).digest == recipe.digest


def test_the_digest_tells_recipes_apart():
    assert load_recipe("default").digest != load_recipe("default", {"training.seed": 1}).digest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"name": "x", "trainning": {}}, "unknown key 'trainning'"),
        ({"name": "x", "training": {"epoch": 3}}, "training.epochs"),
        ({"name": "x", "training": {"epochs": 0}}, "training.epochs = 0"),
        ({"name": "x", "training": {"epochs": "many"}}, "training.epochs = 'many'"),
        ({"name": "x", "network": {"widths": [4], "blocks": [1, 1]}}, "one number a stage"),
        ({"name": "x", "augmentation": {"noise": float("nan")}}, "augmentation.noise"),
        ({"name": "X y"}, "name = 'X y'"),
        ({}, "'name' is missing"),
    ],
)
def test_an_impossible_recipe_is_refused_in_one_sentence(content, said):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(content, "recipe.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("recipe.toml: ")
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_is_refused_with_the_nearest_names():
    with pytest.raises(RecipeError, match="nearest names are default"):
        load_recipe("defualt")


def test_what_is_not_toml_is_refused(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("name = ", encoding="utf-8")
    with pytest.raises(RecipeError, match="is not a TOML file"):
        load_recipe(path)
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "missing.toml")


def test_a_recipe_of_bytes_is_refused(tmp_path):
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="UTF-8"):
        load_recipe(path)


def test_overrides_are_toml_values_and_bare_words_are_text():
    found = parse_overrides(["training.epochs=3", "network.widths=[4, 8]", "labels.donors=official", "a = 1.5"])
    assert found == {"training.epochs": 3, "network.widths": [4, 8], "labels.donors": "official", "a": 1.5}


@pytest.mark.parametrize("bad", ["training.epochs", "=3", ""])
def test_an_override_that_is_no_assignment_is_refused(bad):
    with pytest.raises(RecipeError, match="KEY=VALUE"):
        parse_overrides([bad])


def test_an_override_below_a_value_is_refused():
    with pytest.raises(RecipeError, match="is a value and not a table"):
        load_recipe("default", {"name.more": 1})


def test_every_key_that_is_listed_can_be_set():
    for name in ("default", "two-block-cnn-64", "resnet50v2-frozen"):
        recipe = load_recipe(name)
        for key in all_keys(recipe.network.kind):
            value = recipe.model_dump()
            for part in key.split("."):
                value = None if value is None else value[part]
            if value is not None:
                assert load_recipe(name, {key: value}) == recipe, key


@given(st.text(alphabet="abcdefghij._", min_size=1, max_size=12))
def test_no_key_that_is_not_known_is_ever_ignored(key):
    if key in all_keys() or key in {known.split(".")[0] for known in all_keys()}:
        return
    with pytest.raises(RecipeError):
        load_recipe("default", {key: 1})
