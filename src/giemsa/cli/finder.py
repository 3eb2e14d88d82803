"""`giemsa finder train`: make the finder of cells anew from whole photographs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.errors import SourceError, UsageError

if TYPE_CHECKING:
    import argparse

HELP = "train the finder of cells that `giemsa smear` uses"
EPILOG = """examples:
  giemsa finder train fields/ --cells cells/ --reviewed reviewed.csv --output finder.onnx
  giemsa finder train fields/ --cells cells/ --reviewed reviewed.csv --output trial.onnx --steps 500

FIELDS holds the folders raabin (MIT), pbc (MIT, pictures CC BY 4.0), chula (MIT), pbc-platelets and
pbc-erythroblasts (CC BY 4.0); --cells the folders Parasitized and Uninfected of NIH's cells (public).
"""
_NEEDED = ("raabin", "pbc", "chula", "pbc-platelets", "pbc-erythroblasts")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("action", choices=["train"], help="what to do")
    parser.add_argument("fields", type=Path, metavar="FIELDS", help="the folder of laboratories' photographs")
    parser.add_argument("--cells", type=Path, required=True, metavar="DIR", help="NIH's cells in their two folders")
    parser.add_argument("--reviewed", type=Path, required=True, metavar="CSV", help="the second reading of NIH's cells")
    parser.add_argument("--output", type=Path, required=True, metavar="ONNX", help="the file to write")
    parser.add_argument("--steps", type=int, default=6000, metavar="N", help="batches (default: 6000, as shipped)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and scenes (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace a file that is there already")


def run(args: argparse.Namespace) -> int:
    """Train and write it."""
    from giemsa.files import check_output

    if args.steps < 10:
        raise UsageError(f"--steps is {args.steps}; expected 10 or more")
    check_output(args.output, force=args.force)
    needed = [args.fields / name / "annotations.json" for name in _NEEDED]
    needed += [args.cells / "Parasitized", args.cells / "Uninfected", args.reviewed]
    for path in needed:
        if not path.exists():
            raise SourceError(f"{path} is not there; `giemsa finder train --help` tells what training reads")
    import numpy as np
    import torch

    from giemsa.lab.finder.training import export, gather, train

    torch.set_num_threads(1)  # the same sums in the same order everywhere
    material = gather(args.fields, args.cells, args.reviewed, np.random.default_rng(args.seed))
    _note(
        f"{len(material.boxed)} boxed fields, {len(material.partly)} in part; single red cells of {len(material.red)} "
        f"photographs, {len(material.white)} white cells, {len(material.platelets)} platelets"
    )
    finder = train(material, args.steps, args.seed, _note)
    export(finder, args.output, {"steps": args.steps, "seed": args.seed, "command": args.command_line})
    print(f"Written: {args.output}.", file=sys.stderr)
    return 0


def _note(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
