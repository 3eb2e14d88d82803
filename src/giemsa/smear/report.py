"""The report of a smear: one self-contained page, in which a person confirms or rejects suspicious cells.

The count with its error stands first and follows the decisions: `report.js` computes what `counting` computes, from the
same draws. Nothing is fetched, and nothing leaves the page but the file of decisions that a person saves.
"""

from __future__ import annotations

import heapq
import json
from base64 import b64encode
from dataclasses import replace
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from giemsa.smear import sentences
from giemsa.smear.finding import RED_CELL_UM
from giemsa.verdicts import DISCLAIMER
from giemsa.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from giemsa.smear.counting import Rates
    from giemsa.smear.results import JudgedCell, JudgedField, Smear, SmearSummary

CELLS_SHOWN: Final = 400
"""Suspicious cells in a report; of more, the most suspicious."""
FIELDS_SHOWN: Final = 40
"""Fields shown with their cells; of more, those with the most suspicious cells. All are in the table."""
UNFOLDED: Final = 5
"""Refused fields whose reasons are shown without a click."""
_HERE: Final = Path(__file__).parent


class ReportBuilder:
    """Takes judged fields in, one after the other, and keeps of them what a report shows: its memory is bounded.

    Parameters
    ----------
    cut : float
        `parasitized` means a relative logit of at least this.
    """

    def __init__(self, cut: float) -> None:
        self.cut = cut
        self._cells: list[tuple[float, int, JudgedCell, bytes]] = []
        self._fields: list[tuple[float, int, JudgedField]] = []
        self._rows: list[str] = []
        self._added = 0

    def add(self, judged: JudgedField) -> None:
        """Take one field in."""
        thumbnails = {t.cell: t.jpeg for t in judged.read.thumbnails}
        for index, cell in enumerate(judged.cells):
            if index in thumbnails or cell.decision is not None:
                self._added += 1
                entry = (cell.relative_logit, -self._added, cell, thumbnails.get(index, b""))
                _keep(self._cells, entry, CELLS_SHOWN)
        self._rows.append(_row(judged))
        if judged.read.picture:
            worst = max((c.relative_logit for c in judged.cells), default=-1e9)
            _keep(self._fields, (worst, -len(self._rows), judged), FIELDS_SHOWN)

    def render(self, summary: SmearSummary, rates: Rates) -> str:
        """Give the page.

        Parameters
        ----------
        summary : SmearSummary
            Of these fields.
        rates : Rates
            That its count goes by.
        """
        suspicious = [(cell, jpeg) for _, _, cell, jpeg in sorted(self._cells, reverse=True)]
        shown = [judged for _, _, judged in sorted(self._fields, reverse=True)]
        data = {
            "patient": summary.patient,
            "model_sha256": summary.model_sha256,
            "red_cells": summary.count.red_cells if summary.count else 0,
            "fields_counted": summary.fields_counted,
            "called_elsewhere": _called_elsewhere(summary, [cell for cell, _ in suspicious], self.cut),
            "cut": self.cut,
            "sensitivity": rates.sensitivity.tolist(),
            "false_alarms": rates.false_alarms.tolist(),
            "design_effect": rates.design_effect,
            "cells": [_cell_data(cell) for cell, _ in suspicious],
        }
        title = f"Smear of {summary.patient}" if summary.patient else "Smear"
        return _PAGE.format(
            title=escape(title),
            css=_asset("report.css"),
            js=_asset("report.js"),
            data=_embedded(data),
            headline=escape(sentences.headline(summary)),
            sentences=_sentences(summary),
            left_out=_left_out(summary),
            cells="".join(_figure(index, cell, jpeg, self.cut) for index, (cell, jpeg) in enumerate(suspicious))
            or "<p>No cell was judged.</p>",
            shown=f"{len(suspicious):,}",
            fields="".join(map(_field, shown)),
            field_note=_field_note(len(shown), len(self._rows)),
            rows="".join(self._rows),
            how=_how(summary),
            disclaimer=escape(DISCLAIMER),
        )


