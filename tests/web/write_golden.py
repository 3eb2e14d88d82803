"""Write `golden.json`: numbers and texts that Python computes and the page's scripts compute too.

Python's side is `computed`, which `test_golden.py` compares with the file; the scripts' side is `golden.test.mjs`.
Who changes one of the two on purpose runs this, and sees the other fail until it follows.

    python tests/web/write_golden.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from giemsa.stats import metrics
from giemsa.tables import COLUMNS, rows_as_csv
from giemsa.verdicts import Verdict

PATH = Path(__file__).with_name("golden.json")
TABLES = [(95, 5, 3, 897), (10, 0, 0, 10), (1, 99, 50, 50)]
PREVALENCES = (0.5, 0.03, 0.0001)
NAMES = [
    "a.png",
    'b "quoted", c.png',
    "d\ne.png",
    "é 細胞.png",
    "in/the zip/f.png",
    "=1+1.png",
    "'=1.png",
    "-2.png",
    "@x,y.png",
    "\tt.png",
    "r\rr.png",
    "\uff1d1.png",
    "'plain.png",
]


def computed() -> dict[str, Any]:
    """What Python makes of the same inputs."""
    return {
        "rates": [_rates(*table) for table in TABLES],
        "predictive_values": [_predictive(*table, share) for table in TABLES for share in PREVALENCES],
        "csv": _csv(),
    }


def _cells(tp: int, fn: int, fp: int, tn: int) -> tuple[np.ndarray, np.ndarray]:
    positive = np.repeat([True, True, False, False], (tp, fn, fp, tn))
    return positive, np.repeat([True, False, True, False], (tp, fn, fp, tn))


def _rates(tp: int, fn: int, fp: int, tn: int) -> dict[str, Any]:
    found = metrics.confusion(*_cells(tp, fn, fp, tn))
    curve = {"n": tp + fn + fp + tn, "positives": tp + fn, "true_positives": [tp], "false_positives": [fp]}
    expected = {"tp": tp, "fn": fn, "fp": fp, "tn": tn, "sensitivity": float(metrics.sensitivity(found)),
                "specificity": float(metrics.specificity(found))}  # fmt: skip
    return {"curve": curve, "expected": expected}


def _predictive(tp: int, fn: int, fp: int, tn: int, share: float) -> dict[str, Any]:
    """Weigh the cells as if this share of them were infected: then precision is the predictive value."""
    positive, called = _cells(tp, fn, fp, tn)
    weights = np.where(positive, share / (tp + fn), (1 - share) / (fp + tn))
    plain, weighted = metrics.confusion(positive, called), metrics.confusion(positive, called, weights)
    mirrored = metrics.confusion(~positive, ~called, weights)
    return {
        "sensitivity": float(metrics.sensitivity(plain)),
        "specificity": float(metrics.specificity(plain)),
        "prevalence": share,
        "expected": {"ppv": float(metrics.precision(weighted)), "npv": float(metrics.precision(mirrored))},
    }


def _csv() -> dict[str, Any]:
    given = [(name, (0.1 + 0.2 * i) % 1, None if i % 2 else 0.25) for i, name in enumerate(NAMES)]
    verdicts = [
        Verdict(name, "parasitized" if p > 0.5 else "uninfected", p, 1.0, novelty) for name, p, novelty in given
    ]
    verdicts.append(Verdict("z.png", "unreadable", reason="the PNG breaks off, after 12 bytes"))
    cells = [{column: getattr(verdict, column) for column in COLUMNS} for verdict in verdicts]
    return {"cells": cells, "expected": ",".join(COLUMNS) + "\n" + rows_as_csv(verdicts)}


if __name__ == "__main__":
    PATH.write_text(json.dumps(computed(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
