"""Single cells for drawing scenes: cut out of fields where they stand alone, and NIH's cells, infected ones above all."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from giemsa.images import decode
from giemsa.lab.finder.fields import RED, STORED_PX, WHITE, at_border

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from giemsa.lab.finder.fields import Field

_FEWEST_OF_A_PHOTOGRAPH: Final = 8
_MARGIN: Final = 2


@dataclass(frozen=True)
class Cutout:
    """A single thing on empty ground.

    Attributes
    ----------
    density : ndarray
        float32 [h, w, 3], 0 outside of it, at the scale of stored fields.
    alpha : ndarray
        float32 [h, w]: 1 inside.
    kind : int
        A place in `finding.KINDS`.
    infected : bool
        Whether people saw a parasite in it.
    """

    density: NDArray[np.float32]
    alpha: NDArray[np.float32]
    kind: int
    infected: bool = False


def cutouts_of(field: Field) -> list[Cutout]:
    """What stands alone in a field, or nearly so (white cells)."""
    height, width = field.known.shape
    found = []
    edge = at_border(field.boxes, field.known.shape)
    for index, (x0, y0, x1, y1) in enumerate(field.boxes):
        kind = int(field.kinds[index])
        if edge[index]:
            continue
        others = np.delete(field.boxes, index, axis=0)
        shared = np.minimum(others[:, 2:], (x1, y1)) - np.maximum(others[:, :2], (x0, y0))
        covered = np.clip(shared, 0, None).prod(axis=1).max(initial=0) / max(1.0, (x1 - x0) * (y1 - y0))
        if covered > (0.15 if kind == WHITE else 0.02):
            continue
        left, top = max(0, int(x0) - _MARGIN), max(0, int(y0) - _MARGIN)
        right, bottom = min(width, int(np.ceil(x1)) + _MARGIN), min(height, int(np.ceil(y1)) + _MARGIN)
        window = field.density[top:bottom, left:right]
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32) + 0.5
        away = ((x - (x0 + x1) / 2) / ((x1 - x0) / 2 + 0.7)) ** 2 + ((y - (y0 + y1) / 2) / ((y1 - y0) / 2 + 0.7)) ** 2
        stained = (window.mean(axis=2) > 0.5 * field.threshold).astype(np.uint8)
        alpha = _filled((stained & (away < 1.25)).astype(np.uint8))
        if alpha.sum() < 0.4 * (x1 - x0) * (y1 - y0):
            continue
        found.append(_cutout(window, alpha, kind))
    return found


def nih_cutouts(cells: Path, reviewed: Path, most: int, rng: np.random.Generator) -> list[list[Cutout]]:
    """NIH's cells on which both readings agree, a list for each photograph.

    Parameters
    ----------
    cells : Path
        Holds `Parasitized` and `Uninfected`.
    reviewed : Path
        The CSV file of the second reading.
    most : int
        Cells in all; photographs are drawn at random.
    rng : Generator
        Draws them.
    """
    by_photograph: dict[str, list[tuple[Path, bool]]] = defaultdict(list)
    with reviewed.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["official"] == row["reviewed"]:
                infected = row["official"] == "parasitized"
                path = cells / ("Parasitized" if infected else "Uninfected") / row["file"]
                by_photograph[row["file"].rsplit("_cell_", 1)[0]].append((path, infected))
    names = sorted(name for name, some in by_photograph.items() if len(some) >= _FEWEST_OF_A_PHOTOGRAPH)
    photographs: list[list[Cutout]] = []
    taken = 0
    for name in rng.permutation(names):
        if taken >= most:
            break
        some = _of_photograph(by_photograph[str(name)])
        taken += len(some)
        photographs.append(some)
    return photographs


def _of_photograph(some: list[tuple[Path, bool]]) -> list[Cutout]:
    pictures = [decode(path.read_bytes()) for path, _ in some]
    masks = [cv2.erode((rgb.max(axis=2) > 12).astype(np.uint8), np.ones((3, 3), np.uint8)) for rgb in pictures]
    typical = float(np.median([np.sqrt(4 / np.pi * mask.sum()) for mask in masks]))
    rims = [mask - cv2.erode(mask, np.ones((5, 5), np.uint8)) for mask in masks]
    # The masks reach a little beyond their cells, so that the brightest of the rim is ground.
    ground = np.median([np.percentile(rgb[rim > 0], 90, axis=0) for rgb, rim in zip(pictures, rims, strict=True)], axis=0)
    logs = [np.log(ground + 1) - np.log(rgb.astype(np.float32) + 1) for rgb in pictures]
    usual = np.median([np.median(log[mask > 0], axis=0) for log, mask in zip(logs, masks, strict=True)], axis=0)
    scale = STORED_PX / typical
    cutouts = []
    for log, mask, (_, infected) in zip(logs, masks, some, strict=True):
        size = (max(4, round(mask.shape[1] * scale)), max(4, round(mask.shape[0] * scale)))
        inside = np.where(mask[..., np.newaxis] > 0, log / max(0.03, float(usual.mean())), 0)
        small = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        cutouts.append(_cutout(small, (alpha > 0.5).astype(np.uint8), RED, infected=infected))
    return cutouts


def _cutout(window: NDArray[np.float32], alpha: NDArray[np.uint8], kind: int, *, infected: bool = False) -> Cutout:
    around = _MARGIN + 1
    wide = cv2.copyMakeBorder(alpha, around, around, around, around, cv2.BORDER_CONSTANT)
    soft = cv2.GaussianBlur(wide.astype(np.float32), (0, 0), 0.6)
    density = cv2.copyMakeBorder(np.ascontiguousarray(window), around, around, around, around, cv2.BORDER_CONSTANT)
    return Cutout(np.clip(density, -0.1, 5) * soft[..., np.newaxis], wide.astype(np.float32), kind, infected)


def _filled(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return mask
    filled = np.zeros_like(mask)
    cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled
