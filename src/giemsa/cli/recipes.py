"""`giemsa recipes`: what can be trained, and what it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from giemsa.cli._options import add_json, add_recipe_changes, chosen_recipe

if TYPE_CHECKING:
    import argparse

    from giemsa.lab.recipes import Recipe

EPILOG = """examples:
  giemsa recipes
  giemsa recipes sequential-cnn-224
  giemsa recipes compact-cnn-128 --set input_size_px=150 --json

Layers without weights that change no shape, such as activations, are not shown.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", metavar="NAME", nargs="?", help="name of a recipe, or a TOML file (default: all)")
    add_recipe_changes(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List or show."""
    from giemsa.cli._console import inform, print_json
    from giemsa.errors import UsageError

    if args.recipe is None:
        if args.set or args.weights:
            raise UsageError("--set and --weights change one recipe; name it")
        from giemsa.lab.recipes import load_recipe, recipe_names

        described = [_describe(load_recipe(name)) for name in recipe_names()]
        print_json(described) if args.json else _print_all(described)
        return 0
    recipe = chosen_recipe(args)
    from giemsa.lab.recipes import BackboneSettings

    if isinstance(recipe.network, BackboneSettings):
        from giemsa.lab.networks.pretrained import fit_to_weights

        recipe = fit_to_weights(recipe, inform)
    content = _describe(recipe) | {"layers": _layers(recipe)}
    if args.json:
        print_json(content | {"recipe": recipe.model_dump(mode="json", exclude_none=True)})
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

    from giemsa.cli._console import table_console

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
    table_console().print(table)
    print("`giemsa recipes NAME` shows one, layer by layer.")


def _print_one(content: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    from giemsa.cli._console import table_console

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
    table_console().print(table)
    print(f"{content['parameters']:,} parameters")
