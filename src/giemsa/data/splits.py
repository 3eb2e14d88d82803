"""How labelled cells are divided: by patient, into a hold-out or folds, in a small file that can be read.

Cells of one patient share stain, light and camera: divided at random, accuracy rises by two to three points that
no new patient will see (Rajaraman et al. 2018). So whole patients are dealt out, evenly in labels, donors and
numbers of cells; `by="field"` and `by="laboratory"` do so with photographs and laboratories. `by="image"` makes the
random split of the notebooks, and says what leaks; `by="folder"` takes over the `train/`, `valid/` and `test/` folders
of a tree, and says the same.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from giemsa.errors import DataError, GiemsaWarning, UsageError
from giemsa.files import write_file
from giemsa.words import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from giemsa.data.index import CellIndex, LabelledCell
    from giemsa.data.labels import LabelSets

SplitBy = Literal["patient", "field", "laboratory", "image", "folder"]
HOLD_OUT_PARTS: Final[tuple[str, ...]] = ("train", "validation", "test")

_FORMAT: Final = "giemsa split"
_VERSION: Final = 1
_SEED_STREAM: Final = 0x6D61  # so that a split and a training with the same seed draw different numbers
_KEY_DIGITS: Final = 16  # of a picture's SHA-256: among 30,000 pictures two are alike once in 10^10 data sets


@dataclass(frozen=True, slots=True)
class Split:
    """Which patients or pictures belong to which part.

    Attributes
    ----------
    by : str
        `patient`, `field`, `laboratory`, `image` or `folder`: what is dealt out as a whole.
    members : tuple of (str, tuple of str)
        Each part's name and its patients, fields or laboratories, or the first 16 digits of its pictures' SHA-256.
        Hold-outs have `train`, `validation` and perhaps `test`; folds are called `0`, `1` and so on.
    n_folds : int
        How many folds there are; 0 for a hold-out.
    seed : int
        What it was drawn with.
    data_digest : str
        `CellIndex.digest` of the data that it was made for.
    """

    by: SplitBy
    members: tuple[tuple[str, tuple[str, ...]], ...]
    n_folds: int
    seed: int
    data_digest: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts or folds."""
        return tuple(name for name, _ in self.members)

    @property
    def digest(self) -> str:
        """SHA-256 over what is in which part."""
        text = json.dumps([self.by, self.n_folds, self.members])
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def parts(self, index: CellIndex) -> dict[str, NDArray[np.intp]]:
        """Rows of each part, sorted, by its name.

        For folds these are the folds themselves, `0`, `1` and so on; `fold` gives both sides of one.

        Raises
        ------
        DataError
            If a cell has no part, or patients or pictures of the split are not in the data.

        Warns
        -----
        GiemsaWarning
            If the data are not those that the split was made for, but each patient or picture has a part.
        """
        _check_data(self, index)
        part_of = {unit: place for place, (_, units) in enumerate(self.members) for unit in units}
        key = _KEYS[self.by]
        places = np.array([part_of[key(cell)] for cell in index], np.intp)
        return {name: np.flatnonzero(places == place) for place, name in enumerate(self.names)}

    def fold(self, index: CellIndex, number: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows to train on and to validate on, when fold `number` is held back.

        Raises
        ------
        UsageError
            If there are no folds or none of this number.
        DataError
            As for `parts`.
        """
        if not self.n_folds:
            raise UsageError(f"fold {number} was asked for, but the split is a hold-out; make one with --folds")
        if not 0 <= number < self.n_folds:
            raise UsageError(f"fold {number} does not exist; the split has folds 0 to {self.n_folds - 1}")
        parts = self.parts(index)
        validation = parts.pop(str(number))
        return np.sort(np.concatenate(list(parts.values()))), validation

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the split as JSON.

        Raises
        ------
        OutputError
            If the file is there already and `force` is not given, or cannot be written.
        """
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "by": self.by,
            "folds": self.n_folds,
            "seed": self.seed,
            "data_digest": self.data_digest,
            "parts": {name: list(units) for name, units in self.members},
        }
        return write_file(path, json.dumps(content, indent=1) + "\n", force=force)


