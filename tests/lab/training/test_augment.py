from __future__ import annotations

import numpy as np
import pytest
import torch

from giemsa.lab.recipes import AugmentationSettings
from giemsa.lab.training.augment import Augment, cell_mask

NOTHING = dict.fromkeys(AugmentationSettings.model_fields, 0.0) | {"start": "giemsa", "quarter_turns": True}


def augment(cells, labels=None, seed=0, **settings):
    labels = torch.zeros(len(cells)) if labels is None else labels
    return Augment(AugmentationSettings(**(NOTHING | settings)))(cells, labels, torch.Generator().manual_seed(seed))


@pytest.fixture
def cells(draw_cell):
    drawn = [draw_cell(number % 2 == 0, size=(64, 64), seed=number) for number in range(24)]
    return torch.from_numpy(np.stack(drawn))


def as_pixels(rgb):
    return (rgb.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)


def test_with_everything_switched_off_a_cell_is_only_flipped_and_turned_exactly(cells):
    found = as_pixels(augment(cells))
    ways = [torch.rot90(flip, turn, (1, 2)) for flip in (cells, cells.flip(2)) for turn in range(4)]
    for number in range(len(cells)):
        assert any(torch.equal(found[number], way[number]) for way in ways)


def test_all_eight_ways_to_lay_a_cell_occur(cells):
    one = cells[:1].repeat(200, 1, 1, 1)
    assert len({bytes(picture.numpy()) for picture in as_pixels(augment(one))}) == 8


def test_the_same_generator_gives_the_same_cells(cells):
    settings = AugmentationSettings().model_dump()
    first, again, other = (augment(cells, seed=seed, **settings) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_disturbed_cells_stay_finite_and_in_range(cells):
    strong = AugmentationSettings().model_dump() | {"stain": 1.0, "contrast": 1.0, "light": 1.0, "noise": 0.5}
    for seed in range(5):
        found = augment(cells, seed=seed, **strong)
        assert found.isfinite().all()
        assert found.min() >= 0
        assert found.max() <= 1


def test_clean_cells_are_left_as_they_are_but_for_their_place(cells):
    found = augment(
        cells, **(AugmentationSettings().model_dump() | {"clean_probability": 1.0, "affine_probability": 0.0})
    )
    for before, after in zip(cells, as_pixels(found), strict=True):
        assert torch.equal(before.flatten().sort()[0], after.flatten().sort()[0])


def test_the_black_is_replaced_as_often_as_the_recipe_says(cells):
    many = cells.repeat(40, 1, 1, 1)
    found = augment(many, background_probability=0.5)
    corner = found[:, :, 0, 0].amax(1) > 8 / 255
    assert 0.4 < corner.float().mean() < 0.6


def test_in_a_drawn_smear_the_ground_is_bright_and_the_cell_is_still_there(cells):
    found = augment(cells, background_probability=1.0, smear_probability=1.0)
    assert found[:, :, :3, :3].amax((1, 2, 3)).median() > 0.7
    before, after = cells[:, 28:36, 28:36].float().mean((0, 1, 2)) / 255, found[:, :, 28:36, 28:36].mean((0, 2, 3))
    assert torch.allclose(before, after, atol=0.1)


def test_neighbours_are_uninfected_cells_only(draw_cell):
    plain = torch.from_numpy(np.stack([draw_cell(size=(64, 64), seed=seed) for seed in range(24)]))
    chequered = torch.zeros_like(plain)
    chequered[:, ::2, :, 1] = 255
    chequered[:, 1::2, :, 0] = chequered[:, 1::2, :, 2] = 255
    both, labels = torch.cat([plain, chequered]), torch.cat([torch.zeros(24), torch.ones(24)])

    def green_beside(labels):
        found = augment(both, labels, background_probability=1.0, smear_probability=1.0)[:24]
        return (found[:, 1] - found[:, 0] > 0.3).any()

    assert not green_beside(labels)
    assert green_beside(1 - labels)


def test_without_an_uninfected_cell_in_the_batch_the_smear_is_empty(cells):
    found = augment(cells, torch.ones(len(cells)), background_probability=1.0, smear_probability=1.0)
    assert found[:, :, :3, :3].amin() > 0.5


def test_stain_changes_the_cell_and_leaves_the_black_black(cells):
    found = augment(cells, stain=0.3, stain_probability=1.0, contrast=0.3)
    outside = cell_mask(found) == 0
    assert outside.float().mean() > 0.1
    assert (found * outside).max() < 8 / 255
    colours = found[:, :, 28:36, 28:36].mean((2, 3))
    assert colours.std(0).min() > 0.02


@pytest.mark.parametrize("strength", ["pallor", "rim", "mottle", "blotch", "light", "focus", "noise"])
def test_each_strength_changes_cells_by_itself(cells, strength):
    beside = {"stain": 1e-6, "stain_probability": 1.0}
    without, with_it = (augment(cells, **beside, **more) for more in ({}, {strength: 0.5}))
    assert (without - with_it).abs().amax((1, 2, 3)).gt(0.01).float().mean() > 0.2
