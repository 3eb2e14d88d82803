"""Recipes: how to train, as a TOML file that becomes a frozen, checked object.

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
from typing import Annotated, Any, Final, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from giemsa.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_RECIPE = "default"
DEFAULT_KIND: Final = "residual-cnn"
"""Kind of network of a recipe that names none."""

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Colour = tuple[float, float, float]
PositiveColour = tuple[
    Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
]  # fmt: skip
WeightsName = Annotated[str, Field(pattern=r"^(imagenet|none|.+\.safetensors)$")]

LATER: Final = "later"
"""Mark of keys added after the first release: at its default, such a key does not change a recipe's digest."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PublishedSettings(_Settings):
    """Result that the recipe's source reports; nothing is computed from it."""

    figure: str
    """Figure in the source's words."""
    protocol: str
    """Cells that it was measured on, and how they were split."""
    accuracy: Probability | None = None
    tolerance: Probability = 0.0


class ResidualCnnSettings(_Settings):
    """Settings of our own small network; see `giemsa.lab.networks.building.ResidualCnn`."""

    kind: Literal["residual-cnn"] = "residual-cnn"
    stem_width: Count = 16
    widths: tuple[Count, ...] = (16, 40, 80)
    blocks: tuple[Count, ...] = (1, 2, 2)
    relative_colour: bool = True
    dropout: Probability = 0.0
    space_to_depth: Annotated[Count, LATER] = 1
    """Side of the squares of pixels that become channels before the first convolution; 1 for none, and a stride of 2."""
    cell_head: Annotated[bool, LATER] = False
    """Whether the network also says how much a picture looks like one red cell at all."""
    prototypes: Annotated[int, Field(ge=0), LATER] = 0
    """How many prototypes of training cells novelty is measured against; 0 for no novelty."""

    @model_validator(mode="after")
    def _stages_agree(self) -> ResidualCnnSettings:
        if len(self.widths) != len(self.blocks):
            message = f"widths has {len(self.widths)} stages and blocks {len(self.blocks)}: give one number a stage"
            raise ValueError(message)
        return self


class SequentialCnnSettings(_Settings):
    """Settings of a sequence of convolutions, poolings and dense layers; see `giemsa.lab.networks.sequential_cnn`."""

    kind: Literal["sequential-cnn"]
    widths: Annotated[tuple[Count, ...], Field(min_length=1)] = (32, 64, 128)
    """Width of each block of convolution, ReLU and 2 x 2 max pooling."""
    convolutions: Count = 1
    """Number of convolutions in each block."""
    padding: Literal["valid", "same"] = "valid"
    """`valid`: a 3 x 3 convolution removes one pixel on each side."""
    batch_norm: bool = False
    dense: tuple[Count, ...] = (128,)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropout before the last layer."""
    outputs: Literal[1, 2] = 1
    """1: one logit (sigmoid). 2: one logit per class (softmax); Giemsa's logit is their difference."""
    mean: Colour = (0.0, 0.0, 0.0)
    std: PositiveColour = (1.0, 1.0, 1.0)


class BackboneSettings(_Settings):
    """Settings of a network for natural pictures with a new head; see `giemsa.lab.networks.backbones`."""

    kind: Literal["backbone"]
    model: str
    """Name of a timm model, such as `resnet18`, or torchvision's `squeezenet1_1`."""
    weights: WeightsName = "imagenet"
    """`imagenet`: from the hub; `none`: random; or a `.safetensors` file."""
    level: Literal["last"] | Annotated[int, Field(ge=0)] = "last"
    """Feature level of the model after which the head sits; each has about half the resolution of the one before."""
    trained_levels: Literal["all"] | Annotated[int, Field(ge=0)] = "all"
    """Number of levels, counted from the head, trained after the frozen epochs; 0: the base stays frozen."""
    stem_norm: bool = False
    """For `resnetv2`: a norm after the first convolution, as GluonCV's weights have it."""
    hidden: tuple[Count, ...] = ()
    """Dense layers between the mean of the feature map and the output; without any the network has evidence."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    outputs: Literal[1, 2] = 1
    mean: Literal["weights"] | Colour = "weights"
    """`weights`: the normalisation that the pretrained weights were trained with."""
    std: Literal["weights"] | PositiveColour = "weights"


NetworkSettings = ResidualCnnSettings | SequentialCnnSettings | BackboneSettings


class LabelSettings(_Settings):
    """Settings of the labels: which cells are trained on, with what label and weight."""

    disputed: Literal["leave-out", "official"] = "leave-out"
    """Treatment of infected patients' cells on which two readings disagree."""
    donors: Literal["negative", "official", "leave-out"] = "negative"
    """`negative`: every cell of a person without malaria counts as uninfected, whatever a reader saw."""
    donor_weight: Strength = 1.5
    disputed_donor_weight: Strength = 4.0
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.02


