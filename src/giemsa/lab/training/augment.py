"""Disturb training cells, a whole batch at a time, on whatever device the batch is on.

A classifier of cut-out cells learns what is easiest: the outline of the cut-out, the black around it, the
stain of one laboratory. Each disturbance here takes one of these cues away. They run on tensors, after
decoding and resizing, because on two cores a picture-at-a-time augmentation costs more than the network.

Colour is changed in optical density (Beer-Lambert: the density of a stain is proportional to how much of it
the light passes), as in Tellez et al. 2019, doi 10.1016/j.media.2019.101544.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from giemsa.lab.recipes import AugmentationSettings

BLACK_BELOW = 8 / 255
"""A pixel whose largest channel is below this is outside of the cell (data of the NIH are cut out onto black)."""

_CHANNELS = 3


def cell_mask(cells: Tensor) -> Tensor:
    """Where a cut-out cell is.

    Parameters
    ----------
    cells : Tensor
        float, [N, 3, H, W], RGB in 0..1.

    Returns
    -------
    Tensor
        float, [N, 1, H, W], 1 on the cell and 0 on the black around it.
    """
    return (cells.amax(1, keepdim=True) >= BLACK_BELOW).to(cells.dtype)


class Augment:
    """Turn uint8 training cells into disturbed float cells.

    Parameters
    ----------
    settings : AugmentationSettings
        Probabilities and strengths, from the recipe; a strength of 0 switches its disturbance off.
    cut_out : bool
        Whether cells stand on black; else they stand in their fields, and what is around them stays.

    Notes
    -----
    All randomness comes from the generator that is passed with each batch: the same generator state gives
    the same cells.
    """

    def __init__(self, settings: AugmentationSettings, *, cut_out: bool = True) -> None:
        self.settings = settings
        self.cut_out = cut_out

    def __call__(self, cells: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Disturb a batch.

        Parameters
        ----------
        cells : Tensor
            uint8, [N, H, W, 3], RGB.
        labels : Tensor
            [N], 1 for parasitized. Neighbours are drawn from the uninfected cells of the batch.
        generator : torch.Generator
            On the same device as `cells`.

        Returns
        -------
        Tensor
            float32, [N, 3, H, W], RGB in 0..1.
        """
        draw = _Draw(generator, len(cells), cells.device)
        rgb = cells.permute(0, 3, 1, 2).float().div(255)
        mask = cell_mask(rgb) if self.cut_out else torch.ones_like(rgb[:, :1])
        if self.settings.moves:
            rgb, mask = self._move(rgb, mask, draw)
        if self.settings.jitters:
            rgb = self._jitter(rgb, draw)
        if not self.settings.disturbs:
            return rgb
        disturbed = (1 - draw.chance(self.settings.clean_probability)).nonzero()[:, 0]
        part, inside, draw = rgb[disturbed], mask[disturbed], draw.of(len(disturbed))
        part = self._stain(part, inside, draw)
        if self.cut_out:
            part = self._surroundings(part, inside, labels[disturbed], draw)
        part = self._optics(part, draw)
        return rgb.index_copy(0, disturbed, part.clamp_(0, 1))

    def _move(self, rgb: Tensor, mask: Tensor, draw: _Draw) -> tuple[Tensor, Tensor]:
        """Flip, turn, scale, stretch and shift. Without the affine part, a dihedral move is exact to the pixel."""
        s = self.settings
        affine = draw.chance(s.affine_probability)
        quarters = draw.below(4).float() * float(s.quarter_turns)
        angle = quarters * (math.pi / 2) + affine * draw.uniform(-math.pi / 4, math.pi / 4)
        scale = torch.exp(
            affine * (draw.normal(s.scale) + s.scale / 3)
        )  # rather smaller: what leaves the frame is lost
        stretch = torch.exp(affine * draw.normal(s.stretch))
        flip = 1 - 2 * draw.chance(0.5) * float(s.quarter_turns)
        if s.rotation_degrees:
            angle = angle + draw.uniform(-math.radians(s.rotation_degrees), math.radians(s.rotation_degrees))
        cos, sin = torch.cos(angle), torch.sin(angle)
        shift = affine[:, None] * draw.uniform(-s.shift, s.shift, 2)
        theta = torch.stack(
            [
                torch.stack([flip * cos * scale * stretch, -sin * scale * stretch, shift[:, 0]], 1),
                torch.stack([flip * sin * scale / stretch, cos * scale / stretch, shift[:, 1]], 1),
            ],
            1,
        )
        both = torch.cat([rgb, mask], 1)
        moved = _warp(both, theta, beyond="zeros" if self.cut_out else "reflection")
        return moved[:, :_CHANNELS], moved[:, _CHANNELS:].round()

    def _jitter(self, rgb: Tensor, draw: _Draw) -> Tensor:
        """Vary brightness, contrast and saturation of whole pictures, as torchvision's ColorJitter does."""
        s = self.settings
        gains = [
            1 + draw.uniform(-strength, strength)[:, None, None, None]
            for strength in (s.brightness, s.plain_contrast, s.saturation)
        ]
        rgb = (rgb * gains[0]).clamp(0, 1)
        weights = torch.tensor([0.299, 0.587, 0.114], device=rgb.device)[None, :, None, None]  # ITU-R BT.601
        rgb = torch.lerp((rgb * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True), rgb, gains[1]).clamp(0, 1)
        return torch.lerp((rgb * weights).sum(1, keepdim=True), rgb, gains[2]).clamp(0, 1)

    @staticmethod
    def _ground(draw: _Draw) -> Tensor:
        """Draw a colour for the empty slide: bright, of a slight tint."""
        bright = draw.uniform(0.72, 1.0)[:, None]
        tint = draw.normal(0.035, _CHANNELS)
        return (bright + tint).clamp(0, 1)[:, :, None, None]

    def _stain(self, rgb: Tensor, mask: Tensor, draw: _Draw) -> Tensor:
        """Stain cells otherwise, in optical density.

        How dense the cell is and how dense what lies in it are two things: haemoglobin takes up eosin, chromatin
        azure. So the cell's mean density and the differences from it get gains of their own. Then come
        what goes slowly across a cell and is never a parasite: a pale middle, a rim of another colour
        (refraction, chromatic aberration), unevenness.
        """
        s = self.settings
        if not s.stain:
            return rgb
        chosen = draw.chance(s.stain_probability).nonzero()[:, 0]
        part, inside, draw = rgb[chosen], mask[chosen], draw.of(len(chosen))
        density = part.clamp(min=1 / 255).log_().neg_()
        mean = _mean_colour(density, inside)
        cell_gain = torch.exp(draw.normal(s.stain * 2, 1) + draw.normal(s.stain, _CHANNELS))[:, :, None, None]
        parasite_gain = torch.exp(draw.normal(s.contrast, 1) + draw.normal(s.contrast / 2, _CHANNELS))
        mix = torch.diag_embed(parasite_gain) + draw.normal(s.stain / 2, _CHANNELS * _CHANNELS).view(
            -1, _CHANNELS, _CHANNELS
        )
        density = torch.einsum("nij,njhw->nihw", mix, density - mean)
        density.add_(mean * cell_gain * self._slow(part, inside, draw))
        stained = density.clamp_(min=0).neg_().exp_()
        return rgb.index_copy(0, chosen, torch.where(inside > 0, stained, part))

    def _slow(self, rgb: Tensor, mask: Tensor, draw: _Draw) -> Tensor:
        """Draw a factor of density that changes slowly across the cell, [N, 3, H, W]."""
        s = self.settings
        rim = (1 - F.avg_pool2d(mask, 9, 1, 4)) * mask
        amount = draw.normal(s.rim, _CHANNELS)[:, :, None, None] * draw.chance(0.5)[:, None, None, None]
        coarse = torch.randn((draw.count, _CHANNELS, 4, 4), generator=draw.generator, device=draw.device)
        coarse = coarse * (draw.uniform(0, s.mottle) * draw.chance(0.5))[:, None, None, None]
        uneven = F.interpolate(coarse, size=rgb.shape[-2:], mode="bilinear")
        if s.blotch:  # what a camera's noise reduction and JPEG's coarse colours leave in dark cells
            fine = torch.randn((draw.count, _CHANNELS, 16, 16), generator=draw.generator, device=draw.device)
            fine = fine * (draw.uniform(0, s.blotch) * draw.chance(0.3))[:, None, None, None]
            uneven.add_(F.interpolate(fine, size=rgb.shape[-2:], mode="bilinear"))
        return uneven.add_(rim * amount).add_(self._pallor(rgb, draw))

    def _pallor(self, rgb: Tensor, draw: _Draw) -> Tensor:
        """Draw a factor of density that thins or thickens the middle, more or less by colour, [N, 3, H, W]."""
        s = self.settings
        y, x = _coordinates(rgb)
        centre = draw.normal(0.12, 2)
        width = draw.uniform(0.15, 0.6)[:, None, None]
        depth = draw.uniform(-0.4 * s.pallor, s.pallor)[:, None] + draw.normal(s.pallor / 4, _CHANNELS)
        depth = depth * draw.chance(0.6)[:, None]
        squared = (x - centre[:, 0, None, None]) ** 2 + (y - centre[:, 1, None, None]) ** 2
        bump = torch.exp(-squared / (2 * width**2))[:, None]
        return (1 - depth[:, :, None, None] * bump).clamp_(min=0)

    def _surroundings(self, rgb: Tensor, mask: Tensor, labels: Tensor, draw: _Draw) -> Tensor:
        """Replace the black outside: by one colour, or by a drawn smear with other cells in it."""
        s = self.settings
        outline = self._outline(mask, draw)
        replaced = draw.chance(s.background_probability)
        smear = draw.chance(s.smear_probability) * replaced
        flat = draw.uniform(0, 1, _CHANNELS)[:, :, None, None]
        grey = draw.uniform(0, 1)[:, None, None, None].expand_as(flat)
        flat = torch.where(draw.chance(0.5)[:, None, None, None] > 0, grey, flat)
        ground = self._ground(draw)
        colour = torch.where(smear[:, None, None, None] > 0, ground, flat)
        colour = torch.where(replaced[:, None, None, None] > 0, colour, torch.zeros_like(colour))
        disturbed = torch.maximum(replaced, draw.chance(s.outline_probability))[:, None, None, None]
        inside = torch.where(disturbed > 0, outline, mask)
        # On a slide a cell's edge is soft, and nothing of the cut-out's black is left.
        soft = F.avg_pool2d(_eroded(outline), 3, 1, 1) * mask
        inside = torch.where(smear[:, None, None, None] > 0, soft, inside)
        out = rgb * inside + colour * (1 - inside)
        chosen = smear.nonzero()[:, 0]
        healthy = (labels == 0).nonzero()[:, 0]
        if len(chosen) and len(healthy):
            draw = draw.of(len(chosen))
            smeared, within, light = out[chosen], inside[chosen], ground[chosen]
            own = _mean_colour(rgb[chosen], mask[chosen])
            for present in (1.0, 0.6):
                index = healthy[draw.below(len(healthy))]
                neighbour, there = self._beside(rgb[index], mask[index], draw)
                stained_alike = neighbour * own / _mean_colour(rgb[index], mask[index]).clamp(min=0.02)
                through = (stained_alike / light.clamp(min=0.05)).clamp(0, 1)
                over = draw.chance(0.3)[:, None, None, None]  # cells overlap, and light passes through both
                shown = there * torch.maximum(1 - within, over) * draw.chance(present)[:, None, None, None]
                smeared = smeared * (1 - shown + shown * through)
            out = out.index_copy(0, chosen, smeared)
        return out

    @staticmethod
    def _beside(rgb: Tensor, mask: Tensor, draw: _Draw) -> tuple[Tensor, Tensor]:
        """Move cells so far aside that they are neighbours of what is in the middle; their colours and their masks."""
        turn = draw.uniform(0, 2 * math.pi)
        distance = draw.uniform(1.1, 2.1)
        scale = draw.uniform(0.8, 1.15)
        none = torch.zeros_like(scale)
        rows = [
            torch.stack([scale, none, distance * torch.cos(turn)], 1),
            torch.stack([none, scale, distance * torch.sin(turn)], 1),
        ]
        # One pixel is taken off, since the cut-out's edge is mixed with black.
        both = _warp(torch.cat([rgb, _eroded(mask)], 1), torch.stack(rows, 1))
        return both[:, :_CHANNELS], both[:, _CHANNELS:].round()

    def _outline(self, mask: Tensor, draw: _Draw) -> Tensor:
        """Erode or dilate the mask by a pixel, and take a round bite out of its edge.

        Gently: many parasites sit at the edge, and a cell that has lost its parasite has the wrong label.
        """
        how = draw.below(3)[:, None, None, None]
        out = torch.where(how == 1, _eroded(mask), mask)
        out = torch.where(how == 2, F.max_pool2d(mask, 3, 1, 1), out)
        y, x = _coordinates(mask)
        turn = draw.uniform(0, 2 * math.pi)[:, None, None]
        radius = (draw.uniform(0.05, 0.2) * draw.chance(self.settings.bite_probability))[:, None, None]
        away = draw.uniform(0.85, 1.1)[:, None, None]
        bitten = (x - away * torch.cos(turn)) ** 2 + (y - away * torch.sin(turn)) ** 2 < radius**2
        return out * (~bitten[:, None]).to(out.dtype)

    def _optics(self, rgb: Tensor, draw: _Draw) -> Tensor:
        """Make light uneven, change focus and sharpness, add the sensor's noise."""
        s = self.settings
        if s.light:
            y, x = _coordinates(rgb)
            slope = draw.normal(s.light * 0.4, 2)
            level = torch.exp(draw.normal(s.light))
            field = level[:, None, None] * (1 + slope[:, 0, None, None] * x + slope[:, 1, None, None] * y)
            rgb = rgb * field[:, None]
        if s.focus:
            chosen = draw.chance(0.5).nonzero()[:, 0]
            part, sub = rgb[chosen], draw.of(len(chosen))
            soft = _blur(part)
            strong = sub.chance(0.3).nonzero()[:, 0]
            soft[strong] = _blur(_blur(_blur(soft[strong])))
            amount = sub.uniform(-0.5, 1.0)[:, None, None, None] * s.focus
            rgb = rgb.index_copy(0, chosen, torch.lerp(part, soft, amount))
        if s.noise:
            level = (draw.uniform(0, s.noise) * draw.chance(0.5))[:, None, None, None]
            rgb = rgb + level * torch.randn(rgb.shape, generator=draw.generator, device=rgb.device)
        return rgb


