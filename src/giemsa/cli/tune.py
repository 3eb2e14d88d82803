"""`giemsa tune`: search for better settings of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from giemsa.cli._options import (
    add_choice_of_training_cells,
    add_data,
    add_json,
    add_recipe,
    add_training,
    at_least,
    chosen_recipe,
    labelled_data,
)

if TYPE_CHECKING:
    import argparse

    import optuna

    from giemsa.data.splits import Split
    from giemsa.lab.recipes import Recipe
    from giemsa.lab.training.datasets import LabelledData
    from giemsa.lab.training.loop import TrainingData

EPILOG = """examples:
  giemsa tune two-block-cnn-64 --space space.toml --trials 30 --data cells --split split.json --output tuned
  giemsa tune default --space space.toml --trials 90 --data cells --split split.json --output tuned-2 \\
      --storage postgresql://giemsa@db/studies --study widths --resume

space.toml:
  metric = "validation_loss"                       # or validation_accuracy
  [parameters]                                     # kinds: float, int, choice (values), factor (keys)
  rate = { kind = "float", key = "optimiser.learning_rate", low = 1e-4, high = 1e-2, log = true }
  width = { kind = "factor", keys = ["network.stem_width", "network.widths"], low = 0.5, high = 2.0 }
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_recipe(parser)
    parser.add_argument("--space", type=Path, required=True, metavar="FILE", help="what may vary (TOML, see below)")
    parser.add_argument(
        "--trials", type=at_least(1), required=True, metavar="N", help="finished trials that the study ends with"
    )
    add_data(parser)
    add_choice_of_training_cells(parser, without_split="60/20/20 by patient")
    parser.add_argument("--storage", metavar="URL", help="Optuna storage to share (default: SQLite in DIR)")
    parser.add_argument("--study", metavar="NAME", help="the study's name in the storage (default: the recipe's)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for table, figures and recipe")
    add_training(parser)
    add_json(parser, "study.json")


def run(args: argparse.Namespace) -> int:
    """Tune."""
    from giemsa.cli._console import interruptible

    with interruptible("every trial before this one is kept in the study; continue with the same command and --resume"):
        return _tune(args)


def _tune(args: argparse.Namespace) -> int:
    recipe = chosen_recipe(args)
    from giemsa.lab.tuning.search_space import read_space

    space = read_space(args.space, recipe)
    _check_folder(args)
    from giemsa.cli._console import inform, print_json
    from giemsa.lab.evaluation.reports import versions
    from giemsa.lab.tuning.study import FILES, StudyPlace, open_study, tune, write_results

    data = labelled_data(args)
    inform(data.describe())
    args.output.mkdir(parents=True, exist_ok=True)
    path, split = _find_split(args, recipe, data)
    begun_with = {
        "recipe": recipe.digest,
        "space": space.digest,
        "data": data.index.digest,
        "split": f"{split.digest}, fold {args.fold}, limit {args.limit}",
    }
    place = StudyPlace(args.storage or f"sqlite:///{args.output / 'study.db'}", args.study or recipe.name)
    study = open_study(place, space, begun_with, seed=recipe.training.seed, resume=args.resume)
    tune(
        study,
        recipe,
        space,
        _data_of(args, data, path),
        args.output,
        trials=args.trials,
        threads=args.threads,
        command=args.command_line,
        report=inform,
    )
    content = write_results(
        args.output,
        study,
        recipe,
        space,
        {
            "recipe_digest": recipe.digest,
            "space": space.model_dump(mode="json"),
            "data_digest": data.index.digest,
            "split_digest": split.digest,
            "command": args.command_line,
            "versions": versions(),
        },
    )
    if args.json:
        print_json(content)
        return 0
    _print(study, content)
    print(f"Written to {args.output}: {', '.join(FILES)}. Train the best with `giemsa train {args.output}/best.toml`.")
    return 0


def _check_folder(args: argparse.Namespace) -> None:
    from giemsa.errors import OutputError

    if args.output.exists() and not args.output.is_dir():
        raise OutputError(f"the output {args.output} is a file; name a folder")
    if args.output.exists() and any(args.output.iterdir()) and not args.resume:
        raise OutputError(f"the output {args.output} is not empty: continue with --resume, or give another --output")


def _find_split(args: argparse.Namespace, recipe: Recipe, data: LabelledData) -> tuple[Path, Split]:
    """Split that was given, or one made here whose test patients stay unseen."""
    from giemsa.cli._console import inform
    from giemsa.data.splits import make_split, read_split

    if args.split is not None:
        return args.split, read_split(args.split)
    path = args.output / "split.json"
    if not path.exists():
        made = make_split(data.index, data.labels, validation=0.2, test=0.2, seed=recipe.training.seed)
        made.save(path)
        inform(f"No --split: 60/20/20 by patient, in {path}; evaluate on its test part.")
    return path, read_split(path)


def _data_of(args: argparse.Namespace, data: LabelledData, split: Path) -> Any:  # noqa: ANN401  a callable
    """What gives a trial its cells: of the training and validation parts only, at its own input size."""
    from giemsa.lab.training.datasets import training_data

    def give(recipe: Recipe) -> TrainingData:
        return training_data(recipe, data, split=split, fold=args.fold, cache=args.cache, limit=args.limit)

    return give


def _print(study: optuna.Study, content: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    from giemsa.cli._console import table_console

    names = list(content["space"]["parameters"])
    table = Table(box=box.SIMPLE_HEAD, title=f"Best trials of {study.study_name}", title_justify="left")
    for column in ("trial", content["metric"], *names):
        table.add_column(column, justify="right")
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    ranked = sorted(complete, key=lambda trial: float(trial.value or 0), reverse=content["direction"] == "maximise")
    for trial in ranked[:10]:
        values = (trial.params[name] for name in names)
        table.add_row(
            str(trial.number),
            f"{trial.value:.5f}",
            *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values),
        )
    table_console().print(table, markup=False)
    counted = ", ".join(f"{number} {state}" for state, number in content["trials"].items())
    print(f"Trials: {counted}. Judged on {content['judged_on']}.")
