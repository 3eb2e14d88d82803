"""Read from a run's folder how long its epochs took, and how long it took to 99 % on the validation patients.

python benchmarks/training_time.py RUN
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from _common import write_result
from giemsa.lab.training.curves import read_metrics
from giemsa.lab.training.runs import open_run

GOAL = 0.99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    run = open_run(args.run)
    epochs = run.record.timings["seconds_per_epoch"]
    accuracy = read_metrics(args.run / "metrics.csv").get("validation_accuracy", [])
    reached = next((epoch for epoch, value in accuracy if value >= GOAL), None)
    write_result(
        "training_time",
        {
            "recipe": run.recipe.name,
            "recipe_digest": run.recipe.digest,
            "cells": run.record.counts["parasitized"] + run.record.counts["uninfected"],
            "threads": run.record.threads,
            "precision": run.record.precision,
            "seconds_per_epoch": {
                "min": min(epochs),
                "median": statistics.median(epochs),
                "max": max(epochs),
            },
            "epochs": len(epochs),
            "epochs_to_99_percent": reached,
            "seconds_to_99_percent": None if reached is None else round(sum(epochs[:reached]), 1),
            "last_validation_accuracy": accuracy[-1][1] if accuracy else None,
        },
    )


if __name__ == "__main__":
    main()
