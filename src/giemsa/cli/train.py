"""`giemsa train`: train a recipe on labelled cells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli._options import (
    add_choice_of_training_cells,
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

    from giemsa.lab.training.runs import Run

EPILOG = """examples:
  giemsa train default --data cells --split split.json --output runs/first
  giemsa train default --data cells --reviewed reviewed.csv --set training.epochs=3 --output runs/quick
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_recipe(parser)
    add_data(parser)
    add_laboratories(parser)
    add_choice_of_training_cells(parser, without_split="train on all cells")
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="the run's folder")
    add_training(parser)
    add_json(parser)


def interrupted_training(folder: Path) -> str:
    """What an interrupted training has left and how to go on, as `interruptible` takes it."""
    return f"the epochs before this one are kept in {folder}; continue with the same command and --resume"


def run(args: argparse.Namespace) -> int:
    """Train."""
    from giemsa.cli._console import interruptible

    with interruptible(interrupted_training(args.output)):
        return _train(args)


def _train(args: argparse.Namespace) -> int:
    recipe = chosen_recipe(args)
    from dataclasses import asdict, replace

    from giemsa.cli._console import inform, print_json
    from giemsa.lab.export.onnx import export_run
    from giemsa.lab.training.calibration import Calibration
    from giemsa.lab.training.datasets import training_data
    from giemsa.lab.training.loop import train

    data = labelled_data(args)
    inform(data.describe())
    chosen = training_data(recipe, data, split=args.split, fold=args.fold, cache=args.cache, limit=args.limit)
    chosen = replace(chosen, laboratories=laboratory_cells(args, recipe))
    if args.split is None:
        inform(chosen.say_without_split())
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
    if args.json:
        print_json(
            {
                "run": str(args.output),
                "model": str(args.output / "model.onnx"),
                "device": done.record.device,
                "timings": dict(done.record.timings),
                "validation": _validation(done),
                "agreement": asdict(agreement),
            }
        )
        return 0
    print(f"Trained in {done.record.timings['seconds']:.0f} s on {done.record.device}: {args.output}")
    print(_validation_sentence(_validation(done)))
    print(f"{args.output / 'model.onnx'}: {agreement}")
    return 0


def _validation(run: Run) -> dict[str, float] | None:
    """Epoch whose weights are kept and its accuracy on the validation cells; None where none were held back."""
    from giemsa.lab.training.curves import read_run_metrics

    series = read_run_metrics(run.folder)
    losses = series.get("validation_loss")
    if not losses:
        return None
    kept = min(losses, key=lambda pair: pair[1])[0] if run.recipe.training.patience else losses[-1][0]
    return {"epoch": kept, "accuracy": dict(series["validation_accuracy"])[kept]}


def _validation_sentence(reached: dict[str, float] | None) -> str:
    if reached is None:
        return "Nothing was held back to validate on."
    return (
        f"Validation accuracy after epoch {reached['epoch']}: {reached['accuracy']:.2%}, by the labels that the recipe "
        "trains on."
    )
