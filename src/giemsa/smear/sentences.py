"""What a count means, in sentences: the same ones on the terminal, in `summary.json` and in the report.

"Negative" is not among the words: a smear without parasites says what it rules out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from giemsa.words import counted

if TYPE_CHECKING:
    from giemsa.smear.counting import Count, Interval
    from giemsa.smear.results import SmearSummary


def sentences(summary: SmearSummary) -> list[str]:
    """Say what was counted, what it means, what it cannot tell, and how it was made."""
    said = [headline(summary)]
    if summary.count is not None:
        said += [limits(summary.count), per_microlitre(summary.count), rates(summary)]
    said += [f"Left out: {field}, {reason}." for field, reason in summary.refused]
    if summary.other_scale:
        named = ", ".join(f"{field} ({diameter:.0f} px)" for field, diameter in summary.other_scale)
        said.append(
            f"The typical red cell measures {summary.cell_diameter_px:.0f} px in this smear, but not in {named}: another "
            "magnification, or fields in which the estimate is wrong."
        )
    return said


def headline(summary: SmearSummary) -> str:
    """Give the count in one sentence."""
    fields = counted(summary.fields_counted, "field")
    if summary.count is None:
        return f"Nothing was counted: none of {counted(summary.fields, 'field')} can be judged."
    count = summary.count
    cells = f"{counted(count.red_cells, 'red cell')} of {fields}"
    if not count.told_from_none:
        found = "no parasite found" if count.called == 0 else (
            f"{counted(count.called, 'cell')} called parasitized, no more than false alarms explain,"
        )  # fmt: skip
        return (
            f"{found[0].upper()}{found[1:]} in {cells}; this rules out a parasitaemia of more than "
            f"{percent(count.rules_out)} (95 %)."
        )
    return (
        f"Parasitaemia {percent(count.parasitaemia.value)} (95 % interval {between(count.parasitaemia)}): "
        f"{counted(count.called, 'cell')} called parasitized in {cells}."
    )


def limits(count: Count) -> str:
    """Say which parasitaemia would have been seen, and what would halve that."""
    if count.detection_limit >= 1:
        return "No parasitaemia would be told from none in 95 of 100 such smears, with these cells and rates."
    limit = (
        "Limit of detection: the lowest parasitaemia that would be told from none in 95 of 100 such smears is "
        f"{percent(count.detection_limit)}"
    )
    if count.cells_to_halve_it is None:
        return (
            f"{limit}; more cells would not halve it, since it is not known well enough how often healthy cells are "
            "called parasitized: review more fields of this laboratory, or the suspicious cells of this smear."
        )
    return f"{limit}; {count.cells_to_halve_it:,} more red cells would halve it."


def per_microlitre(count: Count) -> str:
    """Give the density of parasites, and say what it assumes."""
    source = "assumed, since it was not given" if count.red_cells_per_ul_assumed else "as given"
    if count.told_from_none:
        figure = (f"{two_digits(count.per_ul.value)} parasitized cells per microlitre (95 % interval "
                  f"{two_digits(count.per_ul.low)} to {two_digits(count.per_ul.high)})")  # fmt: skip
    else:
        figure = f"Not more than {two_digits(count.rules_out * count.red_cells_per_ul)} parasitized cells per microlitre (95 %)"
    return f"{figure}, for {count.red_cells_per_ul:,.0f} red cells per microlitre, {source}."


def rates(summary: SmearSummary) -> str:
    """Say which rates of right and wrong calls the interval goes by."""
    wide = "" if summary.rates_measured else "; the interval is wide for that reason"
    effect = f", counts divided by a design effect of {summary.design_effect:.1f}" if summary.design_effect > 1 else ""
    return f"Rates of the classifier: {summary.rates}{effect}{wide}."


def percent(share: float) -> str:
    """Write a share in percent with two digits that count."""
    value = 100 * share
    if value >= 10:
        return f"{value:.0f} %"
    if value >= 1 or value == 0:
        return f"{value:.1f} %"
    return f"{value:.2g} %" if value >= 1e-4 else "0.0001 %"


def two_digits(number: float) -> str:
    """Write a number with the two digits that count."""
    return f"{float(f'{number:.2g}'):,.0f}"


def between(interval: Interval) -> str:
    """Write an interval of shares in percent."""
    return f"{percent(interval.low)} to {percent(interval.high)}"
