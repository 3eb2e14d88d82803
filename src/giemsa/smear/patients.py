"""Whose photographs are whose: folders are smears of their own until a person says otherwise; and the table of them.

Fields of two patients in one count say nothing of either, so that photographs of several folders, or of several folders
in an archive, are never counted as one smear unasked.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Final

from giemsa.spreadsheets import GuardedWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from giemsa.smear.results import SmearSummary
    from giemsa.sources import Source

COLUMNS: Final = (
    "patient", "fields", "fields_counted", "red_cells", "called", "parasitaemia", "parasitaemia_low",
    "parasitaemia_high", "told_from_none", "rules_out", "detection_limit", "per_ul", "per_ul_low", "per_ul_high",
    "confirmed", "rejected", "to_look_at", "told_by",
)  # fmt: skip
HEADER: Final = ",".join(COLUMNS) + "\n"
TABLE: Final = "patients.csv"
_NAME_BYTES: Final = 200  # of a folder made for a smear; file systems take 255
_NOT_IN_NAMES: Final = re.compile(r'[<>:"|?*\\/\x00-\x1f]')  # Windows takes none of these


@dataclass(frozen=True, slots=True)
class Photographs:
    """The photographs of one smear.

    Attributes
    ----------
    patient : str
        Whose they are taken to be: the folder that they lie in.
    folder : str
        The name of the output folder for it; no two of a command have the same.
    sources : tuple of Source
        In the order in which they were given.
    """

    patient: str
    folder: str
    sources: tuple[Source, ...]


def by_folder(sources: Sequence[Source]) -> list[Photographs]:
    """Photographs apart by the folder that they lie in, on a disk or in an archive, in the order of their first ones.

    A smear is named after its folder, as far as it differs from the others': `P1`, or `P1/day 2`.
    """
    folders: dict[str, list[Source]] = {}
    for source in sources:
        folders.setdefault(_folder_of(source.name), []).append(source)
    above = _common(list(folders))
    found: list[Photographs] = []
    patients: set[str] = set()
    names: set[str] = set()
    for folder, own in folders.items():
        patient = folder[len(above) :].strip("/") or folder.rpartition("/")[2]
        patient = _unused("photographs" if patient == "." else patient, patients)
        found.append(Photographs(patient, _unused(_as_file_name(patient), names), tuple(own)))
    return found


def patient_row(summary: SmearSummary) -> str:
    """A smear's row as CSV; shares from 0 to 1, empty where nothing could be counted.

    `parasitaemia` and `per_ul`, the estimates, are empty where the smear is not told from none.
    """
    count = summary.count
    row: list[object] = [summary.patient, summary.fields, summary.fields_counted]
    if count is None:
        row += [0] + [""] * (len(COLUMNS) - 4)
    else:
        share, per_ul = count.parasitaemia, count.per_ul
        told = count.told_from_none
        row += [count.red_cells, count.called, share.value if told else "", share.low, share.high]
        row += [str(told).lower(), count.rules_out, count.detection_limit]
        row += [round(per_ul.value) if told else "", round(per_ul.low), round(per_ul.high)]
        row += [count.confirmed, count.rejected, count.to_look_at, count.told_by]
    text = StringIO()
    GuardedWriter(text).writerow(row)
    return text.getvalue()


def _folder_of(name: str) -> str:
    return posixpath.normpath((name.replace(os.sep, "/") if os.sep != "/" else name).rpartition("/")[0])


def _common(folders: Sequence[str]) -> str:
    """What all folders begin with, up to the last slash before they differ."""
    parts = [folder.split("/") for folder in folders]
    shared = 0
    while all(len(one) > shared for one in parts) and len({one[shared] for one in parts}) == 1:
        shared += 1
    return "/".join(parts[0][:shared])


def _as_file_name(text: str) -> str:
    name = _NOT_IN_NAMES.sub("_", text)
    while len(name.encode()) > _NAME_BYTES:
        name = name[:-1]
    return name.strip(". ") or "photographs"


def _unused(name: str, taken: set[str]) -> str:
    """The name, with a number if another has it already, or would have it on a file system that ignores case."""
    number, unused = 1, name
    while unused.casefold() in taken:
        number += 1
        unused = f"{name} ({number})"
    taken.add(unused.casefold())
    return unused
