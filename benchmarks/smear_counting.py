"""Count in smears drawn from annotated fields, and see whether the interval holds what people labelled.

    python benchmarks/smear_counting.py CELLS                  # of `smear_judging.py --cells`

Each smear is a bootstrap sample of a laboratory's fields; its rates come from the fields that are not in it, so that no
field calibrates itself. The truth is the share of labelled red cells with a parasite, in two meanings: of the laboratory's
fields as a whole, as if they were the patient's blood, and of the very fields that were drawn. Samples without parasites
are drawn from the healthy cells of the same fields.
"""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from _common import write_result
from giemsa.smear import counting, judging
from giemsa.smear.site import LabelledField, calibrate
from smear_judging import NOT_FOUND, relative

SMEARS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    args = parser.parse_args()
    kept = pickle.loads(args.cells.read_bytes())  # noqa: S301 - our own, of the command before
    result = {name: measure(rows) for name, rows in kept["laboratories"].items()}
    write_result("smear_counting", {"model": kept["model"], "smears": SMEARS, "laboratories": result})


def measure(rows: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [row for row in rows if not row["refusal"]]
    fields = [labelled(row, score) for row, score in zip(rows, relative(rows, "found_logit"), strict=True)]
    lab_truth = share(fields)
    rng = np.random.default_rng(0)
    seen: dict[str, list[Any]] = {name: [] for name in ("whole", "own", "width", "none", "wide", "assumed")}
    for _ in range(SMEARS):
        drawn = rng.integers(len(fields), size=len(fields))
        others = [f for i, f in enumerate(fields) if i not in set(drawn.tolist())]
        if len(others) < 2 or not any(f.infected.any() for f in others):
            continue
        site = calibrate(others, model_sha256="")
        rates = site.rates(seed=int(rng.integers(2**31)))
        sample = [fields[i] for i in drawn]
        n, k = called(sample, site.cut)
        result = counting.count(n, k, rates)
        low, high = result.parasitaemia.low, result.parasitaemia.high
        seen["whole"].append(low <= lab_truth <= high)
        seen["own"].append(low <= share(sample) <= high)
        seen["width"].append(high - low)
        healthy = [LabelledField(f.field, f.relative_logit[~f.infected], f.infected[~f.infected]) for f in sample]
        none = counting.count(*called(healthy, site.cut), rates)
        seen["none"].append(not none.told_from_none)
        seen["wide"].append(result.detection_limit)
        assumed = counting.count(*called(sample, judging.DEFAULT_CUT), counting.assumed_rates())
        seen["assumed"].append(assumed.parasitaemia.low <= lab_truth <= assumed.parasitaemia.high)
    return {
        "fields": len(fields),
        "parasitaemia": lab_truth,
        "smears": len(seen["whole"]),
        "covers_the_laboratory": float(np.mean(seen["whole"])),
        "covers_the_drawn_fields": float(np.mean(seen["own"])),
        "median_width": float(np.median(seen["width"])),
        "none_called_none": float(np.mean(seen["none"])),
        "median_detection_limit": float(np.median(seen["wide"])),
        "covers_without_a_site": float(np.mean(seen["assumed"])),
    }


def labelled(row: dict[str, Any], score: np.ndarray) -> LabelledField:
    """Drop unlabelled cells, and infected ones that were not found."""
    known = (row["found_stage"] != "unlabelled") & (row["found_logit"] > NOT_FOUND)
    return LabelledField(row["field"], score[known], row["found_stage"][known] != "red blood cell")


def share(fields: list[LabelledField]) -> float:
    return sum(int(f.infected.sum()) for f in fields) / sum(len(f.infected) for f in fields)


def called(fields: list[LabelledField], cut: float) -> tuple[int, int]:
    return sum(len(f.infected) for f in fields), sum(int((f.relative_logit >= cut).sum()) for f in fields)


if __name__ == "__main__":
    main()
