"""Figures of merit of a two-class classifier, in plain numpy; positive means parasitized.

Everything here is a sum over cells, so everything takes weights: an interval by bootstrap over patients is the same
figure again with each cell weighted by how often its patient was drawn, and the point value is the one with all
weights 1. `Tally` does that for many weightings at once: cells are counted per patient and sorted by score only
once; the functions below it are the same figures, one at a time, for any caller.

Conventions are scikit-learn's: tied scores are one step of a curve, PR AUC is average precision (a sum of steps, no
interpolation), and the Matthews coefficient of a classifier with one verdict for everything is 0. They differ in one
thing: what is not defined is NaN here (scikit-learn gives 0 or 1 and a warning), and `why_undefined` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from giemsa.errors import DataError
from giemsa.verdicts import is_parasitized

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

ECE_BINS: Final = 15
"""Equal-width bins of p_parasitized from 0 to 1, closed on the right; 15 as in Guo et al. 2017, arXiv 1706.04599."""

METRICS: Final = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "mcc",
    "roc_auc",
    "pr_auc",
    "brier",
    "ece",
)


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Cells (or weights of cells) by label and verdict; four arrays of any one shape.

    Attributes
    ----------
    true_positives, false_positives, true_negatives, false_negatives : (...) ndarray of float64
        Labelled and called parasitized; labelled uninfected, called parasitized; both uninfected; labelled
        parasitized, called uninfected.
    """

    true_positives: FloatArray
    false_positives: FloatArray
    true_negatives: FloatArray
    false_negatives: FloatArray

    @property
    def positives(self) -> FloatArray:
        """Cells labelled parasitized."""
        return self.true_positives + self.false_negatives

    @property
    def negatives(self) -> FloatArray:
        """Cells labelled uninfected."""
        return self.true_negatives + self.false_positives

    @property
    def called_positive(self) -> FloatArray:
        """Cells called parasitized."""
        return self.true_positives + self.false_positives

    @property
    def total(self) -> FloatArray:
        """All cells."""
        return self.positives + self.negatives


@dataclass(frozen=True, slots=True, eq=False)
class RocCurve:
    """Every point of the ROC curve, from (0, 0) to (1, 1).

    Attributes
    ----------
    false_positive_rate, true_positive_rate : (K + 1,) ndarray of float64
        1 - specificity and sensitivity where scores at or above the threshold are called parasitized.
    thresholds : (K + 1,) ndarray of float64
        Infinity, then the K distinct scores, highest first.
    """

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    thresholds: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecallCurve:
    """Every point of the precision-recall curve, lowest threshold first, closed by the point (recall 0, precision 1).

    Attributes
    ----------
    precision, recall : (K + 1,) ndarray of float64
    thresholds : (K,) ndarray of float64
        The distinct scores, lowest first.
    """

    precision: FloatArray
    recall: FloatArray
    thresholds: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityCurve:
    """Predicted and observed shares of parasitized cells, by bins of p_parasitized; NaN in empty bins.

    Attributes
    ----------
    edges : (B + 1,) ndarray of float64
        Limits of the bins; each includes its upper edge, the first also 0.
    cells : (B,) ndarray of float64
        Cells (or their weights) in each bin.
    mean_p : (B,) ndarray of float64
        Mean p_parasitized.
    share : (B,) ndarray of float64
        Share of the bin's cells that are labelled parasitized.
    """

    edges: FloatArray
    cells: FloatArray
    mean_p: FloatArray
    share: FloatArray


