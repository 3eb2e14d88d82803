"""The report of a smear: one self-contained page, in which a person confirms or rejects suspicious cells.

The count with its error stands first and follows the decisions: `report.js` computes what `counting` computes, from the
same rates. Nothing is fetched, and nothing leaves the page but the file of decisions that a person saves.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.render.templates import render
from giemsa.smear import counting, sentences
from giemsa.smear.finding import RED_CELL_UM
from giemsa.words import counted

if TYPE_CHECKING:
    from giemsa.smear.results import JudgedCell, JudgedField, Smear, SmearSummary

CELLS_SHOWN: Final = 400
"""Suspicious cells in a report; of more, the most suspicious."""
FIELDS_SHOWN: Final = 40
"""Fields shown with their cells; of more, those with the most suspicious cells. All are in the table."""
UNFOLDED: Final = 5
"""Refused fields whose reasons are shown without a click."""
_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class _Row:
    """A field in the table of all of them."""

    entries: tuple[str, ...]
    refused: bool


class ReportBuilder:
    """Takes judged fields one after the other and keeps of them what a report shows: its memory is bounded.

    Parameters
    ----------
    cut : float
        `parasitized` means a relative logit of at least this.
    """

    def __init__(self, cut: float) -> None:
        self.cut = cut
        self._cells: list[tuple[float, int, JudgedCell, bytes]] = []
        self._decided: list[JudgedCell] = []
        self._strata: dict[str, counting.Counts] = {}
        self._fields: list[tuple[float, int, JudgedField]] = []
        self._rows: list[_Row] = []
        self._added = 0

    def add(self, judged: JudgedField) -> None:
        """Take one more field."""
        thumbnails = {t.cell: t.jpeg for t in judged.read.thumbnails}
        for index, cell in enumerate(judged.cells):
            if cell.decision is not None:
                self._decided.append(cell)
            if index in thumbnails or cell.decision is not None:
                self._added += 1
                entry = (cell.relative_logit, -self._added, cell, thumbnails.get(index, b""))
                _keep(self._cells, entry, CELLS_SHOWN)
        if judged.reference is not None:
            stratum = counting.stratum_of([cell.relative_logit for cell in judged.cells], self.cut)
            self._strata[judged.read.field] = counting.by_stratum(stratum)
        self._rows.append(_row(judged))
        if judged.read.picture:
            worst = max((c.relative_logit for c in judged.cells), default=-1e9)
            _keep(self._fields, (worst, -len(self._rows), judged), FIELDS_SHOWN)

    def render(
        self, summary: SmearSummary, rates: counting.Rates, complete_fields: frozenset[str] = frozenset()
    ) -> str:
        """The page.

        Parameters
        ----------
        summary : SmearSummary
            Of these fields.
        rates : Rates
            What its count is based on.
        complete_fields : frozenset of str
            Fields in which a person has looked at every cell.
        """
        suspicious = [(cell, jpeg) for _, _, cell, jpeg in sorted(self._cells, reverse=True)]
        shown_keys = {cell.key for cell, _ in suspicious}
        data = {
            "patient": summary.patient,
            "model_sha256": summary.model_sha256,
            "cut": self.cut,
            "edges": (self.cut * np.array(counting.EDGES)).tolist(),
            "fields": self._strata,
            "basis": basis_of(summary.count, rates) if summary.count else None,
            "cells": [_cell_data(cell) for cell, _ in suspicious],
            "extra": [_cell_data(cell) for cell in self._decided if cell.key not in shown_keys],
            "complete_fields": sorted(complete_fields & self._strata.keys()),
        }
        return render(
            "smear_report.html.j2",
            title=f"Smear of {summary.patient}" if summary.patient else "Smear",
            css=_asset("report.css"),
            js=_asset("report.js"),
            data=data,
            summary=summary,
            sentences=sentences.sentences(replace(summary, refused=())),  # these have a list of their own
            unfolded=UNFOLDED,
            cut=self.cut,
            suspicious=suspicious,
            shown=[judged for _, _, judged in sorted(self._fields, reverse=True)],
            rows=self._rows,
            red_cell_um=RED_CELL_UM,
            counted=counted,
            short=_short,
            key=_key,
        )


def render_report(smear: Smear, rates: counting.Rates | None = None) -> str:
    """The report of a smear that is held in memory, as one HTML page.

    Parameters
    ----------
    smear : Smear
        Of `read_smear`.
    rates : Rates, optional
        What its count is based on: `Site.rates()`; None means that the smear was read without a site.
    """
    builder = ReportBuilder(smear.summary.cut)
    for judged in smear.fields:
        builder.add(judged)
    return builder.render(smear.summary, rates or counting.assumed_rates())


def _keep(heap: list[Any], entry: tuple[Any, ...], most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def basis_of(
    count: counting.Count, rates: counting.Rates, reader: counting.Reader = counting.ASSUMED_READER
) -> dict[str, Any]:
    """All that `report.js` needs to count a smear again, apart from its cells."""
    known = rates.for_smear(count.fields)
    return {
        "known": {
            "sensitivity": known.sensitivity.tolist(),
            "false_alarms": known.false_alarms.tolist(),
            "infected": known.infected,
            "healthy": known.healthy,
            "missed": known.missed,
        },
        "reader": {"false_confirmations": reader.false_confirmations, "misses": reader.misses, "bulk": reader.bulk},
        "critical": count.detection.critical,
        "red_cells_per_ul": None if count.red_cells_per_ul_assumed else count.red_cells_per_ul,
        "measured": rates.measured,
    }


def _cell_data(cell: JudgedCell) -> dict[str, Any]:
    return {
        "field": cell.field, "x0": cell.x0, "y0": cell.y0, "x1": cell.x1, "y1": cell.y1,
        "relative_logit": cell.relative_logit, "decision": cell.decision,
    }  # fmt: skip


def _row(judged: JudgedField) -> _Row:
    read = judged.read
    entries = (
        read.field,
        f"{len(judged.cells):,}" if not read.refusal else "",
        f"{judged.called:,}" if not read.refusal else "",
        f"{read.cut:,}" if not read.refusal else "",
        f"{read.cell_diameter_px:.0f}" if read.cell_diameter_px else "",
        f"{judged.reference.centre:.2f} ± {judged.reference.spread:.2f}" if judged.reference else "",
        read.refusal or "counted",
    )
    return _Row(entries, bool(read.refusal))


def _key(cell: JudgedCell) -> str:
    """What report.js knows a cell by."""
    return json.dumps([cell.field, cell.x0, cell.y0, cell.x1, cell.y1, cell.relative_logit])


def _short(name: str) -> str:
    last = name.rpartition("/")[2]
    return last if len(last) <= 26 else f"{last[:12]}…{last[-12:]}"


@lru_cache(maxsize=4)
def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
