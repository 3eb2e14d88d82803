"""What is in a set of labelled cells, and what is wrong with it.

Counts per class, patient and part, label sets, sizes, unreadable pictures, and copies: the same picture in two
parts, in two classes or with two patients makes figures better than they are. A figure shows the distribution of
classes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.data.cache import open_cache
from giemsa.data.copies import THUMBNAIL_PX, find_copies
from giemsa.data.splits import HOLD_OUT_PARTS, patients_on_several_sides
from giemsa.errors import MissingExtraError
from giemsa.files import replace_file
from giemsa.render import palette
from giemsa.verdicts import LABELS
from giemsa.words import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from numpy.typing import NDArray

    from giemsa.data.copies import Copies
    from giemsa.data.index import CellIndex
    from giemsa.data.labels import LabelSets
    from giemsa.data.splits import Split
    from giemsa.verdicts import Label

# Okabe and Ito 2008: told apart by the colour-blind.
_COLOURS: Final = {kind: colour.hex for kind, colour in palette.CELLS.items()}


@dataclass(frozen=True, slots=True)
class Counts:
    """Cells of one group.

    Attributes
    ----------
    name : str
        Of the patient, the part or the fold.
    cells, parasitized, uninfected : int
        By official label.
    disputed, donor_cells : int
        Cells with a disputed label, and of healthy donors.
    patients, donors : int
        People, where they are known.
    """

    name: str
    cells: int
    parasitized: int
    uninfected: int
    disputed: int
    donor_cells: int
    patients: int
    donors: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Smallest, median and largest, in pixels."""

    smallest: int
    median: float
    largest: int


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Pictures that are copies of one another, and what they are called.

    Attributes
    ----------
    identical : bool
        Byte for byte; else near-identical.
    files, labels, patients, parts : tuple
        Of each picture; None where a patient or part is not known.
    """

    identical: bool
    files: tuple[str, ...]
    labels: tuple[Label, ...]
    patients: tuple[str | None, ...]
    parts: tuple[str | None, ...]

    @property
    def across_labels(self) -> bool:
        """Whether the same picture has two labels."""
        return len(set(self.labels)) > 1

    @property
    def across_parts(self) -> bool:
        """Whether the same picture is in two parts: a leak."""
        return len(set(self.parts)) > 1

    @property
    def across_patients(self) -> bool:
        """Whether the same picture is of two known patients."""
        return len(set(self.patients) - {None}) > 1


@dataclass(frozen=True, slots=True)
class Description:
    """What is in a set of labelled cells.

    Attributes
    ----------
    root, layout, summary, digest : str
        Where it is, how it was read, what it is in a line, and its content's digest.
    whole : Counts
        All cells.
    per_patient : tuple of Counts
        Sorted by name; empty where patients are not known.
    parts_of : str
        What the parts are: `folders`, `split by patient` and so on; empty where there are none.
    per_part : tuple of Counts
        Parts or folds.
    patients_on_several_sides : int
        How many patients have cells in more than one part.
    review_known, patients_known : bool
        Whether labels were reviewed, and whether each cell's patient is known.
    width_px, height_px : Sizes
        Of the pictures.
    unreadable : tuple of dict
        File and reason of each picture that was left out.
    copies : tuple of CopyGroup
        Pictures that are there more than once.
    near_identical_sought : bool
        Whether near-identical copies were looked for, or only byte-identical ones.
    notes : tuple of str
        What else a reader must know.
    """

    root: str
    layout: str
    summary: str
    digest: str
    whole: Counts
    per_patient: tuple[Counts, ...]
    parts_of: str
    per_part: tuple[Counts, ...]
    patients_on_several_sides: int
    review_known: bool
    patients_known: bool
    width_px: Sizes
    height_px: Sizes
    unreadable: tuple[dict[str, str], ...]
    copies: tuple[CopyGroup, ...]
    near_identical_sought: bool
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, as objects that JSON knows."""
        content = asdict(self)
        for group, described in zip(self.copies, content["copies"], strict=True):
            described["across_labels"] = group.across_labels
            described["across_parts"] = group.across_parts
            described["across_patients"] = group.across_patients
        return content


