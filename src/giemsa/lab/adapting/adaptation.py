"""Adapt a model to a laboratory: train it on with the laboratory's own reviewed cells, and say what that changed.

A laboratory's stain and camera are what breaks these models. Training starts from a finished model's weights and
takes half of each batch from the laboratory and half from the cells that the model comes from, so that nothing is
forgotten (rehearsal; Ratcliff 1990, doi 10.1037/0033-295X.97.2.285).

What is reported is cross-validated: each of the laboratory's units (patients, else fields) is held back once, and
judged by a model that has seen none of its cells. Calibration and threshold come from these held-back logits, and the
figures of a fold are taken at the threshold of the other folds. The model that is kept is trained on everything.
"""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.data.index import CellIndex
from giemsa.data.labels import LabelSets
from giemsa.data.splits import make_split
from giemsa.errors import DataError, GiemsaWarning, RunError
from giemsa.files import replace_file, write_file
from giemsa.lab.recipes import Recipe, parse_recipe
from giemsa.lab.training.calibration import MINIMUM_CELLS, Calibration, fit_calibration
from giemsa.lab.training.loop import TrainingData, predict_logits, train

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import nn

    from giemsa.data.index import GroupKind
    from giemsa.data.laboratory import Laboratory
    from giemsa.data.splits import SplitBy
    from giemsa.lab.training.datasets import LabelledData
    from giemsa.lab.training.runs import Run

FOLDS: Final = 5
MINIMUM_PARASITES: Final = MINIMUM_CELLS
MINIMUM_UNINFECTED: Final = 100
MINIMUM_UNITS: Final = FOLDS
"""With parasites in them: each fold holds one back."""
CURVE: Final = (10, 25, 50, 100, 200, 400)
"""Numbers of reviewed parasites at which the learning curve is measured, as far as there are so many."""

POSITIVE_SHARE: Final = 0.25
"""Of the laboratory's part of an epoch. In a field one red cell in fifty is infected; so few teach little."""
UNINFECTED_AN_EPOCH: Final = (1200, 9600)
"""Fewest and most of the laboratory's uninfected cells in an epoch: below it they repeat, above it they take turns."""
REHEARSED: Final = 6000
"""Most cells of the model's own kind that are held in memory to be rehearsed."""
JUDGED: Final = 4000
"""Most cells of the model's own kind on which forgetting is measured."""
HELD_BACK_SHARE: Final = 0.2
"""Of those cells' patients, where the model knows all of them."""

