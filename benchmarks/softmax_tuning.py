"""Find softmax-cnn's batch size, learning rate and epochs, as its text says was done, without its validation patients.

SPLIT is the split by patient of `recipes.py`: its validation patients become test patients, which tuning never reads,
and a fifth of its training patients validates the trials. Stopped, it goes on from where it was.

    python benchmarks/softmax_tuning.py --data CELLS --reviewed REVIEWED --split runs/recipes/patient.json \
        --work runs/softmax-tuning --trials 20
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from _common import write_result
from giemsa.data.index import read_index
from giemsa.data.labels import read_label_sets
from giemsa.data.splits import Split, make_split, read_split

SPACE = Path(__file__).parents[1] / "examples" / "softmax-space.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reviewed", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    inner, folder = args.work / "split.json", args.work / "study"
    if not inner.exists():
        inner_split(args.data, args.reviewed, args.split).save(inner)
    subprocess.run(
        [sys.executable, "-m", "giemsa", "tune", "softmax-cnn", "--space", str(SPACE), "--trials", str(args.trials),
         "--data", str(args.data), "--reviewed", str(args.reviewed), "--split", str(inner), "--threads",
         str(args.threads), "--output", str(folder), "--resume"],
        check=True,
    )  # fmt: skip
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    del study["command"]  # with the paths of this machine
    write_result("softmax_tuning", study | {"table": table})


def inner_split(data: Path, reviewed: Path, outer: Path) -> Split:
    """Divide the training patients again; those held back before are for testing."""
    index, split = read_index(data), read_split(outer)
    rows = split.parts(index)["train"]
    kept = replace(index.take(rows), whole=None)
    inner = make_split(kept, read_label_sets(index, reviewed=reviewed).take(rows))
    return replace(
        inner, members=(*inner.members, ("test", dict(split.members)["validation"])), data_digest=index.digest
    )


if __name__ == "__main__":
    main()
