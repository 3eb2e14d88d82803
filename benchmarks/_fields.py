"""What the benchmarks of smears share: annotated fields, and boxes matched with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from giemsa.formats.boxed_fields import LabelledObject, read_annotations
from giemsa.images import decode
from giemsa.smear.reviewed import intersection_over_union, matched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

EDGE_PX = 4  # a label that comes so near to the border is of a cell that it cuts
SAME_CELL = 0.8  # intersection over union of two boxes around one cell
LABORATORIES = ("iml", "bbbc041")


@dataclass
class Annotated:
    """A field with what people labelled in it."""

    name: str
    path: Path
    width: int
    height: int
    boxes: NDArray[np.float64]  # [N, 4]
    stages: NDArray[np.str_]  # [N], the annotators' words
    infected: NDArray[np.bool_]  # [N]
    cut: NDArray[np.bool_]  # [N]: the border cuts it

    def pixels(self) -> NDArray[np.uint8]:
        return decode(self.path.read_bytes())


def annotated_fields(folder: Path) -> Iterator[Annotated]:
    for field in sorted(read_annotations(folder), key=lambda one: one.image):
        kept = once([one for one in field.objects if one.kind in ("healthy", "infected")])
        boxes = np.array([one.corners for one in kept], float).reshape(-1, 4)
        x0, y0, x1, y1 = boxes.T
        width, height = field.width, field.height
        if width is None or height is None:  # not every annotation says
            height, width = decode((folder / field.image).read_bytes()).shape[:2]
        cut = (x0 <= EDGE_PX) | (y0 <= EDGE_PX) | (x1 >= width - EDGE_PX) | (y1 >= height - EDGE_PX)
        stages = np.array([one.category for one in kept])
        infected = np.array([one.kind == "infected" for one in kept], bool)
        yield Annotated(field.image, folder / field.image, width, height, boxes, stages, infected, cut)


def once(objects: list[LabelledObject]) -> list[LabelledObject]:
    """Leave out labels that say a second time what another says of the same cell."""
    boxes = np.array([one.corners for one in objects], float).reshape(-1, 4)
    same = np.triu(intersection_over_union(boxes, boxes) > SAME_CELL, 1)
    what = np.array([one.category for one in objects])
    again = (same & (what[:, np.newaxis] == what)).any(axis=0)
    return [one for one, twice in zip(objects, again, strict=True) if not twice]


def matches(boxes: NDArray[np.float64], field: Annotated, least: float = 0.5) -> list[tuple[int, int]]:
    """Pair found boxes with labels, edge cells among them."""
    return matched(boxes, field.boxes, least)


def with_interval(values: list[float], point: float) -> dict[str, Any]:
    """Put a figure and its interval over resampled fields together."""
    return {
        "value": point,
        "low": float(np.quantile(values, 0.025)),
        "high": float(np.quantile(values, 0.975)),
        "unit": "fields",
    }
