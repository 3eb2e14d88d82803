"""Judge cells of other laboratories: boxes that people drew in photographs of whole fields, cut out exactly.

Neither trained nor calibrated nor thresholded on them, so that the figures say what a new laboratory may expect. Cells
of one photograph share stain and light: the intervals resample photographs.

    python benchmarks/other_laboratories.py FIELDS [--model FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from _common import write_result
from giemsa.images import decode, resize
from giemsa.model import Model, open_model
from giemsa.stats.metrics import roc_auc

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEALTHY = "red blood cell"
SKIPPED = {"difficult", "white blood cell"}
RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--laboratories", nargs="+", default=["bbbc041", "iml"])
    args = parser.parse_args()
    model = open_model(args.model, threads=2)
    found = {name: measure(model, args.fields / name) for name in args.laboratories}
    write_result(
        "other_laboratories", {"model": model.digest, "threshold": model.card.threshold, "laboratories": found}
    )


def measure(model: Model, folder: Path) -> dict[str, Any]:
    """Cut out, judge and count."""
    cells, infected, stages, fields = cut_out(folder, model.card.input_size_px)
    logit = np.concatenate([model.run(cells[i : i + 256]).logit for i in range(0, len(cells), 256)])
    called = model.p_parasitized(logit) >= model.card.threshold

    def figures(rows: NDArray[np.intp]) -> dict[str, float]:
        healthy, sick = rows[~infected[rows]], rows[infected[rows]]
        ranked = np.sort(logit[healthy])
        one_in_hundred = ranked[int(np.ceil(0.99 * len(ranked))) - 1]
        return {
            "auc": roc_auc(infected[rows], logit[rows]),
            "red_cells_called_infected": float(called[healthy].mean()),
            "sensitivity": float(called[sick].mean()),
            "sensitivity_at_one_false_alarm_in_100": float((logit[sick] > one_in_hundred).mean()),
        }

    rng = np.random.default_rng(0)
    names = np.unique(fields)
    of_field = {name: np.flatnonzero(fields == name) for name in names}
    drawn = [np.concatenate([of_field[name] for name in rng.choice(names, len(names))]) for _ in range(RESAMPLES)]
    resampled = [figures(rows) for rows in drawn if infected[rows].any()]
    point = figures(np.arange(len(cells)))
    return {
        "fields": len(names),
        "parasites": int(infected.sum()),
        "red_cells": int((~infected).sum()),
        **{
            name: {
                "value": value,
                "low": float(np.quantile([one[name] for one in resampled], 0.025)),
                "high": float(np.quantile([one[name] for one in resampled], 0.975)),
                "unit": "fields",
            }
            for name, value in point.items()
        },
        "missed_by_stage": {
            stage: f"{int((~called[stages == stage]).sum())} of {int((stages == stage).sum())}"
            for stage in sorted(set(stages[infected]))
        },
    }


def cut_out(
    folder: Path, size_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.str_], NDArray[np.str_]]:
    """Cut the annotated boxes out, exact and unmasked."""
    cells, stages, fields = [], [], []
    for field in json.loads((folder / "annotations.json").read_text(encoding="utf-8")):
        photograph = decode((folder / field["image"]).read_bytes())
        for box in field["objects"]:
            if box["category"] not in SKIPPED:
                cells.append(resize(photograph[box["y0"] : box["y1"], box["x0"] : box["x1"]], size_px))
                stages.append(box["category"])
                fields.append(field["image"])
    stage = np.array(stages)
    return np.stack(cells), stage != HEALTHY, stage, np.array(fields)


if __name__ == "__main__":
    main()
