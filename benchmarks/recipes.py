"""Train every recipe on the published random split and by patient, evaluate it, and keep the results.

One run folder each, `WORK/RECIPE-image` and `WORK/RECIPE-patient`; what is complete is not done again, and what was
interrupted goes on, so the script can be stopped and started as one likes. Of each, only JSON is kept in
`benchmarks/results/recipes/`: figures with intervals, counts, times, sizes, no names of files or patients.
`write_results.py` makes docs/results.md of these.

    python benchmarks/recipes.py --data CELLS --reviewed REVIEWED --weights WEIGHTS --work runs/recipes
    python benchmarks/recipes.py ... --only two-block-cnn-64 custom-cnn --by image

WEIGHTS holds partial ImageNet weights by the names in `PARTIAL`; the recipes that need others are left out, and
the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _common import RESULTS, machine

SPLITS = {"image": ["--by", "image"], "patient": ["--by", "patient"]}
"""Of every five cells, or patients, one is held back."""

ORDER = (
    "two-block-cnn-64",
    "two-block-cnn-64-augmented",
    "compact-cnn-128",
    "custom-cnn",
    "softmax-cnn",
    "squeezenet",
    "resnet18",
    "resnet50v2-frozen",
    "resnet50v2-finetuned",
    "two-block-cnn-128",
    "compact-cnn-150",
    "default",
    "sequential-cnn-224",
)
"""Shortest first."""

VARIANTS = {
    "compact-cnn-150": ("compact-cnn-128", ["input_size_px=150", "training.epochs=10"]),
    "sequential-cnn-224": ("sequential-cnn-224", ["training.precision=bf16-mixed"]),
    "resnet50v2-finetuned": ("resnet50v2-finetuned", ["training.precision=bf16-mixed"]),
}
"""What a text complained of, 150 px and 10 epochs; and the largest in half the time, by autocasting to bfloat16.