CHANGES: Final[dict[str, dict[str, Any]]] = {
    "training": {"epochs": 3, "ema_decay": 0.99, "patience": 0, "frozen_epochs": 0},
    "augmentation": {"clean_probability": 0.6},
}
"""What differs from the recipe of the model that is adapted. A laboratory's cells look as they will look, so that more
of them are left as they are; the learning rate is a quarter, so that what was learnt stays."""
RATE: Final = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The model that is adapted.

    Attributes
    ----------
    name : str
        For people.
    recipe : Recipe
        How it was trained.
    network : Module
        With its fp32 weights.
    calibration : Calibration
        With which it makes verdicts now.
    patients : frozenset of str
        Whom it was trained on; empty where that is not known.
    """

    name: str
    recipe: Recipe
    network: nn.Module
    calibration: Calibration
    patients: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsal:
    """Cells of the kind that the model comes from.

    Attributes
    ----------
    index, labels, pixels
        The cells that are rehearsed, aligned.
    judged_index, judged_labels, judged_pixels
        Others, of other patients, on which forgetting is measured.
    judged_unseen : bool
        Whether the model that is adapted has not been trained on the judged cells' patients either.
    note : str
        That, in a sentence.
    """

    index: CellIndex
    labels: LabelSets
    pixels: NDArray[np.uint8]
    judged_index: CellIndex
    judged_labels: LabelSets
    judged_pixels: NDArray[np.uint8]
    judged_unseen: bool
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """What an adaptation leaves.

    Attributes
    ----------
    run : Run
        The adapted model, trained on all of the laboratory's cells.
    calibration : Calibration
        For the laboratory, from the held-back logits.
    fold : (N,) ndarray of int
        In which fold each of the laboratory's cells was held back.
    before, after : (N,) ndarray of float32
        Logits of the laboratory's cells: of the model as it was, and of the fold's adapted model.
    called_before, called_after : (N,) ndarray of bool
        At the old threshold, and at that of the other folds.
    curve : dict of int to (N,) ndarray of float32
        Held-back logits after training on so many parasites only.
    judged_before, judged_after : (M,) ndarray of float32 or None
        Logits of the rehearsal's judged cells, by the model as it was and by the one that is kept.
    """

    run: Run
    calibration: Calibration
    fold: NDArray[np.int64]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    called_before: NDArray[np.bool_]
    called_after: NDArray[np.bool_]
    curve: dict[int, NDArray[np.float32]]
    judged_before: NDArray[np.float32] | None
    judged_after: NDArray[np.float32] | None


def adapted_recipe(start: Recipe, overrides: dict[str, Any] | None = None) -> Recipe:
    """Make the recipe of an adaptation from that of the model that is adapted.

    Parameters
    ----------
    start : Recipe
        Of that model.
    overrides : dict, optional
        Dotted keys and their values, as `--set` gives them. The network and the input size stay.

    Raises
    ------
    RecipeError
        If an override is not known or impossible.
    """
    content = start.model_dump(mode="json", exclude_none=True)
    content["name"] = f"{start.name.removesuffix('-adapted')}-adapted"
    content["description"] = f"{start.name}, adapted to a laboratory."
    content.pop("published", None)
    for table, changes in CHANGES.items():
        content[table] |= changes
    content["optimiser"]["learning_rate"] = RATE * start.optimiser.learning_rate
    for key, value in (overrides or {}).items():
        table, _, last = key.partition(".")
        if last and isinstance(content.get(table), dict):
            content[table][last] = value
        else:
            content[key] = value
    recipe = parse_recipe(content, "the recipe of the adaptation")
    if (recipe.network, recipe.input_size_px) != (start.network, start.input_size_px):
        raise RunError("an adaptation keeps the network and the input size of its model: train a new one instead")
    return recipe


def check_enough(laboratory: Laboratory) -> None:
    """Refuse too few reviewed cells, and say how many are needed.

    Raises
    ------
    DataError
        If there are too few of a class, or parasites in too few patients or fields.
    """
    positive, units = laboratory.positive, laboratory.units
    parasites, healthy = int(positive.sum()), int((~positive).sum())
    with_parasites = len(set(units[positive]))
    missing = []
    if parasites < MINIMUM_PARASITES:
        missing.append(f"{MINIMUM_PARASITES - parasites} more parasitized cells")
    if healthy < MINIMUM_UNINFECTED:
        missing.append(f"{MINIMUM_UNINFECTED - healthy} more uninfected cells")
    if with_parasites < MINIMUM_UNITS and laboratory.kind != "cells":
        missing.append(f"parasitized cells of {MINIMUM_UNITS - with_parasites} more {laboratory.kind}")
    if missing:
        raise DataError(
            f"{parasites} parasitized cells (of {with_parasites} {laboratory.kind}) and {healthy} uninfected ones were "
            f"given, and adapting needs {MINIMUM_PARASITES} of {MINIMUM_UNITS} {laboratory.kind} and "
            f"{MINIMUM_UNINFECTED}: review {' and '.join(missing)}"
        )


def choose_rehearsal(data: LabelledData, pixels: NDArray[np.uint8], start: Start) -> Rehearsal:
    """Choose which cells are rehearsed, and on which others forgetting is measured.

    Where the data hold patients that the model was not trained on, these are judged; else a fifth of the patients are
    kept out of the rehearsal, and it is said that the model knows them.
    """
    index, labels = data.index, data.labels
    if not index.patients_known:
        raise DataError(
            f"{index.root}: the patients of its cells are not known, so that none can be held back; give the official "
            "tree, or a CSV table with the columns file,label,patient"
        )
    patient = np.array([cell.patient for cell in index])
    known = np.isin(patient, sorted(start.patients))
    unseen = np.flatnonzero(~known)
    official = labels.official == 1
    enough = len(set(patient[unseen])) >= MINIMUM_UNITS and 0 < official[unseen].sum() < len(unseen)
    if start.patients and enough:
        judged, rest = unseen, np.flatnonzero(known)
        note = "They are of patients that neither model has been trained on."
    else:
        parts = make_split(index, labels, validation=HELD_BACK_SHARE, seed=0).parts(index)
        judged, rest = parts["validation"], parts["train"]
        note = (
            "They were not rehearsed, but the model that was adapted had been trained on their patients: its own "
            "figures are too good here, and the difference shows no more than what was lost."
        )
    rng = np.random.default_rng(0)
    rest, judged = (np.sort(rng.permutation(rows)[:limit]) for rows, limit in ((rest, REHEARSED), (judged, JUDGED)))
    return Rehearsal(
        index.take(rest),
        labels.take(rest),
        np.asarray(pixels[rest]),
        index.take(judged),
        labels.take(judged),
        np.asarray(pixels[judged]),
        bool(start.patients and enough),
        note,
    )


def adapt(
    laboratory: Laboratory,
    start: Start,
    rehearsal: Rehearsal | None,
    recipe: Recipe,
    folder: Path,
    *,
    false_alarms: float,
    curve: bool = True,
    resume: bool = False,
    command: str = "",
    threads: int | None = None,
    report: Callable[[str], None] = print,
) -> Adaptation:
    """Cross-validate the adaptation, calibrate it, and train the model that is kept.

    Parameters
    ----------
    laboratory, start, rehearsal, recipe
        What is adapted to what, and how; without a rehearsal the model may forget.
    folder : Path
        The run's folder, written when all is done; what is complete stands in `FOLDER.adapting` meanwhile.
    false_alarms : float
        The threshold calls at most this part of the laboratory's uninfected cells infected.
    curve : bool
        Whether the learning curve is measured.
    resume : bool
        Go on with what `FOLDER.adapting` holds.
    command : str
        Stands in the record.
    threads : int, optional
        Of PyTorch.
    report : callable
        Is told, in a sentence, what is done.

    Raises
    ------
    DataError
        If there are too few cells.
    RunError
        If the folder is taken, or another adaptation was begun there.
    """
    check_enough(laboratory)
    work = _open_work(folder, laboratory, rehearsal, recipe, start, resume=resume)
    trainer = _Trainer(laboratory, rehearsal, recipe, start, work, command, threads, report)
    everything = np.arange(len(laboratory.index))
    positive, fold = laboratory.positive, folds_of(laboratory)
    before = predict_logits(start.network, laboratory.pixels, everything)
    after = np.empty(len(everything), np.float32)
    for k in range(int(fold.max()) + 1):
        held = np.flatnonzero(fold == k)
        report(f"Fold {k + 1} of {int(fold.max()) + 1}: {len(held)} of {len(fold)} cells held back.")
        after[held] = trainer.held_back(f"fold-{k}", np.flatnonzero(fold != k), held)
    measured = _measure_curve(trainer, positive, laboratory.units, fold, report) if curve else {}
    if curve:
        measured[int(positive.sum() * (1 - 1 / (fold.max() + 1)))] = after
    calibration = _calibrate(after, positive, everything, false_alarms)
    called_after = np.zeros(len(fold), np.bool_)
    for k in range(int(fold.max()) + 1):
        held = np.flatnonzero(fold == k)
        others = _calibrate(after, positive, np.flatnonzero(fold != k), false_alarms, least=0)
        called_after[held] = others.called(after[held])
    report("The model that is kept: all of the laboratory's cells.")
    run = trainer.keep(everything, calibration)
    judged_before = judged_after = None
    if rehearsal is not None:
        rows = np.arange(len(rehearsal.judged_index))
        judged_before = predict_logits(start.network, rehearsal.judged_pixels, rows)
        judged_after = predict_logits(run.load_network(), rehearsal.judged_pixels, rows)
    return Adaptation(
        run,
        calibration,
        fold,
        before,
        after,
        start.calibration.called(before),
        called_after,
        dict(sorted(measured.items())),
        judged_before,
        judged_after,
    )


def folds_of(laboratory: Laboratory) -> NDArray[np.int64]:
    """Deal the laboratory's units out to folds, evenly in parasites."""
    index = laboratory.index
    labels = _plain_labels(index)
    by: dict[GroupKind, SplitBy] = {"patients": "patient", "fields": "field", "cells": "image"}
    with warnings.catch_warnings():
        if laboratory.kind == "cells":  # the laboratory's notes say so already
            warnings.simplefilter("ignore", GiemsaWarning)
        split = make_split(index, labels, by=by[laboratory.kind], folds=FOLDS, seed=0)
    fold = np.empty(len(index), np.int64)
    for name, rows in split.parts(index).items():
        fold[rows] = int(name)
    return fold


