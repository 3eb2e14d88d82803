"""Patient-grouped cross-validation: every cell scored by a network that has not seen its patient.

The folds' runs stand in `fold-0`, `fold-1` ... of the output folder, each a run like any other. From the pooled
out-of-fold logits come the calibration and the threshold that the recipe's shipped model uses, since a
model that is trained on everything has nothing of its own left to be calibrated on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import DataError, RunError
from giemsa.files import replace_file, write_file
from giemsa.formats.evaluations import OUT_OF_FOLD_FILE, POOLED, Predictions, write_out_of_fold
from giemsa.lab.evaluation.reports import versions, write_evaluation
from giemsa.lab.training.calibration import Calibration, fit_calibration
from giemsa.lab.training.cells import choose_targets
from giemsa.lab.training.doubt import fit_doubt
from giemsa.lab.training.loop import TrainingData, look, train
from giemsa.stats.metrics import roc_auc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.data.index import CellIndex
    from giemsa.data.labels import LabelSets
    from giemsa.data.splits import Split, SplitBy
    from giemsa.lab.recipes import Recipe
    from giemsa.lab.training.laboratories import LaboratoryCells

DONOR_SPECIFICITY = 0.983
"""The threshold calls at least this part of the donors' cells uninfected, out of fold."""


_UNSEEN: Final[dict[SplitBy, str]] = {
    "patient": "its patient",
    "field": "its field, though perhaps its patient",
    "laboratory": "its laboratory",
    "image": "it, though perhaps its patient",
    "folder": "it, though perhaps its patient",
}


@dataclass(frozen=True)
class OutOfFold:
    """What cross-validation gives.

    Attributes
    ----------
    logit : (N,) ndarray of float32
        For each cell of the index, from the network that had not seen its patient.
    fold : (N,) ndarray of int
        Which fold each cell was held back in.
    calibration : Calibration
        Fitted on all of them.
    """

    logit: NDArray[np.float32]
    fold: NDArray[np.int64]
    calibration: Calibration


def cross_validate(
    recipe: Recipe,
    index: CellIndex,
    labels: LabelSets,
    split: Split,
    pixels: NDArray[np.uint8],
    folder: Path,
    *,
    folds: list[int] | None = None,
    resume: bool = False,
    command: str = "",
    threads: int | None = None,
    progress: bool = False,
    report: Callable[[str], None] = print,
    laboratories: LaboratoryCells | None = None,
) -> OutOfFold | None:
    """Train once a fold and pool what the held-back cells get.

    Parameters
    ----------
    recipe, index, labels, split, pixels
        As for `giemsa.lab.training.loop.train`; the split has folds.
    folder : Path
        Where the folds' runs and the pooled predictions go.
    folds : list of int, optional
        Train these only, so that several processes can share the work; the pooled result is made once
        all folds are complete.
    report : callable
        Is told, in a sentence, how each fold went.
    laboratories : LaboratoryCells, optional
        What of other laboratories may be trained on; a fold's share of their photographs is held back with it.

    Returns
    -------
    OutOfFold or None
        None while other folds are missing.
    """
    chosen = list(range(split.n_folds)) if folds is None else folds
    for k in chosen:
        train_rows, held_back = split.fold(index, k)
        seen = laboratories.take(laboratories.folds(split.n_folds) != k) if laboratories is not None else None
        data = TrainingData(index, labels, pixels, train_rows, held_back, split.digest, f"fold {k}", seen)
        run = train(
            recipe,
            data,
            folder / f"fold-{k}",
            resume=resume,
            command=command,
            threads=threads,
            progress=progress,
        )
        path = folder / f"fold-{k}" / "held_back.npz"
        if not path.exists():
            network = run.load_network()
            said = {"rows": held_back, **look(network, pixels, held_back)}
            if laboratories is not None:
                others = np.flatnonzero(laboratories.folds(split.n_folds) == k)
                said |= {f"other_{name}": part for name, part in look(network, laboratories.pixels, others).items()}
                said |= {"other_kind": laboratories.kind[others], "other_laboratory": laboratories.laboratory[others]}
                said |= {"other_photograph": laboratories.photograph[others]}
            with replace_file(path) as partial, partial.open("wb") as file:
                np.savez(file, **said)
        report(f"Fold {k}: trained on {len(train_rows)} cells, {len(held_back)} held back.")
    missing = [k for k in range(split.n_folds) if not (folder / f"fold-{k}" / "held_back.npz").exists()]
    if missing:
        report(f"Folds still to be trained: {', '.join(map(str, missing))}.")
        return None
    return pool(recipe, index, labels, split, folder)


def pool(recipe: Recipe, index: CellIndex, labels: LabelSets, split: Split, folder: Path) -> OutOfFold:
    """Put the folds' held-back predictions together, calibrate them, and write both down.

    Raises
    ------
    RunError
        If the folds do not cover every cell once.
    """
    logit = np.full(len(index), np.nan, np.float32)
    fold = np.full(len(index), -1)
    for k in range(split.n_folds):
        held = np.load(folder / f"fold-{k}" / "held_back.npz")
        if (fold[held["rows"]] >= 0).any():
            raise RunError(f"{folder} does not hold one cross-validation: fold {k} repeats cells of another")
        logit[held["rows"]], fold[held["rows"]] = held["logit"], k
    if (fold < 0).any():
        raise RunError(f"{folder} does not hold one cross-validation: {(fold < 0).sum()} cells were never held back")
    calibration = calibrate(logit, labels, recipe, grouped=grouped(split.by))
    held_back = [np.load(folder / f"fold-{k}" / "held_back.npz") for k in range(split.n_folds)]
    doubt = fit_doubt(held_back, index, labels) if split.by == "patient" else {}
    calibration = replace(calibration, doubt=doubt)
    write_file(folder / "calibration.json", json.dumps(asdict(calibration), indent=2) + "\n")
    write_out_of_fold(folder / OUT_OF_FOLD_FILE, _predictions(index, labels, logit, calibration), fold)
    return OutOfFold(logit, fold, calibration)


