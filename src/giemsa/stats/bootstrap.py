"""Intervals: 95 % by bootstrap over patients, and exact bounds where nothing was seen.

Cells of one patient share stain, light and camera, so that a thousand cells of one patient tell less than a thousand
cells of a hundred. The bootstrap therefore draws patients, with replacement, and takes all the cells of each as often
as it was drawn (Efron & Tibshirani 1993, chapter 8; Rutter 2000, Academic Radiology 7:413, for ROC areas); the
interval is that of the percentiles. Where patients are not known it draws fields, and where those are not known
cells; the unit stands in every result.

A resample is a whole number per patient, never a copy of cells: `giemsa.stats.metrics.Tally` turns thousands of them
into figures in a second or two.

A bootstrap of a share that is exactly 0 or 1 is a point and shows no uncertainty. There the exact (Clopper-Pearson)
interval takes its place. It takes *cells* for independent, and says so by its unit; the truth is rather wider.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from giemsa.errors import DataError
from giemsa.stats.metrics import METRICS, Confusion, FloatArray, IntArray, Tally, why_undefined

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Unit = Literal["patients", "fields", "cells"]

RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95

_CELLS_AT_ONCE: Final = 250_000  # weights held at a time: 2 MB for each of a handful of arrays, within a cache


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its interval.

    Attributes
    ----------
    value, low, high : float or None
        The value and the limits of its interval; None where there is none.
    unit : str
        What the interval takes for independent: `patients`, `fields` or `cells`.
    exact : bool
        Whether the interval is the exact binomial one, not a bootstrap.
    reason : str
        Why there is no value or no interval; empty where there is one.
    note : str
        What else a careful reader must know; mostly empty.
    """

    value: float | None
    low: float | None
    high: float | None
    unit: Unit = "patients"
    exact: bool = False
    reason: str = ""
    note: str = ""

    def scaled(self, factor: float, *, complement: bool = False) -> Figure:
        """Return the figure times `factor`; of 1 - figure where `complement` is true."""

        def turn(number: float | None) -> float | None:
            if number is None:
                return None
            return factor * (1 - number) if complement else factor * number

        low, high = (self.high, self.low) if complement else (self.low, self.high)
        return Figure(turn(self.value), turn(low), turn(high), self.unit, self.exact, self.reason, self.note)

    def to_dict(self) -> dict[str, float | str | None]:
        """Return `value`, `low`, `high` and, only where they say something, `interval`, `unit`, `reason`, `note`."""
        entry: dict[str, float | str | None] = {"value": self.value, "low": self.low, "high": self.high}
        if self.exact:
            entry |= {"interval": "exact (Clopper-Pearson)", "unit": self.unit}
        if self.reason:
            entry["reason"] = self.reason
        if self.note:
            entry["note"] = self.note
        return entry


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Which unit of independence each cell belongs to.

    Attributes
    ----------
    kind : str
        `patients`, `fields` or `cells`.
    of_cell : (N,) ndarray of int
        The unit of each cell, 0 to `count` - 1.
    count : int
        How many units there are.
    """

    kind: Unit
    of_cell: IntArray
    count: int

    def select(self, chosen: NDArray[np.bool_] | IntArray) -> Units:
        """Return the units of some of the cells, numbered anew."""
        present, of_cell = np.unique(self.of_cell[chosen], return_inverse=True)
        return Units(self.kind, of_cell.astype(np.intp), int(present.size))


def units_of(
    cells: int,
    *,
    patients: Sequence[str | None] | None = None,
    fields: Sequence[str | None] | None = None,
    among: NDArray[np.bool_] | None = None,
) -> Units:
    """Find the unit to resample: patients if all are known, else fields if all are known, else cells.

    Parameters
    ----------
    cells : int
        N.
    patients, fields : sequence of N str or None, optional
        The patient, and the photograph, that each cell comes from; None, or an empty name, where it is not known.
    among : (N,) ndarray of bool, optional
        The cells that count; all by default. What is not known of the others does not matter, and their unit is -1.

    Raises
    ------
    DataError
        If a sequence is not of length N.
    """
    candidates: tuple[tuple[Unit, Sequence[str | None] | None], ...] = (("patients", patients), ("fields", fields))
    for kind, names in candidates:
        if names is not None and len(names) != cells:
            raise DataError(f"{len(names)} {kind} were given for {cells} cells: give one for each cell")
    rows = list(range(cells)) if among is None else [int(row) for row in np.flatnonzero(among)]
    of_cell = np.full(cells, -1, dtype=np.intp)
    for kind, names in candidates:
        if names is not None and all(names[row] for row in rows):
            present = sorted({str(names[row]) for row in rows})
            number = {name: place for place, name in enumerate(present)}
            of_cell[rows] = [number[str(names[row])] for row in rows]
            return Units(kind, of_cell, len(present))
    of_cell[rows] = np.arange(len(rows))
    return Units("cells", of_cell, len(rows))


def multiplicities(
    units: int, resamples: int, rng: np.random.Generator, *, at_once: int = 100
) -> Iterator[NDArray[np.int64]]:
    """Draw resamples: how often each unit comes up when as many as there are are drawn with replacement.

    Parameters
    ----------
    units : int
        U.
    resamples : int
        How many resamples to draw in all.
    rng : numpy.random.Generator
        The draws do not depend on `at_once`.
    at_once : int
        How many to yield at a time.

    Yields
    ------
    (r, U) ndarray of int
        r resamples; each row sums to U.
    """
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        yield np.stack([np.bincount(rng.integers(0, units, units), minlength=units) for _ in range(rows)])


def bootstrap_figures(
    tally: Tally, kind: Unit, rng: np.random.Generator, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> dict[str, Figure]:
    """Compute every metric of a set of cells with its interval.

    Parameters
    ----------
    tally : Tally
        The cells, counted by the units to resample.
    kind : str
        What these units are: `patients`, `fields` or `cells`.
    rng : numpy.random.Generator
        Where the resamples come from.
    resamples : int
        How many to draw.
    confidence : float
        What the interval is meant to hold, 0 to 1.

    Returns
    -------
    dict of str to Figure
        In the order of `giemsa.stats.metrics.METRICS`. An interval always holds its value: ECE, which every resample
        overestimates, would otherwise stand outside now and then.
    """
    drawn = draw_figures(tally, rng, resamples=resamples) if tally.units > 1 else None
    return figures_of_draws(tally, drawn, kind, confidence=confidence)


def draw_figures(tally: Tally, rng: np.random.Generator, *, resamples: int = RESAMPLES) -> dict[str, FloatArray]:
    """Compute every metric of each resample.

    Two tallies of the same cells by the same units, drawn from generators of the same seed, get the same resamples, so
    that their differences are paired.

    Returns
    -------
    dict of str to (resamples,) ndarray of float64
        In the order of `giemsa.stats.metrics.METRICS`; NaN where a resample leaves a metric undefined.
    """
    at_once = max(1, min(resamples, _CELLS_AT_ONCE // max(1, tally.cells)))
    blocks = [tally.figures(draw) for draw in multiplicities(tally.units, resamples, rng, at_once=at_once)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in METRICS}


def figures_of_draws(
    tally: Tally, drawn: dict[str, FloatArray] | None, kind: Unit, *, confidence: float = CONFIDENCE
) -> dict[str, Figure]:
    """Give every metric its interval, from what `draw_figures` drew; None where there is nothing to draw from."""
    counts = tally.confusion()
    return {
        name: _figure(
            name, float(value), counts, None if drawn is None else drawn[name], kind=kind, confidence=confidence
        )
        for name, value in tally.figures().items()
    }


def paired_difference(value: float, drawn: FloatArray | None, kind: Unit, *, confidence: float = CONFIDENCE) -> Figure:
    """Give a difference of two figures its interval.

    Parameters
    ----------
    value : float
        The difference on all cells; NaN where one of the two is not defined.
    drawn : (resamples,) ndarray of float64 or None
        The differences in the same resamples; None where there is only one unit.
    kind : str
        What was resampled.
    confidence : float
        What the interval is meant to hold, 0 to 1.
    """
    if np.isnan(value):
        return Figure(None, None, None, kind, reason="one of the two figures is not defined")
    if drawn is None:
        return Figure(value, None, None, kind, reason=f"an interval takes at least two {kind}")
    if 2 * int(np.isnan(drawn).sum()) > drawn.size:
        return Figure(value, None, None, kind, reason=f"undefined in most resamples of the {kind}")
    low, high = _percentiles(drawn, confidence)
    note = f"the same in every resample of the {kind}" if np.nanmin(drawn) == np.nanmax(drawn) else ""
    return Figure(value, min(low, value), max(high, value), kind, note=note)


def bootstrap_reliability(
    tally: Tally, rng: np.random.Generator, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> tuple[FloatArray, FloatArray]:
    """Compute limits for the share of parasitized cells in each bin of `tally.reliability()`.

    Returns
    -------
    low, high : (B,) ndarray of float64
        NaN where fewer than half of the resamples have a cell in the bin, or where there is only one unit.
    """
    bins = tally.bin_edges.size - 1
    if tally.units < 2:
        return np.full(bins, np.nan), np.full(bins, np.nan)
    draws = multiplicities(tally.units, resamples, rng)
    shares = np.concatenate([tally.reliability(multiplicity).share for multiplicity in draws])
    low, high = np.full(bins, np.nan), np.full(bins, np.nan)
    for which in np.flatnonzero(2 * np.isfinite(shares).sum(axis=0) >= resamples):
        low[which], high[which] = _percentiles(shares[:, which], confidence)
    return low, high


def clopper_pearson(events: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact two-sided interval of a share (Clopper & Pearson 1934, Biometrika 26:404).

    Parameters
    ----------
    events, trials : int
        How many of how many.
    confidence : float
        At least this much of the time the interval holds the truth, if trials are independent.

    Raises
    ------
    DataError
        If there are no trials, or events are not between 0 and trials.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 1290)
    >>> low, round(high, 5)
    (0.0, 0.00286)
    """
    from scipy.special import betaincinv

    if not 0 <= events <= trials or trials < 1:
        raise DataError(f"{events} of {trials} is no share: give 0 <= events <= trials and at least one trial")
    tail = (1 - confidence) / 2
    low = 0.0 if events == 0 else float(betaincinv(events, trials - events + 1, tail))
    high = 1.0 if events == trials else float(betaincinv(events + 1, trials - events, 1 - tail))
    return low, high