def finish(folder: Path) -> None:
    """Put the finished run in its place, and clear away what was only needed on the way."""
    work = working_folder(folder)
    (work / "run").rename(folder)
    shutil.rmtree(work, ignore_errors=True)


def working_folder(folder: Path) -> Path:
    """Name the folder in which an adaptation stands until it is complete."""
    return folder.with_name(f"{folder.name}.adapting")


@dataclass(frozen=True, slots=True, eq=False)
class _Trainer:
    """Trains on parts of the laboratory's cells, and remembers what is done."""

    laboratory: Laboratory
    rehearsal: Rehearsal | None
    recipe: Recipe
    start: Start
    work: Path
    command: str
    threads: int | None
    report: Callable[[str], None]

    def held_back(self, name: str, rows: NDArray[np.intp], held: NDArray[np.intp]) -> NDArray[np.float32]:
        """Train on some cells and score others."""
        path = self.work / f"{name}.npy"
        if path.is_file():
            self.report(f"{name} is complete already.")
            return np.asarray(np.load(path), np.float32)
        run = self._train(self.work / name, rows)
        logit = predict_logits(run.load_network(), self.laboratory.pixels, held)
        with replace_file(path) as partial, partial.open("wb") as file:
            np.save(file, logit)
        shutil.rmtree(self.work / name)
        return logit

    def keep(self, rows: NDArray[np.intp], calibration: Calibration) -> Run:
        """Train the model that is kept, with its calibration in its record."""
        from giemsa.lab.training.runs import open_run, read_record, write_record

        place = self.work / "run"
        if not (place / "run.json").is_file() or read_record(place).status != "complete":
            self._train(place, rows)
        record = read_record(place)
        known = record.patients_known and bool(self.start.patients)
        record = replace(
            record,
            calibration=asdict(calibration),
            patients=sorted({*record.patients, *self.start.patients}),  # what the start knew, the adapted model knows
            patients_known=known,
            weights={"source": self.start.name},
        )
        write_record(place, record)
        return open_run(place)

    def _train(self, place: Path, rows: NDArray[np.intp]) -> Run:
        shutil.rmtree(place, ignore_errors=True)  # of an interruption: an adaptation's trainings are begun anew
        data = _mix(self.laboratory, self.rehearsal, rows, self.recipe.training.seed)
        run = train(self.recipe, data, place, command=self.command, threads=self.threads, initial=self.start.network)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return run


