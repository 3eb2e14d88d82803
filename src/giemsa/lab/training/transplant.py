"""Parasites in every style: what a parasite adds to its cell, in optical density, put onto cells of other laboratories.

Parasites that may be trained on come from one laboratory, healthy cells from several. A network that is shown just these
learns that another style means healthy. So the density that lies in a labelled cell above the cell's own (a parasite, or
a platelet or dirt that a reader took for one) is lifted off and laid onto another laboratory's cell, in whose stain the
rest stays: light passes through both (Beer-Lambert), the product of two transmissions. Some receivers are made larger
in what they show, paler and stippled, as *P. vivax* leaves its cells.

A layer is float32 [S, S, 3], density a channel, its middle in the picture's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SOFTENING: Final = 0.02
"""Added to transmissions before their logarithm is taken: black has no density that means anything."""
PLATELET: Final = 0.26
"""Side of a square as large as a platelet, as a part of a cell's picture: 2 of its 8 micrometres."""
_BLACK_BELOW: Final = 8
_STRONG: Final = (0.13, 4.0)
"""A layer's darkest pixel has at least this mean density, and so many times the cell's own unevenness ..."""
_WEAK: Final = (0.045, 1.6)
"""... and what belongs to it, at least these."""
_SIZES: Final = (6 / 64**2, 0.30)
"""Least and largest part of the picture that a layer covers."""
_INSIDE: Final = 0.95
_TRIES: Final = 8


@dataclass(frozen=True)
class Strengths:
    """How much a layer is varied as it is laid down.

    Attributes
    ----------
    scale, colour : float
        Standard deviations of the logarithms of its size and of its density a channel.
    gain : tuple of float
        Least and largest factor of its density.
    vivax : float
        How often it and its receiver are changed as *P. vivax* does.
    """

    scale: float = 0.15
    colour: float = 0.1
    gain: tuple[float, float] = (0.65, 1.35)
    vivax: float = 0.35


def lift_layers(cells: NDArray[np.uint8], own: NDArray[np.floating]) -> list[NDArray[np.float32]]:
    """Return the layers of cells that were cut out onto black; of cells with nothing to lift there is none.

    Parameters
    ----------
    cells : (N, S, S, 3) ndarray of uint8
        RGB.
    own : (N, 3) ndarray
        Each cell's prevailing colour, 0 to 1.
    """
    layers = []
    for cell, colour in zip(cells, own, strict=True):
        layer = _lift(cell, colour.astype(np.float32))
        if layer is not None:
            layers.append(layer)
    return layers


