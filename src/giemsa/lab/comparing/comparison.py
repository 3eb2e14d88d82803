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

    from giemsa.lab.comparing.entries import Contender

DONOR_METRICS: Final = ("specificity",)
"""What is defined where every cell is uninfected."""


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """One contender's figures on one set of labels.

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
    """All contenders on one set of labels.

    Attributes
    ----------
    name : str
        `official`, `confirmed` or `donors`.
    cells, parasitized, units : int
        How many cells, how many of them labelled parasitized, and how many units are resampled.
    standings : tuple of Standing
        In the order of the contenders.
    differences : mapping of (int, int) to mapping of str to Estimate
        For each pair of contenders, first number smaller: the second's figure less the first's, by metric.
    """

    name: str
    cells: int
    parasitized: int
    units: int
    standings: tuple[Standing, ...]
    differences: Mapping[tuple[int, int], Mapping[str, Estimate]]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Everything that a comparison says, costs aside.

    Attributes
    ----------
    contenders : tuple of Contender
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

    contenders: tuple[Contender, ...]
    sets: tuple[LabelSet, ...]
    unit: Unit
    resamples: int
    seed: int
    data_digest: str
    warnings: tuple[str, ...]


def compare(contenders: Sequence[Contender], *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare evaluated contenders on the cells that all of them were evaluated on.

    Parameters
    ----------
    contenders : sequence of Contender
        Two or more, each with predictions.
    resamples, seed : int
        Of the bootstrap.

    Raises
    ------
    DataError
        If they were evaluated on different data, call a cell differently, or have no cell in common.
    """
    digest = _same_data(contenders)
    aligned, warnings = _align(contenders)
    first = aligned[0]
    everything = np.ones(len(first.images), np.bool_)
    units = units_of(len(first.images), patients=first.patients, fields=first.fields)
    official = first.official == 1
    thresholds = [contender.threshold for contender in contenders]
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
    warnings += [sentence for contender in contenders for sentence in contender.warnings]
    return Comparison(tuple(contenders), tuple(sets), units.kind, resamples, seed, digest, tuple(warnings))


def describe(comparison: Comparison, costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what stands in compare.json, provenance aside.

    Parameters
    ----------
    comparison : Comparison
        The figures.
    costs : sequence of mapping
        For each contender what it costs, from `costs_of`.
    """
    names = [contender.name for contender in comparison.contenders]
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
                "name": contender.name,
                "recipe": contender.recipe or None,
                "threshold": contender.threshold,
                "split_part": contender.split or None,
                "evaluated_by": contender.command or None,
                **cost,
                **{
                    entry.name: {name: figure.to_dict() for name, figure in entry.standings[place].figures.items()}
                    for entry in comparison.sets
                },
            }
            for place, (contender, cost) in enumerate(zip(comparison.contenders, costs, strict=True))
        ],
        "sets": {
            entry.name: {"n": entry.cells, "parasitized": entry.parasitized, comparison.unit: entry.units}
            for entry in comparison.sets
        },
        "differences": [
            {
                "run": names[second],
                "less": names[first],
                "labels": entry.name,
                **{name: figure.to_dict() for name, figure in figures.items()},
            }
            for entry in comparison.sets
            for (first, second), figures in entry.differences.items()
        ],
    }


def costs_of(contender: Contender, speed: Any | None) -> dict[str, Any]:  # noqa: ANN401  a Speed
    """Return what a contender costs: parameters, bytes, cells per second, training time; None where not known."""
    return {
        "model_digest": contender.model_digest or None,
        "parameters": contender.parameters,
        "model_bytes": contender.model_bytes,
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
        "training_seconds": contender.training_seconds,
        "training_device": contender.training_device or None,
    }


def _same_data(contenders: Sequence[Contender]) -> str:
    """Refuse evaluations of different data: files of the same name would be taken for the same cell."""
    known = [contender for contender in contenders if contender.data_digest]
    for contender in known[1:]:
        if contender.data_digest != known[0].data_digest:
            raise DataError(
                f"{known[0].name} and {contender.name} were evaluated on different data (their digests begin with "
                f"{known[0].data_digest[:12]} and {contender.data_digest[:12]}): evaluate both on the same, or give "
                "--data DIR"
            )
    return known[0].data_digest if known else ""


def _align(contenders: Sequence[Contender]) -> tuple[list[Predictions], list[str]]:
    """Put the cells that all have a prediction for into one order."""
    scored: list[dict[str, int]] = []
    readable: list[Predictions] = []
    for contender in contenders:
        if contender.predictions is None:
            raise DataError(f"{contender.name} has not been evaluated")
        given = contender.predictions
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
            f"{' and '.join(contender.name for contender in contenders)} have no cell in common that all of them were "
            "evaluated on: evaluate all on the same part of the data, or give --data DIR"
        )
    images = [image for image in scored[0] if image in common]
    warnings = [
        f"{contender.name} was evaluated on {counted(len(rows), 'cell')}; all figures are of the "
        f"{counted(len(images), 'cell')} that every run was evaluated on."
        for contender, rows in zip(contenders, scored, strict=True)
        if len(rows) > len(images)
    ]
    aligned: list[Predictions] = []
    for contender, given, rows in zip(contenders, readable, scored, strict=True):
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
                f"{contenders[0].name} and {contender.name} were evaluated with different labels, such as that of "
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
    standings = []
    for tally, draws, said in zip(tallies, drawn, p, strict=True):
        figures = estimate_figures(tally, draws)
        standings.append(Standing({metric: figures[metric] for metric in wanted}, positive, said[chosen]))
    differences: dict[tuple[int, int], dict[str, Estimate]] = {}
    for second in range(len(tallies)):
        for first in range(second):
            differences[first, second] = {
                metric: estimate_difference(drawn[first][metric], drawn[second][metric]) for metric in wanted
            }
    return LabelSet(
        name, int(chosen.sum()), int(positive.sum()), part.count, tuple(standings), dict(sorted(differences.items()))
    )
