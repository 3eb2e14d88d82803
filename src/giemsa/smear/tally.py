"""From judged fields to a summary: adds up what was counted, and what the count is based on besides the photographs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.smear import counting, judging
from giemsa.smear.finding import RED_CELL_UM
from giemsa.smear.results import SmearSummary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from giemsa.model import Model
    from giemsa.smear.decisions import Key
    from giemsa.smear.results import Decision, JudgedField, Slide
    from giemsa.smear.site import Site

OTHER_SCALE: Final = 1.25
"""A field whose red cells measure so many times more or less than the smear's is named."""
NO_CELLS: Final = "no cells at all"
"""Why a field in which nothing was found is left out."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a count is based on besides the photographs.

    Attributes
    ----------
    model : Model
        The classifier.
    site : Site or None
        This laboratory's rates; None means that they are assumed.
    patient : str
        Whose blood it is.
    red_cells_per_ul : float or None
        The patient's red cell count; None means that it is assumed.
    decisions : mapping
        From a cell's key to what a person decided.
    command : str
        How the count was asked for.
    complete_fields : frozenset of str
        Fields in which a person has looked at every cell: those not confirmed are healthy.
    """

    model: Model
    site: Site | None = None
    patient: str = ""
    red_cells_per_ul: float | None = None
    decisions: Mapping[Key, Decision] = field(default_factory=dict)
    command: str = ""
    complete_fields: frozenset[str] = frozenset()

    @property
    def cut(self) -> float:
        """`parasitized` means a relative logit of at least this."""
        return self.site.cut if self.site is not None else judging.DEFAULT_CUT

    def rates(self) -> counting.Rates:
        """How often the classifier is right, as measured at the site or assumed."""
        return self.site.rates() if self.site is not None else counting.assumed_rates()


@dataclass
class Tally:
    """Adds judged fields up to a summary.

    Parameters
    ----------
    basis : Basis
        What is counted by.
    slide : Slide or None
        What the fields were judged against.
    """

    basis: Basis
    slide: Slide | None
    fields: int = 0
    counted: int = 0
    cells_cut: int = 0
    strata: list[counting.Evidence] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    other_scale: list[tuple[str, float]] = field(default_factory=list)

    def add(self, judged: JudgedField) -> None:
        """Count one more field."""
        self.fields += 1
        if judged.reference is None:
            self.refused.append((judged.read.field, judged.read.refusal or NO_CELLS))
            return
        self.counted += 1
        self.cells_cut += judged.read.cut
        self.strata.append(
            evidence_of_field(judged, self.basis.cut, complete=judged.read.field in self.basis.complete_fields)
        )
        ratio = judged.read.cell_diameter_px / self.slide.diameter_px if self.slide else 1.0
        if not 1 / OTHER_SCALE <= ratio <= OTHER_SCALE:
            self.other_scale.append((judged.read.field, judged.read.cell_diameter_px))

    def summary(self) -> SmearSummary:
        """The count of the fields added so far, and how it was made."""
        from giemsa import __version__

        basis, slide, rates = self.basis, self.slide, self.basis.rates()
        count, called = None, np.zeros(1)
        if self.strata:
            evidence = counting.whole_smear(self.strata)
            count = counting.count(evidence, rates, red_cells_per_ul=basis.red_cells_per_ul)
            called = np.array([one.called for one in self.strata], float)
        diameter = slide.diameter_px if slide else 0.0
        return SmearSummary(
            patient=basis.patient,
            fields=self.fields,
            fields_counted=self.counted,
            refused=tuple(self.refused),
            other_scale=tuple(self.other_scale),
            cells_cut=self.cells_cut,
            count=count,
            cell_diameter_px=diameter,
            px_per_um=diameter / RED_CELL_UM,
            cut=basis.cut,
            reference_centre=slide.centre if slide else 0.0,
            reference_spread=slide.spread if slide else 0.0,
            reference_cells=slide.cells if slide else 0,
            rates=rates.source,
            rates_measured=rates.measured,
            rates_lack=basis.site.lacks if basis.site is not None else "",
            slides_reviewed=rates.slides,
            sensitivity=rates.sensitivity_interval,
            false_alarms=rates.false_alarms_interval,
            called_per_field=(float(called.min()), float(np.median(called)), float(called.max())),
            model=basis.model.card.name,
            model_sha256=basis.model.digest,
            giemsa=__version__,
            command=basis.command,
        )


def evidence_of_field(judged: JudgedField, cut: float, *, complete: bool) -> counting.Evidence:
    """What one field shows, by stratum of score.

    Parameters
    ----------
    judged : JudgedField
        The field; it has cells.
    cut : float
        `parasitized` means a relative logit of at least this.
    complete : bool
        Whether a person has looked at every cell, so that those not confirmed are healthy.
    """
    confirmed = np.array([cell.decision == "confirmed" for cell in judged.cells])
    rejected = ~confirmed if complete else np.array([cell.decision == "rejected" for cell in judged.cells])
    stratum = counting.stratum_of([cell.relative_logit for cell in judged.cells], cut)
    return counting.evidence_of(1, stratum, confirmed, rejected, np.full(len(stratum), complete))
