"""Finding red cells in a field: even light, one scale, a small network for their middles and sides, a mask for each.

1. The field is brought to some 1,280 px along its longer side. What the camera drew in is painted over, the light is
   evened out, and each pixel becomes a density (`giemsa.smear.light`): colours of stain, lamp and camera are gone.
2. The red cell's diameter is estimated from the cells that stand alone, then from all that were found, until the two
   agree.
3. At a scale at which a red cell measures 20 px, a network of 65,000 weights (`finder.onnx`, made by
   `benchmarks/smear_finder.py`) says where the middles of red cells are and how far their sides. It sees densities
   only, at this one scale, and was shown white cells, platelets and dirt as things to pass over. A watershed on distances
   and edges, our first finder, reached F1 0.92 on `iml`, since in clumps it cut where no border was.
4. Stained pixels go to the nearest cell, in units of its own half axes: its mask. Cells that the border of the
   photograph or of a round view cuts are counted apart and left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from giemsa.errors import ModelError
from giemsa.model.onnx_runtime import OnnxRuntime
from giemsa.model.shipped import FINDER_PATH, check_shipped
from giemsa.smear.light import Stain, burnt_in_marks, measure_stain, seen_area, without_marks

if TYPE_CHECKING:
    from numpy.typing import NDArray

RED_CELL_UM: Final = 7.5
"""Diameter of a red cell on a dried film, 7 to 8 micrometres (Bain, Blood Cells, 5th ed. 2015)."""
COARSE_PX: Final = 1280
"""Longer side at which a field is analysed, unless its cells are too small there."""

_TINY_PX: Final = 6  # on the coarse picture: grain, not cells
_MOST: Final = 4000  # cells of a field
_SMALLEST_PX: Final = 18  # cells smaller than this on the coarse picture: it is made finer
_FINEST_PIXELS: Final = 6_000_000
_CLIP: Final = 2.5  # density; as in training
_SURE: Final = 0.3  # a middle counts from here; chosen on cross-fitted fields (benchmarks/smear_finding.py)
_CLOSEST: Final = 0.38  # of a diameter between two middles
_OVERLAP: Final = 0.62  # intersection over union of two boxes from which they are one cell
_AREA: Final = (0.3, 2.4)  # of a red cell's area, what is still a red cell
_REACH: Final = 1.4  # half axes of the network's box that a cell may reach
_AGREES: Final = 0.2  # diameters by which mask and network may differ on a side
_CUT: Final = 0.03  # diameters from the border within which a box counts as cut
_ROUNDS: Final = 4
_AGREED: Final = 0.07


@dataclass(frozen=True, slots=True)
class FoundCell:
    """A red cell in a field.

    Attributes
    ----------
    x0, y0, x1, y1 : int
        Its box in pixels of the photograph, ends exclusive.
    diameter_px : float
        The diameter of the circle that has its mask's area, in pixels of the photograph.
    sureness : float
        How sure the finder is that a red cell's middle is here, 0 to 1.
    mask : ndarray
        bool [h, w] over the box, at the scale of the analysis; `mask_px` gives it at that of the photograph.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    diameter_px: float
    sureness: float
    mask: NDArray[np.bool_]

    def mask_px(self) -> NDArray[np.bool_]:
        """Give the mask in pixels of the photograph, bool [y1 - y0, x1 - x0]."""
        size = (self.x1 - self.x0, self.y1 - self.y0)
        return np.asarray(cv2.resize(self.mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one field.

    Attributes
    ----------
    cells : tuple of FoundCell
        Whole red cells, from top to bottom.
    cut : int
        Red cells that the border cuts; left out.
    cell_diameter_px : float
        The typical red cell's, in pixels of the photograph; 0 where there is none.
    stain : Stain or None
        Densities at the scale of the analysis; None where nothing is stained.
    scale : float
        Pixels of the analysis per pixel of the photograph.
    marks : ndarray
        bool, at the scale of the analysis: what the camera's program drew in.
    explained : float
        The share of what is stained that lies in found cells, cut ones too.
    """

    cells: tuple[FoundCell, ...]
    cut: int
    cell_diameter_px: float
    stain: Stain | None
    scale: float
    marks: NDArray[np.bool_]
    explained: float

    @property
    def px_per_um(self) -> float:
        """Pixels of the photograph per micrometre, if the typical red cell measures `RED_CELL_UM`."""
        return self.cell_diameter_px / RED_CELL_UM


def find_cells(rgb: NDArray[np.uint8], *, cell_diameter_px: float | None = None) -> Found:
    """Find the red cells of a field.

    Parameters
    ----------
    rgb : ndarray
        uint8 [H, W, 3], a whole photograph.
    cell_diameter_px : float, optional
        The typical red cell's diameter in pixels of the photograph; None means that it is estimated.

    Returns
    -------
    Found
    """
    scale = min(1.0, COARSE_PX / max(rgb.shape[:2]))
    if cell_diameter_px is not None:
        scale = _fine_enough(rgb, scale, cell_diameter_px)
    stain, marks = _analyse(rgb, scale)
    if stain is None:
        return Found((), 0, 0.0, None, scale, marks, 0.0)
    diameter = cell_diameter_px * scale if cell_diameter_px is not None else estimate_diameter(stain)
    if cell_diameter_px is None and 0 < diameter < _SMALLEST_PX and scale < 1:
        finer = _fine_enough(rgb, scale, diameter / scale)
        diameter, scale = diameter * finer / scale, finer
        stain, marks = _analyse(rgb, scale)
        if stain is None:
            return Found((), 0, 0.0, None, scale, marks, 0.0)
    if diameter < _TINY_PX:
        return Found((), 0, 0.0, stain, scale, marks, 0.0)
    boxes, sure = _boxes(stain, diameter)
    for _ in range(_ROUNDS if cell_diameter_px is None else 0):
        if len(boxes) < 5:
            break
        found = float(np.median(np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))))
        if abs(found / diameter - 1) < _AGREED:
            diameter = found
            break
        if found < _TINY_PX:
            return Found((), 0, 0.0, stain, scale, marks, 0.0)
        diameter = found
        boxes, sure = _boxes(stain, diameter)
    return _with_masks(rgb, stain, marks, scale, diameter, boxes, sure)


def estimate_diameter(stain: Stain) -> float:
    """Estimate a red cell's diameter from the round things that stand alone, weighted by their area.

    Returns
    -------
    float
        In pixels of the stain's densities; 0 where nothing is round.
    """
    mask = _filled(stain)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    height, width = mask.shape
    diameters, areas = [], []
    for outline in outlines:
        area = cv2.contourArea(outline)
        x, y, w, h = cv2.boundingRect(outline)
        if area < 40 or x == 0 or y == 0 or x + w == width or y + h == height:
            continue
        solid = area / cv2.contourArea(cv2.convexHull(outline))
        around = 4 * np.pi * area / cv2.arcLength(outline, closed=True) ** 2
        if solid > 0.9 and around > 0.65 and 0.6 < w / h < 1.67:
            diameters.append(float(np.sqrt(4 * area / np.pi)))
            areas.append(area)
    if len(diameters) >= 3:
        order = np.argsort(diameters)
        half = np.searchsorted(np.cumsum(np.array(areas)[order]), sum(areas) / 2)
        return float(diameters[order[int(half)]])
    # Everything clumps: the discs that fit into the clumps are a little smaller than the cells.
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    peaks = inside[(cv2.dilate(inside, np.ones((7, 7), np.uint8)) <= inside) & (inside > 3)]
    return float(2.1 * np.median(peaks)) if len(peaks) >= 3 else 0.0


def _fine_enough(rgb: NDArray[np.uint8], scale: float, cell_diameter_px: float) -> float:
    """Give a scale at which cells are large enough, as far as the photograph and memory allow."""
    height, width = rgb.shape[:2]
    wanted = max(scale, 1.2 * _SMALLEST_PX / cell_diameter_px)
    return float(min(1.0, wanted, max(scale, np.sqrt(_FINEST_PIXELS / (height * width)))))


def _analyse(rgb: NDArray[np.uint8], scale: float) -> tuple[Stain | None, NDArray[np.bool_]]:
    small = rgb
    if scale < 1:
        size = (max(8, round(rgb.shape[1] * scale)), max(8, round(rgb.shape[0] * scale)))
        small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    seen = seen_area(small)
    marks = burnt_in_marks(small, seen)
    if seen.sum() < 1000:
        return None, marks
    return measure_stain(without_marks(small, marks), seen), marks


def _filled(stain: Stain) -> NDArray[np.uint8]:
    """Mask what is stained, with the pale middles of cells."""
    soft = cv2.GaussianBlur(stain.density, (0, 0), 0.8)
    mask = ((soft > stain.threshold) & stain.seen).astype(np.uint8)
    count, holes, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < 0.002 * mask.size
    small[0] = False
    mask |= small[holes].astype(np.uint8) if count > 1 else 0
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))


def _boxes(stain: Stain, diameter: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run the network; boxes [N, 4] in pixels of the stain's densities, and how sure each is, surest first."""
    cell_px, stride, session = finder()
    height, width = stain.density.shape
    zoom = cell_px / diameter
    size = (max(16, round(width * zoom)), max(16, round(height * zoom)))
    kernel = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    density = np.clip(cv2.resize(stain.density, size, interpolation=kernel), -0.25, _CLIP)
    bottom, right = -size[1] % 8 + 8, -size[0] % 8 + 8
    padded = cv2.copyMakeBorder(density, 8, bottom, 8, right, cv2.BORDER_REPLICATE)
    middle, sides = session.run(["middle", "sides"], {"density": padded[np.newaxis, np.newaxis].astype(np.float32)})
    middle, sides = middle[0], sides[0] * cell_px
    peak = (cv2.dilate(middle, np.ones((3, 3), np.uint8)) <= middle) & (middle >= _SURE)
    rows, columns = np.nonzero(peak)
    sure = middle[rows, columns]
    x, y = (columns + 0.5) * stride - 8, (rows + 0.5) * stride - 8
    inside = (x > 0) & (y > 0) & (x < size[0]) & (y < size[1])
    rows, columns, sure, x, y = rows[inside], columns[inside], sure[inside], x[inside], y[inside]
    left, top, right_, bottom_ = sides[:, rows, columns]
    boxes = np.stack([x - left, y - top, x + right_, y + bottom_], axis=1) / zoom
    order = np.argsort(-sure, kind="stable")[:_MOST]
    kept = _apart(boxes[order], diameter)
    return boxes[order][kept].astype(np.float32), sure[order][kept]


def _apart(boxes: NDArray[np.float64], diameter: float) -> NDArray[np.intp]:
    """Keep the surest of boxes that are the same cell."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    left = np.ones(len(boxes), bool)
    for index in range(len(boxes)):
        if left[index]:
            away = np.hypot(*(middles - middles[index]).T)
            near = np.flatnonzero(left & (away < 2 * diameter))
            shared = np.minimum(boxes[index, 2:], boxes[near, 2:]) - np.maximum(boxes[index, :2], boxes[near, :2])
            both = np.clip(shared, 0, None).prod(axis=1)
            same = (both > _OVERLAP * (areas[index] + areas[near] - both)) | (away[near] < _CLOSEST * diameter)
            left[near[same & (near > index)]] = False
    return np.flatnonzero(left)


def _with_masks(
    rgb: NDArray[np.uint8],
    stain: Stain,
    marks: NDArray[np.bool_],
    scale: float,
    diameter: float,
    boxes: NDArray[np.float32],
    sure: NDArray[np.float32],
) -> Found:
    owner, stained = _owners(stain, boxes, diameter)
    height, width = rgb.shape[:2]
    typical = np.pi / 4 * diameter**2
    cells, cut, explained = [], 0, 0
    for index, predicted in enumerate(boxes):
        x0, y0, x1, y1 = _clipped(_widened(predicted), owner.shape)
        if x0 == x1 or y0 == y1:  # beyond the border; OpenCV does not survive empty pictures
            continue
        mask = _around_the_middle(owner[y0:y1, x0:x1] == index + 1, predicted - (x0, y0, x0, y0))
        area = int(mask.sum())
        explained += int((mask & stained[y0:y1, x0:x1]).sum())
        if not _AREA[0] * typical < area < _AREA[1] * typical:
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = np.array([x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1], np.float32)
        # Where a neighbour covers a part of the cell, the network knows better how far it reaches.
        outer = np.concatenate([np.minimum(box[:2], predicted[:2]), np.maximum(box[2:], predicted[2:])])
        box = np.where(np.abs(box - predicted) > _AGREES * diameter, outer, box).astype(np.float32)
        if _is_cut(box, stain, diameter):
            cut += 1
            continue
        on_photo = np.clip(np.rint(box / scale), 0, (width, height, width, height)).astype(int)
        left, top, right, bottom = _clipped(box, owner.shape)
        whole = np.zeros((bottom - top, right - left), bool)
        seen = np.s_[max(top, y0) : min(bottom, y1), max(left, x0) : min(right, x1)]
        whole[seen[0].start - top : seen[0].stop - top, seen[1].start - left : seen[1].stop - left] = mask[
            seen[0].start - y0 : seen[0].stop - y0, seen[1].start - x0 : seen[1].stop - x0
        ]
        diameter_px = float(np.sqrt(4 * area / np.pi) / scale)
        x0_photo, y0_photo, x1_photo, y1_photo = on_photo.tolist()
        cells.append(FoundCell(x0_photo, y0_photo, x1_photo, y1_photo, diameter_px, float(sure[index]), whole))
    cells.sort(key=lambda cell: (cell.y0, cell.x0))
    share = explained / max(1, int(stained.sum()))
    return Found(tuple(cells), cut, diameter / scale, stain, scale, marks, float(share))


def _owners(stain: Stain, boxes: NDArray[np.float32], diameter: float) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Give each pixel to the cell that it is nearest to, in units of that cell's half axes."""
    soft = cv2.GaussianBlur(stain.density, (0, 0), max(0.5, 0.02 * diameter))
    stained = np.asarray((soft > stain.threshold) & stain.seen)
    owner = np.zeros(stained.shape, np.int32)
    nearest = np.full(stained.shape, np.inf, np.float32)
    for index, (left, top, right, bottom) in enumerate(boxes):
        x0, y0, x1, y1 = _clipped(_widened(boxes[index]), stained.shape)
        y, x = np.ogrid[y0:y1, x0:x1]
        across, down = max(1.0, (right - left) / 2), max(1.0, (bottom - top) / 2)
        away = ((x + 0.5 - (left + right) / 2) / across) ** 2 + ((y + 0.5 - (top + bottom) / 2) / down) ** 2
        # A pale middle is not stained and still the cell's.
        own = (away < nearest[y0:y1, x0:x1]) & ((stained[y0:y1, x0:x1] & (away < _REACH**2)) | (away < 0.45))
        nearest[y0:y1, x0:x1][own] = away[own]
        owner[y0:y1, x0:x1][own] = index + 1
    return owner, stained


def _widened(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Let a cell reach beyond the box that the network gives it."""
    margin = (_REACH - 1) / 2 * (box[2:] - box[:2])
    return np.concatenate([box[:2] - margin, box[2:] + margin])


def _around_the_middle(mask: NDArray[np.bool_], box: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Keep of a mask what hangs together with the box's middle; all of it where the middle is not in it."""
    column, row = round(float(box[0] + box[2]) / 2), round(float(box[1] + box[3]) / 2)
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    row, column = min(max(row, 0), mask.shape[0] - 1), min(max(column, 0), mask.shape[1] - 1)
    return np.asarray(parts == parts[row, column]) if parts[row, column] else mask


def _clipped(box: NDArray[Any], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    x0, x1 = (int(np.clip(round(float(v)), 0, shape[1])) for v in (box[0], box[2]))
    y0, y1 = (int(np.clip(round(float(v)), 0, shape[0])) for v in (box[1], box[3]))
    return x0, y0, max(x1, x0), max(y1, y0)


def _is_cut(box: NDArray[np.float32], stain: Stain, diameter: float) -> bool:
    """Tell whether a cell reaches the border of the photograph or of a round view."""
    height, width = stain.seen.shape
    margin = _CUT * diameter
    if box[0] < margin or box[1] < margin or box[2] > width - margin or box[3] > height - margin:
        return True
    x0, y0, x1, y1 = _clipped(box, stain.seen.shape)
    return not bool(stain.seen[y0:y1, x0:x1].all())


@lru_cache(maxsize=2)
def finder() -> tuple[int, int, Any]:
    """Open the embedded finder once: the cell's size that it expects, its stride, and the session.

    Raises
    ------
    ModelError
        If the installation lacks it.
    """
    if not FINDER_PATH.is_file():
        raise ModelError(f"this installation has no finder of cells at {FINDER_PATH}; install Giemsa again")
    content = FINDER_PATH.read_bytes()
    check_shipped(FINDER_PATH, content)
    network = OnnxRuntime(content, name=f"the finder of cells {FINDER_PATH}")
    card = json.loads(network.metadata("giemsa_finder") or "{}")
    return int(card["cell_px"]), int(card["stride"]), network
