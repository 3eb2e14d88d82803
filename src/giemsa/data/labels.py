"""The three sets of labels: official, confirmed and donor.

- *official*: the folder or the table's word that a cell came with.
- *confirmed*: official, where a second reading (`--reviewed CSV`) agrees; the rest of the reviewed are *disputed*.
- *donor*: every cell of a person without malaria is uninfected, whatever a reader saw. In the official set those
  are the patients without a single cell labelled parasitized; elsewhere only a list of names (`--donors FILE`)
  makes a donor, since a few cells without a parasite don't.

A part of the official set can hold an infected patient without any of their parasitized cells. Such a patient is
told by the P number that the names of all infected patients carry, and is not taken for a donor; that is said.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.data.patients import has_infected_number, is_official
from giemsa.errors import DataError
from giemsa.spreadsheets import unguarded
from giemsa.words import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from giemsa.data.index import CellIndex

REVIEWED_COLUMNS: Final = ("file", "official", "reviewed")
_WORDS: Final = {"parasitized": 1, "uninfected": 0}


@dataclass(frozen=True, slots=True)
class LabelSets:
    """What people call each cell of an index, aligned with its cells.

    Attributes
    ----------
    official : (N,) ndarray of uint8
        1 for parasitized, 0 for uninfected.
    reviewed : (N,) ndarray of int8
        The second reading; -1 where there is none.
    donor : (N,) ndarray of bool
        Whether the cell is of a person without malaria.
    notes : tuple of str
        Sentences about what is not known or was not used.
    """

    official: NDArray[np.uint8]
    reviewed: NDArray[np.int8]
    donor: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.official)

    @property
    def confirmed(self) -> NDArray[np.bool_]:
        """Where the second reading agrees with the official label; nowhere, if nothing was reviewed."""
        agreed: NDArray[np.bool_] = self.reviewed == self.official
        return agreed

    @property
    def disputed(self) -> NDArray[np.bool_]:
        """Where a second reading disagrees with the official label."""
        differing: NDArray[np.bool_] = (self.reviewed >= 0) & (self.reviewed != self.official)
        return differing

    @property
    def review_known(self) -> bool:
        """Whether any cell was read a second time."""
        return bool((self.reviewed >= 0).any())

    @property
    def donors_known(self) -> bool:
        """Whether any cell is known to be of a healthy donor."""
        return bool(self.donor.any())

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> LabelSets:
        """Keep some of the cells, as `CellIndex.take` does."""
        chosen = np.asarray(rows, dtype=np.intp)
        return LabelSets(self.official[chosen], self.reviewed[chosen], self.donor[chosen], self.notes)


def read_label_sets(
    index: CellIndex,
    *,
    reviewed: str | os.PathLike[str] | None = None,
    donors: str | os.PathLike[str] | None = None,
) -> LabelSets:
    """Bring together what is known of each cell's label.

    Parameters
    ----------
    index : CellIndex
        The cells.
    reviewed : path, optional
        A CSV with the columns `file,official,reviewed` and the words `parasitized` and `uninfected`. Files are
        matched by their relative path or else by base name.
    donors : path, optional
        A text file with the name of a healthy donor on each line; empty lines and those that begin with `#` are
        skipped. It replaces the rule for the official set.

    Raises
    ------
    DataError
        If a file cannot be read, the review belongs to other cells or calls other labels official, or no
        donor is among the patients.
    """
    official = np.array([_WORDS[cell.label] for cell in index], np.uint8)
    readings, review_notes = _read_review(index, official, Path(reviewed)) if reviewed is not None else (None, [])
    names, donor_notes = _named_donors(index, Path(donors)) if donors is not None else _official_donors(index)
    donor = np.array([cell.patient in names for cell in index], np.bool_)
    if readings is None:
        readings = np.full(len(index), -1, np.int8)
    return LabelSets(official, readings, donor, (*review_notes, *donor_notes))


def _read_review(index: CellIndex, official: NDArray[np.uint8], path: Path) -> tuple[NDArray[np.int8], list[str]]:
    """Read the second reading of each cell."""
    rows_of = _rows_by_name(index)
    readings = np.full(len(index), -1, np.int8)
    contradicted: list[tuple[str, str]] = []
    unknown: list[str] = []
    for line, file, stated, reading in _review_rows(path):
        rows = rows_of.get(file) or rows_of.get(PurePosixPath(file).name)
        if rows is None:
            unknown.append(file)
            continue
        if len(rows) > 1:
            message = (
                f"{path}, line {line}: {file} may be any of {len(rows)} cells, such as {index.cells[rows[0]].file} and"
                f" {index.cells[rows[1]].file}; give paths relative to {index.root}"
            )
            raise DataError(message)
        row = rows[0]
        if official[row] != stated:
            contradicted.append((file, index.cells[row].label))
        elif readings[row] not in (-1, reading):
            raise DataError(f"{path}, line {line}: {file} was reviewed before with another result; keep one row")
        readings[row] = reading
    if contradicted:
        file, label = contradicted[0]
        message = (
            f"{path}: the official label of {counted(len(contradicted), 'cell')} differs from that of {index.root},"
            f" where {file} is {label}; expected a review of these labels: check that it belongs to these data"
        )
        raise DataError(message)
    known = int((readings >= 0).sum())
    if not known:
        example = f" such as {unknown[0]}" if unknown else ""
        message = (
            f"{path}: none of its {len(unknown):,} files{example} is in {index.root}; expected a review of these"
            " cells: check that it belongs to these data"
        )
        raise DataError(message)
    notes = []
    if unknown:
        notes.append(f"{counted(len(unknown), 'file')} of {path.name}, such as {unknown[0]}, not among the cells")
    if known < len(index):
        notes.append(
            f"{counted(len(index) - known, 'cell')} not reviewed in {path.name}, so neither confirmed nor disputed"
        )
    return readings, notes


def _rows_by_name(index: CellIndex) -> dict[str, list[int]]:
    """Map relative paths and base names to rows."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, cell in enumerate(index):
        name = PurePosixPath(cell.file).name
        rows[name].append(row)
        if name != cell.file:
            rows[cell.file].append(row)
    return rows