def _figure(
    name: str, value: float, counts: Confusion, drawn: FloatArray | None, *, kind: Unit, confidence: float
) -> Figure:
    reason = why_undefined(name, counts)
    if reason:
        return Figure(None, None, None, kind, reason=reason)
    share = _share(name, counts)
    if share is not None and share[0] in {0, share[1]}:
        return Figure(value, *clopper_pearson(*share, confidence), unit="cells", exact=True)
    if drawn is None:
        return Figure(value, None, None, kind, reason=f"an interval takes at least two {kind}")
    undefined = int(np.isnan(drawn).sum())
    if 2 * undefined > drawn.size:
        return Figure(
            value, None, None, kind, reason=f"undefined in {undefined} of {drawn.size} resamples of the {kind}"
        )
    low, high = _percentiles(drawn, confidence)
    note = ""
    if undefined:
        note = f"undefined in {undefined} of {drawn.size} resamples, which the interval leaves out"
    elif np.ptp(drawn) == 0:
        note = f"every resample of the {kind} gives this value: the interval shows no uncertainty"
    return Figure(value, min(low, value), max(high, value), kind, note=note)


def _share(name: str, counts: Confusion) -> tuple[int, int] | None:
    """Return how many of how many cells, for the metrics that are a share of cells."""
    tp, tn = int(counts.true_positives), int(counts.true_negatives)
    return {
        "accuracy": (tp + tn, int(counts.total)),
        "sensitivity": (tp, int(counts.positives)),
        "specificity": (tn, int(counts.negatives)),
        "precision": (tp, int(counts.called_positive)),
    }.get(name)


def _percentiles(drawn: FloatArray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
