"""A model's labelled predictions to curves with intervals, for the sliders of the model's page.

What `giemsa evaluate` and `giemsa crossval` leave in a folder (`predictions.csv`) becomes counts at some hundred
thresholds, once, when the server starts; the page computes from them whatever it is asked. Intervals are percentiles
of a bootstrap over patients (over cells, and said so, where patients are not known). Where nothing was seen, or all
was, the exact bound of Clopper and Pearson takes their place, which takes cells for independent.

The embedded model's curves are shipped beside it, made by `benchmarks/embedded_curves.py` in the same way from the
cells of patients that each fold had not seen.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EMBEDDED_CURVES: Final = Path(__file__).parents[1] / "model" / "embedded" / "curves.json"
RESAMPLES: Final = 1000
_CONFIDENCE: Final = 0.95
_LOGITS: Final = np.linspace(-12, 12, 241)
"""Thresholds, as natural-log odds: 0.1 apart, from p = 0.000006 to 0.999994."""
_BINS: Final = 10
_TENTHS: Final = 6  # digits of shares that are kept


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
        What a unit is: `patients` or `cells`.
    """

    p: Floats
    positive: NDArray[np.bool_]
    unit: NDArray[np.intp]
    kind: str


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
    path = next((place for place in (folder / "predictions.csv", folder / "pooled" / "predictions.csv",
                                     folder / "out_of_fold.csv") if place.is_file()), None)  # fmt: skip
    if path is None:
        raise UsageError(f"--runs: {folder} has no predictions.csv; name a folder that `giemsa evaluate` or "
                         "`giemsa crossval` wrote")  # fmt: skip
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("p_parasitized")]
        labels = label_sets(rows)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UsageError(f"--runs: {path} cannot be read as labelled predictions: {error}") from error
    if not labels:
        raise UsageError(f"--runs: {path} has no cells of both labels; expected some")
    return {
        "name": folder.resolve().name,
        "model_sha256": _model_of(path.parent),
        "labels": {name: curves(cells) for name, cells in labels.items()},
    }


def embedded_curves(model_sha256: str) -> dict[str, Any] | None:
    """Read the curves that are shipped, if they belong to this model."""
    if not EMBEDDED_CURVES.is_file():
        return None
    content: dict[str, Any] = json.loads(EMBEDDED_CURVES.read_text(encoding="utf-8"))
    return content if content["model_sha256"] == model_sha256 else None


def label_sets(rows: list[dict[str, str]]) -> dict[str, Cells]:
    """Tell labelled rows apart by whose word counts: `confirmed`, `official`, and `donors`, who have no malaria."""
    official = np.array([_label(row["official"]) for row in rows])
    reviewed = np.array([_label(row.get("reviewed", "")) for row in rows])
    donor = np.array([row.get("donor") == "yes" for row in rows], np.bool_)
    p = np.array([float(row["p_parasitized"]) for row in rows])
    patients = [row.get("patient", "") for row in rows]
    sets: dict[str, Cells] = {}
    for name, chosen in (("confirmed", (official == reviewed) & (official >= 0)), ("official", official >= 0)):
        if chosen.any() and 0 < official[chosen].mean() < 1:
            sets[name] = _cells(p, official == 1, patients, chosen)
    if sets and donor.any():
        sets["donors"] = _cells(p, np.zeros(len(p), np.bool_), patients, donor)
    return sets


