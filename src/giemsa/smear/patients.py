"""A table of patients: one row a smear, for `giemsa smear --by-folder`."""

from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from giemsa.smear.results import SmearSummary

COLUMNS: Final = (
    "patient", "fields", "fields_counted", "red_cells", "called", "parasitaemia", "parasitaemia_low",
    "parasitaemia_high", "told_from_none", "rules_out", "detection_limit", "per_ul", "per_ul_low", "per_ul_high",
)  # fmt: skip
HEADER: Final = ",".join(COLUMNS) + "\n"


def patient_row(summary: SmearSummary) -> str:
    """Give a smear's row as CSV; shares from 0 to 1, empty where nothing could be counted."""
    count = summary.count
    row: list[object] = [summary.patient, summary.fields, summary.fields_counted]
    if count is None:
        row += [0] + [""] * (len(COLUMNS) - 4)
    else:
        share, per_ul = count.parasitaemia, count.per_ul
        row += [count.red_cells, count.called, share.value, share.low, share.high]
        row += [str(count.told_from_none).lower(), count.rules_out, count.detection_limit]
        row += [round(per_ul.value), round(per_ul.low), round(per_ul.high)]
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()
