"""Whole photographs as the finder's training sees them: density in three colours at one scale, boxes, kinds.

Read are `raabin` and `pbc`, whose fields are boxed completely, and `chula`, `pbc-platelets` and `pbc-erythroblasts`,
in which only what stands alone is certain: a thing that is round and of a red cell's size is one, ground is ground, and
the rest is neither right nor wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from giemsa.images import decode
from giemsa.smear.finding import KINDS, colour_density, estimate_diameter
from giemsa.smear.light import burnt_in_marks, measure_stain, seen_area, without_marks

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.smear.light import Stain

STORED_PX: Final = 24
"""What a typical red cell measures in a stored field."""
RED, WHITE, PLATELET = range(len(KINDS))
HELD_OUT: Final = 5
"""Every fifth photograph of a boxed laboratory, by name, is left out of training, to measure on."""
_CHULA_PX: Final = 45.0  # a red cell of chula's photographs, where none stands alone
_PBC_PX: Final = 76.0
_AT_BORDER: Final = 3  # px


@dataclass(frozen=True)
class Field:
    """A photograph for training.

    Attributes
    ----------
    name, laboratory : str
        Where it comes from.
    density : ndarray
        float32 [H, W, 3], of `finding.colour_density`, at the scale at which a red cell measures `STORED_PX`.
    boxes : ndarray
        float32 [N, 4], x0, y0, x1, y1.
    kinds : ndarray
        int [N], places in `finding.KINDS`.
    known : ndarray
        bool [H, W]: False where nobody knows what is there.
    """

    name: str
    laboratory: str
    density: NDArray[np.float32]
    boxes: NDArray[np.float32]
    kinds: NDArray[np.int64]
    known: NDArray[np.bool_]
    threshold: float


def boxed_fields(folder: Path, *, held_out: bool) -> list[Field]:
    """Fields of a laboratory whose red cells, white cells and platelets are boxed completely.

    Parameters
    ----------
    folder : Path
        With `annotations.json` and the photographs.
    held_out : bool
        Whether those that are left out of training are wanted, or the others.
    """
    fields = []
    for index, annotation in enumerate(annotations_of(folder)):
        if (index % HELD_OUT == 0) != held_out:
            continue
        rgb = decode((folder / annotation["image"]).read_bytes())
        kinds = np.array([kind_of(o["category"]) for o in annotation["objects"]], np.int64)
        boxes = np.array([[o["x0"], o["y0"], o["x1"], o["y1"]] for o in annotation["objects"]], np.float32)
        boxes = boxes.reshape(-1, 4)
        red = boxes[(kinds == RED) & ~at_border(boxes, rgb.shape)]
        if len(red) < 2:
            continue
        scale = STORED_PX / (0.97 * float(np.median(np.sqrt((red[:, 2:] - red[:, :2]).prod(axis=1)))))
        measured = _measured(rgb, scale)
        if measured is None:
            continue
        stain, shape = measured
        tight = tightened(boxes * scale, stain)
        fields.append(Field(annotation["image"], folder.name, colour_density(stain), tight, kinds,
                            np.ones(shape, bool), stain.threshold))  # fmt: skip
    return fields


def partly_known_fields(folder: Path, middle: int | None = None) -> list[Field]:
    """Fields without boxes: things that stand alone are known, and the ground around them.

    Parameters
    ----------
    folder : Path
        With `annotations.json` and the photographs.
    middle : int, optional
        The kind of what stands in the middle of each photograph.
    """
    fields = []
    for annotation in annotations_of(folder):
        rgb = decode((folder / annotation["image"]).read_bytes())
        usual = _CHULA_PX if middle is None else _PBC_PX
        first = _measured(rgb, 1.0)
        if first is None:
            continue
        estimate = estimate_diameter(first[0])
        scale = STORED_PX / (estimate if 0.6 < estimate / usual < 1.5 else usual)
        measured = _measured(rgb, scale)
        if measured is None:
            continue
        fields.append(_alone(annotation["image"], folder.name, measured[0], middle))
    return fields


def annotations_of(folder: Path) -> list[dict[str, Any]]:
    """What people said of a folder's photographs, in the order of their names."""
    raw = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    return sorted(raw, key=lambda field: str(field["image"]))


