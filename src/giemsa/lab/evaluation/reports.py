"""How good predictions are: figures with intervals for every set of labels, and the files that show them.

`evaluate_predictions` takes arrays and knows nothing of files, models or where the predictions come from; a model's
evaluation and a cross-validation go through it alike. `write_evaluation` leaves its report as a folder:

    metrics.json          every figure with its interval, and all that is needed to make it again
    predictions.csv       one row a cell, unreadable ones included
    confusion_matrix.png, roc.png, precision_recall.png, reliability.png

Sets of labels: *official* (the class that a cell came in), *confirmed* (those cells on which a second reading
agrees) and *donors* (cells of people without malaria: all uninfected, whatever a reader saw).
"""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.data.patients import origin_of
from giemsa.errors import DataError
from giemsa.lab.folders import check_folder, replace_folder
from giemsa.sources import printable
from giemsa.spreadsheets import GuardedWriter
from giemsa.stats.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    Figure,
    Unit,
    Units,
    bootstrap_figures,
    bootstrap_reliability,
    clopper_pearson,
    units_of,
)
from giemsa.stats.metrics import ECE_BINS, BoolArray, Confusion, FloatArray, ReliabilityCurve, Tally
from giemsa.verdicts import DISCLAIMER, LABELS

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from giemsa.classifier import Classifier
    from giemsa.data.index import CellIndex, UnreadablePicture
    from giemsa.data.labels import LabelSets
    from giemsa.verdicts import Verdict

FORMAT: Final = 1
"""Version of the layout of metrics.json."""

RED_CELLS_PER_MICROLITRE: Final = 5_000_000
"""Of healthy adult blood, roughly (4.0 to 5.9 million); the round number of WHO's parasite counts."""

FILES: Final = (
    "metrics.json",
    "predictions.csv",
    "confusion_matrix.png",
    "roc.png",
    "precision_recall.png",
    "reliability.png",
)
"""What stands in every evaluation's folder."""

MORE_FILES: Final = (
    "gallery_false_positives.png",
    "gallery_false_negatives.png",
    "gallery_donors.png",
    "sample_predictions.png",
    "preprocessing.png",
    "error_analysis.json",
    "error_analysis.md",
    "error_analysis.png",
)
"""What stands there besides, where the cells themselves were at hand: `explaining.galleries`, `error_analysis`."""

PREDICTION_COLUMNS: Final = (
    "image",
    "patient",
    "official",
    "reviewed",
    "donor",
    "verdict",
    "p_parasitized",
    "logit",
    "reason",
)