class AugmentationSettings(_Settings):
    """Settings of augmentation; see `giemsa.lab.training.augment`. A strength of 0 switches one off."""

    start: Annotated[Literal["giemsa", "nothing"], LATER] = "giemsa"
    """`nothing`: augmentations that are left out are off, instead of at their defaults."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180), LATER] = 0.0
    """The notebooks' plain augmentations, for every cell: largest rotation either way ..."""
    brightness: Annotated[float, Field(ge=0, lt=1), LATER] = 0.0
    """... and largest change of brightness, contrast and saturation, as a factor of 1 plus or minus this."""
    plain_contrast: Annotated[float, Field(ge=0, lt=1), LATER] = 0.0
    saturation: Annotated[float, Field(ge=0, lt=1), LATER] = 0.0
    quarter_turns: Annotated[bool, LATER] = True
    """Flips and quarter turns, exact to the pixel."""
    clean_probability: Probability = 0.3
    """Share of cells that are only moved, so that training also sees real colours."""
    affine_probability: Probability = 0.8
    scale: Strength = 0.08
    """Standard deviation of the logarithm of the scale."""
    stretch: Strength = 0.04
    """Standard deviation of the logarithm of width over height."""
    shift: Strength = 0.06
    """Largest shift, as a share of half the picture's width."""
    stain_probability: Probability = 0.85
    stain: Strength = 0.2
    """Variation of the density and hue of the cell's body."""
    contrast: Strength = 0.2
    """Standard deviation of the logarithm of the gain of the cell's contents."""
    pallor: Strength = 1.0
    """Largest share of the density of the cell's centre that is removed."""
    rim: Strength = 0.5
    mottle: Strength = 0.25
    """Largest slow unevenness across the cell, as a share of its density ..."""
    blotch: Strength = 0.1
    """... and in blotches of a sixteenth of the picture, independently in each channel."""
    background_probability: Probability = 0.6
    """Probability that the black around the cell is replaced ..."""
    smear_probability: Probability = 0.75
    """... and probability that it is then replaced by a drawn smear with other cells, else by one colour."""
    outline_probability: Probability = 0.3
    bite_probability: Probability = 0.05
    light: Strength = 0.12
    focus: Strength = 1.0
    noise: Strength = 0.03

    @model_validator(mode="before")
    @classmethod
    def _start_from_nothing(cls, content: Any) -> Any:  # noqa: ANN401
        if isinstance(content, dict) and content.get("start") == "nothing":
            return {**_NOTHING, **content}
        return content

    @property
    def is_off(self) -> bool:
        """Whether nothing is augmented."""
        return not (self.moves or self.disturbs or self.jitters)

    @property
    def moves(self) -> bool:
        """Whether cells are flipped, rotated, scaled or shifted."""
        affine = self.affine_probability > 0
        return self.quarter_turns or self.rotation_degrees > 0 or affine

    @property
    def jitters(self) -> bool:
        """Whether brightness, contrast or saturation vary."""
        return max(self.brightness, self.plain_contrast, self.saturation) > 0

    @property
    def disturbs(self) -> bool:
        """Whether stain, surroundings or optics are augmented."""
        stained = self.stain_probability > 0 and self.stain > 0
        surrounded = max(self.background_probability, self.outline_probability, self.bite_probability) > 0
        return self.clean_probability < 1 and (stained or surrounded or max(self.light, self.focus, self.noise) > 0)


_NOTHING: Final[dict[str, Any]] = {
    "quarter_turns": False,
    "affine_probability": 0.0,
    "stain_probability": 0.0,
    "background_probability": 0.0,
    "outline_probability": 0.0,
    "bite_probability": 0.0,
    "light": 0.0,
    "focus": 0.0,
    "noise": 0.0,
}
"""Settings of `start = "nothing"`: strengths keep their defaults, so that a probability alone switches one on."""


