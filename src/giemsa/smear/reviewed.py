"""Reviewed fields, for `giemsa smear calibrate`: photographs with every infected cell labelled, or decided-on smears.

- Annotated fields (`giemsa.formats.boxed_fields`), every infected cell of which is boxed. A found cell that no infected
  box covers is healthy; boxes of white cells, platelets, artefacts and what the reader found difficult are passed over.
- The output folder of a smear with a `decisions.json` in it: the fields that it names as complete.

Each slide is judged against its own healthy cells. In annotations fields name their slide or patient; those of a file
that name neither are one slide, and so is an output folder.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.errors import DataError
from giemsa.formats.boxed_fields import find_annotations, read_annotations
from giemsa.smear.decisions import read_decisions
from giemsa.smear.pipeline import judge_fields, slide_of
from giemsa.smear.site import LabelledField
from giemsa.smear.store import SmearFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from giemsa.formats.boxed_fields import LabelledObject
    from giemsa.smear.reading import SmearReader
    from giemsa.smear.results import JudgedField, ReadField

_EXPECTED: Final = "expected a file of annotations or the output folder of `giemsa smear` with decisions.json in it"
_SAME: Final = 0.4  # intersection over union from which a box is a cell's label


def read_reviewed(paths: Iterable[str | os.PathLike[str]], reader: SmearReader) -> list[LabelledField]:
    """Read reviewed fields and match their labels with the cells found in them.

    Fields that should not be judged are left out.

    Raises
    ------
    DataError
        If one is neither annotations nor a smear with decisions, or names a photograph that is not there.
    """
    fields: list[LabelledField] = []
    for given in paths:
        path = Path(given)
        if not os.path.lexists(path):  # of names that no system takes, too
            raise DataError(f"there is no file or folder {path}; {_EXPECTED}")
        if path.is_dir() and (path / "fields.jsonl").is_file():
            fields += _of_smear(path, reader)
        elif path.is_dir() and (annotations := find_annotations(path)) is not None:
            fields += _of_annotations(annotations, reader)
        elif path.is_file():
            fields += _of_annotations(path, reader)
        else:
            raise DataError(f"{path} holds no reviewed fields; {_EXPECTED}")
    return fields


def labelled(
    judged: JudgedField, objects: Sequence[LabelledObject], *, slide: str = "", patient: str = ""
) -> LabelledField:
    """Match a field's cells with what people labelled in it.

    Parameters
    ----------
    judged : JudgedField
        The field.
    objects : sequence of LabelledObject
        Boxes; those of anything but red cells are passed over.
    slide, patient : str
        Where the field comes from; empty where that is not known.
    """
    boxes = np.array([[c.x0, c.y0, c.x1, c.y1] for c in judged.cells], float).reshape(-1, 4)
    kept = [one for one in objects if one.kind in ("healthy", "infected")]
    labels = np.array([one.corners for one in kept], float).reshape(-1, 4)
    sick = np.array([one.kind == "infected" for one in kept], bool)
    infected = np.zeros(len(boxes), bool)
    found = np.zeros(len(labels), bool)
    for cell, label in matched(boxes, labels, _SAME):
        infected[cell] = sick[label]
        found[label] = True
    whole = _whole(labels, judged.read)
    return LabelledField(
        judged.read.field,
        np.array([c.relative_logit for c in judged.cells], float),
        infected,
        missed_infected=int((sick & ~found & whole).sum()),
        missed_healthy=int((~sick & ~found & whole).sum()),
        slide=slide,
        patient=patient,
    )


def matched(boxes: NDArray[np.float64], labels: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Pair boxes with labels one to one, those that overlap most first.

    Parameters
    ----------
    boxes, labels : ndarray
        float64 [N, 4] and [M, 4]: x0, y0, x1, y1.
    least : float
        Intersection over union from which two are paired.
    """
    if not len(boxes) or not len(labels):
        return []
    overlap = intersection_over_union(boxes, labels)
    pairs = []
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        box, label = divmod(int(place), len(labels))
        if overlap[box, label] < least:
            break
        pairs.append((box, label))
    used_boxes: set[int] = set()
    used_labels: set[int] = set()
    kept = []
    for box, label in pairs:
        if box not in used_boxes and label not in used_labels:
            used_boxes.add(box)
            used_labels.add(label)
            kept.append((box, label))
    return kept


