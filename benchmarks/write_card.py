"""Write docs/model-card.md and the README's figures from benchmarks/results/: no figure is typed by hand.

python benchmarks/write_card.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _common import fill_figures, from_template
from giemsa.model import open_model

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"


def main() -> None:
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    (ROOT / "docs" / "model-card.md").write_text(card(results), encoding="utf-8")
    fill_figures(ROOT / "README.md", summary(results))


def summary(results: dict[str, Any]) -> str:
    """Give the README's table."""
    pooled, folds = results["crossval_pooled"], results["crossval_folds"]["mean"]
    rows = [
        ("accuracy, confirmed labels", percent(pooled["confirmed"]["accuracy"]), "cross-validated"),
        ("ROC AUC, confirmed labels", plain(pooled["confirmed"]["roc_auc"]), "cross-validated"),
        ("accuracy, official labels", percent(pooled["official"]["accuracy"]), "cross-validated"),
        (
            "specificity, all cells of people without malaria",
            percent(pooled["donors"]["specificity"]),
            "cross-validated",
        ),
        *laboratory_rows(results["other_laboratories"]),
        ("verdicts that change when black becomes another colour", most_changed(results["background"]), "at most"),
        ("verdicts that int8 changes", one(results["quantisation"]["verdicts_changed"]), "against fp32"),
        ("`giemsa classify`, cells per second", rate(results["classify_speed"]), machine(results["classify_speed"])),
    ]
    table = "\n".join(f"| {name} | {value} | {how} |" for name, value, how in rows)
    return (
        f"| what | figure | how |\n|---|---|---|\n{table}\n\n"
        "In brackets 95 % intervals, by bootstrap over patients (over photographs for other laboratories). "
        f"{pooled['n']:,} cells of {pooled['patients']} patients, folds grouped by patient; "
        f"mean over folds with each fold's threshold from the others: accuracy {one(folds['accuracy'])}, "
        f"ROC AUC {folds['roc_auc']:.5f}, specificity on donors {one(folds['donor_specificity'])}.\n"
    )