def _mix(laboratory: Laboratory, rehearsal: Rehearsal | None, rows: NDArray[np.intp], seed: int) -> TrainingData:
    """Put an epoch together: the laboratory's parasites often, its other cells about once, and as many rehearsed."""
    rng = np.random.default_rng(seed)
    positive = laboratory.positive[rows]
    fewest, most = UNINFECTED_AN_EPOCH
    wanted = min(most, max(fewest, int((~positive).sum())))
    chosen = np.concatenate(
        [
            _repeat(rows[~positive], wanted, rng),
            _repeat(rows[positive], round(wanted * POSITIVE_SHARE / (1 - POSITIVE_SHARE)), rng),
        ]
    )
    index, labels, pixels = laboratory.index, _plain_labels(laboratory.index), laboratory.pixels
    if rehearsal is not None:
        cells = (*index.cells, *rehearsal.index.cells)
        index = CellIndex(index.root, cells, "several")
        labels = LabelSets(
            np.concatenate([labels.official, rehearsal.labels.official]),
            np.concatenate([labels.reviewed, rehearsal.labels.reviewed]),
            np.concatenate([labels.donor, rehearsal.labels.donor]),
        )
        rehearsed = np.arange(len(laboratory.index), len(cells))
        pixels = np.concatenate([pixels, rehearsal.pixels])
        chosen = np.concatenate([chosen, _repeat(rehearsed, len(chosen), rng)])
    return TrainingData(index, labels, pixels, chosen.astype(np.intp), np.empty(0, np.intp))


