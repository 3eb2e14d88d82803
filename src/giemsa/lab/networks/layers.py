"""The layers of a recipe's network, with their output shapes and numbers of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from giemsa.lab.networks.building import ResidualCnn, build_network, count_parameters

if TYPE_CHECKING:
    from giemsa.lab.recipes import Recipe


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes
    ----------
    name : str
        Its place in the network, as `giemsa explain --layer` takes it.
    kind : str
        What it is, in PyTorch's words.
    shape : tuple of int
        Of its output, for one cell: height, width, channels; or channels alone.
    parameters : int
        Number of its weights.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def list_layers(recipe: Recipe) -> list[Layer]:
    """Layers of a network in the order in which they compute.

    Activations, and whatever else has no weights and changes no shape, are left out; dropout is not.
    """
    network = _build(recipe)
    device = next(network.parameters()).device
    layers: list[Layer] = []
    handles = [
        module.register_forward_hook(_hook(name, layers), with_kwargs=False)
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, recipe.input_size_px, recipe.input_size_px, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return layers


def count_recipe_parameters(recipe: Recipe) -> int:
    """Number of weights of a recipe's network, counted without allocating any."""
    with torch.device("meta"):
        return count_parameters(build_network(recipe.network, recipe.input_size_px))


def _build(recipe: Recipe) -> nn.Module:
    with torch.device("meta"):
        network = build_network(recipe.network, recipe.input_size_px)
    if isinstance(network, ResidualCnn):  # its half-precision guard knows no meta device, and it is small
        network = build_network(recipe.network, recipe.input_size_px)
    return network.eval()


def _hook(name: str, layers: list[Layer]) -> Any:  # noqa: ANN401  a hook of PyTorch's own signature
    def note(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        parameters = sum(parameter.numel() for parameter in module.parameters())
        if parameters or output.shape != given[0].shape or isinstance(module, nn.Dropout):
            shape = tuple(output.shape[1:])
            shape = (*shape[1:], shape[0]) if len(shape) == 3 else shape
            layers.append(Layer(name, type(module).__name__, shape, parameters))

    return note