def laboratory_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Give two rows a laboratory."""
    rows = []
    for name, found in result["laboratories"].items():
        how = f"{found['parasites']} parasites, {found['red_cells']:,} red cells, {found['fields']} photographs"
        rows.append((f"another laboratory, {name}: ROC AUC", plain(found["auc"]), how))
        rows.append(
            (f"{name}: red cells called infected", percent(found["red_cells_called_infected"]), "same threshold")
        )
    return rows


def card(results: dict[str, Any]) -> str:
    """Text of the whole card."""
    model, pooled = open_model(), results["crossval_pooled"]
    return from_template(
        "model-card",
        results=results,
        model=model,
        about=model.card,
        run=results["final_run"],
        counts=results["final_run"]["counts"],
        pooled=pooled,
        donors=pooled["donors"],
        calibration=pooled["calibration"],
        size=Path(model.path).stat().st_size,
        weights=(Path(model.path).parent / "weights.safetensors").stat().st_size,
        label_row=label_row,
        donor_row=donor_row,
        fold_table=fold_table,
        laboratory_table=laboratory_table,
        missed=missed,
        other_rows=other_rows,
        machine=machine,
    )


def label_row(labels: str, pooled: dict[str, Any]) -> str:
    found = pooled[labels]
    shares = " | ".join(percent(found[name]) for name in ("accuracy", "sensitivity", "specificity"))
    return f"| {labels} | {found['n']:,} | {shares} | {plain(found['roc_auc'])} |"


def donor_row(name: str, found: dict[str, Any]) -> str:
    per_million, per_microlitre = found["false_positives_per_million"], found["parasites_per_microlitre"]
    return (
        f"| {name} | {found['n']:,} | {found['false_positives']} | {percent(found['specificity'])} | "
        f"{count(per_million)} | {count(per_microlitre)} |"
    )


def fold_table(folds: dict[str, Any]) -> str:
    lines = [
        "| fold | cells | accuracy | sensitivity | specificity | ROC AUC | donors |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in [*folds["folds"], {"fold": "mean", **folds["mean"]}]:
        shares = " | ".join(one(row[name]) for name in ("accuracy", "sensitivity", "specificity"))
        cells = f"{row['n']:,}" if "n" in row else ""
        lines.append(f"| {row['fold']} | {cells} | {shares} | {row['roc_auc']:.5f} | {one(row['donor_specificity'])} |")
    return "\n".join(lines)


def laboratory_table(result: dict[str, Any]) -> str:
    lines = [
        "| laboratory | photographs | parasites | red cells | ROC AUC | red cells called infected | sensitivity | at 1 in 100 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in result["laboratories"].items():
        lines.append(
            f"| {name} | {found['fields']} | {found['parasites']} | {found['red_cells']:,} | {plain(found['auc'])} | "
            f"{percent(found['red_cells_called_infected'])} | {percent(found['sensitivity'])} | "
            f"{percent(found['sensitivity_at_one_false_alarm_in_100'])} |"
        )
    return "\n".join(lines)


def missed(result: dict[str, Any]) -> str:
    return "; ".join(
        f"{name}: " + ", ".join(f"{stage} {share}" for stage, share in found["missed_by_stage"].items())
        for name, found in result["laboratories"].items()
    )


def other_rows(results: dict[str, Any]) -> str:
    speed, startup, training = results["classify_speed"], results["startup"], results["training_time"]
    ratio = speed["classify_rate_over_decode_rate"]
    times = startup["classify_over_imports"]
    reached = training["seconds_to_99_percent"]
    rows = [
        *(
            (f"verdicts that change when black becomes RGB {colour}", one(share), "background")
            for colour, share in results["background"]["verdicts_changed"].items()
        ),
        ("verdicts that int8 changes against fp32", one(results["quantisation"]["verdicts_changed"]), "quantisation"),
        ("`giemsa classify`, cells per second", f"{rate(speed)}, {speed['runs']} runs", "classify_speed"),
        (
            "rate of `giemsa classify` in parts of the rate of decoding alone",
            f"{one(ratio['median'])} ({one(ratio['min'])} to {one(ratio['max'])})",
            "classify_speed",
        ),
        ("peak memory", f"{speed['peak_memory_mb']:.0f} MB", "classify_speed"),
        (
            "start to one verdict over importing numpy, OpenCV and ONNX Runtime",
            f"{times['median']:.2f} ({times['min']:.2f} to {times['max']:.2f}), {startup['runs']} runs",
            "startup",
        ),
        (
            f"training, seconds per epoch on {training['threads']} threads",
            f"{training['seconds_per_epoch']['median']:.0f} ({training['cells']:,} cells)",
            "training_time",
        ),
        (
            "training, seconds to 99 % on the validation patients",
            "not reached" if reached is None else f"{reached:.0f} ({training['epochs_to_99_percent']} epochs)",
            "training_time",
        ),
    ]
    return "\n".join(f"| {name} | {value} | `{results[script]['command']}` |" for name, value, script in rows)


def percent(figure: dict[str, Any]) -> str:
    return f"{100 * figure['value']:.2f} % ({100 * figure['low']:.2f} to {100 * figure['high']:.2f})"


def plain(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.5f} ({figure['low']:.5f} to {figure['high']:.5f})"


def count(figure: dict[str, Any]) -> str:
    return f"{figure['value']:,.0f} ({figure['low']:,.0f} to {figure['high']:,.0f})"


def one(share: float) -> str:
    return f"{100 * share:.2f} %"


def most_changed(result: dict[str, Any]) -> str:
    return one(max(result["verdicts_changed"].values()))


def rate(result: dict[str, Any]) -> str:
    found = result["cells_per_second"]["classify"]
    return f"{found['median']:,.0f} ({found['min']:,.0f} to {found['max']:,.0f})"


def machine(result: dict[str, Any]) -> str:
    about = result["machine"]
    vnni = "with VNNI" if about["vnni"] else "without VNNI"
    return f"{about['cores']} cores of {about['processor']}, {vnni}"


if __name__ == "__main__":
    main()
