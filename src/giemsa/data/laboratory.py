"""A laboratory's own reviewed cells, in whatever form they come: class folders, CSV tables, fields with boxes.

All are brought into one index with pixels, and each cell gets a *unit*: its patient where patients are known, else its
field, else itself. Units are what is held back and resampled, since cells of one field share stain, light and camera.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from giemsa.data.cache import open_cache
from giemsa.data.fields import cut_out, holds_fields, read_fields
from giemsa.data.index import CellIndex, GroupKind, LabelledCell, UnreadablePicture, read_index
from giemsa.errors import DataError
from giemsa.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Laboratory:
    """Reviewed cells of one laboratory.

    Attributes
    ----------
    index : CellIndex
        The cells.
    pixels : (N, S, S, 3) ndarray of uint8
        RGB, aligned with the index.
    kind : str
        What the units are: `patients`, `fields` or `cells`.
    notes : tuple of str
        Sentences about what was left out or is not known.
    """

    index: CellIndex
    pixels: NDArray[np.uint8]
    kind: GroupKind
    notes: tuple[str, ...]

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Whether each cell is labelled parasitized."""
        return np.array([cell.label == "parasitized" for cell in self.index], np.bool_)

    @property
    def units(self) -> NDArray[np.str_]:
        """The group of each cell, of `kind`: what is held back and resampled."""
        return np.array([cell.group(self.kind) for cell in self.index])


def read_laboratory(
    places: Sequence[Path], size_px: int, *, positive_class: str | None = None, cache: Path | None = None
) -> Laboratory:
    """Read all that a laboratory has reviewed.

    Parameters
    ----------
    places : sequence of Path
        Folders of class folders, CSV tables with `file,label[,patient][,field]`, and folders of boxed fields.
    size_px : int
        Side of the square to which each cell is resized.
    positive_class : str, optional
        The class that means parasitized, where it has none of the known names.
    cache : Path, optional
        Where decoded cells are kept; the user's cache by default.

    Raises
    ------
    SourceError, DataError
        If one of them cannot be read, or one and the same cell has two labels.
    """
    indices: list[CellIndex] = []
    pixels: list[NDArray[np.uint8]] = []
    for place in places:
        if holds_fields(place):
            index, cells = cut_out(read_fields(place, positive_class=positive_class), size_px)
        else:
            index = read_index(place, positive_class=positive_class)
            cells = np.asarray(open_cache(index, size_px, directory=cache))
        indices.append(index)
        pixels.append(cells)
    joined = [
        _placed(cell, str(place), several=len(places) > 1)
        for place, index in zip(places, indices, strict=True)
        for cell in index
    ]
    chosen, repeated = _once_each(joined)
    notes = [note for index in indices for note in index.notes if not note.startswith("patients are not known")]
    if repeated:
        notes.append(f"{counted(repeated, 'cell')} given twice and counted once")
    kind = CellIndex(indices[0].root, tuple(joined), "several").group_kind
    if kind == "cells":
        notes.append(
            "neither patients nor fields are known: cells of one field may stand on both sides, so that the figures are"
            " too good; name them in a CSV table with the columns file,label,field"
        )
    unreadable: list[UnreadablePicture] = [picture for index in indices for picture in index.unreadable]
    whole = CellIndex(
        indices[0].root,
        tuple(joined[row] for row in chosen),
        indices[0].layout if len(indices) == 1 else "several",
        tuple(unreadable),
        tuple(notes),
    )
    return Laboratory(whole, np.concatenate(pixels)[chosen], kind, tuple(notes))


def _placed(cell: LabelledCell, place: str, *, several: bool) -> LabelledCell:
    """Keep names apart where there are several places; patients are the same people everywhere, fields are not."""
    if not several:
        return cell
    photograph = None if cell.photograph is None else f"{place}/{cell.photograph}"
    return replace(cell, file=f"{place}/{cell.file}", photograph=photograph)


def _once_each(cells: Sequence[LabelledCell]) -> tuple[NDArray[np.intp], int]:
    first: dict[str, int] = {}
    for row, cell in enumerate(cells):
        before = cells[first.setdefault(cell.sha256, row)]
        if before.label != cell.label:
            raise DataError(
                f"{before.file} and {cell.file} are the same picture, once {before.label} and once {cell.label}: "
                "correct one of them"
            )
    return np.array(sorted(first.values()), np.intp), len(cells) - len(first)
