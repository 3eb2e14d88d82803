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
        `stem_width`, the widths and numbers of blocks of the stages, whether colours are made relative, and what the
        network gives besides the logit.

    Notes
    -----
    With `space_to_depth`, squares of so many pixels become channels before the first convolution: 8-bit kernels do
    best with few places and many channels.
    """

    def __init__(self, settings: ResidualCnnSettings) -> None:
        super().__init__()
        self.colour = RelativeColour() if settings.relative_colour else CentredColour()
        self.takes_reference = settings.relative_colour
        depth = settings.space_to_depth
        self.unshuffle: nn.Module = nn.PixelUnshuffle(depth) if depth > 1 else nn.Identity()
        layers: list[nn.Module] = [
            nn.Conv2d(3 * depth**2, settings.stem_width, 3, stride=2 if depth == 1 else 1, padding=1, bias=False),
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
        self.cell = CellTower() if settings.cell_head else None
        self.novelty = Novelty(width, settings.prototypes) if settings.prototypes else None

    def forward(self, cells: Tensor, reference: Tensor | None = None) -> Scores:
        """Score cells.

        Parameters
        ----------
        cells : Tensor
            float [N, 3, S, S], RGB in 0..1.
        reference : Tensor, optional
            float [N, 3], the colour that is taken as the cell's own, such as that of its field's typical cell; where
            it is 0, and where none is given, the cell's own is found.
        """
        relative = self.colour(cells, reference)
        features = self.features(self.unshuffle(relative).contiguous(memory_format=torch.channels_last))
        evidence = self.head(self.dropout(features)).float()[:, 0]
        cell = self.cell(cells, relative) if self.cell is not None else None
        novelty = None
        if self.novelty is not None and not self.training:
            novelty = self.novelty(features.float().mean((2, 3)))
        return Scores(evidence.mean((1, 2)), evidence, cell, novelty)

    def pooled(self, cells: Tensor, reference: Tensor | None = None) -> Tensor:
        """Return each cell's mean features, [N, width], which novelty is measured on."""
        relative = self.unshuffle(self.colour(cells, reference)).contiguous(memory_format=torch.channels_last)
        return torch.as_tensor(self.features(relative).float().mean((2, 3)))


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


class CellTower(nn.Module):
    """Whether a picture shows one red cell: a network of its own, on means of 4 x 4 pixels and how much these vary.

    It shares nothing with what looks for parasites. Where both had the same features, what tells white cells and
    platelets from red cells told them from parasites of other laboratories as well, which are as violet and as large.
    """

    POOL_PX = 4
    WIDTHS = (32, 48)

    def __init__(self) -> None:
        super().__init__()
        first, width = self.WIDTHS
        self.layers = nn.Sequential(
            nn.Conv2d(7, first, 3, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.head = nn.Linear(width, 1)

    def forward(self, cells: Tensor, relative: Tensor) -> Tensor:
        """Map cells, float [N, 3, S, S] in 0..1, and their relative colours to logits, [N]."""
        with torch.autocast(cells.device.type, enabled=False):
            light = cells.float().mean(1, keepdim=True)
            mean = F.avg_pool2d(light, self.POOL_PX)
            variance = (F.avg_pool2d(light * light, self.POOL_PX) - mean * mean).clamp(min=0)
            colours = F.avg_pool2d(cells.float(), self.POOL_PX) * 2 - 1
            seen = torch.cat([colours, F.avg_pool2d(relative, self.POOL_PX), (variance + 1e-6).sqrt() * 8], 1)
        found: Tensor = self.head(self.layers(seen.contiguous(memory_format=torch.channels_last)).mean((2, 3)))
        return found.float()[:, 0]


class Novelty(nn.Module):
    """How unlike the training cells a cell is, 0 to 1, by its features' distance to the nearest of kept prototypes.

    Features are standardised by the training cells'; a distance of `middle`, which few cells of unseen patients exceed,
    is 0.5. Until it is fitted every cell is 0.5.

    Parameters
    ----------
    width : int
        Number of features.
    count : int
        Number of prototypes.
    """

    STEEPNESS = 6.0
    """Half more than `middle` is 0.92, half of it 0.015."""

    mean: Tensor
    std: Tensor
    prototypes: Tensor
    middle: Tensor

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("prototypes", torch.zeros(count, width))
        self.register_buffer("middle", torch.tensor(0.0))

    def distance(self, features: Tensor) -> Tensor:
        """Map features, [N, width], to distances, [N]."""
        # A product rather than differences of all pairs: N x count x width numbers would leave the cache.
        scaled = (features - self.mean) / self.std
        own = (scaled**2).sum(1, keepdim=True)
        squared = own - 2 * scaled @ self.prototypes.T + (self.prototypes**2).sum(1)[None, :]
        return squared.amin(1).clamp(min=0).sqrt()

    def forward(self, features: Tensor) -> Tensor:
        """Map features, [N, width], to novelty, [N]."""
        return torch.sigmoid(self.STEEPNESS * torch.log((self.distance(features) + 1e-3) / (self.middle + 1e-3)))

    def fit(self, features: Tensor, *, seed: int = 0, rounds: int = 15) -> None:
        """Choose the prototypes: the middles of so many clusters of the training cells' features (k-means)."""
        generator = torch.Generator().manual_seed(seed)
        features = features.double()
        self.mean.copy_(features.mean(0))
        self.std.copy_(features.std(0).clamp(min=1e-4))
        scaled = (features - self.mean) / self.std
        count = len(self.prototypes)
        middles = scaled[torch.randperm(len(scaled), generator=generator)[:count]].clone()
        if len(middles) < count:  # fewer cells than prototypes: each is its own
            middles = middles[torch.arange(count) % len(middles)]
        for _ in range(rounds):
            nearest = torch.cdist(scaled, middles).argmin(1)
            sums = torch.zeros_like(middles).index_add_(0, nearest, scaled)
            counts = torch.bincount(nearest, minlength=count)[:, None]
            middles = torch.where(counts > 0, sums / counts.clamp(min=1), middles)
        self.prototypes.copy_(middles)


class CentredColour(nn.Module):
    """RGB in 0..1 scaled to -1..1, so that colours stay absolute."""

    def forward(self, cells: Tensor, reference: Tensor | None = None) -> Tensor:
        """Map float [N, 3, S, S] to the same shape; a reference has no say."""
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

    def forward(self, cells: Tensor, given: Tensor | None = None) -> Tensor:
        """Map float [N, 3, S, S] in 0..1 to relative colours in -1..1 of the same shape; 0 is the reference.

        `given`, [N, 3], takes the place of the cell's own prevailing colour where it is above 0.
        """
        # Half precision would lose small differences of colour.
        with torch.autocast(cells.device.type, enabled=False):
            cells = cells.float()
            reference = self.reference(cells)
            if given is not None:
                other = given.float()[:, :, None, None]
                reference = torch.where(other > 0, other, reference)
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