def make_split(
    index: CellIndex,
    labels: LabelSets,
    *,
    by: SplitBy = "patient",
    folds: int | None = None,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
) -> Split:
    """Deal out patients, or pictures, evenly in labels.

    Parameters
    ----------
    index : CellIndex
        The cells.
    labels : LabelSets
        Aligned with `index`; donors are dealt out evenly too, where they are known.
    by : str
        `patient`, `field` or `laboratory`; `image` for the notebooks' random split, in which byte-identical pictures
        stay together; `folder` for the parts that the folders give.
    folds : int, optional
        Make so many folds, 2 or more, instead of a hold-out. As many as there are laboratories leave each out once.
    validation, test : float
        Shares of the hold-out, between 0 and 1; `test` may be 0.
    seed : int
        The same seed and the same data give the same split, in whatever order the data are listed.

    Raises
    ------
    UsageError
        If shares or folds are impossible.
    DataError
        If patients (or fields, laboratories) are not known, or fewer than parts.

    Warns
    -----
    GiemsaWarning
        If patients stand in several parts, or a part lacks a class.
    """
    names, shares = _named_shares(folds, validation, test)
    rng = np.random.default_rng((_SEED_STREAM, seed))
    if by in _WHOLE:
        members = _deal_whole(index, labels, names, shares, rng, by=by)
    elif by == "image":
        members = _deal_images(index, names, shares, rng)
    elif by == "folder":
        if folds is not None:
            raise UsageError(f"folders give no folds, but {folds} were asked for; leave out the folds")
        members = _take_folders(index)
    else:
        raise UsageError(f"a split by {by!r} is not known; expected patient, field, laboratory, image or folder")
    split = Split(by, members, folds or 0, seed, index.digest)
    _warn_of_leaks(split, index)
    _warn_of_missing_classes(split, index, labels)
    return split


def read_split(path: str | os.PathLike[str]) -> Split:
    """Read a split and check that it is one.

    Raises
    ------
    DataError
        If the file is no split of this version, or has a patient or picture in two parts.
    """
    place = Path(path)
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise DataError(f"{place}: the split cannot be read ({why}); make one with: giemsa data split") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise DataError(f"{place}: this is no split; expected a file made by: giemsa data split")
    if content.get("version") != _VERSION:
        message = (
            f"{place}: the split has format version {content.get('version')}, this program reads version {_VERSION};"
            " make it again with: giemsa data split"
        )
        raise DataError(message)
    split = _checked_content(content, place)
    part_of: dict[str, str] = {}
    for name, units in split.members:
        for unit in units:
            if unit in part_of:
                what = _WHOLE.get(split.by, "picture")
                message = (
                    f"{place}: the {what} {unit} stands in {part_of[unit]} and in {name}; expected each in one part:"
                    " make the split again with: giemsa data split"
                )
                raise DataError(message)
            part_of[unit] = name
    return split


def patients_on_several_sides(index: CellIndex, parts: dict[str, NDArray[np.intp]]) -> int:
    """Count the patients who have cells in more than one part."""
    sides: dict[str, set[str]] = defaultdict(set)
    for name, rows in parts.items():
        for row in rows:
            if (patient := index.cells[row].patient) is not None:
                sides[patient].add(name)
    return sum(len(names) > 1 for names in sides.values())


def _picture_key(cell: LabelledCell) -> str:
    return cell.sha256[:_KEY_DIGITS]


def _folder_key(cell: LabelledCell) -> str:
    # The same picture may lie in two parts of someone's tree: the part belongs to its name.
    return f"{cell.part} {_picture_key(cell)}"


def _patient_key(cell: LabelledCell) -> str:
    return cell.patient or ""


def _field_key(cell: LabelledCell) -> str:
    return cell.photograph or ""


