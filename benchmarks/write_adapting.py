"""Write the figures of docs/adapting.md from benchmarks/results/: none is typed by hand.

python benchmarks/write_adapting.py
"""

from __future__ import annotations

from typing import Any

from _common import DOCS, fill_figures, interval, read_result

NAMES = {
    "roc_auc": "ROC AUC",
    "sensitivity_at_1_percent": "sensitivity at 1 % false alarms",
    "sensitivity_at_0.1_percent": "sensitivity at 0.1 % false alarms",
}


def main() -> None:
    result = read_result("adaptation")
    adapted = figures(result, result["shipped"], result["fold"])
    fill_figures(DOCS / "adapting.md", f"{adapted}\n{on_a_phone(read_result('phone'))}")


def figures(result: dict[str, Any], shipped: dict[str, Any], fold: dict[str, Any]) -> str:
    laboratory = shipped["laboratory"]
    gained = "\n".join(
        f"| {name} | {interval(laboratory['before'][key])} | {interval(laboratory['after'][key])} "
        f"| {interval(laboratory['difference'][key])} |"
        for key, name in NAMES.items()
    )
    curve = "\n".join(
        f"| {one['parasites']} | {interval(one['roc_auc'])} | {interval(one['sensitivity_at_1_percent'])} |"
        for one in laboratory["learning_curve"]
    )
    kept = "\n".join(
        f"| {labels} | {name} | {interval(part['before'][key])} | {interval(part['after'][key])} |"
        for labels, key, name in (
            ("confirmed", "accuracy", "accuracy"), ("confirmed", "roc_auc", "ROC AUC"), ("donors", "specificity", "specificity")
        )
        for part in (fold["forgetting"][labels],)
    )  # fmt: skip
    machine = result["machine"]
    return f"""### Adapting to a laboratory

The shipped model, adapted to `iml` (IML_Malaria, Arshad et al. 2021): {shipped["n"]:,} cells of {shipped["units"]} photographs,
{shipped["parasitized"]} of them parasitized; each photograph judged by a model that has not seen it. 95 % intervals, bootstrap over photographs.

| | before | after | difference |
|---|---|---|---|
{gained}

| reviewed parasites learnt from | ROC AUC | sensitivity at 1 % false alarms |
|---|---|---|
{curve}

With as few as ten the AUC may fall before it rises; some two dozen reviewed parasites are worth the work.

What is forgotten, on official cells of {fold["forgetting"]["patients"]} patients that neither model was trained on (a fold's model of the
cross-validation, adapted in the same way), each at its own threshold; after adapting that is the laboratory's:

| labels | figure | before | after |
|---|---|---|---|
{kept}

{shipped["seconds"] / 60:.0f} minutes with the learning curve, {fold["seconds"] / 60:.0f} without, with one thread on {machine["cores"]} cores of {machine["processor"]} that did
other work too. `{result["command"]}`
"""


def on_a_phone(result: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {name} | {one['bytes'] / 1000:.0f} kB | {one['cells_per_second']['median']:,.0f} "
        f"({one['cells_per_second']['min']:,.0f} to {one['cells_per_second']['max']:,.0f}) "
        f"| {one.get('agreement', '').rstrip('.')} |"
        for name, one in result["models"].items()
    )
    return f"""### On a phone

| model | size | cells per second | against PyTorch |
|---|---|---|---|
{rows}

Decoded cells, one thread of {result["machine"]["processor"]} (not of a phone), median of {result["runs"]} runs in turns (least to most).
`{result["command"]}`
"""


if __name__ == "__main__":
    main()
