"""The search space of a tuning: a TOML file that becomes a frozen, checked object.

    metric = "validation_loss"

    [parameters.learning_rate]
    kind = "float"
    key = "optimiser.learning_rate"
    low = 1e-4
    high = 1e-2
    log = true

    [parameters.batch_size]
    kind = "choice"
    key = "training.batch_size"
    values = [16, 32, 64, 96]

    [parameters.epochs]
    kind = "int"
    key = "training.epochs"
    low = 3
    high = 12

    [parameters.width]
    kind = "factor"
    keys = ["network.stem_width", "network.widths"]
    low = 0.5
    high = 2.0

`factor` multiplies the recipe's own values, such as lists of widths, or every strength of the augmentation at once. A
whole number in the recipe stays a whole number, and is at least 1.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from giemsa.errors import RecipeError
from giemsa.lab.recipes import Recipe, parse_recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.trial import Trial

Metric = Literal["validation_loss", "validation_accuracy"]
TABLE_COLUMNS: Final = ("trial", "state", "epochs_trained", "seconds")
"""Columns of a study's table besides the metric and the parameters, which cannot have these names."""
Value = bool | int | float | str | tuple[int | float | str, ...]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=False)


class FloatRange(_Part):
    """A number from `low` to `high`; uniform in its logarithm where `log` is set."""

    kind: Literal["float"]
    key: str
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> FloatRange:
        _check_range(self.low, self.high, log=self.log)
        return self

    def suggest(self, name: str, trial: Trial, _recipe: dict[str, Any]) -> dict[str, Any]:
        """Change for a trial: the key with a sampled value."""
        return {self.key: trial.suggest_float(name, self.low, self.high, log=self.log)}


class IntRange(_Part):
    """A whole number from `low` to `high`, both included."""

    kind: Literal["int"]
    key: str
    low: Annotated[int, Field(strict=True)]
    high: Annotated[int, Field(strict=True)]
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> IntRange:
        _check_range(self.low, self.high, log=self.log)
        return self

    def suggest(self, name: str, trial: Trial, _recipe: dict[str, Any]) -> dict[str, Any]:
        """Change for a trial: the key with a sampled value."""
        return {self.key: trial.suggest_int(name, self.low, self.high, log=self.log)}


class Choice(_Part):
    """One of `values`, which may be lists."""

    kind: Literal["choice"]
    key: str
    values: Annotated[tuple[Value, ...], Field(min_length=1)]

    def suggest(self, name: str, trial: Trial, _recipe: dict[str, Any]) -> dict[str, Any]:
        """Change for a trial; the study knows a value by its JSON, since a storage keeps no lists."""
        values = {json.dumps(value): value for value in self.values}
        return {self.key: values[str(trial.suggest_categorical(name, list(values)))]}


class Factor(_Part):
    """A number from `low` to `high` by which the recipe's values of some keys are multiplied."""

    kind: Literal["factor"]
    keys: Annotated[tuple[str, ...], Field(min_length=1)]
    low: Annotated[float, Field(ge=0)]
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Factor:
        _check_range(self.low, self.high, log=self.log)
        return self

    def suggest(self, name: str, trial: Trial, recipe: dict[str, Any]) -> dict[str, Any]:
        """Changes for a trial: each key with its value times a sampled factor."""
        factor = trial.suggest_float(name, self.low, self.high, log=self.log)
        return {key: _times(_value_at(recipe, key), factor) for key in self.keys}


Parameter = Annotated[FloatRange | IntRange | Choice | Factor, Field(discriminator="kind")]