class LaboratorySettings(_Settings):
    """What is trained on beside the labelled cells: see `giemsa.lab.training.company`.

    It needs the photographs of other laboratories (`--laboratories DIR`); without them, what is drawn is all there is.
    """

    names: tuple[str, ...] = ()
    """Folders of other laboratories whose pictures may be trained on; those that are not named never are."""
    cells: Strength = 0.0
    """Red cells of other laboratories for each labelled cell of a batch."""
    transplanted: Probability = 0.0
    """How many of these get the density that a parasite of a labelled cell adds, in their own stain ..."""
    look_alikes: Probability = 0.0
    """... and how many get a platelet's, a precipitate's or that of a disputed mark in a donor's cell, as negatives."""
    not_cells: Strength = 0.0
    """Pictures of what is no red cell, for each labelled cell of a batch."""
    field_colour: Probability = 0.0
    """How often a cell is judged relative to its field's typical cell, instead of to its own colour."""

    @property
    def is_off(self) -> bool:
        """Whether nothing accompanies the labelled cells."""
        return self.cells == 0 and self.not_cells == 0 and self.field_colour == 0


class OptimiserSettings(_Settings):
    """Settings of the optimiser and its learning rate over time."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    weight_decay: Strength = 0.02
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    """`one-cycle`: the rate rises for part of the training, then falls to 0 (Smith 2018, arXiv 1803.09820)."""
    warmup: Probability = 0.2
    gradient_clip: Strength = 2.0
    """Largest norm of the gradient; 0 for no limit."""
    finetune_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate of all weights after the frozen epochs; without it `learning_rate`."""


class TrainingSettings(_Settings):
    """Settings of the training: epochs, batches, seed and precision."""

    epochs: Count = 24
    batch_size: Count = 96
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay per step of the moving average of the weights that is kept; 0 keeps the last weights."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Number of epochs without a better validation loss after which training stops, keeping the best; 0: never."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    seed: Annotated[int, Field(ge=0)] = 0
    frozen_epochs: Annotated[int, Field(ge=0), LATER] = 0
    """Number of epochs that train a backbone's head alone."""


