"""Annotated fields: photographs in which people said what is where, in `annotations.json` beside them.

A list with an entry for each photograph:

    {"image": "PA171698.JPG", "patient": "7", "slide": "7-2", "laboratory": "Lahore", "objects": [
        {"category": "ring", "x0": 211, "y0": 650, "x1": 302, "y1": 729}, ...]}

`objects` are boxes in whole pixels, `x0, y0` inclusive and `x1, y1` exclusive. `points` (`category, x, y`) mark the
middles of cells, and `middle` names what stands in the middle of the photograph; where there are only these, not every
cell is labelled. `patient`, `slide`, `laboratory`, `width` and `height` may be left out.

`cells.json` is the list of a sample: `{"image": ..., "cells": [{"label": ..., "x0": ..., ...}]}`. A cell that it does
not name is not thereby healthy.

Words are compared without case, hyphens and underscores. A word that is not known is an error, since nobody can tell
which side it is on: everything that reads annotations, `giemsa adapt` and `giemsa smear calibrate` alike, reads them
here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from giemsa.errors import DataError, SourceError
from giemsa.formats.class_names import PARASITIZED_NAMES, UNINFECTED_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ANNOTATIONS: Final = "annotations.json"
SAMPLE: Final = "cells.json"

Kind = Literal["healthy", "infected", "white cell", "platelet", "erythroblast", "artefact", "difficult"]
"""What a labelled object is: a red cell without or with a parasite, or something else."""

STAGES: Final = ("ring", "trophozoite", "schizont", "gametocyte")
_WORDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "healthy": (
        "red blood cell", "red cell", "rbc", "erythrocyte", "healthy red cell", *UNINFECTED_NAMES,
        # Shapes and sizes of red cells without a parasite.
        "normal cell", "macrocyte", "microcyte", "spherocyte", "target cell", "stomatocyte", "ovalocyte", "elliptocyte",
        "teardrop", "burr cell", "schistocyte", "hypochromia",
    ),
    "infected": (*STAGES, "infected red cell", *PARASITIZED_NAMES),
    "white cell": ("white blood cell", "white cell", "wbc", "leukocyte", "leucocyte"),
    "platelet": ("platelet", "thrombocyte"),
    "erythroblast": ("erythroblast", "nucleated red cell"),
    "artefact": ("artefact", "artifact", "precipitate", "debris"),
    "difficult": ("difficult", "uncategorised", "uncategorized"),
}  # fmt: skip
_KIND_OF: Final[Mapping[str, Kind]] = {word: kind for kind, words in _WORDS.items() for word in words}
_MAX_BYTES: Final = 256 * 2**20


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """Something that a person labelled in a photograph.

    Attributes
    ----------
    kind : str
        What it is.
    category : str
        The reader's own word for it.
    x0, y0, x1, y1 : int
        Its box in pixels, ends exclusive; of a point, the pixel.
    stage : str
        Of a parasite, one of `STAGES` where it was told; else empty.
    """

    kind: Kind
    category: str
    x0: int
    y0: int
    x1: int
    y1: int
    stage: str = ""

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """`x0, y0, x1, y1`."""
        return self.x0, self.y0, self.x1, self.y1


@dataclass(frozen=True, slots=True)
class LabelledField:
    """A photograph with what people labelled in it.

    Attributes
    ----------
    image : str
        Its file, relative to the annotations.
    objects, points : tuple of LabelledObject
        Boxes; cells of which only the middle is marked.
    middle : str or None
        The kind of what stands in the middle of the photograph, where the annotations name it.
    complete : bool
        Whether every cell was to be labelled, so that what is without a label is no infected cell.
    patient, slide, laboratory : str or None
        None where the annotations do not name them.
    width, height : int or None
        In pixels, likewise.
    """

    image: str
    objects: tuple[LabelledObject, ...] = ()
    points: tuple[LabelledObject, ...] = ()
    middle: Kind | None = None
    complete: bool = True
    patient: str | None = None
    slide: str | None = None
    laboratory: str | None = None
    width: int | None = None
    height: int | None = None


def find_annotations(place: Path) -> Path | None:
    """Annotations in a folder, or the file itself where it is called as annotations are; None where there are none."""
    if place.is_dir():
        return next((path for name in (ANNOTATIONS, SAMPLE) if (path := place / name).is_file()), None)
    return place if place.name in (ANNOTATIONS, SAMPLE) and place.is_file() else None


def read_annotations(place: Path, *, positive_class: str | None = None) -> list[LabelledField]:
    """Labelled fields of a folder or of a file of annotations, in its order.

    Parameters
    ----------
    place : Path
        A folder with `annotations.json` or `cells.json` in it, or such a file under any name.
    positive_class : str, optional
        A further category that means infected.

    Raises
    ------
    SourceError
        If there are no annotations.
    DataError
        If they are damaged, have a category that is not known, a box without pixels, or a photograph twice.
    """
    path = (find_annotations(place) or place / ANNOTATIONS) if place.is_dir() else place
    kinds = dict(_KIND_OF)
    if positive_class is not None:
        kinds[plain(positive_class)] = "infected"
    fields: list[LabelledField] = []
    seen: set[str] = set()
    for number, entry in enumerate(_read_list(path), start=1):
        where = f"{path}, field {number}"
        field = _read_field(entry, kinds, where)
        if field.image in seen:
            raise DataError(f"{where}: {field.image} stands there twice; put its boxes into one entry")
        seen.add(field.image)
        fields.append(field)
    return fields


def write_annotations(path: Path, fields: list[LabelledField]) -> Path:
    """Write complete fields with boxes as `read_annotations` reads them."""
    from giemsa.files import write_file

    content = [
        {
            "image": field.image,
            **{
                name: value
                for name in ("patient", "slide", "laboratory", "width", "height")
                if (value := getattr(field, name)) is not None
            },
            "objects": [
                {"category": one.category, "x0": one.x0, "y0": one.y0, "x1": one.x1, "y1": one.y1}
                for one in field.objects
            ],
        }
        for field in fields
    ]
    return write_file(path, json.dumps(content, indent=1) + "\n")


def plain(word: str) -> str:
    """Spell a category without case, hyphens and underscores."""
    return " ".join(word.lower().replace("_", " ").replace("-", " ").split())


def _read_list(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes; at most {_MAX_BYTES:,} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}; expected a folder with {ANNOTATIONS}") from None
    except ValueError as error:
        raise DataError(f"{path} is no JSON in UTF-8: {error}; expected annotations of fields") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply to be annotations of fields") from None
    if not isinstance(content, list) or not content:
        found = "an empty list" if content == [] else type(content).__name__
        raise DataError(f"{path}: expected a list with an entry for each field, found {found}")
    return content


def _read_field(entry: Any, kinds: Mapping[str, Kind], where: str) -> LabelledField:  # noqa: ANN401  JSON
    if not isinstance(entry, dict) or not isinstance(image := entry.get("image"), str) or not image:
        raise DataError(f"{where}: expected an object with image and objects, found {str(entry)[:60]}")
    if not any(key in entry for key in ("objects", "points", "middle", "cells")):
        raise DataError(f"{where} ({image}): expected image and objects, points or middle, found {sorted(entry)}")
    where = f"{where} ({image})"
    middle = entry.get("middle")
    return LabelledField(
        image,
        objects=(
            *(_read_box(one, kinds, where) for one in _list(entry, "objects", where)),
            *(_read_box(_sampled(one), kinds, where) for one in _list(entry, "cells", where)),
        ),
        points=tuple(_read_point(one, kinds, where) for one in _list(entry, "points", where)),
        middle=None if middle is None else _kind(str(middle), kinds, where),
        complete="objects" in entry,
        patient=_name(entry, "patient"),
        slide=_name(entry, "slide"),
        laboratory=_name(entry, "laboratory"),
        width=_length(entry, "width", where),
        height=_length(entry, "height", where),
    )


def _list(entry: dict[str, Any], key: str, where: str) -> list[Any]:
    found = entry.get(key, [])
    if not isinstance(found, list):
        raise DataError(f"{where}: {key} is {type(found).__name__}; expected a list")
    return found


def _sampled(one: Any) -> Any:  # noqa: ANN401  JSON
    return one | {"category": one.get("label")} if isinstance(one, dict) else one


def _read_box(thing: Any, kinds: Mapping[str, Kind], where: str) -> LabelledObject:  # noqa: ANN401  JSON
    try:
        category = str(thing["category"])
        x0, y0, x1, y1 = (_whole(thing[name]) for name in ("x0", "y0", "x1", "y1"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: {thing!r} is no box with category, x0, y0, x1 and y1 in pixels ({error})") from None
    kind = _kind(category, kinds, where)
    if x1 <= x0 or y1 <= y0:
        raise DataError(f"{where}: the box {x0},{y0},{x1},{y1} has no pixels; expected x0 < x1 and y0 < y1")
    return LabelledObject(kind, category, x0, y0, x1, y1, _stage(category))


def _read_point(thing: Any, kinds: Mapping[str, Kind], where: str) -> LabelledObject:  # noqa: ANN401  JSON
    try:
        category = str(thing["category"])
        x, y = (_whole(thing[name]) for name in ("x", "y"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: {thing!r} is no point with category, x and y in pixels ({error})") from None
    return LabelledObject(_kind(category, kinds, where), category, x, y, x + 1, y + 1, _stage(category))


def _kind(category: str, kinds: Mapping[str, Kind], where: str) -> Kind:
    kind = kinds.get(plain(category))
    if kind is None:
        known = ", ".join((*STAGES, "red blood cell", "white blood cell", "platelet", "artefact", "difficult"))
        raise DataError(
            f"{where}: the category {category!r} is not known; known are {known} and the like: rename it, or name it "
            "with --positive-class if it means parasitized"
        )
    return kind


def _stage(category: str) -> str:
    return word if (word := plain(category)) in STAGES else ""


def _name(entry: dict[str, Any], key: str) -> str | None:
    value = entry.get(key)
    return None if value in (None, "") else str(value)


def _length(entry: dict[str, Any], key: str, where: str) -> int | None:
    if (value := entry.get(key)) is None:
        return None
    try:
        return _whole(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: {key} is no number of pixels ({error})") from None


def _whole(value: Any) -> int:  # noqa: ANN401  JSON
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)
