"""Count the annotated fields that are at hand, each block of them by what the other blocks teach.

    python benchmarks/count_fields.py FIELDS [--laboratories iml bbbc041]

Slides are not known there: blocks of consecutive file names stand for them, which is said wherever the figures are. A
block is one smear; its site is calibrated on the other blocks. The truth is the share of labelled red cells that carry
a parasite, those that were not found among them. A reader who does not err looks at no cell, at the ten or thirty that
`next_cells` proposes, or at all suspicious ones. With and without a site.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from _common import write_result
from giemsa.formats.boxed_fields import ANNOTATIONS
from giemsa.smear import counting, judging
from giemsa.smear.reading import SmearReader
from giemsa.smear.reviewed import read_reviewed
from giemsa.smear.site import LabelledField, calibrate

BLOCKS = 8
REVIEWS = {"none": 0, "10 cells": 10, "30 cells": 30, "all suspicious": None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path)
    parser.add_argument("--laboratories", nargs="+", default=["iml", "bbbc041"])
    args = parser.parse_args()
    reader = SmearReader()
    result = {name: laboratory(read_blocks(args.fields / name, reader)) for name in args.laboratories}
    write_result("count_fields", {"model": reader.model.digest, "blocks": BLOCKS, "laboratories": result})


def read_blocks(folder: Path, reader: SmearReader) -> list[list[LabelledField]]:
    """The fields by block, each judged against its block's healthy cells."""
    annotations = json.loads((folder / ANNOTATIONS).read_text(encoding="utf-8"))
    annotations.sort(key=lambda entry: str(entry["image"]))
    for place, entry in enumerate(annotations):
        entry["slide"] = f"block {place * BLOCKS // len(annotations)}"
    with tempfile.TemporaryDirectory() as beside:
        for entry in annotations:
            shutil.copy(folder / entry["image"], beside)
        (Path(beside) / ANNOTATIONS).write_text(json.dumps(annotations), encoding="utf-8")
        fields = read_reviewed([beside], reader)
    return [[field for field in fields if field.slide == name] for name in sorted({f.slide for f in fields})]


def laboratory(blocks: list[list[LabelledField]]) -> dict[str, Any]:
    rows = []
    for place, block in enumerate(blocks):
        others = [field for number, other in enumerate(blocks) if number != place for field in other]
        site = calibrate(others, model_sha256="")
        truth = true_share(block)
        healthy = [without_parasites(field) for field in block]
        for named, rates, cut in (
            ("site", site.rates(), site.cut),
            ("no site", counting.assumed_rates(), judging.DEFAULT_CUT),
        ):
            known = rates.for_smear(len(block))
            for review, cells in REVIEWS.items():
                evidence = looked_at(block, cut, known, cells)
                count = counting.count(evidence, rates)
                share = count.parasitaemia
                none = counting.count(looked_at(healthy, cut, known, cells), rates)
                rows.append({
                    "block": place, "rates": named, "review": review, "truth": truth, "red_cells": count.red_cells,
                    "called": count.called, "value": share.value, "low": share.low, "high": share.high,
                    "told": count.told_by, "healthy_told": none.told_by,
                })  # fmt: skip
    return {"fields": sum(map(len, blocks)), "blocks": len(blocks), "rows": rows, "summary": summary(rows)}


def true_share(fields: list[LabelledField]) -> float:
    infected = sum(int(f.infected.sum()) + f.missed_infected for f in fields)
    return infected / sum(len(f.infected) + f.missed_infected + f.missed_healthy for f in fields)


def without_parasites(field: LabelledField) -> LabelledField:
    return LabelledField(field.field, field.relative_logit[~field.infected], field.infected[~field.infected])


def looked_at(fields: list[LabelledField], cut: float, known: counting.Known, cells: int | None) -> counting.Evidence:
    """The smear after a person has looked at so many cells, those that tell most; None: at all that are called."""
    score = np.concatenate([f.relative_logit for f in fields])
    infected = np.concatenate([f.infected for f in fields])
    stratum = counting.stratum_of(score, cut)
    seen = np.zeros(len(score), bool)
    if cells is None:
        seen = score >= cut
    for _ in range(0, cells or 0, 5):  # a few at a time: what they show says where to look next
        evidence = counting.evidence_of(len(fields), stratum, seen & infected, seen & ~infected)
        seen[counting.next_cells(evidence, known, stratum, score, seen, 5)] = True
    return counting.evidence_of(len(fields), stratum, seen & infected, seen & ~infected)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over blocks: coverage, widths, Bland and Altman's difference, and healthy cells told from none."""
    table = []
    for named in ("site", "no site"):
        for review in REVIEWS:
            some = [row for row in rows if row["rates"] == named and row["review"] == review]
            difference = np.array([row["value"] - row["truth"] for row in some])
            table.append({
                "rates": named, "review": review, "blocks": len(some),
                "covered": sum(row["low"] <= row["truth"] <= row["high"] for row in some),
                "told": sum(bool(row["told"]) for row in some),
                "healthy_told": sum(bool(row["healthy_told"]) for row in some),
                "median_width": float(np.median([row["high"] - row["low"] for row in some])),
                "mean_difference": float(difference.mean()),
                "limits_of_agreement": [float(difference.mean() + s * 1.96 * difference.std(ddof=1)) for s in (-1, 1)],
                "within_a_quarter": sum(abs(row["value"] - row["truth"]) <= row["truth"] / 4 for row in some),
            })  # fmt: skip
    return table


if __name__ == "__main__":
    main()