_FEW_UNITS: Final = 10  # below this many patients a bootstrap's percentiles are rough


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
    figures : mapping of str to Figure
        In the order of `giemsa.stats.metrics.METRICS`.
    reliability : ReliabilityCurve
        Said and seen shares by bins of p_parasitized.
    share_low, share_high : (B,) ndarray of float64
        Interval of `reliability.share`; NaN where there is none.
    """

    cells: int
    unreadable: int
    patients: int | None
    units: int
    confusion: Confusion
    figures: Mapping[str, Figure]
    reliability: ReliabilityCurve
    share_low: FloatArray
    share_high: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in metrics.json."""
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
    specificity : Figure
        Share of the cells that are called uninfected.
    patients_with_false_positives : int or None
        Donors with at least one such cell.
    """

    cells: int
    unreadable: int
    patients: int | None
    units: int
    false_positives: int
    specificity: Figure
    patients_with_false_positives: int | None

    @property
    def false_positives_per_million(self) -> Figure:
        """Cells called parasitized in a million healthy ones."""
        return self.specificity.scaled(1e6, complement=True)

    @property
    def parasites_per_microlitre(self) -> Figure:
        """What these false alarms would count in a microlitre of healthy blood: 5 million red cells."""
        return self.specificity.scaled(RED_CELLS_PER_MICROLITRE, complement=True)

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in metrics.json."""
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
            share = Figure(self.patients_with_false_positives / self.patients, low, high, "patients", exact=True)
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
        """Return what stands in metrics.json, provenance aside: only numbers, text, null, lists and dicts."""
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
                "interval": "percentile",
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


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What was predicted for each cell, and what is known of it: the rows of predictions.csv, and nothing else.

    Attributes
    ----------
    images : sequence of N str
        Names of the pictures.
    p_parasitized, logit : (N,) ndarray of float64
        NaN where the picture could not be read.
    official : (N,) ndarray of int8
        1 parasitized, 0 uninfected, -1 not known.
    reviewed : (N,) ndarray of int8, optional
        The second reading, likewise.
    donor : (N,) ndarray of bool, optional
        Whether the cell is of a person without malaria.
    patients, fields : sequence of N str or None, optional
        Whose the cells are, and which photographs they were cut from.
    verdicts : sequence of N str, optional
        By default made from p_parasitized and the threshold.
    reasons : sequence of N str, optional
        Why a picture has no prediction.
    """

    images: Sequence[str]
    p_parasitized: FloatArray
    logit: FloatArray
    official: NDArray[np.int8]
    reviewed: NDArray[np.int8] | None = None
    donor: BoolArray | None = None
    patients: Sequence[str | None] | None = None
    fields: Sequence[str | None] | None = None
    verdicts: Sequence[str] | None = None
    reasons: Sequence[str] | None = None

    def evaluate(self, threshold: float, *, resamples: int = RESAMPLES, seed: int = 0) -> Report:
        """Compute the figures of these predictions with `evaluate_predictions`."""
        return evaluate_predictions(
            self.p_parasitized,
            self.official,
            threshold=threshold,
            reviewed=self.reviewed,
            donor=self.donor,
            patients=self.patients,
            fields=self.fields,
            resamples=resamples,
            seed=seed,
        )


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
    """Compute every figure, with its interval, of predictions on labelled cells.

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


def predict(
    classifier: Classifier,
    index: CellIndex,
    labels: LabelSets,
    *,
    unreadable: Sequence[UnreadablePicture] = (),
    progress: Callable[[int], None] | None = None,
) -> Predictions:
    """Classify labelled cells.

    Parameters
    ----------
    classifier : Classifier
        Says what they are.
    index : CellIndex
        The cells.
    labels : LabelSets
        Aligned with the index.
    unreadable : sequence of UnreadablePicture
        Pictures that no index holds, since they cannot be read; they are the last rows, without labels.
    progress : callable, optional
        Called with the number of cells that were classified since the last call.
    """
    verdicts: list[Verdict] = []
    for batch in classifier.classify_batches(index.paths()):
        verdicts.extend(batch)
        if progress is not None:
            progress(len(batch))
    more = len(unreadable)
    origins = [origin_of(picture.file.rpartition("/")[2]) for picture in unreadable]
    donors = {cell.patient for cell, donor in zip(index, labels.donor, strict=True) if donor}
    of_donor = np.array([origin is not None and origin.patient in donors for origin in origins], dtype=bool)
    return Predictions(
        images=[
            printable(file) for file in (*(cell.file for cell in index), *(picture.file for picture in unreadable))
        ],
        p_parasitized=np.array([_nan_if_none(verdict.p_parasitized) for verdict in verdicts] + more * [np.nan]),
        logit=np.array([_nan_if_none(verdict.logit) for verdict in verdicts] + more * [np.nan]),
        official=np.concatenate([labels.official.astype(np.int8), np.full(more, -1, np.int8)]),
        reviewed=np.concatenate([labels.reviewed, np.full(more, -1, np.int8)]) if labels.review_known else None,
        donor=np.concatenate([labels.donor, of_donor]) if labels.donors_known else None,
        patients=[*(cell.patient for cell in index), *(origin.patient if origin else None for origin in origins)],
        fields=[*(cell.photograph for cell in index), *(origin.photograph if origin else None for origin in origins)],
        verdicts=[verdict.verdict for verdict in verdicts] + more * ["unreadable"],
        reasons=[verdict.reason for verdict in verdicts] + [picture.reason for picture in unreadable],
    )


