"""The networks that recipes name, built from their settings.

A network takes cells as float RGB in 0..1, [N, 3, S, S], and gives a `Scores`: a logit for each cell and, where
it ends in a 1x1 convolution and a mean, the map that the logit is the mean of (evidence, exact and for free;
Zhou et al. 2016, doi 10.1109/CVPR.2016.319).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from giemsa.errors import RecipeError
from giemsa.lab.networks.scores import Scores
from giemsa.lab.networks.sequential_cnn import SequentialCnn
from giemsa.lab.recipes import BackboneSettings, NetworkSettings, Recipe, SequentialCnnSettings

if TYPE_CHECKING:
    from giemsa.lab.recipes import ResidualCnnSettings

__all__ = ["ResidualCnn", "Scores", "build_network", "check_network", "count_parameters"]


def build_network(settings: NetworkSettings, input_size_px: int) -> nn.Module:
    """Network that a recipe describes, with weights from PyTorch's global generator.

    Parameters
    ----------
    settings : NetworkSettings
        The recipe's `network`.
    input_size_px : int
        The recipe's; dense layers depend on it.

    Returns
    -------
    Module
        Takes float [N, 3, S, S], RGB in 0..1, and gives `Scores`. Pretrained weights are loaded by
        `giemsa.lab.networks.pretrained`, at the beginning of a training and never here.

    Raises
    ------
    RecipeError
        If timm does not know a backbone, or it has no such level.
    """
    if isinstance(settings, SequentialCnnSettings):
        return SequentialCnn(settings, input_size_px)
    if isinstance(settings, BackboneSettings):
        from giemsa.lab.networks.backbones import Backbone

        return Backbone(settings)
    return ResidualCnn(settings)


def check_network(recipe: Recipe) -> None:
    """Refuse a recipe whose cells are too small for its network, without computing anything.

    Raises
    ------
    RecipeError
        If the cells cannot be pooled as often as the network does.
    """
    if not isinstance(recipe.network, BackboneSettings):
        return  # ours never runs out of pixels, and what the notebooks' can pool is checked as the recipe is read
    with torch.device("meta"):
        network = build_network(recipe.network, recipe.input_size_px).eval()
        size = recipe.input_size_px
        try:
            network(torch.zeros(1, 3, size, size))
        except RuntimeError as error:
            raise RecipeError(
                f"recipe {recipe.name}: input_size_px = {size} is smaller than its network can pool ({error}); give "
                "larger cells"
            ) from None


def count_parameters(network: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


class ResidualCnn(nn.Module):
    """A small residual CNN (He et al. 2016, doi 10.1109/CVPR.2016.90), by default on relative colours.

    Parameters
    ----------
    settings : ResidualCnnSettings
        `stem_width`, the widths and numbers of blocks of the stages, and whether colours are made relative.
    """

    def __init__(self, settings: ResidualCnnSettings) -> None:
        super().__init__()
        self.colour = RelativeColour() if settings.relative_colour else CentredColour()
        layers: list[nn.Module] = [
            nn.Conv2d(3, settings.stem_width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(settings.stem_width),
            nn.ReLU(),
        ]
        width = settings.stem_width
        for stage, (stage_width, blocks) in enumerate(zip(settings.widths, settings.blocks, strict=True)):
            for block in range(blocks):
                layers.append(ResidualBlock(width, stage_width, stride=2 if stage > 0 and block == 0 else 1))
                width = stage_width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout2d(settings.dropout)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, cells: Tensor) -> Scores:
        """Scores of cells, float [N, 3, S, S], RGB in 0..1."""
        relative = self.colour(cells).contiguous(memory_format=torch.channels_last)
        evidence = self.head(self.dropout(self.features(relative))).float()[:, 0]
        return Scores(evidence.mean((1, 2)), evidence)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.past: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.past = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        else:
            nn.init.zeros_(self.norm2.weight)  # a block starts as the identity (Goyal et al. 2017, arXiv 1706.02677)

    def forward(self, x: Tensor) -> Tensor:
        """Features, [N, width, H / stride, W / stride], of features, [N, width_in, H, W]."""
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(inner)) + self.past(x))


class CentredColour(nn.Module):
    """RGB in 0..1 scaled to -1..1, so that colours stay absolute."""

    def forward(self, cells: Tensor) -> Tensor:
        """Scaled cells, float [N, 3, S, S], of the same shape."""
        return cells.float() * 2 - 1


class RelativeColour(nn.Module):
    """Colours relative to the cell's prevailing colour, so that stain, light and camera matter less.

    The reference is the mode of the colours in the picture's middle, found by two steps of mean shift (Comaniciu and
    Meer 2002, doi 10.1109/34.1000236) on 4 x 4 averages. A median would do as well but sorting is slow in ONNX.
    """

    POOL_PX = 4
    MIDDLE = 0.5
    """Standard deviation of the central window, in units of half the picture's width."""
    BLACK_BELOW = 0.1
    BANDWIDTHS = (0.15, 0.10)
    SOFTENING = 0.15
    """Added to the reference in the denominator, so that the noise of very dark cells is not amplified."""

    def forward(self, cells: Tensor) -> Tensor:
        """Relative colours in -1..1, where 0 is the reference, of cells, float [N, 3, S, S] in 0..1."""
        # Half precision would lose small differences of colour.
        with torch.autocast(cells.device.type, enabled=False):
            cells = cells.float()
            reference = self.reference(cells)
            return ((cells - reference) / (reference + self.SOFTENING)).clamp(-1, 1)

    def reference(self, cells: Tensor) -> Tensor:
        """Prevailing colour of each cell, [N, 3, 1, 1]."""
        small = F.avg_pool2d(cells, self.POOL_PX)
        size = small.shape[-1]
        place = (torch.arange(size, device=cells.device) + 0.5) / size * 2 - 1
        middle = torch.exp(-(place[:, None] ** 2 + place[None, :] ** 2) / (2 * self.MIDDLE**2))[None, None]
        weight = middle * (small.amax(1, keepdim=True) > self.BLACK_BELOW).float() + 1e-4
        reference = _weighted_mean(small, weight)
        for bandwidth in self.BANDWIDTHS:
            distance = ((small - reference) ** 2).sum(1, keepdim=True)
            near = weight * torch.exp(-distance / (2 * bandwidth**2)) + 1e-6 * middle
            reference = _weighted_mean(small, near)
        return reference


def _weighted_mean(pictures: Tensor, weight: Tensor) -> Tensor:
    total = weight.sum((2, 3), keepdim=True)
    return (pictures * weight).sum((2, 3), keepdim=True) / total