def lift_from_ground(pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Return the layers of what stands alone in the middle of a picture, on bare ground: platelets.

    Parameters
    ----------
    pictures : (N, S, S, 3) ndarray of uint8
        RGB.
    """
    layers = []
    for picture in pictures:
        rgb = picture.astype(np.float32) / 255
        density = np.log((_ground(rgb) + SOFTENING) / (rgb + SOFTENING))
        mean = cv2.GaussianBlur(density.mean(-1), (0, 0), 0.8)
        size = len(picture)
        middle = mean[size // 3 : -(size // 3), size // 3 : -(size // 3)].max()
        if middle < 0.2:
            continue
        _, parts = cv2.connectedComponents((mean > 0.4 * middle).astype(np.uint8))
        y, x = np.unravel_index(
            int(np.argmax(np.where(_disc(size, 0.35), mean, -1))),
            mean.shape,
        )
        part = parts == parts[y, x]
        border = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
        if border.mean() < 0.02 and _SIZES[0] <= part.mean() <= 0.5:
            smaller = cv2.getRotationMatrix2D(((size - 1) / 2,) * 2, 0, PLATELET / np.sqrt(part.mean()))
            layers.append(np.asarray(cv2.warpAffine(_centred(density, part), smaller, (size, size)), np.float32))
    return layers


def draw_precipitate(count: int, size_px: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Return drawn layers of stain precipitate: small, dark, sharp grains in a heap."""
    layers = []
    for _ in range(count):
        plane = np.zeros((size_px, size_px), np.float32)
        spread = rng.uniform(0.0, 0.12) * size_px
        for _ in range(int(rng.integers(1, 9))):
            x, y = size_px / 2 + rng.normal(0, spread + 1e-3, 2)
            axes = (max(1, round(rng.uniform(0.01, 0.035) * size_px)), max(1, round(rng.uniform(0.01, 0.035) * size_px)))
            cv2.ellipse(plane, (round(x), round(y)), axes, rng.uniform(0, 180), 0, 360, rng.uniform(0.7, 2.0), -1)
        plane = cv2.GaussianBlur(plane, (0, 0), rng.uniform(0.4, 0.9))
        layers.append(plane[..., None] * (np.array([1.0, 1.05, 0.7], np.float32) * np.exp(rng.normal(0, 0.15, 3))))
    return [layer.astype(np.float32) for layer in layers]


def lay_down(
    cell: NDArray[np.uint8],
    layers: Sequence[NDArray[np.float32]],
    rng: np.random.Generator,
    strengths: Strengths | None = None,
) -> NDArray[np.uint8]:
    """Return a cell with layers laid onto it, inside of its outline.

    Parameters
    ----------
    cell : (S, S, 3) ndarray of uint8
        RGB, a whole cell in its surroundings.
    layers : sequence of ndarray
        What to lay onto it.
    rng : Generator
        All randomness comes from it.
    strengths : Strengths, optional
        Of the variation.
    """
    how = strengths or Strengths()
    rgb = cell.astype(np.float32) / 255
    ground = _ground(rgb)
    mask = cell_outline(rgb, ground)
    vivax = rng.random() < how.vivax
    added = np.zeros_like(rgb)
    for layer in layers:
        scale = np.exp(rng.normal(0, how.scale))
        gain = rng.uniform(*how.gain) * np.exp(rng.normal(0, how.colour, 3))
        if vivax:
            scale *= rng.uniform(1.0, 1.7)
            layer = _bent(layer, rng)
            gain *= rng.uniform(0.6, 1.0)
        added += _placed(layer, mask, scale, rng) * gain.astype(np.float32)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.2)[..., None]
    if vivax:
        own = np.log((ground + SOFTENING) / (rgb + SOFTENING)).clip(0)
        paler = 1 - rng.uniform(0, 0.45) * soft
        tint = np.exp(rng.normal(0, 0.12, 3)).astype(np.float32)
        paled = ground * np.exp(-own * paler * (1 + (tint - 1) * soft))
        rgb = rgb + (paled - rgb) * soft
        if rng.random() < 0.6:
            added += _stippling(mask, rng)
        if rng.random() < 0.5:
            added += _cytoplasm(added, mask, rng)
    out = rgb * np.exp(-added * soft)
    return np.asarray(np.clip(out * 255 + 0.5, 0, 255).astype(np.uint8))


