"""An index of labelled cells: which pictures there are, what they are called, and whose they are.

Reads the tree of the official archive, the doubled tree of its popular mirror, `train/`, `valid/` and `test/`
folders with class folders in them, class folders of anyone's own, and CSV tables. Whatever is left out is said
in `CellIndex.notes` and `CellIndex.unreadable`; nothing is decided by the order of folders.

Each file is read once for its digest, size and soundness, and remembered by its place, length and time of change
in the user's cache, so that the next reading only has to look at the folders.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from giemsa.data.folders import cache_folder, usable_cores
from giemsa.data.headers import probe
from giemsa.data.patients import MAPPING_FILES, assign_patients, is_official, origin_of, read_mapping
from giemsa.errors import DataError, PictureError, SourceError
from giemsa.files import replace_file
from giemsa.formats.class_names import PARASITIZED_NAMES, UNINFECTED_NAMES
from giemsa.images import MAX_BYTES, SUFFIXES
from giemsa.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from giemsa.verdicts import Label

Part = Literal["train", "validation", "test"]
GroupKind = Literal["patients", "fields", "cells"]
Layout = Literal[
    "official tree",
    "official tree, twice",
    "train/validation/test folders",
    "class folders",
    "CSV table",
    "boxed fields",
    "several",
]

_PART_NAMES: Final[dict[str, Part]] = {
    "train": "train", "training": "train",
    "valid": "validation", "val": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
# A file changed again within the resolution of the clock keeps its time: such young files are not remembered.
_SETTLED_AFTER_S: Final = 2.0
_BATCH: Final = 128


@dataclass(frozen=True, slots=True)
class LabelledCell:
    """One cell and what is known of it without looking at it.

    Attributes
    ----------
    file : str
        Path relative to the index's root, with `/`.
    label : str
        The official label: `parasitized` or `uninfected`.
    patient : str or None
        Whose it is; None where that is not known.
    photograph : str or None
        The field that it was cut from; None where that is not known.
    width, height : int
        In pixels.
    sha256 : str
        Of the file's bytes, in hexadecimal digits.
    part : str or None
        `train`, `validation` or `test` where the folders say so.
    laboratory : str or None
        Where it was stained and photographed; None where that is not known.
    """

    file: str
    label: Label
    patient: str | None
    photograph: str | None
    width: int
    height: int
    sha256: str
    part: Part | None = None
    laboratory: str | None = None

    def group(self, kind: GroupKind) -> str:
        """Name of the group of this kind that the cell belongs to: what is kept together, held back and resampled."""
        if kind == "patients":
            return self.patient or ""
        return f"field {self.photograph or ''}" if kind == "fields" else f"cell {self.file}"


@dataclass(frozen=True, slots=True)
class UnreadablePicture:
    """A picture that is left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class CellIndex:
    """Labelled cells in a fixed order: that of their relative paths.

    Attributes
    ----------
    root : Path
        The folder that `LabelledCell.file` is relative to.
    cells : tuple of LabelledCell
        In order of `file`; of a table, in its order.
    layout : str
        How the labels were found.
    unreadable : tuple of UnreadablePicture
        Pictures with a label that cannot be read.
    notes : tuple of str
        Sentences about what was left out, joined or is not known.
    whole : CellIndex or None
        What this is a part of, where `take` made it.
    """

    root: Path
    cells: tuple[LabelledCell, ...]
    layout: Layout
    unreadable: tuple[UnreadablePicture, ...] = ()
    notes: tuple[str, ...] = ()
    whole: CellIndex | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[LabelledCell]:
        return iter(self.cells)

    @property
    def digest(self) -> str:
        """SHA-256 over the cells' bytes, labels and patients, wherever they lie and in whatever order."""
        lines = sorted(f"{cell.sha256} {cell.label} {cell.patient or ''}\n" for cell in self.cells)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def patients(self) -> tuple[str, ...]:
        """The names of the known patients, sorted."""
        return tuple(sorted({cell.patient for cell in self.cells if cell.patient is not None}))

    @property
    def patients_known(self) -> bool:
        """Whether each cell's patient is known."""
        return all(cell.patient is not None for cell in self.cells)

    @property
    def laboratories(self) -> tuple[str, ...]:
        """The names of the known laboratories, sorted."""
        return tuple(sorted({cell.laboratory for cell in self.cells if cell.laboratory is not None}))

    @property
    def group_kind(self) -> GroupKind:
        """What keeps cells together: patients where each cell's is known, else fields likewise, else nothing."""
        if self.patients_known:
            return "patients"
        return "fields" if all(cell.photograph is not None for cell in self.cells) else "cells"

    def groups(self) -> list[str]:
        """The group of each cell, of `group_kind`, in order."""
        kind = self.group_kind
        return [cell.group(kind) for cell in self.cells]

    @property
    def summary(self) -> str:
        """One line: how many cells of which labels, of how many patients."""
        parasitized = sum(cell.label == "parasitized" for cell in self.cells)
        labels = f"{counted(len(self), 'cell')}, {parasitized:,} parasitized and {len(self) - parasitized:,} uninfected"
        return f"{labels}, {self._patients_phrase()}"

    def paths(self) -> list[Path]:
        """Where the pictures are, in order."""
        return [self.root / cell.file for cell in self.cells]

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> CellIndex:
        """Make an index of some of the cells, which splits made for the whole still fit."""
        cells = tuple(self.cells[int(row)] for row in rows)
        note = f"{len(cells):,} of {counted(len(self), 'cell')} are used"
        return replace(self, cells=cells, notes=(*self.notes, note), whole=self.whole or self)

    def _patients_phrase(self) -> str:
        unknown = sum(cell.patient is None for cell in self.cells)
        if unknown == len(self):
            return "of unknown patients"
        known = f"of {counted(len(self.patients), 'patient')}"
        return f"{known}; the patient of {counted(unknown, 'cell')} is not known" if unknown else known


