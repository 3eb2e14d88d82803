"""`giemsa compare`: runs side by side, on the same cells and patients."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from giemsa.cli.evaluate import add_choice_of_cells

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from giemsa.lab.comparing.comparison import Comparison
    from giemsa.lab.comparing.entries import Contender
    from giemsa.lab.comparing.pages import Sheet

HELP = "compare runs on the same cells and patients"
EPILOG = """examples:
  giemsa compare runs/first runs/second --output comparison
  giemsa compare runs/first default --data cells --split split.json --output comparison

A RUN is a run folder or a cross-validation with an evaluation in it, or an evaluation's folder. With --data, runs,
ONNX files and `default` (the embedded model) are evaluated here, all on the same cells.
"""

_WIDTH = 150  # columns of the tables where there is no terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="what to compare; the first one is the yardstick")
    parser.add_argument("--data", type=Path, metavar="DIR", help="labelled cells to evaluate all of them on, here")
    add_choice_of_cells(parser)
    parser.add_argument("--no-speed", action="store_true", help="do not measure cells per second")
    parser.add_argument("--output", type=Path, metavar="OUT", help="folder for HTML, Markdown, JSON and figures")
    parser.add_argument("--force", action="store_true", help="replace a comparison that is there already")
    parser.add_argument("--threads", type=int, metavar="N", help="worker threads (default: one for each core)")
    parser.add_argument("--json", action="store_true", help="print compare.json instead of tables")


def run(args: argparse.Namespace) -> int:
    """Compare."""
    import json
    from datetime import datetime, timezone

    from giemsa.errors import UsageError
    from giemsa.lab.comparing.comparison import compare, costs_of, describe
    from giemsa.lab.comparing.entries import describe_machine, measure_speed, open_contenders
    from giemsa.lab.comparing.pages import FILES, sheets_of, write_pages
    from giemsa.lab.evaluation.reports import versions
    from giemsa.lab.folders import check_folder, replace_folder
    from giemsa.verdicts import DISCLAIMER

    for name in ("split", "part", "fold", "reviewed", "donors", "positive_class"):
        if args.data is None and getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} needs --data DIR: evaluations have their labels already")
    if args.output is not None:
        check_folder(args.output, FILES, "a comparison", force=args.force)
    contenders = open_contenders(args.runs, evaluated=args.data is None)
    if args.data is not None:
        contenders = _evaluate(args, contenders)
    comparison = compare(contenders)
    speeds = [
        None if args.no_speed or contender.model is None else measure_speed(contender.model, threads=args.threads)
        for contender in contenders
    ]
    costs = [costs_of(contender, speed) for contender, speed in zip(contenders, speeds, strict=True)]
    content: dict[str, Any] = {
        **describe(comparison, costs),
        "disclaimer": DISCLAIMER,
        "machine": describe_machine(),
        "command": args.command_line,
        "versions": versions(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    sheets = sheets_of(comparison, costs)
    if args.output is not None:
        with replace_folder(args.output) as folder:
            write_pages(folder, comparison, content, sheets)
    for sentence in comparison.warnings:
        print(f"giemsa: warning: {sentence}", file=sys.stderr)
    if args.json:
        print(json.dumps(content, indent=2, allow_nan=False))
    else:
        _print(comparison, sheets, args.output)
    return 0


def _evaluate(args: argparse.Namespace, contenders: Sequence[Contender]) -> list[Contender]:
    """Evaluate every contender on the same cells."""
    from dataclasses import replace

    from giemsa.classifier import Classifier
    from giemsa.data.index import read_index
    from giemsa.data.labels import read_label_sets
    from giemsa.data.splits import read_split
    from giemsa.lab.evaluation.held_out import check_held_out, choose_part
    from giemsa.lab.evaluation.reports import predict

    index = read_index(args.data, positive_class=args.positive_class)
    labels = read_label_sets(index, reviewed=args.reviewed, donors=args.donors)
    split = read_split(args.split) if args.split is not None else None
    part = choose_part(index, split, part=args.part, fold=args.fold)
    cells = [index.cells[row] for row in part.rows]
    chosen = index.take(part.rows) if len(part.rows) < len(index) else index
    classifiers = [Classifier(contender.model, threads=args.threads) for contender in contenders]
    remarks = [
        check_held_out(classifier.model, cells, allow=args.allow_training_patients) for classifier in classifiers
    ]
    found = []
    for contender, classifier, said in zip(contenders, classifiers, remarks, strict=True):
        predictions = predict(classifier, chosen, labels.take(part.rows), unreadable=part.unreadable)
        found.append(
            replace(
                contender,
                predictions=predictions,
                threshold=classifier.model.card.threshold,
                data_digest=index.digest,
                split=part.name or "all cells",
                warnings=(*contender.warnings, *(f"{contender.name}: {sentence}" for sentence in said)),
            )
        )
    return found


def _print(comparison: Comparison, sheets: Sequence[Sheet], output: Path | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from giemsa.lab.comparing.pages import FILES
    from giemsa.verdicts import DISCLAIMER

    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_WIDTH)
    for sheet in sheets:
        table = Table(box=box.SIMPLE_HEAD, title=sheet.title, title_style="bold", title_justify="left")
        table.add_column(sheet.columns[0])
        for column in sheet.columns[1:]:
            table.add_column(column, justify="right")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table, markup=False)
    lines = [
        f"In brackets: 95 % interval over {_units(comparison)}: bootstrap (BCa, {comparison.resamples:,} resamples, "
        f"seed {comparison.seed}), of a share the wider of it and the exact one; with * exact alone.",
    ]
    if output is not None:
        lines.append(f"Written to {output}: {', '.join(FILES)}.")
    print("", *lines, DISCLAIMER, sep="\n")


def _units(comparison: Comparison) -> str:
    """How many units the intervals of each set of labels rest on."""
    numbers = {entry.name: entry.units for entry in comparison.sets}
    if len(set(numbers.values())) == 1:
        return f"{comparison.sets[0].units:,} {comparison.unit}"
    return f"{comparison.unit} ({', '.join(f'{name} {number:,}' for name, number in numbers.items())})"
