"""Initial weights of a backbone: from the hub, a file, or random.

A file may hold a part of a model, as far as one of its feature levels. The network is then cut off there, which is
said and stands in the run's recipe. Within that, loading is strict: whatever is missing, or belongs to no part of
the model, is an error.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from giemsa.errors import DownloadError, RecipeError, RunError
from giemsa.lab.networks.backbones import SQUEEZENET, Backbone, count_levels, whole_model
from giemsa.lab.recipes import BackboneSettings, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

STEM_NORM = "stem.norm."
_ANSWER_WITHIN_S = 10


def fit_to_weights(recipe: Recipe, say: Callable[[str], None] = print) -> Recipe:
    """Recipe whose backbone ends where its file of weights does.

    Parameters
    ----------
    recipe : Recipe
        Returned as it is where its weights are no file.
    say : callable
        Is told, in a sentence, what is cut off.

    Raises
    ------
    RunError
        If the file cannot be read, is of another architecture, or ends before the level that is asked for.
    RecipeError
        If the network is no backbone, or not known.
    """
    settings = recipe.network
    if not isinstance(settings, BackboneSettings) or settings.weights in ("imagenet", "none"):
        return recipe
    path = Path(settings.weights)
    known = set(_read_keys(path))
    has_stem_norm = any(name.startswith(STEM_NORM) for name in known) and settings.model.startswith("resnetv2")
    settings = settings.model_copy(update={"stem_norm": has_stem_norm})
    levels = count_levels(settings)
    wanted = levels - 1 if settings.level == "last" else settings.level
    missing: list[str] = []
    for level in range(wanted, -1, -1):
        chosen = settings.model_copy(update={"level": "last" if level == levels - 1 else level})
        with torch.device("meta"):
            needed = Backbone(chosen).base.state_dict().keys() - known
        missing = sorted(name for name in needed if not name.endswith("num_batches_tracked"))
        if not missing:
            break
    if missing:
        raise RunError(f"{path} holds weights of another architecture than {settings.model}: they lack {missing[0]}")
    if settings.level not in {"last", chosen.level}:
        raise RunError(
            f"{path} holds {settings.model} up to its level {level}, and network.level = {settings.level} is asked for"
        )
    if chosen.level != settings.level:
        say(
            f"{path.name} holds {settings.model} up to its level {level} (of 0 to {levels - 1}): the network ends "
            f"there, with {_features(chosen)} features."
        )
    return recipe.model_copy(update={"network": chosen})


def load_pretrained(network: Backbone, settings: BackboneSettings) -> dict[str, Any]:
    """Load a backbone's initial weights.

    Parameters
    ----------
    network : Backbone
        Built from `settings`, which `fit_to_weights` has seen.
    settings : BackboneSettings
        Says where from.

    Returns
    -------
    dict
        For the run's record: `source`, and the name and SHA-256 of a file.

    Raises
    ------
    DownloadError
        If the hub cannot be reached.
    RunError
        If a file is of another architecture.
    """
    if settings.weights == "none":
        return {"source": "random"}
    if settings.weights == "imagenet":
        weights, source = _fetch(settings.model)
        origin = source
        record: dict[str, Any] = {"source": source}
    else:
        path = Path(settings.weights)
        weights, origin = _read(path), str(path)
        record = {
            "source": "file",
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "features": network.width,
        }
    _load(network.base, weights, settings, origin)
    return record


def _features(settings: BackboneSettings) -> int:
    with torch.device("meta"):
        return Backbone(settings).width


def _load(base: nn.Module, weights: dict[str, Tensor], settings: BackboneSettings, origin: str) -> None:
    expected = base.state_dict()
    counted = {name for name in expected if name.endswith("num_batches_tracked")}  # not kept by every library
    weights = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    with torch.device("meta"):
        elsewhere = whole_model(settings).state_dict().keys()
    missing = sorted(expected.keys() - weights.keys() - counted)
    unknown = sorted(weights.keys() - expected.keys() - elsewhere)
    misshapen = sorted(name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape)
    for names, what in ((missing, "lack"), (unknown, "have besides"), (misshapen, "have in another shape")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise RunError(
                f"{origin} holds weights of another architecture than {settings.model}: they {what} {names[0]}{more}"
            )
    kept = {name: value.float() for name, value in weights.items() if name in expected}
    base.load_state_dict(kept | {name: expected[name] for name in counted})


def _read_keys(path: Path) -> list[str]:
    try:
        with safe_open(path, "pt") as file:
            keys: list[str] = list(file.keys())
    except FileNotFoundError:
        raise RunError(f"there are no weights at {path}: check --weights, or give --weights none") from None
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} is not a safetensors file: {error}") from None
    return [key for key in keys if not key.endswith("num_batches_tracked")]


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = load_file(path)
    return weights


def _fetch(model: str) -> tuple[dict[str, Tensor], str]:
    """ImageNet weights from the hub; every failure becomes one sentence."""
    place = source = "the hub"
    try:
        if model == SQUEEZENET:
            from torchvision.models import SqueezeNet1_1_Weights

            weights = SqueezeNet1_1_Weights.IMAGENET1K_V1
            place = source = weights.url
            fetched: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
                weights.url, progress=False, check_hash=True, map_location="cpu"
            )
            return fetched, source
        import timm
        from huggingface_hub import constants

        config = timm.get_pretrained_cfg(model)
        if config is None or not config.has_weights:
            raise RecipeError(f"timm has no pretrained weights of {model}: give --weights FILE.safetensors or none")
        place = constants.ENDPOINT
        source = f"{place}/{config.hf_hub_id}" if config.hf_hub_id else str(config.url)
        if config.hf_hub_id and not _is_cached(config.hf_hub_id):
            _reach(place)
        whole = timm.create_model(model, pretrained=True)
    except RecipeError:
        raise
    except Exception as error:
        raise DownloadError(
            f"the ImageNet weights of {model} cannot be fetched from {place} ({_reason(error)}); give them as a file "
            "with --weights FILE.safetensors, or begin with random ones with --weights none"
        ) from error
    return dict(whole.state_dict()), source


def _is_cached(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, name) for name in ("model.safetensors", "pytorch_model.bin"))
    return any(isinstance(path, str) for path in found)


def _reach(url: str) -> None:
    """Check within seconds that the hub answers: its own client tries for more than a minute."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=_ANSWER_WITHIN_S):  # noqa: S310  the hub's address
            pass
    except HTTPError:
        pass  # an answer


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