def curves(cells: Cells) -> dict[str, Any]:
    """Count at every threshold, with intervals.

    Returns
    -------
    dict
        `n`, `positives`, `units`, `kind`; `thresholds`, ascending; `true_positives` and `false_positives` at each;
        `sensitivity` and `specificity`, each with `low` and `high` at each (None without such cells); `roc_auc` with
        its interval; `reliability`: what was said and what was seen, by tenths of p_parasitized.
    """
    thresholds = 1 / (1 + np.exp(-_LOGITS))
    step = np.searchsorted(thresholds, cells.p, side="right")  # how many thresholds a cell reaches
    units = int(cells.unit.max()) + 1
    reached = np.zeros((2, units, len(thresholds) + 1))
    np.add.at(reached, (cells.positive.astype(int), cells.unit, step), 1)
    at_least = reached[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]  # [label, unit, cells that reach that many]
    called, present = at_least[:, :, 1:], at_least[:, :, 0]
    weights = np.random.default_rng(0).multinomial(units, np.full(units, 1 / units), RESAMPLES).astype(float)
    false, true = called.sum(axis=1)
    content: dict[str, Any] = {
        "n": len(cells.p),
        "positives": int(cells.positive.sum()),
        "units": units,
        "kind": cells.kind,
        "thresholds": thresholds.round(_TENTHS + 2).tolist(),
        "true_positives": true.astype(int).tolist(),
        "false_positives": false.astype(int).tolist(),
        "specificity": _interval(present[0] - called[0].T, present[0], weights),
        "sensitivity": _interval(called[1].T, present[1], weights),
    }
    if content["positives"]:
        content["roc_auc"] = _roc_auc(cells, weights)
        content["reliability"] = _reliability(cells)
    return content


def _cells(p: Floats, positive: NDArray[np.bool_], patients: list[str], chosen: NDArray[np.bool_]) -> Cells:
    names = [patients[row] for row in np.flatnonzero(chosen)]
    if all(names):
        unit, kind = np.unique(names, return_inverse=True)[1], "patients"
    else:
        unit, kind = np.arange(len(names)), "cells"
    return Cells(p[chosen], positive[chosen], unit.astype(np.intp), kind)


def _interval(events: Floats, trials: Floats, weights: Floats) -> dict[str, list[float]] | None:
    """Give limits of sum(events) / sum(trials) over units; events [T, U], trials [U], weights [R, U]."""
    total = trials.sum()
    if not total:
        return None
    drawn = weights @ trials
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (weights @ events.T) / drawn[:, np.newaxis]
    low, high = np.nanpercentile(shares, (100 * _TAIL, 100 * (1 - _TAIL)), axis=0)
    seen = events.sum(axis=1)
    low = np.where(seen == total, _TAIL ** (1 / total), low)
    high = np.where(seen == 0, 1 - _TAIL ** (1 / total), high)
    return {"low": low.round(_TENTHS).tolist(), "high": high.round(_TENTHS).tolist()}


_TAIL: Final = (1 - _CONFIDENCE) / 2


def _roc_auc(cells: Cells, weights: Floats) -> dict[str, float]:
    """Area under the ROC curve, ties counted half, with its interval."""
    order = np.argsort(cells.p, kind="stable")
    p, positive, unit = cells.p[order], cells.positive[order], cells.unit[order]
    ends = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)  # the last cell of each run of equal scores

    def area(weight: Floats) -> float:
        up, down = np.cumsum(weight * positive)[ends], np.cumsum(weight * ~positive)[ends]
        if not up[-1] or not down[-1]:
            return float("nan")
        gained = np.diff(up, prepend=0)
        below = down - np.diff(down, prepend=0) / 2
        return float((gained * below).sum() / (up[-1] * down[-1]))

    drawn = [area(weight[unit]) for weight in weights[:400]]
    low, high = np.nanpercentile(drawn, (100 * _TAIL, 100 * (1 - _TAIL)))
    return {"value": area(np.ones(len(p))), "low": float(low), "high": float(high)}


def _reliability(cells: Cells) -> dict[str, list[Any]]:
    tenth = np.minimum((cells.p * _BINS).astype(int), _BINS - 1)
    n = np.bincount(tenth, minlength=_BINS)
    there = n > 0
    said, seen = (np.bincount(tenth, values, _BINS)[there] / n[there] for values in (cells.p, cells.positive))
    return {"said": said.round(_TENTHS).tolist(), "seen": seen.round(_TENTHS).tolist(), "n": n[there].tolist()}


def _label(word: str) -> int:
    return {"parasitized": 1, "uninfected": 0}.get(word, -1)


def _model_of(folder: Path) -> str | None:
    try:
        content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    model = content.get("model")
    digest = model.get("sha256") if isinstance(model, dict) else content.get("model_sha256")
    return digest if isinstance(digest, str) else None
