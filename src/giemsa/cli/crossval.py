"""`giemsa crossval`: patient-grouped cross-validation of a recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli.train import (
    add_data_arguments,
    add_recipe_arguments,
    add_training_arguments,
    read_recipe,
    say_interrupted,
)

if TYPE_CHECKING:
    import argparse

    from giemsa.data.splits import SplitBy

NAME = "crossval"
HELP = "cross-validate a recipe, patients grouped"
EPILOG = """examples:
  giemsa crossval default --data cells --folds 5 --output runs/cv
  giemsa crossval default --data cells --reviewed reviewed.csv --fold 0 --fold 1 --output runs/cv --resume
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_recipe_arguments(parser)
    add_data_arguments(parser)
    parser.add_argument("--split", type=Path, metavar="FILE", help="a split with folds; without it one is made")
    parser.add_argument(
        "--by",
        choices=("patient", "field", "laboratory"),
        help="what is held back as a whole (default: patient); laboratory leaves each out once",
    )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="number of folds to make (default: 5; of laboratories, as many as there are)",
    )
    parser.add_argument("--fold", type=int, action="append", metavar="K", help="train this fold only; may be repeated")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder of the folds' runs")
    add_training_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train once a fold, pool, and report."""
    try:
        return _cross_validate(args)
    except KeyboardInterrupt:
        return say_interrupted(args.output)


def _cross_validate(args: argparse.Namespace) -> int:
    recipe = read_recipe(args)
    from giemsa.data.cache import open_cache
    from giemsa.data.splits import make_split, read_split
    from giemsa.errors import DataError, UsageError
    from giemsa.lab.training.crossval import cross_validate, write_figures
    from giemsa.lab.training.datasets import read_labelled

    data = read_labelled(args.data, reviewed=args.reviewed, donors=args.donors, positive_class=args.positive_class)
    print(data.describe(), file=sys.stderr)
    if args.split is not None and args.by is not None:
        raise UsageError(f"--by {args.by} and --split FILE were both given: the split says what is held back")
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
        split = make_split(data.index, data.labels, by=by, folds=folds, seed=recipe.training.seed)
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
        report=lambda sentence: print(sentence, file=sys.stderr),
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
        print(table)
    return 0
