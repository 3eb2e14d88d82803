"""How good predictions are: figures with intervals for every set of labels, from arrays alone.

Sets of labels: *official* (the class that a cell came in), *confirmed* (those cells on which a second reading
agrees) and *donors* (cells of people without malaria: all uninfected, whatever a reader saw).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import DataError
from giemsa.stats.bootstrap import RESAMPLES, Units, bootstrap_figures, bootstrap_reliability, units_of
from giemsa.stats.intervals import CONFIDENCE, METHODS, Estimate, Unit, clopper_pearson
from giemsa.stats.metrics import ECE_BINS, BoolArray, Confusion, FloatArray, ReliabilityCurve, Tally
from giemsa.verdicts import DISCLAIMER, is_parasitized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

FORMAT: Final = 1
"""Version of the layout of metrics.json."""

RED_CELLS_PER_MICROLITRE: Final = 5_000_000
"""Of healthy adult blood, roughly (4.0 to 5.9 million); the round number of WHO's parasite counts."""

_FEW_UNITS: Final = 10  # below this many patients any interval is rough


@dataclass(frozen=True, slots=True, eq=False)
class SetReport:
    """The figures of a set of cells with labels of both kinds: official or confirmed.

    Attributes
    ----------
    cells, unreadable : int
        Cells in the figures, and those left out because they have no prediction.
    patients : int or None
        Whose the cells are; None where that is not known of all.
    units : int
        How many patients, fields or cells the intervals resample.
    confusion : Confusion
        Scalars.
    figures : mapping of str to Estimate
        In the order of `giemsa.stats.metrics.METRICS`.
    reliability : ReliabilityCurve
        Predicted and observed shares by bins of p_parasitized.
    share_low, share_high : (B,) ndarray of float64
        Interval of `reliability.share`; NaN where there is none.
    """

    cells: int
    unreadable: int
    patients: int | None
    units: int
    confusion: Confusion
    figures: Mapping[str, Estimate]
    reliability: ReliabilityCurve
    share_low: FloatArray
    share_high: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """What stands in metrics.json."""
        counts = self.confusion
        return {
            "n": self.cells,
            "patients": self.patients,
            "unreadable": self.unreadable,
            "parasitized": int(counts.positives),
            "uninfected": int(counts.negatives),
            "confusion": {
                "parasitized": {
                    "called_parasitized": int(counts.true_positives),
                    "called_uninfected": int(counts.false_negatives),
                },
                "uninfected": {
                    "called_parasitized": int(counts.false_positives),
                    "called_uninfected": int(counts.true_negatives),
                },
            },
            **{name: figure.to_dict() for name, figure in self.figures.items()},
            "reliability": [
                {
                    "p_from": float(self.reliability.edges[which]),
                    "p_to": float(self.reliability.edges[which + 1]),
                    "n": int(self.reliability.cells[which]),
                    "mean_p": _number(self.reliability.mean_p[which]),
                    "share_parasitized": {
                        "value": _number(self.reliability.share[which]),
                        "low": _number(self.share_low[which]),
                        "high": _number(self.share_high[which]),
                    },
                }
                for which in range(self.reliability.cells.size)
            ],
        }