class Recipe(_Settings):
    """A recipe: how to train one model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    description: str = ""
    source: str = ""
    published: PublishedSettings | None = None
    input_size_px: Annotated[int, Field(ge=16, le=512)] = 64
    network: Annotated[NetworkSettings, Field(discriminator="kind")] = ResidualCnnSettings()
    labels: LabelSettings = LabelSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    training: TrainingSettings = TrainingSettings()
    laboratories: Annotated[LaboratorySettings, LATER] = LaboratorySettings()

    @model_validator(mode="before")
    @classmethod
    def _default_kind(cls, content: Any) -> Any:  # noqa: ANN401
        network = content.get("network") if isinstance(content, dict) else None
        if isinstance(network, dict) and "kind" not in network:
            return {**content, "network": {"kind": DEFAULT_KIND, **network}}
        return content

    @model_validator(mode="after")
    def _parts_agree(self) -> Recipe:
        if self.training.frozen_epochs and not isinstance(self.network, BackboneSettings):
            message = f"training.frozen_epochs = {self.training.frozen_epochs} needs a network of the kind backbone"
            raise ValueError(message)
        if self.training.frozen_epochs > self.training.epochs:
            message = (
                f"training.frozen_epochs = {self.training.frozen_epochs} is more than {self.training.epochs} epochs"
            )
            raise ValueError(message)
        if isinstance(self.network, SequentialCnnSettings):
            _check_pooling(self.network, self.input_size_px)
        return self

    @property
    def frozen_epochs(self) -> int:
        """Number of epochs that train the head alone: all of them where no level of the base is trained."""
        if isinstance(self.network, BackboneSettings) and self.network.trained_levels == 0:
            return self.training.epochs
        return self.training.frozen_epochs

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the resolved recipe with its defaults, but for those of later keys."""
        return hashlib.sha256(json.dumps(_digested(self), sort_keys=True).encode()).hexdigest()

    def to_toml(self) -> str:
        """The resolved recipe with its defaults, as TOML."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def recipe_names() -> list[str]:
    """Names of the recipes that come with Giemsa."""
    folder = resources.files("giemsa.lab") / "recipe_files"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Recipe by the name of one that comes with Giemsa, or by the path of a TOML file.

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
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"{origin} is not a TOML file: {error}") from None
    for key, value in (overrides or {}).items():
        _put(content, key, value)
    return parse_recipe(content, origin)


def parse_recipe(content: dict[str, Any], origin: str) -> Recipe:
    """Recipe of a checked content; `origin` is named in the message of an error."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{origin}: {_say(error, content)}") from None


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """Overrides from `KEY=VALUE` texts, with values in TOML (bare words count as text).

    Raises
    ------
    RecipeError
        If there is no `=` in one of them.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {assignment!r} is no assignment: write KEY=VALUE, such as training.epochs=3")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            overrides[key.strip()] = value
    return overrides


def change_weights(recipe: Recipe, weights: str) -> dict[str, Any]:
    """Override that `--weights` stands for.

    Raises
    ------
    RecipeError
        If the recipe has no backbone, or it is neither a file nor `none` nor `imagenet`.
    """
    if not isinstance(recipe.network, BackboneSettings):
        raise RecipeError(f"recipe {recipe.name} has no backbone to load weights into: leave out --weights")
    if weights not in ("none", "imagenet") and not weights.endswith(".safetensors"):
        raise RecipeError(f"--weights {weights} is neither a .safetensors file nor none (or imagenet, from the hub)")
    return {"network.weights": weights}


def network_kinds() -> list[str]:
    """Names of the kinds of networks."""
    return [get_args(settings.model_fields["kind"].annotation)[0] for settings in get_args(NetworkSettings)]


def all_keys(kind: str = DEFAULT_KIND) -> list[str]:
    """All dotted keys of a recipe with this kind of network."""
    return list(_keys(Recipe, "", kind))


def _keys(model: type[BaseModel], prefix: str, kind: str) -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if name == "network":
            place = network_kinds().index(kind) if kind in network_kinds() else 0
            annotation = get_args(NetworkSettings)[place]
        elif name == "published":
            annotation = PublishedSettings
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found += _keys(annotation, f"{prefix}{name}.", kind)
        else:
            found.append(prefix + name)
    return found


def _say(error: ValidationError, content: dict[str, Any]) -> str:
    """What is wrong with a recipe, in one sentence."""
    network = content.get("network")
    kind = str(network.get("kind", DEFAULT_KIND)) if isinstance(network, dict) else DEFAULT_KIND
    known = all_keys(kind)
    problem = error.errors()[0]
    key = _key_of(problem["loc"], known)
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
        which = f"; the nearest known keys are {', '.join(nearest)}" if nearest else ""
        return f"unknown key {key!r}{which}."
    if problem["type"] == "missing":
        return f"the key {key!r} is missing."
    if problem["type"] == "union_tag_invalid":
        return f"network.kind = {problem['ctx']['tag']!r} is impossible: the kinds are {', '.join(network_kinds())}."
    # Where a value may be of several types, Pydantic says of each why it is not.
    reasons = [one["msg"] for one in error.errors() if _key_of(one["loc"], known) == key]
    reason = " or ".join(dict.fromkeys(text.removeprefix("Value error, ") for text in reasons))
    if not key:
        return f"{reason}."
    return f"{key} = {problem['input']!r} is impossible: {reason}."


def _key_of(place: tuple[int | str, ...], known: list[str]) -> str:
    """Dotted key of a problem, from Pydantic's location, which also names the kinds and types that it tried."""
    parts = [str(part) for part in place if part not in network_kinds()]
    for length in range(1, len(parts)):
        if ".".join(parts[:length]) in known and not parts[length].isdecimal():
            return ".".join(parts[:length])
    return ".".join(parts)


def _digested(settings: BaseModel) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if value is None or (LATER in field.metadata and value == field.default):
            continue
        if isinstance(value, BaseModel):
            content[name] = _digested(value)
        else:
            content[name] = list(value) if isinstance(value, tuple) else value
    return content


def _check_pooling(settings: SequentialCnnSettings, size_px: int) -> None:
    side = size_px
    for block in range(len(settings.widths)):
        if settings.padding == "valid":
            side -= 2 * settings.convolutions
        side //= 2
        if side < 1:
            message = (
                f"input_size_px = {size_px} is smaller than the network can pool: nothing is left after block "
                f"{block + 1} of {len(settings.widths)}; give larger cells or fewer widths"
            )
            raise ValueError(message)


def _find(name: str) -> tuple[str, str]:
    if name.endswith(".toml") or "/" in name:
        try:
            return Path(name).read_text(encoding="utf-8"), name
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise RecipeError(f"the recipe {name} cannot be read: {reason}") from None
    known = recipe_names()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3)
        which = f"the nearest names are {', '.join(nearest)}" if nearest else f"there are {', '.join(known)}"
        raise RecipeError(f"there is no recipe {name!r}: {which}; or give the path of a TOML file")
    return (resources.files("giemsa.lab") / "recipe_files" / f"{name}.toml").read_text(
        encoding="utf-8"
    ), f"recipe {name}"


def _put(content: dict[str, Any], key: str, value: object) -> None:
    *tables, last = key.split(".")
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise RecipeError(f"--set {key}: {table!r} is a value and not a table")
    content[last] = value
