"""Write the figures of docs/smears.md from benchmarks/results/: none is typed by hand.

python benchmarks/write_smears.py
"""

from __future__ import annotations

from typing import Any

from _common import DOCS, fill_figures, interval, read_result

PARTS = ("finding", "judging", "counting", "speed", "robustness")
NAMES = {"iml": "IML (Arshad et al. 2021)", "bbbc041": "BBBC041 (Ljosa et al. 2012)"}


def main() -> None:
    results = {part: read_result(f"smear_{part}") for part in PARTS}
    figures = "\n".join(
        [finding(results["finding"]), judging(results["judging"]), counting(results["counting"]),
         speed(results["speed"]), robustness(results["robustness"])]
    )  # fmt: skip
    fill_figures(DOCS / "smears.md", figures)


def finding(result: dict[str, Any]) -> str:
    rows = [
        (NAMES[name], found["fields"], found["right"], found["wrong"], found["missed"], interval(found["f1"]),
         share(found["precision"]), share(found["recall"]), share(found["median_error_of_count"], sign=True))
        for name, found in result["laboratories"].items()
    ]  # fmt: skip
    held_back = [NAMES[name] for name, found in result["laboratories"].items() if found["cross_fitted"]]
    return f"""### Finding cells

{table(("laboratory", "fields", "right", "wrong", "missed", "F1", "precision", "recall", "cells per field, median error"), rows)}

`{result["command"]}`. Boxes at an intersection over union of 0.5 against the annotated red cells; cells that the border cuts are
left out on both sides. Intervals: 95 %, bootstrap over fields. {" and ".join(held_back)}: found by networks that were not
trained on the field. Most of what counts as wrong there are red cells in clumps that nobody boxed.
"""


def judging(result: dict[str, Any]) -> str:
    rows = []
    for name, found in result["laboratories"].items():
        for where in ("in_annotated_boxes", "end_to_end"):
            for score in ("logit", "relative_logit"):
                one = found[where][score]
                rows.append(
                    (NAMES[name], where.replace("_", " "), score.replace("_", " "), found[where]["infected"],
                     found[where]["healthy"], interval(one["auc"]), percent(one["sensitivity_at_one_in_100"]),
                     percent(one["sensitivity_at_one_in_1000"]))
                )  # fmt: skip
    missed = []
    for name, found in result["laboratories"].items():
        at = found["at_default_cut"]
        stages = "; ".join(
            f"{stage} {one['missed']} of {one['of']} ({one['not_found']} not found)"
            for stage, one in at["missed_by_stage"].items()
        )
        missed.append(
            f"- {NAMES[name]}: {share(at['false_alarms'])} of healthy cells are called parasitized; missed: {stages}"
        )
    refused = [line for found in result["laboratories"].values() for line in found["refused"]]
    return f"""### Judging them

{table(("laboratory", "cells", "score", "infected", "healthy", "ROC AUC", "sensitivity at 1 in 100", "at 1 in 1,000"), rows)}

`{result["command"]}`. The classifier was neither trained nor calibrated nor thresholded on these laboratories. End to end, an infected
cell that was not found counts as the least suspicious of all. The embedded finder, used here, was trained on the boxes of
IML, so that what it finds there flatters it; the table above does not. {len(refused)} of the fields are refused and left out here.

At the cut that holds where no site is given ({result["default_cut"]:g} spreads):

{chr(10).join(missed)}
"""


def counting(result: dict[str, Any]) -> str:
    rows = [
        (NAMES[name], one["fields"], share(one["parasitaemia"], 2), one["smears"], share(one["covers_the_laboratory"]),
         share(one["covers_the_drawn_fields"]), share(one["none_called_none"]), share(one["median_width"], 2),
         share(one["median_detection_limit"], 2), share(one["covers_without_a_site"]))
        for name, one in result["laboratories"].items()
    ]  # fmt: skip
    head = ("laboratory", "fields", "parasitaemia", "smears", "covers the laboratory's", "covers the drawn fields'",
            "no parasites: called none", "width, median", "limit of detection, median", "covers without a site")  # fmt: skip
    return f"""### Counting

{table(head, rows)}

`{result["command"]}`. Smears are bootstrap samples of fields, rates come from the fields that are not in the sample. "Covers":
how often the 95 % interval holds the annotated parasitaemia.
"""


def speed(result: dict[str, Any]) -> str:
    rows = [
        (NAMES[name], one["fields"], one["megapixels"], one["cells"], spread(one["megapixels_per_second"]["decode"]),
         spread(one["megapixels_per_second"]["smear"]), spread(one["cells_per_second"], 0), f"{one['peak_memory_mb']:.0f} MB")
        for name, one in result["laboratories"].items()
    ]  # fmt: skip
    large, machine = result["field_of_16_megapixels"], result["machine"]
    many = next(
        one["peak_memory_mb_by_fields"] for one in result["laboratories"].values() if "peak_memory_mb_by_fields" in one
    )
    by_fields = ", ".join(f"{memory:.0f} MB for {fields} fields" for fields, memory in many.items())
    head = (
        "laboratory",
        "fields",
        "megapixels",
        "cells",
        "decoding alone, MP/s",
        "`giemsa smear`, MP/s",
        "cells/s",
        "peak memory",
    )
    return f"""### Speed and memory

{table(head, rows)}

`{result["command"]}`, {machine["cores"]} cores of {machine["processor"]}, whole processes with report and overlays, median of
{result["runs"]} runs (least to most). One field of 16 megapixels: {large["seconds"]:.1f} s from start to end, peak
{large["peak_memory_mb"]:.0f} MB, of which {large["memory_at_start_mb"]:.0f} MB before the first field. Peak memory
with the number of fields: {by_fields}.
"""


def robustness(result: dict[str, Any]) -> str:
    names = list(result["laboratories"])
    changes = [change for change, one in result["laboratories"][names[0]].items() if isinstance(one, dict)]
    rows = []
    for change in changes:
        row: list[object] = [change]
        for name in names:
            one = result["laboratories"][name][change]
            row += [f"{one['verdicts_changed']} of {one['cells_in_both']:,}",
                    f"{one['found_before_only']} / {one['found_after_only']}", one["fields_refused"]]  # fmt: skip
        rows.append(tuple(row))
    head = ["change"]
    for name in names:
        head += [f"{name}: verdicts changed", "found only before / after", "fields refused"]
    fields = ", ".join(f"{result['laboratories'][name]['fields']} of {name}" for name in names)
    return f"""### Robustness

{table(tuple(head), rows)}

`{result["command"]}`. Fields: {fields}.
"""


def table(head: tuple[object, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in line) + " |" for line in lines
    )


def percent(one: dict[str, float]) -> str:
    return f"{one['value']:.0%} ({one['low']:.0%} to {one['high']:.0%})"


def share(value: float, digits: int = 1, *, sign: bool = False) -> str:
    return f"{100 * value:{'+' if sign else ''}.{digits}f} %"


def spread(one: dict[str, float], digits: int = 1) -> str:
    return f"{one['median']:,.{digits}f} ({one['min']:,.{digits}f} to {one['max']:,.{digits}f})"


if __name__ == "__main__":
    main()