class SearchSpace(_Part):
    """What is varied, and the metric on validation cells that is optimised."""

    metric: Metric = "validation_loss"
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_free(self) -> SearchSpace:
        for name in self.parameters:
            if name in (*TABLE_COLUMNS, *get_args(Metric)):
                raise ValueError(f"the parameter {name!r} needs another name: the table of trials has such a column")
        return self

    @property
    def minimise(self) -> bool:
        """Whether lower values of the metric are better."""
        return self.metric == "validation_loss"

    @property
    def digest(self) -> str:
        """SHA-256 of the space, in hex."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def suggest(self, trial: Trial, recipe: Recipe) -> Recipe:
        """Recipe for a trial, sampled from the space."""
        content = recipe.model_dump(mode="json", exclude_none=True)
        changes: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            changes |= parameter.suggest(name, trial, content)
        return with_changes(content, changes, f"trial {trial.number}")


def read_space(path: Path, recipe: Recipe) -> SearchSpace:
    """Search space of a file, checked against the recipe that it varies.

    Raises
    ------
    RecipeError
        If it cannot be read, has an unknown key or a wrong type, names a key that the recipe does not have, names a key
        twice, or holds a value that the recipe refuses.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RecipeError(f"the search space {path} cannot be read: {reason}") from None
    try:
        space = SearchSpace.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            reason = "there is no such key"
        said = ": ".join(filter(None, (str(path), place, reason)))
        raise RecipeError(f"{said}; see `giemsa tune --help` for an example") from None
    _check_keys(space, recipe, path)
    _check_ends(space, recipe, path)
    return space


def with_changes(content: dict[str, Any], changes: dict[str, Any], origin: str) -> Recipe:
    """Recipe of a content with dotted keys changed, checked."""
    changed: dict[str, Any] = json.loads(json.dumps(content))
    for key, value in changes.items():
        *tables, last = key.split(".")
        inner = changed
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[last] = value
    return parse_recipe(changed, origin)


def _check_keys(space: SearchSpace, recipe: Recipe, path: Path) -> None:
    content = recipe.model_dump(mode="json")
    known = _leaves(content, "")
    taken: dict[str, str] = {}
    for name, parameter in space.parameters.items():
        for key in parameter.keys if isinstance(parameter, Factor) else (parameter.key,):
            if key not in known or key.partition(".")[0] in {"name", "description", "source", "published"}:
                nearest = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
                more = f"; the nearest ones are {', '.join(nearest)}" if nearest else ""
                raise RecipeError(f"{path}: {name}: the recipe {recipe.name} has no key {key!r} to vary{more}")
            if key in taken:
                raise RecipeError(f"{path}: {name} and {taken[key]} both vary {key}: name it once")
            taken[key] = name
            if isinstance(parameter, Factor) and not _is_number(_value_at(content, key)):
                raise RecipeError(f"{path}: {name}: {key} = {_value_at(content, key)!r} cannot be multiplied")


def _check_ends(space: SearchSpace, recipe: Recipe, path: Path) -> None:
    """Check the ends of every range and each choice on the recipe, before any training begins."""
    content = recipe.model_dump(mode="json", exclude_none=True)
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Choice):
            tries = [{parameter.key: list(v) if isinstance(v, tuple) else v} for v in parameter.values]
        elif isinstance(parameter, Factor):
            tries = [
                {key: _times(_value_at(content, key), end) for key in parameter.keys}
                for end in (parameter.low, parameter.high)
            ]
        else:
            tries = [{parameter.key: end} for end in (parameter.low, parameter.high)]
        for changes in tries:
            with_changes(content, changes, f"{path}: {name}")


def _leaves(content: dict[str, Any], prefix: str) -> list[str]:
    found: list[str] = []
    for name, value in content.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return found


def _value_at(content: dict[str, Any], key: str) -> Any:  # noqa: ANN401  a recipe's value
    value: Any = content
    for part in key.split("."):
        value = value[part]
    return value


def _is_number(value: Any) -> bool:  # noqa: ANN401  a recipe's value
    if isinstance(value, list | tuple):
        return bool(value) and all(_is_number(each) for each in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _times(value: Any, factor: float) -> Any:  # noqa: ANN401  a recipe's value
    if isinstance(value, list | tuple):
        return [_times(each, factor) for each in value]
    if isinstance(value, int):
        return max(1, round(value * factor))
    return value * factor


def _check_range(low: float, high: float, *, log: bool) -> None:
    if not low <= high:
        raise ValueError(f"low = {low:g} is above high = {high:g}")
    if log and low <= 0:
        raise ValueError(f"low = {low:g} has no logarithm: give one above 0, or leave log out")
    if math.isinf(high):
        raise ValueError("high is infinite")
