"""`giemsa train`: train a recipe on labelled cells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli import INTERRUPTED

if TYPE_CHECKING:
    import argparse

    from giemsa.lab.recipes import Recipe
    from giemsa.lab.training.runs import Run

NAME = "train"
HELP = "train a recipe on labelled cells"
EPILOG = """examples:
  giemsa train default --data cells --split split.json --output runs/first
  giemsa train default --data cells --reviewed reviewed.csv --set training.epochs=3 --output runs/quick
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_recipe_arguments(parser)
    add_data_arguments(parser)
    parser.add_argument(
        "--split",
        type=Path,
        metavar="FILE",
        help="split to train by (giemsa data split); without it all cells are trained on",
    )
    parser.add_argument("--fold", type=int, metavar="K", help="the fold to hold back, for a split with folds")
    parser.add_argument("--limit", type=int, metavar="N", help="train on N cells only, for a quick look")
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="the run's folder")
    add_training_arguments(parser)


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add RECIPE and what changes it, the same in every command that trains."""
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe (giemsa recipes), or a TOML file")
    add_recipe_changes(parser)


def add_recipe_changes(parser: argparse.ArgumentParser) -> None:
    """Add --set and --weights, the same in every command that takes a recipe."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a backbone's first weights: a .safetensors file, or none (default: from the hub)",
    )


def add_data_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add --data and the label files, the same in every command that trains."""
    parser.add_argument(
        "--data", type=Path, required=required, metavar="DIR", help="labelled cells: folders by class, or a CSV"
    )
    parser.add_argument("--reviewed", type=Path, metavar="CSV", help="a second reading: file,official,reviewed")
    parser.add_argument("--donors", type=Path, metavar="FILE", help="patients without malaria, a name a line")
    parser.add_argument("--positive-class", metavar="NAME", help="the folder that means parasitized")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="where decoded cells are kept (default: the user's cache)"
    )


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --resume and --threads, the same in every command that trains."""
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all)")


def read_recipe(args: argparse.Namespace) -> Recipe:
    """Read the recipe that the arguments name, with what `--set` changes."""
    from giemsa.lab.recipes import change_weights, load_recipe, parse_overrides

    overrides = parse_overrides(args.set)
    if args.weights is not None:
        overrides |= change_weights(load_recipe(args.recipe), args.weights)
    return load_recipe(args.recipe, overrides)


def say_interrupted(folder: Path) -> int:
    """Say what an interruption has left, and how to go on; the exit status."""
    print(
        f"giemsa: interrupted: the epochs before this one are kept in {folder}; go on with the same command and "
        "--resume",
        file=sys.stderr,
    )
    return INTERRUPTED


def run(args: argparse.Namespace) -> int:
    """Train."""
    try:
        return _train(args)
    except KeyboardInterrupt:
        return say_interrupted(args.output)


def _train(args: argparse.Namespace) -> int:
    recipe = read_recipe(args)
    from giemsa.lab.export.onnx import export_run
    from giemsa.lab.training.calibration import Calibration
    from giemsa.lab.training.datasets import read_labelled, training_data
    from giemsa.lab.training.loop import train

    data = read_labelled(args.data, reviewed=args.reviewed, donors=args.donors, positive_class=args.positive_class)
    print(data.describe(), file=sys.stderr)
    chosen = training_data(recipe, data, split=args.split, fold=args.fold, cache=args.cache, limit=args.limit)
    if args.split is None:
        print(chosen.say_without_split(), file=sys.stderr)
    done = train(
        recipe,
        chosen,
        args.output,
        resume=args.resume,
        command=args.command_line,
        threads=args.threads,
        progress=sys.stderr.isatty(),
    )
    agreement = export_run(
        done,
        args.output / "model.onnx",
        calibration=Calibration(**done.record.calibration),
        comparison_cells=chosen.pixels[chosen.train[:512]],
    )
    print(f"Trained in {done.record.timings['seconds']:.0f} s on {done.record.device}: {args.output}")
    print(_say_validation(done))
    print(f"{args.output / 'model.onnx'}: {agreement}")
    return 0


def _say_validation(run: Run) -> str:
    """Say what the epoch whose weights are kept reached on the validation cells."""
    from giemsa.lab.training.curves import read_run_metrics

    series = read_run_metrics(run.folder)
    losses = series.get("validation_loss")
    if not losses:
        return "Nothing was held back to validate on."
    kept = min(losses, key=lambda pair: pair[1])[0] if run.recipe.training.patience else losses[-1][0]
    accuracy = dict(series["validation_accuracy"])[kept]
    return f"Validation accuracy after epoch {kept}: {accuracy:.2%}, by the labels that the recipe trains on."