class _Draw:
    """Random numbers for `count` cells from one generator."""

    def __init__(self, generator: torch.Generator, count: int, device: torch.device) -> None:
        self.generator, self.count, self.device = generator, count, device

    def of(self, count: int) -> _Draw:
        return _Draw(self.generator, count, self.device)

    def uniform(self, low: float, high: float, columns: int | None = None) -> Tensor:
        return self._shape(torch.rand, columns) * (high - low) + low

    def normal(self, std: float, columns: int | None = None) -> Tensor:
        return self._shape(torch.randn, columns) * std

    def chance(self, probability: float) -> Tensor:
        """1.0 with `probability`, else 0.0; [count]."""
        return (self.uniform(0, 1) < probability).float()

    def below(self, limit: int) -> Tensor:
        return torch.randint(limit, (self.count,), generator=self.generator, device=self.device)

    def _shape(self, source: Callable[..., Tensor], columns: int | None) -> Tensor:
        shape = (self.count,) if columns is None else (self.count, columns)
        return source(shape, generator=self.generator, device=self.device)


def _warp(pictures: Tensor, theta: Tensor, beyond: str = "zeros") -> Tensor:
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode=beyond, align_corners=False)


def _coordinates(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return y and x of each pixel's middle in -1..1, [1, H, W] each."""
    height, width = pictures.shape[-2:]
    y = (torch.arange(height, device=pictures.device) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=pictures.device) + 0.5) / width * 2 - 1
    return y[None, :, None].expand(1, height, width), x[None, None, :].expand(1, height, width)


def _blur(pictures: Tensor) -> Tensor:
    """Blur with a 3 x 3 binomial kernel (standard deviation 0.7 px), edges repeated.

    Sums of slices, since depthwise convolutions are the slowest thing that PyTorch does on a CPU.
    """
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, :-2].add(padded[:, :, 2:]).add_(padded[:, :, 1:-1], alpha=2)
    return rows[..., :-2].add(rows[..., 2:]).add_(rows[..., 1:-1], alpha=2).mul_(1 / 16)


def _eroded(mask: Tensor) -> Tensor:
    return -F.max_pool2d(-mask, 3, 1, 1)


def _mean_colour(rgb: Tensor, mask: Tensor) -> Tensor:
    """Average a colour, or a density, over the cell: [N, 3, 1, 1]."""
    return (rgb * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True).clamp(min=1)
