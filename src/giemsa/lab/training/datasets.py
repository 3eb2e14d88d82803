"""From what a command is given (a folder, a split, label files) to what a training takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from giemsa.data.cache import open_cache
from giemsa.data.index import CellIndex, read_index
from giemsa.data.labels import LabelSets, read_label_sets
from giemsa.data.splits import Split, read_split
from giemsa.errors import DataError
from giemsa.lab.training.loop import TrainingData

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.lab.recipes import Recipe


@dataclass(frozen=True)
class LabelledData:
    """An index and its sets of labels."""

    index: CellIndex
    labels: LabelSets

    def describe(self) -> str:
        """Say in a sentence what is there."""
        patients = {cell.patient for cell in self.index.cells if cell.patient is not None}
        known = f"{len(patients)} patients" if patients else "patients not known"
        donors = len({cell.patient for cell, donor in zip(self.index.cells, self.labels.donor, strict=True) if donor})
        review = "no second reading"
        if self.labels.review_known:
            review = f"{int(self.labels.disputed.sum()):,} disputed labels"
        return (
            f"{len(self.index):,} cells, {int((self.labels.official == 1).sum()):,} of them parasitized; {known}, "
            f"{donors} of them donors; {review}."
        )


def read_labelled(
    folder: Path, *, reviewed: Path | None = None, donors: Path | None = None, positive_class: str | None = None
) -> LabelledData:
    """Read an index and its label sets; the errors are those of `read_index` and `read_label_sets`."""
    index = read_index(folder, positive_class=positive_class)
    return LabelledData(index, read_label_sets(index, reviewed=reviewed, donors=donors))


def training_data(
    recipe: Recipe,
    data: LabelledData,
    *,
    split: Path | None = None,
    fold: int | None = None,
    cache: Path | None = None,
    limit: int | None = None,
) -> TrainingData:
    """Choose the rows to train on and to validate on, and open their pixels.

    Parameters
    ----------
    recipe : Recipe
        Gives the input size and, for `limit`, the seed.
    data : LabelledData
        What there is.
    split : Path, optional
        A split file; without one the data's own `train/` and `valid/` folders are meant, and where there are none all
        cells are trained on and none validated.
    fold : int, optional
        Which fold of a split with folds is held back.
    cache : Path, optional
        Where decoded pixels are kept; the user's cache by default.
    limit : int, optional
        Train on so many cells only, drawn with the recipe's seed.

    Raises
    ------
    DataError
        If a fold is asked of a hold-out split or the other way round.
    """
    pixels = open_cache(data.index, recipe.input_size_px, directory=cache)
    rows: NDArray[np.intp] = np.arange(len(data.index))
    validation: NDArray[np.intp] = rows[:0]
    digest = part = ""
    if split is None:
        if fold is not None:
            raise DataError("--fold needs --split FILE: there is nothing to take a fold of")
        if any(cell.part == "train" for cell in data.index):
            rows, validation = (
                np.array([row for row, cell in enumerate(data.index) if cell.part == name], np.intp)
                for name in ("train", "validation")
            )
            part = "folders"
    else:
        given = read_split(split)
        rows, validation, part = _parts(given, data.index, fold)
        digest = given.digest
    if limit is not None and limit < len(rows):
        rows = np.sort(np.random.default_rng(recipe.training.seed).choice(rows, limit, replace=False))
    return TrainingData(data.index, data.labels, pixels, rows, validation, digest, part)


def _parts(split: Split, index: CellIndex, fold: int | None) -> tuple[NDArray[np.intp], NDArray[np.intp], str]:
    if split.n_folds:
        if fold is None:
            raise DataError(f"the split has {split.n_folds} folds: say which one is held back with --fold")
        train, validation = split.fold(index, fold)
        return train, validation, f"fold {fold}"
    if fold is not None:
        raise DataError("--fold is for splits with folds; this one is a hold-out")
    parts = split.parts(index)
    return parts["train"], parts.get("validation", parts["train"][:0]), "validation"
