"""Judge the cells of annotated fields, in the boxes that people drew and end to end.

    python benchmarks/smear_judging.py FIELDS [--model FILE]

End to end, an infected cell that was not found is missed at every cut: it counts as the least suspicious of all. Cells that
the border cuts are left out, and so are fields that `giemsa smear` refuses.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from _common import write_result
from _fields import LABORATORIES, Annotated, annotated_fields, matches, with_interval
from giemsa.images import resize
from giemsa.model import Model, open_model
from giemsa.smear import judging, quality
from giemsa.smear.finding import find_cells

RESAMPLES = 1000
NOT_FOUND = -1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--laboratories", nargs="+", default=list(LABORATORIES))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    model = open_model(args.model)
    result = {}
    for laboratory in args.laboratories:
        rows = []
        for field in annotated_fields(args.fields / laboratory):
            rows.append(scored(field, model))
            print(field.name, len(rows[-1]["found_logit"]), flush=True)
        refused = [f"{row['field']}: {row['refusal']}" for row in rows if row["refusal"]]
        rows = [row for row in rows if not row["refusal"] and len(row["found_logit"])]
        result[laboratory] = {
            "fields": len(rows),
            "refused": refused,
            "in_annotated_boxes": figures(rows, "box_logit", "box_stage"),
            "end_to_end": figures(rows, "found_logit", "found_stage"),
            "at_default_cut": at_cut(rows, judging.DEFAULT_CUT),
        }
    write_result("smear_judging", {"model": model.digest, "default_cut": judging.DEFAULT_CUT, "laboratories": result})


def scored(field: Annotated, model: Model) -> dict[str, Any]:
    rgb = field.pixels()
    size = model.card.input_size_px
    whole = ~field.cut
    crops = [resize(rgb[int(y0) : int(y1), int(x0) : int(x1)], size) for x0, y0, x1, y1 in field.boxes[whole]]
    box_logit = np.concatenate(
        [judging.look_eight_times(np.stack(crops[i : i + 64]), model) for i in range(0, len(crops), 64)]
    )
    found = find_cells(rgb)
    logit = judging.score_cells(rgb, found, model)
    boxes = np.array([[c.x0, c.y0, c.x1, c.y1] for c in found.cells], float).reshape(-1, 4)
    stage = np.array(["unlabelled"] * len(boxes), dtype="<U24")
    seen = set()
    for cell, label in matches(boxes, field, 0.4):
        stage[cell] = field.stages[label]
        seen.add(label)
    lost = [field.stages[i] for i in range(len(field.boxes)) if i not in seen and field.infected[i] and whole[i]]
    return {
        "field": field.name,
        "refusal": quality.refusal(found, quality.sharpness_of(found)),
        "box_logit": box_logit.astype(float),
        "box_stage": field.stages[whole],
        "found_logit": np.concatenate([logit.astype(float), np.full(len(lost), NOT_FOUND)]),
        "found_stage": np.concatenate([stage, np.array(lost, dtype="<U24")]),
        "labelled_infected": int((field.infected & whole).sum()),
        "labelled": int(whole.sum()),
    }


def relative(rows: list[dict[str, Any]], logit: str) -> list[np.ndarray]:
    """Take logits relative to their field, as `giemsa smear` does for a slide of these fields."""
    own = [
        (*judging.own_reference(row[logit][row[logit] > NOT_FOUND]), int((row[logit] > NOT_FOUND).sum()))
        for row in rows
    ]
    centre, spread, _ = judging.slide_reference(own)
    result = []
    for row, (own_centre, own_spread, cells) in zip(rows, own, strict=True):
        against = judging.reference((own_centre, own_spread), cells, (centre, spread))
        found = row[logit] > NOT_FOUND
        result.append(np.where(found, (row[logit] - against.centre) / against.spread, NOT_FOUND))
    return result


def figures(rows: list[dict[str, Any]], logit: str, stage: str) -> dict[str, Any]:
    plain = [(row[logit], row[stage]) for row in rows]
    against = [(score, row[stage]) for score, row in zip(relative(rows, logit), rows, strict=True)]
    labelled = [int((row[stage] != "unlabelled").sum()) for row in rows]
    infected = [int(np.isin(row[stage], ("unlabelled", "red blood cell"), invert=True).sum()) for row in rows]
    return {
        "infected": sum(infected),
        "healthy": sum(labelled) - sum(infected),
        "logit": measures(plain),
        "relative_logit": measures(against),
    }


def measures(parts: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    point = one(parts)
    drawn = [one([parts[i] for i in rng.integers(len(parts), size=len(parts))]) for _ in range(RESAMPLES)]
    drawn = [d for d in drawn if d]
    return {name: with_interval([d[name] for d in drawn], value) for name, value in point.items()}


def one(parts: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    score = np.concatenate([p[0] for p in parts])
    stage = np.concatenate([p[1] for p in parts])
    sick = score[np.isin(stage, ("unlabelled", "red blood cell"), invert=True)]
    healthy = np.sort(score[stage == "red blood cell"])
    if not len(sick) or not len(healthy):
        return {}
    below = np.searchsorted(healthy, sick, "left") + np.searchsorted(healthy, sick, "right")
    return {
        "auc": float(below.mean() / 2 / len(healthy)),
        "sensitivity_at_one_in_100": float((sick > healthy[int(np.ceil(0.99 * len(healthy))) - 1]).mean()),
        "sensitivity_at_one_in_1000": float((sick > healthy[int(np.ceil(0.999 * len(healthy))) - 1]).mean()),
    }


def at_cut(rows: list[dict[str, Any]], cut: float) -> dict[str, Any]:
    """Say what the default cut does, and which stages it misses."""
    score = np.concatenate(relative(rows, "found_logit"))
    stage = np.concatenate([row["found_stage"] for row in rows])
    stages = sorted(set(stage) - {"unlabelled", "red blood cell"})
    return {
        "false_alarms": float((score[stage == "red blood cell"] >= cut).mean()),
        "missed_by_stage": {
            s: {"missed": int((score[stage == s] < cut).sum()), "of": int((stage == s).sum()),
                "not_found": int((score[stage == s] == NOT_FOUND).sum())}
            for s in stages
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
