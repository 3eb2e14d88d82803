"""A comparison as people read it: tables in HTML, Markdown and on the terminal, and two pictures.

The same `Sheet` objects are written everywhere, so that no two of them can say different things.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullFormatter

from giemsa.lab.evaluation.diagrams import FIGURE_SETTINGS
from giemsa.render import palette
from giemsa.render.templates import render
from giemsa.stats import metrics
from giemsa.verdicts import DISCLAIMER, is_parasitized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from giemsa.lab.comparing.comparison import Comparison, LabelSet
    from giemsa.stats.intervals import Estimate

FILES: Final = ("compare.html", "compare.md", "compare.json", "roc.png", "size_and_speed.png")
"""Everything that stands in a comparison's folder."""

_TITLES: Final = {
    "official": "Official labels",
    "confirmed": "Confirmed labels: those on which two readings agree",
    "donors": "Donors: people without malaria, so that every cell called parasitized is a false alarm",
}
_COLUMNS: Final = {
    "accuracy": "accuracy, % of cells",
    "sensitivity": "sensitivity, % of parasitized",
    "specificity": "specificity, % of uninfected",
    "f1": "F1",
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "brier": "Brier score (0 is perfect)",
}
_SHARES: Final = {"accuracy", "sensitivity", "specificity"}
_DIFFERENCES: Final = ("accuracy", "sensitivity", "specificity", "roc_auc")
_COLOURS: Final = tuple(colour.hex for colour in palette.SERIES)  # beyond these, lines repeat them in other styles
_LINES: Final = ("-", "--", ":", "-.")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
_GREY: Final = palette.GREY.hex
_TEXTS: Final = {
    "roc.png": "ROC curves of all runs; the areas under them stand in the tables",
    "size_and_speed.png": "Accuracy of all runs against the size of their models and their speed, as in the tables",
}
_MARKDOWN_TEXTS: Final = {"roc.png": "ROC curves", "size_and_speed.png": "Accuracy against size and speed"}


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table.

    Attributes
    ----------
    title, note : str
        Above and below it.
    columns : tuple of str
        The first one names the rows.
    rows : tuple of tuple of str
        As many entries as columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def sheets_of(comparison: Comparison, costs: Sequence[Mapping[str, Any]]) -> list[Sheet]:
    """Make the tables: figures by set of labels, differences, costs."""
    found = [_figure_sheet(comparison, label_set) for label_set in comparison.sets]
    found += [_difference_sheet(comparison, label_set) for label_set in comparison.sets]
    found.append(_cost_sheet(comparison, costs))
    return found


