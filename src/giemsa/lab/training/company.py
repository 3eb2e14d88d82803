"""What accompanies the labelled cells of a batch: cells of other laboratories, with and without a parasite, and no cells.

The labelled cells are of one laboratory and cut out onto black. Beside them stand, in each batch, red cells of other
laboratories as they lie in their fields: healthy ones, ones with the layer of a parasite of a labelled cell, and ones with
the layer of what only looks like one; and pictures that show no red cell. All are drawn anew for each batch, by the
recipe's seed, the epoch and the batch alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from giemsa.lab.networks.building import RelativeColour
from giemsa.lab.training.laboratories import LaboratoryCells
from giemsa.lab.training.not_cells import draw_not_cells
from giemsa.lab.training.transplant import Strengths, draw_precipitate, lay_down, lift_from_ground, lift_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from giemsa.data.index import CellIndex
    from giemsa.data.labels import LabelSets
    from giemsa.lab.recipes import LaboratorySettings
    from giemsa.lab.training.cells import Targets

DRAWN_POOL: Final = 2800
"""Drawn pictures of no cell from which batches draw."""
NOT_CELL_WEIGHT: Final = 0.05
"""Of what is no cell, in the loss of parasitized against uninfected: little, since a network that learns that all large
violet things are healthy calls other laboratories' late parasites so (0.5 left AUC on `bbbc041` at 0.76)."""
LOOK_ALIKE_WEIGHT: Final = 1.5
_LAYERS_LIFTED: Final = 4000
_SEVERAL: Final = (0.82, 0.14, 0.04)
"""How often a receiver gets one layer, two, three."""
_PLAIN: Final = Strengths(scale=0.25, vivax=0.0)
_OF_NOT_CELLS: Final = {"drawn": 0.3, "white cell": 0.2, "platelet": 0.2, "erythroblast": 0.05, "clump": 0.1,
                        "field": 0.1, "ground": 0.05}  # fmt: skip
UNSURE: Final = ("erythroblast",)
"""Neither shown as a red cell nor as none: a red cell that still has its nucleus."""


@dataclass(frozen=True)
class Companions:
    """What accompanies one batch.

    Attributes
    ----------
    cells : (M, S, S, 3) Tensor of uint8
        RGB.
    positive, weight : (M,) Tensor of float32
        Parasitized or not, and how much that counts.
    is_cell : (M,) Tensor of float32
        1 where one red cell is shown, 0 where none is; NaN where that is not said.
    field : (M, 3) Tensor of float32
        Colour of the typical cell of the field, 0 to 1; 0 where it is not known.
    """

    cells: Tensor
    positive: Tensor
    weight: Tensor
    is_cell: Tensor
    field: Tensor


