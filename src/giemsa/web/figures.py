"""A model's labelled predictions to curves with intervals, for the sliders of the model's page.

What `giemsa evaluate` and `giemsa crossval` leave in a folder becomes counts at some hundred thresholds, once, when the
server starts; the page computes from them whatever it is asked. Intervals are those of `giemsa.stats`: over patients
(over fields or cells, and said so, where patients are not known), of a share the wider of bootstrap and exact.

The embedded model's curves are shipped beside it, made by `benchmarks/embedded_curves.py` in the same way from the
cells of patients that each fold had not seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import DataError, UsageError
from giemsa.formats.evaluations import Predictions, read_labelled_predictions
from giemsa.stats.bootstrap import draw_figure, draw_shares, units_of
from giemsa.stats.intervals import clopper_pearson
from giemsa.stats.metrics import Tally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from giemsa.stats.intervals import Unit

    Floats = NDArray[np.float64]

EMBEDDED_CURVES: Final = Path(__file__).parents[1] / "model" / "embedded" / "curves.json"
RESAMPLES: Final = 1000
_LOGITS: Final = np.linspace(-12, 12, 241)
"""Thresholds, as natural-log odds: 0.1 apart, from p = 0.000006 to 0.999994."""
_DIGITS: Final = 6  # of shares that are kept


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Labelled cells with what a model said of them; all of length N.

    Attributes
    ----------
    p : ndarray of float64
        p_parasitized.
    positive : ndarray of bool
        Whether people call them parasitized.
    unit : ndarray of int
        Whose they are, numbered from 0.
    kind : str
        What a unit is: `patients`, `fields` or `cells`.
    """

    p: Floats
    positive: NDArray[np.bool_]
    unit: NDArray[np.intp]
    kind: Unit


def read_curves(folder: Path) -> dict[str, Any]:
    """Read an evaluation's or a cross-validation's folder, and compute its curves.

    Returns
    -------
    dict
        `name`, `model_sha256` (None where it is not known) and `labels`: for each set of labels what `curves` gives.

    Raises
    ------
    UsageError
        If there are no labelled predictions in it.
    """
    try:
        evaluation = read_labelled_predictions(folder)
    except DataError as error:
        raise UsageError(f"--runs: {error}") from error
    labels = label_sets(evaluation.predictions)
    if not labels:
        raise UsageError(f"--runs: {evaluation.folder} has no cells of both labels; expected some")
    return {
        "name": folder.resolve().name,
        "model_sha256": evaluation.model_sha256,
        "labels": {name: curves(cells) for name, cells in labels.items()},
    }


def embedded_curves(model_sha256: str) -> dict[str, Any] | None:
    """Read the curves that are shipped, if they belong to this model."""
    if not EMBEDDED_CURVES.is_file():
        return None
    content: dict[str, Any] = json.loads(EMBEDDED_CURVES.read_text(encoding="utf-8"))
    return content if content["model_sha256"] == model_sha256 else None


def label_sets(predictions: Predictions) -> dict[str, Cells]:
    """Predictions by whose word counts: `confirmed`, `official`, and `donors`, who have no malaria."""
    p, official = predictions.p_parasitized, predictions.official
    scored = ~np.isnan(p)
    known = scored & (official >= 0)
    confirmed = known & (predictions.reviewed == official) if predictions.reviewed is not None else np.zeros_like(known)
    sets: dict[str, Cells] = {}
    for name, chosen in (("confirmed", confirmed), ("official", known)):
        if chosen.any() and 0 < official[chosen].mean() < 1:
            sets[name] = _cells(predictions, official == 1, chosen)
    if sets and predictions.donor is not None and (donors := scored & predictions.donor).any():
        sets["donors"] = _cells(predictions, np.zeros(len(p), np.bool_), donors)
    return sets


def curves(cells: Cells) -> dict[str, Any]:
    """Count at every threshold, with intervals.

    Returns
    -------
    dict
        `n`, `positives`, `units`, `kind`; `thresholds`, ascending; `true_positives` and `false_positives` at each;
        `sensitivity` and `specificity`, each with `low` and `high` at each (None without such cells); `roc_auc` with
        its interval; `reliability`: what was said and what was seen, in `ECE_BINS` bins of p_parasitized.
    """
    thresholds = 1 / (1 + np.exp(-_LOGITS))
    step = np.searchsorted(thresholds, cells.p, side="right")  # how many thresholds a cell reaches
    units = int(cells.unit.max()) + 1
    reached = np.zeros((2, units, len(thresholds) + 1))
    np.add.at(reached, (cells.positive.astype(int), cells.unit, step), 1)
    at_least = reached[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]  # [label, unit, cells that reach that many]
    called, present = at_least[:, :, 1:], at_least[:, :, 0]
    false, true = called.sum(axis=1)
    content: dict[str, Any] = {
        "n": len(cells.p),
        "positives": int(cells.positive.sum()),
        "units": units,
        "kind": cells.kind,
        "thresholds": thresholds.round(_DIGITS + 2).tolist(),
        "true_positives": true.astype(int).tolist(),
        "false_positives": false.astype(int).tolist(),
        "specificity": _interval(present[0] - called[0].T, present[0], cells.kind),
        "sensitivity": _interval(called[1].T, present[1], cells.kind),
    }
    if content["positives"]:
        content["roc_auc"] = _roc_auc(cells)
        content["reliability"] = _reliability(cells)
    return content


def _cells(predictions: Predictions, positive: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> Cells:
    p = predictions.p_parasitized
    units = units_of(len(p), patients=predictions.patients, fields=predictions.fields, among=chosen)
    return Cells(p[chosen], positive[chosen], units.of_cell[chosen], units.kind)


def _interval(events: Floats, trials: Floats, kind: Unit) -> dict[str, list[float]] | None:
    """Limits of sum(events) / sum(trials) over units; events [T, U], trials [U]."""
    if not trials.sum():
        return None
    if kind == "cells":  # taken for independent: the exact interval is all that a bootstrap could give
        some = [clopper_pearson(seen, trials.sum()) for seen in events.sum(axis=1)]
        low, high = np.array(some).T
        return {"low": low.round(_DIGITS).tolist(), "high": high.round(_DIGITS).tolist()}
    limits = np.empty((2, len(events)))
    rng = np.random.default_rng(0)
    for which, drawn in enumerate(draw_shares(events, trials[np.newaxis], kind, rng, resamples=RESAMPLES)):
        found = drawn.estimate(share=(events[which], trials))
        # Of a single unit there is no interval: nothing is excluded.
        limits[:, which] = (0.0 if found.low is None else found.low, 1.0 if found.high is None else found.high)
    return {"low": limits[0].round(_DIGITS).tolist(), "high": limits[1].round(_DIGITS).tolist()}


def _roc_auc(cells: Cells) -> dict[str, Any]:
    """Area under the ROC curve with its interval."""
    tally = Tally(cells.positive, cells.p, 0.5, cells.unit)
    found = draw_figure(tally, tally.roc_auc, cells.kind, np.random.default_rng(0), resamples=RESAMPLES).estimate()
    return found.to_dict() | {
        "low": 0.0 if found.low is None else found.low,
        "high": 1.0 if found.high is None else found.high,
    }


def _reliability(cells: Cells) -> dict[str, list[Any]]:
    curve = Tally(cells.positive, cells.p, 0.5).reliability()
    there = curve.cells > 0
    return {
        "said": curve.mean_p[there].round(_DIGITS).tolist(),
        "seen": curve.share[there].round(_DIGITS).tolist(),
        "n": curve.cells[there].astype(int).tolist(),
    }