def write_pages(folder: Path, comparison: Comparison, content: Mapping[str, Any], sheets: Sequence[Sheet]) -> None:
    """Write every file of `FILES` into a folder.

    Parameters
    ----------
    folder : Path
        It is there already.
    comparison : Comparison
        What the curves are drawn from.
    content : mapping
        Of compare.json; pages quote its command, versions and machine.
    sheets : sequence of Sheet
        From `sheets_of`.
    """
    (folder / "compare.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    draw_roc_curves(folder / "roc.png", comparison)
    draw_size_and_speed(folder / "size_and_speed.png", comparison, content["runs"])
    (folder / "compare.md").write_text(to_markdown(sheets, content), encoding="utf-8", errors="backslashreplace")
    pictures = {name: (folder / name).read_bytes() for name in _TEXTS}
    (folder / "compare.html").write_text(
        to_html(sheets, content, pictures), encoding="utf-8", errors="backslashreplace"
    )


def to_markdown(sheets: Sequence[Sheet], content: Mapping[str, Any]) -> str:
    """Tables as Markdown, with the pictures beside the file."""
    return render("comparison.md.j2", pictures=list(_MARKDOWN_TEXTS.items()), **_page(sheets, content))


def to_html(sheets: Sequence[Sheet], content: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Everything as one HTML file that needs no other and no network."""
    shown = [(_TEXTS[name], data) for name, data in pictures.items()]
    return render("comparison.html.j2", pictures=shown, warning_colour=palette.VERMILLION.hex, **_page(sheets, content))


def draw_roc_curves(path: Path, comparison: Comparison) -> None:
    """Draw every run's ROC curve into one plot, whole and its corner enlarged, for each set of labels."""
    sets = [
        label_set
        for label_set in comparison.sets
        if label_set.name != "donors" and 0 < label_set.parasitized < label_set.cells
    ]
    names = [entry.name for entry in comparison.entries]
    with mpl.rc_context(FIGURE_SETTINGS):
        canvas = Canvas(figsize=(10.5, 5 * max(1, len(sets)) + 0.3 * len(names) + 0.5), layout="constrained")
        canvas.supxlabel(DISCLAIMER, fontsize=7.5, color=_GREY)
        panels = canvas.subplots(max(1, len(sets)), 2, squeeze=False)
        handles: list[Any] = []
        for label_set, (whole, corner) in zip(sets, panels, strict=False):
            width = _corner_width(label_set)
            for axis in (whole, corner):
                handles = [
                    _draw_roc(axis, label_set, place, comparison.entries[place].threshold)
                    for place in range(len(names))
                ]
                axis.set_xlabel("uninfected cells called parasitized (1 - specificity)")
                axis.set_ylabel("parasitized cells called so (sensitivity)")
                axis.grid(alpha=0.25)
            whole.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
            whole.set(
                xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=f"{label_set.name} labels, {label_set.cells:,} cells"
            )
            margin = 0.02 * width
            corner.set(
                xlim=(-margin, width + margin),
                ylim=(1 - width - margin, 1 + margin),
                title="the upper left corner, enlarged",
            )
        for whole, corner in panels[len(sets) :]:
            whole.text(0.5, 0.5, "all cells have the same label:\nthere is no ROC curve", ha="center")
            for axis in (whole, corner):
                axis.set_axis_off()
        if handles:
            areas = [_legend_text(comparison, sets[0], place) for place in range(len(names))]
            title = f"ROC; AUC on {sets[0].name} labels; points: thresholds"
            canvas.legend(handles, areas, loc="outside upper center", ncols=1, frameon=False, title=title)
        canvas.savefig(path, dpi=130, format="png")


def draw_size_and_speed(path: Path, comparison: Comparison, runs: Sequence[Mapping[str, Any]]) -> None:
    """Draw accuracy, with its interval, against the model file's size and against cells per second."""
    label_set = next((one for one in comparison.sets if one.name == "confirmed"), comparison.sets[0])
    with mpl.rc_context(FIGURE_SETTINGS):
        canvas = Canvas(figsize=(10.5, 4.8), layout="constrained")
        canvas.supxlabel(DISCLAIMER, fontsize=7.5, color=_GREY)
        left, right = canvas.subplots(1, 2, sharey=True)
        drawn: dict[str, Any] = {}
        for place, run in enumerate(runs):
            accuracy = label_set.scores[place].figures["accuracy"]
            if accuracy.value is None:
                continue
            speed = run["cells_per_second"]
            size = run["model_bytes"]
            for axis, x in ((left, size and size / 1e6), (right, speed and speed["value"])):
                if x:
                    drawn[run["name"]] = _draw_point(axis, x, accuracy, place)
        for axis, label in ((left, "model file, MB"), (right, "cells per second on this machine")):
            axis.set_xlabel(label)
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            _label_short_axis(axis)
            axis.grid(alpha=0.25, which="both")
            if not axis.has_data():
                axis.text(0.5, 0.5, "not known of any run", ha="center", transform=axis.transAxes)
        left.set_ylabel(f"accuracy, % ({label_set.name} labels)")
        canvas.legend(list(drawn.values()), list(drawn), loc="outside upper center", ncols=3, frameon=False)
        canvas.savefig(path, dpi=130, format="png")


def _figure_sheet(comparison: Comparison, label_set: LabelSet) -> Sheet:
    columns = list(_COLUMNS) if label_set.name != "donors" else ["specificity"]
    rows = []
    for entry, scores in zip(comparison.entries, label_set.scores, strict=True):
        row = [entry.name, *(_write(scores.figures[name], percent=name in _SHARES) for name in columns)]
        if label_set.name == "donors":
            row.append(_write(scores.figures["specificity"].scaled(1e6, complement=True), digits=0))
        rows.append(tuple(row))
    heads = [_COLUMNS[name] for name in columns]
    if label_set.name == "donors":
        heads = ["specificity, % of the donors' cells", "false alarms per million healthy cells"]
    units = f"{label_set.units:,} {comparison.unit}"
    note = (
        f"{label_set.cells:,} cells, {label_set.parasitized:,} of them parasitized. "
        f"In brackets: 95 % interval over {units}: bootstrap (BCa, {comparison.resamples:,} resamples, "
        f"seed {comparison.seed}), of a share the wider of it and the exact one; with * exact alone, since no event, "
        "or no other, was seen."
    )
    return Sheet(_TITLES[label_set.name], ("run", *heads), tuple(rows), note)


def _difference_sheet(comparison: Comparison, label_set: LabelSet) -> Sheet:
    """Give the differences of every run from the first one given."""
    wanted = ("specificity",) if label_set.name == "donors" else _DIFFERENCES
    first = comparison.entries[0].name
    rows = []
    for place, entry in enumerate(comparison.entries[1:], start=1):
        figures = label_set.differences[0, place]
        rows.append((entry.name, *(_write(figures[name], percent=name in _SHARES, signed=True) for name in wanted)))
    heads = [f"{_COLUMNS[name].partition(',')[0]}{', points' if name in _SHARES else ''}" for name in wanted]
    note = (
        f"Each run less {first}, on the same {comparison.unit} in each resample. An interval that holds 0 says that "
        "these data do not tell the two apart. Differences of every other pair stand in compare.json."
    )
    return Sheet(f"Differences from {first}, {label_set.name} labels", ("run", *heads), tuple(rows), note)


def _cost_sheet(comparison: Comparison, costs: Sequence[Mapping[str, Any]]) -> Sheet:
    rows = []
    for entry, cost in zip(comparison.entries, costs, strict=True):
        speed, parameters, size = cost["cells_per_second"], cost["parameters"], cost["model_bytes"]
        seconds = cost["training_seconds"]
        rows.append(
            (
                entry.name,
                entry.recipe or "not known",
                "not known" if parameters is None else f"{parameters:,}",
                "not known" if size is None else f"{size / 1000:,.0f}",
                "not measured"
                if speed is None
                else f"{speed['value']:,.0f} [{speed['low']:,.0f}, {speed['high']:,.0f}]",
                "not known" if seconds is None else f"{seconds / 60:,.1f} min on {cost['training_device']}",
            )
        )
    threads = next((cost["cells_per_second"]["threads"] for cost in costs if cost["cells_per_second"]), None)
    note = (
        f"Cells per second: median of five rounds, lowest and highest in brackets, {threads} threads; resizing and the "
        "model, decoding left out."
        if threads
        else ""
    )
    columns = ("run", "recipe", "parameters", "model file, kB", "cells per second", "training")
    return Sheet("Size, speed and training time", columns, tuple(rows), note)


def _write(figure: Estimate, *, percent: bool = False, signed: bool = False, digits: int | None = None) -> str:
    if figure.value is None:
        return f"not defined: {figure.reason}"
    scale = 100 if percent else 1
    places = digits if digits is not None else 2 if percent else 4
    sign = "+" if signed else ""

    def number(value: float) -> str:
        return f"{scale * value:{sign},.{places}f}"

    if figure.low is None or figure.high is None:
        return f"{number(figure.value)} ({figure.reason})"
    return f"{number(figure.value)} [{number(figure.low)}, {number(figure.high)}]{'*' if figure.exact else ''}"


def _draw_roc(axis: Axes, label_set: LabelSet, place: int, threshold: float) -> Any:  # noqa: ANN401  a line
    scores = label_set.scores[place]
    curve = metrics.roc_curve(scores.positive, scores.p_parasitized)
    style = _LINES[place // len(_COLOURS) % len(_LINES)]
    colour = _COLOURS[place % len(_COLOURS)]
    (line,) = axis.plot(
        curve.false_positive_rate, curve.true_positive_rate, color=colour, linestyle=style, linewidth=1.5
    )
    counts = metrics.confusion(scores.positive, is_parasitized(scores.p_parasitized, threshold))
    axis.plot(
        1 - float(metrics.specificity(counts)),
        float(metrics.sensitivity(counts)),
        marker=_MARKERS[place % len(_MARKERS)],
        color=colour,
        markeredgecolor="black",
    )
    return line


def _draw_point(axis: Axes, x: float, accuracy: Estimate, place: int) -> Any:  # noqa: ANN401  a container
    value = 100 * (accuracy.value or 0)
    low = value if accuracy.low is None else 100 * accuracy.low
    high = value if accuracy.high is None else 100 * accuracy.high
    return axis.errorbar(
        x,
        value,
        yerr=[[value - low], [high - value]],
        fmt=_MARKERS[place % len(_MARKERS)],
        color=_COLOURS[place % len(_COLOURS)],
        capsize=3,
        markersize=7,
    )


def _label_short_axis(axis: Axes) -> None:
    """On an axis of less than two decades label the steps between them too."""
    low, high = axis.get_xlim()
    if high / low < 100:
        axis.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if _leads_with_1_2_5(value) else ""))
    else:
        axis.xaxis.set_minor_formatter(NullFormatter())


def _leads_with_1_2_5(value: float) -> bool:
    return value > 0 and round(value / 10 ** math.floor(math.log10(value))) in {1, 2, 5}


def _corner_width(label_set: LabelSet) -> float:
    """Choose the enlarged corner so that the operating points of a good run fill it."""
    worst = 0.0
    for scores in label_set.scores:
        for name in ("sensitivity", "specificity"):
            worst = max(worst, 1 - (scores.figures[name].value or 0))
    return next((width for width in (0.02, 0.05, 0.1, 0.2, 0.4) if worst <= 0.8 * width), 0.5)


def _legend_text(comparison: Comparison, label_set: LabelSet, place: int) -> str:
    area = label_set.scores[place].figures["roc_auc"]
    return f"{comparison.entries[place].name}: AUC {_write(area)}"


def _page(sheets: Sequence[Sheet], content: Mapping[str, Any]) -> dict[str, Any]:
    """What both pages show."""
    return {
        "heading": f"Comparison of {len(content['runs'])} runs",
        "warnings": content["warnings"],
        "sheets": sheets,
        "provenance": _provenance(content),
        "disclaimer": DISCLAIMER,
    }


def _provenance(content: Mapping[str, Any]) -> list[str]:
    said = [f"Command: {content['command']}"] if content.get("command") else []
    for run in content["runs"]:
        parts = [f"threshold {run['threshold']:.4g}"]
        if run["split_part"]:
            parts.append(f"evaluated on: {run['split_part']}")
        if run["model_digest"]:
            parts.append(f"model SHA-256 {run['model_digest']}")
        if run["evaluated_by"]:
            parts.append(f"by `{run['evaluated_by']}`")
        said.append(f"{run['name']}: {'; '.join(parts)}")
    if content.get("data_digest"):
        said.append(f"Data: SHA-256 {content['data_digest']}")
    machine = content.get("machine")
    if machine:
        said.append(f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['system']}")
    if content.get("versions"):
        said.append("Versions: " + ", ".join(f"{name} {number}" for name, number in content["versions"].items()))
    if content.get("created"):
        said.append(f"Made {content['created']}")
    return said
