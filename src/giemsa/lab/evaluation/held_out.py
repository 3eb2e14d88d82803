"""Which cells a model may be judged on: the part of a split that is asked for, and nobody that it was trained on.

Cells of one patient share stain, light and camera, so a model knows the patients that it has seen. Figures on them
are too good by points that no new patient will give back, which is why they are refused here and not only noted.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.data.patients import origin_of
from giemsa.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.data.index import CellIndex, LabelledCell, UnreadablePicture
    from giemsa.data.splits import Split
    from giemsa.model import Model

TRAINING_CELLS: Final = "training_cells.csv"
"""The table in a run's folder that names every cell that was trained on, by its SHA-256."""


@dataclass(frozen=True, slots=True, eq=False)
class ChosenPart:
    """Some of an index's cells.

    Attributes
    ----------
    rows : (N,) ndarray of int
        Rows of the index, in order.
    name : str
        Which part they are; empty where they are all.
    unreadable : tuple of UnreadablePicture
        The pictures that belong to the part and cannot be read.
    notes : tuple of str
        What could not be told, in whole sentences.
    """

    rows: NDArray[np.intp]
    name: str
    unreadable: tuple[UnreadablePicture, ...]
    notes: tuple[str, ...] = ()


def choose_part(
    index: CellIndex, split: Split | None = None, *, part: str | None = None, fold: int | None = None
) -> ChosenPart:
    """Choose the cells to evaluate.

    Parameters
    ----------
    index : CellIndex
        The cells.
    split : Split, optional
        How they are divided; without it the data's own `train/`, `valid/` and `test/` folders are meant by `part`,
        and where there is a `test/` beside another, it is the one that is chosen, which is said.
    part : str, optional
        `train`, `validation` or `test`, or `all` without a split. Of a hold-out, `test` by default, or `validation`
        where it has no test part.
    fold : int, optional
        Which fold of a split with folds is held back.

    Raises
    ------
    UsageError
        If there is no such part or fold, or a fold of a split with folds is not named.
    DataError
        If the split does not fit the data, or the part is empty.
    """
    if part is not None and fold is not None:
        raise UsageError(f"--part {part} and --fold {fold} were both given; expected one of them")
    if split is None:
        return _choose_folder(index, part, fold)
    if split.n_folds:
        return _choose_fold(index, split, part, fold)
    if fold is not None:
        raise UsageError(f"--fold {fold} was given, but the split is a hold-out; name one of its parts with --part")
    name = part or ("test" if "test" in split.names else "validation")
    if name not in split.names:
        raise UsageError(f"the split has no part {name!r}; its parts are {', '.join(split.names)}")
    return _chosen(index, split, split.parts(index)[name], name, name)


def check_held_out(model: Model, cells: Sequence[LabelledCell], *, allow: bool = False) -> list[str]:
    """Refuse cells of patients that a model was trained on.

    Parameters
    ----------
    model : Model
        Names its training patients in its metadata; beside the `model.onnx` of a run its training cells are listed.
    cells : sequence of LabelledCell
        To be evaluated.
    allow : bool
        Whether to warn instead.

    Returns
    -------
    list of str
        What a reader of the figures must know, in whole sentences.

    Raises
    ------
    DataError
        If patients or pictures were trained on and `allow` is not given.
    """
    patients = {cell.patient for cell in cells if cell.patient is not None}
    trained_on = set(model.card.training_patients)
    seen = sorted(patients & trained_on)
    if seen:
        what = f"{len(seen)} of {len(patients)} patients (such as {seen[0]}) are among those"
        return [_refuse(f"{what} that the model {model.card.name} was trained on", allow=allow)]
    trained_cells = _read_training_cells(model.path.parent / TRAINING_CELLS)
    again = [cell.file for cell in cells if cell.sha256 in trained_cells]
    if again:
        what = f"{len(again):,} of {len(cells):,} pictures (such as {again[0]}) are among those"
        return [_refuse(f"{what} that the model {model.card.name} was trained on", allow=allow)]
    warnings = []
    unknown = sum(cell.patient is None for cell in cells)
    if not trained_on:
        warnings.append(
            "The model does not name the patients that it was trained on: figures are too good if any of them is here."
        )
    elif unknown:
        whose = (
            "Patients are not known" if unknown == len(cells) else f"The patients of {unknown:,} cells are not known"
        )
        warnings.append(f"{whose}: whether the model was trained on them cannot be checked.")
    return warnings


def _choose_folder(index: CellIndex, part: str | None, fold: int | None) -> ChosenPart:
    if fold is not None:
        raise UsageError(f"--fold {fold} needs --split FILE: there is nothing to take a fold of")
    names = sorted({cell.part for cell in index if cell.part is not None})
    said: tuple[str, ...] = ()
    if part is None and "test" in names and len(names) > 1:
        part = "test"
        said = (f"Only the cells in test/ were judged, since {index.root} has folders of {' and '.join(names)}; "
                "--part names another, or all.",)  # fmt: skip
    if part in (None, "all"):
        return ChosenPart(np.arange(len(index), dtype=np.intp), "", index.unreadable)
    if part not in names:
        there = f"its folders are {', '.join(names)}" if names else "its folders name no parts"
        raise UsageError(f"{index.root} has no part {part!r}, {there}; give a split with --split FILE")
    rows = np.array([row for row, cell in enumerate(index) if cell.part == part], dtype=np.intp)
    chosen = _chosen(index, None, rows, part, part)
    return replace(chosen, notes=said + chosen.notes)


def _choose_fold(index: CellIndex, split: Split, part: str | None, fold: int | None) -> ChosenPart:
    if part is not None:
        raise UsageError(f"--part {part} was given, but the split has {split.n_folds} folds; name one with --fold")
    if fold is None:
        raise UsageError(f"the split has {split.n_folds} folds; name the one that is held back with --fold")
    _, rows = split.fold(index, fold)
    return _chosen(index, split, rows, f"fold {fold}", str(fold))


def _chosen(index: CellIndex, split: Split | None, rows: NDArray[np.intp], name: str, member: str) -> ChosenPart:
    """Put a part together; an unreadable picture is in it where its patient is known to be."""
    if not rows.size:
        raise DataError(f"{index.root}: the part {name} has no cells; name another")
    by = split.by if split is not None else ""
    members = set(dict(split.members)[member]) if split is not None and by in {"patient", "field"} else set()
    unreadable, homeless = [], 0
    for picture in index.unreadable:
        origin = origin_of(picture.file.rpartition("/")[2])
        whose = None if origin is None else origin.patient if by == "patient" else origin.photograph
        if whose in members:
            unreadable.append(picture)
        elif whose is None or by not in {"patient", "field"}:
            homeless += 1
    note = f"Of {homeless:,} unreadable pictures it is not known which part they belong to: they count in none."
    return ChosenPart(rows, name, tuple(unreadable), (note,) if homeless else ())


def _refuse(what: str, *, allow: bool) -> str:
    if allow:
        return f"{what[:1].upper()}{what[1:]}: the figures are better than they will be for new patients."
    raise DataError(
        f"{what}, so the figures would be too good; evaluate others, by --split FILE for example, or give "
        "--allow-training-patients"
    )


def _read_training_cells(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["sha256"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise DataError(
            f"{path}: the list of the cells that the model was trained on cannot be read ({error}); expected the one "
            "that `giemsa train` writes, so copy the model to a folder of its own if it is another's"
        ) from error
