"""Strata of score: what is counted of a field, and what a smear shows, by how suspicious its cells are.

A cell's score is its relative logit. `EDGES` are multiples of the cut from which a cell is called parasitized, so that
five strata are *called* and two are not: `near` lies just below the cut, `bulk` is the rest of the smear.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

STRATA: Final = ("bulk", "near", "called", "plain", "clear", "strong", "extreme")
BULK, NEAR, CALLED = 0, 1, 2
EDGES: Final = (0.6, 1.0, 1.15, 1.4, 1.8, 2.6)
"""Lower edges of all strata but the first, in cuts."""
Counts = tuple[int, ...]
NONE: Final[Counts] = (0,) * len(STRATA)


def stratum_of(relative_logit: ArrayLike, cut: float) -> NDArray[np.int64]:
    """Stratum of each cell.

    Parameters
    ----------
    relative_logit : array_like
        [N].
    cut : float
        From which a cell is called parasitized; above 0.

    Returns
    -------
    ndarray
        int64 [N], places in `STRATA`.
    """
    if not cut > 0:
        raise UsageError(f"the cut is {cut:g} spreads above the healthy cells' middle; expected more than 0")
    return np.searchsorted(cut * np.array(EDGES), np.asarray(relative_logit, float), side="right")


def by_stratum(stratum: NDArray[np.int64], chosen: ArrayLike | None = None) -> Counts:
    """Cells in each stratum, all or the chosen ones."""
    cells = stratum if chosen is None else stratum[np.asarray(chosen, bool)]
    return tuple(int(n) for n in np.bincount(cells, minlength=len(STRATA)))


@dataclass(frozen=True, slots=True)
class FieldCounts:
    """A reviewed field: its cells by stratum, and those that were not found.

    Attributes
    ----------
    field, slide, patient : str
        Their names; `slide` and `patient` are empty where nobody named them.
    healthy, infected : tuple of int
        Found cells in each of `STRATA`.
    healthy_not_found, infected_not_found : int
        Labelled cells that were not found; the latter count against sensitivity.
    """

    field: str
    slide: str
    patient: str
    healthy: Counts
    infected: Counts
    healthy_not_found: int = 0
    infected_not_found: int = 0

    @property
    def true_positives(self) -> int:
        """Infected cells that are called."""
        return sum(self.infected[CALLED:])

    @property
    def false_negatives(self) -> int:
        """Infected cells that are not called, those that were not found among them."""
        return sum(self.infected[:CALLED]) + self.infected_not_found

    @property
    def false_positives(self) -> int:
        """Healthy cells that are called."""
        return sum(self.healthy[CALLED:])

    @property
    def true_negatives(self) -> int:
        """Healthy cells that are not called."""
        return sum(self.healthy[:CALLED])


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a smear shows: its cells by stratum, and what a person saw in those that were looked at.

    Attributes
    ----------
    fields : int
        Photographs that were counted.
    cells : tuple of int
        Red cells in each of `STRATA`.
    confirmed, rejected : tuple of int
        Of these, what a person decided. Within a stratum these count as a sample of it. In `bulk` they must be one:
        cells of fields in which every cell was looked at, or of a random sample.
    found_by_eye : int
        Confirmed cells of `bulk` that somebody happened to see: infected cells that are known, and no sample.
    """

    fields: int
    cells: Counts
    confirmed: Counts = NONE
    rejected: Counts = NONE
    found_by_eye: int = 0

    def __post_init__(self) -> None:
        parts = (self.cells, self.confirmed, self.rejected)
        fitting = all(len(part) == len(STRATA) and min(part) >= 0 for part in parts) and all(
            c + r <= n for n, c, r in zip(*parts, strict=True)
        )
        room = fitting and self.found_by_eye <= self.cells[BULK] - self.confirmed[BULK] - self.rejected[BULK]
        if not (fitting and room and self.fields >= 1 and sum(self.cells) >= 1 and self.found_by_eye >= 0):
            raise UsageError(
                f"{self.cells} cells by stratum in {self.fields} fields, {self.confirmed} confirmed, {self.rejected} "
                f"rejected and {self.found_by_eye} found by eye do not fit together"
            )

    @property
    def red_cells(self) -> int:
        """All cells."""
        return sum(self.cells)

    @property
    def called(self) -> int:
        """Cells at or above the cut, whatever a person decided."""
        return sum(self.cells[CALLED:])

    @property
    def called_confirmed(self) -> int:
        """Of the called cells, those confirmed."""
        return sum(self.confirmed[CALLED:])

    @property
    def called_rejected(self) -> int:
        """Of the called cells, those rejected."""
        return sum(self.rejected[CALLED:])

    @property
    def to_look_at(self) -> int:
        """Called cells that nobody has looked at."""
        return self.called - self.called_confirmed - self.called_rejected

    @property
    def all_confirmed(self) -> int:
        """Cells in which a person saw a parasite, wherever they lie."""
        return sum(self.confirmed) + self.found_by_eye

    @property
    def looked_at(self) -> int:
        """Cells that a person decided on."""
        return self.all_confirmed + sum(self.rejected)

    def unreviewed(self) -> Evidence:
        """The same smear before anybody has looked at it."""
        return Evidence(self.fields, self.cells)

    def pooled(self) -> Evidence:
        """The same with all called cells in one stratum, as if only calls were known."""

        def merged(part: Counts) -> Counts:
            return (*part[:CALLED], sum(part[CALLED:]), *(0 for _ in part[CALLED + 1 :]))

        return replace(self, cells=merged(self.cells), confirmed=merged(self.confirmed), rejected=merged(self.rejected))


def evidence_of(
    fields: int,
    stratum: NDArray[np.int64],
    confirmed: ArrayLike,
    rejected: ArrayLike,
    sampled: ArrayLike | None = None,
) -> Evidence:
    """Gather a smear's cells.

    Parameters
    ----------
    fields : int
        Photographs counted.
    stratum : ndarray
        int64 [N], of `stratum_of`.
    confirmed, rejected : array_like
        bool [N], what a person decided.
    sampled : array_like, optional
        bool [N]: cells looked at for no reason of their own, in fields that were looked at whole or in a random sample.
        Of the bulk only these count as a sample; None means none.
    """
    confirmed, rejected = np.asarray(confirmed, bool), np.asarray(rejected, bool)
    sample = np.zeros(len(stratum), bool) if sampled is None else np.asarray(sampled, bool)
    counts_as_sample = (stratum != BULK) | sample
    return Evidence(
        fields,
        by_stratum(stratum),
        by_stratum(stratum, confirmed & counts_as_sample),
        by_stratum(stratum, rejected & counts_as_sample),
        int((confirmed & ~counts_as_sample).sum()),
    )


def whole_smear(fields: Sequence[Evidence]) -> Evidence:
    """What all fields of a smear show together."""
    return Evidence(
        sum(one.fields for one in fields),
        added([one.cells for one in fields]),
        added([one.confirmed for one in fields]),
        added([one.rejected for one in fields]),
        sum(one.found_by_eye for one in fields),
    )


def added(parts: Sequence[Counts]) -> Counts:
    """Sum by stratum."""
    return tuple(int(n) for n in np.sum(np.array(parts, int).reshape(-1, len(STRATA)), axis=0))
