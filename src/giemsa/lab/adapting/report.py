"""What an adaptation changed, before and after: on the laboratory's held-back cells, and on the model's first kind.

adaptation.json   every figure with its interval, and all that is needed to make it again
adaptation.md     the same as tables
adaptation.png    ROC curves before and after, and the learning curve
held_back.csv     one row for each of the laboratory's cells
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from giemsa.files import replace_file, write_file
from giemsa.formats.evaluations import Predictions
from giemsa.lab.comparing.comparison import compare
from giemsa.lab.comparing.entries import Entry
from giemsa.render import palette
from giemsa.spreadsheets import GuardedWriter
from giemsa.stats.bootstrap import RESAMPLES, Draws, draw_many, estimate_difference
from giemsa.stats.metrics import roc_auc, roc_curve, sensitivity_at
from giemsa.verdicts import DISCLAIMER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.data.laboratory import Laboratory
    from giemsa.lab.adapting.adaptation import Adaptation, Rehearsal, Start
    from giemsa.lab.training.calibration import Calibration

FALSE_ALARM_RATES: Final = (0.01, 0.001)
"""Shares of uninfected cells called parasitized at which sensitivity is given."""
_SIDES: Final = ("before", "after")
_TOO_FEW: Final = "too few uninfected cells to see so rare false alarms"
_NAMES: Final = {
    "roc_auc": "ROC AUC",
    "sensitivity_at_1_percent": "sensitivity at 1 % false alarms, %",
    "sensitivity_at_0.1_percent": "sensitivity at 0.1 % false alarms, %",
    "sensitivity": "sensitivity at its threshold, %",
    "specificity": "specificity at its threshold, %",
}
_FORGETTING: Final = ("roc_auc", "accuracy", "sensitivity", "specificity")
_BLUE, _VERMILLION, _GREY = palette.BLUE.hex, palette.VERMILLION.hex, palette.GREY.hex


def laboratory_figures(
    laboratory: Laboratory, adaptation: Adaptation, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """The laboratory's figures before and after, and the paired differences.

    Intervals resample the laboratory's units; before and after in the same resamples.
    """
    sides = {
        "before": (adaptation.before, adaptation.called_before),
        "after": (adaptation.after, adaptation.called_after),
    }
    drawn = {
        side: _draw(laboratory, score, called, resamples=resamples, seed=seed)
        for side, (score, called) in sides.items()
    }
    found: dict[str, Any] = {
        side: {
            name: drawn[side][name]
            .estimate(share=_share(name, laboratory, sides[side][1]), undefined=_TOO_FEW)
            .to_dict()
            for name in _NAMES
        }
        for side in sides
    }
    found["difference"] = {
        name: estimate_difference(drawn["before"][name], drawn["after"][name]).to_dict() for name in _NAMES
    }
    found["learning_curve"] = _curve_figures(laboratory, adaptation, drawn["before"], resamples, seed)
    return found


def forgetting(
    start: Start, adaptation: Adaptation, rehearsal: Rehearsal, *, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Compare before and after on cells of the kind that the model comes from, at each model's own threshold."""
    calibrations = {"before": start.calibration, "after": adaptation.calibration}
    logits = {"before": adaptation.judged_before, "after": adaptation.judged_after}
    entries = []
    for side, calibration in calibrations.items():
        logit = logits[side]
        assert logit is not None
        entries.append(Entry(side, side, _predictions(rehearsal, logit, calibration), calibration.threshold))
    comparison = compare(entries, resamples=resamples)
    return {
        "note": rehearsal.note,
        "patients": len(rehearsal.judged_index.patients),
        **{
            entry.name: {
                "n": entry.cells,
                "parasitized": entry.parasitized,
                **{
                    side: {name: figure.to_dict() for name, figure in scores.figures.items()}
                    for side, scores in zip(calibrations, entry.scores, strict=True)
                },
                "difference": {name: figure.to_dict() for name, figure in entry.differences[0, 1].items()},
            }
            for entry in comparison.sets
        },
    }


