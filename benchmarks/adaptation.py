r"""Adapt a model to another laboratory, cross-validated by field: what is gained there, and what is forgotten here.

Two adaptations are made by `giemsa adapt`. The first starts from the shipped model, as its users do; where the
cells of its own kind are all of patients that it was trained on, what is forgotten is measured on cells that were not
rehearsed. The second starts from a fold of the recipe's cross-validation, so that what is forgotten is measured on
patients that neither model has seen.

    python benchmarks/adaptation.py --fields FIELDS/iml --data CELLS --reviewed REVIEWED --work runs/adaptation \
        [--from RUN] [--fold runs/embedded/crossval/fold-0]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from _common import write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reviewed", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--from", dest="start", default="default")
    parser.add_argument("--fold", type=Path)
    args = parser.parse_args()
    results = {"shipped": adapt(args, args.start, args.work / "shipped")}
    if args.fold is not None:
        results["fold"] = adapt(args, str(args.fold), args.work / "fold", "--no-curve")
    write_result("adaptation", results)


def adapt(args: argparse.Namespace, start: str, output: Path, *more: str) -> dict[str, Any]:
    """Adapt, unless that is done already, and take the report without what names one machine's folders."""
    if not (output / "adaptation.json").is_file():
        command = ["adapt", str(args.fields), "--from", start, "--data", str(args.data)]
        command += ["--reviewed", str(args.reviewed), "--output", str(output), "--resume", *more]
        subprocess.run([sys.executable, "-m", "giemsa", *command], check=True)
    content = json.loads((output / "adaptation.json").read_text(encoding="utf-8"))
    return {name: value for name, value in content.items() if name not in {"command", "start", "machine"}}


if __name__ == "__main__":
    main()