def confusion(positive: ArrayLike, called: ArrayLike, weights: ArrayLike | None = None) -> Confusion:
    """Cells counted by label and verdict.

    Parameters
    ----------
    positive, called : (N,) array of bool or of 0 and 1
        Whether a cell is labelled, and called, parasitized.
    weights : (N,) array of float, optional
        How often each cell counts; once by default.

    Raises
    ------
    DataError
        If the shapes differ or a value is neither 0 nor 1.

    Examples
    --------
    >>> counts = confusion([1, 1, 0, 0], [1, 0, 0, 0])
    >>> float(sensitivity(counts)), float(specificity(counts))
    (0.5, 1.0)
    """
    is_positive, is_called = _as_bool(positive, "positive"), _as_bool(called, "called")
    weight = _as_weights(weights, is_positive.size)
    _same_length(("positive", is_positive), ("called", is_called), ("weights", weight))
    return Confusion(
        true_positives=_sum(weight * (is_positive & is_called)),
        false_positives=_sum(weight * (~is_positive & is_called)),
        true_negatives=_sum(weight * (~is_positive & ~is_called)),
        false_negatives=_sum(weight * (is_positive & ~is_called)),
    )


def accuracy(counts: Confusion) -> FloatArray:
    """Share of all cells whose verdict is their label."""
    return _ratio(counts.true_positives + counts.true_negatives, counts.total)


def sensitivity(counts: Confusion) -> FloatArray:
    """Share of the cells labelled parasitized that are called so (recall)."""
    return _ratio(counts.true_positives, counts.positives)


def specificity(counts: Confusion) -> FloatArray:
    """Share of the cells labelled uninfected that are called so."""
    return _ratio(counts.true_negatives, counts.negatives)


def balanced_accuracy(counts: Confusion) -> FloatArray:
    """Mean of sensitivity and specificity."""
    return (sensitivity(counts) + specificity(counts)) / 2


def precision(counts: Confusion) -> FloatArray:
    """Share of the cells called parasitized that are labelled so."""
    return _ratio(counts.true_positives, counts.called_positive)


def f1(counts: Confusion) -> FloatArray:
    """Harmonic mean of precision and sensitivity."""
    return _ratio(
        2 * counts.true_positives, 2 * counts.true_positives + counts.false_positives + counts.false_negatives
    )


