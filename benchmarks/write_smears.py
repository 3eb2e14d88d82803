"""Write the figures of docs/smears.md from benchmarks/results/: none is typed by hand.

python benchmarks/write_smears.py
"""

from __future__ import annotations

from statistics import mean, median
from typing import Any

from _common import DOCS, fill_figures, from_template, interval, read_result, with_range

PARTS = ("finding", "judging", "speed", "robustness")
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
        coverage=(coverage := read_result("count_coverage")),
        coverage_rows=coverage_over(coverage),
        review_rows=by_review(coverage["site"]),
        detection_rows=detection(coverage["detection"]),
        fields=(fields := read_result("count_fields")),
        fields_rows=annotated(fields["laboratories"]),
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


def coverage_over(result: dict[str, Any]) -> Rows:
    """Worst and mean over all cells of each part of the grid."""
    named = {"site": "1, 3 or 10 slides reviewed", "clean review": "one slide reviewed, without a false alarm",
             "no site": "no slide reviewed"}  # fmt: skip
    return [
        ("known of the laboratory", "cells of the grid", "95 % interval holds the truth: mean", "worst",
         "no parasites, told from none: mean", "worst", "\"not more than\" holds: worst",
         "width to an oracle's: median", "most", "at most half again"),
        *(
            (named[name], one["cells"], share(one["mean_coverage"]), share(one["least_coverage"]),
             share(one["mean_none_told"], 2), share(one["most_none_told"]), share(one["least_rules_out"]),
             f"{one['median_width_to_oracle']:.2f}" if one["median_width_to_oracle"] else "",
             f"{one['most_width_to_oracle']:.2f}" if one["median_width_to_oracle"] else "",
             f"{share(one['within_half_again'], 0)} of cells" if one["median_width_to_oracle"] else "")
            for name, one in result["worst"].items()
        ),
    ]  # fmt: skip


def by_review(rows: list[dict[str, Any]]) -> Rows:
    """By strata of score and by calls only, after each kind of review, over all cells of the grid that have it."""
    table: Rows = [
        ("review of the suspicious cells", "coverage: mean", "worst", "coverage by calls only: mean",
         "width by strata to width by calls only: median"),
    ]  # fmt: skip
    for review in dict.fromkeys(row["review"] for row in rows):
        some = [row for row in rows if row["review"] == review]
        table.append(
            (review, share(mean(row["coverage"] for row in some)), share(min(row["coverage"] for row in some)),
             share(mean(row["coverage_of_calls"] for row in some)),
             f"{median(row['width_to_calls'] for row in some):.2f}")
        )  # fmt: skip
    return table


def detection(rows: list[dict[str, Any]]) -> Rows:
    """Median stated limits by the slides that were reviewed, and how often smears at the limit are told."""
    table: Rows = [
        ("slides reviewed", "red cells", "by calls: median limit", "detected there: worst",
         "by review: median limit", "detected there: worst"),
    ]  # fmt: skip
    for slides, cells in dict.fromkeys((row["slides"], row["red_cells"]) for row in rows):
        entries: list[object] = [slides, cells]
        for way in ("calls", "review"):
            some = [row for row in rows if (row["slides"], row["red_cells"], row["way"]) == (slides, cells, way)]
            entries += [share(median(row["median_limit"] for row in some), 2),
                        share(min(row["detected"] for row in some if row["detected"] is not None))]  # fmt: skip
        table.append(tuple(entries))
    return table


def annotated(laboratories: dict[str, Any]) -> Rows:
    """Counts of annotated fields."""
    table: Rows = [
        ("laboratory", "rates", "looked at", "blocks", "interval holds the annotated count", "told from none",
         "told from none without their parasites", "width, median", "mean difference (limits of agreement)",
         "within a quarter"),
    ]  # fmt: skip
    for name, one in laboratories.items():
        for row in one["summary"]:
            low, high = row["limits_of_agreement"]
            table.append(
                (NAMES[name], row["rates"], row["review"], row["blocks"], row["covered"], row["told"],
                 row["healthy_told"], share(row["median_width"]),
                 f"{share(row['mean_difference'], sign=True)} ({share(low, sign=True)} to {share(high, sign=True)})",
                 row["within_a_quarter"])
            )  # fmt: skip
    return table


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
