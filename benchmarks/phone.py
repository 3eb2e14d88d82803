"""Export a run for a phone, and weigh and time it beside the ONNX model, in turns, in one run, on one thread.

Needs the extra `phone`.

    python benchmarks/phone.py RUN --data CELLS --reviewed REVIEWED [--runs 5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import giemsa
from _common import spread, write_result
from giemsa.images import decode, resize
from giemsa.model import open_model

CELLS = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reviewed", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as scratch:
        models, found = {"onnx int8 (the shipped model)": giemsa.load().model}, {}
        for name, more in (("tflite", []), ("tflite int8", ["--int8"])):
            path = Path(scratch) / f"{name.replace(' ', '-')}.tflite"
            done = subprocess.run(
                [sys.executable, "-m", "giemsa", "export", str(args.run), "--format", "tflite", *more,
                 "--data", str(args.data), "--reviewed", str(args.reviewed), "--output", str(path)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(done.stderr)
            said = next(line for line in done.stdout.splitlines() if "compared with PyTorch" in line)
            found[name] = {"bytes": path.stat().st_size, "agreement": said.split(": ", 1)[-1]}
            models[name] = open_model(path)
        first = next(iter(models))
        found = {first: {"bytes": Path(models[first].path).stat().st_size}, **found}
        files = sorted(args.data.rglob("*.png"))[:: max(1, 15617 // CELLS)][:CELLS]
        size = models[first].card.input_size_px
        cells = np.stack([resize(decode(path.read_bytes()), size) for path in files])
        rates: dict[str, list[float]] = {name: [] for name in models}
        for run in range(args.runs + 1):  # the first warms up and is not counted
            for name, model in models.items():
                started = time.perf_counter()
                model.run(cells, evidence=False)
                if run:
                    rates[name].append(len(cells) / (time.perf_counter() - started))
    for name, values in rates.items():
        found[name]["cells_per_second"] = spread(values)
    write_result("phone", {"threads": 1, "runs": args.runs, "models": found})


if __name__ == "__main__":
    main()
