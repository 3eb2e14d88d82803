"""What an evaluation leaves in its folder: `metrics.json`, and a row a cell in `predictions.csv`.

`giemsa evaluate` writes a model's evaluation, and `giemsa crossval` that of a recipe in `pooled/`, beside
`out_of_fold.csv`. The comparison and the model's page read them. Writer and reader stand here side by side, so that
neither can take for granted what the other does not do.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import DataError
from giemsa.files import replace_file
from giemsa.spreadsheets import GuardedWriter, read_guarded
from giemsa.stats.bootstrap import RESAMPLES
from giemsa.stats.evaluation import Report, evaluate_predictions
from giemsa.verdicts import LABELS, is_parasitized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.stats.metrics import BoolArray, FloatArray

METRICS_FILE: Final = "metrics.json"
PREDICTIONS_FILE: Final = "predictions.csv"
OUT_OF_FOLD_FILE: Final = "out_of_fold.csv"
POOLED: Final = "pooled"
"""The folder of a cross-validation that holds its evaluation."""

PREDICTION_COLUMNS: Final = (
    "image",
    "patient",
    "field",
    "official",
    "reviewed",
    "donor",
    "verdict",
    "p_parasitized",
    "logit",
    "reason",
)
_OUT_OF_FOLD_COLUMNS: Final = ("image", "patient", "fold", "official", "reviewed", "donor", "p_parasitized", "logit")
_CODES: Final[Mapping[str, int]] = {"": -1, **{label: code for code, label in enumerate(LABELS)}}
_WORDS: Final[Mapping[int, str]] = {code: word for word, code in _CODES.items()}


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
        """Figures of these predictions, by `evaluate_predictions`."""
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


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """An evaluation that was read back.

    Attributes
    ----------
    folder : Path
        That holds the rows.
    predictions : Predictions
        Its rows; `fields` is None where they do not name them, as those of version 0.1.0 do not.
    metrics : mapping
        The content of metrics.json; empty where there is none.
    """

    folder: Path
    predictions: Predictions
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Mapping[str, Any]:
        """What metrics.json says of the model; empty where no single model made the predictions."""
        found = self.metrics.get("model")
        return found if isinstance(found, dict) else {}

    @property
    def model_sha256(self) -> str | None:
        """SHA-256 of the model's file; None where no single model made the predictions."""
        found = self.model.get("digest") or self.metrics.get("model_sha256")
        return found if isinstance(found, str) else None

    @property
    def data_digest(self) -> str:
        """Digest of the data; empty where it is not named."""
        data = self.metrics.get("data")
        found = self.metrics.get("data_digest") or (data.get("digest") if isinstance(data, dict) else "")
        return str(found or "")


def write_evaluation_files(
    folder: Path, predictions: Predictions, metrics: Mapping[str, Any], *, threshold: float
) -> None:
    """Write metrics.json and predictions.csv into a folder that is there.

    Parameters
    ----------
    folder : Path
        Gets the two files.
    predictions : Predictions
        The rows.
    metrics : mapping
        The content of metrics.json.
    threshold : float
        Makes the verdicts that the predictions do not bring.
    """
    text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    (folder / METRICS_FILE).write_text(text, encoding="utf-8", errors="surrogateescape")
    with (folder / PREDICTIONS_FILE).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = GuardedWriter(file)
        writer.writerow(PREDICTION_COLUMNS)
        for row, image in enumerate(predictions.images):
            p, logit = float(predictions.p_parasitized[row]), float(predictions.logit[row])
            verdict = "unreadable" if np.isnan(p) else LABELS[int(is_parasitized(p, threshold))]
            writer.writerow(
                (
                    image,
                    (predictions.patients[row] or "") if predictions.patients is not None else "",
                    (predictions.fields[row] or "") if predictions.fields is not None else "",
                    _WORDS[int(predictions.official[row])],
                    _WORDS[int(predictions.reviewed[row])] if predictions.reviewed is not None else "",
                    ("yes" if predictions.donor[row] else "no") if predictions.donor is not None else "",
                    predictions.verdicts[row] if predictions.verdicts is not None else verdict,
                    "" if np.isnan(p) else repr(p),
                    "" if np.isnan(logit) else f"{logit:.9g}",
                    predictions.reasons[row] if predictions.reasons is not None else "",
                )
            )


