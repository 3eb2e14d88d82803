"""What the benchmarks of smears share: annotated fields, and boxes matched with labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from giemsa.images import decode
from giemsa.smear.reviewed import HEALTHY, PASSED_OVER, intersection_over_union, matched

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
    stages: NDArray[np.str_]  # [N]
    cut: NDArray[np.bool_]  # [N]: the border cuts it

    @property
    def infected(self) -> NDArray[np.bool_]:
        return self.stages != HEALTHY

    def pixels(self) -> NDArray[np.uint8]:
        return decode(self.path.read_bytes())


def annotated_fields(folder: Path) -> Iterator[Annotated]:
    for field in sorted(
        json.loads((folder / "annotations.json").read_text(encoding="utf-8")), key=lambda f: f["image"]
    ):
        kept = once([o for o in field["objects"] if o["category"] not in PASSED_OVER])
        boxes = np.array([[o["x0"], o["y0"], o["x1"], o["y1"]] for o in kept], float).reshape(-1, 4)
        x0, y0, x1, y1 = boxes.T
        width, height = field["width"], field["height"]
        cut = (x0 <= EDGE_PX) | (y0 <= EDGE_PX) | (x1 >= width - EDGE_PX) | (y1 >= height - EDGE_PX)
        stages = np.array([o["category"] for o in kept])
        yield Annotated(field["image"], folder / field["image"], width, height, boxes, stages, cut)


def once(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out labels that say a second time what another says of the same cell."""
    boxes = np.array([[o["x0"], o["y0"], o["x1"], o["y1"]] for o in objects], float).reshape(-1, 4)
    same = np.triu(intersection_over_union(boxes, boxes) > SAME_CELL, 1)
    what = np.array([o["category"] for o in objects])
    again = (same & (what[:, np.newaxis] == what)).any(axis=0)
    return [o for o, twice in zip(objects, again, strict=True) if not twice]


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