def intersection_over_union(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of every box with every other, float64 [N, M]."""
    low = np.maximum(first[:, np.newaxis, :2], second[np.newaxis, :, :2])
    high = np.minimum(first[:, np.newaxis, 2:], second[np.newaxis, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return np.asarray(both / (areas[0][:, np.newaxis] + areas[1] - both))


def _whole(labels: NDArray[np.float64], read: ReadField) -> NDArray[np.bool_]:
    """Which labelled cells the border does not cut."""
    x0, y0, x1, y1 = labels.T
    return np.asarray((x0 > 4) & (y0 > 4) & (x1 < read.width - 4) & (y1 < read.height - 4))


def _of_annotations(path: Path, reader: SmearReader) -> Iterator[LabelledField]:
    annotations = {field.image: field for field in read_annotations(path)}
    for name, field in annotations.items():
        if not field.complete:
            raise DataError(
                f"{path} labels only some of the cells of {name}, so that its other cells are not known to be healthy; "
                "calibrate on fields in which every infected cell is boxed"
            )
        if not (path.parent / name).is_file():
            raise DataError(f"{path} names the photograph {name}, which is not beside it")
    laboratories = sorted({field.laboratory for field in annotations.values() if field.laboratory})
    if len(laboratories) > 1:
        raise DataError(
            f"{path} has fields of {len(laboratories)} laboratories ({', '.join(laboratories)}); rates of one do not hold in "
            "another, so calibrate each on its own fields"
        )
    reads = map(_lighter, reader.read_fields(path.parent / name for name in annotations))
    slides: dict[tuple[str, str], list[tuple[ReadField, Sequence[LabelledObject]]]] = defaultdict(list)
    for field, read in zip(annotations.values(), reads, strict=True):
        slides[field.patient or "", field.slide or ""].append((read, field.objects))
    for (patient, slide), fields in slides.items():
        own = [read for read, _ in fields]
        for judged, (_, objects) in zip(judge_fields(own, slide_of(own), np.inf, {}), fields, strict=True):
            if not judged.read.refusal:
                yield labelled(judged, objects, slide=slide, patient=patient)


def _of_smear(folder: Path, reader: SmearReader) -> Iterator[LabelledField]:
    if not (folder / "decisions.json").is_file():
        raise DataError(f"the smear {folder} has no decisions.json; put the file that its report saved there")
    decisions = read_decisions(folder / "decisions.json")
    if not decisions.complete_fields:
        raise DataError(f"{folder / 'decisions.json'} names no field in which every cell was looked at; tick that in the "
                        "report for the fields where it is so")  # fmt: skip
    smear = SmearFolder(folder)
    if smear.header().get("model_sha256") != reader.model.digest:
        raise DataError(f"the smear {folder} was read with another model than {reader.model.path}; read it again")
    decisions = decisions.named_as(smear.names())
    patient = smear.patient()
    for judged in judge_fields(smear, slide_of(smear), np.inf, decisions.cells):
        if judged.read.field in decisions.complete_fields and not judged.read.refusal:
            yield LabelledField(
                judged.read.field,
                np.array([c.relative_logit for c in judged.cells], float),
                np.array([c.decision == "confirmed" for c in judged.cells], bool),
                slide=folder.resolve().name,
                patient=patient,
            )


def _lighter(read: ReadField) -> ReadField:
    """The field without its pictures, which nobody looks at here."""
    return replace(read, picture=b"", thumbnails=())
