"""Load a server on loopback: 64 clients for 60 seconds beside one client alone, every answer checked, memory watched.

Each client sends one cell at a time, waits for its verdict, compares it with what the command line says of that cell,
and sends the next. A 503 is counted and its `Retry-After` kept. The server is a process of its own; the clients share
the machine with it, so that its latencies are upper limits.

    python benchmarks/serve_load.py CELLS [--clients 64] [--seconds 60] [--threads N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import httpx

import giemsa
from _common import write_result
from _serving import running_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    paths = list(islice((path for path in sorted(args.cells.rglob("*.png"))), 400))
    cells = [(path.name, path.read_bytes()) for path in paths]
    expected = [verdict.p_parasitized for verdict in giemsa.load().classify_many(paths)]
    options = ["--threads", str(args.threads)] if args.threads else []
    with running_server(*options) as (url, pid):
        asyncio.run(drive(url, cells, expected, clients=4, seconds=3))  # warms everything up
        alone = asyncio.run(drive(url, cells, expected, clients=1, seconds=min(15, args.seconds)))
        before = resident_mb(pid)
        together = asyncio.run(drive(url, cells, expected, clients=args.clients, seconds=args.seconds, watch=pid))
        after = resident_mb(pid)
        batch = mean_batch(url)
    half = len(together.memory_mb) // 2
    write_result(
        "serve_load",
        {
            "cells": len(cells),
            "cores": len(os.sched_getaffinity(0)),
            "load_of_the_machine_before": round(os.getloadavg()[2], 2),
            "one_client": alone.describe(),
            f"{args.clients}_clients": together.describe(),
            "cells_in_one_run_of_the_model": batch,
            "resident_mb": {
                "before": before,
                "after": after,
                "median_of_first_half": round(statistics.median(together.memory_mb[:half]), 1),
                "median_of_second_half": round(statistics.median(together.memory_mb[half:]), 1),
                "highest": max(together.memory_mb),
            },
        },
    )
    if together.wrong or alone.wrong or any(status >= 500 and status != 503 for status in together.statuses):
        raise SystemExit("there were wrong answers")


@dataclass
class Outcome:
    """What clients saw."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    memory_mb: list[float] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """Sum it up."""
        ordered = sorted(self.latencies)
        return {
            "seconds": round(self.seconds, 1),
            "requests_per_second": round(len(ordered) / self.seconds, 1),
            "median_ms": round(1000 * statistics.median(ordered), 1),
            "p95_ms": round(1000 * ordered[int(0.95 * (len(ordered) - 1))], 1),
            "p99_ms": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 1),
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "wrong_answers": self.wrong,
        }


async def drive(
    url: str,
    cells: list[tuple[str, bytes]],
    expected: list[float | None],
    *,
    clients: int,
    seconds: float,
    watch: int = 0,
) -> Outcome:
    """Let clients ask for some seconds."""
    outcome, turn = Outcome(), count()
    end = time.perf_counter() + seconds

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            while time.perf_counter() < end:
                index = next(turn) % len(cells)
                name, content = cells[index]
                started = time.perf_counter()
                answer = await client.post("/api/v1/cells", files={"files": (name, content)})
                outcome.latencies.append(time.perf_counter() - started)
                outcome.statuses[answer.status_code] += 1
                if answer.status_code == 503:
                    await asyncio.sleep(float(answer.headers["retry-after"]))
                elif answer.status_code != 200:
                    outcome.wrong += 1
                else:
                    cell = answer.json()["cells"][0]
                    right = cell["image"] == name and abs(cell["p_parasitized"] - (expected[index] or 0)) < 1e-6
                    outcome.wrong += not right

    async def measure() -> None:
        while time.perf_counter() < end and watch:
            outcome.memory_mb.append(resident_mb(watch))
            await asyncio.sleep(0.5)

    started = time.perf_counter()
    await asyncio.gather(measure(), *(ask() for _ in range(clients)))
    outcome.seconds = time.perf_counter() - started
    return outcome


def resident_mb(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def mean_batch(url: str) -> float:
    """Mean number of pictures in one run of the model, from the server's own figures."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    found = [re.search(rf"^giemsa_batch_cells_{what} (\S+)", text, re.M) for what in ("sum", "count")]
    total, runs = (float(one[1]) for one in found if one)
    return round(total / runs, 2)


if __name__ == "__main__":
    main()
