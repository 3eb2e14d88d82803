"""`giemsa compare`: runs side by side, on the same cells and patients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from giemsa.cli._options import add_data, add_force, add_json, add_part, add_threads

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from giemsa.lab.comparing.comparison import Comparison
    from giemsa.lab.comparing.entries import Entry
    from giemsa.lab.comparing.pages import Sheet

EPILOG = """examples:
  giemsa compare runs/first runs/second --output comparison
  giemsa compare runs/first default --data cells --split split.json --output comparison

A RUN is a run folder or a cross-validation with an evaluation in it, or an evaluation's folder. With --data, runs,
ONNX files and `default` (the embedded model) are evaluated here, all on the same cells.
"""

_WIDTH: Final = 150  # columns of the tables where there is no terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="what to compare; the first is the reference")
    add_data(parser, required=False)
    add_part(parser)
    parser.add_argument("--no-speed", action="store_true", help="do not measure cells per second")
    parser.add_argument("--output", type=Path, metavar="OUT", help="folder for HTML, Markdown, JSON and figures")
    add_force(parser)
    add_threads(parser)
    add_json(parser, "compare.json")


def run(args: argparse.Namespace) -> int:
    """Compare."""
    from datetime import datetime, timezone

    from giemsa.cli._console import print_json, warn
    from giemsa.errors import UsageError
    from giemsa.lab.comparing.comparison import compare, costs_of, describe
    from giemsa.lab.comparing.entries import describe_machine, measure_speed, open_entries
    from giemsa.lab.comparing.pages import FILES, sheets_of, write_pages
    from giemsa.lab.evaluation.reports import versions
    from giemsa.lab.folders import check_folder, replace_folder
    from giemsa.verdicts import DISCLAIMER

    for name in ("split", "part", "fold", "reviewed", "donors", "positive_class"):
        if args.data is None and getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} needs --data DIR: evaluations have their labels already")
    if args.output is not None:
        check_folder(args.output, FILES, "a comparison", force=args.force)
    entries = open_entries(args.runs, evaluated=args.data is None)
    if args.data is not None:
        entries = _evaluate(args, entries)
    comparison = compare(entries)
    speeds = [
        None if args.no_speed or entry.model is None else measure_speed(entry.model, threads=args.threads)
        for entry in entries
    ]
    costs = [costs_of(entry, speed) for entry, speed in zip(entries, speeds, strict=True)]
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
        warn(sentence)
    if args.json:
        print_json(content)
    else:
        _print(comparison, sheets, args.output)
    return 0


def _evaluate(args: argparse.Namespace, entries: Sequence[Entry]) -> list[Entry]:
    """Evaluate every entry on the same cells."""
    from dataclasses import replace

    from giemsa.classifier import Classifier
    from giemsa.cli._options import chosen_split, indexed_cells
    from giemsa.lab.evaluation.held_out import check_held_out, choose_part
    from giemsa.lab.evaluation.reports import predict

    index, labels = indexed_cells(args)
    part = choose_part(index, chosen_split(args), part=args.part, fold=args.fold)
    cells = [index.cells[row] for row in part.rows]
    chosen = index.take(part.rows) if len(part.rows) < len(index) else index
    classifiers = [Classifier(entry.model, threads=args.threads) for entry in entries]
    remarks = [
        check_held_out(classifier.model, cells, allow=args.allow_training_patients) for classifier in classifiers
    ]
    found = []
    for entry, classifier, said in zip(entries, classifiers, remarks, strict=True):
        predictions = predict(classifier, chosen, labels.take(part.rows), unreadable=part.unreadable)
        found.append(
            replace(
                entry,
                predictions=predictions,
                threshold=classifier.model.card.threshold,
                data_digest=index.digest,
                split=part.name or "all cells",
                warnings=(*entry.warnings, *(f"{entry.name}: {sentence}" for sentence in said)),
            )
        )
    return found


def _print(comparison: Comparison, sheets: Sequence[Sheet], output: Path | None) -> None:
    from rich import box
    from rich.table import Table

    from giemsa.cli._console import table_console
    from giemsa.lab.comparing.pages import FILES
    from giemsa.verdicts import DISCLAIMER

    console = table_console(width=_WIDTH)
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
    numbers = {label_set.name: label_set.units for label_set in comparison.sets}
    if len(set(numbers.values())) == 1:
        return f"{comparison.sets[0].units:,} {comparison.unit}"
    return f"{comparison.unit} ({', '.join(f'{name} {number:,}' for name, number in numbers.items())})"
