"""What wrong cells are like: an analysis of an evaluation's errors.

For each kind of error the wrong cells are compared with the right ones of the same label: false positives with true
negatives, false negatives with true positives. What is compared are the cell's colour, focus and size, and how far
what speaks for parasitized is spread. The figure is the probability that a wrong cell has more of it than a right one
(the area under the ROC of that property alone): 0.5 where they are alike. Its interval resamples patients, since an
odd slide makes many odd cells.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from giemsa.images import resize
from giemsa.lab.explaining.explainer import extent
from giemsa.lab.training.augment import BLACK_BELOW
from giemsa.render import palette
from giemsa.stats.bootstrap import draw
from giemsa.stats.intervals import METHODS
from giemsa.stats.metrics import roc_auc
from giemsa.verdicts import DISCLAIMER

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.lab.explaining.explainer import Explainer
    from giemsa.lab.explaining.galleries import Judged
    from giemsa.model import Model

ERROR_FILES: Final = ("error_analysis.json", "error_analysis.md", "error_analysis.png")
RIGHT_CELLS: Final = 1000
"""Right cells of each label that the wrong ones are compared with; of more, so many are drawn at random."""
RESAMPLES: Final = 400
FEW: Final = 10
"""With fewer wrong cells nothing is said of them."""

PROPERTIES: Final = {
    "purple": ("purple", "how far red and blue exceed green, as a part of the brightness"),
    "brightness": ("bright", "mean of the cell's pixels, 0 to 255"),
    "sharpness": ("sharp", "logarithm of the variance of the Laplacian over the squared brightness"),
    "size_px": ("large", "square root of the cell's area, in pixels"),
    "extent": ("widely spread in evidence", "part of the picture over which what speaks for parasitized is spread"),
}
_BATCH: Final = 128


@dataclass(frozen=True, slots=True)
class Comparison:
    """One property of wrong and right cells.

    Attributes
    ----------
    wrong, right : float
        Medians.
    auc, low, high : float
        Probability that a wrong cell has more of it, with a 95 % interval over patients.
    patients : int
        How many the interval rests on.
    """

    wrong: float
    right: float
    auc: float
    low: float
    high: float
    patients: int


def cell_properties(rgb: NDArray[np.uint8]) -> dict[str, float]:
    """Measure a cut-out cell: colour, brightness, sharpness and size.

    Parameters
    ----------
    rgb : (H, W, 3) ndarray of uint8
        The cell, on black or not.

    Returns
    -------
    dict
        `purple`, `brightness`, `sharpness`, `size_px`, as `PROPERTIES` describes them.
    """
    inside = rgb.max(2) >= BLACK_BELOW * 255
    if not inside.any():
        inside = np.ones(rgb.shape[:2], bool)
    red, green, blue = (rgb[:, :, channel][inside].astype(np.float64) for channel in range(3))
    brightness = max(float((red + green + blue).mean() / 3), 1.0)
    # A pixel off the edge: the step to black says nothing of the focus.
    core = cv2.erode(inside.astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    laplacian = cv2.Laplacian(np.ascontiguousarray(rgb[:, :, 1]), cv2.CV_64F)
    detail = laplacian[core > 0] if core.any() else laplacian[inside]
    return {
        "purple": float(((red + blue) / 2 - green).mean() / brightness),
        "brightness": brightness,
        "sharpness": float(np.log(detail.var() / brightness**2 + 1e-6)),
        "size_px": float(np.sqrt(inside.sum())),
    }


def analyse_errors(folder: Path, judged: Judged, model: Model, explainer: Explainer | None) -> dict[str, Any]:
    """Compare wrong with right cells, and write `ERROR_FILES` into a folder.

    Parameters
    ----------
    folder : Path
        Is there.
    judged : Judged
        The cells and their verdicts.
    model : Model
        Gives the input size.
    explainer : Explainer or None
        Makes the maps for the extent; without one it is left out.

    Returns
    -------
    dict
        The content of `error_analysis.json`.
    """
    groups = _groups(judged)
    rows = np.unique(np.concatenate([one for pair in groups.values() for one in pair]))
    measured = _measure(judged, rows, model, explainer)
    patients = [judged.index.cells[int(row)].patient for row in rows]
    place = {int(row): number for number, row in enumerate(rows)}
    content: dict[str, Any] = {
        "labels": "official",
        "threshold": judged.threshold,
        "properties": {name: text for name, (_, text) in PROPERTIES.items() if name in measured},
        "interval": f"95 %, {METHODS['bootstrap']} over patients, {RESAMPLES} resamples, seed 0",
    }
    for name, (wrong, right) in groups.items():
        entry: dict[str, Any] = {"n": len(wrong), "compared_with": len(right), "by_patient": _by_patient(judged, wrong)}
        if len(wrong) >= FEW and len(right) >= FEW:
            chosen = np.array([place[int(row)] for row in (*wrong, *right)])
            is_wrong = np.arange(len(chosen)) < len(wrong)
            whose = [patients[number] or str(number) for number in chosen]
            entry["comparisons"] = {
                what: vars_of(_compare(values[chosen], is_wrong, whose)) for what, values in measured.items()
            }
        content[name] = entry
    sentences = describe_errors(content)
    (folder / "error_analysis.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "error_analysis.md").write_text("\n".join(["# What wrong cells are like", "", *sentences, ""]), "utf-8")
    _draw(folder / "error_analysis.png", content)
    return content


def describe_errors(content: dict[str, Any]) -> list[str]:
    """Sentences about what the analysis found, each with its figure."""
    sentences = []
    kinds = {
        "false_positives": ("False positives", "true negatives"),
        "false_negatives": ("False negatives", "true positives"),
    }
    for key, (name, others) in kinds.items():
        entry = content[key]
        if "comparisons" not in entry:
            why = "too few to say what they are like"
            if entry["n"] >= FEW:
                why = f"but {entry['compared_with']} {others} are too few to compare them with"
            sentences.append(f"- {name}: {entry['n']:,}, {why}.")
            continue
        for what, figures in entry["comparisons"].items():
            word = PROPERTIES[what][0]
            interval = (
                f"{figures['auc']:.2f} [{figures['low']:.2f}, {figures['high']:.2f}; {figures['patients']} patients]"
            )
            if figures["low"] > 0.5:
                found = f"are more {word} than"
            elif figures["high"] < 0.5:
                found = f"are less {word} than"
            else:
                found = f"are about as {word} as"
            sentences.append(
                f"- {name} {found} {others}: a wrong cell has more of it with probability {interval} "
                f"(medians {figures['wrong']:.3g} and {figures['right']:.3g})."
            )
        worst = entry["by_patient"]
        sentences.append(
            f"- {name} by patient: {entry['n']} in {worst['patients_with_any']} of {worst['patients']} patients; the "
            f"five with most have {worst['share_of_five']:.0%} of them."
        )
    return sentences


def vars_of(comparison: Comparison) -> dict[str, float]:
    """Turn a comparison into numbers for JSON."""
    return {name: getattr(comparison, name) for name in ("wrong", "right", "auc", "low", "high", "patients")}


def _groups(judged: Judged) -> dict[str, tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows of the wrong and the right cells of each kind of error."""
    rng = np.random.default_rng(0)
    groups = {}
    for name, label in (("false_positives", ~judged.positive), ("false_negatives", judged.positive)):
        wrong = np.flatnonzero(judged.scored & label & (judged.predicted != judged.positive))
        right = np.flatnonzero(judged.scored & label & (judged.predicted == judged.positive))
        groups[name] = wrong, np.sort(rng.permutation(right)[:RIGHT_CELLS])
    return groups


