"""`giemsa evaluate`: measure a model on labelled cells."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from giemsa.cli._options import add_data, add_force, add_json, add_model, add_part, add_threads

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from giemsa.classifier import Classifier
    from giemsa.cli._parser import Parser
    from giemsa.data.index import CellIndex
    from giemsa.data.labels import LabelSets
    from giemsa.data.splits import Split
    from giemsa.formats.evaluations import Predictions
    from giemsa.stats.evaluation import Report

EPILOG = """examples:
  giemsa evaluate --data cells --reviewed reviewed.csv --output evaluation
  giemsa evaluate --data cells --model runs/first --split split.json --part test --output evaluation

Exit status: 0; 1 where something was unreadable; 2 for wrong use.
For research and education: no diagnosis without a qualified professional.
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    add_data(parser, bare_word=True)
    add_model(parser)
    add_part(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="the folder of the evaluation")
    add_force(parser)
    parser.add_argument("--no-galleries", action="store_true", help="no galleries and no analysis of errors")
    add_threads(parser)
    add_json(parser, "metrics.json")


def run(args: argparse.Namespace) -> int:
    """Evaluate."""
    from giemsa.cli._console import interruptible, note, print_json, warn

    with interruptible("nothing was written; start again"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        content, report, classifier = _evaluate(args, caught)
    for sentence in content["notes"]:
        note(sentence)
    for sentence in content["warnings"]:
        warn(sentence)
    if args.json:
        print_json(content)
    else:
        from giemsa.cli._evaluation_tables import print_report

        print_report(args, report, classifier, content["split"]["part"])
    return 1 if report.official.unreadable else 0


def _evaluate(
    args: argparse.Namespace, caught: list[warnings.WarningMessage]
) -> tuple[dict[str, Any], Report, Classifier]:
    """Content of metrics.json, the report and the classifier; what can be checked is checked before the work."""
    from giemsa.lab.evaluation.reports import check_evaluation_folder, predict, write_evaluation

    check_evaluation_folder(args.output, force=args.force)
    from giemsa.classifier import Classifier
    from giemsa.cli._console import progress
    from giemsa.cli._options import chosen_split, indexed_cells
    from giemsa.errors import GiemsaWarning
    from giemsa.lab.evaluation.held_out import check_held_out, choose_part

    classifier = Classifier(args.model, threads=args.threads)
    split = chosen_split(args)
    with progress() as show:
        index, labels = indexed_cells(args, show.stage("read"))
        part = choose_part(index, split, part=args.part, fold=args.fold)
        cells = [index.cells[row] for row in part.rows]
        remarks = check_held_out(classifier.model, cells, allow=args.allow_training_patients)
        chosen = index.take(part.rows) if len(part.rows) < len(index) else index
        predictions = predict(
            classifier,
            chosen,
            labels.take(part.rows),
            unreadable=part.unreadable,
            progress=lambda count: show.advance("classify", count, len(cells)),
        )
    report = predictions.evaluate(classifier.model.card.threshold)
    said = [str(warning.message) for warning in caught if issubclass(warning.category, GiemsaWarning)]
    provenance = {
        "warnings": [*remarks, *part.notes, *(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in said)],
        "notes": [*index.notes, *labels.notes],
        **_provenance(args, classifier, index, labels, split=split, part=part.name),
    }
    look = None if args.no_galleries else _look_again(args, classifier, chosen, predictions, provenance["notes"])
    content = write_evaluation(args.output, predictions, report, provenance=provenance, force=args.force, more=look)
    return content, report, classifier


def _look_again(
    args: argparse.Namespace,
    classifier: Classifier,
    index: CellIndex,
    predictions: Predictions,
    notes: list[str],
) -> Callable[[Path], None]:
    """What draws the galleries and analyses errors; without maps, and with a note, where the model has none."""
    from giemsa.errors import ModelError
    from giemsa.lab.evaluation.error_analysis import analyse_errors
    from giemsa.lab.explaining.explainer import choose_explainer
    from giemsa.lab.explaining.galleries import Judged, draw_galleries

    explainer = None
    try:
        _, explainer = choose_explainer(args.model)
    except ModelError as error:
        notes.append(f"galleries have no maps: {error}")
    judged = Judged(index, predictions, classifier.model.card.threshold)

    def look(folder: Path) -> None:
        draw_galleries(folder, judged, classifier.model, explainer)
        analyse_errors(folder, judged, classifier.model, explainer)

    return look


def _provenance(
    args: argparse.Namespace,
    classifier: Classifier,
    index: CellIndex,
    labels: LabelSets,
    *,
    split: Split | None,
    part: str,
) -> dict[str, Any]:
    """What was measured on what, so that it can be done again."""
    model, card = classifier.model, classifier.model.card
    return {
        "model": {
            "name": card.name,
            "digest": model.digest,
            "file": str(model.path) if args.model is not None else "embedded",
            "threshold": card.threshold,
            "calibration": {"temperature": card.temperature, "bias": card.bias},
            "label_set": card.label_set,
            "training_patients": len(card.training_patients) or None,
            "digests": dict(card.digests),
            "provider": model.provider,
            "threads": classifier.threads,
        },
        "data": {"path": str(args.data), "digest": index.digest, "cells": len(index), "layout": index.layout},
        "split": {
            "file": str(args.split) if split is not None else None,
            "digest": split.digest if split is not None else None,
            "by": split.by if split is not None else None,
            "part": part or "all cells",
        },
        "label_sets": {
            "official": index.layout,
            "confirmed": _digest_of(args.reviewed) if labels.review_known else None,
            "donors": _name_donors(args, labels),
        },
        "command": args.command_line,
    }


def _digest_of(path: Path) -> dict[str, str]:
    from hashlib import sha256

    return {"file": str(path), "digest": sha256(path.read_bytes()).hexdigest()}


def _name_donors(args: argparse.Namespace, labels: LabelSets) -> dict[str, str] | str | None:
    if not labels.donors_known:
        return None
    if args.donors is not None:
        return _digest_of(args.donors)
    return "patients of the official set without a cell labelled parasitized"
