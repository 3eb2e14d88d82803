"""A small world to train in: drawn cells of a few invented patients, and a recipe that takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class World:
    """A tree in the official layout, and a second reading of it."""

    root: Path
    reviewed: Path


QUICK = {
    "input_size_px": 32,
    "network.stem_width": 4,
    "network.widths": [4, 8],
    "network.blocks": [1, 1],
    "training.epochs": 3,
    "training.batch_size": 16,
    "training.ema_decay": 0.9,
    "training.precision": "32-true",
    "optimiser.learning_rate": 0.01,
    "augmentation.stain_probability": 0.3,
}


@pytest.fixture(scope="session")
def world(tmp_path_factory, draw_cell, encode):
    """Six patients with parasites and four donors, twenty cells each; three disputed cells and one of a donor's."""
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    rows = []
    for patient in range(10):
        donor = patient >= 6
        for number in range(20):
            parasitized = not donor and number % 2 == 0
            folder = root / "cells" / ("Parasitized" if parasitized else "Uninfected")
            folder.mkdir(parents=True, exist_ok=True)
            whose = f"C{patient}NThinF" if donor else f"C{patient}P{patient}ThinF"
            name = f"{whose}_IMG_20200101_120000_cell_{number}.png"
            pixels = draw_cell(parasitized, size=(44, 46), seed=int(rng.integers(1 << 30)))
            (folder / name).write_bytes(encode(pixels))
            disputed = (patient, number) in {(0, 0), (1, 1), (2, 2), (7, 3)}
            official = "parasitized" if parasitized else "uninfected"
            other = "uninfected" if parasitized else "parasitized"
            rows.append(f"{name},{official},{other if disputed else official}\n")
    reviewed = root / "reviewed.csv"
    reviewed.write_text("file,official,reviewed\n" + "".join(rows), encoding="utf-8")
    return World(root / "cells", reviewed)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep the user's cache out of the tests."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def quick_recipe():
    """The default recipe, made small."""
    from giemsa.lab.recipes import load_recipe

    return load_recipe("default", QUICK)


@pytest.fixture(scope="session")
def labelled(world):
    """The world's index and label sets."""
    from giemsa.lab.training.datasets import read_labelled

    return read_labelled(world.root, reviewed=world.reviewed)


@pytest.fixture(scope="session")
def half(labelled, quick_recipe):
    """Training data: three quarters of the patients to train on, the rest to validate."""
    from dataclasses import replace

    from giemsa.data.splits import make_split
    from giemsa.lab.training.datasets import training_data

    split = make_split(labelled.index, labelled.labels, validation=0.25, seed=1)
    parts = split.parts(labelled.index)
    everything = training_data(quick_recipe, labelled)
    return replace(
        everything,
        train=parts["train"],
        validation=parts["validation"],
        split_digest=split.digest,
        split_part="validation",
    )


@pytest.fixture(scope="session")
def trained(half, quick_recipe, tmp_path_factory):
    """A complete run."""
    from giemsa.lab.training.loop import train

    return train(quick_recipe, half, tmp_path_factory.mktemp("runs") / "quick", command="test", threads=1)
