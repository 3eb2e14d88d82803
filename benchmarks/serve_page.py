"""Time the page in a real browser: from dropping 100 and 1,000 cells to all their verdicts being shown.

Chromium, driven by Playwright, on the same machine as the server. The cells are dropped as files.

    python benchmarks/serve_page.py CELLS [--runs 3]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from itertools import islice
from pathlib import Path

from playwright.sync_api import sync_playwright

from _common import write_result
from _serving import running_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("there is no browser: on Debian, apt-get install chromium")
    paths = [str(path) for path in islice(sorted(args.cells.rglob("*.png")), 1000)]
    seconds: dict[str, list[float]] = {}
    with running_server() as (url, _), sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for cells in (100, 1000):
            for run in range(args.runs + 1):  # the first warms up and is not counted
                page = browser.new_page()
                page.goto(url)
                begun = time.perf_counter()
                page.set_input_files("#files", paths[:cells])
                page.locator(f'body[data-judged="{cells}"]').wait_for(timeout=300_000)
                if run:
                    seconds.setdefault(str(cells), []).append(round(time.perf_counter() - begun, 2))
                page.close()
        browser.close()
    write_result(
        "serve_page",
        {
            "runs": args.runs,
            "load_of_the_machine_before": round(os.getloadavg()[2], 2),
            "seconds_from_drop_to_verdicts": {
                cells: {"min": min(times), "median": statistics.median(times), "max": max(times)}
                for cells, times in seconds.items()
            },
        },
    )


if __name__ == "__main__":
    main()
