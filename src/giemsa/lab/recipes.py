"""How to train, as text: a TOML file that becomes a frozen, checked object.

What a recipe leaves out has its default here and nowhere else. Unknown keys are errors, because a misspelt
key that is ignored is a training that did not do what its recipe says.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from giemsa.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_RECIPE = "default"

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ResidualCnnSettings(_Settings):
    """Our own small network: see `giemsa.lab.networks.ResidualCnn`."""

    kind: Literal["residual-cnn"] = "residual-cnn"
    stem_width: Count = 16
    widths: tuple[Count, ...] = (16, 40, 80)
    blocks: tuple[Count, ...] = (1, 2, 2)
    relative_colour: bool = True
    dropout: Probability = 0.0

    @model_validator(mode="after")
    def _stages_agree(self) -> ResidualCnnSettings:
        if len(self.widths) != len(self.blocks):
            message = f"widths has {len(self.widths)} stages and blocks {len(self.blocks)}: give one number a stage"
            raise ValueError(message)
        return self


class LabelSettings(_Settings):
    """Which cells are trained on, as what, and with what weight."""

    disputed: Literal["leave-out", "official"] = "leave-out"
    """What happens to cells of infected patients on which two readings disagree."""
    donors: Literal["negative", "official", "leave-out"] = "negative"
    """`negative`: every cell of a person without malaria is uninfected, whatever a reader saw."""
    donor_weight: Strength = 1.5
    disputed_donor_weight: Strength = 4.0
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.02


class AugmentationSettings(_Settings):
    """How training cells are disturbed: see `giemsa.lab.augment`. A strength of 0 switches its disturbance off."""

    clean_probability: Probability = 0.3
    """How many cells are only moved: the rest of the training sees what such cells really look like."""
    affine_probability: Probability = 0.8
    scale: Strength = 0.08
    """Standard deviation of the logarithm of the scale."""
    stretch: Strength = 0.04
    """Standard deviation of the logarithm of width over height."""
    shift: Strength = 0.06
    """Largest shift, as a part of half the picture's width."""
    stain_probability: Probability = 0.85
    stain: Strength = 0.2
    """How much the density and the hue of the cell's body vary."""
    contrast: Strength = 0.2
    """Standard deviation of the logarithm of the gain of what lies in the cell."""
    pallor: Strength = 1.0
    """How much of the density of the cell's middle may go."""
    rim: Strength = 0.5
    mottle: Strength = 0.25
    """Largest unevenness that goes slowly across the cell, as a part of its density ..."""
    blotch: Strength = 0.1
    """... and in blotches of a sixteenth of the picture, each colour for itself."""
    background_probability: Probability = 0.6
    """How often the black around the cell is replaced ..."""
    smear_probability: Probability = 0.75
    """... and how often of these by a drawn smear with other cells in it, else by one colour."""
    outline_probability: Probability = 0.3
    bite_probability: Probability = 0.05
    light: Strength = 0.12
    focus: Strength = 1.0
    noise: Strength = 0.03


class OptimiserSettings(_Settings):
    """The optimiser and its learning rate over time."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    weight_decay: Strength = 0.02
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    """`one-cycle`: up for a part of the training, then down to nothing (Smith 2018, arXiv 1803.09820)."""
    warmup: Probability = 0.2
    gradient_clip: Strength = 2.0
    """Largest norm of the gradient; 0 for none."""


class TrainingSettings(_Settings):
    """How long, in what portions, and from which seed."""

    epochs: Count = 24
    batch_size: Count = 96
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay per step of the moving average of the weights, which is what is kept; 0 keeps the last weights."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after so many epochs without a better validation loss, and keep the best; 0 trains to the end."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    seed: Annotated[int, Field(ge=0)] = 0


class Recipe(_Settings):
    """How to train one model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    description: str = ""
    source: str = ""
    input_size_px: Annotated[int, Field(ge=16, le=512)] = 64
    network: ResidualCnnSettings = ResidualCnnSettings()
    labels: LabelSettings = LabelSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    training: TrainingSettings = TrainingSettings()

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved recipe, defaults included, as hex."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def to_toml(self) -> str:
        """Write the resolved recipe, defaults included."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def recipe_names() -> list[str]:
    """List the recipes that come with Giemsa."""
    folder = resources.files("giemsa.lab") / "recipe_files"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe, by the name of one that comes with Giemsa or by the path of a TOML file.

    Parameters
    ----------
    name_or_path : str or Path
        What ends in `.toml` or has a folder in it is a path.
    overrides : dict, optional
        Dotted keys and their values, such as `{"training.epochs": 3}`.

    Raises
    ------
    RecipeError
        If there is no such recipe, or it has an unknown key or an impossible value.
    """
    text, origin = _find(str(name_or_path))
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{origin} is not a TOML file: {error}.") from None
    for key, value in (overrides or {}).items():
        _put(content, key, value)
    return parse_recipe(content, origin)


def parse_recipe(content: dict[str, Any], origin: str) -> Recipe:
    """Check a recipe's content; `origin` stands in the message of a refusal."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            nearest = difflib.get_close_matches(key, all_keys(), n=3, cutoff=0.5)
            known = f"; the nearest known keys are {', '.join(nearest)}" if nearest else ""
            raise RecipeError(f"{origin}: unknown key {key!r}{known}.") from None
        if problem["type"] == "missing":
            raise RecipeError(f"{origin}: the key {key!r} is missing.") from None
        reason = problem["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{origin}: {key} = {problem['input']!r} is impossible: {reason}.") from None


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """Turn `KEY=VALUE` texts, values in TOML (bare words count as text), into overrides.

    Raises
    ------
    RecipeError
        If there is no `=` in one of them.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {assignment!r} is no assignment: write KEY=VALUE, such as training.epochs=3.")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            overrides[key.strip()] = value
    return overrides


def all_keys() -> list[str]:
    """List every key of a recipe, dotted."""
    return list(_keys(Recipe, ""))


def _keys(model: type[BaseModel], prefix: str) -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found += _keys(annotation, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def _find(name: str) -> tuple[str, str]:
    if name.endswith(".toml") or "/" in name:
        try:
            return Path(name).read_text(encoding="utf-8"), name
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise RecipeError(f"The recipe {name} cannot be read: {reason}.") from None
    known = recipe_names()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3) or known
        raise RecipeError(
            f"There is no recipe {name!r}: known are {', '.join(nearest)}, or give the path of a TOML file."
        )
    return (resources.files("giemsa.lab") / "recipe_files" / f"{name}.toml").read_text(
        encoding="utf-8"
    ), f"recipe {name}"


def _put(content: dict[str, Any], key: str, value: object) -> None:
    *tables, last = key.split(".")
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise RecipeError(f"--set {key}: {table!r} is a value and not a table.")
    content[last] = value
