"""A figure of loss and accuracy over epochs."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from giemsa.files import replace_file
from giemsa.render import palette

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TRAINING_COLOUR, VALIDATION_COLOUR = palette.BLUE.hex, palette.VERMILLION.hex

EPOCH_METRICS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def write_metrics(path: Path, rows: Sequence[Sequence[float]]) -> None:
    """Write a row an epoch: its number, counted from 0, and `EPOCH_METRICS`, empty where they are NaN."""
    with replace_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("epoch", *EPOCH_METRICS))
        writer.writerows([["" if math.isnan(value) else value for value in row] for row in rows])


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read what `write_metrics` wrote: for each name, (epoch, value) pairs, epochs counted from 1."""
    series: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name in EPOCH_METRICS and value:
                    series.setdefault(name, []).append((int(row["epoch"]) + 1, float(value)))
    return series


def read_run_metrics(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read a run's metrics, those of the frozen epochs first."""
    series: dict[str, list[tuple[int, float]]] = {}
    done = 0
    for name in ("frozen_metrics.csv", "metrics.csv"):
        if (folder / name).is_file():
            found = read_metrics(folder / name)
            for metric, pairs in found.items():
                series.setdefault(metric, []).extend((epoch + done, value) for epoch, value in pairs)
            done = max((pairs[-1][0] for pairs in series.values()), default=0)
    return series


def draw_training(series: dict[str, list[tuple[int, float]]], title: str, path: Path, *, disturbed: bool) -> None:
    """Draw loss and accuracy, training (said to be of disturbed cells where it is) and validation."""
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for part, colour in (("train", TRAINING_COLOUR), ("validation", VALIDATION_COLOUR)):
                pairs = series.get(f"{part}_{what}", [])
                if pairs:
                    label = {"train": "training, disturbed cells" if disturbed else "training"}.get(part, part)
                    axes.plot(*zip(*pairs, strict=True), color=colour, marker="o", markersize=3, label=label)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylabel(what)
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)
        figure.suptitle(f"Training of {title}")
        with replace_file(path) as partial:
            figure.savefig(partial, dpi=150, format="png")
