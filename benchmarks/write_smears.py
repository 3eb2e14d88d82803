"""Write the figures of docs/smears.md from benchmarks/results/: none is typed by hand.

python benchmarks/write_smears.py
"""

from __future__ import annotations

from typing import Any

from _common import DOCS, fill_figures, from_template, interval, read_result, with_range

PARTS = ("finding", "judging", "counting", "speed", "robustness")
NAMES = {"iml": "IML (Arshad et al. 2021)", "bbbc041": "BBBC041 (Ljosa et al. 2012)"}
Rows = list[tuple[object, ...]]


def main() -> None:
    results = {part: read_result(f"smear_{part}") for part in PARTS}
    laboratories = {part: result["laboratories"] for part, result in results.items()}
    figures = from_template(
        "smears",
        names=NAMES,
        finding_rows=finding(laboratories["finding"]),
        held_back=[NAMES[name] for name, found in laboratories["finding"].items() if found["cross_fitted"]],
        judging_rows=judging(laboratories["judging"]),
        refused=sum(len(found["refused"]) for found in laboratories["judging"].values()),
        counting_rows=counting(laboratories["counting"]),
        speed_rows=speed(laboratories["speed"]),
        memory_by_fields=next(
            one["peak_memory_mb_by_fields"]
            for one in laboratories["speed"].values()
            if "peak_memory_mb_by_fields" in one
        ),
        robustness_rows=robustness(laboratories["robustness"]),
        table=table,
        share=share,
        **results,
    )
    fill_figures(DOCS / "smears.md", figures)


def finding(laboratories: dict[str, Any]) -> Rows:
    return [
        ("laboratory", "fields", "right", "wrong", "missed", "F1", "precision", "recall",
         "cells per field, median error"),
        *(
            (NAMES[name], found["fields"], found["right"], found["wrong"], found["missed"], interval(found["f1"]),
             share(found["precision"]), share(found["recall"]), share(found["median_error_of_count"], sign=True))
            for name, found in laboratories.items()
        ),
    ]  # fmt: skip


def judging(laboratories: dict[str, Any]) -> Rows:
    rows: Rows = [
        ("laboratory", "cells", "score", "infected", "healthy", "ROC AUC", "sensitivity at 1 in 100", "at 1 in 1,000")
    ]
    for name, found in laboratories.items():
        for where in ("in_annotated_boxes", "end_to_end"):
            for score in ("logit", "relative_logit"):
                one = found[where][score]
                rows.append(
                    (NAMES[name], where.replace("_", " "), score.replace("_", " "), found[where]["infected"],
                     found[where]["healthy"], interval(one["auc"]), percent(one["sensitivity_at_one_in_100"]),
                     percent(one["sensitivity_at_one_in_1000"]))
                )  # fmt: skip
    return rows


def counting(laboratories: dict[str, Any]) -> Rows:
    return [
        ("laboratory", "fields", "parasitaemia", "smears", "covers the laboratory's", "covers the drawn fields'",
         "no parasites: called none", "width, median", "limit of detection, median", "covers without a site"),
        *(
            (NAMES[name], one["fields"], share(one["parasitaemia"], 2), one["smears"],
             share(one["covers_the_laboratory"]), share(one["covers_the_drawn_fields"]), share(one["none_called_none"]),
             share(one["median_width"], 2), share(one["median_detection_limit"], 2), share(one["covers_without_a_site"]))
            for name, one in laboratories.items()
        ),
    ]  # fmt: skip


def speed(laboratories: dict[str, Any]) -> Rows:
    return [
        ("laboratory", "fields", "megapixels", "cells", "decoding alone, MP/s", "`giemsa smear`, MP/s", "cells/s",
         "peak memory"),
        *(
            (NAMES[name], one["fields"], one["megapixels"], one["cells"],
             with_range(one["megapixels_per_second"]["decode"]), with_range(one["megapixels_per_second"]["smear"]),
             with_range(one["cells_per_second"], 0), f"{one['peak_memory_mb']:.0f} MB")
            for name, one in laboratories.items()
        ),
    ]  # fmt: skip


def robustness(laboratories: dict[str, Any]) -> Rows:
    head = ["change"]
    for name in laboratories:
        head += [f"{name}: verdicts changed", "found only before / after", "fields refused"]
    rows: Rows = [tuple(head)]
    for change in [change for change, one in next(iter(laboratories.values())).items() if isinstance(one, dict)]:
        row: list[object] = [change]
        for found in laboratories.values():
            one = found[change]
            row += [f"{one['verdicts_changed']} of {one['cells_in_both']:,}",
                    f"{one['found_before_only']} / {one['found_after_only']}", one["fields_refused"]]  # fmt: skip
        rows.append(tuple(row))
    return rows


def table(rows: Rows) -> str:
    lines = [rows[0], tuple("---" for _ in rows[0]), *rows[1:]]
    return "\n".join(
        "| " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in line) + " |" for line in lines
    )


def percent(one: dict[str, float]) -> str:
    return f"{one['value']:.0%} ({one['low']:.0%} to {one['high']:.0%})"


def share(value: float, digits: int = 1, *, sign: bool = False) -> str:
    return f"{100 * value:{'+' if sign else ''}.{digits}f} %"


if __name__ == "__main__":
    main()
