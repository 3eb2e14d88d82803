"""Write the figures of docs/web.md from benchmarks/results/: no figure is typed by hand.

python benchmarks/write_serving.py
"""

from __future__ import annotations

from typing import Any

from _common import DOCS, fill_figures, read_result


def main() -> None:
    load, page, fuzz = (read_result(f"serve_{name}") for name in ("load", "page", "fuzz"))
    fill_figures(DOCS / "web.md", figures(load, page, fuzz))


def figures(load: dict[str, Any], page: dict[str, Any], fuzz: dict[str, Any]) -> str:
    """Give the tables, and what they were measured with."""
    clients = [("one alone", load["one_client"]), ("64 at once", load["64_clients"])]
    rows = [
        f"| {who} | {one['median_ms']:.0f} ms | {one['p95_ms']:.0f} ms | {one['requests_per_second']:.0f} "
        f"| {sum(one['statuses'].values()):,} | {one['wrong_answers']} | {_others(one)} |"
        for who, one in clients
    ]
    memory, dropped = load["resident_mb"], page["seconds_from_drop_to_verdicts"]
    machine = load["machine"]
    return "\n".join(
        [
            "| clients, one cell a request | median | 95th percentile | requests a second | requests | wrong answers "
            "| other than 200 |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Over those {load['64_clients']['seconds']:.0f} seconds of 64 clients the server's memory went from "
            f"{memory['median_of_first_half']:.0f} MB (median of the first half) to "
            f"{memory['median_of_second_half']:.0f} MB (of the second), {memory['highest']:.0f} MB at most. From drop "
            f"to the last verdict, in a browser on the same machine: {_seconds(dropped['100'])} for 100 cells, "
            f"{_seconds(dropped['1000'])} for 1,000. Of {fuzz['cases']:,} requests that schemathesis made from "
            f"the API's description, all checks on, {len(fuzz['failed']) or 'none'} failed.",
            "",
            f"{machine['cores']} cores, {machine['processor']}, {machine['system']}; the machine's load before was "
            f"{load['load_of_the_machine_before']:.0f} (clients) and {page['load_of_the_machine_before']:.0f} (page), "
            "where 0 is quiet. Written by `benchmarks/write_serving.py` from `benchmarks/results/`.",
            "",
        ]
    )


def _others(one: dict[str, Any]) -> str:
    return ", ".join(f"{n} x {status}" for status, n in one["statuses"].items() if status != "200") or "none"


def _seconds(one: dict[str, float]) -> str:
    return f"{one['median']:.1f} s ({one['min']:.1f} to {one['max']:.1f})"


if __name__ == "__main__":
    main()