def mcc(counts: Confusion) -> FloatArray:
    """Matthews correlation coefficient of labels and verdicts, -1 to 1; 0 where all verdicts are one and the same."""
    tp, fp = counts.true_positives, counts.false_positives
    tn, fn = counts.true_negatives, counts.false_negatives
    # Four square roots: the product of four counts of a large study is beyond what float64 holds exactly.
    scale = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    value = np.divide(tp * tn - fp * fn, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.where((counts.positives > 0) & (counts.negatives > 0), value, np.nan)


def roc_auc(positive: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a parasitized cell scores above an uninfected one, ties counting half.

    Parameters
    ----------
    positive : (N,) array of bool or of 0 and 1
        Whether a cell is labelled parasitized.
    score : (N,) array of float
        Higher means more like parasitized.
    weights : (N,) array of float, optional
        How often each cell counts.

    Returns
    -------
    float
        NaN where there is only one class.

    Raises
    ------
    DataError
        If the shapes differ, a label is neither 0 nor 1 or a score is not finite.
    """
    ranking = _Ranking(_as_bool(positive, "positive"), _as_scores(score))
    return float(_area_under_roc(*ranking.cumulate(_as_weights(weights, ranking.cells))))


def average_precision(positive: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> float:
    """PR AUC: the mean of precision over steps of recall, without interpolation; NaN without a parasitized cell.

    Parameters, Raises: as `roc_auc`.
    """
    ranking = _Ranking(_as_bool(positive, "positive"), _as_scores(score))
    return float(_average_precision(*ranking.cumulate(_as_weights(weights, ranking.cells))))


def brier(positive: ArrayLike, p_parasitized: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean squared difference between p_parasitized and the label (1 for parasitized); 0 is perfect.

    Parameters, Raises: as `roc_auc`; `p_parasitized` is 0 to 1.
    """
    is_positive, p = _as_bool(positive, "positive"), _as_probabilities(p_parasitized)
    weight = _as_weights(weights, p.size)
    _same_length(("positive", is_positive), ("p_parasitized", p), ("weights", weight))
    return float(_ratio(_sum(weight * (p - is_positive) ** 2), _sum(weight)))


def expected_calibration_error(
    positive: ArrayLike, p_parasitized: ArrayLike, weights: ArrayLike | None = None, *, bins: int = ECE_BINS
) -> float:
    """ECE: the distance between mean p_parasitized and the share of parasitized cells, averaged over cells by bins.

    Bins are `bins` equal widths of p_parasitized (not of the winning class's confidence) from 0 to 1, closed on the
    right, as in scikit-learn's `calibration_curve`.

    Parameters, Raises: as `roc_auc`; `p_parasitized` is 0 to 1.
    """
    curve = reliability_curve(positive, p_parasitized, weights, bins=bins)
    gaps = np.where(curve.cells > 0, curve.cells * np.abs(curve.mean_p - curve.share), 0.0)
    return float(_ratio(_sum(gaps), _sum(curve.cells)))


def sensitivity_at(
    positive: ArrayLike, score: ArrayLike, false_positive_rate: float, weights: ArrayLike | None = None
) -> float:
    """Sensitivity at the score that at most this share of the uninfected cells exceeds.

    Parameters, Raises: as `roc_auc`.

    Returns
    -------
    float
        NaN where there are fewer uninfected cells than it takes to see one false positive, or no parasitized one.
    """
    ranking = _Ranking(_as_bool(positive, "positive"), _as_scores(score))
    tp, fp = ranking.cumulate(_as_weights(weights, ranking.cells))
    if not len(tp) or tp[-1] == 0 or fp[-1] * false_positive_rate < 1:
        return float("nan")
    allowed = np.floor(false_positive_rate * fp[-1] + 1e-9)
    within = np.flatnonzero(fp <= allowed)
    return float(tp[within[-1]] / tp[-1]) if within.size else 0.0


def roc_curve(positive: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> RocCurve:
    """Every point of the ROC curve; a rate of a class without cells is NaN.

    Parameters, Raises: as `roc_auc`.
    """
    ranking = _Ranking(_as_bool(positive, "positive"), _as_scores(score))
    tp, fp = (np.r_[0.0, sums] for sums in ranking.cumulate(_as_weights(weights, ranking.cells)))
    return RocCurve(_ratio(fp, fp[-1:]), _ratio(tp, tp[-1:]), np.r_[np.inf, ranking.thresholds])


def precision_recall_curve(
    positive: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None
) -> PrecisionRecallCurve:
    """Every point of the precision-recall curve; recall without a parasitized cell is NaN.

    Parameters, Raises: as `roc_auc`.
    """
    ranking = _Ranking(_as_bool(positive, "positive"), _as_scores(score))
    tp, fp = ranking.cumulate(_as_weights(weights, ranking.cells))
    steps = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=tp + fp > 0)
    recall = _ratio(tp, tp[-1:])
    return PrecisionRecallCurve(np.r_[steps[::-1], 1.0], np.r_[recall[::-1], 0.0], ranking.thresholds[::-1])


def reliability_curve(
    positive: ArrayLike, p_parasitized: ArrayLike, weights: ArrayLike | None = None, *, bins: int = ECE_BINS
) -> ReliabilityCurve:
    """Predicted and observed shares of parasitized cells, in equal-width bins of p_parasitized.

    Parameters, Raises: as `roc_auc`; `p_parasitized` is 0 to 1, `bins` at least 1.
    """
    is_positive, p = _as_bool(positive, "positive"), _as_probabilities(p_parasitized)
    weight = _as_weights(weights, p.size)
    _same_length(("positive", is_positive), ("p_parasitized", p), ("weights", weight))
    edges, bin_of = _bin(p, bins)
    cells = _sum_by(bin_of, weight, bins)
    sum_p = _sum_by(bin_of, weight * p, bins)
    sum_positive = _sum_by(bin_of, weight * is_positive, bins)
    return ReliabilityCurve(edges, cells, _ratio(sum_p, cells), _ratio(sum_positive, cells))


def why_undefined(metric: str, counts: Confusion) -> str:
    """Reason, in a few words, why a metric is NaN for these counts; empty where it is defined.

    Parameters
    ----------
    metric : str
        One of `METRICS`.
    counts : Confusion
        Of one weighting: scalars.
    """
    positives, negatives = bool(counts.positives > 0), bool(counts.negatives > 0)
    called = bool(counts.called_positive > 0)
    if not positives and not negatives:
        return "no cells"
    one_class = "" if positives and negatives else "all cells have the same label"
    no_positive = "" if positives else "no cell is labelled parasitized"
    return {
        "sensitivity": no_positive,
        "specificity": "" if negatives else "no cell is labelled uninfected",
        "balanced_accuracy": one_class,
        "precision": "" if called else "no cell is called parasitized",
        "f1": "" if called or positives else "no cell is labelled or called parasitized",
        "mcc": one_class,
        "roc_auc": one_class,
        "pr_auc": no_positive,
    }.get(metric, "")


class Tally:
    """Everything that the figures of one set of cells need, summed per unit (patient, field or cell).

    Parameters
    ----------
    positive : (N,) array of bool or of 0 and 1
        Whether a cell is labelled parasitized.
    p_parasitized : (N,) array of float
        Probability of parasitized, 0 to 1.
    threshold : float
        A cell is called parasitized where p_parasitized is at least this.
    unit_of_cell : (N,) array of int, optional
        Which unit a cell belongs to, from 0 to U - 1; each cell is its own unit by default.
    units : int, optional
        U; the highest number in `unit_of_cell`, and one, by default.

    Attributes
    ----------
    bin_cells, bin_positive : (U, B) ndarray of float64
        Cells, and parasitized ones, of each unit in each bin of the reliability curve.

    Raises
    ------
    DataError
        If the shapes differ or a value is out of its range.
    """

    def __init__(
        self,
        positive: ArrayLike,
        p_parasitized: ArrayLike,
        threshold: float,
        unit_of_cell: ArrayLike | None = None,
        units: int | None = None,
    ) -> None:
        is_positive, p = _as_bool(positive, "positive"), _as_probabilities(p_parasitized)
        unit = np.arange(p.size) if unit_of_cell is None else np.asarray(unit_of_cell, dtype=np.intp)
        _same_length(("positive", is_positive), ("p_parasitized", p), ("unit_of_cell", unit))
        self.cells = int(p.size)
        self.units = int(unit.max(initial=-1)) + 1 if units is None else units
        self._unit_of_cell = unit
        self._ranking = _Ranking(is_positive, p)
        self._unit_by_rank = unit[self._ranking.order]

        called = is_parasitized(p, threshold)
        self._counts = np.stack(
            [
                self._per_unit(is_positive & called),
                self._per_unit(~is_positive & called),
                self._per_unit(~is_positive & ~called),
                self._per_unit(is_positive & ~called),
            ],
            axis=1,
        )
        self._squares = self._per_unit((p - is_positive) ** 2)
        self.bin_edges, bin_of = _bin(p, ECE_BINS)
        self.bin_cells = self._per_unit_and_bin(bin_of, np.ones_like(p))
        self._bin_p = self._per_unit_and_bin(bin_of, p)
        self.bin_positive = self._per_unit_and_bin(bin_of, is_positive.astype(np.float64))

    def confusion(self, multiplicity: ArrayLike | None = None) -> Confusion:
        """Cells counted by label and verdict, each unit as often as `multiplicity` [..., U] says (once by default)."""
        sums = self._weights(multiplicity) @ self._counts
        return Confusion(sums[..., 0], sums[..., 1], sums[..., 2], sums[..., 3])

    def figures(self, multiplicity: ArrayLike | None = None) -> dict[str, FloatArray]:
        """All of `METRICS`, with each unit counted as often as `multiplicity` says.

        Parameters
        ----------
        multiplicity : (R, U) or (U,) array of int or float, optional
            How often each unit counts, for each of R weightings; once by default.

        Returns
        -------
        dict of str to (R,) or () ndarray of float64
            In the order of `METRICS`; NaN where undefined.
        """
        weights = self._weights(multiplicity)
        counts = self.confusion(weights)
        tp, fp = self._ranking.cumulate_ranked(weights[..., self._unit_by_rank])
        gaps = np.abs(weights @ (self._bin_p - self.bin_positive)).sum(axis=-1)
        return {
            "accuracy": accuracy(counts),
            "balanced_accuracy": balanced_accuracy(counts),
            "sensitivity": sensitivity(counts),
            "specificity": specificity(counts),
            "precision": precision(counts),
            "f1": f1(counts),
            "mcc": mcc(counts),
            "roc_auc": _area_under_roc(tp, fp),
            "pr_auc": _average_precision(tp, fp),
            "brier": _ratio(weights @ self._squares, counts.total),
            "ece": _ratio(gaps, counts.total),
        }

    def roc_auc(self, multiplicity: ArrayLike | None = None) -> FloatArray:
        """Area under the ROC curve alone, each unit counted as `multiplicity` [..., U] says."""
        weights = self._weights(multiplicity)
        return _area_under_roc(*self._ranking.cumulate_ranked(weights[..., self._unit_by_rank]))

    def share(self, metric: str) -> tuple[FloatArray, FloatArray] | None:
        """How many of how many cells of each unit, [U] and [U], where a metric is such a share; None where not."""
        tp, fp, tn, fn = self._counts.T
        shares = {
            "accuracy": (tp + tn, tp + fp + tn + fn),
            "sensitivity": (tp, tp + fn),
            "specificity": (tn, tn + fp),
            "precision": (tp, tp + fp),
        }
        found = shares.get(metric)
        return found if found is not None and found[1].sum() > 0 else None

    def reliability(self, multiplicity: ArrayLike | None = None) -> ReliabilityCurve:
        """Reliability curve in `ECE_BINS` bins, each unit counted as `multiplicity` [..., U] says."""
        weights = self._weights(multiplicity)
        cells = weights @ self.bin_cells
        return ReliabilityCurve(
            self.bin_edges, cells, _ratio(weights @ self._bin_p, cells), _ratio(weights @ self.bin_positive, cells)
        )

    def _weights(self, multiplicity: ArrayLike | None) -> FloatArray:
        weights = np.ones(self.units) if multiplicity is None else np.asarray(multiplicity, dtype=np.float64)
        if weights.shape[-1:] != (self.units,):
            raise DataError(
                f"multiplicity has shape {weights.shape} where the cells come from {self.units} units: "
                f"give one number per unit, [..., {self.units}]"
            )
        return weights

    def _per_unit(self, values: BoolArray | FloatArray) -> FloatArray:
        return _sum_by(self._unit_of_cell, values, self.units)

    def _per_unit_and_bin(self, bin_of: IntArray, values: FloatArray) -> FloatArray:
        cell_of_table = self._unit_of_cell * ECE_BINS + bin_of
        return _sum_by(cell_of_table, values, self.units * ECE_BINS).reshape(self.units, ECE_BINS)


class _Ranking:
    """Cells sorted once, highest score first, so that any weighting of them is only a cumulative sum."""

    def __init__(self, positive: BoolArray, score: FloatArray) -> None:
        _same_length(("positive", positive), ("score", score))
        self.cells = int(score.size)
        self.order = np.argsort(-score, kind="stable")
        ranked = score[self.order]
        # The last cell of each run of equal scores: only there does a curve have a point.
        self._ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], np.ones(min(1, self.cells), dtype=bool)])
        self.thresholds = ranked[self._ends]
        self._positive = positive[self.order].astype(np.float64)

    def cumulate(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sum the weights [N] of parasitized and of uninfected cells at or above each distinct score [K]."""
        if weights.shape != (self.cells,):
            raise DataError(f"weights have shape {weights.shape} where there are {self.cells} cells: give one per cell")
        return self.cumulate_ranked(weights[self.order])

    def cumulate_ranked(self, ranked: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sum weights [..., N] that stand in the order of the scores, highest first."""
        all_cells = np.cumsum(ranked, axis=-1)[..., self._ends]
        tp = np.cumsum(ranked * self._positive, axis=-1)[..., self._ends]
        return tp, all_cells - tp


def _area_under_roc(tp: FloatArray, fp: FloatArray) -> FloatArray:
    """Trapezoids between the points (fp, tp) [..., K], divided by the pairs of a parasitized and an uninfected cell."""
    if tp.shape[-1] == 0:
        return np.full(tp.shape[:-1], np.nan)
    heights = tp.copy()
    heights[..., 1:] += tp[..., :-1]
    area = np.einsum("...k,...k->...", _steps(fp), heights) / 2
    return _ratio(area, tp[..., -1] * fp[..., -1])


def _average_precision(tp: FloatArray, fp: FloatArray) -> FloatArray:
    """Precision at each distinct score, weighted by the step of recall that it brings."""
    if tp.shape[-1] == 0:
        return np.full(tp.shape[:-1], np.nan)
    called = tp + fp
    at_score = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    return _ratio(np.einsum("...k,...k->...", _steps(tp), at_score), tp[..., -1])


def _steps(sums: FloatArray) -> FloatArray:
    """What each cumulative sum adds to the one before; faster than numpy.diff with a 0 prepended."""
    steps = sums.copy()
    steps[..., 1:] -= sums[..., :-1]
    return steps


def _bin(p: FloatArray, bins: int) -> tuple[FloatArray, IntArray]:
    if bins < 1:
        raise DataError(f"bins is {bins}: give a whole number of at least 1")
    edges = np.linspace(0.0, 1.0, bins + 1)
    return edges, np.searchsorted(edges[1:-1], p)


def _sum(values: FloatArray) -> FloatArray:
    return np.asarray(values.sum(), dtype=np.float64)


def _sum_by(group: IntArray, values: BoolArray | FloatArray, groups: int) -> FloatArray:
    return np.bincount(group, weights=values, minlength=groups).astype(np.float64, copy=False)


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Divide; NaN where the whole is nothing."""
    undefined = np.full(np.broadcast_shapes(np.shape(part), np.shape(whole)), np.nan)
    quotient: FloatArray = np.divide(part, whole, out=undefined, where=whole > 0)
    return quotient


def _as_bool(values: ArrayLike, name: str) -> BoolArray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"{name} has shape {array.shape}: give one value per cell, [N]")
    if array.dtype == np.bool_:
        return array
    odd = ~np.isin(array, (0, 1))
    if odd.any():
        raise DataError(f"{name} holds {array[odd][0]!s}: give 1 (parasitized) or 0 (uninfected) for each cell")
    return array.astype(np.bool_)


def _as_scores(values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise DataError(f"score has shape {array.shape}: give one value per cell, [N]")
    if not np.isfinite(array).all():
        raise DataError(f"score holds {array[~np.isfinite(array)][0]}: leave out cells without a finite score")
    return array


def _as_probabilities(values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise DataError(f"p_parasitized has shape {array.shape}: give one value per cell, [N]")
    outside = ~((array >= 0) & (array <= 1))
    if outside.any():
        raise DataError(f"p_parasitized holds {array[outside][0]}: give probabilities from 0 to 1, not logits")
    return array


def _as_weights(values: ArrayLike | None, cells: int) -> FloatArray:
    array = np.ones(cells) if values is None else np.asarray(values, dtype=np.float64)
    odd = ~(np.isfinite(array) & (array >= 0))
    if odd.any():
        raise DataError(f"weights hold {array[odd][0]}: give finite numbers of at least 0")
    return array


def _same_length(*named: tuple[str, NDArray[np.generic]]) -> None:
    if len({array.shape for _, array in named}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in named)
        raise DataError(f"{shapes} do not belong together: give one value per cell in each")
