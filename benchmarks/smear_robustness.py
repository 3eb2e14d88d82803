"""Change fields as other cameras, lamps and programs would, and say how many verdicts change.

Each changed field is read and judged as a smear of its own, at the cut of the unchanged one's; its cells are paired with
those of the unchanged field by their boxes. A cell that is found in one of the two only is counted apart.

    python benchmarks/smear_robustness.py FIELDS [--fields-each 8]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import giemsa
from _common import write_result
from _fields import LABORATORIES, Annotated, annotated_fields
from giemsa.smear.reviewed import matched

Change = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path)
    parser.add_argument("--fields-each", type=int, default=8)
    args = parser.parse_args()
    model = giemsa.load().model
    result: dict[str, Any] = {}
    for laboratory in LABORATORIES:
        some = list(annotated_fields(args.fields / laboratory))
        some = some[:: max(1, len(some) // args.fields_each)][: args.fields_each]
        rgb = [field.pixels() for field in some]
        before = giemsa.read_smear(rgb, model=model)
        result[laboratory] = {"fields": len(some), "cells": len(before.cells)}
        for name, (change, back) in changes().items():
            after = giemsa.read_smear([change(picture) for picture in rgb], model=model)
            result[laboratory][name] = compared(before, after, some, back)
            print(laboratory, name, result[laboratory][name], flush=True)
    write_result("smear_robustness", {"laboratories": result})


def changes() -> dict[str, tuple[Change, Callable[..., np.ndarray]]]:
    """Give what is done to a picture, and what takes boxes of the changed one back: by name."""
    same = lambda boxes, _size: boxes  # noqa: E731

    def scaled(by: float) -> tuple[Change, Callable[..., np.ndarray]]:
        way = cv2.INTER_AREA if by < 1 else cv2.INTER_CUBIC
        return lambda rgb: cv2.resize(rgb, None, fx=by, fy=by, interpolation=way), lambda boxes, _size: boxes / by

    def coloured(*gain: float) -> tuple[Change, Callable[..., np.ndarray]]:
        return lambda rgb: np.clip(rgb * np.array(gain), 0, 255).astype(np.uint8), same

    def turned(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        width = size[0]
        return np.stack([width - boxes[:, 3], boxes[:, 0], width - boxes[:, 1], boxes[:, 2]], axis=1)

    def mirrored(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return np.stack([size[0] - boxes[:, 2], boxes[:, 1], size[0] - boxes[:, 0], boxes[:, 3]], axis=1)

    def compressed(rgb: np.ndarray) -> np.ndarray:
        _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])
        return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])

    return {
        "turned by 90 degrees": (lambda rgb: np.ascontiguousarray(np.rot90(rgb)), turned),
        "mirrored": (lambda rgb: np.ascontiguousarray(rgb[:, ::-1]), mirrored),
        "0.7 times its size": scaled(0.7),
        "1.4 times its size": scaled(1.4),
        "JPEG quality 60": (compressed, same),
        "a quarter darker": coloured(0.75, 0.75, 0.75),
        "a tenth lighter": coloured(1.1, 1.1, 1.1),
        "warmer": coloured(1.06, 1.0, 0.88),
        "colder": coloured(0.9, 1.0, 1.06),
    }


def compared(before: Any, after: Any, fields: list[Annotated], back: Callable[..., np.ndarray]) -> dict[str, Any]:
    """Count pairs of cells, those whose verdict differs, and cells that are found in one of the two only."""
    pairs = changed = first_only = second_only = 0
    refused = sum(
        bool(new.read.refusal) and not old.read.refusal for old, new in zip(before.fields, after.fields, strict=True)
    )
    for old, new, field in zip(before.fields, after.fields, fields, strict=True):
        if old.read.refusal or new.read.refusal:
            continue
        boxes = back(boxes_of(new.cells), (field.width, field.height))
        both = matched(boxes_of(old.cells), boxes, 0.5)
        pairs += len(both)
        first_only += len(old.cells) - len(both)
        second_only += len(new.cells) - len(both)
        changed += sum(old.cells[i].verdict != new.cells[j].verdict for i, j in both)
    return {
        "cells_in_both": pairs, "verdicts_changed": changed, "share_changed": round(changed / max(1, pairs), 5),
        "found_before_only": first_only, "found_after_only": second_only, "fields_refused": refused,
    }  # fmt: skip


def boxes_of(cells: Any) -> np.ndarray:
    return np.array([(c.x0, c.y0, c.x1, c.y1) for c in cells], float).reshape(-1, 4)


if __name__ == "__main__":
    main()
