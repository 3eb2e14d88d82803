"""Fields with boxes: whole photographs in which people boxed the red cells and said what is in each.

A folder holds the photographs and an `annotations.json`: a list with, for each photograph,

    {"image": "PA171698.JPG", "patient": "7", "objects": [
        {"category": "ring", "x0": 211, "y0": 650, "x1": 302, "y1": 729}, ...]}

`patient` may be left out. Boxes are in pixels, `x0, y0` inclusive and `x1, y1` exclusive; what of a box lies
outside of its photograph is cut off. A box becomes a cell, exact and unmasked. What is neither a red cell nor a
parasite (white cells, platelets, what the reader found difficult) is left out, and that is said; a word that is
not known is an error, since nobody can tell which side it is on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.data.folders import usable_cores
from giemsa.data.index import PARASITIZED_NAMES, UNINFECTED_NAMES, CellIndex, LabelledCell, UnreadablePicture
from giemsa.errors import DataError, PictureError, SourceError
from giemsa.images import MAX_BYTES, decode, resize
from giemsa.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.verdicts import Label

ANNOTATIONS: Final = "annotations.json"
STAGES: Final = ("ring", "trophozoite", "schizont", "gametocyte")
RED_CELLS: Final = ("red blood cell", "rbc", "erythrocyte")
LEFT_OUT: Final = ("difficult", "white blood cell", "wbc", "leukocyte", "platelet", "artefact", "artifact")

_MAX_ANNOTATIONS: Final = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Box:
    """One boxed cell: its label, the reader's word for it, and `x0, y0, x1, y1` in pixels."""

    label: Label
    category: str
    corners: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class BoxedField:
    """One photograph with its boxes; `patient` is None where it is not known."""

    image: str
    patient: str | None
    boxes: tuple[Box, ...]


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
    """Tell whether a path is a folder of boxed fields, or the annotations in it."""
    return (place / ANNOTATIONS).is_file() if place.is_dir() else place.name == ANNOTATIONS and place.is_file()


def read_fields(place: Path, *, positive_class: str | None = None) -> BoxedFields:
    """Read the boxes of a folder; photographs are not opened yet.

    Parameters
    ----------
    place : Path
        The folder, or its `annotations.json`.
    positive_class : str, optional
        A further category that means parasitized.

    Raises
    ------
    SourceError
        If there are no annotations.
    DataError
        If they are damaged, have a category that is not known or a box without pixels, or name a field twice.
    """
    path = place / ANNOTATIONS if place.is_dir() else place
    content = _read_json(path)
    words = _words(positive_class)
    fields: list[BoxedField] = []
    skipped: Counter[str] = Counter()
    for number, entry in enumerate(content, start=1):
        where = f"{path}, field {number}"
        try:
            image, objects, patient = str(entry["image"]), list(entry["objects"]), entry.get("patient")
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where}: expected an object with image and objects, but {error!r}") from None
        if any(field.image == image for field in fields):
            raise DataError(f"{where}: {image} stands there twice; put its boxes into one entry")
        boxes = []
        for thing in objects:
            box = _read_box(thing, words, f"{where} ({image})")
            if box is None:
                skipped[_plain(str(thing["category"]))] += 1
            else:
                boxes.append(box)
        fields.append(BoxedField(image, None if patient in (None, "") else str(patient), tuple(boxes)))
    if not any(field.boxes for field in fields):
        raise DataError(f"{path}: no red cell is boxed in any of its {counted(len(fields), 'field')}")
    notes = [f"{counted(number, 'box')} of {word} left out" for word, number in skipped.items()]
    return BoxedFields(path.parent, tuple(fields), tuple(notes))


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
        cells.append(LabelledCell(name, box.label, field.patient, field.image, right - left, bottom - top, digest))
        pixels[row] = resize(cell, size_px)
    return cells, pixels


def _read_json(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > _MAX_ANNOTATIONS:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes; at most {_MAX_ANNOTATIONS:,} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}; expected a folder with {ANNOTATIONS}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON in UTF-8: {error}") from None
    if not isinstance(content, list) or not content:
        raise DataError(f"{path}: expected a list with an entry for each field, found {type(content).__name__}")
    return content


def _read_box(thing: Any, words: dict[str, Label | None], where: str) -> Box | None:  # noqa: ANN401  JSON
    try:
        category = str(thing["category"])
        corners = tuple(_whole(thing[name]) for name in ("x0", "y0", "x1", "y1"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: {thing!r} is no box with category, x0, y0, x1 and y1 in pixels ({error})") from None
    if _plain(category) not in words:
        known = ", ".join((*STAGES, RED_CELLS[0], *LEFT_OUT[:2]))
        raise DataError(
            f"{where}: the category {category!r} is not known; known are {known} and the like: rename it, or name it "
            "with --positive-class if it means parasitized"
        )
    x0, y0, x1, y1 = corners
    if x1 <= x0 or y1 <= y0:
        raise DataError(f"{where}: the box {x0},{y0},{x1},{y1} has no pixels; expected x0 < x1 and y0 < y1")
    label = words[_plain(category)]
    return None if label is None else Box(label, category, (x0, y0, x1, y1))


def _words(positive_class: str | None) -> dict[str, Label | None]:
    words: dict[str, Label | None] = {_plain(word): None for word in LEFT_OUT}
    words |= dict.fromkeys(map(_plain, (*RED_CELLS, *UNINFECTED_NAMES)), "uninfected")
    words |= dict.fromkeys(map(_plain, (*STAGES, *PARASITIZED_NAMES)), "parasitized")
    if positive_class is not None:
        words[_plain(positive_class)] = "parasitized"
    return words


def _whole(value: Any) -> int:  # noqa: ANN401  JSON
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def _plain(word: str) -> str:
    return " ".join(word.lower().replace("_", " ").replace("-", " ").split())
