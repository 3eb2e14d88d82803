"""`giemsa evaluate`: measure a model on labelled cells."""

from __future__ import annotations

import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from giemsa.cli import INTERRUPTED

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from rich.table import Table

    from giemsa.classifier import Classifier
    from giemsa.data.index import CellIndex
    from giemsa.data.labels import LabelSets
    from giemsa.data.splits import Split
    from giemsa.formats.evaluations import Predictions
    from giemsa.stats.evaluation import Report
    from giemsa.stats.intervals import Estimate

HELP = "measure a model on labelled cells"
EPILOG = """examples:
  giemsa evaluate cells --reviewed reviewed.csv --output evaluation
  giemsa evaluate cells --model runs/first --split split.json --part test --output evaluation

Exit status: 0; 1 where something was unreadable; 2 for wrong use.
For research and education: no diagnosis without a qualified professional.
"""

_OF_WHAT = {
    "accuracy": ("accuracy", "of all cells"),
    "balanced_accuracy": ("balanced accuracy", "mean of the next two"),
    "sensitivity": ("sensitivity", "of cells labelled parasitized"),
    "specificity": ("specificity", "of cells labelled uninfected"),
    "precision": ("precision", "of cells called parasitized"),
    "f1": ("F1", "1 is perfect"),
    "mcc": ("MCC", "1 is perfect, 0 chance"),
    "roc_auc": ("ROC AUC", "1 is perfect, 0.5 chance"),
    "pr_auc": ("PR AUC", "1 is perfect"),
    "brier": ("Brier score", "0 is perfect"),
    "ece": ("ECE", "0 is perfect"),
}
_SHARES = {"accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision"}
_WIDTH = 118  # columns of the tables where there is no terminal


