"""Time reading fields beside decoding their photographs alone, in turns, in one run; and weigh one field of 16 megapixels.

Both are whole processes on all cores, from start to end, so that importing and opening the models count. The large field
is one of the photographs at 4,608 x 3,456 pixels, read by a process of its own. Whether memory grows is seen by reading a
laboratory's photographs once and ten times over, under other names.

    python benchmarks/smear_speed.py FIELDS [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2

from _common import spread, timed, write_result
from _fields import LABORATORIES

LARGE = (4608, 3456)
TIMES = 10
DONE = (0, 1)  # 1: fields were left out

DECODE = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import cv2
from giemsa.images import decode
cv2.setNumThreads(1)
def work(path):
    with open(path, "rb") as file:
        decode(file.read())
with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
    list(pool.map(work, sys.argv[1:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    result = {}
    for laboratory in LABORATORIES:
        photographs = sorted(p for p in (args.fields / laboratory).iterdir() if p.suffix.lower() in (".jpg", ".png"))
        result[laboratory] = measure(photographs, args.runs)
        if laboratory == LABORATORIES[0]:
            result[laboratory]["peak_memory_mb_by_fields"] = memory_of_many(photographs)
        print(laboratory, result[laboratory], flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        large = Path(scratch) / "large.jpg"
        cv2.imwrite(str(large), cv2.resize(cv2.imread(str(photographs[0])), LARGE, interpolation=cv2.INTER_CUBIC))
        taken, peak = timed(smear([large], Path(scratch) / "out"))
        starting, base = timed([sys.executable, "-c", "import giemsa; giemsa.load()"])
    write_result(
        "smear_speed",
        {
            "threads": len(os.sched_getaffinity(0)),
            "runs": args.runs,
            "laboratories": result,
            "field_of_16_megapixels": {
                "seconds": round(taken, 2), "peak_memory_mb": round(peak, 1),
                "seconds_to_start": round(starting, 2), "memory_at_start_mb": round(base, 1),
            },
        },
    )  # fmt: skip


def measure(photographs: list[Path], runs: int) -> dict[str, Any]:
    pixels = sum(cv2.imread(str(path)).shape[0] * cv2.imread(str(path)).shape[1] for path in photographs) / 1e6
    seconds: dict[str, list[float]] = {"decode": [], "smear": []}
    memory = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "out"
        commands = {
            "decode": [sys.executable, "-c", DECODE, *map(str, photographs)],
            "smear": [*smear(photographs, output), "--force"],
        }
        for run in range(runs + 1):  # the first warms the disk's cache and is not counted
            for name, command in commands.items():
                taken, peak = timed(command, good=DONE)
                if run:
                    seconds[name].append(taken)
                if name == "smear":
                    memory = max(memory, peak)
        cells = json.loads((output / "summary.json").read_text(encoding="utf-8"))["count"]["red_cells"]
    return {
        "fields": len(photographs),
        "megapixels": round(pixels, 1),
        "cells": cells,
        "megapixels_per_second": {name: spread([pixels / one for one in times]) for name, times in seconds.items()},
        "cells_per_second": spread([cells / one for one in seconds["smear"]]),
        "peak_memory_mb": round(memory, 1),
    }


def memory_of_many(photographs: list[Path]) -> dict[str, float]:
    found = {}
    for times in (1, TIMES):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "fields"
            folder.mkdir()
            for time in range(times):
                for path in photographs:
                    (folder / f"{time:02}-{path.name}").symlink_to(path.resolve())
            _, peak = timed(smear([folder], Path(scratch) / "out"), good=DONE)
        found[f"{times * len(photographs)}"] = round(peak, 1)
    return found


def smear(photographs: list[Path], output: Path) -> list[str]:
    return [sys.executable, "-m", "giemsa", "smear", *map(str, photographs), "--output", str(output)]


if __name__ == "__main__":
    main()