@dataclass(frozen=True, slots=True, eq=False)
class DonorReport:
    """False alarms on the blood of people without malaria.

    Attributes
    ----------
    cells, unreadable, patients, units
        As in `SetReport`.
    false_positives : int
        Cells called parasitized.
    specificity : Estimate
        Share of the cells that are called uninfected.
    patients_with_false_positives : int or None
        Donors with at least one such cell.
    """

    cells: int
    unreadable: int
    patients: int | None
    units: int
    false_positives: int
    specificity: Estimate
    patients_with_false_positives: int | None

    @property
    def false_positives_per_million(self) -> Estimate:
        """Cells called parasitized in a million healthy ones."""
        return self.specificity.scaled(1e6, complement=True)

    @property
    def parasites_per_microlitre(self) -> Estimate:
        """What these false alarms would count in a microlitre of healthy blood: 5 million red cells."""
        return self.specificity.scaled(RED_CELLS_PER_MICROLITRE, complement=True)

    def to_dict(self) -> dict[str, Any]:
        """What stands in metrics.json."""
        report: dict[str, Any] = {
            "n": self.cells,
            "patients": self.patients,
            "unreadable": self.unreadable,
            "false_positives": self.false_positives,
            "specificity": self.specificity.to_dict(),
            "false_positives_per_million": self.false_positives_per_million.to_dict(),
            "parasites_per_microlitre": self.parasites_per_microlitre.to_dict(),
        }
        if self.patients and self.patients_with_false_positives is not None:
            low, high = clopper_pearson(self.patients_with_false_positives, self.patients)
            value = self.patients_with_false_positives / self.patients
            share = Estimate(value, low, high, "patients", self.patients, "exact")
            report["patients_with_false_positives"] = {"n": self.patients_with_false_positives, **share.to_dict()}
        return report


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All figures of one set of predictions.

    Attributes
    ----------
    official : SetReport
        On the labels that the cells came with.
    confirmed : SetReport or None
        On the cells on which a second reading agrees; None where there is no second reading.
    donors, donors_undisputed : DonorReport or None
        On the donors' cells: all, and those that the second reading calls uninfected too; None where there are none.
    unit : str
        What the bootstrap resamples: `patients`, `fields` or `cells`.
    resamples, seed : int
        How often, and from which seed, for each set of cells anew.
    threshold : float
        Cells are called parasitized where p_parasitized is at least this.
    warnings : tuple of str
        What a careful reader must know, in whole sentences.
    """

    official: SetReport
    confirmed: SetReport | None
    donors: DonorReport | None
    donors_undisputed: DonorReport | None
    unit: Unit
    resamples: int
    seed: int
    threshold: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """What stands in metrics.json, provenance aside: only numbers, text, null, lists and dicts."""
        report: dict[str, Any] = {
            "format": FORMAT,
            "disclaimer": DISCLAIMER,
            "positive_class": "parasitized",
            "n": self.official.cells,
            "patients": self.official.patients,
            "unreadable": self.official.unreadable,
            "threshold": self.threshold,
            "bootstrap": {
                "unit": self.unit,
                "units": self.official.units,
                "resamples": self.resamples,
                "seed": self.seed,
                "confidence": CONFIDENCE,
                "interval": METHODS["bootstrap"],
            },
            "ece_binning": f"{ECE_BINS} equal-width bins of p_parasitized from 0 to 1, closed on the right",
            "warnings": list(self.warnings),
            "official": self.official.to_dict(),
        }
        if self.confirmed is not None:
            report["confirmed"] = self.confirmed.to_dict()
        if self.donors is not None:
            report["donors"] = self.donors.to_dict()
            if self.donors_undisputed is not None:
                report["donors"]["undisputed"] = self.donors_undisputed.to_dict()
            report["donors"]["red_cells_per_microlitre"] = RED_CELLS_PER_MICROLITRE
        return report


def evaluate_predictions(
    p_parasitized: ArrayLike,
    official: ArrayLike,
    *,
    threshold: float,
    reviewed: ArrayLike | None = None,
    donor: ArrayLike | None = None,
    patients: Sequence[str | None] | None = None,
    fields: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Report:
    """Every figure, with its interval, of predictions on labelled cells.

    Parameters
    ----------
    p_parasitized : (N,) array of float
        Probability of parasitized, 0 to 1; NaN where there is no prediction (an unreadable picture): such cells are
        counted and left out.
    official : (N,) array of int
        1 parasitized, 0 uninfected; -1 (only without a prediction) not known.
    threshold : float
        Cells are called parasitized where p_parasitized is at least this.
    reviewed : (N,) array of int, optional
        The second reading: 1 parasitized, 0 uninfected, -1 not known.
    donor : (N,) array of bool, optional
        Whether the cell is of a person without malaria.
    patients, fields : sequence of N str or None, optional
        Whose the cells are, and which photographs they were cut from. Intervals resample patients where they are
        known of every cell, else fields, else cells.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    Report

    Raises
    ------
    DataError
        If the shapes differ or a value is out of its range.

    Examples
    --------
    >>> report = evaluate_predictions([0.9, 0.2, 0.4, 0.1], [1, 0, 1, 0], threshold=0.5, patients=["a", "a", "b", "b"])
    >>> report.official.figures["sensitivity"].value
    0.5
    """
    p = np.asarray(p_parasitized, dtype=np.float64)
    label = _check_column("official", official, p)
    review = None if reviewed is None else _check_column("reviewed", reviewed, p)
    of_donor = np.zeros(p.shape, dtype=bool) if donor is None else np.asarray(donor, dtype=bool)
    if of_donor.shape != p.shape:
        raise DataError(f"donor has shape {of_donor.shape} where there are {p.size} cells: give one value for each")
    if resamples < 1:
        raise DataError(f"resamples is {resamples}: give a whole number of at least 1")
    scored = ~np.isnan(p)
    if (label[scored] < 0).any():
        raise DataError("official is -1 for a cell with a prediction: give each such cell a label, 1 or 0")
    units = units_of(p.size, patients=patients, fields=fields, among=scored)
    sets = _Sets(p, scored, label, units, threshold, resamples, seed)

    everything = np.ones(p.shape, dtype=bool)
    read_twice = review is not None and bool((review >= 0).any())
    confirmed = sets.report((review == label) & (review >= 0)) if review is not None and read_twice else None
    donors = sets.donor_report(of_donor)
    undisputed = sets.donor_report(of_donor & (review == 0)) if review is not None else None
    report = sets.report(everything)
    warnings = (
        *_warn_of_verdicts(report, threshold),
        *_warn_of_units(units, report, donors),
        *_warn_of_cells(report, review),
    )
    return Report(report, confirmed, donors, undisputed, units.kind, resamples, seed, float(threshold), warnings)


@dataclass(frozen=True, slots=True, eq=False)
class _Sets:
    """Everything that the sets of labels have in common."""

    p: FloatArray
    scored: BoolArray
    label: NDArray[np.int8]
    units: Units
    threshold: float
    resamples: int
    seed: int

    def report(self, chosen: BoolArray) -> SetReport:
        cells = chosen & self.scored
        units = self.units.select(cells)
        tally = Tally(self.label[cells] == 1, self.p[cells], self.threshold, units.of_cell, units.count)
        figures = bootstrap_figures(tally, units.kind, self._rng(), resamples=self.resamples)
        low, high = bootstrap_reliability(tally, units.kind, self._rng(), resamples=self.resamples)
        return SetReport(
            cells=tally.cells,
            unreadable=int((chosen & ~self.scored).sum()),
            patients=self._patients(units),
            units=units.count,
            confusion=tally.confusion(),
            figures=figures,
            reliability=tally.reliability(),
            share_low=low,
            share_high=high,
        )

    def donor_report(self, chosen: BoolArray) -> DonorReport | None:
        if not chosen.any():
            return None
        cells = chosen & self.scored
        units = self.units.select(cells)
        # Nobody here has malaria: uninfected is the truth, whatever the label.
        tally = Tally(np.zeros(int(cells.sum())), self.p[cells], self.threshold, units.of_cell, units.count)
        called = is_parasitized(self.p[cells], self.threshold)
        return DonorReport(
            cells=tally.cells,
            unreadable=int((chosen & ~self.scored).sum()),
            patients=self._patients(units),
            units=units.count,
            false_positives=int(called.sum()),
            specificity=bootstrap_figures(tally, units.kind, self._rng(), resamples=self.resamples)["specificity"],
            patients_with_false_positives=(
                int(np.unique(units.of_cell[called]).size) if units.kind == "patients" else None
            ),
        )

    def _patients(self, units: Units) -> int | None:
        return units.count if units.kind == "patients" else None

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


def _check_column(name: str, values: ArrayLike, p: FloatArray) -> NDArray[np.int8]:
    column = np.asarray(values)
    if p.ndim != 1 or column.shape != p.shape:
        raise DataError(f"{name} has shape {column.shape} and p_parasitized {p.shape}: give one value a cell in each")
    odd = ~np.isin(column, (-1, 0, 1))
    if odd.any():
        raise DataError(f"{name} holds {column[odd][0]!s}: give 1 (parasitized), 0 (uninfected) or -1 (not known)")
    return column.astype(np.int8)


def _warn_of_verdicts(report: SetReport, threshold: float) -> list[str]:
    counts = report.confusion
    if not report.cells:
        return ["No cell could be judged: there are no figures."]
    if not counts.positives or not counts.negatives:
        label = "parasitized" if counts.positives else "uninfected"
        return [
            f"All {report.cells:,} cells are labelled {label}: figures that compare the two classes are not defined."
        ]
    warnings = []
    if counts.called_positive in {0, report.cells}:
        verdict = "parasitized" if counts.called_positive else "uninfected"
        warnings.append(
            f"Every one of the {report.cells:,} cells is called {verdict} at the threshold {threshold:g}: this "
            "classifier tells nothing apart, whatever its accuracy."
        )
    auc = report.figures["roc_auc"].value
    if auc is not None and auc < 0.5:
        warnings.append(
            f"ROC AUC is {auc:.4f}, below 0.5: uninfected cells score higher than parasitized ones; check the order of "
            "classes and --positive-class."
        )
    return warnings


def _warn_of_units(units: Units, report: SetReport, donors: DonorReport | None) -> list[str]:
    if not report.cells:
        return []
    warnings = []
    if units.kind != "patients":
        warnings.append(
            f"Patients are not known of all cells: intervals resample {units.kind}, which are not independent, and are "
            "too narrow."
        )
    if report.units < _FEW_UNITS:
        warnings.append(f"The intervals rest on {report.units} {units.kind} only and are rough.")
    elif donors is not None and 0 < donors.units < _FEW_UNITS:
        warnings.append(f"The donors' intervals rest on {donors.units} {units.kind} only and are rough.")
    return warnings


def _warn_of_cells(report: SetReport, review: NDArray[np.int8] | None) -> list[str]:
    warnings = []
    if report.unreadable:
        warnings.append(f"{report.unreadable:,} unreadable pictures are counted, listed and left out of all figures.")
    if review is not None and (review < 0).any() and (review >= 0).any():
        warnings.append(
            f"{int((review < 0).sum()):,} of {review.size:,} cells have no second reading and are not among the "
            "confirmed."
        )
    return warnings


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