def _laboratory_key(cell: LabelledCell) -> str:
    return cell.laboratory or ""


_WHOLE: Final[dict[SplitBy, str]] = {"patient": "patient", "field": "field", "laboratory": "laboratory"}
"""What is dealt out as a whole by its name, which may be unknown."""

_KEYS: Final[dict[SplitBy, Callable[[LabelledCell], str]]] = {
    "patient": _patient_key,
    "field": _field_key,
    "laboratory": _laboratory_key,
    "image": _picture_key,
    "folder": _folder_key,
}


def _named_shares(folds: int | None, validation: float, test: float) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Check what was asked for and name the parts."""
    if folds is not None:
        if folds < 2:
            raise UsageError(f"{folds} folds make no split; expected 2 or more")
        return tuple(str(number) for number in range(folds)), np.full(folds, 1 / folds)
    if not (0 < validation < 1 and 0 <= test < 1 and validation + test < 1):
        message = (
            f"shares of {validation} for validation and {test} for test leave nothing to divide; expected numbers"
            " between 0 and 1 whose sum is below 1"
        )
        raise UsageError(message)
    shares = [1 - validation - test, validation, test]
    kept = 3 if test else 2
    return HOLD_OUT_PARTS[:kept], np.array(shares[:kept])


def _deal_whole(
    index: CellIndex,
    labels: LabelSets,
    names: tuple[str, ...],
    shares: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    by: SplitBy,
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    what, several = _WHOLE[by], {"laboratory": "laboratories"}.get(by, f"{by}s")
    keys = [_KEYS[by](cell) for cell in index]
    unknown = keys.count("")
    if unknown:
        message = (
            f"{index.root}: the {what} of {unknown:,} of {counted(len(index), 'cell')} is not known, so {several} "
            f"cannot be kept together; name them in a CSV table with the columns file,label,{what}, or split --by "
            "image and expect too good figures"
        )
        raise DataError(message)
    units = sorted(set(keys))
    if len(units) < len(names):
        number = counted(len(units), what) if len(units) == 1 else f"{len(units)} {several}"
        raise DataError(f"{index.root}: {number} cannot fill {len(names)} parts; ask for fewer")
    if by == "laboratory" and len(units) == len(names):
        return tuple((name, (unit,)) for name, unit in zip(names, units, strict=True))
    place = {unit: number for number, unit in enumerate(units)}
    rows = np.array([place[key] for key in keys], np.intp)
    amounts = _amounts(rows, labels, len(units))
    dealt = _deal_evenly(amounts, shares, rng)
    return tuple(
        (name, tuple(units[number] for number in np.flatnonzero(dealt == part))) for part, name in enumerate(names)
    )


def _amounts(patient: NDArray[np.intp], labels: LabelSets, n_patients: int) -> NDArray[np.float64]:
    """What each unit brings: cells of each label, donors' cells, and itself.

    Returns
    -------
    ndarray
        float64 [patients, quantities], each quantity adding up to 1; quantities that nobody has are left out.
    """
    parasitized = labels.official == 1
    kinds = (parasitized, ~parasitized & ~labels.donor, labels.donor, labels.disputed)
    cells = np.stack([np.bincount(patient[kind], minlength=n_patients) for kind in kinds], axis=1).astype(np.float64)
    infected, donor = cells[:, 0] > 0, cells[:, 2] > 0
    amounts = np.column_stack([cells, np.ones(n_patients), infected, donor])
    totals = amounts.sum(axis=0)
    shares: NDArray[np.float64] = amounts[:, totals > 0] / totals[totals > 0]
    return shares


def _deal_evenly(
    amounts: NDArray[np.float64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Deal units out so that each part gets its share of each quantity, as nearly as moves and swaps bring it.

    It begins with a random deal of the right numbers, so that seeds differ, and then takes the best move or swap of
    one unit after the other until none helps. What is made small is the squared distance from the share, relative
    to the share, summed over parts and quantities.
    """
    n_units, n_parts = len(amounts), len(shares)
    numbers = np.maximum(1, np.floor(shares * n_units).astype(np.intp))
    numbers[np.argmax(numbers)] += n_units - numbers.sum()
    dealt = rng.permutation(np.repeat(np.arange(n_parts), numbers))
    held = np.zeros((n_parts, amounts.shape[1]))
    np.add.at(held, dealt, amounts)
    improved = True
    while improved:
        improved = False
        for unit in rng.permutation(n_units):
            here = dealt[unit]
            # Gains are given as changes of the sum: the change of (h + d - s)^2 is 2 d (h - s) + d^2.
            off = held - shares[:, None]
            away = _change(-amounts[unit], off[here], shares[here])
            moves = away + _change(amounts[unit], off, shares)
            moves[here] = 0.0
            if np.count_nonzero(dealt == here) == 1:
                moves[:] = 0.0  # no part is emptied
            difference = amounts - amounts[unit]
            swaps = _change(difference, off[here], shares[here]) + _change(-difference, off[dealt], shares[dealt])
            swaps[dealt == here] = 0.0
            there, other = int(np.argmin(moves)), int(np.argmin(swaps))
            if min(moves[there], swaps[other]) > -1e-12:
                continue
            improved = True
            if moves[there] <= swaps[other]:
                _move(unit, there, dealt, held, amounts)
            else:
                target = dealt[other]
                _move(other, here, dealt, held, amounts)
                _move(unit, target, dealt, held, amounts)
    return dealt


