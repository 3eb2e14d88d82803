"""`giemsa recipes`: what can be trained, and what it is made of."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from giemsa.cli.train import add_recipe_changes, read_recipe

if TYPE_CHECKING:
    import argparse

    from giemsa.lab.recipes import Recipe

HELP = "list the recipes, or show one layer by layer"
EPILOG = """examples:
  giemsa recipes
  giemsa recipes sequential-cnn-224
  giemsa recipes compact-cnn-128 --set input_size_px=150 --json

Layers without weights that change no shape, such as activations, are not shown.
"""
_WIDTH = 118  # columns of the tables where there is no terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("recipe", metavar="NAME", nargs="?", help="name of a recipe, or a TOML file (default: all)")
    add_recipe_changes(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """List or show."""
    import json

    from giemsa.errors import UsageError

    if args.recipe is None:
        if args.set or args.weights:
            raise UsageError("--set and --weights change one recipe: name it")
        from giemsa.lab.recipes import load_recipe, recipe_names

        described = [_describe(load_recipe(name)) for name in recipe_names()]
        print(json.dumps(described, indent=2)) if args.json else _print_all(described)
        return 0
    recipe = read_recipe(args)
    from giemsa.lab.recipes import BackboneSettings

    if isinstance(recipe.network, BackboneSettings):
        from giemsa.lab.networks.pretrained import fit_to_weights

        recipe = fit_to_weights(recipe, lambda sentence: print(sentence, file=sys.stderr))
    content = _describe(recipe) | {"layers": _layers(recipe)}
    if args.json:
        print(json.dumps(content | {"recipe": recipe.model_dump(mode="json", exclude_none=True)}, indent=2))
    else:
        _print_one(content)
    return 0


def _describe(recipe: Recipe) -> dict[str, Any]:
    from giemsa.lab.networks.layers import count_recipe_parameters

    published = recipe.published
    return {
        "name": recipe.name,
        "description": recipe.description,
        "source": recipe.source,
        "published": None if published is None else published.model_dump(mode="json", exclude_none=True),
        "input_size_px": recipe.input_size_px,
        "parameters": count_recipe_parameters(recipe),
        "digest": recipe.digest,
    }


def _layers(recipe: Recipe) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from giemsa.lab.networks.building import check_network
    from giemsa.lab.networks.layers import list_layers

    check_network(recipe)
    return [asdict(layer) | {"shape": list(layer.shape)} for layer in list_layers(recipe)]


def _print_all(described: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("input, px", justify="right")
    table.add_column("parameters", justify="right")
    table.add_column("published")
    table.add_column("source")
    for one in described:
        published = one["published"]["figure"] if one["published"] else "no figure"
        source = one["source"].replace('"', "").partition(" (")[0]
        table.add_row(one["name"], str(one["input_size_px"]), f"{one['parameters']:,}", published, source)
    _console().print(table)
    print("`giemsa recipes NAME` shows one, layer by layer.")


def _print_one(content: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    print(f"{content['name']}: {content['description']}")
    print(f"source: {content['source']}")
    if content["published"]:
        print(f"published: {content['published']['figure']}; {content['published']['protocol']}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("layer", "kind"):
        table.add_column(name, no_wrap=True)
    table.add_column("output shape", no_wrap=True)
    table.add_column("parameters", justify="right")
    size = content["input_size_px"]
    table.add_row("(input)", "RGB", f"({size}, {size}, 3)", "0")
    for layer in content["layers"]:
        shape = ", ".join(map(str, layer["shape"]))
        table.add_row(layer["name"], layer["kind"], f"({shape})", f"{layer['parameters']:,}")
    _console().print(table)
    print(f"{content['parameters']:,} parameters")


def _console() -> Any:  # noqa: ANN401  rich is imported late
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_WIDTH)