The former stays in fp32: autocast, its activations died within an epoch and it stayed at chance."""

PARTIAL = {
    "squeezenet": ("squeezenet1_1.safetensors", []),
    "resnet18": ("resnet18-layers1-3.safetensors", []),
    "resnet50v2-frozen": (
        "resnetv2_50-stages0-2.safetensors",
        ["network.mean=[0.45222, 0.42571, 0.37757]", "network.std=[0.28551, 0.27888, 0.28231]"],
    ),
}
"""File, and what the network's own normalisation asks for where it differs from timm's."""
PARTIAL["resnet50v2-finetuned"] = PARTIAL["resnet50v2-frozen"]
INT8 = {"compact-cnn-128"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reviewed", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--by", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="a quick look; nothing is kept in the results")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for by in args.by:
        split = args.work / f"{by}.json"
        if not split.exists():
            giemsa(
                "data",
                "split",
                "--data",
                str(args.data),
                "--reviewed",
                str(args.reviewed),
                *SPLITS[by],
                "--output",
                str(split),
            )
    for name in args.only:
        for by in args.by:
            measure(name, by, args)
    measure_embedded(args)


def measure(name: str, by: str, args: argparse.Namespace) -> None:
    """Train, evaluate and perhaps quantise one recipe on one split."""
    recipe, changes = VARIANTS.get(name, (name, []))
    weights = []
    if name in PARTIAL:
        if args.weights is None:
            print(f"{name}: left out, no --weights", flush=True)
            return
        file, more = PARTIAL[name]
        weights, changes = ["--weights", str(args.weights / file)], [*changes, *more]
    folder, split = args.work / f"{name}-{by}", str(args.work / f"{by}.json")
    data = ["--reviewed", str(args.reviewed)]
    settings = [part for change in changes for part in ("--set", change)]
    command = ["train", recipe, "--data", str(args.data), *data, "--split", split, *weights, *settings]
    started, peak = time.perf_counter(), None
    limit = [] if args.limit is None else ["--limit", str(args.limit)]
    done = (folder / "model.onnx").is_file()
    if not done:
        peak = giemsa(*command, *limit, "--threads", str(args.threads), "--output", str(folder), "--resume")
    evaluation = folder.with_name(f"{folder.name}-evaluation")
    if not (evaluation / "metrics.json").is_file():
        giemsa(
            "evaluate", "--data", str(args.data), *data, "--split", split, "--part", "validation",
            "--model", str(folder), "--output", str(evaluation), "--force",
            *(["--allow-training-patients"] if by == "image" else []),
        )  # fmt: skip
    int8 = quantise(folder, split, data, args) if name in INT8 else None
    if args.limit is None:
        keep(name, by, folder, evaluation, command, int8=int8, peak=peak, seconds=time.perf_counter() - started)


def quantise(folder: Path, split: str, data: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Export int8 and say how large it is and how many verdicts differ; or why it is refused."""
    path = folder.with_name(f"{folder.name}-int8.onnx")
    done = subprocess.run(
        [sys.executable, "-m", "giemsa", "export", str(folder), "--data", str(args.data), *data, "--int8", "--force",
         "--output", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return {"refused": done.stderr.strip().splitlines()[-1]}
    agreement = next(line for line in done.stdout.splitlines() if line.startswith("Agreement"))
    return {"bytes": path.stat().st_size, "agreement": agreement}


def keep(
    name: str, by: str, folder: Path, evaluation: Path, command: list[str], *,
    int8: dict[str, Any] | None, peak: int | None, seconds: float,
) -> None:  # fmt: skip
    """Write what the table is made of."""
    place = RESULTS / "recipes"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}-{by}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    metrics = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    errors = evaluation / "error_analysis.json"
    content = {
        "name": name,
        "by": by,
        "command": " ".join(["giemsa", *(anonymous(part) for part in command), "--output", f"runs/{folder.name}"]),
        "evaluated": " ".join(
            ["giemsa evaluate CELLS --reviewed REVIEWED", f"--split {by}.json --part validation",
             f"--model runs/{folder.name}", *(["--allow-training-patients"] if by == "image" else [])]
        ),
        "recipe_digest": run["recipe_digest"],
        "data_digest": run["data_digest"],
        "split_digest": run["split_digest"],
        "weights": {key: value for key, value in run["weights"].items() if key != "path"},
        "parameters": run["parameters"],
        "counts": run["counts"],
        "timings": run["timings"],
        "threads": run["threads"],
        "precision": run["precision"],
        "peak_bytes": peak if peak is not None else before.get("peak_bytes"),
        "onnx_bytes": (folder / "model.onnx").stat().st_size,
        "model_digest": metrics["model"]["digest"],
        "int8": int8,
        "figures": {
            part: {key: value for key, value in metrics[part].items() if key != "reliability"}
            for part in ("official", "confirmed", "donors")
            if part in metrics
        },
        "errors": without_names(json.loads(errors.read_text(encoding="utf-8"))) if errors.is_file() else None,
        "versions": run["versions"],
        "machine": machine(),
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{name} by {by}: {metrics['official']['accuracy']['value']:.4f}, {seconds:.0f} s", flush=True)


def measure_embedded(args: argparse.Namespace) -> None:
    """Judge the same validation patients by the embedded model, which may have been trained on them: it says so."""
    path = args.work / "embedded-evaluation"
    split = args.work / "patient.json"
    if not split.exists() or args.limit is not None:
        return
    if not (path / "metrics.json").is_file():
        giemsa(
            "evaluate", "--data", str(args.data), "--reviewed", str(args.reviewed), "--split", str(split), "--part",
            "validation", "--allow-training-patients", "--no-galleries", "--output", str(path), "--force",
        )  # fmt: skip


def without_names(errors: dict[str, Any]) -> dict[str, Any]:
    """Leave patients' names out."""
    for kind in ("false_positives", "false_negatives"):
        errors[kind]["by_patient"] = {k: v for k, v in errors[kind]["by_patient"].items() if k != "most"}
    return errors


def anonymous(part: str) -> str:
    """Name files by what is in them: paths of one machine mean nothing on another."""
    if "=" in part:
        return f"'{part}'"
    if "/" not in part:
        return part
    path = Path(part)
    if path.suffix in {".safetensors", ".json"}:
        return path.name
    return "REVIEWED" if path.suffix == ".csv" else "CELLS"


def giemsa(*arguments: str) -> int:
    """Run a command of Giemsa's, stop with it if it fails, and return its peak memory in bytes."""
    print("giemsa", *arguments, flush=True)
    process = os.posix_spawn(sys.executable, [sys.executable, "-m", "giemsa", *arguments], os.environ)
    _, status, used = os.wait4(process, 0)
    if status:
        sys.exit(f"recipes.py: giemsa {arguments[0]} ended with status {os.waitstatus_to_exitcode(status)}")
    return used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
