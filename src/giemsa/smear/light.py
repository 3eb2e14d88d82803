"""A field without its light: how densely stained each pixel is, 0 on the empty ground and 1 in a typical red cell.

What a photograph of a smear shows is the lamp, the condenser, the camera and the stain; only the last belongs to the
cells. By the law of Beer and Lambert, stain multiplies light, so that in logarithms it adds: the optical density of
a pixel is how far its logarithm lies below that of the empty ground at the same place. The ground is fitted as a smooth
surface (a polynomial of second order in each channel) to the pixels that no cell covers, in two rounds. The three
channels are then weighted by how well they tell cells from ground on this very field, and scaled so that the median
of what is stained is 1: grey, violet and magenta stains become one and the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Plane = NDArray[np.float32]
    Numbers = NDArray[np.floating[Any] | np.integer[Any]]

_SURROUND_BELOW: Final = 48  # grey levels: the black around the eyepiece's circle, with a phone's noise on it
_SURROUND_FROM: Final = 0.01  # of the photograph; a dark thing at the border that is smaller may be a cell
_MARK_CORE, _MARK_ALL, _MARK_SHARE = 24, 70, 0.5  # see burnt_in_marks
_MARKS_AT_MOST: Final = 0.03  # of the photograph
_ORDER: Final = 2
_BLOCKS: Final = 128  # of the ground's surface along the longer side
_LOG: Final = np.log(np.arange(256, dtype=np.float32) + 1)
_LOW_CONTRAST: Final = 0.03  # optical density; paler "cells" than this are noise


@dataclass(frozen=True, slots=True)
class Stain:
    """The stained things of one field, apart from its light.

    Attributes
    ----------
    density : ndarray
        float32 [H, W]: 0 on the empty ground, 1 in a typical red cell.
    depth : ndarray
        float32 [H, W, 3]: the optical density, RGB, in natural logarithms.
    seen : ndarray
        bool [H, W]: False in the black surround of a round view.
    ground : ndarray
        float32 [H, W, 3]: the natural logarithm of what the empty ground would show at each place, RGB.
    cell_density : ndarray
        float32 [3]: the optical density of a typical red cell, RGB, in natural logarithms.
    threshold : float
        The density between ground and cells.
    ground_share : float
        The share of what is seen that no cell covers.
    """

    density: Plane
    depth: Plane
    seen: Mask
    ground: Plane
    cell_density: Plane
    threshold: float
    ground_share: float


def seen_area(rgb: NDArray[np.uint8]) -> Mask:
    """Tell the field from the black around a round view.

    Parameters
    ----------
    rgb : ndarray
        uint8 [H, W, 3].

    Returns
    -------
    ndarray
        bool [H, W].
    """
    height, width = rgb.shape[:2]
    dark = (_brightest(rgb) < _SURROUND_BELOW).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
    x, y, w, h, area = stats.T
    at_border = (x == 0) | (y == 0) | (x + w == width) | (y + h == height)
    surround = at_border & (area > _SURROUND_FROM * height * width)
    surround[0] = False
    if count == 1 or not surround.any():
        return np.ones((height, width), bool)
    hidden = surround[parts].astype(np.uint8)
    # The rim of the view is blurred: a band as wide as one part in 200 of the photograph goes with the surround.
    return np.asarray(cv2.dilate(hidden, _disc(max(3, max(height, width) // 200 * 2 + 1))) == 0)


def burnt_in_marks(rgb: NDArray[np.uint8], seen: Mask) -> Mask:
    """Find scale bars and letters that a camera's program has drawn into the photograph.

    They are black as nothing in a lit field is, and hard-edged: most of what is dark in them is quite black.

    Parameters
    ----------
    rgb : ndarray
        uint8 [H, W, 3].
    seen : ndarray
        bool [H, W], of `seen_area`.

    Returns
    -------
    ndarray
        bool [H, W], with a margin of some pixels.
    """
    brightest = _brightest(rgb)
    core = (brightest <= _MARK_CORE) & seen
    if not core.any():
        return np.zeros(seen.shape, bool)
    count, parts = cv2.connectedComponents(((brightest <= _MARK_ALL) & seen).astype(np.uint8), connectivity=8)
    area = np.bincount(parts.ravel(), minlength=count)
    black = np.bincount(parts[core], minlength=count)
    mark = (black >= _MARK_SHARE * area) & (black >= 12)
    mark[0] = False
    if not 0 < area[mark].sum() < _MARKS_AT_MOST * parts.size:  # a page of print is no photograph with a mark
        return np.zeros(seen.shape, bool)
    return np.asarray(cv2.dilate(mark[parts].astype(np.uint8), _disc(7)) > 0)


def without_marks(rgb: NDArray[np.uint8], marks: Mask) -> NDArray[np.uint8]:
    """Paint over marks with what lies around them; the argument itself where there are none."""
    if not marks.any():
        return rgb
    rows, columns = np.flatnonzero(marks.any(1)), np.flatnonzero(marks.any(0))
    window = np.s_[max(0, rows[0] - 8) : rows[-1] + 9, max(0, columns[0] - 8) : columns[-1] + 9]
    painted = rgb.copy()
    mask = np.ascontiguousarray(marks[window]).astype(np.uint8)
    painted[window] = cv2.inpaint(np.ascontiguousarray(rgb[window]), mask, 3, cv2.INPAINT_TELEA)
    return painted


def measure_stain(rgb: NDArray[np.uint8], seen: Mask) -> Stain | None:
    """Even out the light and measure how densely stained each pixel is.

    Parameters
    ----------
    rgb : ndarray
        uint8 [H, W, 3].
    seen : ndarray
        bool [H, W], of `seen_area`.

    Returns
    -------
    Stain or None
        None where nothing stands out of the ground.
    """
    logs = np.asarray(cv2.LUT(rgb, _LOG), np.float32)
    ground = _first_ground(logs, seen)
    weights = np.full(3, 1 / 3, np.float32)
    cell_density = np.zeros(3, np.float32)
    share = 0.0
    for _ in range(2):
        depth = ground - logs
        rough = depth @ weights
        stained = (rough > otsu(rough[seen])) & seen
        empty = (cv2.dilate(stained.astype(np.uint8), _disc(9)) == 0) & seen
        share = float(empty.sum() / max(1, seen.sum()))
        if share > 0.01:
            ground = _surface(logs, empty)
            depth = ground - logs
        if stained.sum() < 100:
            return None
        cell_density = np.median(depth[stained], axis=0).astype(np.float32)
        noise = depth[empty].std(axis=0) if share > 0.01 else np.full(3, 0.02, np.float32)
        weights = np.maximum(cell_density, 0) / (noise**2 + 1e-4)
        scale = float(weights @ cell_density)
        if scale <= 0 or cell_density.max() < _LOW_CONTRAST:
            return None
        weights = (weights / scale).astype(np.float32)
    density = np.where(seen, depth @ weights, np.float32(0))
    threshold = float(np.clip(otsu(cv2.GaussianBlur(density, (0, 0), 1.0)[seen]), 0.25, 0.6))
    return Stain(density, np.asarray(depth, np.float32), seen, ground, cell_density, threshold, share)


def otsu(values: Numbers) -> float:
    """Give the threshold that divides values best into two groups (Otsu 1979, doi 10.1109/TSMC.1979.4310076).

    Parameters
    ----------
    values : ndarray
        [N]; what lies outside of -0.25 to 2.25 counts as these.

    Returns
    -------
    float
        The middle of the best thresholds.
    """
    counts, edges = np.histogram(np.clip(values, -0.25, 2.25), 256, (-0.25, 2.25))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts) / max(1, len(values))
    mean_below = np.cumsum(counts * middles) / max(1, len(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean_below[-1] * below - mean_below) ** 2 / (below * (1 - below))
    between[~np.isfinite(between)] = 0
    return float(middles[between >= between.max() * 0.9999].mean())


def _first_ground(logs: Plane, seen: Mask) -> Plane:
    """Fit the ground before cells are known: to the bright side of the picture, again and again."""
    step, blocks, inside = _blocks(logs, seen)
    values = np.median(blocks, axis=2)[inside]
    design = _design(inside)
    if len(values) < 2 * design.shape[1]:
        return np.broadcast_to(values.max(axis=0) if len(values) else np.zeros(3), logs.shape).astype(np.float32)
    brightness = values.mean(axis=1)
    trust = (brightness >= np.median(brightness)).astype(np.float64)
    for _ in range(12):
        fitted = design @ _least_squares(design, values, trust)
        above = brightness - fitted.mean(axis=1)
        spread = 1.5 * np.median(np.abs(above[trust > 0.1])) + 0.004
        # Cells are darker than the ground, so what lies below is left out; the rare glare above counts little.
        trust = np.where(above > -1.5 * spread, 1.0, 1e-6) * np.where(above > 3 * spread, 0.3, 1.0)
    return _spread_out(_least_squares(design, values, trust), inside.shape, step, logs.shape)


def _surface(logs: Plane, empty: Mask) -> Plane:
    """Fit the ground to the pixels that no cell covers."""
    height, width = empty.shape
    step = max(1, -(-max(height, width) // _BLOCKS))
    rows, columns = height // step, width // step
    size = (columns, rows)
    whole = np.s_[: rows * step, : columns * step]
    weight = cv2.resize(empty[whole].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    summed = cv2.resize(logs[whole] * empty[whole][..., np.newaxis], size, interpolation=cv2.INTER_AREA)
    inside = weight > 0.2
    design = _design(inside)
    if inside.sum() < 2 * design.shape[1]:
        values = logs[empty]
        return np.broadcast_to(np.median(values, axis=0), logs.shape).astype(np.float32)
    values = np.asarray(summed[inside] / weight[inside][:, np.newaxis], np.float32)
    return _spread_out(_least_squares(design, values, weight[inside]), inside.shape, step, logs.shape)


def _blocks(logs: Plane, seen: Mask) -> tuple[int, Plane, Mask]:
    """Divide a picture into square blocks: their side, their pixels [rows, columns, n, 3], and which are seen whole."""
    height, width = seen.shape
    step = max(1, -(-max(height, width) // _BLOCKS))
    rows, columns = height // step, width // step
    whole = np.s_[: rows * step, : columns * step]
    blocks = logs[whole].reshape(rows, step, columns, step, 3).swapaxes(1, 2).reshape(rows, columns, step * step, 3)
    inside = np.asarray(seen[whole].reshape(rows, step, columns, step).all(axis=(1, 3)))
    return step, np.asarray(blocks, np.float32), inside


def _design(inside: Mask) -> NDArray[np.float64]:
    """Give the polynomial's terms at the middles of the blocks that count, [N, terms]."""
    row, column = np.nonzero(inside)
    return _terms((column + 0.5) / inside.shape[1], (row + 0.5) / inside.shape[0])


def _terms(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = 2 * x - 1, 2 * y - 1
    return np.stack([x**i * y**j for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i)], axis=-1)


def _least_squares(design: NDArray[np.float64], values: Numbers, weights: Numbers) -> NDArray[np.float64]:
    root = np.sqrt(weights)[:, np.newaxis]
    return np.asarray(np.linalg.lstsq(design * root, values * root, rcond=None)[0])


def _spread_out(coefficients: NDArray[np.float64], grid: tuple[int, ...], step: int, shape: tuple[int, ...]) -> Plane:
    """Draw the surface at the size of the picture, by way of a coarse grid of it."""
    rows, columns = (max(2, -(-side // step)) for side in shape[:2])
    y, x = np.mgrid[:rows, :columns]
    # The blocks' middles: what the picture has beyond its last whole block lies beyond 1.
    surface = (_terms((x + 0.5) / grid[1], (y + 0.5) / grid[0]) @ coefficients).astype(np.float32)
    large = cv2.resize(surface, (columns * step, rows * step), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[: shape[0], : shape[1]])


def _brightest(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    red, green, blue = cv2.split(rgb)
    return np.asarray(cv2.max(cv2.max(red, green), blue))


def _disc(size_px: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size_px, size_px)))
