"""Write the figures of docs/web.md from benchmarks/results/: no figure is typed by hand.

python benchmarks/write_serving.py
"""

from __future__ import annotations

from typing import Any

from _common import DOCS, fill_figures, from_template, read_result


def main() -> None:
    results = {name: read_result(f"serve_{name}") for name in ("load", "page", "fuzz")}
    fill_figures(DOCS / "web.md", from_template("serving", **results, others=_others, seconds=_seconds))


def _others(one: dict[str, Any]) -> str:
    return ", ".join(f"{n} x {status}" for status, n in one["statuses"].items() if status != "200") or "none"


def _seconds(one: dict[str, float]) -> str:
    return f"{one['median']:.1f} s ({one['min']:.1f} to {one['max']:.1f})"


if __name__ == "__main__":
    main()
