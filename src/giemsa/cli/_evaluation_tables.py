"""What `giemsa evaluate` prints: tables of figures by label set, and what they rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import argparse

    from rich.table import Table

    from giemsa.classifier import Classifier
    from giemsa.stats.evaluation import Report
    from giemsa.stats.intervals import Estimate

_OF_WHAT: Final = {
    "accuracy": ("accuracy", "of all cells"),
    "balanced_accuracy": ("balanced accuracy", "mean of the next two"),
    "sensitivity": ("sensitivity", "of cells labelled parasitized"),
    "specificity": ("specificity", "of cells labelled uninfected"),
    "precision": ("precision", "of cells classified as parasitized"),
    "f1": ("F1", "1 is perfect"),
    "mcc": ("MCC", "1 is perfect, 0 chance"),
    "roc_auc": ("ROC AUC", "1 is perfect, 0.5 chance"),
    "pr_auc": ("PR AUC", "1 is perfect"),
    "brier": ("Brier score", "0 is perfect"),
    "ece": ("ECE", "0 is perfect"),
}
_SHARES: Final = {"accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision"}


def print_report(args: argparse.Namespace, report: Report, classifier: Classifier, part: str) -> None:
    """Print the figures, what they rest on, and where they were written."""
    from giemsa.cli._console import table_console
    from giemsa.lab.evaluation.reports import FILES, MORE_FILES
    from giemsa.stats.evaluation import RED_CELLS_PER_MICROLITRE
    from giemsa.verdicts import DISCLAIMER

    console = table_console()
    console.print(_class_table(report))
    if report.donors is not None:
        console.print(_donor_table(report))
    lines = [
        f"In brackets: 95 % interval over {report.official.units:,} {report.unit}{_other_units(report)}: bootstrap "
        f"(BCa, {report.resamples:,} resamples, seed {report.seed}), of a share the wider of it and the exact one; "
        "with * exact alone, since no event, or no other, was seen.",
        f"Per microlitre: at {RED_CELLS_PER_MICROLITRE:,} red cells.",
        classifier.record(command=args.command_line).sentence(),
        f"Evaluated: {part}{f' of {args.split}' if args.split else ''}.",
        f"Left out as unreadable: {report.official.unreadable:,} pictures.",
        f"Written to {args.output}: {', '.join(FILES if args.no_galleries else (*FILES, *MORE_FILES))}.",
        DISCLAIMER,
    ]
    print("", *lines, sep="\n")


def _titled(title: str, columns: dict[str, str]) -> Table:
    """Table without rows: what is measured, a column for each set of cells with whose they are, and of what."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left")
    table.add_column("figure")
    for name, whose in columns.items():
        table.add_column(f"{name}\n{whose}", justify="right")
    table.add_column("of what")
    return table


def _class_table(report: Report) -> Table:
    sets = {"official labels": report.official, "confirmed labels": report.confirmed}
    known = {name: entry for name, entry in sets.items() if entry is not None}
    table = _titled("Cells, by their labels", {name: _whose(entry) for name, entry in known.items()})
    for metric, (name, of_what) in _OF_WHAT.items():
        entries = [_write(entry.figures[metric], percent=metric in _SHARES) for entry in known.values()]
        table.add_row(name, *entries, of_what)
    return table


def _donor_table(report: Report) -> Table:
    named = {"all cells": report.donors, "undisputed cells": report.donors_undisputed}
    known = {name: entry for name, entry in named.items() if entry is not None}
    title = "Donors: people without malaria, so that every parasitized cell is a false alarm"
    table = _titled(title, {name: _whose(entry) for name, entry in known.items()})
    entries = list(known.values())
    table.add_row(
        "specificity", *(_write(entry.specificity, percent=True) for entry in entries), "of the donors' cells"
    )
    table.add_row(
        "false positives", *(f"{entry.false_positives:,}" for entry in entries), "cells classified as parasitized"
    )
    table.add_row(
        "per million cells",
        *(_write(entry.false_positives_per_million, digits=0) for entry in entries),
        "classified as parasitized",
    )
    table.add_row(
        "apparent parasites",
        *(_write(entry.parasites_per_microlitre, digits=0) for entry in entries),
        "per microlitre of healthy blood",
    )
    if all(entry.patients_with_false_positives is not None for entry in entries):
        table.add_row(
            "donors with any",
            *(f"{entry.patients_with_false_positives:,} of {entry.patients:,}" for entry in entries),
            "donors with a false positive",
        )
    return table


def _other_units(report: Report) -> str:
    """How many units the other sets of labels rest on, where that differs."""
    sets = {"confirmed": report.confirmed, "donors": report.donors}
    others = [
        f"{name} {entry.units:,}"
        for name, entry in sets.items()
        if entry is not None and entry.units != report.official.units
    ]
    return f" ({', '.join(others)})" if others else ""


def _whose(entry: Any) -> str:  # noqa: ANN401 - a SetReport or a DonorReport
    whose = f" of {entry.patients:,} patients" if entry.patients else ""
    return f"{entry.cells:,} cells{whose}"


def _write(figure: Estimate, *, percent: bool = False, digits: int = 5) -> str:
    """A figure as `99.53 % [99.30, 99.71]`, or why there is none."""
    if figure.value is None:
        return f"not defined: {figure.reason}"
    scale, digits = (100, 2) if percent else (1, digits)
    value = f"{scale * figure.value:,.{digits}f}{' %' if percent else ''}"
    if figure.low is None or figure.high is None:
        return f"{value} ({figure.reason})"
    exact = "*" if figure.exact else " "
    return f"{value} [{scale * figure.low:,.{digits}f}, {scale * figure.high:,.{digits}f}]{exact}"
