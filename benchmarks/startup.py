"""Time from start to one verdict, beside importing what it cannot do without, in turns, in one run.

python benchmarks/startup.py PICTURE [--runs 40]
"""

from __future__ import annotations

import argparse
import sys

from _common import spread, timed, write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("--runs", type=int, default=40)
    args = parser.parse_args()
    commands = {
        "imports": [sys.executable, "-c", "import numpy, cv2, onnxruntime"],
        "classify": [sys.executable, "-m", "giemsa", "classify", args.picture],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(args.runs + 2):  # the first two warm the disk's cache
        for name, command in commands.items():
            taken, _ = timed(command)
            if run > 1:
                seconds[name].append(taken)
    write_result(
        "startup",
        {
            "runs": args.runs,
            "seconds": {name: spread(times) for name, times in seconds.items()},
            "classify_over_imports": spread(
                [classify / imports for classify, imports in zip(seconds["classify"], seconds["imports"], strict=True)]
            ),
        },
    )


if __name__ == "__main__":
    main()
