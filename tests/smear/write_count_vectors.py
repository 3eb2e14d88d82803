"""Write tests/data/count_vectors.json: smears, what they are counted by, and what Python makes of them.

    python tests/smear/write_count_vectors.py

The test in Python computes them anew and finds the same; the one in JavaScript holds report.js to them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from giemsa.smear import counting
from giemsa.smear.counting import Evidence, FieldCounts
from giemsa.smear.report import basis_of
from giemsa.smear.sentences import headline, meaning, per_microlitre

VECTORS = Path(__file__).parents[1] / "data" / "count_vectors.json"


def rates() -> dict[str, counting.Rates]:
    reviewed = [
        FieldCounts(
            f"{slide}-{i}",
            str(slide),
            "P",
            (90 + i, 3, slide % 2, i % 2, 0, 0, 0),
            (i % 2, 0, 1, 0, 1, 0, i % 3),
            0,
            i % 2,
        )
        for slide in range(4)
        for i in range(5)
    ]
    return {"site": counting.measured_rates(reviewed), "assumed": counting.assumed_rates()}


SMEARS: dict[str, Evidence] = {
    "nothing suspicious": Evidence(3, (180, 7, 0, 0, 0, 0, 0)),
    "one suspicious cell": Evidence(1, (60, 3, 1, 0, 0, 0, 0)),
    "nobody has looked": Evidence(4, (900, 40, 12, 8, 12, 10, 7)),
    "the worst looked at": Evidence(4, (900, 40, 12, 8, 12, 10, 7), (0, 0, 0, 0, 0, 3, 6), (0, 0, 0, 0, 0, 1, 1)),
    "one confirmed of many": Evidence(4, (900, 40, 12, 8, 12, 10, 7), (0, 0, 0, 0, 0, 0, 1), (0, 0, 5, 5, 9, 8, 6)),
    "all rejected": Evidence(4, (900, 40, 12, 8, 12, 10, 7), rejected=(0, 0, 12, 8, 12, 10, 7)),
    "all looked at": Evidence(4, (900, 40, 12, 8, 12, 10, 7), (0, 1, 1, 0, 3, 6, 7), (0, 5, 11, 8, 9, 4, 0)),
    "whole fields": Evidence(4, (900, 40, 2, 2, 2, 1, 1), (1, 1, 0, 0, 1, 1, 1), (400, 20, 1, 1, 1, 0, 0), 1),
    "many cells": Evidence(
        500, (44_000, 2900, 1000, 800, 700, 400, 200), (0, 0, 3, 2, 9, 80, 150), (0, 0, 60, 40, 60, 20, 5)
    ),
    "a few thousand": Evidence(50, (4700, 190, 40, 20, 25, 15, 10)),
}


def vectors() -> dict[str, Any]:
    """Bases by name, and cases: a smear, which basis, the figures and the sentences."""
    bases: dict[str, Any] = {}
    cases = []
    for name, evidence in SMEARS.items():
        for kind, known in rates().items():
            for red_cells_per_ul in (None, 4_100_000.0) if name == "all looked at" else (None,):
                count = counting.count(evidence, known, red_cells_per_ul=red_cells_per_ul)
                basis = basis_of(count, known)
                shared = {key: basis[key] for key in ("known", "reader", "measured")}
                bases[f"{kind}, {evidence.fields} fields"] = shared
                figures = asdict(count)
                figures.pop("detection")
                figures.pop("fields_missing")
                cases.append({
                    "name": f"{name}, {kind}, {red_cells_per_ul}",
                    "evidence": asdict(evidence),
                    "basis": f"{kind}, {evidence.fields} fields",
                    "critical": basis["critical"],
                    "red_cells_per_ul": basis["red_cells_per_ul"],
                    "count": figures,
                    "next": counting.next_strata(evidence, known.for_smear(evidence.fields), 12),
                    "headline": headline(count),
                    "meaning": meaning(count, known.measured),
                    "per_microlitre": per_microlitre(count),
                })  # fmt: skip
    return {"bases": bases, "cases": cases}


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors()) + "\n", encoding="utf-8")