def add_choice_of_cells(parser: argparse.ArgumentParser) -> None:
    """Add what says which labelled cells a model is judged on."""
    parser.add_argument("--split", type=Path, metavar="FILE", help="a split (giemsa data split), to evaluate a part of")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--part", metavar="NAME", help="train, validation or test (default: test, else validation)")
    part.add_argument("--fold", type=int, metavar="K", help="the fold that was held back, for a split with folds")
    parser.add_argument("--reviewed", type=Path, metavar="CSV", help="a second reading: file,official,reviewed")
    parser.add_argument("--donors", type=Path, metavar="FILE", help="patients without malaria, a name a line")
    parser.add_argument("--positive-class", metavar="NAME", help="the folder that means parasitized")
    parser.add_argument(
        "--allow-training-patients", action="store_true", help="also judge patients that a model was trained on"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("data", type=Path, metavar="DIR", help="labelled cells: folders by class, or a CSV")
    parser.add_argument("--model", metavar="MODEL", help="an ONNX file or a run folder (default: the embedded model)")
    add_choice_of_cells(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="the folder of the evaluation")
    parser.add_argument("--force", action="store_true", help="replace an evaluation that is there already")
    parser.add_argument("--no-galleries", action="store_true", help="no galleries and no analysis of errors")
    parser.add_argument("--threads", type=int, metavar="N", help="worker threads (default: one for each core)")
    parser.add_argument("--json", action="store_true", help="print metrics.json instead of a table")


def run(args: argparse.Namespace) -> int:
    """Evaluate."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            content, report, classifier = _evaluate(args, caught)
    except KeyboardInterrupt:
        print("giemsa: interrupted: nothing was written; start again", file=sys.stderr)
        return INTERRUPTED
    for sentence in content["notes"]:
        print(f"giemsa: note: {sentence}", file=sys.stderr)
    for sentence in content["warnings"]:
        print(f"giemsa: warning: {sentence}", file=sys.stderr)
    if args.json:
        import json

        print(json.dumps(content, indent=2, allow_nan=False))
    else:
        _print(args, report, classifier, content["split"]["part"])
    return 1 if report.official.unreadable else 0


def _evaluate(
    args: argparse.Namespace, caught: list[warnings.WarningMessage]
) -> tuple[dict[str, Any], Report, Classifier]:
    """Check everything that can be checked before the work, do it, and write it."""
    from giemsa.lab.evaluation.reports import check_evaluation_folder, predict, write_evaluation

    check_evaluation_folder(args.output, force=args.force)
    from giemsa.classifier import Classifier
    from giemsa.data.index import read_index
    from giemsa.data.labels import read_label_sets
    from giemsa.data.splits import read_split
    from giemsa.errors import GiemsaWarning
    from giemsa.lab.evaluation.held_out import check_held_out, choose_part

    classifier = Classifier(args.model, threads=args.threads)
    split = read_split(args.split) if args.split is not None else None
    with ExitStack() as stack:
        show = _progress(stack)
        index = read_index(args.data, positive_class=args.positive_class, progress=show("read"))
        labels = read_label_sets(index, reviewed=args.reviewed, donors=args.donors)
        part = choose_part(index, split, part=args.part, fold=args.fold)
        cells = [index.cells[row] for row in part.rows]
        remarks = check_held_out(classifier.model, cells, allow=args.allow_training_patients)
        chosen = index.take(part.rows) if len(part.rows) < len(index) else index
        advance = show("classify")
        done = 0

        def classified(count: int) -> None:
            nonlocal done
            done += count
            advance(done, len(cells))

        predictions = predict(
            classifier, chosen, labels.take(part.rows), unreadable=part.unreadable, progress=classified
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
    """Prepare the galleries and the analysis of errors; without maps, and saying so, where there is no way to them."""
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
    """Say what was measured on what, so that it can be done again."""
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


def _progress(stack: ExitStack) -> Callable[[str], Callable[[int, int], None]]:
    """Show a bar on standard error for each thing that takes its time, if that is a terminal."""
    if not sys.stderr.isatty():
        return lambda _what: lambda _done, _all: None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = stack.enter_context(Progress(*columns, console=Console(stderr=True)))

    def start(what: str) -> Callable[[int, int], None]:
        task = bars.add_task(what, total=None)
        return lambda done, total: bars.update(task, completed=done, total=total)

    return start


def _print(args: argparse.Namespace, report: Report, classifier: Classifier, part: str) -> None:
    """Print the figures, what they rest on, and where they are."""
    from rich.console import Console

    from giemsa.lab.evaluation.reports import FILES, MORE_FILES
    from giemsa.stats.evaluation import RED_CELLS_PER_MICROLITRE
    from giemsa.verdicts import DISCLAIMER

    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_WIDTH)
    console.print(_class_table(report))
    if report.donors is not None:
        console.print(_donor_table(report))
    lines = [
        f"In brackets: 95 % interval over {report.official.units:,} {report.unit}{_other_units(report)}: bootstrap "
        f"(BCa, {report.resamples:,} resamples, seed {report.seed}), of a share the wider of it and the exact one; "
        "with * exact alone, since no event, or no other, was seen.",
        f"Per microlitre: at {RED_CELLS_PER_MICROLITRE:,} red cells.",
        classifier.record(command=args.command_line).sentence(),
        f"Judged: {part}{f' of {args.split}' if args.split else ''}.",
        f"Unreadable, and left out: {report.official.unreadable:,} pictures.",
        f"Written to {args.output}: {', '.join(FILES if args.no_galleries else (*FILES, *MORE_FILES))}.",
        DISCLAIMER,
    ]
    print("", *lines, sep="\n")


def _class_table(report: Report) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="Cells, by their labels", title_style="bold", title_justify="left")
    table.add_column("figure")
    sets = {"official": report.official, "confirmed": report.confirmed}
    known = {name: entry for name, entry in sets.items() if entry is not None}
    for name, entry in known.items():
        table.add_column(f"{name} labels\n{_whose(entry)}", justify="right")
    table.add_column("of what")
    for metric, (name, of_what) in _OF_WHAT.items():
        entries = [_write(entry.figures[metric], percent=metric in _SHARES) for entry in known.values()]
        table.add_row(name, *entries, of_what)
    return table


def _donor_table(report: Report) -> Table:
    from rich import box
    from rich.table import Table

    title = "Donors: people without malaria, so that every parasitized cell is a false alarm"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left")
    table.add_column("figure")
    named = {"all": report.donors, "undisputed": report.donors_undisputed}
    known = {name: entry for name, entry in named.items() if entry is not None}
    for name, entry in known.items():
        table.add_column(f"{name} cells\n{_whose(entry)}", justify="right")
    table.add_column("of what")
    entries = list(known.values())
    table.add_row(
        "specificity", *(_write(entry.specificity, percent=True) for entry in entries), "of the donors' cells"
    )
    table.add_row("false positives", *(f"{entry.false_positives:,}" for entry in entries), "cells called parasitized")
    table.add_row(
        "per million cells",
        *(_write(entry.false_positives_per_million, digits=0) for entry in entries),
        "called parasitized",
    )
    table.add_row(
        "seeming parasites",
        *(_write(entry.parasites_per_microlitre, digits=0) for entry in entries),
        "per microlitre of healthy blood",
    )
    if all(entry.patients_with_false_positives is not None for entry in entries):
        table.add_row(
            "donors with any",
            *(f"{entry.patients_with_false_positives:,} of {entry.patients:,}" for entry in entries),
            "donors with a false positive",
        )
    return table


def _other_units(report: Report) -> str:
    """How many units the other sets of labels rest on, where that differs."""
    sets = {"confirmed": report.confirmed, "donors": report.donors}
    others = [
        f"{name} {entry.units:,}"
        for name, entry in sets.items()
        if entry is not None and entry.units != report.official.units
    ]
    return f" ({', '.join(others)})" if others else ""


def _whose(entry: Any) -> str:  # noqa: ANN401 - a SetReport or a DonorReport
    whose = f" of {entry.patients:,} patients" if entry.patients else ""
    return f"{entry.cells:,} cells{whose}"


def _write(figure: Estimate, *, percent: bool = False, digits: int = 5) -> str:
    """Write a figure as `99.53 % [99.30, 99.71]`, or say why there is none."""
    if figure.value is None:
        return f"not defined: {figure.reason}"
    scale, digits = (100, 2) if percent else (1, digits)
    value = f"{scale * figure.value:,.{digits}f}{' %' if percent else ''}"
    if figure.low is None or figure.high is None:
        return f"{value} ({figure.reason})"
    exact = "*" if figure.exact else " "
    return f"{value} [{scale * figure.low:,.{digits}f}, {scale * figure.high:,.{digits}f}]{exact}"


__all__ = ["EPILOG", "HELP", "add_arguments", "run"]