def write_report(
    folder: Path,
    laboratory: Laboratory,
    start: Start,
    adaptation: Adaptation,
    rehearsal: Rehearsal | None,
    provenance: Mapping[str, Any],
    *,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Write the report's files into the run's folder, and return the content of adaptation.json."""
    positive = laboratory.positive
    content: dict[str, Any] = {
        "format": 1,
        "disclaimer": DISCLAIMER,
        "positive_class": "parasitized",
        "n": len(positive),
        "parasitized": int(positive.sum()),
        "uninfected": int((~positive).sum()),
        "unit": laboratory.kind,
        "units": len(set(laboratory.units)),
        "folds": int(adaptation.fold.max()) + 1,
        "bootstrap": {"unit": laboratory.kind, "resamples": resamples, "seed": 0, "confidence": 0.95},
        "calibration": asdict(adaptation.calibration),
        "calibration_before": asdict(start.calibration),
        "laboratory": laboratory_figures(laboratory, adaptation, resamples=resamples),
        "forgetting": None if rehearsal is None else forgetting(start, adaptation, rehearsal, resamples=resamples),
        "notes": list(laboratory.notes),
        **provenance,
    }
    write_file(folder / "adaptation.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    write_file(folder / "adaptation.md", to_markdown(content))
    _write_cells(folder / "held_back.csv", laboratory, adaptation)
    draw(folder / "adaptation.png", laboratory, adaptation, content)
    return content


def to_markdown(content: Mapping[str, Any]) -> str:
    """Write the report as Markdown."""
    unit = content["unit"]
    site = content["laboratory"]
    lines = [
        "# Adapted to a laboratory",
        "",
        f"{content['n']:,} reviewed cells of {content['units']} {unit}, {content['parasitized']} of them parasitized. "
        f"Each of the {unit} was held back once ({content['folds']} folds), and judged by a model that had seen none "
        "of its cells.",
        "",
        "## The laboratory's held-back cells",
        "",
        "| | before | after | difference |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {text} | "
        + " | ".join(_write(site[side][name], name, signed=side == "difference") for side in (*_SIDES, "difference"))
        + " |"
        for name, text in _NAMES.items()
    ]
    lines += [
        "",
        f"In brackets: 95 % interval over {content['units']} {unit}, of a share the wider of bootstrap and exact "
        "(Clopper-Pearson); with * exact alone, since no event, or no other, was seen. Verdicts "
        "before: at the old threshold; after: at the threshold of the other folds.",
    ]
    if site["learning_curve"]:
        lines += [
            "",
            "## How many reviewed parasites it takes",
            "",
            "| parasites reviewed | ROC AUC | sensitivity at 1 % false alarms, % |",
            "|---:|---:|---:|",
        ]
        lines += [
            f"| {point['parasites']} | {_write(point['roc_auc'], 'roc_auc')} | "
            f"{_write(point['sensitivity_at_1_percent'], 'sensitivity')} |"
            for point in site["learning_curve"]
        ]
    lines += _forgetting_lines(content["forgetting"])
    calibration = content["calibration"]
    lines += [
        "",
        f"The kept model calls a cell parasitized from p_parasitized = {calibration['threshold']:.4g} on "
        f"({calibration['source']}).",
        "",
        *(f"- {note}" for note in content["notes"]),
        f"- Command: `{content.get('command', '')}`",
        "",
        DISCLAIMER,
        "",
    ]
    return "\n".join(lines)


def draw(path: Path, laboratory: Laboratory, adaptation: Adaptation, content: Mapping[str, Any]) -> None:
    """Draw ROC curves over a logarithmic axis of false alarms, and the learning curve."""
    positive = laboratory.positive
    settings: Any = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}
    with mpl.rc_context(settings):
        canvas = Canvas(figsize=(10.5, 4.9), layout="constrained")
        canvas.supxlabel(DISCLAIMER, fontsize=7.5, color=_GREY)
        left, right = canvas.subplots(1, 2)
        floor = 0.5 / max(1, int((~positive).sum()))
        for side, colour, style in (("before", _BLUE, "--"), ("after", _VERMILLION, "-")):
            curve = roc_curve(positive, adaptation.before if side == "before" else adaptation.after)
            area = content["laboratory"][side]["roc_auc"]["value"]
            left.plot(
                np.maximum(curve.false_positive_rate, floor),
                curve.true_positive_rate,
                color=colour,
                linestyle=style,
                drawstyle="steps-post",
                label=f"{side}: AUC {area:.4f}",
            )
        left.set(xscale="log", xlim=(floor, 1), ylim=(-0.02, 1.02))
        left.set_xlabel("false positive rate (log scale)")
        left.set_ylabel("sensitivity: parasitized cells called parasitized")
        left.set_title("the laboratory's held-back cells")
        left.legend(loc="lower right", frameon=False)
        left.grid(alpha=0.25)
        points = content["laboratory"]["learning_curve"]
        series = (
            ("roc_auc", _BLUE, "o", "ROC AUC"),
            ("sensitivity_at_1_percent", _VERMILLION, "s", "sensitivity at 1 % false alarms"),
        )
        for name, colour, marker, label in series:
            known = [point for point in points if point[name]["value"] is not None and point[name]["low"] is not None]
            if known:
                values = np.array([[point[name][key] for key in ("value", "low", "high")] for point in known])
                right.errorbar(
                    [point["parasites"] for point in known],
                    values[:, 0],
                    yerr=[values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]],
                    color=colour,
                    marker=marker,
                    capsize=3,
                    label=label,
                )
        right.set_xlabel("reviewed parasites that were trained on (0: before)")
        right.set_title(f"how many to review; bars: 95 %, {laboratory.kind} resampled")
        right.grid(alpha=0.25)
        if points:
            right.legend(loc="lower right", frameon=False)
        else:
            right.text(0.5, 0.5, "no learning curve was measured", ha="center", transform=right.transAxes)
        with replace_file(path) as partial:
            canvas.savefig(partial, dpi=130, format="png")


def _draw(
    laboratory: Laboratory,
    score: NDArray[np.floating],
    called: NDArray[np.bool_],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Draws]:
    """Every figure of `_NAMES`, in resamples of the laboratory's units that depend on the seed alone."""
    positive = laboratory.positive
    names, unit = np.unique(laboratory.units, return_inverse=True)

    def figures(multiplicity: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        rows = [_figures(positive, score, called, times[unit]) for times in multiplicity]
        return {name: np.array([row[name] for row in rows]) for name in _NAMES}

    return draw_many(figures, len(names), laboratory.kind, np.random.default_rng(seed), resamples=resamples)


def _figures(
    positive: NDArray[np.bool_],
    score: NDArray[np.floating],
    called: NDArray[np.bool_],
    weight: NDArray[np.float64],
) -> dict[str, float]:
    infected, healthy = float(weight[positive].sum()), float(weight[~positive].sum())
    undefined = float("nan")
    return {
        "roc_auc": roc_auc(positive, score, weight),
        "sensitivity_at_1_percent": sensitivity_at(positive, score, FALSE_ALARM_RATES[0], weight),
        "sensitivity_at_0.1_percent": sensitivity_at(positive, score, FALSE_ALARM_RATES[1], weight),
        "sensitivity": float(weight[positive & called].sum()) / infected if infected else undefined,
        "specificity": float(weight[~positive & ~called].sum()) / healthy if healthy else undefined,
    }


def _curve_figures(
    laboratory: Laboratory, adaptation: Adaptation, before: Mapping[str, Draws], resamples: int, seed: int
) -> list[dict[str, Any]]:
    if not adaptation.curve:
        return []
    none = np.zeros(len(laboratory.index), np.bool_)
    points = []
    for parasites, logit in {0: adaptation.before, **adaptation.curve}.items():
        drawn = before if parasites == 0 else _draw(laboratory, logit, none, resamples=resamples, seed=seed)
        points.append(
            {
                "parasites": parasites,
                **{
                    name: drawn[name].estimate(undefined=_TOO_FEW).to_dict()
                    for name in ("roc_auc", "sensitivity_at_1_percent")
                },
            }
        )
    return points


def _share(
    name: str, laboratory: Laboratory, called: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """How many of how many cells of each unit, for the figures that are shares."""
    positive = laboratory.positive
    counted = {"sensitivity": (positive & called, positive), "specificity": (~positive & ~called, ~positive)}
    if name not in counted:
        return None
    unit = np.unique(laboratory.units, return_inverse=True)[1]
    events, trials = (np.bincount(unit, chosen).astype(np.float64) for chosen in counted[name])
    return (events, trials) if trials.sum() else None


def _predictions(rehearsal: Rehearsal, logit: NDArray[np.float32], calibration: Calibration) -> Predictions:
    index, labels = rehearsal.judged_index, rehearsal.judged_labels
    return Predictions(
        images=[cell.file for cell in index],
        p_parasitized=calibration.probability(logit),
        logit=logit.astype(np.float64),
        official=labels.official.astype(np.int8),
        reviewed=labels.reviewed if labels.review_known else None,
        donor=labels.donor if labels.donors_known else None,
        patients=[cell.patient for cell in index],
    )


def _forgetting_lines(entry: Mapping[str, Any] | None) -> list[str]:
    if entry is None:
        return ["", "No cells of the model's first kind were given (--data): what it has forgotten is not known."]
    lines = ["", "## Cells of the kind that the model was first trained on", ""]
    for labels in ("official", "confirmed", "donors"):
        if labels not in entry:
            continue
        part = entry[labels]
        lines += [
            f"{part['n']:,} cells of {entry['patients']} patients, {labels} labels:"
            if labels != "donors"
            else f"{part['n']:,} cells of donors, all of them uninfected:",
            "",
            "| | before | after | difference |",
            "|---|---:|---:|---:|",
        ]
        lines += [
            f"| {name.replace('_', ' ').replace('roc auc', 'ROC AUC')} | "
            + " | ".join(
                _write(part[side][name], name, signed=side == "difference") for side in (*_SIDES, "difference")
            )
            + " |"
            for name in (("specificity",) if labels == "donors" else _FORGETTING)
        ]
        lines.append("")
    return [*lines, str(entry["note"]), "", "Verdicts at each model's own threshold; shares in %."]


def _write(figure: Mapping[str, Any], name: str, *, signed: bool = False) -> str:
    if figure["value"] is None:
        return f"not defined: {figure['reason']}"
    scale, places = (1, 4) if name == "roc_auc" else (100, 2)
    sign = "+" if signed else ""
    text = f"{scale * figure['value']:{sign}.{places}f}"
    if figure["low"] is None:
        return f"{text} ({figure.get('reason', '')})"
    star = "*" if str(figure.get("interval", "")).startswith("exact") else ""
    return f"{text} [{scale * figure['low']:{sign}.{places}f}, {scale * figure['high']:{sign}.{places}f}]{star}"


def _write_cells(path: Path, laboratory: Laboratory, adaptation: Adaptation) -> None:
    words = np.array(["uninfected", "parasitized"])
    with replace_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = GuardedWriter(file)
        writer.writerow(
            ("image", laboratory.kind[:-1], "fold", "label", "verdict_before", "logit_before", "verdict", "logit")
        )
        for row, cell in enumerate(laboratory.index):
            writer.writerow(
                (
                    cell.file,
                    cell.group(laboratory.kind),
                    int(adaptation.fold[row]),
                    cell.label,
                    words[int(adaptation.called_before[row])],
                    f"{adaptation.before[row]:.9g}",
                    words[int(adaptation.called_after[row])],
                    f"{adaptation.after[row]:.9g}",
                )
            )