def cell_outline(rgb: NDArray[np.float32], ground: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where the cell in the middle of a picture is, its pale middle included, a few pixels inside of its edge."""
    size = len(rgb)
    density = np.log((ground + SOFTENING) / (rgb + SOFTENING)).clip(0).mean(-1)
    density = cv2.GaussianBlur(density, (0, 0), 1.0)
    disc = _disc(size, 0.92)
    level = float(np.median(density[_disc(size, 0.7)]))
    dense = ((density > 0.45 * level) & disc).astype(np.uint8)
    contours, _ = cv2.findContours(dense, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros((size, size), np.uint8)
    if contours:
        cv2.drawContours(mask, [max(contours, key=cv2.contourArea)], -1, 1, -1)
    mask = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    if mask.mean() < 0.15:
        return _disc(size, 0.75)
    return np.asarray(mask > 0)


def _lift(cell: NDArray[np.uint8], own: NDArray[np.float32]) -> NDArray[np.float32] | None:
    size = len(cell)
    rgb = cell.astype(np.float32) / 255
    edge = max(3, round(size * 5 / 64) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (edge, edge))
    padded = cv2.copyMakeBorder((cell.max(-1) >= _BLACK_BELOW).astype(np.uint8), edge, edge, edge, edge, cv2.BORDER_CONSTANT)
    inside = cv2.erode(padded, kernel)[edge:-edge, edge:-edge] > 0
    if inside.mean() < 0.2:
        return None
    density = np.log((own + SOFTENING) / (rgb + SOFTENING))
    # What changes slowly across the cell, a pale middle or uneven light, is the cell's own and no parasite's.
    calm = (inside & (density.mean(-1) < 0.1)).astype(np.float32)
    spread = size / 9
    total = cv2.GaussianBlur(calm, (0, 0), spread)[..., None] + 1e-3
    density = density - cv2.GaussianBlur(density * calm[..., None], (0, 0), spread) / total
    mean = cv2.GaussianBlur(density.mean(-1), (0, 0), 0.6)
    rest = mean[inside & (calm > 0)]
    noise = 1.4826 * float(np.median(np.abs(rest - np.median(rest)))) if len(rest) else 0.0
    strong = inside & (mean > max(_STRONG[0], _STRONG[1] * noise))
    weak = inside & (mean > max(_WEAK[0], _WEAK[1] * noise))
    _, parts = cv2.connectedComponents(weak.astype(np.uint8))
    kept = np.isin(parts, np.setdiff1d(np.unique(parts[strong]), [0]))
    if not _SIZES[0] <= kept.mean() <= _SIZES[1]:
        return None
    return _centred(density, kept)


def _centred(density: NDArray[np.float32], part: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Keep a part of a density, with a soft edge, and move its middle to the picture's."""
    soft = cv2.GaussianBlur(cv2.dilate(part.astype(np.float32), np.ones((3, 3))), (0, 0), 0.8)
    layer = np.clip(density, -0.12, 2.5) * soft[..., None]
    ys, xs = np.nonzero(part)
    size = len(part)
    move = np.array([[1, 0, (size - 1) / 2 - xs.mean()], [0, 1, (size - 1) / 2 - ys.mean()]], np.float32)
    return np.asarray(cv2.warpAffine(layer, move, (size, size)), np.float32)


def _placed(
    layer: NDArray[np.float32], mask: NDArray[np.bool_], scale: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Turn, mirror and scale a layer, and put it where it lies inside of the mask; smaller where it fits nowhere."""
    size = len(layer)
    if rng.random() < 0.5:
        layer = layer[:, ::-1]
    ys, xs = np.nonzero(mask)
    placed = np.zeros_like(layer)
    turn = rng.uniform(0, 360)
    for attempt in range(_TRIES):
        matrix = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), turn, scale)
        at = int(rng.integers(len(ys)))
        matrix[:, 2] += (xs[at] - (size - 1) / 2, ys[at] - (size - 1) / 2)
        placed = cv2.warpAffine(np.ascontiguousarray(layer), matrix, (size, size), flags=cv2.INTER_LINEAR)
        amount = np.abs(placed).mean(-1)
        # What leaves the picture is not in its sum any more: it is compared with what was to be laid down.
        if amount[mask].sum() >= _INSIDE * np.abs(layer).mean(-1).sum() * scale**2:
            return np.asarray(placed, np.float32)
        if attempt >= _TRIES // 2:
            scale *= 0.9
    return np.asarray(placed * mask[..., None], np.float32)


def _bent(layer: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Bend a layer, as amoeboid forms are."""
    size = len(layer)
    field = cv2.resize(rng.normal(0, 0.05 * size, (4, 4, 2)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    return np.asarray(cv2.remap(layer, x + field[..., 0], y + field[..., 1], cv2.INTER_LINEAR), np.float32)


def _stippling(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw Schueffner's dots: many, fine, faint."""
    size = len(mask)
    plane = np.zeros((size, size), np.float32)
    ys, xs = np.nonzero(mask)
    at = rng.integers(len(ys), size=int(rng.integers(15, 70)))
    plane[ys[at], xs[at]] = rng.uniform(0.3, 1.0, len(at))
    plane = cv2.GaussianBlur(plane, (0, 0), rng.uniform(0.7, 1.1)) * rng.uniform(0.3, 1.0)
    return np.asarray(plane[..., None] * np.array([0.5, 1.0, 0.35], np.float32))


def _cytoplasm(
    parasite: NDArray[np.float32], mask: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw a bluish, uneven body around a parasite, as late forms have."""
    size = len(mask)
    near = cv2.GaussianBlur(parasite.mean(-1), (0, 0), size * rng.uniform(0.06, 0.16))
    near /= max(float(near.max()), 1e-6)
    grain = cv2.resize(rng.normal(0, 0.35, (7, 7)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    body = 0.5 + 0.5 * np.tanh((near + grain - rng.uniform(0.25, 0.6)) * 5)
    body = cv2.GaussianBlur((body * mask * (near > 0.05)).astype(np.float32), (0, 0), 0.8)
    colour = np.array([0.45, 0.3, 0.06]) * np.exp(rng.normal(0, 0.25, 3)) * rng.uniform(0.2, 0.9)
    return np.asarray(body[..., None] * colour, np.float32)


def _ground(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colour of the empty slide: the brightest of the picture, but for the brightest few pixels."""
    bright = rgb.mean(-1)
    level = np.quantile(bright, 0.93)
    return np.asarray(np.median(rgb[bright >= level], 0), np.float32)


def _disc(size: int, radius: float) -> NDArray[np.bool_]:
    """Return where the picture's inscribed disc is, of so many half widths."""
    place = (np.arange(size) + 0.5) / size * 2 - 1
    return np.asarray(place[:, None] ** 2 + place[None, :] ** 2 <= radius**2)
