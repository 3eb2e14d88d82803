"""Time `giemsa classify` beside decoding alone, in turns, in one run.

Decoding alone is Giemsa's own decoder on all cores, files read from the same folder. Both are whole processes, from
start to end, so that importing and opening the model count.

    python benchmarks/classify_speed.py CELLS [--runs 5]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from _common import spread, timed, write_result

DECODE = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import cv2
from giemsa.images import decode
cv2.setNumThreads(1)
paths = [entry.path for folder in os.scandir(sys.argv[1]) if folder.is_dir()
         for entry in os.scandir(folder.path) if entry.name.endswith(".png")]
def work(chunk):
    for path in chunk:
        with open(path, "rb") as file:
            decode(file.read())
with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
    list(pool.map(work, [paths[i:i + 64] for i in range(0, len(paths), 64)]))
print(len(paths))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {"decode": [], "classify": []}
    memory = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        out = str(Path(scratch) / "verdicts.csv")
        giemsa = [sys.executable, "-m", "giemsa", "classify", str(args.cells), "--output", out, "--force"]
        if args.model:
            giemsa += ["--model", args.model]
        commands = {"decode": [sys.executable, "-c", DECODE, str(args.cells)], "classify": giemsa}
        for run in range(args.runs + 1):  # the first warms the disk's cache and is not counted
            for name, command in commands.items():
                taken, peak = timed(command)
                if run:
                    seconds[name].append(taken)
                if name == "classify":
                    memory = max(memory, peak)
        cells = len(Path(out).read_text(encoding="utf-8").splitlines()) - 1
    pairs = [decode / classify for decode, classify in zip(seconds["decode"], seconds["classify"], strict=True)]
    write_result(
        "classify_speed",
        {
            "cells": cells,
            "runs": args.runs,
            "threads": len(os.sched_getaffinity(0)),
            "cells_per_second": {name: spread([cells / one for one in times]) for name, times in seconds.items()},
            "classify_rate_over_decode_rate": spread(pairs),
            "peak_memory_mb": round(memory, 1),
        },
    )


if __name__ == "__main__":
    main()
