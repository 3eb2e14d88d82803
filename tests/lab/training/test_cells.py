from __future__ import annotations

import numpy as np
import pytest

from giemsa.data.labels import LabelSets
from giemsa.errors import DataError
from giemsa.lab.recipes import LabelSettings
from giemsa.lab.training.cells import (
    CellDataset,
    SeededShuffle,
    choose_targets,
    judged_batch_size,
    ordered_loader,
    require_both_classes,
    training_loader,
)

# In order: confirmed and disputed cells of infected patients, then of donors.
OFFICIAL = np.array([1, 0, 1, 0, 0, 0], np.uint8)
REVIEWED = np.array([1, 0, 0, 1, 0, 1], np.int8)
DONOR = np.array([0, 0, 0, 0, 1, 1], bool)


@pytest.fixture
def labels():
    return LabelSets(OFFICIAL, REVIEWED, DONOR)


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({}, [1, 1, 0, 0, 1.5, 4]),
        ({"disputed": "official"}, [1, 1, 1, 1, 1.5, 4]),
        ({"donors": "leave-out"}, [1, 1, 0, 0, 0, 0]),
        ({"donors": "official"}, [1, 1, 0, 0, 1, 1]),
        ({"donor_weight": 2.0, "disputed_donor_weight": 7.0}, [1, 1, 0, 0, 2, 7]),
    ],
)
def test_what_counts_how_much_follows_from_the_recipe(labels, settings, weights):
    targets = choose_targets(labels, LabelSettings(**settings))
    assert targets.weight.tolist() == weights
    assert targets.positive.tolist() == [True, False, True, False, False, False]


def test_without_a_review_nothing_is_disputed():
    labels = LabelSets(OFFICIAL, np.full(6, -1, np.int8), np.zeros(6, bool))
    assert choose_targets(labels, LabelSettings()).weight.tolist() == [1] * 6


def test_a_part_without_a_class_is_refused(labels):
    targets = choose_targets(labels, LabelSettings())
    with pytest.raises(DataError, match="training cells are 0 parasitized and 1 uninfected"):
        require_both_classes(targets, np.array([1, 2, 3]), "training")
    require_both_classes(targets, np.array([0, 1]), "training")


def test_batches_hold_the_rows_that_were_asked_for_in_their_order(labels):
    pixels = np.arange(6 * 2 * 2 * 3, dtype=np.uint8).reshape(6, 2, 2, 3)
    cells, positive, weight, field = CellDataset(pixels, choose_targets(labels, LabelSettings()))[[5, 0, 3, 0]]
    assert (cells.numpy() == pixels[[5, 0, 3, 0]]).all()
    assert positive.tolist() == [0, 1, 0, 1]
    assert weight.tolist() == [4, 1, 0, 1]
    assert not field.any()  # none is known


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        shuffle = SeededShuffle(np.arange(50), seed)
        shuffle.set_epoch(epoch)
        return list(shuffle)

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert sorted(order(0, 3)) == list(range(50))


def test_an_epoch_is_made_of_full_batches_unless_there_is_only_one(labels):
    dataset = CellDataset(np.zeros((6, 2, 2, 3), np.uint8), choose_targets(labels, LabelSettings()))
    assert [len(batch[0]) for batch in training_loader(dataset, np.arange(5), 2, seed=0)] == [2, 2]
    assert [len(batch[0]) for batch in training_loader(dataset, np.arange(5), 16, seed=0)] == [5]
    assert [len(batch[0]) for batch in ordered_loader(dataset, np.arange(5), 724)] == [2, 2, 1]


def test_what_is_there_is_said_in_a_sentence(world):
    from giemsa.lab.training.datasets import read_labelled

    with_review = read_labelled(world.root, reviewed=world.reviewed)
    said = with_review.describe()
    assert said.startswith(f"{len(with_review.index):,} cells, ")
    assert said.endswith(f"; {int(with_review.labels.disputed.sum())} disputed labels.")
    assert read_labelled(world.root).describe().endswith("; no second reading.")


@pytest.mark.parametrize(("size_px", "cells"), [(64, 256), (128, 64), (224, 20), (5000, 1)])
def test_larger_cells_are_judged_fewer_at_once(size_px, cells):
    assert judged_batch_size(size_px) == cells
