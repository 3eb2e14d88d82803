"""Write the figures of docs/adapting.md from benchmarks/results/: none is typed by hand.

python benchmarks/write_adapting.py
"""

from __future__ import annotations

from _common import DOCS, fill_figures, from_template, interval, read_result, with_range

NAMES = {
    "roc_auc": "ROC AUC",
    "sensitivity_at_1_percent": "sensitivity at 1 % false alarms",
    "sensitivity_at_0.1_percent": "sensitivity at 0.1 % false alarms",
}


FORGOTTEN = (
    ("confirmed", "accuracy", "accuracy"),
    ("confirmed", "roc_auc", "ROC AUC"),
    ("donors", "specificity", "specificity"),
)


def main() -> None:
    result = read_result("adaptation")
    figures = from_template(
        "adapting",
        names=NAMES,
        forgotten=FORGOTTEN,
        shipped=result["shipped"],
        fold=result["fold"],
        machine=result["machine"],
        command=result["command"],
        phone=read_result("phone"),
        interval=interval,
        spread=with_range,
    )
    fill_figures(DOCS / "adapting.md", figures)


if __name__ == "__main__":
    main()
