"""Make the embedded model again: the one command behind `src/giemsa/model/embedded/`.

1. `giemsa crossval default`, five folds of patients: figures, calibration and threshold.
2. `giemsa train default` on all patients.
3. `giemsa export --int8` with the calibration of 1 and the figures of 1 in the card.

The card is written by `write_card.py`, after the other benchmarks.

Some hours on two cores. What is complete is not done again: `--work` keeps the runs.

    python benchmarks/embedded_model.py --data CELLS --reviewed REVIEWED --work runs/embedded
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from giemsa.model.shipped import write_digests

HERE = Path(__file__).parent
EMBEDDED = HERE.parent / "src" / "giemsa" / "model" / "embedded"
CARD_FIGURES = ("accuracy", "sensitivity", "specificity", "roc_auc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reviewed", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    data = ["--data", str(args.data), "--reviewed", str(args.reviewed)]
    crossval, final, figures = args.work / "crossval", args.work / "final", args.work / "figures.json"
    giemsa("crossval", "default", *data, "--folds", "5", "--output", str(crossval), "--resume")
    giemsa("train", "default", *data, "--output", str(final), "--resume")
    metrics = json.loads((crossval / "pooled" / "metrics.json").read_text(encoding="utf-8"))
    figures.write_text(json.dumps(card_figures(metrics), indent=2) + "\n", encoding="utf-8")
    calibrated = ["--calibration", str(crossval / "calibration.json"), "--figures", str(figures), "--force"]
    giemsa("export", str(final), *data, *calibrated, "--output", str(final / "fp32.onnx"))
    giemsa("export", str(final), *data, *calibrated, "--int8", "--output", str(EMBEDDED / "model.onnx"))
    shutil.copyfile(final / "weights.safetensors", EMBEDDED / "weights.safetensors")
    shutil.copyfile(final / "recipe.toml", EMBEDDED / "recipe.toml")
    write_digests()
    subprocess.run([sys.executable, str(HERE / "embedded_curves.py"), str(crossval)], check=True)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    shutil.copyfile(crossval / "folds.json", results / "crossval_folds.json")
    (results / "crossval_pooled.json").write_text(json.dumps(public(metrics), indent=2) + "\n", encoding="utf-8")
    run = json.loads((final / "run.json").read_text(encoding="utf-8"))
    (results / "final_run.json").write_text(json.dumps(public(run), indent=2) + "\n", encoding="utf-8")


def giemsa(*arguments: str) -> None:
    """Run a command of Giemsa's, and stop with it if it fails."""
    print("giemsa", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "giemsa", *arguments], check=True)


def card_figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """Choose what stands in the model's metadata: cross-validated, with intervals."""
    chosen: dict[str, Any] = {
        "how": "5-fold cross-validation, patients grouped; 95 % intervals by bootstrap over patients",
    }
    for labels in ("official", "confirmed"):
        if labels in metrics:
            chosen[labels] = {name: metrics[labels][name] for name in CARD_FIGURES} | {"n": metrics[labels]["n"]}
    if "donors" in metrics:
        donors = metrics["donors"]
        chosen["donors"] = {name: donors[name] for name in ("n", "specificity", "false_positives_per_million")}
    return chosen


def public(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out the command line, which names folders of one machine."""
    return {name: value for name, value in content.items() if name != "command"}


if __name__ == "__main__":
    main()