def _repeat(rows: NDArray[np.intp], number: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Take so many rows, each as often as the others, give or take one."""
    whole, rest = divmod(number, len(rows))
    return np.concatenate([np.tile(rows, whole), rng.permutation(rows)[:rest]])


def _measure_curve(
    trainer: _Trainer,
    positive: NDArray[np.bool_],
    units: NDArray[np.str_],
    fold: NDArray[np.int64],
    report: Callable[[str], None],
) -> dict[int, NDArray[np.float32]]:
    """Train each fold on few parasites only, with the uninfected cells of the fields that these were found in."""
    folds = range(int(fold.max()) + 1)
    most = min(int(positive[fold != k].sum()) for k in folds)
    measured: dict[int, NDArray[np.float32]] = {}
    for number in (number for number in CURVE if number < 0.9 * most):
        report(f"Learning curve: {number} parasites.")
        logit = np.empty(len(fold), np.float32)
        for k in folds:
            rows = _with_so_many(number, np.flatnonzero(fold != k), positive, units, k)
            logit[fold == k] = trainer.held_back(f"curve-{number}-{k}", rows, np.flatnonzero(fold == k))
        measured[number] = logit
    return measured


def _with_so_many(
    number: int, rows: NDArray[np.intp], positive: NDArray[np.bool_], units: NDArray[np.str_], seed: int
) -> NDArray[np.intp]:
    """Review one unit after another until so many parasites are found."""
    taken: list[int] = []
    found = 0
    for unit in np.random.default_rng(seed).permutation(np.unique(units[rows])):
        here = rows[units[rows] == unit]
        parasites = here[positive[here]][: number - found]
        taken += [*here[~positive[here]], *parasites]
        found += len(parasites)
        if found == number:
            break
    return np.sort(np.array(taken, np.intp))


def _calibrate(
    logit: NDArray[np.float32],
    positive: NDArray[np.bool_],
    rows: NDArray[np.intp],
    false_alarms: float,
    *,
    least: int = MINIMUM_CELLS,
) -> Calibration:
    """Fit temperature and bias to the laboratory's held-back logits, and cut where false alarms are as rare as wanted.

    The most accurate cut would be of no use here: where one cell in fifty is infected it misses every third of them.
    """
    fitted = fit_calibration(
        logit[rows],
        positive[rows],
        np.ones(len(rows)),
        donor=np.zeros(len(rows), np.bool_),
        donor_specificity=0,
        source=f"held-back logits of {len(rows)} of the laboratory's cells, {false_alarms:g} of the uninfected ones "
        "called parasitized",
        least=least,
    )
    cut = cut_at(logit[rows], positive[rows], false_alarms)
    return replace(fitted, threshold=float(fitted.probability(np.array(cut))))


def cut_at(logit: NDArray[np.floating], positive: NDArray[np.bool_], false_alarms: float) -> float:
    """Find the lowest logit at which at most this share of the uninfected cells is called parasitized.

    It lies in the middle between the highest score that must stay below it and the next one above.
    """
    healthy = np.sort(logit[~positive].astype(np.float64))
    below = healthy[len(healthy) - 1 - int(np.floor(false_alarms * len(healthy) + 1e-9))]
    above = logit[logit > below].astype(np.float64)
    return float((below + above.min()) / 2 if len(above) else below + 1)


def _plain_labels(index: CellIndex) -> LabelSets:
    """Take a laboratory's labels as they are: no second reading, and no donors."""
    official = np.array([cell.label == "parasitized" for cell in index], np.uint8)
    return LabelSets(official, np.full(len(index), -1, np.int8), np.zeros(len(index), np.bool_))


def _open_work(
    folder: Path,
    laboratory: Laboratory,
    rehearsal: Rehearsal | None,
    recipe: Recipe,
    start: Start,
    *,
    resume: bool,
) -> Path:
    """Make the working folder, or go on with one that was begun in the same way."""
    if folder.exists():
        raise RunError(f"{folder} exists: give another --output")
    work = working_folder(folder)
    weights = sha256(b"".join(tensor.numpy().tobytes() for tensor in start.network.state_dict().values())).hexdigest()
    begun = {
        "laboratory": laboratory.index.digest,
        "data": rehearsal.index.digest if rehearsal is not None else "",
        "recipe": recipe.digest,
        "weights": weights,
    }
    if not work.exists():
        work.mkdir(parents=True)
        write_file(work / "begun.json", json.dumps(begun) + "\n")
        return work
    if not resume:
        raise RunError(f"{work} holds an adaptation that was begun: go on with --resume, or remove it")
    try:
        previous = json.loads((work / "begun.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{work} holds no adaptation that can be resumed ({error}): remove it") from None
    for what, digest in begun.items():
        if previous.get(what) != digest:
            raise RunError(f"{work} was begun with other {what}: remove it, or give another --output")
    return work


def open_start(name: str) -> Start:
    """Open the model that is adapted: `default`, which is the embedded one, or a run's folder.

    Raises
    ------
    RunError
        If there are no fp32 weights.
    """
    from giemsa.lab.networks.building import build_network
    from giemsa.lab.recipes import load_recipe
    from giemsa.lab.training.runs import load_weights, open_run
    from giemsa.model import EMBEDDED_PATH, open_model

    if name == "default":
        weights = EMBEDDED_PATH.with_name("weights.safetensors")
        if not weights.is_file():
            raise RunError(f"this installation lacks the embedded model's fp32 weights ({weights}): give --from RUN")
        recipe = load_recipe(EMBEDDED_PATH.with_name("recipe.toml"))
        network = build_network(recipe.network, recipe.input_size_px)
        load_weights(network, weights)
        card = open_model().card
        calibration = Calibration(card.temperature, card.bias, card.threshold, "the embedded model's")
        return Start("default", recipe, network.eval(), calibration, frozenset(card.training_patients))
    run = open_run(Path(name))
    if run.record.calibration:
        calibration = Calibration(**run.record.calibration)
    elif (run.folder / "model.onnx").is_file():
        card = open_model(run.folder).card
        calibration = Calibration(card.temperature, card.bias, card.threshold, "the run's model.onnx")
    else:
        calibration = Calibration()
    return Start(run.folder.resolve().name, run.recipe, run.load_network(), calibration, frozenset(run.record.patients))
