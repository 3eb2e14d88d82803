"""A laboratory's own rates: how often the classifier is right on its slides, from fields that a person reviewed.

Rates measured in one laboratory do not hold in another. `giemsa smear calibrate` compares calls with labels in reviewed
fields and writes `SITE.json`: the cut that serves this laboratory best, and what was right and wrong in each field.
The cut is the one at which parasitaemias of `_AIM` are measured with the least variance. So that it does not flatter
itself, the calls in a field are counted at the cut that the other fields choose.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import DataError
from giemsa.files import write_file
from giemsa.smear.counting import FieldCounts, Rates, measured_rates

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

SITE_VERSION: Final = 1
_AIM: Final = 0.005  # parasitaemia; 25,000 parasites per microlitre, where counting begins to matter
_CUTS: Final = np.round(np.arange(1.0, 40.01, 0.25), 2)


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
    """

    field: str
    relative_logit: NDArray[np.float64]
    infected: NDArray[np.bool_]
    missed_infected: int = 0
    missed_healthy: int = 0


@dataclass(frozen=True, slots=True)
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
    missed_infected, missed_healthy : int
        Labelled cells that were not found, and so not judged.
    giemsa, command : str
        What made it.
    """

    cut: float
    model_sha256: str
    fields: tuple[FieldCounts, ...]
    missed_infected: int = 0
    missed_healthy: int = 0
    giemsa: str = ""
    command: str = ""

    def rates(self, *, seed: int = 0) -> Rates:
        """Turn the counts into rates."""
        return measured_rates(self.fields, seed=seed)

    def to_json(self) -> str:
        """Write what `SITE.json` holds."""
        return json.dumps({"giemsa_site": SITE_VERSION, **asdict(self)}, indent=2) + "\n"


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
    for index, one in enumerate(fields):
        chosen = _best(total - table[index])
        counts.append(FieldCounts(one.field, *(int(v) for v in table[index, chosen])))
    return Site(
        cut=float(_CUTS[_best(total)]),
        model_sha256=model_sha256,
        fields=tuple(counts),
        missed_infected=sum(f.missed_infected for f in fields),
        missed_healthy=sum(f.missed_healthy for f in fields),
        giemsa=__version__,
        command=command,
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
    if not isinstance(raw, dict) or raw.get("giemsa_site") != SITE_VERSION:
        raise ValueError(f"expected an object with giemsa_site {SITE_VERSION}")
    fields = []
    for entry in raw["fields"]:
        numbers = [entry[k] for k in ("true_positives", "false_negatives", "false_positives", "true_negatives")]
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers):
            raise ValueError(f"the counts of {entry['field']!r} are {numbers}, expected whole numbers from 0")
        fields.append(FieldCounts(str(entry["field"]), *numbers))
    cut = float(raw["cut"])
    if not np.isfinite(cut):
        raise ValueError(f"cut is {cut}, expected a finite number")
    return Site(
        cut,
        str(raw["model_sha256"]),
        tuple(fields),
        int(raw.get("missed_infected", 0)),
        int(raw.get("missed_healthy", 0)),
        str(raw.get("giemsa", "")),
        str(raw.get("command", "")),
    )


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
