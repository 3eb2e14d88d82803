"""Whose cell it is: patients from file names and from the lists that lie beside the official archive.

`C39P4thinF_original_IMG_20150622_105102_cell_101.png` is cell 101 of photograph `IMG_20150622_105102` of
patient `C39P4thinF_original`. In the official set the 150 infected patients carry a P number (`P4`) and the 50
healthy donors none (`C202ThinF`): this holds for each of the 120 patients that could be checked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from giemsa.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

MAPPING_FILES: Final = ("patientid_cellmapping_parasitized.csv", "patientid_cellmapping_uninfected.csv")

_CELL_NAME: Final = re.compile(r"(?P<patient>.+?)_(?P<photograph>IMG_.+)_cell_\w+")
_OFFICIAL_PATIENT: Final = re.compile(r"C\d+[A-Z]?(?P<number>P\d+)?_?(?:N_?)?thin", re.IGNORECASE)
# One patient, photographed through two microscopes under two names.
_TWO_MICROSCOPES_NAME: Final = "C47P8"
_TWO_MICROSCOPES: Final = re.compile(r"C47P8(?!\d)", re.IGNORECASE)
_LISTED_NAME: Final = re.compile(r"""[^'",\[\]]+\.(?:png|jpe?g|tiff?|bmp|webp)\b""", re.IGNORECASE)


class Origin(NamedTuple):
    """Where a cell comes from, as its file name tells it."""

    patient: str
    photograph: str


def origin_of(name: str) -> Origin | None:
    """Read patient and photograph from a file name of the official form, None where it has another.

    Examples
    --------
    >>> origin_of("C39P4thinF_original_IMG_20150622_105102_cell_101.png")
    Origin(patient='C39P4thinF_original', photograph='IMG_20150622_105102')
    """
    match = _CELL_NAME.match(name)
    if match is None:
        return None
    patient = match["patient"]
    return Origin(_TWO_MICROSCOPES_NAME if _TWO_MICROSCOPES.match(patient) else patient, match["photograph"])


def is_official(patient: str) -> bool:
    """Whether a patient's name has the form of the official set."""
    return patient == _TWO_MICROSCOPES_NAME or _OFFICIAL_PATIENT.match(patient) is not None


def has_infected_number(patient: str) -> bool:
    """Whether an official name carries the P number that only infected patients have."""
    match = _OFFICIAL_PATIENT.match(patient)
    return patient == _TWO_MICROSCOPES_NAME or (match is not None and match["number"] is not None)


def read_mapping(path: Path) -> dict[str, str]:
    """Read one official list of patients: file name -> patient.

    A line is a patient's id and then a Python list of file names as text, in some copies with stray commas
    behind it. There is no header; should a copy have one, it names no picture and is skipped.

    Raises
    ------
    DataError
        If a line names no picture, or the file is not text.
    """
    patients: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: the list of patients cannot be read ({error}); fetch it again or move it away"
        raise DataError(message) from error
    for number, line in enumerate(lines, start=1):
        patient, _, listed = line.partition(",")
        names = [name.strip() for name in _LISTED_NAME.findall(listed)]
        patient = patient.strip().strip("\"'")
        if names and patient:
            patients.update(dict.fromkeys(names, patient))
        elif number > 1 and line.strip(" ,") and "[]" not in listed:
            message = (
                f"{path}, line {number}: {line[:60]!r} names no picture; expected a patient's id and then a list of"
                " file names, as in the official lists: fetch it again or move it away"
            )
            raise DataError(message)
    return patients


def assign_patients(names: Sequence[str], listed: Mapping[str, str]) -> tuple[list[str | None], list[str]]:
    """Name the patient of each file from its name and from the official lists, whichever is known.

    The file name names the patient. Where a list says that cells of two such patients are one person's, the two
    become one: a patient on both sides of a split does harm, a group too large does not.

    Parameters
    ----------
    names : sequence of str
        Base names of the files.
    listed : mapping
        File name -> patient, from `read_mapping`; empty where there are no lists.

    Returns
    -------
    patients : list of (str or None)
        In the order of `names`.
    joined : list of str
        A sentence for each patient that goes under more than one name.
    """
    own = [origin.patient if (origin := origin_of(name)) else None for name in names]
    if not listed:
        return own, []
    links = [
        (("name", mine) if mine is not None else None, ("list", listed[name]) if name in listed else None)
        for name, mine in zip(names, own, strict=True)
    ]
    groups = _connected({(one, other) for one, other in links if one is not None and other is not None})
    called: dict[tuple[str, str], str] = {}
    joined = []
    for group in groups:
        by_name = sorted(patient for kind, patient in group if kind == "name")
        called.update(dict.fromkeys(group, by_name[0]))
        if len(by_name) > 1:
            joined.append(f"the official lists say that {' and '.join(by_name)} are one patient, here {by_name[0]}")
    patients: list[str | None] = []
    for one, other in links:
        key = one or other
        patients.append(None if key is None else called.get(key, key[1]))
    return patients, sorted(joined)


def _connected(edges: Iterable[tuple[tuple[str, str], tuple[str, str]]]) -> list[set[tuple[str, str]]]:
    """Group nodes that edges connect."""
    group_of: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for one, other in edges:
        group = group_of.get(one, {one}) | group_of.get(other, {other})
        group_of.update(dict.fromkeys(group, group))
    return list({id(group): group for group in group_of.values()}.values())