def kind_of(category: str) -> int:
    """The place in `finding.KINDS` of a label; every stage of an infected cell is a red cell."""
    return {"white blood cell": WHITE, "platelet": PLATELET}.get(category, RED)


def at_border(boxes: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which boxes reach the border of a picture, bool [N]."""
    x0, y0, x1, y1 = boxes.T
    near = (x0 <= _AT_BORDER) | (y0 <= _AT_BORDER)
    return np.asarray(near | (x1 >= shape[1] - _AT_BORDER) | (y1 >= shape[0] - _AT_BORDER))


def tightened(boxes: NDArray[np.float32], stain: Stain) -> NDArray[np.float32]:
    """Boxes without the margin that annotators left, which is measured on cells that stand alone."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((stain.density > stain.threshold).astype(np.uint8))
    tight, alone, margins = boxes.copy(), np.zeros(len(boxes), bool), []
    for x, y, w, h, area in stats[1:]:
        if not 0.4 < area / (np.pi / 4 * STORED_PX**2) < 1.6:
            continue
        part = np.array([x, y, x + w, y + h], np.float32)
        off = np.abs(boxes - part).max(axis=1)
        nearest = int(off.argmin())
        if off[nearest] < 0.2 * STORED_PX:
            tight[nearest], alone[nearest] = part, True
            margins.append((part - boxes[nearest]) * (1, 1, -1, -1))
    margin = np.median(np.array(margins), axis=0) if len(margins) > 3 else np.full(4, 0.5)
    tight[~alone] += (margin * (1, 1, -1, -1)).astype(np.float32)
    return tight


def _measured(rgb: NDArray[np.uint8], scale: float) -> tuple[Stain, tuple[int, int]] | None:
    size = (max(8, round(rgb.shape[1] * scale)), max(8, round(rgb.shape[0] * scale)))
    marks = burnt_in_marks(rgb, seen_area(rgb))
    small = np.asarray(cv2.resize(without_marks(rgb, marks), size, interpolation=cv2.INTER_AREA), np.uint8)
    stain = measure_stain(small, seen_area(small))
    return None if stain is None else (stain, (small.shape[0], small.shape[1]))


def _alone(name: str, laboratory: str, stain: Stain, middle: int | None) -> Field:
    """Take for red cells what is round, of their size, stands alone and holds no nucleus."""
    density = stain.density
    mask = (cv2.GaussianBlur(density, (0, 0), 0.7) > stain.threshold).astype(np.uint8)
    height, width = mask.shape
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    known = cv2.dilate(mask, np.ones((3, 3), np.uint8)) == 0
    boxes, kinds = [], []
    for outline in outlines:
        area = cv2.contourArea(outline)
        x, y, w, h = cv2.boundingRect(outline)
        if x <= 1 or y <= 1 or x + w >= width - 1 or y + h >= height - 1:
            continue
        inside = np.zeros((h, w), np.uint8)
        cv2.drawContours(inside, [outline], -1, 1, cv2.FILLED, offset=(-x, -y))
        solid = area / max(1.0, cv2.contourArea(cv2.convexHull(outline)))
        relative = area / (np.pi / 4 * STORED_PX**2)
        peak = float(np.percentile(density[y : y + h, x : x + w][inside > 0], 90))
        in_middle = x <= width / 2 <= x + w and y <= height / 2 <= y + h
        if middle is not None and in_middle and 0.03 < relative < 4 and solid > 0.8:
            kind = middle
        elif 0.4 < relative < 1.7 and solid > 0.92 and peak < 1.7 and 0.55 < w / h < 1.8:
            kind = RED
        else:
            continue
        known[y : y + h, x : x + w] |= inside > 0
        boxes.append([x, y, x + w, y + h])
        kinds.append(kind)
    return Field(name, laboratory, colour_density(stain), np.array(boxes, np.float32).reshape(-1, 4),
                 np.array(kinds, np.int64), known, stain.threshold)  # fmt: skip
