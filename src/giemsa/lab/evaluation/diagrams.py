"""Figures of an evaluation: confusion matrix, ROC, precision-recall and reliability.

Two sets of labels are told apart by colour and by line style (Okabe & Ito 2008: told apart by the colour-blind);
every number stands with what it is a part of. Where a model is good all that matters lies in one corner, so curves
are drawn whole and, beside that, as large as their corner allows.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from giemsa.render import palette
from giemsa.stats import metrics
from giemsa.verdicts import DISCLAIMER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes

    from giemsa.formats.evaluations import Predictions
    from giemsa.stats.evaluation import DonorReport, Report, SetReport
    from giemsa.stats.intervals import Estimate
    from giemsa.stats.metrics import BoolArray, FloatArray

BLUE, VERMILLION, GREY = palette.BLUE.hex, palette.VERMILLION.hex, palette.GREY.hex
_STYLES: Final = {"official": (BLUE, "-", "o"), "confirmed": (VERMILLION, "--", "s")}
_METRICS: Final = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "ece": "ECE"}
_CORNERS: Final = (0.02, 0.05, 0.1, 0.2, 0.4)  # widths of the enlarged corner, of which the smallest that fits is taken
FIGURE_SETTINGS: Final[Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "text.parse_math": False,  # a dollar in a model's name is a dollar
}


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """One set of labels, with what a curve is drawn from."""

    name: str
    report: SetReport
    positive: BoolArray
    p: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    """A curve, and the point on it where the threshold is."""

    entry: _Series
    x: FloatArray
    y: FloatArray
    point: tuple[float, float]
    drawstyle: Any = "default"


def draw_evaluation(folder: Path, predictions: Predictions, report: Report, *, title: str = "") -> None:
    """Draw the four figures of an evaluation into a folder.

    Parameters
    ----------
    folder : Path
        Gets `confusion_matrix.png`, `roc.png`, `precision_recall.png` and `reliability.png`.
    predictions : Predictions
        What the report was computed from.
    report : Report
        The figures that stand in the legends.
    title : str
        What was evaluated, such as the model's name.
    """
    series = _series(predictions, report)
    draw_confusion(folder / "confusion_matrix.png", report, title=title)
    draw_roc(folder / "roc.png", series, report.threshold, title=title)
    draw_precision_recall(folder / "precision_recall.png", series, report.threshold, title=title)
    draw_reliability(folder / "reliability.png", series, title=title)


def draw_confusion(path: Path, report: Report, *, title: str = "") -> None:
    """Draw a matrix of labels and verdicts for each set of labels; donors have one row only."""
    sets = [("official labels", report.official), ("confirmed labels", report.confirmed)]
    panels = [(name, entry) for name, entry in sets if entry is not None]
    wide = len(panels) + (report.donors is not None)
    with _canvas(path, (4.1 * wide + 0.5, 5.3)) as canvas:
        canvas.suptitle(f"{_heading('Verdicts', title)}, threshold {report.threshold:.4g}")
        axes = canvas.subplots(1, wide, squeeze=False)[0]
        for axis, (name, entry) in zip(axes, panels, strict=False):
            counts = entry.confusion
            table = np.array(
                [
                    [counts.true_positives, counts.false_negatives],
                    [counts.false_positives, counts.true_negatives],
                ]
            )
            _draw_table(axis, table, ["parasitized", "uninfected"], f"{name}\n{_whose(entry)}")
            axis.set_ylabel("label")
        if report.donors is not None:
            donors = report.donors
            row = np.array([[donors.false_positives, donors.cells - donors.false_positives]], dtype=np.float64)
            _draw_table(axes[-1], row, ["no malaria"], f"donors: nobody has malaria\n{_whose(donors)}")


def draw_roc(path: Path, series: list[_Series], threshold: float, *, title: str = "") -> None:
    """Draw the ROC curve of each set of labels, with the point of the threshold."""
    curves = []
    for entry in series:
        if entry.report.figures["roc_auc"].value is not None:
            curve, counts = metrics.roc_curve(entry.positive, entry.p), entry.report.confusion
            point = (1 - float(metrics.specificity(counts)), float(metrics.sensitivity(counts)))
            curves.append(_Curve(entry, curve.false_positive_rate, curve.true_positive_rate, point))
    width = _corner([max(curve.point[0], 1 - curve.point[1]) for curve in curves])
    with _canvas(path, (5.9 if width is None else 10.5, 5.8)) as canvas:
        whole, *corner = canvas.subplots(1, 1 if width is None else 2, squeeze=False)[0]
        for axis in (whole, *corner):
            _draw_curves(axis, curves)
            axis.set_xlabel("false positive rate: uninfected cells called parasitized")
            axis.set_ylabel("sensitivity: parasitized cells called parasitized")
        whole.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="chance")
        _frame(whole, (0, 1), (0, 1))
        for axis, part in zip(corner, [width or 1.0], strict=False):
            _frame(axis, (0, part), (1 - part, 1), title="the upper left corner, enlarged")
        _legend(canvas, whole, _heading("ROC", title), series, "roc_auc", threshold=threshold)


def draw_precision_recall(path: Path, series: list[_Series], threshold: float, *, title: str = "") -> None:
    """Draw the precision-recall curve of each set of labels, with the point of the threshold."""
    curves = []
    for entry in series:
        if entry.report.figures["pr_auc"].value is not None:
            curve, counts = metrics.precision_recall_curve(entry.positive, entry.p), entry.report.confusion
            point = (float(metrics.sensitivity(counts)), float(metrics.precision(counts)))
            curves.append(_Curve(entry, curve.recall, curve.precision, point, drawstyle="steps-post"))
    width = _corner([1 - min(curve.point) for curve in curves if not np.isnan(curve.point[1])])
    with _canvas(path, (5.9 if width is None else 10.5, 5.8)) as canvas:
        whole, *corner = canvas.subplots(1, 1 if width is None else 2, squeeze=False)[0]
        for axis in (whole, *corner):
            _draw_curves(axis, curves)
            axis.set_xlabel("recall (sensitivity): parasitized cells called parasitized")
            axis.set_ylabel("precision: of the cells called parasitized, those that are")
        for entry in series:
            whole.axhline(float(entry.positive.mean()), color=_line(entry)["color"], linewidth=0.8, linestyle=":")
        whole.plot([], [], color=GREY, linewidth=0.8, linestyle=":", label="chance: share of parasitized cells")
        _frame(whole, (0, 1), (0, 1))
        for axis, part in zip(corner, [width or 1.0], strict=False):
            _frame(axis, (1 - part, 1), (1 - part, 1), title="the upper right corner, enlarged")
        _legend(canvas, whole, _heading("Precision and recall", title), series, "pr_auc", threshold=threshold)


def draw_reliability(path: Path, series: list[_Series], *, title: str = "") -> None:
    """Draw predicted against observed shares of parasitized cells, with how many cells each bin has below."""
    with _canvas(path, (6.2, 7.8)) as canvas:
        upper, lower = canvas.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        for entry in series:
            curve = entry.report.reliability
            filled = curve.cells > 0
            line = _line(entry)
            low, high = entry.report.share_low, entry.report.share_high
            upper.plot(
                curve.mean_p[filled],
                curve.share[filled],
                **line,
                marker=_STYLES[entry.name][2],
                markersize=4,
            )
            known = filled & ~np.isnan(low)
            upper.vlines(curve.mean_p[known], low[known], high[known], color=line["color"], linewidth=1, alpha=0.7)
            lower.stairs(curve.cells, curve.edges, **{**line, "linewidth": 1.2})
        upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="perfect calibration")
        upper.set_ylabel("share of cells labelled parasitized")
        upper.set_xlim(-0.02, 1.02)
        upper.set_ylim(-0.02, 1.02)
        upper.grid(alpha=0.25)
        _legend(canvas, upper, _heading("Reliability", title), series, "ece")
        most = max([10.0, *(float(entry.report.reliability.cells.max()) for entry in series)])
        ticks = [0, *(10**power for power in range(int(np.log10(most)) + 1))]
        lower.set_yscale("symlog", linthresh=1)
        lower.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
        lower.set_yticks([], minor=True)
        lower.set_ylim(0, 1.5 * most)
        lower.set_ylabel("cells in bin")
        lower.set_xlabel(f"p_parasitized (mean of each of {metrics.ECE_BINS} bins; bars: 95 % interval)")


def _series(predictions: Predictions, report: Report) -> list[_Series]:
    scored = ~np.isnan(predictions.p_parasitized)
    official = np.asarray(predictions.official)
    found = []
    if report.official.cells:
        found.append(_Series("official", report.official, official[scored] == 1, predictions.p_parasitized[scored]))
    if report.confirmed is not None and report.confirmed.cells and predictions.reviewed is not None:
        agreed = scored & (np.asarray(predictions.reviewed) == official)
        found.append(_Series("confirmed", report.confirmed, official[agreed] == 1, predictions.p_parasitized[agreed]))
    return found


@contextmanager
def _canvas(path: Path, size: tuple[float, float]) -> Iterator[Canvas]:
    """An empty figure with the disclaimer below it, and write it as a PNG once it is drawn."""
    with mpl.rc_context(FIGURE_SETTINGS):
        canvas = Canvas(figsize=size, layout="constrained")
        FigureCanvasAgg(canvas)
        yield canvas
        canvas.supxlabel(DISCLAIMER, fontsize=7.5, color=GREY)
        canvas.savefig(path, dpi=130, format="png")


def _draw_table(axis: Axes, counts: FloatArray, labels: list[str], title: str) -> None:
    """Draw counts [rows, 2], shaded and given in per cent of their row."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for row, column in np.ndindex(counts.shape):
        share = f"\n{100 * shares[row, column]:.2f} % of row" if totals[row, 0] else ""
        dark = shares[row, column] > 0.6
        axis.text(
            column,
            row,
            f"{int(counts[row, column]):,}{share}",
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    axis.set_xticks([0, 1], ["parasitized", "uninfected"])
    axis.set_yticks(range(len(labels)), labels, rotation=90, va="center")
    axis.set_xlabel("verdict")
    axis.set_title(title)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _draw_curves(axis: Axes, curves: list[_Curve]) -> None:
    for curve in curves:
        line = _line(curve.entry)
        axis.plot(curve.x, curve.y, **line, drawstyle=curve.drawstyle)
        marker = _STYLES[curve.entry.name][2]
        axis.plot(*curve.point, marker=marker, color=line["color"], markeredgecolor="black", clip_on=False, zorder=3)


def _corner(distances: list[float]) -> float | None:
    """Width that the enlarged corner must have to hold points at these distances; None if it would be all."""
    worst = max(distances, default=1.0)
    return next((width for width in _CORNERS if worst <= 0.7 * width), None)


def _frame(axis: Axes, x: tuple[float, float], y: tuple[float, float], *, title: str = "") -> None:
    for (low, high), limit in ((x, axis.set_xlim), (y, axis.set_ylim)):
        margin = 0.02 * (high - low)
        limit(low - margin, high + margin)
    axis.grid(alpha=0.25)
    axis.set_title(title)


def _legend(
    canvas: Canvas, axis: Axes, heading: str, series: list[_Series], metric: str, *, threshold: float | None = None
) -> None:
    """Put heading and legend above everything, where no curve can run under them."""
    handles, labels = axis.get_legend_handles_labels()
    lines = [Line2D([], [], **_line(entry), marker=_STYLES[entry.name][2], markersize=5) for entry in series]
    texts = [f"{_named(entry)}\n{_METRICS[metric]} {_interval(entry.report.figures[metric])}" for entry in series]
    if threshold is not None:
        handles.append(Line2D([], [], marker="o", color="white", markeredgecolor="black", linestyle=""))
        labels.append(f"threshold {threshold:.4g}")
    columns = 2 if canvas.get_figwidth() > 8 else 1
    canvas.legend(
        [*lines, *handles],
        [*texts, *labels],
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        title=heading,
        title_fontsize=12,
    )


def _line(entry: _Series) -> dict[str, Any]:
    colour, style, _ = _STYLES[entry.name]
    return {"color": colour, "linestyle": style, "linewidth": 1.6}


def _heading(what: str, title: str) -> str:
    return f"{what}: {title}" if title else what


def _named(entry: _Series) -> str:
    return f"{entry.name} labels, {_whose(entry.report)}"


def _whose(report: SetReport | DonorReport) -> str:
    whose = f" of {report.patients:,} patients" if report.patients else ""
    return f"{report.cells:,} cells{whose}"


def _interval(figure: Estimate) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return f"{figure.value:.5f}" if figure.value is not None else f"not defined: {figure.reason}"
    return f"{figure.value:.5f} [{figure.low:.5f}, {figure.high:.5f}]"