def _review_rows(path: Path) -> list[tuple[int, str, int, int]]:
    """Read line number, file, official and reviewed label of each row."""
    rows = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            if missing := [column for column in REVIEWED_COLUMNS if column not in columns]:
                message = (
                    f"{path}: the column {' and '.join(missing)} is missing; expected a first line with"
                    f" {','.join(REVIEWED_COLUMNS)}, found {','.join(columns) or 'nothing'}"
                )
                raise DataError(message)
            for row in reader:
                file = unguarded(row["file"] or "").replace("\\", "/")
                words = [(row[column] or "").strip() for column in REVIEWED_COLUMNS[1:]]
                if not file or any(word not in _WORDS for word in words):
                    message = (
                        f"{path}, line {reader.line_num}: found {file!r} with {' and '.join(map(repr, words))};"
                        " expected a file and twice one of the words parasitized and uninfected"
                    )
                    raise DataError(message)
                rows.append((reader.line_num, file, _WORDS[words[0]], _WORDS[words[1]]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path}: the reviewed labels cannot be read ({error}); expected CSV in UTF-8"
        raise DataError(message) from error
    return rows


def _named_donors(index: CellIndex, path: Path) -> tuple[set[str], list[str]]:
    """Read the names of donors and check that they are patients here."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: the list of donors cannot be read ({error}); expected one name on each line"
        raise DataError(message) from error
    names = {line for line in lines if line and not line.startswith("#")}
    here = names & set(index.patients)
    if not here:
        message = (
            f"{path}: none of its {counted(len(names), 'name')} is a patient of {index.root}"
            f" ({index.summary}); expected one patient's name on each line"
        )
        raise DataError(message)
    notes = []
    if missing := sorted(names - here):
        notes.append(f"{counted(len(missing), 'donor')} of {path.name}, such as {missing[0]}, not among the patients")
    positive = sum(cell.label == "parasitized" for cell in index if cell.patient in here)
    if positive:
        notes.append(
            f"{counted(positive, 'cell')} of donors named in {path.name} are officially parasitized: no donor has"
            " malaria, so they count as uninfected under the donors' labels"
        )
    return here, notes


def _official_donors(index: CellIndex) -> tuple[set[str], list[str]]:
    """Find the official set's donors: patients without a single cell labelled parasitized."""
    infected = {cell.patient for cell in index if cell.label == "parasitized"}
    without = {patient for patient in index.patients if is_official(patient)} - infected
    incomplete = sorted(patient for patient in without if has_infected_number(patient))
    notes = []
    if incomplete:
        notes.append(
            f"{counted(len(incomplete), 'patient')} without a cell labelled parasitized, such as {incomplete[0]},"
            " not taken for donors: their P number is that of an infected patient; if they are donors, name them with"
            " --donors"
        )
    return without - set(incomplete), notes
