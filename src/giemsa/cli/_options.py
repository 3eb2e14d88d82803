"""The options that several commands take: declared once, so that a name means the same everywhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from giemsa.cli._parser import Parser
    from giemsa.data.index import CellIndex
    from giemsa.data.labels import LabelSets
    from giemsa.data.splits import Split
    from giemsa.lab.recipes import Recipe
    from giemsa.lab.training.datasets import LabelledData
    from giemsa.lab.training.laboratories import LaboratoryCells


def at_least(least: int) -> Callable[[str], int]:
    """Converter of an argument to a whole number that is not below `least`."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is given; expected a whole number of {least} or more")
        return number

    return convert


def add_model(parser: argparse.ArgumentParser, *, kinds: str = "an ONNX file or a run folder") -> None:
    """Add --model."""
    parser.add_argument("--model", metavar="MODEL", help=f"{kinds} (default: the embedded model)")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add --threads."""
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="threads (default: one for each core)")


def add_json(parser: argparse.ArgumentParser, what: str = "the result as JSON") -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help=f"print {what}")


def add_force(parser: argparse._ActionsContainer) -> None:
    """Add --force; for commands that also take --resume, to a group in which the two exclude each other."""
    parser.add_argument("--force", action="store_true", help="replace an output that is there already")


def add_resume(parser: argparse._ActionsContainer) -> None:
    """Add --resume."""
    parser.add_argument("--resume", action="store_true", help="continue what an interrupted command left")


def add_data(parser: Parser | argparse.ArgumentParser, *, required: bool = True, bare_word: bool = False) -> None:
    """Add --data and what tells its labels: --reviewed, --donors and --positive-class.

    With `bare_word`, the place of the cells may still be given without --data, as in 0.1.0.
    """
    action = parser.add_argument(
        "--data", type=Path, required=required, metavar="DIR", help="labelled cells: folders by class, or a CSV"
    )
    if bare_word:
        parser.accept_bare_word(action)  # type: ignore[union-attr]
    parser.add_argument("--reviewed", type=Path, metavar="CSV", help="a second reading: file,official,reviewed")
    parser.add_argument("--donors", type=Path, metavar="FILE", help="people without malaria, one name per line")
    add_positive_class(parser)


def add_positive_class(parser: argparse.ArgumentParser) -> None:
    """Add --positive-class."""
    parser.add_argument("--positive-class", metavar="NAME", help="the class that means parasitized")


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add --cache."""
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where decoded cells are kept (default: user cache)")


def add_part(parser: argparse.ArgumentParser) -> None:
    """Add --split, --part, --fold and --allow-training-patients: which labelled cells a model is judged on."""
    parser.add_argument("--split", type=Path, metavar="FILE", help="judge one part of a split (`giemsa data split`)")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--part", metavar="NAME", help="train, validation or test (default: test, else validation)")
    part.add_argument("--fold", type=int, metavar="K", help="the fold that was held back, of a split with folds")
    parser.add_argument(
        "--allow-training-patients", action="store_true", help="also judge patients that it was trained on"
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add RECIPE and what changes it."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name (`giemsa recipes`), or a TOML file")
    add_recipe_changes(parser)


def add_recipe_changes(parser: argparse.ArgumentParser) -> None:
    """Add --set and --weights."""
    add_set(parser)
    parser.add_argument(
        "--weights", metavar="FILE", help="a backbone's initial .safetensors, or none (default: from the hub)"
    )


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add --set."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe")


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add --cache, --resume and --threads, as every command that trains takes them."""
    add_cache(parser)
    add_resume(parser)
    add_threads(parser)


def add_laboratories(parser: argparse.ArgumentParser) -> None:
    """Add --laboratories: photographs of other laboratories beside the labelled cells."""
    parser.add_argument(
        "--laboratories",
        type=Path,
        metavar="DIR",
        help="folders of other laboratories' fields; those that the recipe names are trained on too",
    )


def laboratory_cells(args: argparse.Namespace, recipe: Recipe) -> LaboratoryCells | None:
    """Cells of the laboratories that the recipe names, out of --laboratories; None where there are none to read."""
    from giemsa.cli._console import inform
    from giemsa.errors import UsageError
    from giemsa.lab.training.laboratories import read_laboratories

    if args.laboratories is None:
        if recipe.laboratories.names:
            inform(
                f"No --laboratories DIR: {recipe.name} is trained without the cells of "
                f"{', '.join(recipe.laboratories.names)}, and will hold in other laboratories less well."
            )
        return None
    if not recipe.laboratories.names:
        raise UsageError(f"--laboratories was given, and the recipe {recipe.name} names none (laboratories.names)")
    cells = read_laboratories(args.laboratories, recipe.laboratories.names, recipe.input_size_px)
    inform(cells.describe())
    return cells


def add_choice_of_training_cells(parser: argparse.ArgumentParser, *, without_split: str) -> None:
    """Add --split, --fold and --limit: what is trained on and what is held back."""
    parser.add_argument("--split", type=Path, metavar="FILE", help=f"a split to train by (default: {without_split})")
    parser.add_argument("--fold", type=int, metavar="K", help="the fold to hold back, of a split with folds")
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="use N cells only, for a quick look")


def chosen_recipe(args: argparse.Namespace) -> Recipe:
    """Recipe that the arguments name, with the changes of --set and --weights."""
    from giemsa.lab.recipes import change_weights, load_recipe, parse_overrides

    overrides = parse_overrides(args.set)
    if args.weights is not None:
        overrides |= change_weights(load_recipe(args.recipe), args.weights)
    return load_recipe(args.recipe, overrides)


def labelled_data(args: argparse.Namespace) -> LabelledData:
    """Labelled cells of --data with their label sets, for the lab."""
    from giemsa.lab.training.datasets import read_labelled

    return read_labelled(args.data, reviewed=args.reviewed, donors=args.donors, positive_class=args.positive_class)


def indexed_cells(
    args: argparse.Namespace, progress: Callable[[int, int], None] | None = None
) -> tuple[CellIndex, LabelSets]:
    """Index of --data and its label sets."""
    from giemsa.data.index import read_index
    from giemsa.data.labels import read_label_sets

    index = read_index(args.data, positive_class=args.positive_class, progress=progress)
    return index, read_label_sets(index, reviewed=args.reviewed, donors=args.donors)


def chosen_split(args: argparse.Namespace) -> Split | None:
    """Split that --split names, or None."""
    from giemsa.data.splits import read_split

    return None if args.split is None else read_split(args.split)
