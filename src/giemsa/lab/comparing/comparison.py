"""Runs side by side, on equal terms: the same cells, the same resamples of the same patients.

Figures of two models on the same patients go up and down together, so that overlapping intervals say little about
their difference. The difference is therefore computed within each resample of the patients, and its interval is
that of these differences (a paired bootstrap; Efron & Tibshirani 1993, chapter 8).

Where evaluations cover different cells, all figures are of the cells that all of them cover, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import DataError
from giemsa.formats.evaluations import Predictions
from giemsa.stats.bootstrap import (
    RESAMPLES,
    Units,
    draw_figures,
    estimate_difference,
    estimate_figures,
    units_of,
)
from giemsa.stats.intervals import CONFIDENCE, METHODS, Estimate, Unit
from giemsa.stats.metrics import METRICS, BoolArray, FloatArray, IntArray, Tally
from giemsa.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from giemsa.lab.comparing.entries import Entry

DONOR_METRICS: Final = ("specificity",)
"""What is defined where every cell is uninfected."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """One entry's figures on one set of labels.

    Attributes
    ----------
    figures : mapping of str to Estimate
        By metric.
    positive : (N,) ndarray of bool
        Labels of the cells.
    p_parasitized : (N,) ndarray of float64
        What it said of them.
    """

    figures: Mapping[str, Estimate]
    positive: BoolArray
    p_parasitized: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class LabelSet:
    """All entries on one set of labels.

    Attributes
    ----------
    name : str
        `official`, `confirmed` or `donors`.
    cells, parasitized, units : int
        How many cells, how many of them labelled parasitized, and how many units are resampled.
    scores : tuple of Scores
        In the order of the entries.
    differences : mapping of (int, int) to mapping of str to Estimate
        For each pair of entries, first number smaller: the second's figure less the first's, by metric.
    """

    name: str
    cells: int
    parasitized: int
    units: int
    scores: tuple[Scores, ...]
    differences: Mapping[tuple[int, int], Mapping[str, Estimate]]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Everything that a comparison says, costs aside.

    Attributes
    ----------
    entries : tuple of Entry
        In the order in which they were given.
    sets : tuple of LabelSet
        `official`, then `confirmed` and `donors` where they are known.
    unit : str
        What is resampled: `patients`, `fields` or `cells`.
    resamples, seed : int
        Of the bootstrap.
    data_digest : str
        Of the data that all were evaluated on; empty where no evaluation names it.
    warnings : tuple of str
        In whole sentences.
    """

    entries: tuple[Entry, ...]
    sets: tuple[LabelSet, ...]
    unit: Unit
    resamples: int
    seed: int
    data_digest: str
    warnings: tuple[str, ...]


