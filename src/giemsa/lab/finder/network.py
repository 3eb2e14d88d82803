"""The network: three scales, out of which come, at half the resolution, middles, sides and kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from giemsa.lab.finder.scenes import CELL_PX
from giemsa.smear.finding import KINDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRIDE: Final = 2
_SIGMA: Final = 0.11  # of the spot that marks a middle, in diameters
_LEAST_SIGMA: Final = 0.5  # pixels of the output, for platelets


class Finder(nn.Module):
    """108,000 weights; a red cell measures `CELL_PX` in its input, float32 [N, 3, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 16, 5, 2)
        self.fine = block(16, 24)
        self.down1 = nn.Sequential(block(24, 40, stride=2), block(40, 40))
        self.down2 = nn.Sequential(block(40, 48, stride=2), block(48, 48), block(48, 48))
        self.lateral1, self.up1 = nn.Conv2d(48, 40, 1), block(40, 40)
        self.lateral0, self.up0 = nn.Conv2d(40, 24, 1), block(24, 24)
        self.middle, self.sides, self.kind = nn.Conv2d(24, 1, 1), nn.Conv2d(24, 4, 1), nn.Conv2d(24, len(KINDS), 1)
        assert self.middle.bias is not None
        nn.init.constant_(self.middle.bias, -3.0)

    def forward(self, density: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of middles [N, h, w], sides in diameters [N, 4, h, w], logits of kinds [N, K, h, w]."""
        fine = self.fine(self.stem(density))
        mid = self.down1(fine)
        coarse = self.down2(mid)
        mid = self.up1(mid + F.interpolate(self.lateral1(coarse), scale_factor=2.0, mode="nearest"))
        fine = self.up0(fine + F.interpolate(self.lateral0(mid), scale_factor=2.0, mode="nearest"))
        return self.middle(fine)[:, 0], F.softplus(self.sides(fine)), self.kind(fine)


class Exported(nn.Module):
    """What the ONNX file holds: probabilities in place of logits."""

    def __init__(self, finder: Finder) -> None:
        super().__init__()
        self.finder = finder

    def forward(self, density: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Middles [N, h, w] 0 to 1, sides [N, 4, h, w] in diameters, kinds [N, K, h, w] that sum to 1."""
        middle, sides, kind = self.finder(density)
        return torch.sigmoid(middle), sides, torch.softmax(kind, dim=1)


def block(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution with its norm."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def targets(
    boxes: NDArray[np.float32], kinds: NDArray[np.int64], shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """What the network should say of a scene.

    Returns
    -------
    tuple of ndarray
        Spots [h, w], 1 at middles; sides [4, h, w]; kinds [h, w], -1 where no middle is near.
    """
    high, wide = shape[0] // STRIDE, shape[1] // STRIDE
    spots, sides = np.zeros((high, wide), np.float32), np.zeros((4, high, wide), np.float32)
    kind_map = np.full((high, wide), -1, np.int64)
    order = np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    for (x0, y0, x1, y1), kind in zip(boxes[order] / STRIDE, kinds[order], strict=True):
        at_x, at_y = (x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2
        sigma = max(_LEAST_SIGMA, _SIGMA * float(np.sqrt((x1 - x0) * (y1 - y0))))
        row, column = int(np.clip(round(float(at_y)), 0, high - 1)), int(np.clip(round(float(at_x)), 0, wide - 1))
        reach = int(3 * sigma + 2)
        window = np.s_[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        rows = np.arange(window[0].start, min(high, window[0].stop), dtype=np.float32)
        columns = np.arange(window[1].start, min(wide, window[1].stop), dtype=np.float32)
        y, x = np.meshgrid(rows, columns, indexing="ij")
        near = np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * sigma**2))
        near[row - window[0].start, column - window[1].start] = 1
        owned = (near > 0.4) & (near >= spots[window])
        kind_map[window][owned] = kind
        values = np.stack([x + 0.5 - x0, y + 0.5 - y0, x1 - x - 0.5, y1 - y - 0.5]) * STRIDE / CELL_PX
        part = sides[:, window[0], window[1]]
        part[:, owned] = values[:, owned]
        spots[window] = np.maximum(spots[window], near)
    return spots, sides, kind_map


def loss_of(
    said: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    wanted: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    known: torch.Tensor,
) -> torch.Tensor:
    """Focal loss of middles (Zhou et al. 2019, arXiv 1904.07850), distances of sides, entropy of kinds."""
    middle, sides, kind = said
    spots, wanted_sides, kinds = wanted
    p = torch.sigmoid(middle).clamp(1e-4, 1 - 1e-4)
    peak = (spots >= 0.999).float()
    right = peak * (1 - p) ** 2 * p.log()
    none = (1 - peak) * (1 - spots) ** 4 * p**2 * (1 - p).log()
    spot_loss = -((right + none) * known).sum() / (peak * known).sum().clamp(min=1)
    there = (kinds >= 0).float() * known
    side_loss = ((sides - wanted_sides).abs().sum(dim=1) * there).sum() / there.sum().clamp(min=1)
    entropy = F.cross_entropy(kind, kinds.clamp(min=0), reduction="none")
    return spot_loss + side_loss + 0.5 * (entropy * there).sum() / there.sum().clamp(min=1)
