"""What the benchmarks share: the machine's description, and results as JSON."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from giemsa.render.templates import environment

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"
MARKS = ("<!-- figures -->", "<!-- /figures -->")


def machine() -> dict[str, Any]:
    """Description of the machine in words that mean the same elsewhere."""
    processor = platform.processor() or platform.machine()
    flags: set[str] = set()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                processor = value.strip()
            if name.strip() == "flags":
                flags = set(value.split())
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "vnni": bool(flags & {"avx512_vnni", "avx_vnni"}),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("giemsa", "numpy", "opencv-python-headless", "onnxruntime")},
    }


def write_result(name: str, content: dict[str, Any]) -> None:
    """Write a result beside the machine's description and the command, and print it."""
    RESULTS.mkdir(exist_ok=True)
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *_anonymous(sys.argv[1:])])
    whole = {"command": command, "machine": machine(), **content}
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=2))


def read_result(name: str) -> dict[str, Any]:
    """Content that `write_result` wrote."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def from_template(name: str, **values: object) -> str:
    """Text of `templates/NAME.md.j2`: the prose stands there, and every figure in it is given here."""
    return environment(Path(__file__).parent / "templates").get_template(f"{name}.md.j2").render(**values)


def fill_figures(page: Path, figures: str) -> None:
    """Put figures between the marks of a page, in place of those that stand there."""
    text = page.read_text(encoding="utf-8")
    before, after = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
    page.write_text(text[:before] + "\n" + figures + text[after:], encoding="utf-8")


def interval(one: dict[str, float]) -> str:
    """A figure with its interval, as text."""
    return f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"


def with_range(one: dict[str, float], digits: int = 1) -> str:
    """Write a median with the least and the most."""
    return f"{one['median']:,.{digits}f} ({one['min']:,.{digits}f} to {one['max']:,.{digits}f})"


def _anonymous(arguments: list[str]) -> list[str]:
    """Arguments with folders named by what is in them: paths of one machine mean nothing on another."""
    return [Path(argument).name.upper() if os.sep in argument else argument for argument in arguments]


def timed(command: list[str], *, good: tuple[int, ...] = (0,)) -> tuple[float, float]:
    """Seconds that a command took and its peak memory in MB; the command must end with one of the `good` statuses."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    taken = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) not in good:
        raise SystemExit(f"{command} failed with status {os.waitstatus_to_exitcode(status)}")
    assert isinstance(usage, resource.struct_rusage)
    return taken, usage.ru_maxrss / 1000


def spread(values: list[float]) -> dict[str, Any]:
    """Minimum, median and maximum."""
    return {"min": round(min(values), 4), "median": round(statistics.median(values), 4), "max": round(max(values), 4)}