def describe(
    index: CellIndex,
    labels: LabelSets,
    *,
    split: Split | None = None,
    near_identical: bool = True,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Description:
    """Describe a set of labelled cells.

    Parameters
    ----------
    index, labels : CellIndex, LabelSets
        The cells and their labels, aligned.
    split : Split, optional
        Whose parts are described; by default those of the folders, where there are any.
    near_identical : bool
        Whether to look for near-identical pictures too, which needs every picture decoded once.
    cache : path, optional
        Where decoded pictures are kept.
    progress : callable, optional
        Called with `decode` or `compare`, and the number of pictures so far and in all.
    """
    parts_of, parts = _parts(index, split)
    part_of: list[str | None] = [None] * len(index)
    for name, rows in parts.items():
        for row in rows:
            part_of[row] = name

    def stage(name: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(name, done, total)

    thumbnails = None
    if near_identical:
        thumbnails = open_cache(index, THUMBNAIL_PX, directory=cache, progress=stage("decode"))
    copies = tuple(_described(group, index, part_of) for group in find_copies(index, thumbnails, stage("compare")))
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, cell in enumerate(index):
        if cell.patient is not None:
            rows_of[cell.patient].append(row)
    shared = patients_on_several_sides(index, parts)
    return Description(
        root=str(index.root),
        layout=index.layout,
        summary=index.summary,
        digest=index.digest,
        whole=_count("all", np.arange(len(index)), index, labels),
        per_patient=tuple(_count(name, np.array(rows), index, labels) for name, rows in sorted(rows_of.items())),
        parts_of=parts_of,
        per_part=tuple(_count(name, rows, index, labels) for name, rows in parts.items()),
        patients_on_several_sides=shared,
        review_known=labels.review_known,
        patients_known=index.patients_known,
        width_px=_sizes([cell.width for cell in index]),
        height_px=_sizes([cell.height for cell in index]),
        unreadable=tuple({"file": picture.file, "reason": picture.reason} for picture in index.unreadable),
        copies=copies,
        near_identical_sought=near_identical,
        notes=(*index.notes, *labels.notes, *_findings(copies, shared, parts_of)),
    )


def draw_classes(description: Description, path: str | os.PathLike[str]) -> None:
    """Draw how cells are distributed over classes, parts and patients.

    Parameters
    ----------
    description : Description
        What is drawn.
    path : path
        A file that ends in `.png`, `.svg` or `.pdf`.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OutputError
        If the file cannot be written.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        message = "a figure needs matplotlib, which is not installed; install it with: pip install 'giemsa[lab]'"
        raise MissingExtraError(message) from error
    groups = [description.whole, *description.per_part]
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        figure = Figure(figsize=(10, 1.6 + 0.34 * len(groups) + 2.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=[0.9 + 0.34 * len(groups), 2.6])
        _draw_groups(upper, groups, description)
        _draw_patients(lower, description)
        whole = description.whole
        people = f"{counted(whole.patients, 'patient')}" if description.patients_known else "patients not known"
        figure.suptitle(f"{counted(whole.cells, 'cell')}, {people}")
        with replace_file(path) as beside:
            figure.savefig(beside, dpi=150, format=Path(path).suffix[1:] or "png")


def _parts(index: CellIndex, split: Split | None) -> tuple[str, dict[str, NDArray[np.intp]]]:
    """Rows of each part, and what the parts are."""
    if split is not None:
        kind = "folds" if split.n_folds else "split"
        return f"{kind} by {split.by}", split.parts(index)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, cell in enumerate(index):
        if cell.part is not None:
            rows[cell.part].append(row)
    parts = {name: np.array(rows[name], np.intp) for name in HOLD_OUT_PARTS if name in rows}
    return ("folders" if parts else "", parts)


def _count(name: str, rows: NDArray[np.intp], index: CellIndex, labels: LabelSets) -> Counts:
    patients = {index.cells[row].patient for row in rows} - {None}
    donors = {index.cells[row].patient for row in rows[labels.donor[rows]]}
    parasitized = int(labels.official[rows].sum())
    return Counts(
        name=name,
        cells=len(rows),
        parasitized=parasitized,
        uninfected=len(rows) - parasitized,
        disputed=int(labels.disputed[rows].sum()),
        donor_cells=int(labels.donor[rows].sum()),
        patients=len(patients),
        donors=len(donors),
    )


def _sizes(lengths: list[int]) -> Sizes:
    return Sizes(min(lengths), float(np.median(lengths)), max(lengths))


def _described(copies: Copies, index: CellIndex, part_of: list[str | None]) -> CopyGroup:
    cells = [index.cells[row] for row in copies.rows]
    return CopyGroup(
        identical=copies.identical,
        files=tuple(cell.file for cell in cells),
        labels=tuple(cell.label for cell in cells),
        patients=tuple(cell.patient for cell in cells),
        parts=tuple(part_of[row] for row in copies.rows),
    )


def _findings(copies: tuple[CopyGroup, ...], shared: int, parts_of: str) -> list[str]:
    """What makes figures better than they are, in sentences."""
    findings = []
    if shared:
        findings.append(f"{counted(shared, 'patient')} in more than one part ({parts_of}): figures will be too good")
    kinds = Counter(
        kind
        for group in copies
        for kind, found in (
            ("parts", group.across_parts), ("labels", group.across_labels), ("patients", group.across_patients),
        )
        if found
    )  # fmt: skip
    if kinds["parts"]:
        findings.append(f"{counted(kinds['parts'], 'picture')} in more than one part: figures will be too good")
    if kinds["labels"]:
        findings.append(f"{counted(kinds['labels'], 'picture')} under both labels: one of them is wrong")
    if kinds["patients"]:
        findings.append(f"{counted(kinds['patients'], 'picture')} with more than one patient: one of them is wrong")
    return findings


def _draw_groups(axes: Any, groups: list[Counts], description: Description) -> None:  # noqa: ANN401 - matplotlib
    """Draw a bar of shares for all cells and for each part, with numbers in it."""
    names = ["all cells", *(f"fold {g.name}" if "folds" in description.parts_of else g.name for g in groups[1:])]
    places = np.arange(len(groups))[::-1]
    left = np.zeros(len(groups))
    for kind in (*LABELS[::-1], "donor"):
        numbers = np.array([_number_of(group, kind) for group in groups])
        if not numbers.any():
            continue
        widths = 100 * numbers / np.array([group.cells for group in groups])
        name = {"uninfected": "uninfected, infected patients" if description.whole.donors else "uninfected",
                "donor": "uninfected, healthy donors"}.get(kind, kind)  # fmt: skip
        axes.barh(places, widths, left=left, height=0.7, color=_COLOURS[kind], label=name)
        for place, start, width, number in zip(places, left, widths, numbers, strict=True):
            if width > 6:
                axes.text(start + width / 2, place, f"{number:,}", ha="center", va="center", color="white")
        left += widths
    axes.set_yticks(places, names)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of cells by official label, %")
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _number_of(group: Counts, kind: str) -> int:
    if kind == "parasitized":
        return group.parasitized
    # A donor's cell that is officially parasitized is shown as such: it is the official labels that are drawn.
    donors = min(group.donor_cells, group.uninfected)
    return donors if kind == "donor" else group.uninfected - donors


def _draw_patients(axes: Any, description: Description) -> None:  # noqa: ANN401
    """Draw a bar for each patient, from those with the most cells to those with the fewest."""
    people = sorted(description.per_patient, key=lambda one: (one.donors, -one.cells, one.name))
    if not people:
        axes.axis("off")
        axes.text(0.5, 0.5, "Patients are not known.", ha="center", va="center", transform=axes.transAxes)
        return
    places = np.arange(len(people))
    bottom = np.zeros(len(people))
    for kind in (*LABELS[::-1], "donor"):
        numbers = np.array([_number_of(one, kind) for one in people])
        if numbers.any():
            axes.bar(places, numbers, bottom=bottom, width=0.85, color=_COLOURS[kind])
            bottom += numbers
    if description.review_known:
        disputed = [one.disputed for one in people]
        axes.plot(places, disputed, ".", color="black", markersize=3, label="disputed labels")
        axes.legend(frameon=False, loc="upper right")
    axes.set_xlim(-0.6, len(people) - 0.4)
    axes.set_ylabel("cells")
    axes.set_xlabel("patients, by number of cells; healthy donors last" if description.whole.donors else
                    "patients, by number of cells")  # fmt: skip
    if len(people) <= 30:
        axes.set_xticks(places, [one.name for one in people], rotation=60, ha="right")
    else:
        axes.set_xticks([])