def read_index(
    root: str | os.PathLike[str],
    *,
    positive_class: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CellIndex:
    """Read the labelled cells of a folder or a CSV table.

    Parameters
    ----------
    root : path
        A folder with class folders in it, at any depth, or a CSV file with the columns `file,label[,patient][,field]
        [,laboratory]`, files relative to the table; `field` is the photograph that a cell was cut from.
    positive_class : str, optional
        The folder's name or label's word that means parasitized, where it is none of the known ones. There must
        be exactly one other class beside it.
    progress : callable, optional
        Called with the number of files read so far and in all.

    Raises
    ------
    SourceError
        If `root` is not there or cannot be listed.
    DataError
        If there are no labels in it, or labels that contradict each other.
    """
    place = Path(root)
    if not place.exists():
        raise SourceError(f"{place}: there is no such folder or table of labelled cells; check the path")
    found = _read_table(place, positive_class) if place.is_file() else _read_tree(place, positive_class)
    contents, unreadable = _read_contents(found.root, [entry.file for entry in found.entries], progress)
    entries, doubled = _once_each(found.entries, contents)
    listed = _listed_patients(found)
    names = [PurePosixPath(entry.file).name for entry in entries]
    by_name, joined = assign_patients(names, listed)
    cells = []
    for entry, name, patient in zip(entries, names, by_name, strict=True):
        sha256, width, height = contents[entry.file]
        origin = origin_of(name)
        owner = entry.patient if found.has_patients else patient
        photograph = entry.photograph or (origin.photograph if origin else None)
        cells.append(
            LabelledCell(
                entry.file, entry.label, owner, photograph, width, height, sha256, entry.part, entry.laboratory
            )
        )
    if not cells:
        what = f"all {len(unreadable):,} are unreadable" if unreadable else "there is none"
        raise DataError(f"{place}: expected labelled pictures of cells, but {what}; check the folder")
    layout = _name_layout(found, cells, doubled=bool(doubled))
    index = CellIndex(found.root, tuple(cells), layout, tuple(unreadable))
    return replace(index, notes=(*found.notes, *doubled, *joined, *_remarks(index)))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file with a label, not looked at yet."""

    file: str
    label: Label
    part: Part | None = None
    patient: str | None = None
    photograph: str | None = None
    laboratory: str | None = None
    tree: str = ""  # the folder that the class folder lies in


@dataclass(frozen=True, slots=True)
class _Found:
    """What a listing gave."""

    root: Path
    entries: list[_Entry]
    notes: tuple[str, ...] = ()
    has_patients: bool = False
    is_table: bool = False


def _read_tree(root: Path, positive_class: str | None) -> _Found:
    """List the pictures in class folders; the innermost folder with a class's name gives the label."""
    files, notes = _list_pictures(root)
    words = _class_words(
        [folder for file in files for folder in file.parts[:-1]], positive_class, _siblings(files), place=root
    )
    entries, unlabelled = [], defaultdict(list)
    for file in files:
        folders = file.parts[:-1]
        depths = [depth for depth, name in enumerate(folders) if _plain(name) in words]
        parts = [_PART_NAMES[name.lower()] for name in folders if name.lower() in _PART_NAMES]
        if not depths:
            unlabelled[parts[-1] if parts else None].append(file)
            continue
        depth = depths[-1]
        label = words[_plain(folders[depth])]
        tree = "/".join(folders[:depth])
        entries.append(_Entry(str(file), label, parts[-1] if parts else None, tree=tree))
    if not entries:
        raise DataError(_no_classes(root, files))
    for part, left_out in sorted(unlabelled.items(), key=lambda item: str(item[0])):
        where = f"in a flat {left_out[0].parent}/ folder" if part else f"in no class folder (such as {left_out[0]})"
        notes.append(f"{counted(len(left_out), 'picture')} {where} left out: no label, for classifying only")
    return _Found(root, entries, tuple(notes))


def _list_pictures(root: Path) -> tuple[list[PurePosixPath], list[str]]:
    """Find every picture below a folder, by name, in order; hidden files and loops of links are passed over."""
    pictures: list[PurePosixPath] = []
    notes: list[str] = []
    waiting: list[tuple[Path, PurePosixPath, frozenset[tuple[int, int]]]] = [(root, PurePosixPath(), frozenset())]
    while waiting:
        folder, relative, above = waiting.pop()
        try:
            status = folder.stat()
            here = (status.st_dev, status.st_ino)
            if here in above:  # a link back; the same folder in two other places is read twice, as it would be copied
                continue
            with os.scandir(folder) as listing:
                shown = [entry for entry in listing if not entry.name.startswith((".", "__"))]
                entries = [(entry.name, _is_folder(entry)) for entry in shown]
        except OSError as error:
            if folder == root:
                message = f"{root}: the folder cannot be listed ({error.strerror}); check its permissions"
                raise SourceError(message) from error
            notes.append(f"the folder {relative} cannot be listed ({error.strerror}) and is left out")
            continue
        for name, is_folder in sorted(entries, reverse=True):
            if is_folder:
                waiting.append((folder / name, relative / name, above | {here}))
            elif name.lower().endswith(tuple(SUFFIXES)):
                pictures.append(relative / name)
    return sorted(pictures, key=str), notes


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _siblings(files: Sequence[PurePosixPath]) -> dict[str, set[str]]:
    """Map each folder with pictures below it to the names of such folders beside it, all in plain spelling."""
    inside: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for folders in {file.parts[:-1] for file in files}:
        for depth, name in enumerate(folders):
            inside[folders[:depth]].add(_plain(name))
    beside: dict[str, set[str]] = defaultdict(set)
    for names in inside.values():
        for name in names:
            beside[name] |= names - {name}
    return beside


def _class_words(
    words: Sequence[str], positive_class: str | None, beside: dict[str, set[str]] | None, place: Path
) -> dict[str, Label]:
    """Which words mean which label, in plain spelling."""
    if positive_class is None:
        return {
            **{_plain(word): "parasitized" for word in PARASITIZED_NAMES},
            **{_plain(word): "uninfected" for word in UNINFECTED_NAMES},
        }
    there = {_plain(word): word for word in words}
    positive = _plain(positive_class)
    if positive not in there:
        message = (
            f"{place}: no class is called {positive_class!r}; found {_listing(there.values())}:"
            " give one of them as --positive-class"
        )
        raise DataError(message)
    others = (beside[positive] if beside is not None else set(there) - {positive}) - set(_PART_NAMES)
    if len(others) > 1:
        message = (
            f"{place}: beside the class {positive_class!r} there are {_listing(there[other] for other in others)};"
            " expected exactly one other class, the uninfected one: leave two classes, or give a CSV table"
        )
        raise DataError(message)
    return {positive: "parasitized", **dict.fromkeys(others, "uninfected")}


def _no_classes(root: Path, files: Sequence[PurePosixPath]) -> str:
    folders = {folder for file in files for folder in file.parts[:-1]}
    if not files:
        there = "there is no picture below it"
    elif folders:
        there = f"its folders are {_listing(folders)}"
    else:
        there = f"its {counted(len(files), 'picture')} lie in no folders"
    return (
        f"{root}: expected class folders such as Parasitized and Uninfected, but {there};"
        " name the infected class with --positive-class, or give a CSV table with the columns file,label"
    )


def _read_table(table: Path, positive_class: str | None) -> _Found:
    """Read a CSV table with the columns `file,label[,patient][,field][,laboratory]`, in any order."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: the table of labels cannot be read ({error}); expected CSV in UTF-8") from error
    missing = [column for column in ("file", "label") if column not in columns]
    if missing:
        message = (
            f"{table}: the column {' and '.join(missing)} is missing; expected a first line with file,label or"
            f" file,label,patient, found {','.join(columns) or 'nothing'}"
        )
        raise DataError(message)
    words = _class_words([row["label"] or "" for _, row in rows], positive_class, None, place=table)
    entries: dict[str, _Entry] = {}
    repeated = 0
    for line, row in rows:
        file, word, patient = row["file"] or "", row["label"] or "", row.get("patient") or ""
        label = words.get(_plain(word))
        if not file or label is None:
            what = "names no file" if not file else f"has the label {word!r}"
            message = (
                f"{table}, line {line}: the row {what}; expected a file and a word such as parasitized or"
                " uninfected, or the word given as --positive-class"
            )
            raise DataError(message)
        name = PurePosixPath(file.replace("\\", "/")).as_posix()
        field, laboratory = ((row.get(column) or "").strip() or None for column in ("field", "laboratory"))
        entry = _Entry(name, label, patient=patient.strip() or None, photograph=field, laboratory=laboratory)
        if (before := entries.get(entry.file)) is not None:
            if before != entry:
                message = (
                    f"{table}, line {line}: {file} stands there twice with another label, patient, field or laboratory;"
                    " keep one"
                )
                raise DataError(message)
            repeated += 1
        entries[entry.file] = entry
    notes = (f"{counted(repeated, 'row')} of the table repeated an earlier one and count once",) if repeated else ()
    return _Found(table.parent, list(entries.values()), notes, has_patients="patient" in columns, is_table=True)


Content = tuple[str, int, int]
"""SHA-256 of the bytes, width and height."""


def _read_contents(
    root: Path, files: Sequence[str], progress: Callable[[int, int], None] | None
) -> tuple[dict[str, Content], list[UnreadablePicture]]:
    """Read every file's digest and size, of those only that are not remembered."""
    memory = _Memory(root)
    contents: dict[str, Content] = {}
    unreadable: list[UnreadablePicture] = []

    def read_batch(start: int) -> list[tuple[str, Content | str]]:
        return [(file, _read_one(root / file, file, memory)) for file in files[start : start + _BATCH]]

    with ThreadPoolExecutor(usable_cores()) as pool:
        for batch in pool.map(read_batch, range(0, len(files), _BATCH)):
            for file, content in batch:
                if isinstance(content, str):
                    unreadable.append(UnreadablePicture(file, content))
                else:
                    contents[file] = content
            if progress is not None:
                progress(len(contents) + len(unreadable), len(files))
    memory.save(set(files))
    return contents, unreadable


def _read_one(path: Path, file: str, memory: _Memory) -> Content | str:
    """Read one file, or say why that is not possible."""
    try:
        status = path.stat()
        if (known := memory.recall(file, status)) is not None:
            return known
        if not path.is_file():
            return "not a file"
        if status.st_size > MAX_BYTES:
            return f"{status.st_size:,} bytes, more than the limit of {MAX_BYTES:,}"
        data = path.read_bytes()
        width, height = probe(data)
    except OSError as error:
        broken = isinstance(error, FileNotFoundError) and path.is_symlink()
        return "a link to a file that is not there" if broken else (error.strerror or str(error)).lower()
    except PictureError as error:
        return str(error)
    content = (hashlib.sha256(data).hexdigest(), width, height)
    memory.keep(file, status, content)
    return content


class _Memory:
    """What earlier readings of a folder found, by a file's place, length and time of change.

    Several processes may read and write it: it is replaced as a whole, and the last one's stays. It is a
    convenience: where it cannot be read or written, or is not as it was written, everything is read anew.
    """

    _VERSION: Final = 2

    def __init__(self, root: Path) -> None:
        self._root = str(root.resolve())
        name = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:32]
        self._path = cache_folder() / "index" / f"{name}.json"
        self._known: dict[str, list[str | int]] = {}
        self._now = time.time()
        self._changed = False
        try:
            digest, _, written = self._path.read_bytes().partition(b"\n")
            if digest.decode() != hashlib.sha256(written).hexdigest():  # a digest in it that a disk has changed
                return
            memory = json.loads(written)
            if memory["version"] == self._VERSION and memory["root"] == self._root:
                self._known = dict(memory["files"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return

    def recall(self, file: str, status: os.stat_result) -> Content | None:
        match self._known.get(file):
            case [status.st_size, status.st_mtime_ns, str(sha256), int(width), int(height)]:
                return sha256, width, height
        return None

    def keep(self, file: str, status: os.stat_result, content: Content) -> None:
        if self._now - status.st_mtime > _SETTLED_AFTER_S:
            self._known[file] = [status.st_size, status.st_mtime_ns, *content]
            self._changed = True

    def save(self, files: set[str]) -> None:
        if not self._changed:
            return
        known = {file: entry for file, entry in self._known.items() if file in files}
        memory = {"version": self._VERSION, "root": self._root, "files": known}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(self._path) as beside:
                written = json.dumps(memory, separators=(",", ":")).encode()
                beside.write_bytes(hashlib.sha256(written).hexdigest().encode() + b"\n" + written)
        except OSError:
            return


def _once_each(entries: Sequence[_Entry], contents: dict[str, Content]) -> tuple[list[_Entry], list[str]]:
    """Leave out cells that a second copy of the same tree holds again; the copy nearer to the root stays.

    Only copies in different trees of class folders are left out, and none in `train/`, `valid/` and `test/`
    folders: there, and within one tree, the same picture twice is a finding, not a doubled archive.
    """
    readable = [entry for entry in entries if entry.file in contents]
    first: dict[tuple[str, str, str], str] = {}
    doubled: Counter[tuple[str, str]] = Counter()
    left_out: set[str] = set()
    for entry in sorted(readable, key=lambda entry: (entry.tree.count("/"), len(entry.tree), entry.file)):
        if entry.part is not None:
            continue
        key = (entry.label, PurePosixPath(entry.file).name, contents[entry.file][0])
        tree = first.setdefault(key, entry.tree)
        if tree != entry.tree:
            doubled[tree, entry.tree] += 1
            left_out.add(entry.file)
    notes = [
        f"the tree lies there twice: {counted(number, 'cell')} in {again} are those in {tree or 'the folder itself'}"
        " and count once"
        for (tree, again), number in sorted(doubled.items())
    ]
    return [entry for entry in readable if entry.file not in left_out], notes


def _listed_patients(found: _Found) -> dict[str, str]:
    """Read the official lists of patients, where they lie beside or in the tree."""
    if found.has_patients:
        return {}
    trees = {found.root / entry.tree for entry in found.entries}
    listed: dict[str, str] = {}
    for folder in sorted({found.root, found.root.resolve().parent, *trees}):
        for name in MAPPING_FILES:
            if (path := folder / name).is_file():
                listed.update(read_mapping(path))
    return listed


def _name_layout(found: _Found, cells: Sequence[LabelledCell], *, doubled: bool) -> Layout:
    if found.is_table:
        return "CSV table"
    if any(cell.part for cell in cells):
        return "train/validation/test folders"
    if all(cell.patient is not None and is_official(cell.patient) for cell in cells):
        return "official tree, twice" if doubled else "official tree"
    return "class folders"


def _remarks(index: CellIndex) -> list[str]:
    remarks = []
    for label, other in (("parasitized", "uninfected"), ("uninfected", "parasitized")):
        if all(cell.label == label for cell in index.cells):
            remarks.append(f"every cell is labelled {label}: there is no {other} one")
    if index.unreadable:
        first = index.unreadable[0]
        remarks.append(
            f"{counted(len(index.unreadable), 'picture')} unreadable and left out, such as {first.file}: {first.reason}"
        )
    unknown = sum(cell.patient is None for cell in index.cells)
    if unknown:
        who = "patients are not known" if unknown == len(index) else f"the patient of {unknown:,} cells is not known"
        remarks.append(
            f"{who}: cells of one person may stand on both sides of a split, and intervals are too narrow; name the"
            " patients in a CSV table with the columns file,label,patient"
        )
    return remarks


def _plain(word: str) -> str:
    """Spell a class's name without case, spaces, hyphens and underscores."""
    return "".join(character for character in word.lower() if character not in " -_")


def _listing(words: object) -> str:
    names = sorted(set(words))  # type: ignore[call-overload]
    shown = ", ".join(names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown
