"""Cells of annotated fields, cut out of their photographs.

The annotations are those of `giemsa.formats.boxed_fields`. A box becomes a cell, exact and unmasked; what of it lies
outside of its photograph is cut off. What is neither a red cell nor a parasite (white cells, platelets, what the
reader found difficult) is left out, and that is said.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.data.folders import usable_cores
from giemsa.data.index import CellIndex, LabelledCell, UnreadablePicture
from giemsa.errors import DataError, PictureError
from giemsa.formats.boxed_fields import find_annotations, plain, read_annotations
from giemsa.images import MAX_BYTES, decode, resize
from giemsa.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.verdicts import Label

_LABELS: Final[dict[str, Label]] = {"healthy": "uninfected", "infected": "parasitized"}


@dataclass(frozen=True, slots=True)
class Box:
    """One boxed cell: its label, the reader's word for it, and `x0, y0, x1, y1` in pixels."""

    label: Label
    category: str
    corners: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class BoxedField:
    """One photograph with its boxes; `patient` and `laboratory` are None where they are not known."""

    image: str
    patient: str | None
    boxes: tuple[Box, ...]
    laboratory: str | None = None


@dataclass(frozen=True, slots=True)
class BoxedFields:
    """All photographs of a folder, in the order of its annotations; `notes` say what is left out."""

    root: Path
    fields: tuple[BoxedField, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """Count the boxes."""
        return sum(len(field.boxes) for field in self.fields)


def holds_fields(place: Path) -> bool:
    """Whether a path is a folder of annotated fields, or the annotations in it."""
    return find_annotations(place) is not None


def read_fields(place: Path, *, positive_class: str | None = None) -> BoxedFields:
    """Boxed red cells of a folder; photographs are not opened yet.

    Parameters
    ----------
    place : Path
        The folder, or its annotations.
    positive_class : str, optional
        A further category that means parasitized.

    Raises
    ------
    SourceError
        If there are no annotations.
    DataError
        If they are damaged, have a category that is not known or no boxed red cell, or name a field twice.
    """
    fields: list[BoxedField] = []
    skipped: Counter[str] = Counter()
    for field in read_annotations(place, positive_class=positive_class):
        boxes = []
        for one in field.objects:
            if one.kind in _LABELS:
                boxes.append(Box(_LABELS[one.kind], one.category, one.corners))
            else:
                skipped[plain(one.category)] += 1
        fields.append(BoxedField(field.image, field.patient, tuple(boxes), field.laboratory))
    if not any(field.boxes for field in fields):
        raise DataError(
            f"{find_annotations(place) or place}: no red cell is boxed in any of its {counted(len(fields), 'field')}"
        )
    notes = [f"{counted(number, 'box')} of {word} left out" for word, number in skipped.items()]
    return BoxedFields(place if place.is_dir() else place.parent, tuple(fields), tuple(notes))


def cut_out(fields: BoxedFields, size_px: int) -> tuple[CellIndex, NDArray[np.uint8]]:
    """Cut the boxes out of their photographs.

    One photograph is decoded at a time for each core.

    Parameters
    ----------
    fields : BoxedFields
        From `read_fields`.
    size_px : int
        Side of the square to which each cell is resized.

    Returns
    -------
    index : CellIndex
        A cell is called `image#x0,y0,x1,y1`; its photograph is the field, its digest that of its pixels. Photographs
        that cannot be read are among `unreadable`, and their cells left out.
    pixels : (N, size_px, size_px, 3) ndarray of uint8
        RGB, aligned with the index.

    Raises
    ------
    DataError
        If a box lies outside of its photograph, or no photograph can be read.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = list(pool.map(lambda field: _cut_field(fields.root, field, size_px), fields.fields))
    unreadable = tuple(entry for entry in found if isinstance(entry, UnreadablePicture))
    readable = [entry for entry in found if not isinstance(entry, UnreadablePicture)]
    cells = [cell for part, _ in readable for cell in part]
    if not cells:
        first = f", such as {unreadable[0].file}: {unreadable[0].reason}" if unreadable else ""
        raise DataError(f"{fields.root}: none of its fields gives a cell{first}")
    notes = fields.notes
    if unreadable:
        notes += (
            f"{counted(len(unreadable), 'field')} unreadable and left out, such as {unreadable[0].file}: "
            f"{unreadable[0].reason}",
        )
    pixels = np.concatenate([part for _, part in readable if len(part)])
    return CellIndex(fields.root, tuple(cells), "boxed fields", unreadable, notes), pixels


def _cut_field(
    root: Path, field: BoxedField, size_px: int
) -> tuple[list[LabelledCell], NDArray[np.uint8]] | UnreadablePicture:
    path = root / field.image
    try:
        if path.stat().st_size > MAX_BYTES:
            return UnreadablePicture(
                field.image, f"{path.stat().st_size:,} bytes, more than the limit of {MAX_BYTES:,}"
            )
        photograph = decode(path.read_bytes())
    except OSError as error:
        return UnreadablePicture(field.image, (error.strerror or str(error)).lower())
    except PictureError as error:
        return UnreadablePicture(field.image, str(error))
    height, width = photograph.shape[:2]
    cells: list[LabelledCell] = []
    pixels = np.empty((len(field.boxes), size_px, size_px, 3), np.uint8)
    for row, box in enumerate(field.boxes):
        x0, y0, x1, y1 = box.corners
        left, top, right, bottom = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
        if right <= left or bottom <= top:
            raise DataError(
                f"{path}: the box {x0},{y0},{x1},{y1} lies outside of its {width} x {height} pixels; check that the "
                "annotations belong to this photograph"
            )
        cell = np.ascontiguousarray(photograph[top:bottom, left:right])
        digest = hashlib.sha256(f"{cell.shape}".encode() + cell.tobytes()).hexdigest()
        name = f"{field.image}#{x0},{y0},{x1},{y1}"
        size = right - left, bottom - top
        cells.append(
            LabelledCell(name, box.label, field.patient, field.image, *size, digest, laboratory=field.laboratory)
        )
        pixels[row] = resize(cell, size_px)
    return cells, pixels