def calibrate(
    logit: NDArray[np.float32],
    labels: LabelSets,
    recipe: Recipe,
    rows: NDArray[np.bool_] | None = None,
    *,
    grouped: str = "patients grouped",
) -> Calibration:
    """Fit calibration and threshold on out-of-fold logits: confirmed cells, and all of the donors'.

    Parameters
    ----------
    rows : (N,) ndarray of bool, optional
        Look at these cells only.
    grouped : str
        What was held back as a whole, for the card.
    """
    chosen = np.ones(len(logit), np.bool_) if rows is None else rows
    targets = choose_targets(labels, recipe.labels)
    known = (targets.weight > 0) & chosen
    return fit_calibration(
        logit,
        targets.positive,
        known.astype(np.float64),
        donor=labels.donor & chosen,
        donor_specificity=DONOR_SPECIFICITY,
        source=f"out-of-fold logits of {int(known.sum())} cells, {grouped}",
    )


def write_figures(
    recipe: Recipe,
    index: CellIndex,
    labels: LabelSets,
    result: OutOfFold,
    folder: Path,
    *,
    by: SplitBy = "patient",
    command: str = "",
    force: bool = False,
) -> str:
    """Write the pooled evaluation and the table of folds, and return that table.

    Pooled figures are taken at the threshold that all folds together gave. Each fold's own accuracy and specificity are
    taken with the calibration of the other folds, so that no patient helped to choose the threshold that judges it.
    """
    predictions = _predictions(index, labels, result.logit, result.calibration)
    provenance = {
        "recipe": recipe.name,
        "recipe_digest": recipe.digest,
        "data_digest": index.digest,
        "calibration": asdict(result.calibration),
        "command": command,
        "versions": versions(),
        "notes": [f"Every cell was judged by a network that had not seen {_UNSEEN[by]}."],
    }
    folds = fold_figures(recipe, labels, result)
    write_evaluation(
        folder / POOLED,
        predictions,
        predictions.evaluate(result.calibration.threshold),
        provenance=provenance,
        force=force,
    )
    write_file(folder / "folds.json", json.dumps(folds, indent=2) + "\n")
    return format_folds(folds)


def fold_figures(recipe: Recipe, labels: LabelSets, result: OutOfFold) -> dict[str, Any]:
    """Compute each fold's figures, and their means, on confirmed labels where a review is known."""
    judged = labels.confirmed if labels.review_known else np.ones(len(labels), np.bool_)
    positive = labels.official == 1
    rows = []
    for k in range(int(result.fold.max()) + 1):
        others = calibrate(result.logit, labels, recipe, result.fold != k)
        called = others.called(result.logit)
        cells = judged & (result.fold == k)
        donors = labels.donor & (result.fold == k)
        area = roc_auc(positive[cells], result.logit[cells])
        rows.append(
            {
                "fold": k,
                "n": int(cells.sum()),
                "accuracy": _share((called == positive)[cells]),
                "sensitivity": _share(called[cells & positive]),
                "specificity": _share((~called)[cells & ~positive]),
                "roc_auc": None if np.isnan(area) else area,
                "donors": int(donors.sum()),
                "donor_specificity": _share((~called)[donors]),
            }
        )
    means = {
        name: float(np.mean([row[name] for row in rows]))
        for name in ("accuracy", "sensitivity", "specificity", "roc_auc", "donor_specificity")
        if all(row[name] is not None for row in rows)
    }
    return {"labels": "confirmed" if labels.review_known else "official", "folds": rows, "mean": means}


def _share(cells: NDArray[np.bool_]) -> float | None:
    return float(cells.mean()) if cells.size else None


def format_folds(folds: dict[str, Any]) -> str:
    """Format the table of folds for people."""
    columns = ("accuracy", "sensitivity", "specificity", "roc_auc", "donor_specificity")
    lines = [f"{'fold':>5} {'cells':>6} " + " ".join(f"{name.replace('_', ' '):>17}" for name in columns)]
    for row in [*folds["folds"], {"fold": "mean", "n": "", **folds["mean"]}]:
        values = " ".join(f"{'' if row.get(name) is None else format(row[name], '.5f'):>17}" for name in columns)
        lines.append(f"{row['fold']:>5} {row['n']:>6} {values}")
    lines.append(
        f"On {folds['labels']} labels; donor specificity on all of the donors' cells; thresholds from the other folds."
    )
    return "\n".join(lines)


def grouped(by: SplitBy) -> str:
    """What was held back as a whole, in words."""
    several = {"patient": "patients", "field": "fields", "laboratory": "laboratories"}
    return f"{several[by]} grouped" if by in several else f"split by {by}, so that patients leak"


def read_calibration(path: Path) -> Calibration:
    """Read what `pool` wrote.

    Raises
    ------
    DataError
        If it is not such a file.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Calibration(**content)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is not a calibration as `giemsa crossval` writes it: {error}") from None


def _predictions(
    index: CellIndex, labels: LabelSets, logit: NDArray[np.float32], calibration: Calibration
) -> Predictions:
    return Predictions(
        images=[cell.file for cell in index.cells],
        p_parasitized=calibration.probability(logit),
        logit=logit.astype(np.float64),
        official=labels.official.astype(np.int8),
        reviewed=labels.reviewed if labels.review_known else None,
        donor=labels.donor if labels.donors_known else None,
        patients=[cell.patient for cell in index.cells],
        fields=[cell.photograph for cell in index.cells],
    )
