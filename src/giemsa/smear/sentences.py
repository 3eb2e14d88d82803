"""What a count means, in sentences: the same ones on the terminal, in `summary.json` and in the report.

First what was seen, then what the count can be with what is known, then what it cannot tell. "Negative" is not among
the words, nothing reads as an all-clear or as a diagnosis, and where neither slides of this laboratory were reviewed nor
a person has looked at cells, no estimate is given. `headline`, `meaning` and `per_microlitre` follow a person's
decisions: `report.js` says the same, and both are held by the same vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from giemsa.smear.counting import ASSUMED_READER, ENOUGH_RED_CELLS
from giemsa.words import counted

if TYPE_CHECKING:
    from giemsa.smear.counting import Count, Detection, Interval
    from giemsa.smear.results import SmearSummary

FEW_SLIDES = 5
"""With fewer reviewed slides it is hardly known how much slides differ."""


def sentences(summary: SmearSummary) -> list[str]:
    """What was counted, what it can be, what it cannot tell, and how it was made."""
    count = summary.count
    if count is None:
        said = [f"Nothing was counted: none of {counted(summary.fields, 'field')} can be judged."]
    else:
        said = [headline(count), meaning(count, summary.rates_measured), per_microlitre(count)]
        said.append(limits(count.detection, summary.rates_measured))
        said += [enough(count)] if count.fields_missing else []
        said += [over_fields(summary)] if summary.fields_counted > 1 else []
        said += [rates(summary), reading(count)]
    said += [f"Left out: {field}, {reason}." for field, reason in summary.refused]
    if summary.other_scale:
        named = ", ".join(f"{field} ({diameter:.0f} px)" for field, diameter in summary.other_scale)
        said.append(
            f"The typical red cell measures {summary.cell_diameter_px:.0f} px in this smear, but not in {named}: another "
            "magnification, or fields in which the estimate is wrong."
        )
    return said


def headline(count: Count) -> str:
    """What was seen, in one sentence."""
    cells = f"{counted(count.red_cells, 'red cell')} of {counted(count.fields, 'field')}"
    confirmed = f"{counted(count.confirmed, 'parasitized cell')} confirmed"
    if count.confirmed + count.rejected == 0:
        if count.called == 0:
            return f"No suspicious cell in {cells}. This is no all-clear."
        them = "it" if count.called == 1 else "them"
        return f"{counted(count.called, 'suspicious cell')} in {cells}: look at {them}."
    if count.to_look_at:
        left = f"{counted(count.to_look_at, 'suspicious cell')} left to look at"
        return f"{confirmed} so far in {cells}; {left}."
    if count.called == 0:
        return f"{confirmed} in {cells}."
    every = f"All {count.called:,} suspicious cells were" if count.called > 1 else "The one suspicious cell was"
    if count.confirmed == 0:
        return f"{every} looked at, and no parasite was confirmed in {cells}. This is no all-clear."
    return f"{every} looked at: {confirmed} in {cells}."


def meaning(count: Count, measured: bool) -> str:
    """What the parasitaemia can be with what is known."""
    share = count.parasitaemia
    if count.told_from_none:
        why = (
            "more cells were confirmed than a reader's errors explain"
            if count.told_by == "review"
            else "more cells are called than false alarms on another slide of this laboratory explain"
        )
        return f"The parasitaemia is {between(share)} (95 % interval), about {percent(share.value)}: {why}."
    if not measured and count.confirmed + count.rejected == 0:
        return (
            "Calls alone tell next to nothing here, since no slide of this laboratory was reviewed: none of the red cells "
            f"may carry parasites, or up to {percent(count.rules_out)} (95 %). A person who looks at the cells can tell."
        )
    doubt = (
        f"; {counted(count.confirmed, 'confirmed cell')} may be a reader's error, so let a second person look"
        if count.confirmed
        else ""
    )
    return f"The parasitaemia is not more than {percent(count.rules_out)} (95 %), and may be none{doubt}."


def limits(detection: Detection, measured: bool) -> str:
    """Which parasitaemia would be told from none, with these cells and with any number of them."""
    review = (
        f"when a person looks at all suspicious cells, {_lowest(detection.review)} with these red cells, and "
        f"{_lowest(detection.review_floor)} with any number of them"
    )
    if not measured:
        return f"Limit of detection (95 of 100 such smears): calls alone tell none; {review}."
    return (
        f"Limit of detection (95 of 100 such smears): by calls alone, {_lowest(detection.calls)} with these red cells, and "
        f"{_lowest(detection.calls_floor)} with any number of them; {review}."
    )


def _lowest(share: float) -> str:
    return "none" if share >= 1 else percent(share)


def enough(count: Count) -> str:
    """How many fields are missing to the number of red cells that is counted on a thin film."""
    return (
        f"On a thin film at least {ENOUGH_RED_CELLS:,} red cells are counted (World Health Organization, MM-SOP-09): some "
        f"{counted(count.fields_missing, 'field')} like these are missing."
    )


def over_fields(summary: SmearSummary) -> str:
    """How much the classifier's calls differ from field to field."""
    least, median, most = summary.called_per_field
    return f"The classifier called {least:.0f} to {most:.0f} cells in a field, {median:g} in the median."


