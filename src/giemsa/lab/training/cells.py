"""Labelled cells as a training sees them: pixels, targets and weights.

What is trained on, as what and how strongly, is decided here, from the sets of labels and the recipe alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from giemsa.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from giemsa.data.labels import LabelSets
    from giemsa.lab.recipes import LabelSettings

Batch = tuple["Tensor", "Tensor", "Tensor", "Tensor"]
"""uint8 cells [N, S, S, 3], float32 targets [N] (1 for parasitized), float32 weights [N], and float32 [N, 3], the colour
of each cell's field (0 where it is not known)."""


@dataclass(frozen=True)
class Targets:
    """What each cell of an index counts as in training.

    Attributes
    ----------
    positive : (N,) ndarray of bool
        Whether the cell is trained on as parasitized.
    weight : (N,) ndarray of float32
        How much it counts; 0 for cells that are left out.
    """

    positive: NDArray[np.bool_]
    weight: NDArray[np.float32]


def choose_targets(labels: LabelSets, settings: LabelSettings) -> Targets:
    """Decide what each cell is trained on as.

    Parameters
    ----------
    labels : LabelSets
        Aligned with the index; where no review is known, no cell is disputed.
    settings : LabelSettings
        From the recipe.
    """
    positive = labels.official == 1
    weight = np.ones(len(positive), np.float32)
    disputed = labels.disputed
    donor = labels.donor
    if settings.disputed == "leave-out":
        weight[disputed & ~donor] = 0
    if settings.donors == "leave-out":
        weight[donor] = 0
    elif settings.donors == "negative":
        positive = positive & ~donor
        weight[donor] = settings.donor_weight
        weight[disputed & donor] = settings.disputed_donor_weight
    return Targets(positive, weight)


def require_both_classes(targets: Targets, chosen: NDArray[np.intp], what: str) -> None:
    """Refuse a part of the data in which a class is missing.

    Raises
    ------
    DataError
        If the chosen cells with a weight are all of one class, or none.
    """
    used = chosen[targets.weight[chosen] > 0]
    positive = int(targets.positive[used].sum())
    if positive == 0 or positive == len(used):
        raise DataError(
            f"the {what} cells are {positive} parasitized and {len(used) - positive} uninfected ones: both are needed"
        )


class CellDataset(Dataset[Batch]):
    """Batches of cells, straight out of the memory-mapped cache.

    Parameters
    ----------
    pixels : (N, S, S, 3) ndarray of uint8
        The cache.
    targets : Targets
        Aligned with the cache.
    field : (N, 3) ndarray of float32, optional
        The colour of each cell's field, aligned with the cache.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], targets: Targets, field: NDArray[np.float32] | None = None
    ) -> None:
        self._pixels = pixels
        self._field = torch.from_numpy(field if field is not None else np.zeros((len(pixels), 3), np.float32))
        self._positive = torch.from_numpy(targets.positive.astype(np.float32))
        self._weight = torch.from_numpy(targets.weight)

    def __getitem__(self, rows: list[int]) -> Batch:
        """Read the cells of these rows."""
        chosen = np.asarray(rows)
        order = np.sort(chosen)  # the disk is read forwards
        cells = np.empty((len(chosen), *self._pixels.shape[1:]), np.uint8)
        cells[np.argsort(chosen, kind="stable")] = self._pixels[order]
        index = torch.from_numpy(chosen)
        return torch.from_numpy(cells), self._positive[index], self._weight[index], self._field[index]


class SeededShuffle(Sampler[int]):
    """A new order each epoch, from the seed and the epoch's number alone, so that a resumed training goes on."""

    def __init__(self, rows: NDArray[np.intp], seed: int) -> None:
        self._rows = rows
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self._seed, self.epoch)).permutation(self._rows)
        return iter(order.tolist())

    def set_epoch(self, epoch: int) -> None:
        """Be told by the trainer which epoch comes."""
        self.epoch = epoch


def training_loader(dataset: CellDataset, rows: NDArray[np.intp], batch_size: int, seed: int) -> DataLoader[Batch]:
    """Shuffled batches; a last one that is not full is left for the next epoch, unless it is the only one."""
    batches = BatchSampler(SeededShuffle(rows, seed), batch_size, drop_last=len(rows) >= batch_size)
    return DataLoader(dataset, sampler=batches, batch_size=None)


def ordered_loader(dataset: CellDataset, rows: NDArray[np.intp], size_px: int) -> DataLoader[Batch]:
    """Batches in the given order, to be judged only."""
    batches = BatchSampler(rows.tolist(), judged_batch_size(size_px), drop_last=False)
    return DataLoader(dataset, sampler=batches, batch_size=None)


def judged_batch_size(size_px: int) -> int:
    """Count the cells of a side of `size_px` that are judged at once: as many pixels whatever the side.

    A network's first maps of 256 cells at 224 px would take gigabytes.
    """
    return max(1, 256 * 64**2 // size_px**2)
