"""Where in a cell a model's score comes from, as a signed map in logit units.

A model that outputs evidence gives the map itself, exactly: its mean is the logit. For other models the map is Grad-CAM
(Selvaraju et al. 2017, doi 10.1109/ICCV.2017.74) by captum, of the logit of `parasitized`, without the ReLU, which
would hide evidence against it, and times the number of positions. Where the rest of the network is linear, the map's
mean is the logit less the bias; elsewhere it is a first-order estimate of that. Each map is therefore shown with its
method.

Positive values are evidence for parasitized, negative ones for uninfected. No map is scaled by its own content.
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
    """Method by which maps are made.

    Attributes
    ----------
    name : str
        `evidence` or `Grad-CAM`.
    layer : str
        The layer whose activations are used; empty for evidence, which is the network's last map.
    """

    name: str
    layer: str = ""

    def __str__(self) -> str:
        where = f" at layer {self.layer}" if self.layer else ""
        return f"{self.name}{where}, for the logit of {CLASS}"


class Explainer(Protocol):
    """What makes maps of cells."""

    @property
    def method(self) -> Method:
        """Method by which its maps are made."""

    def explain(self, cells: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Maps, float32 [N, h, w], signed, in logit units, of cells, uint8 [N, S, S, 3]."""


class EvidenceExplainer:
    """The model's own evidence."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.method = Method("evidence")

    def explain(self, cells: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Maps, float32 [N, h, w], of cells, uint8 [N, S, S, 3]."""
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
                module.inplace = False  # type: ignore[assignment]  # else it would overwrite the activations
        modules = dict(network.named_modules())
        chosen = layer if layer is not None else _last_map(network)
        if chosen not in modules or not chosen:
            nearest = difflib.get_close_matches(chosen, modules, n=3, cutoff=0.3)
            known = f"; the nearest names are {', '.join(nearest)}" if nearest else ""
            raise UsageError(f"the network has no layer {chosen!r}{known}: `giemsa recipes NAME` lists them")
        self._layer = modules[chosen]
        self.method = Method("Grad-CAM", chosen)

    def explain(self, cells: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Maps, float32 [N, h, w], of cells, uint8 [N, S, S, 3].

        Raises
        ------
        UsageError
            If the layer's output is not a map.
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
            raise UsageError(
                f"the layer {self.method.layer} gives no map of the cell; choose one whose output has height and width"
            )
        places = found.shape[2] * found.shape[3]
        maps: NDArray[np.float32] = found.detach()[:, 0].mul(places).numpy()
        return maps


def choose_explainer(path: str | os.PathLike[str] | None, *, layer: str | None = None) -> tuple[Model, Explainer]:
    """A model and the explainer that suits it.

    Parameters
    ----------
    path : path or None
        A run folder, an ONNX file, or None for the embedded model.
    layer : str, optional
        Grad-CAM at this layer, even where the model has evidence.

    Raises
    ------
    ModelError
        If Grad-CAM is needed, and the model's weights are not beside it.
    """
    model = open_model(path)
    if model.has_evidence and layer is None:
        return model, EvidenceExplainer(model)
    network = _load_network(model.path.parent)
    if network is None:
        why = "has no evidence of its own" if not model.has_evidence else "is to be explained at a layer"
        raise ModelError(
            f"the model {model.path} {why}, and Grad-CAM needs the weights of its run; give the run's folder as --model"
        )
    return model, GradCamExplainer(network, layer)


def extent(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of the picture over which the evidence for parasitized is spread.

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
    """Network of a run, or the embedded one; None where there are no weights."""
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
    """Name of the layer with the last feature map: a backbone's end, or the last activation before pooling."""
    from torch import nn

    from giemsa.lab.networks.sequential_cnn import SequentialCnn

    if isinstance(network, SequentialCnn):
        return [f"features.{name}" for name, one in network.features.named_children() if isinstance(one, nn.ReLU)][-1]
    from giemsa.lab.networks.building import ResidualCnn

    return "features" if isinstance(network, ResidualCnn) else "activation"
