"""Where in a cell a model's score comes from, as a signed map in logit units.

A model that has evidence gives the map itself, exactly: its mean is the logit. For the others it is Grad-CAM (Selvaraju
et al. 2017, doi 10.1109/ICCV.2017.74) by captum, of the logit of `parasitized`, without the ReLU that would hide what
speaks against it, and times the number of places. Where the rest of the network is linear its mean is then the
logit less the bias; else it is a first-order estimate of that, which is why the method stands beside each map.

Positive speaks for parasitized, negative for uninfected. Nothing is scaled by a map's own content.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from giemsa.errors import ModelError, UsageError
from giemsa.model import EMBEDDED_PATH, Model, open_model

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

CLASS = "parasitized"
_GRADIENT_BATCH = 16


@dataclass(frozen=True, slots=True)
class Method:
    """How maps are made.

    Attributes
    ----------
    name : str
        `evidence` or `Grad-CAM`.
    layer : str
        The layer whose activations are looked at; empty for evidence, which is the network's last map.
    """

    name: str
    layer: str = ""

    def __str__(self) -> str:
        where = f" at layer {self.layer}" if self.layer else ""
        return f"{self.name}{where}, for the logit of {CLASS}"


class Explainer(Protocol):
    """Makes maps of cells."""

    @property
    def method(self) -> Method:
        """How."""

    def explain(self, cells: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 [N, S, S, 3] to float32 [N, h, w], signed, in logit units."""


class EvidenceExplainer:
    """Takes the model's own map."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.method = Method("evidence")

    def explain(self, cells: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 [N, S, S, 3] to float32 [N, h, w]."""
        evidence = self._model.run(cells).evidence
        assert evidence is not None
        return evidence


class GradCamExplainer:
    """Grad-CAM of a network, by captum.

    Parameters
    ----------
    network : Module
        As `build_network` makes it, with its weights.
    layer : str, optional
        A module's name, as `giemsa recipes NAME` lists them; by default the last map of features.

    Raises
    ------
    UsageError
        If there is no such layer.
    """

    def __init__(self, network: nn.Module, layer: str | None = None) -> None:
        self._network = network.eval()
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]  # else it would overwrite what is looked at
        modules = dict(network.named_modules())
        chosen = layer if layer is not None else _last_map(network)
        if chosen not in modules or not chosen:
            nearest = difflib.get_close_matches(chosen, modules, n=3, cutoff=0.3)
            known = f"; the nearest names are {', '.join(nearest)}" if nearest else ""
            raise UsageError(f"the network has no layer {chosen!r}{known}: `giemsa recipes NAME` lists them")
        self._layer = modules[chosen]
        self.method = Method("Grad-CAM", chosen)

    def explain(self, cells: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 [N, S, S, 3] to float32 [N, h, w].

        Raises
        ------
        UsageError
            If the layer's output is no map.
        """
        parts = [
            self._explain_some(cells[start : start + _GRADIENT_BATCH])
            for start in range(0, len(cells), _GRADIENT_BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, 1, 1), np.float32)

    def _explain_some(self, cells: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch
        from captum.attr import LayerGradCam

        from giemsa.lab.training.loop import to_rgb

        rgb = to_rgb(torch.from_numpy(np.array(cells)))
        with torch.enable_grad():
            method = LayerGradCam(lambda given: self._network(given).logit, self._layer)
            found: Any = method.attribute(rgb.requires_grad_(), relu_attributions=False)
        if not isinstance(found, torch.Tensor) or found.ndim != 4:
            raise UsageError(f"the layer {self.method.layer} gives no map of the cell; take one with height and width")
        places = found.shape[2] * found.shape[3]
        maps: NDArray[np.float32] = found.detach()[:, 0].mul(places).numpy()
        return maps


def choose_explainer(path: str | os.PathLike[str] | None, *, layer: str | None = None) -> tuple[Model, Explainer]:
    """Open a model and what explains it.

    Parameters
    ----------
    path : path or None
        A run folder, an ONNX file, or None for the embedded model.
    layer : str, optional
        Asks for Grad-CAM at this layer, even where there is evidence.

    Raises
    ------
    ModelError
        If the model has no evidence, or a layer is asked for, and its weights are not at hand.
    """
    model = open_model(path)
    if model.has_evidence and layer is None:
        return model, EvidenceExplainer(model)
    network = _load_network(model.path.parent)
    if network is None:
        why = "has no evidence of its own" if not model.has_evidence else "was asked for a layer"
        raise ModelError(
            f"the model {model.path} {why}, and Grad-CAM needs the weights of its run: give the run's folder as --model"
        )
    return model, GradCamExplainer(network, layer)


def extent(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Say over how much of the picture what speaks for parasitized is spread.

    Parameters
    ----------
    maps : (N, h, w) ndarray
        Signed maps.

    Returns
    -------
    (N,) ndarray of float64
        (sum m)^2 / (n sum m^2) of the positive part m: 1 where it is even, 1/n where it is all in one of n places, 0
        where there is none.
    """
    positive = np.clip(maps, 0, None).reshape(len(maps), -1).astype(np.float64)
    squares = (positive**2).sum(1) * positive.shape[1]
    spread: NDArray[np.float64] = np.divide(
        positive.sum(1) ** 2, squares, out=np.zeros(len(maps), np.float64), where=squares > 0
    )
    return spread


def _load_network(folder: Path) -> nn.Module | None:
    """Load the network of a run, or the embedded one; None where there are no weights."""
    weights, recipe = folder / "weights.safetensors", folder / "recipe.toml"
    if not weights.is_file() or not recipe.is_file():
        return None
    if folder == EMBEDDED_PATH.parent:
        from giemsa.lab.networks.building import build_network
        from giemsa.lab.recipes import load_recipe
        from giemsa.lab.training.runs import load_weights

        read = load_recipe(recipe)
        network = build_network(read.network, read.input_size_px)
        load_weights(network, weights)
        return network
    from giemsa.lab.training.runs import open_run

    return open_run(folder).load_network()


def _last_map(network: nn.Module) -> str:
    """Name the layer with the last map of features: what ends a backbone, or the last activation before a pooling."""
    from torch import nn

    from giemsa.lab.networks.sequential_cnn import SequentialCnn

    if isinstance(network, SequentialCnn):
        return [f"features.{name}" for name, one in network.features.named_children() if isinstance(one, nn.ReLU)][-1]
    from giemsa.lab.networks.building import ResidualCnn

    return "features" if isinstance(network, ResidualCnn) else "activation"