def compare(entries: Sequence[Entry], *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare evaluated entries on the cells that all of them were evaluated on.

    Parameters
    ----------
    entries : sequence of Entry
        Two or more, each with predictions.
    resamples, seed : int
        Of the bootstrap.

    Raises
    ------
    DataError
        If they were evaluated on different data, call a cell differently, or have no cell in common.
    """
    digest = _same_data(entries)
    aligned, warnings = _align(entries)
    first = aligned[0]
    everything = np.ones(len(first.images), np.bool_)
    units = units_of(len(first.images), patients=first.patients, fields=first.fields)
    official = first.official == 1
    thresholds = [entry.threshold for entry in entries]
    p = [predictions.p_parasitized for predictions in aligned]
    sets = [_label_set("official", everything, official, p, thresholds, units, resamples=resamples, seed=seed)]
    if first.reviewed is not None:
        agreed: NDArray[np.bool_] = first.reviewed == first.official
        if agreed.any():
            sets.append(_label_set("confirmed", agreed, official, p, thresholds, units, resamples=resamples, seed=seed))
    if first.donor is not None and first.donor.any():
        healthy = np.zeros(len(official), np.bool_)  # whatever their label: nobody here has malaria
        sets.append(_label_set("donors", first.donor, healthy, p, thresholds, units, resamples=resamples, seed=seed))
    if units.kind != "patients":
        warnings.append(
            f"Patients are not known of all cells: intervals resample {units.kind}, which are not independent, and are "
            "too narrow."
        )
    warnings += [sentence for entry in entries for sentence in entry.warnings]
    return Comparison(tuple(entries), tuple(sets), units.kind, resamples, seed, digest, tuple(warnings))


def describe(comparison: Comparison, costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what stands in compare.json, provenance aside.

    Parameters
    ----------
    comparison : Comparison
        The figures.
    costs : sequence of mapping
        For each entry what it costs, from `costs_of`.
    """
    names = [entry.name for entry in comparison.entries]
    return {
        "format": 1,
        "positive_class": "parasitized",
        "data_digest": comparison.data_digest or None,
        "bootstrap": {
            "unit": comparison.unit,
            "resamples": comparison.resamples,
            "seed": comparison.seed,
            "confidence": CONFIDENCE,
            "interval": f"{METHODS['bootstrap']}; differences within each resample",
        },
        "warnings": list(comparison.warnings),
        "runs": [
            {
                "name": entry.name,
                "recipe": entry.recipe or None,
                "threshold": entry.threshold,
                "split_part": entry.split or None,
                "evaluated_by": entry.command or None,
                **cost,
                **{
                    label_set.name: {name: figure.to_dict() for name, figure in label_set.scores[place].figures.items()}
                    for label_set in comparison.sets
                },
            }
            for place, (entry, cost) in enumerate(zip(comparison.entries, costs, strict=True))
        ],
        "sets": {
            label_set.name: {
                "n": label_set.cells,
                "parasitized": label_set.parasitized,
                comparison.unit: label_set.units,
            }
            for label_set in comparison.sets
        },
        "differences": [
            {
                "run": names[second],
                "less": names[first],
                "labels": label_set.name,
                **{name: figure.to_dict() for name, figure in figures.items()},
            }
            for label_set in comparison.sets
            for (first, second), figures in label_set.differences.items()
        ],
    }


def costs_of(entry: Entry, speed: Any | None) -> dict[str, Any]:  # noqa: ANN401  a Speed
    """Return what an entry costs: parameters, bytes, cells per second, training time; None where not known."""
    return {
        "model_digest": entry.model_digest or None,
        "parameters": entry.parameters,
        "model_bytes": entry.model_bytes,
        "cells_per_second": None
        if speed is None
        else {
            "value": round(speed.cells_per_second, 1),
            "low": round(speed.lowest, 1),
            "high": round(speed.highest, 1),
            "interval": f"lowest and highest of {speed.rounds} rounds of {speed.cells} cells",
            "threads": speed.threads,
            "what": "resizing and the model; decoding left out",
        },
        "training_seconds": entry.training_seconds,
        "training_device": entry.training_device or None,
    }


def _same_data(entries: Sequence[Entry]) -> str:
    """Refuse evaluations of different data: files of the same name would be taken for the same cell."""
    known = [entry for entry in entries if entry.data_digest]
    for entry in known[1:]:
        if entry.data_digest != known[0].data_digest:
            raise DataError(
                f"{known[0].name} and {entry.name} were evaluated on different data (their digests begin with "
                f"{known[0].data_digest[:12]} and {entry.data_digest[:12]}): evaluate both on the same, or give "
                "--data DIR"
            )
    return known[0].data_digest if known else ""


def _align(entries: Sequence[Entry]) -> tuple[list[Predictions], list[str]]:
    """Put the cells that all have a prediction for into one order."""
    scored: list[dict[str, int]] = []
    readable: list[Predictions] = []
    for entry in entries:
        if entry.predictions is None:
            raise DataError(f"{entry.name} has not been evaluated")
        given = entry.predictions
        readable.append(given)
        rows = {
            image: row
            for row, image in enumerate(given.images)
            if not np.isnan(given.p_parasitized[row]) and given.official[row] >= 0
        }
        scored.append(rows)
    common = set(scored[0]).intersection(*scored[1:])
    if not common:
        raise DataError(
            f"{' and '.join(entry.name for entry in entries)} have no cell in common that all of them were "
            "evaluated on: evaluate all on the same part of the data, or give --data DIR"
        )
    images = [image for image in scored[0] if image in common]
    warnings = [
        f"{entry.name} was evaluated on {counted(len(rows), 'cell')}; all figures are of the "
        f"{counted(len(images), 'cell')} that every run was evaluated on."
        for entry, rows in zip(entries, scored, strict=True)
        if len(rows) > len(images)
    ]
    aligned: list[Predictions] = []
    for entry, given, rows in zip(entries, readable, scored, strict=True):
        order: IntArray = np.array([rows[image] for image in images], np.intp)
        chosen = Predictions(
            images=images,
            p_parasitized=given.p_parasitized[order],
            logit=given.logit[order],
            official=np.asarray(given.official)[order],
            reviewed=None if given.reviewed is None else np.asarray(given.reviewed)[order],
            donor=None if given.donor is None else np.asarray(given.donor)[order],
            patients=None if given.patients is None else [given.patients[row] for row in order],
            fields=None if given.fields is None else [given.fields[row] for row in order],
        )
        if aligned and (chosen.official != aligned[0].official).any():
            image = images[int(np.flatnonzero(chosen.official != aligned[0].official)[0])]
            raise DataError(
                f"{entries[0].name} and {entry.name} were evaluated with different labels, such as that of "
                f"{image}: evaluate both with the same"
            )
        aligned.append(chosen)
    return _same_knowledge(aligned), warnings


def _same_knowledge(aligned: list[Predictions]) -> list[Predictions]:
    """Let the first know what any of them knows of second readings, donors and patients."""
    first = aligned[0]
    for other in aligned[1:]:
        first = replace(
            first,
            reviewed=first.reviewed if first.reviewed is not None else other.reviewed,
            donor=first.donor if first.donor is not None else other.donor,
        )
    return [first, *aligned[1:]]


def _label_set(
    name: str,
    chosen: BoolArray,
    label: BoolArray,
    p: Sequence[FloatArray],
    thresholds: Sequence[float],
    units: Units,
    *,
    resamples: int,
    seed: int,
) -> LabelSet:
    part = units.select(chosen)
    positive = label[chosen]
    wanted = DONOR_METRICS if name == "donors" else METRICS
    tallies = [
        Tally(positive, said[chosen], threshold, part.of_cell, part.count)
        for said, threshold in zip(p, thresholds, strict=True)
    ]
    # The same seed for each: the same patients are drawn.
    drawn = [draw_figures(tally, part.kind, np.random.default_rng(seed), resamples=resamples) for tally in tallies]
    scores = []
    for tally, draws, said in zip(tallies, drawn, p, strict=True):
        figures = estimate_figures(tally, draws)
        scores.append(Scores({metric: figures[metric] for metric in wanted}, positive, said[chosen]))
    differences: dict[tuple[int, int], dict[str, Estimate]] = {}
    for second in range(len(tallies)):
        for first in range(second):
            differences[first, second] = {
                metric: estimate_difference(drawn[first][metric], drawn[second][metric]) for metric in wanted
            }
    return LabelSet(
        name, int(chosen.sum()), int(positive.sum()), part.count, tuple(scores), dict(sorted(differences.items()))
    )
