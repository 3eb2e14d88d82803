"""A laboratory's own rates: how often the classifier is right on its slides, from fields that a person reviewed.

Rates measured in one laboratory do not hold in another. `giemsa smear calibrate` compares calls with labels in reviewed
fields and writes `SITE.json`: the cut that serves this laboratory best, and what was right and wrong in each field, by
slide, patient and stratum of score. The cut is the one at which parasitaemias of `_AIM` are measured with the least
variance. So that it does not flatter itself, a slide's calls are counted at the cut that the other slides choose.

Files of version 1 hold calls by field only, without slides: they open, and count as one slide.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import DataError
from giemsa.files import write_file
from giemsa.smear.counting import FieldCounts, Rates, measured_rates, stratum_of
from giemsa.smear.counting.strata import STRATA, by_stratum

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

SITE_VERSION: Final = 2
_OPENED: Final = (1, 2)
_AIM: Final = 0.005  # parasitaemia; 25,000 parasites per microlitre, where counting begins to matter
_CUTS: Final = np.round(np.arange(1.0, 40.01, 0.25), 2)
LACKS: Final = (
    "the site file is of version 1, which does not tell slides apart: all its fields count as one slide, so that the "
    "interval is wide; calibrate again with the slide of each field"
)


@dataclass(frozen=True, slots=True)
class LabelledField:
    """A reviewed field: each found cell's relative logit, and whether a person saw a parasite in it.

    Attributes
    ----------
    field : str
        Its name.
    relative_logit : ndarray
        float64 [N].
    infected : ndarray
        bool [N].
    missed_infected, missed_healthy : int
        Labelled cells that were not found.
    slide, patient : str
        Which slide and whose; empty where nobody named them. All fields without either name are taken for one slide.
    """

    field: str
    relative_logit: NDArray[np.float64]
    infected: NDArray[np.bool_]
    missed_infected: int = 0
    missed_healthy: int = 0
    slide: str = ""
    patient: str = ""


@dataclass(frozen=True)
class Site:
    """A laboratory's cut and counts; what `SITE.json` holds.

    Attributes
    ----------
    cut : float
        `parasitized` means a relative logit of at least this.
    model_sha256 : str
        The model with which the calls were made; no other one may be used with it.
    fields : tuple of FieldCounts
        What was right and wrong in each reviewed field.
    giemsa, command : str
        What made it.
    version : int
        Of the file that it came from. Counts of version 1 are calls only, all in the first called stratum.
    """

    cut: float
    model_sha256: str
    fields: tuple[FieldCounts, ...]
    giemsa: str = ""
    command: str = ""
    version: int = SITE_VERSION

    @cached_property
    def _rates(self) -> Rates:
        known = self.version > 1 and any(field.slide or field.patient for field in self.fields)
        return measured_rates(self.fields, by_stratum=self.version > 1, slides_known=known)

    def rates(self) -> Rates:
        """How often the classifier is right on a new slide of this laboratory."""
        return self._rates

    @property
    def lacks(self) -> str:
        """What the file does not tell, as a sentence; empty where nothing is missing."""
        if self.version == 1:
            return LACKS
        if not any(field.slide or field.patient for field in self.fields):
            return ("no slide or patient is named in the reviewed fields, so that all count as one slide and the interval is "
                    "wide; name the slide of each field and calibrate again")  # fmt: skip
        return ""

    def to_json(self) -> str:
        """What `SITE.json` holds."""
        content = {"cut": self.cut, "model_sha256": self.model_sha256, "strata": STRATA,
                   "fields": [asdict(field) for field in self.fields], "giemsa": self.giemsa,
                   "command": self.command}  # fmt: skip
        return json.dumps({"giemsa_site": SITE_VERSION, **content}, indent=2) + "\n"


def calibrate(fields: Sequence[LabelledField], *, model_sha256: str, command: str = "") -> Site:
    """Choose a cut and count what is right and wrong with it.

    Parameters
    ----------
    fields : sequence of LabelledField
        Two or more, with infected and healthy cells.
    model_sha256 : str
        Digest of the model behind the logits.
    command : str
        The command line, for the record.

    Raises
    ------
    DataError
        If there are too few fields, or no infected or no healthy cells in them.
    """
    from giemsa import __version__

    infected = sum(int(f.infected.sum()) for f in fields)
    healthy = sum(int((~f.infected).sum()) for f in fields)
    if len(fields) < 2 or infected == 0 or healthy == 0:
        raise DataError(
            f"the reviewed fields are {len(fields)}, with {infected} infected and {healthy} healthy cells found in "
            "them; expected two fields or more, with some of both"
        )
    table = np.array([[_counted(f, cut) for cut in _CUTS] for f in fields])  # [fields, cuts, (tp, fn, fp, tn)]
    total = table.sum(axis=0)
    counts = []
    groups = _left_out_together(fields)
    for index, one in enumerate(fields):
        others = total - table[groups[index]].sum(axis=0)
        counts.append(_field_counts(one, float(_CUTS[_best(others if others[0, :2].sum() else total)])))
    return Site(
        cut=float(_CUTS[_best(total)]),
        model_sha256=model_sha256,
        fields=tuple(counts),
        giemsa=__version__,
        command=command,
    )


def _left_out_together(fields: Sequence[LabelledField]) -> list[list[int]]:
    """For each field, the fields of its slide; itself alone where all are of one slide."""
    slides: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, one in enumerate(fields):
        slides[one.patient, one.slide].append(index)
    if len(slides) == 1:
        return [[index] for index in range(len(fields))]
    return [slides[one.patient, one.slide] for one in fields]


def _field_counts(one: LabelledField, cut: float) -> FieldCounts:
    stratum = stratum_of(one.relative_logit, cut)
    return FieldCounts(
        one.field,
        one.slide,
        one.patient,
        by_stratum(stratum, ~one.infected),
        by_stratum(stratum, one.infected),
        healthy_not_found=one.missed_healthy,
        infected_not_found=one.missed_infected,
    )


def write_site(path: str | os.PathLike[str], site: Site, *, force: bool = False) -> None:
    """Write a `SITE.json`."""
    write_file(path, site.to_json(), force=force)


def read_site(path: str | os.PathLike[str], *, model_sha256: str | None = None) -> Site:
    """Read a `SITE.json`.

    Parameters
    ----------
    path : path
        The file.
    model_sha256 : str, optional
        The model that is going to be used; it must be the site's.

    Raises
    ------
    DataError
        If it cannot be read, is no such file, or was made with another model.
    """
    path = Path(path)
    try:
        site = _parsed(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"the site file {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is no site file of `giemsa smear calibrate`: {error}") from error
    if model_sha256 is not None and site.model_sha256 != model_sha256:
        raise DataError(
            f"the site file {path} was made with the model {site.model_sha256[:12]}, and this one is {model_sha256[:12]}; "
            "rates of one model do not hold for another, so calibrate again"
        )
    return site


def _parsed(raw: Any) -> Site:  # noqa: ANN401
    if not isinstance(raw, dict) or raw.get("giemsa_site") not in _OPENED:
        raise ValueError(f"expected an object with giemsa_site {SITE_VERSION}")
    version = int(raw["giemsa_site"])
    if version > 1 and tuple(raw["strata"]) != STRATA:
        raise ValueError(f"its strata are {raw['strata']!r}, expected {list(STRATA)}")
    parsed = _field_of_version_1 if version == 1 else _field
    fields = [parsed(entry) for entry in raw["fields"]]
    if version == 1 and fields and (lost := _whole(raw.get("missed_infected", 0), "missed_infected")):
        first = fields[0]  # of which field they were is not told; as one slide, it does not matter
        fields[0] = FieldCounts(first.field, "", "", first.healthy, first.infected, 0, lost)
    cut = float(raw["cut"])
    if not (np.isfinite(cut) and cut > 0):
        raise ValueError(f"cut is {cut}, expected a finite number above 0")
    if not any(f.true_positives + f.false_negatives for f in fields) or not any(
        f.false_positives + f.true_negatives for f in fields
    ):
        raise ValueError("it has no infected or no healthy cells")
    return Site(
        cut,
        str(raw["model_sha256"]),
        tuple(fields),
        str(raw.get("giemsa", "")),
        str(raw.get("command", "")),
        version,
    )


def _field(entry: Any) -> FieldCounts:  # noqa: ANN401
    name = str(entry["field"])
    counts = []
    for kind in ("healthy", "infected"):
        numbers = tuple(_whole(n, f"{kind} of {name!r}") for n in entry[kind])
        if len(numbers) != len(STRATA):
            raise ValueError(f"{kind} of {name!r} has {len(numbers)} strata, expected {len(STRATA)}")
        counts.append(numbers)
    return FieldCounts(
        name,
        str(entry.get("slide", "")),
        str(entry.get("patient", "")),
        counts[0],
        counts[1],
        _whole(entry.get("healthy_not_found", 0), f"healthy_not_found of {name!r}"),
        _whole(entry.get("infected_not_found", 0), f"infected_not_found of {name!r}"),
    )


def _field_of_version_1(entry: Any) -> FieldCounts:  # noqa: ANN401
    name = str(entry["field"])
    kinds = ("true_positives", "false_negatives", "false_positives", "true_negatives")
    found, missed, false, right = (_whole(entry[kind], f"{kind} of {name!r}") for kind in kinds)
    return FieldCounts(name, "", "", (right, 0, false, 0, 0, 0, 0), (missed, 0, found, 0, 0, 0, 0))


def _whole(number: Any, what: str) -> int:  # noqa: ANN401
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"{what} is {number!r}, expected a whole number from 0")
    return number


def _counted(one: LabelledField, cut: float) -> tuple[int, int, int, int]:
    called = one.relative_logit >= cut
    return (
        int((called & one.infected).sum()),
        int((~called & one.infected).sum()),
        int((called & ~one.infected).sum()),
        int((~called & ~one.infected).sum()),
    )


def _best(total: NDArray[np.int64]) -> int:
    """Choose the cut with the least variance of Rogan and Gladen's estimate at `_AIM`."""
    found, missed, false, right = (total[:, i] + 0.5 for i in range(4))
    sensitivity, false_alarms = found / (found + missed), false / (false + right)
    gain = sensitivity - false_alarms
    share = _AIM * sensitivity + (1 - _AIM) * false_alarms
    variance = np.where(gain > 0.05, share * (1 - share) / np.maximum(gain, 0.05) ** 2, np.inf)
    return int(np.argmin(variance))