def write_out_of_fold(path: Path, predictions: Predictions, fold: NDArray[np.integer]) -> None:
    """Write a cross-validation's rows, each with the fold in which its cell was held back."""
    with replace_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = GuardedWriter(file)
        writer.writerow(_OUT_OF_FOLD_COLUMNS)
        for row, image in enumerate(predictions.images):
            writer.writerow(
                (
                    image,
                    (predictions.patients[row] or "") if predictions.patients is not None else "",
                    fold[row],
                    _WORDS[int(predictions.official[row])],
                    _WORDS[int(predictions.reviewed[row])] if predictions.reviewed is not None else "",
                    "yes" if predictions.donor is not None and predictions.donor[row] else "no",
                    f"{predictions.p_parasitized[row]:.9g}",
                    f"{predictions.logit[row]:.9g}",
                )
            )


def is_evaluation(folder: Path) -> bool:
    """Whether a folder holds an evaluation's two files."""
    return (folder / METRICS_FILE).is_file() and (folder / PREDICTIONS_FILE).is_file()


def read_evaluation(folder: Path) -> Evaluation:
    """Read metrics.json and predictions.csv back.

    Raises
    ------
    DataError
        If they are missing or not as they are written here.
    """
    try:
        metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
        float(metrics["threshold"])
        predictions = _read_rows(folder / PREDICTIONS_FILE)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise DataError(
            f"{folder} is no evaluation as `giemsa evaluate` writes it: {type(error).__name__}, {error}; evaluate again"
        ) from None
    if not predictions.images:
        raise DataError(f"{folder} is an evaluation of no cell at all: evaluate again")
    return Evaluation(folder, predictions, metrics)


def read_labelled_predictions(folder: Path) -> Evaluation:
    """Read the rows of an evaluation or of a cross-validation, and metrics.json where there is one.

    Raises
    ------
    DataError
        If there are none, or they are damaged.
    """
    places = (folder / PREDICTIONS_FILE, folder / POOLED / PREDICTIONS_FILE, folder / OUT_OF_FOLD_FILE)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(
            f"{folder} has no {PREDICTIONS_FILE}; name a folder that `giemsa evaluate` or `giemsa crossval` wrote"
        )
    try:
        predictions = _read_rows(path)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as labelled predictions: {error}") from None
    try:
        metrics = json.loads((path.parent / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        metrics = {}
    return Evaluation(path.parent, predictions, metrics if isinstance(metrics, dict) else {})


def _read_rows(path: Path) -> Predictions:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(read_guarded(file))
    columns = rows[0].keys() if rows else ()
    official = _codes(rows, "official")
    reviewed = _codes(rows, "reviewed")
    return Predictions(
        images=[row["image"] for row in rows],
        p_parasitized=np.array([float(row["p_parasitized"] or "nan") for row in rows]),
        logit=np.array([float(row["logit"] or "nan") for row in rows])
        if "logit" in columns
        else np.full(len(rows), np.nan),
        official=official,
        reviewed=reviewed if (reviewed >= 0).any() else None,
        donor=np.array([row["donor"] == "yes" for row in rows]) if any(row.get("donor") for row in rows) else None,
        patients=[row.get("patient") or None for row in rows],
        fields=[row["field"] or None for row in rows] if "field" in columns else None,
        verdicts=[row["verdict"] for row in rows] if "verdict" in columns else None,
        reasons=[row["reason"] or "" for row in rows] if "reason" in columns else None,
    )


def _codes(rows: Sequence[Mapping[str, str]], column: str) -> NDArray[np.int8]:
    words = [row[column] if column == "official" else row.get(column, "") or "" for row in rows]
    for word in words:
        if word not in _CODES:
            raise ValueError(f"{column} is {word!r}, expected {' or '.join(LABELS)}")
    return np.array([_CODES[word] for word in words], np.int8)
