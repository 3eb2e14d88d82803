"""What is compared: runs, cross-validations, evaluations and model files, each with its predictions and its costs.

An evaluation (`giemsa evaluate --output RUN/evaluation`) leaves `metrics.json` and `predictions.csv`; they are read
back here. Nothing is guessed: where a run has no evaluation, or two, that is said.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.classifier import Classifier
from giemsa.data.patients import origin_of
from giemsa.errors import DataError, UsageError
from giemsa.formats.evaluations import Evaluation, Predictions, is_evaluation, read_evaluation
from giemsa.model import EMBEDDED_PATH, open_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EMBEDDED_NAME: Final = "default"
"""How the embedded model is called on the command line."""

_OUR_OWN: Final = "Patients are not known of all cells"  # a comparison says that for all of its runs at once
_TYPICAL_CELL_PX: Final = 130  # most cells of the official set are near that
_SPEED_CELLS: Final = 512
_SPEED_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model judges cells on this machine.

    Attributes
    ----------
    cells_per_second : float
        The median of the rounds.
    lowest, highest : float
        Of the rounds.
    rounds, cells, threads : int
        How often how many cells were judged, and by how many worker threads.
    """

    cells_per_second: float
    lowest: float
    highest: float
    rounds: int
    cells: int
    threads: int


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One thing that is compared.

    Attributes
    ----------
    name : str
        By which it stands in tables.
    place : str
        As it was given.
    predictions : Predictions or None
        None until it has been evaluated.
    threshold : float
        Cells are called parasitized where p_parasitized is at least this.
    data_digest, split, command : str
        Of its evaluation.
    model_digest : str
        SHA-256 of the model file that made the predictions; empty where several did.
    model : Path or None
        The model file.
    parameters, model_bytes : int or None
        None where there is no single model.
    training_seconds : float or None
        Of the whole training, or of all folds together.
    training_device : str
        What it was trained on, with its threads.
    recipe : str
        The recipe's name.
    warnings : tuple of str
        What a careful reader must know, in whole sentences.
    """

    name: str
    place: str
    predictions: Predictions | None = None
    threshold: float = 0.5
    data_digest: str = ""
    split: str = ""
    command: str = ""
    model_digest: str = ""
    model: Path | None = None
    parameters: int | None = None
    model_bytes: int | None = None
    training_seconds: float | None = None
    training_device: str = ""
    recipe: str = ""
    warnings: tuple[str, ...] = ()


def open_entries(places: Sequence[str], *, evaluated: bool = True) -> list[Entry]:
    """Open what is to be compared.

    Parameters
    ----------
    places : sequence of str
        Run folders with an evaluation in them, cross-validations, evaluations; and, where nothing need be evaluated
        yet, ONNX files and `default` for the embedded model.
    evaluated : bool
        Whether each must bring an evaluation.

    Raises
    ------
    UsageError
        If there are fewer than two, or one twice.
    DataError
        If one is nothing that can be compared.
    """
    if len(places) < 2:
        raise UsageError(f"{len(places)} run was given: compare needs two or more")
    resolved = [place if place == EMBEDDED_NAME else str(Path(place).resolve()) for place in places]
    for number, place in enumerate(resolved):
        if place in resolved[:number]:
            raise UsageError(f"{places[number]} was given twice: name each run once")
    found = [_open(place, evaluated=evaluated) for place in places]
    names = [entry.name for entry in found]
    return [entry if names.count(entry.name) == 1 else replace(entry, name=entry.place) for entry in found]


def measure_speed(model: Path, *, threads: int | None = None) -> Speed:
    """Judge drawn noise of a typical cell's size, resizing included and decoding not, and take the time.

    What a convolution costs does not depend on what is in the picture.
    """
    classifier = Classifier(open_model(model), threads=threads)
    noise = np.random.default_rng(0).integers(0, 256, (32, _TYPICAL_CELL_PX, _TYPICAL_CELL_PX, 3), np.uint8)
    cells = [noise[number % len(noise)] for number in range(_SPEED_CELLS)]
    rates = []
    for _ in range(_SPEED_ROUNDS + 1):  # the first one warms up
        started = time.perf_counter()
        for _verdicts in classifier.classify_batches(cells):
            pass
        rates.append(_SPEED_CELLS / (time.perf_counter() - started))
    kept = sorted(rates[1:])
    return Speed(float(np.median(kept)), kept[0], kept[-1], _SPEED_ROUNDS, _SPEED_CELLS, classifier.threads)


def describe_machine() -> dict[str, Any]:
    """Say what speeds were measured on, in words that mean the same elsewhere."""
    processor = platform.processor() or platform.machine()
    with_names = Path("/proc/cpuinfo")
    if with_names.is_file():
        for line in with_names.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"processor": processor, "cores": cores, "system": platform.system()}


def _open(place: str, *, evaluated: bool) -> Entry:
    if place == EMBEDDED_NAME:
        if evaluated:
            raise DataError(
                "the embedded model has no evaluation of its own: give --data DIR, or the folder of an evaluation of it"
            )
        return _with_model(Entry(EMBEDDED_NAME, place), EMBEDDED_PATH)
    path = Path(place)
    if path.is_file():
        if evaluated:
            raise DataError(f"{place} is a model and no evaluation: give --data DIR, or the folder of an evaluation")
        return _with_model(Entry(path.stem, place), path)
    if not path.is_dir():
        raise DataError(f"{place} does not exist: name a run, a cross-validation or an evaluation")
    if not evaluated:
        open_model(path)  # says what is missing
        return _with_model(_with_record(Entry(path.resolve().name, place), path), path / "model.onnx")
    return _open_evaluated(path, place)


def _open_evaluated(path: Path, place: str) -> Entry:
    evaluation = _find_evaluation(path)
    found = read_evaluation(evaluation)
    metrics, named = found.metrics, found.model
    whole = path.parent if evaluation == path and _has_record(path.parent) else path
    split = metrics.get("split") or {}
    entry = Entry(
        whole.resolve().name,
        place,
        _with_fields(found),
        float(metrics["threshold"]),
        data_digest=found.data_digest,
        split=str(split.get("part", "")) if isinstance(split, dict) else "",
        command=str(metrics.get("command", "")),
        model_digest=found.model_sha256 or "",
        recipe=str(named.get("name") or metrics.get("recipe") or ""),
        warnings=tuple(
            f"{whole.resolve().name}: {said}" for said in metrics.get("warnings", []) if not said.startswith(_OUR_OWN)
        ),
    )
    entry = _with_record(entry, whole)
    model = _find_model(whole, named)
    return entry if model is None else _with_model(entry, model)


def _find_evaluation(path: Path) -> Path:
    if is_evaluation(path):
        return path
    inside = sorted(folder for folder in path.iterdir() if folder.is_dir() and is_evaluation(folder))
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(folder.name for folder in inside)
        raise DataError(f"{path} holds {len(inside)} evaluations ({names}): name the one that is meant")
    raise DataError(
        f"{path} holds no evaluation: make one with `giemsa evaluate --data DIR --model {path} --output "
        f"{path}/evaluation`, or give compare the data with --data DIR"
    )


def _has_record(folder: Path) -> bool:
    return (folder / "run.json").is_file() or any(folder.glob("fold-*/run.json"))


def _find_model(whole: Path, named: Mapping[str, Any]) -> Path | None:
    """Find the file that was evaluated: beside its evaluation, where the evaluation says it was, or in the package."""
    if (whole / "model.onnx").is_file():
        return whole / "model.onnx"
    file = str(named.get("file", ""))
    candidate = EMBEDDED_PATH if file == "embedded" else Path(file) if file else None
    if candidate is not None and candidate.is_dir():
        candidate /= "model.onnx"
    return candidate if candidate is not None and candidate.is_file() else None


def _with_model(entry: Entry, model: Path) -> Entry:
    """Add what a model file costs; a file that is not the one that was evaluated is said."""
    opened = open_model(model)
    digest = sha256(model.read_bytes()).hexdigest()
    warnings = entry.warnings
    if entry.model_digest and entry.model_digest != digest:
        warnings += (
            f"{entry.name}: {model.name} is not the file that was evaluated (it begins with {digest[:12]} and not "
            f"{entry.model_digest[:12]}): size and speed are those of the file that is there.",
        )
    parameters = entry.parameters
    if parameters is None:
        parameters = _count(model.parent)
    return replace(
        entry,
        model=model,
        model_bytes=model.stat().st_size,
        model_digest=entry.model_digest or digest,
        parameters=parameters,
        recipe=entry.recipe or opened.card.name,
        warnings=warnings,
    )


def _with_record(entry: Entry, folder: Path) -> Entry:
    """Add what a run's record, or those of a cross-validation's folds, say about the training."""
    from giemsa.lab.training.runs import read_record

    if (folder / "run.json").is_file():
        folders = [folder]
    else:
        folders = sorted(path.parent for path in folder.glob("fold-*/run.json"))
    if not folders:
        return entry
    records = [read_record(each) for each in folders]
    seconds = [record.timings.get("seconds") for record in records]
    last = records[-1]
    device = f"{last.device}, {last.threads} threads" if last.device == "cpu" else last.device
    return replace(
        entry,
        parameters=last.parameters or _count(folders[0]),
        training_seconds=None if None in seconds else float(sum(second or 0 for second in seconds)),
        training_device=device if len(folders) == 1 else f"{device}, {len(folders)} folds",
    )


def _count(folder: Path) -> int | None:
    """Count the weights that training can change, from the recipe beside them."""
    if not (folder / "recipe.toml").is_file():
        return None
    from giemsa.lab.networks.building import build_network, count_parameters
    from giemsa.lab.recipes import load_recipe

    recipe = load_recipe(folder / "recipe.toml")
    return count_parameters(build_network(recipe.network, recipe.input_size_px))


def _with_fields(found: Evaluation) -> Predictions:
    """Predictions with their fields; those of version 0.1.0 did not name them, so that names of files must do."""
    predictions = found.predictions
    if predictions.fields is not None:
        return predictions
    origins = [origin_of(image.rpartition("/")[2]) for image in predictions.images]
    return replace(predictions, fields=[origin.photograph if origin else None for origin in origins])