def write_evaluation(
    folder: str | os.PathLike[str],
    predictions: Predictions,
    report: Report,
    *,
    provenance: Mapping[str, Any] | None = None,
    force: bool = False,
    more: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Write an evaluation's folder, completely or not at all.

    Parameters
    ----------
    folder : path
        Where it shall stand; folders above it are made.
    predictions : Predictions
        What the report was computed from.
    report : Report
        From `predictions.evaluate`.
    provenance : mapping, optional
        What else stands in metrics.json: model, data, split, command. A list under `warnings` is put after those of
        the report.
    force : bool
        Whether an earlier evaluation may be replaced.
    more : callable, optional
        Is given the folder before it stands in its place, to write some of `MORE_FILES`.

    Returns
    -------
    dict
        The content of metrics.json.

    Raises
    ------
    OutputError
        If the folder is there already and `force` is not given, holds anything that no evaluation writes, or cannot
        be written.
    """
    from giemsa.lab.evaluation.diagrams import draw_evaluation

    place = check_evaluation_folder(folder, force=force)
    content = _describe(report, provenance or {})
    with replace_folder(place) as beside:
        _write_text(beside / "metrics.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
        _write_predictions(beside / "predictions.csv", predictions, report.threshold)
        draw_evaluation(beside, predictions, report, title=_title(content))
        if more is not None:
            more(beside)
    return content


def check_evaluation_folder(folder: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Refuse a folder that an evaluation cannot or must not be written to, before any work is done for it.

    Raises
    ------
    OutputError
        If it is a file, or a folder that is not empty and `force` is not given or that holds anything that no
        evaluation writes.
    """
    return check_folder(folder, (*FILES, *MORE_FILES), "an evaluation", force=force)


def versions() -> dict[str, str]:
    """Return the versions of everything that bears on the figures."""
    found = {"python": platform.python_version()}
    for package in ("giemsa", "numpy", "onnxruntime", "opencv-python-headless"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


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
        low, high = bootstrap_reliability(tally, self._rng(), resamples=self.resamples)
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
        called = self.p[cells] >= self.threshold
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


def _describe(report: Report, provenance: Mapping[str, Any]) -> dict[str, Any]:
    content = report.to_dict()
    content["warnings"] += provenance.get("warnings", [])
    content |= {name: value for name, value in provenance.items() if name != "warnings"}
    content["versions"] = versions()
    content["created"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return content


def _title(content: Mapping[str, Any]) -> str:
    """Name what was evaluated: a model, or the recipe of a cross-validation."""
    model = content.get("model")
    name = model.get("name") if isinstance(model, dict) else content.get("recipe")
    return str(name or "")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _write_predictions(path: Path, predictions: Predictions, threshold: float) -> None:
    names = dict(zip((-1, *range(len(LABELS))), ("", *LABELS), strict=True))
    rows = range(len(predictions.images))
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = GuardedWriter(file)
        writer.writerow(PREDICTION_COLUMNS)
        for row in rows:
            p, logit = float(predictions.p_parasitized[row]), float(predictions.logit[row])
            writer.writerow(
                (
                    predictions.images[row],
                    (predictions.patients[row] or "") if predictions.patients is not None else "",
                    names[int(predictions.official[row])],
                    names[int(predictions.reviewed[row])] if predictions.reviewed is not None else "",
                    ("yes" if predictions.donor[row] else "no") if predictions.donor is not None else "",
                    predictions.verdicts[row] if predictions.verdicts is not None else _verdict(p, threshold),
                    "" if np.isnan(p) else repr(p),
                    "" if np.isnan(logit) else f"{logit:.9g}",
                    predictions.reasons[row] if predictions.reasons is not None else "",
                )
            )


def _verdict(p: float, threshold: float) -> str:
    if np.isnan(p):
        return "unreadable"
    return "parasitized" if p >= threshold else "uninfected"


def _nan_if_none(value: float | None) -> float:
    return np.nan if value is None else value


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