def per_microlitre(count: Count) -> str:
    """The density of parasitized cells, and what it assumes."""
    source = (
        "assumed (3.4 to 7.4 million in 95 of 100 people), since it was not given"
        if count.red_cells_per_ul_assumed
        else "as given"
    )
    if count.told_from_none:
        figure = (
            f"{two_digits(count.per_ul.low)} to {two_digits(count.per_ul.high)} parasitized cells per microlitre "
            "(95 % interval)"
        )
    else:
        figure = f"Not more than {two_digits(count.per_ul_rules_out)} parasitized cells per microlitre (95 %)"
    return f"{figure}, for {count.red_cells_per_ul:,.0f} red cells per microlitre, {source}."


def rates(summary: SmearSummary) -> str:
    """Which rates of right and wrong calls the interval is based on."""
    (found, found_low, found_high), (false, false_low, false_high) = summary.sensitivity, summary.false_alarms
    on_a_slide = (
        f"on another slide it calls {percent(found_low)} to {percent(found_high)} of infected cells (median "
        f"{percent(found)}) and {percent(false_low)} to {percent(false_high)} of healthy ones (median {percent(false)})"
    )
    few = ""
    if summary.rates_measured and summary.slides_reviewed < FEW_SLIDES:
        slides = counted(summary.slides_reviewed, "slide")
        few = f"; with {slides} reviewed it is hardly known how much slides differ, and the interval is wide for that reason"
    lacks = f"; {summary.rates_lack}" if summary.rates_lack else ""
    wide = "" if summary.rates_measured else "; the interval is wide for that reason"
    return f"Rates of the classifier, {summary.rates}: {on_a_slide}{wide}{few}{lacks}."


def reading(count: Count) -> str:
    """How right a person is believed to be, and how much people differ."""
    assumed = (
        f"Who looks at cells is assumed to confirm {percent(ASSUMED_READER.mean_false)} of healthy ones and to reject "
        f"{percent(ASSUMED_READER.mean_missed)} of infected ones"
    )
    return (
        f"{assumed if count.confirmed + count.rejected else 'Nobody has looked at cells yet'}; microscopists' own counts of "
        "one smear have relative standard deviations of 26 to 38 % (doi 10.1371/journal.pone.0304789)."
    )


def percent(share: float) -> str:
    """A share in percent with two digits that count."""
    value = 100 * share
    if value >= 10:
        return f"{value:.0f} %"
    if value >= 1 or value == 0:
        return f"{value:.1f} %"
    return f"{value:.2g} %" if value >= 1e-4 else "0.0001 %"


def two_digits(number: float) -> str:
    """A number with the two digits that count."""
    return f"{float(f'{number:.2g}'):,.0f}"


def between(interval: Interval) -> str:
    """An interval of shares in percent."""
    return f"{percent(interval.low)} to {percent(interval.high)}"
