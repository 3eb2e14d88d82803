"""An evaluation, from a classifier's verdicts on labelled cells to a folder that shows how good they are.

    metrics.json          every figure with its interval, and all that is needed to make it again
    predictions.csv       one row a cell, unreadable ones included
    confusion_matrix.png, roc.png, precision_recall.png, reliability.png

Figures are computed by `giemsa.stats.evaluation` from arrays alone; a model's evaluation and a cross-validation go
through it alike. The two files and their reader are in `giemsa.formats.evaluations`.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.data.patients import origin_of
from giemsa.formats.evaluations import METRICS_FILE, PREDICTIONS_FILE, Predictions, write_evaluation_files
from giemsa.lab.folders import check_folder, replace_folder
from giemsa.sources import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from giemsa.classifier import Classifier
    from giemsa.data.index import CellIndex, UnreadablePicture
    from giemsa.data.labels import LabelSets
    from giemsa.stats.evaluation import Report
    from giemsa.verdicts import Verdict

FILES: Final = (
    METRICS_FILE,
    PREDICTIONS_FILE,
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
        write_evaluation_files(beside, predictions, content, threshold=report.threshold)
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
    """Versions of everything that bears on the figures."""
    found = {"python": platform.python_version()}
    for package in ("giemsa", "numpy", "onnxruntime", "opencv-python-headless"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


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


def _nan_if_none(value: float | None) -> float:
    return np.nan if value is None else value