def _change(
    difference: NDArray[np.float64], off: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Change of the sum of squares when a part that is `off` gets `difference` more."""
    change: NDArray[np.float64] = (difference * (2 * off + difference)).sum(axis=-1) / share
    return change


def _move(
    unit: int, part: int, dealt: NDArray[np.intp], held: NDArray[np.float64], amounts: NDArray[np.float64]
) -> None:
    held[dealt[unit]] -= amounts[unit]
    held[part] += amounts[unit]
    dealt[unit] = part


def _deal_images(
    index: CellIndex, names: tuple[str, ...], shares: NDArray[np.float64], rng: np.random.Generator
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Deal pictures out at random within each label; byte-identical ones stay together."""
    label_of = {_picture_key(cell): cell.label for cell in index}
    if len(label_of) < len(names):
        message = f"{index.root}: {counted(len(label_of), 'different picture')} cannot fill {len(names)} parts"
        raise DataError(f"{message}; ask for fewer")
    chosen: list[list[str]] = [[] for _ in names]
    for label in ("parasitized", "uninfected"):
        keys = sorted(key for key, value in label_of.items() if value == label)
        borders = np.rint(np.cumsum(shares)[:-1] * len(keys)).astype(np.intp)
        for part, drawn in zip(chosen, np.split(rng.permutation(len(keys)), borders), strict=True):
            part.extend(keys[number] for number in drawn)
    return tuple((name, tuple(sorted(part))) for name, part in zip(names, chosen, strict=True))


def _take_folders(index: CellIndex) -> tuple[tuple[str, tuple[str, ...]], ...]:
    without = [cell.file for cell in index if cell.part is None]
    if without:
        message = (
            f"{index.root}: {counted(len(without), 'cell')} such as {without[0]} in no folder called train, valid or"
            " test; split by patient or image instead"
        )
        raise DataError(message)
    parts: dict[str, set[str]] = defaultdict(set)
    for cell in index:
        parts[cell.part or ""].add(_folder_key(cell))
    return tuple((name, tuple(sorted(parts[name]))) for name in HOLD_OUT_PARTS if name in parts)


def _warn_of_leaks(split: Split, index: CellIndex) -> None:
    if split.by == "patient":
        return
    if not index.patients and split.by in _WHOLE:
        return
    if not index.patients:
        message = (
            f"split by {split.by}, and patients are not known: cells of one patient may stand on several sides, which"
            " makes figures better than they will be for new patients"
        )
        warnings.warn(message, GiemsaWarning, stacklevel=3)
        return
    shared = patients_on_several_sides(index, split.parts(index))
    if shared:
        message = (
            f"split by {split.by}: {shared} of {counted(len(index.patients), 'patient')} have cells on several sides;"
            " cells of one patient share stain, light and camera, and accuracy measured so is 2 to 3 points better"
            " than it will be for new patients"
        )
        warnings.warn(message, GiemsaWarning, stacklevel=3)


def _warn_of_missing_classes(split: Split, index: CellIndex, labels: LabelSets) -> None:
    for name, rows in split.parts(index).items():
        parasitized = int(labels.official[rows].sum())
        if parasitized in (0, len(rows)):
            missing = "parasitized" if parasitized == 0 else "uninfected"
            where = f"fold {name}" if split.n_folds else name
            message = f"{where} has {counted(len(rows), 'cell')} and not one {missing} one; take fewer or larger parts"
            warnings.warn(message, GiemsaWarning, stacklevel=3)


def _check_data(split: Split, index: CellIndex) -> None:
    """Make sure that each cell has a part and each member of a part is there."""
    whole = index.whole or index
    key, what = _KEYS[split.by], _WHOLE.get(split.by, "picture")
    if split.by in _WHOLE and not all(map(key, whole)):
        several = {"laboratory": "laboratories"}.get(what, f"{what}s")
        message = f"{whole.root}: the split is by {what}, but these data do not tell {several} ({whole.summary})"
        raise DataError(f"{message}; use the data that it was made for")
    here = {key(cell) for cell in whole}
    assigned = {unit for _, units in split.members for unit in units}
    advice = "use the data that it was made for, or make another with: giemsa data split"
    if homeless := sorted(here - assigned):
        message = f"{whole.root}: {counted(len(homeless), what)}, such as {homeless[0]}, not in the split; {advice}"
        raise DataError(message)
    if absent := sorted(assigned - here):
        message = (
            f"{whole.root}: {counted(len(absent), what)} of the split, such as {absent[0]}, not in the data; {advice}"
        )
        raise DataError(message)
    if whole.digest != split.data_digest:
        message = (
            f"{whole.root}: the split was made for other data (digest {split.data_digest[:12]}, here"
            f" {whole.digest[:12]}), but its {what}s are the same ones and it is used"
        )
        warnings.warn(message, GiemsaWarning, stacklevel=4)


def _checked_content(content: dict[str, Any], place: Path) -> Split:
    """Turn a JSON object into a split, or say what is wrong with it."""
    by, folds, seed = (content.get(name) for name in ("by", "folds", "seed"))
    parts, digest = content.get("parts"), content.get("data_digest")
    numbers = all(isinstance(number, int) and not isinstance(number, bool) for number in (folds, seed))
    lists = isinstance(parts, dict) and all(
        isinstance(units, list) and units and all(isinstance(unit, str) for unit in units) for units in parts.values()
    )
    if not isinstance(by, str) or by not in _KEYS or not numbers or not isinstance(digest, str) or not lists:
        message = f"{place}: the split is damaged: by, folds, seed, data_digest or parts are missing or of another kind"
        raise DataError(f"{message}; make it again with: giemsa data split")
    assert isinstance(parts, dict)
    assert isinstance(folds, int)
    assert isinstance(seed, int)
    names: Sequence[str] = tuple(parts)
    expected = (
        [str(number) for number in range(min(folds, len(names) + 1))]
        if folds
        else [name for name in HOLD_OUT_PARTS if name in parts]
    )
    if list(names) != expected or len(names) < 2 - (by == "folder") or (not folds and names[0] != "train"):
        message = (
            f"{place}: the split has the parts {', '.join(names)}; expected train and validation, or folds 0, 1 ..."
        )
        raise DataError(f"{message}; make it again with: giemsa data split")
    return Split(by, tuple((name, tuple(units)) for name, units in parts.items()), folds, seed, digest)
