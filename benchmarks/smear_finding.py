"""Find red cells in annotated fields, and compare with the boxes that people drew.

Cells that the border cuts are left out on both sides: a found cell that matches such a label counts neither as right nor
as wrong. `iml` is what the embedded finder was trained on, so that its figures there come from finders that were
trained on the other half of the fields (`--finders`, made by `smear_finder.py --fold`); `bbbc041` is judged by the
embedded one.

    python benchmarks/smear_finding.py FIELDS [--finders FOLD0 FOLD1]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from _common import write_result
from _fields import annotated_fields, matches, with_interval
from giemsa.smear import finding, quality
from giemsa.smear.finding import find_cells

RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path)
    parser.add_argument("--finders", type=Path, nargs="*", default=[])
    parser.add_argument("--laboratories", nargs="+", default=["iml", "bbbc041"])
    args = parser.parse_args()
    embedded = finding.FINDER_PATH
    found = {}
    for laboratory in args.laboratories:
        rows = []
        for index, field in enumerate(annotated_fields(args.fields / laboratory)):
            use = embedded
            if laboratory == "iml" and args.finders:
                use = args.finders[index % len(args.finders)]
                if not use.exists():  # a fold that was not trained
                    continue
            if use != finding.FINDER_PATH:
                finding.FINDER_PATH = use
                finding.finder.cache_clear()
            rows.append(measure(field))
            print(rows[-1], flush=True)
        cross_fitted = laboratory == "iml" and bool(args.finders)
        found[laboratory] = {"fields": len(rows), "cross_fitted": cross_fitted, **figures(rows), "by_field": rows}
    write_result("smear_finding", {"laboratories": found})


def measure(field: Any) -> dict[str, Any]:
    result = find_cells(field.pixels())
    boxes = np.array([[c.x0, c.y0, c.x1, c.y1] for c in result.cells], float).reshape(-1, 4)
    pairs = matches(boxes, field)
    labels = {label for _, label in pairs}
    sick = field.infected & ~field.cut
    refusal = quality.refusal(result, quality.sharpness_of(result))
    return {
        "field": field.name,
        "right": sum(not field.cut[label] for _, label in pairs),
        "wrong": len(boxes) - len(pairs),
        "missed": int(sum(not field.cut[i] for i in range(len(field.boxes)) if i not in labels)),
        "labelled": int((~field.cut).sum()),
        "infected": int(sick.sum()),
        "infected_found": sum(bool(sick[label]) for label in labels),
        "diameter_px": round(result.cell_diameter_px, 1),
        "labelled_px": round(float(np.median(np.sqrt((field.boxes[:, 2:] - field.boxes[:, :2]).prod(axis=1)))), 1),
        "sharpness": round(quality.sharpness_of(result), 1),
        "explained": round(result.explained, 2),
        "refusal": refusal,
    }


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    judged = [row for row in rows if not row["refusal"]]
    errors = [(row["right"] + row["wrong"]) / row["labelled"] - 1 for row in judged if row["labelled"]]
    total = {key: sum(row[key] for row in rows) for key in ("right", "wrong", "missed", "infected", "infected_found")}
    rng = np.random.default_rng(0)
    resampled = [f1([rows[i] for i in rng.integers(len(rows), size=len(rows))]) for _ in range(RESAMPLES)]
    return {
        **total,
        "f1": with_interval(resampled, f1(rows)),
        "f1_of_fields_not_refused": f1(judged),
        "precision": total["right"] / (total["right"] + total["wrong"]),
        "recall": total["right"] / (total["right"] + total["missed"]),
        "median_error_of_count": float(np.median(errors)),
        "median_absolute_error_of_count": float(np.median(np.abs(errors))),
        "refused": [f"{row['field']}: {row['refusal']}" for row in rows if row["refusal"]],
    }


def f1(rows: list[dict[str, Any]]) -> float:
    right, wrong, missed = (sum(row[key] for row in rows) for key in ("right", "wrong", "missed"))
    return 2 * right / max(1, 2 * right + wrong + missed)


if __name__ == "__main__":
    main()