def render_report(smear: Smear, rates: Rates | None = None) -> str:
    """Give the report of a smear that is held in memory, as one HTML page.

    Parameters
    ----------
    smear : Smear
        Of `read_smear`.
    rates : Rates, optional
        That its count goes by: `Site.rates()`; None means that the smear was read without a site.
    """
    from giemsa.smear.counting import assumed_rates

    builder = ReportBuilder(smear.summary.cut)
    for judged in smear.fields:
        builder.add(judged)
    return builder.render(smear.summary, rates or assumed_rates())


def _keep(heap: list[Any], entry: tuple[Any, ...], most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def _called_elsewhere(summary: SmearSummary, shown: Sequence[JudgedCell], cut: float) -> int:
    """Count the called cells that the page does not show."""
    if summary.count is None:
        return 0
    called = summary.count.called + summary.count.rejected
    return called - sum(c.relative_logit >= cut or c.decision == "confirmed" for c in shown)


def _cell_data(cell: JudgedCell) -> dict[str, Any]:
    return {
        "field": cell.field, "x0": cell.x0, "y0": cell.y0, "x1": cell.x1, "y1": cell.y1,
        "relative_logit": cell.relative_logit, "decision": cell.decision,
    }  # fmt: skip


def _embedded(data: dict[str, Any]) -> str:
    """Write JSON that cannot end the script element that it stands in, whatever names fields have."""
    return json.dumps(data, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sentences(summary: SmearSummary) -> str:
    """List what is said after the headline; fields that were left out have a list of their own."""
    rest = sentences.sentences(replace(summary, refused=()))[1:]
    return "".join(f"<li>{escape(sentence)}</li>" for sentence in rest)


def _left_out(summary: SmearSummary) -> str:
    """List refused fields with their reasons; a long list is folded, so that it does not hide the cells."""
    if not summary.refused:
        return ""
    n = len(summary.refused)
    rows = "".join(f"<li><b>{escape(field)}</b>: {escape(reason)}</li>" for field, reason in summary.refused)
    unfolded = " open" if n <= UNFOLDED else ""
    return (
        f'<details class="left-out"{unfolded}><summary>{counted(n, "field")} left out of the count'
        f"</summary><ul>{rows}</ul></details>"
    )


def _figure(index: int, cell: JudgedCell, jpeg: bytes, cut: float) -> str:
    picture = (
        f'<img src="data:image/jpeg;base64,{b64encode(jpeg).decode()}" alt="cell {index + 1}" loading="lazy">'
        if jpeg
        else '<span class="none">no picture kept</span>'
    )
    word = "called parasitized" if cell.relative_logit >= cut else "below the cut"
    return (
        f'<figure class="cell" id="cell{index}" data-cell="{index}" tabindex="-1">{picture}<figcaption>'
        f"<b>{cell.relative_logit:.1f}</b> <span>{word}</span><br><small>{escape(_short(cell.field))}<br>x {cell.x0}, "
        f'y {cell.y0}</small><br><output class="decision"></output></figcaption></figure>'
    )


def _field(judged: JudgedField) -> str:
    read = judged.read
    boxes = "".join(_box(cell) for cell in judged.cells)
    said = f"left out: {read.refusal}" if read.refusal else (
        f"{len(judged.cells)} red cells, {judged.called} called parasitized; a red cell measures "
        f"{read.cell_diameter_px:.0f} px"
    )  # fmt: skip
    tick = "" if read.refusal else (
        f'<label><input type="checkbox" class="complete" data-field="{escape(read.field)}"> '
        "I have looked at every cell of this field</label>"
    )  # fmt: skip
    return (
        f"<details class='field'><summary>{escape(read.field)}: {escape(said)}</summary>{tick}"
        f'<div class="photo"><img loading="lazy" alt="{escape(read.field)}" '
        f'src="data:image/jpeg;base64,{b64encode(read.picture).decode()}">'
        f'<svg viewBox="0 0 {read.width} {read.height}">{boxes}</svg></div></details>'
    )


def _box(cell: JudgedCell) -> str:
    key = json.dumps([cell.field, cell.x0, cell.y0, cell.x1, cell.y1, cell.relative_logit])
    return (
        f'<rect class="{cell.verdict}" x="{cell.x0}" y="{cell.y0}" width="{cell.x1 - cell.x0}" '
        f'height="{cell.y1 - cell.y0}" data-key="{escape(key)}"><title>{cell.verdict}, relative logit '
        f"{cell.relative_logit:.1f}</title></rect>"
    )


def _row(judged: JudgedField) -> str:
    read = judged.read
    cells = [
        read.field,
        f"{len(judged.cells):,}" if not read.refusal else "",
        f"{judged.called:,}" if not read.refusal else "",
        f"{read.cut:,}" if not read.refusal else "",
        f"{read.cell_diameter_px:.0f}" if read.cell_diameter_px else "",
        f"{judged.reference.centre:.2f} ± {judged.reference.spread:.2f}" if judged.reference else "",
        read.refusal or "counted",
    ]
    kind = ' class="refused"' if read.refusal else ""
    return f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _field_note(shown: int, all_fields: int) -> str:
    if shown < all_fields:
        return f"{shown} of {all_fields:,} fields are shown with their cells, the most suspicious first; all are below."
    return "The most suspicious first."


def _how(summary: SmearSummary) -> str:
    lines = [
        f"Red cells were found by their density of stain at a scale at which they are all of one size; the typical one "
        f"measures {summary.cell_diameter_px:.0f} px, which means {summary.px_per_um:.1f} px per micrometre if a red "
        f"cell measures {RED_CELL_UM} micrometres. {summary.cells_cut:,} that a border cuts were left out.",
        f"Each was scored by the model {summary.model} (SHA-256 {summary.model_sha256[:12]}), and its logit taken "
        f"relative to the healthy cells of its own field: over this smear, {summary.reference_cells:,} reference cells "
        f"have their middle at {summary.reference_centre:.2f} and a spread of {summary.reference_spread:.2f}. Cells are "
        f"called parasitized from {summary.cut:g} spreads above the middle.",
        "The interval is Bayesian, after Rogan and Gladen: it knows how many cells were counted and how well it is known "
        "how often the classifier is right. What you decide here replaces the classifier's calls; false alarms are then "
        "possible only among the cells that you have not decided on.",
        f"Made by Giemsa {summary.giemsa}" + (f": {summary.command}" if summary.command else "") + ".",
    ]
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _short(name: str) -> str:
    last = name.rpartition("/")[2]
    return last if len(last) <= 26 else f"{last[:12]}…{last[-12:]}"


@lru_cache(maxsize=4)
def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p id="headline" class="headline" aria-live="polite">{headline}</p>
<p id="limits"></p>
<ul>{sentences}</ul>
{left_out}
<p class="medical">{disclaimer}</p>
</header>
<main>
<section aria-labelledby="suspicious">
<h2 id="suspicious">Suspicious cells</h2>
<p>{shown} cells, the most suspicious first. The number is the relative logit. <kbd>→</kbd> <kbd>←</kbd> <kbd>↓</kbd>
<kbd>↑</kbd> move, <kbd>C</kbd> confirms a parasite, <kbd>R</kbd> rejects it, <kbd>U</kbd> takes a decision back,
<kbd>S</kbd> saves; a click confirms, another rejects, a third takes back.</p>
<p class="bar"><button id="save" type="button">Save decisions</button> <b id="brief"></b>
<span id="progress" aria-live="polite"></span></p>
<div id="cells">{cells}</div>
</section>
<section aria-labelledby="fields">
<h2 id="fields">Fields</h2>
<p>{field_note} Open one to see its cells; a click on a cell confirms it, another rejects it, a third takes that back.</p>
{fields}
<div class="table-scroll" tabindex="0" role="region" aria-label="All fields"><table>
<thead><tr><th>field</th><th>red cells</th><th>parasitized</th><th>cut by the border</th><th>cell, px</th>
<th>healthy logits</th><th>use</th></tr></thead>
<tbody>{rows}</tbody>
</table></div>
</section>
<section aria-labelledby="how">
<h2 id="how">How it was done</h2>
{how}
</section>
</main>
<script type="application/json" id="data">{data}</script>
<script>{js}
giemsaReport.live(document, JSON.parse(document.getElementById("data").textContent));</script>
</body>
</html>
"""