class Company:
    """Draws companions.

    Parameters
    ----------
    settings : LaboratorySettings
        Of the recipe.
    pixels : (N, S, S, 3) ndarray of uint8
        The labelled cells.
    targets : Targets
        What these are trained on as.
    labels : LabelSets
        Aligned with them.
    used : (M,) ndarray of intp
        Those that are trained on; no others are looked at.
    laboratories : LaboratoryCells or None
        What there is of other laboratories.
    seed : int
        The recipe's.
    """

    def __init__(
        self,
        settings: LaboratorySettings,
        pixels: NDArray[np.uint8],
        targets: Targets,
        labels: LabelSets,
        used: NDArray[np.intp],
        laboratories: LaboratoryCells | None,
        seed: int,
    ) -> None:
        self.settings = settings
        self.seed = seed
        size = pixels.shape[1]
        rng = np.random.default_rng((seed, 11))
        rows = np.unique(used)
        self.parasites = lift(pixels, _some(rows[targets.positive[rows]], _LAYERS_LIFTED, rng))
        mistaken = lift(pixels, rows[(labels.donor & labels.disputed)[rows]])
        self.drawn, _ = draw_not_cells(DRAWN_POOL if settings.not_cells else 0, size, seed)
        self.laboratories = laboratories
        self.red: list[NDArray[np.intp]] = []
        self.field = np.zeros((0, 3), np.float32)
        platelets: list[NDArray[np.float32]] = []
        if laboratories is not None:
            red = laboratories.of("red cell")
            names = np.unique(laboratories.laboratory[red])
            self.red = [red[laboratories.laboratory[red] == name] for name in names]
            self.field = field_colours(laboratories.pixels, laboratories.photograph, known=red)
            platelets = lift_from_ground(laboratories.pixels[laboratories.of("platelet")])
        precipitate = draw_precipitate(200, size, rng)
        self.look_alikes = [layers for layers in (mistaken, platelets, precipitate) if layers]

    def draw(self, labelled: int, key: Sequence[int]) -> Companions | None:
        """Return what accompanies so many labelled cells; None where that is nothing.

        Parameters
        ----------
        labelled : int
            Cells of the batch.
        key : sequence of int
            The same key gives the same companions.
        """
        rng = np.random.default_rng(tuple(key))
        pictures: list[NDArray[np.uint8]] = []
        said: list[tuple[float, float, float]] = []
        field: list[NDArray[np.float32]] = []
        self._red_cells(round(labelled * self.settings.cells), rng, pictures, said, field)
        self._no_cells(round(labelled * self.settings.not_cells), rng, pictures, said, field)
        if not pictures:
            return None
        positive, weight, is_cell = (torch.tensor(column) for column in zip(*said, strict=True))
        return Companions(
            torch.from_numpy(np.stack(pictures)), positive, weight, is_cell, torch.from_numpy(np.stack(field))
        )

    def _red_cells(
        self,
        count: int,
        rng: np.random.Generator,
        pictures: list[NDArray[np.uint8]],
        said: list[tuple[float, float, float]],
        field: list[NDArray[np.float32]],
    ) -> None:
        if self.laboratories is None or not self.red:
            return
        for number in range(count):
            rows = self.red[number % len(self.red)]  # laboratories take turns, however many cells each has
            row = int(rows[rng.integers(len(rows))])
            picture = self.laboratories.pixels[row]
            how = rng.random()
            positive, weight = 0.0, 1.0
            if how < self.settings.transplanted and self.parasites:
                several = 1 + int(rng.choice(3, p=_SEVERAL))
                layers = [self.parasites[int(rng.integers(len(self.parasites)))] for _ in range(several)]
                picture = lay_down(picture, layers, rng)
                positive = 1.0
            elif how < self.settings.transplanted + self.settings.look_alikes and self.look_alikes:
                kind = self.look_alikes[int(rng.integers(len(self.look_alikes)))]
                picture = lay_down(picture, [kind[int(rng.integers(len(kind)))]], rng, _PLAIN)
                weight = LOOK_ALIKE_WEIGHT
            pictures.append(picture)
            said.append((positive, weight, 1.0))
            field.append(self.field[row])

    def _no_cells(
        self,
        count: int,
        rng: np.random.Generator,
        pictures: list[NDArray[np.uint8]],
        said: list[tuple[float, float, float]],
        field: list[NDArray[np.float32]],
    ) -> None:
        shares = {
            kind: share for kind, share in _OF_NOT_CELLS.items()
            if kind == "drawn" or (self.laboratories is not None and len(self.laboratories.of(kind)))
        }  # fmt: skip
        weights = np.array(list(shares.values()))
        for kind in rng.choice(list(shares), count, p=weights / weights.sum()) if count else ():
            if kind == "drawn":
                picture, colour = self.drawn[int(rng.integers(len(self.drawn)))], np.zeros(3, np.float32)
            else:
                assert self.laboratories is not None
                rows = self.laboratories.of(str(kind))
                row = int(rows[rng.integers(len(rows))])
                picture, colour = self.laboratories.pixels[row], self.field[row]
            pictures.append(picture)
            said.append((0.0, NOT_CELL_WEIGHT, float("nan") if kind in UNSURE else 0.0))
            field.append(colour)


def lift(pixels: NDArray[np.uint8], rows: NDArray[np.intp]) -> list[NDArray[np.float32]]:
    """Return the layers of these cells."""
    if not len(rows):
        return []
    cells = np.stack([pixels[row] for row in rows])
    return lift_layers(cells, own_colours(cells))


def own_colours(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return each cell's prevailing colour, float32 [N, 3], 0 to 1."""
    found = [np.zeros((0, 3), np.float32)]
    colour = RelativeColour()
    for start in range(0, len(pixels), 512):
        cells = torch.from_numpy(np.array(pixels[start : start + 512])).permute(0, 3, 1, 2).float().div(255)
        found.append(colour.reference(cells)[:, :, 0, 0].numpy())
    return np.concatenate(found)


def field_colours(
    pixels: NDArray[np.uint8], photograph: NDArray[np.str_], *, known: NDArray[np.intp] | None = None
) -> NDArray[np.float32]:
    """Return the colour of the typical cell of each picture's photograph: the median of its cells' own.

    Parameters
    ----------
    pixels : (N, S, S, 3) ndarray of uint8
        RGB.
    photograph : (N,) ndarray of str
        Empty where it is not known.
    known : (M,) ndarray of intp, optional
        Rows of red cells; all by default.

    Returns
    -------
    (N, 3) ndarray of float32
        0 where the photograph, or a red cell of it, is not known.
    """
    rows = np.arange(len(pixels)) if known is None else known
    own = own_colours(pixels if known is None else pixels[rows])
    colours = np.zeros((len(pixels), 3), np.float32)
    names, place = np.unique(photograph, return_inverse=True)
    order = np.argsort(place[rows], kind="stable")
    bounds = np.searchsorted(place[rows][order], np.arange(len(names) + 1))
    medians = np.zeros((len(names), 3), np.float32)
    for number, name in enumerate(names):
        of_it = order[bounds[number] : bounds[number + 1]]
        if name and len(of_it):
            medians[number] = np.median(own[of_it], 0)
    colours[:] = medians[place]
    return colours


def photographs_of(index: CellIndex) -> NDArray[np.str_]:
    """Return the name of each cell's photograph; empty where it is not known."""
    return np.array([f"{cell.patient} {cell.photograph}" if cell.photograph else "" for cell in index.cells])


def _some(rows: NDArray[np.intp], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return np.sort(rng.choice(rows, most, replace=False)) if len(rows) > most else rows


