"""`giemsa crossval`: patient-grouped cross-validation of a recipe."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli._options import (
    add_data,
    add_json,
    add_laboratories,
    add_recipe,
    add_training,
    chosen_recipe,
    labelled_data,
    laboratory_cells,
)

if TYPE_CHECKING:
    import argparse

    from giemsa.data.splits import SplitBy

EPILOG = """examples:
  giemsa crossval default --data cells --folds 5 --output runs/cv
  giemsa crossval default --data cells --reviewed reviewed.csv --fold 0 --fold 1 --output runs/cv --resume
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_recipe(parser)
    add_data(parser)
    add_laboratories(parser)
    parser.add_argument("--split", type=Path, metavar="FILE", help="a split with folds (default: one is made)")
    parser.add_argument(
        "--by",
        choices=("patient", "field", "laboratory"),
        metavar="WHAT",
        help="hold back each patient, field or laboratory as a whole (default: patient)",
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="number of folds to make (default: 5, or one for each laboratory)"
    )
    parser.add_argument(
        "--fold", type=int, action="append", metavar="K", help="the fold to hold back; repeatable (default: each)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder of the folds' runs")
    add_training(parser)
    add_json(parser, "the figures of the folds as JSON")


def run(args: argparse.Namespace) -> int:
    """Train once for each fold, pool the predictions and report."""
    from giemsa.cli._console import interruptible
    from giemsa.cli.train import interrupted_training

    with interruptible(interrupted_training(args.output)):
        return _cross_validate(args)


def _cross_validate(args: argparse.Namespace) -> int:
    import json

    recipe = chosen_recipe(args)
    from giemsa.cli._console import inform, print_json
    from giemsa.data.cache import open_cache
    from giemsa.data.splits import make_split, read_split
    from giemsa.errors import DataError, GiemsaWarning, UsageError
    from giemsa.lab.training.crossval import cross_validate, write_figures

    if args.split is not None and args.by is not None:
        raise UsageError(f"--by {args.by} and --split FILE were both given: the split says what is held back")
    data = labelled_data(args)
    inform(data.describe())
    if args.split is not None:
        split = read_split(args.split)
        if not split.n_folds:
            raise DataError(
                f"{args.split} is a hold-out split: crossval needs one with folds (giemsa data split --folds)"
            )
    else:
        by: SplitBy = args.by or "patient"
        folds = args.folds
        if folds is None:
            folds = max(2, len(data.index.laboratories)) if by == "laboratory" else 5
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", GiemsaWarning)
            split = make_split(data.index, data.labels, by=by, folds=folds, seed=recipe.training.seed)
        for warning in caught:
            print(f"giemsa: warning: {warning.message}", file=sys.stderr)
    pixels = open_cache(data.index, recipe.input_size_px, directory=args.cache)
    result = cross_validate(
        recipe,
        data.index,
        data.labels,
        split,
        pixels,
        args.output,
        folds=args.fold,
        resume=args.resume,
        command=args.command_line,
        threads=args.threads,
        progress=sys.stderr.isatty(),
        report=inform,
        laboratories=laboratory_cells(args, recipe),
    )
    if result is not None:
        table = write_figures(
            recipe,
            data.index,
            data.labels,
            result,
            args.output,
            by=split.by,
            command=args.command_line,
            force=args.resume,
        )
        if args.json:
            print_json(json.loads((args.output / "folds.json").read_text(encoding="utf-8")))
        else:
            print(table)
    elif args.json:
        print_json({"folds": None})
    return 0