def _measure(
    judged: Judged, rows: NDArray[np.intp], model: Model, explainer: Explainer | None
) -> dict[str, NDArray[np.float64]]:
    found: dict[str, list[float]] = {name: [] for name in PROPERTIES if name != "extent" or explainer is not None}
    size = model.card.input_size_px
    for start in range(0, len(rows), _BATCH):
        pictures = [judged.read(int(row)) for row in rows[start : start + _BATCH]]
        for rgb in pictures:
            for name, value in cell_properties(rgb).items():
                found[name].append(value)
        if explainer is not None:
            maps = explainer.explain(np.stack([resize(rgb, size) for rgb in pictures]))
            found["extent"].extend(extent(maps).tolist())
    return {name: np.array(values) for name, values in found.items()}


def _compare(values: NDArray[np.float64], is_wrong: NDArray[np.bool_], whose: list[str]) -> Comparison:
    names, of_cell = np.unique(whose, return_inverse=True)

    def area(multiplicity: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([roc_auc(is_wrong, values, times[of_cell]) for times in multiplicity])

    found = draw(area, len(names), "patients", np.random.default_rng(0), resamples=RESAMPLES)
    auc = found.estimate()
    low, high = (np.nan if limit is None else limit for limit in (auc.low, auc.high))
    wrong, right = float(np.median(values[is_wrong])), float(np.median(values[~is_wrong]))
    return Comparison(wrong, right, found.value, low, high, len(names))


def _by_patient(judged: Judged, wrong: NDArray[np.intp]) -> dict[str, Any]:
    cells = judged.index.cells
    errors = Counter(cells[int(row)].patient for row in wrong)
    errors.pop(None, None)
    of_each = Counter(cell.patient for cell in cells)
    most = errors.most_common(5)
    return {
        "patients": len([patient for patient in of_each if patient is not None]),
        "patients_with_any": len(errors),
        "share_of_five": sum(count for _, count in most) / max(1, len(wrong)),
        "most": [{"patient": patient, "errors": count, "cells": of_each[patient]} for patient, count in most],
    }


def _draw(path: Path, content: dict[str, Any]) -> None:
    """Draw the probability of each property, with its interval, for both kinds of error."""
    kinds = {
        "false_positives": "False positives against true negatives",
        "false_negatives": "False negatives against true positives",
    }
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        for axis, (key, title) in zip(figure.subplots(1, 2, sharex=True), kinds.items(), strict=True):
            entry = content[key]
            axis.set_title(f"{title}\n{entry['n']:,} wrong, {entry['compared_with']:,} right cells", fontsize=10)
            compared = entry.get("comparisons", {})
            for place, (_name, figures) in enumerate(compared.items()):
                axis.plot([figures["low"], figures["high"]], [place, place], color=palette.BLUE.hex, linewidth=2)
                axis.plot(figures["auc"], place, "o", color=palette.BLUE.hex)
            axis.set_yticks(range(len(compared)), [f"more {PROPERTIES[name][0]}" for name in compared])
            axis.axvline(0.5, color="#555555", linestyle=":", linewidth=1)
            axis.set_xlim(0, 1)
            axis.set_xlabel("probability that a wrong cell\nhas more of it (95 % interval)")
            if not compared:
                axis.text(0.5, 0.5, "too few to say", ha="center", transform=axis.transAxes)
        figure.supxlabel(DISCLAIMER, fontsize=7.5, color="#555555")
        figure.savefig(path, dpi=130, format="png")
