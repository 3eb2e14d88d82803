"""`giemsa adapt`: train a model on with a laboratory's own reviewed cells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli import INTERRUPTED

if TYPE_CHECKING:
    import argparse

HELP = "adapt a model to a laboratory's own reviewed cells"
EPILOG = """examples:
  giemsa adapt fields/ --data cells --reviewed reviewed.csv --output runs/ours
  giemsa adapt reviewed_cells.csv --from runs/first --output runs/ours

REVIEWED is a folder of class folders, a CSV with file,label[,patient][,field], or a folder of photographs
with an annotations.json that boxes every red cell.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("cells", nargs="+", type=Path, metavar="REVIEWED", help="the laboratory's reviewed cells")
    parser.add_argument(
        "--from", dest="start", default="default", metavar="RUN", help="the run to adapt (default: the embedded model)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="official cells, mixed in so that nothing is forgotten"
    )
    parser.add_argument("--reviewed", type=Path, metavar="CSV", help="their second reading: file,official,reviewed")
    parser.add_argument("--donors", type=Path, metavar="FILE", help="their patients without malaria, a name a line")
    parser.add_argument("--positive-class", metavar="NAME", help="the laboratory's class that means parasitized")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe")
    parser.add_argument(
        "--false-alarms",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="the threshold calls at most this share of the laboratory's uninfected cells parasitized (default: 0.01)",
    )
    parser.add_argument("--no-curve", action="store_true", help="do not measure how many reviewed parasites it takes")
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="the adapted run's folder")
    parser.add_argument("--resume", action="store_true", help="go on with what an interruption has left")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where decoded cells are kept")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all)")
    parser.add_argument("--json", action="store_true", help="print adaptation.json instead of tables")


def run(args: argparse.Namespace) -> int:
    """Adapt."""
    try:
        return _adapt(args)
    except KeyboardInterrupt:
        from giemsa.lab.adapting.adaptation import working_folder

        print(
            f"giemsa: interrupted: the trainings that are complete are kept in {working_folder(args.output)}; go on "
            "with the same command and --resume",
            file=sys.stderr,
        )
        return INTERRUPTED


def _adapt(args: argparse.Namespace) -> int:
    import json
    import time

    from giemsa.errors import RunError, UsageError

    if not 0 < args.false_alarms < 0.5:
        raise UsageError(f"--false-alarms is {args.false_alarms}: give a share between 0 and 0.5, such as 0.01")
    if args.output.exists():
        raise RunError(f"{args.output} exists: give another --output")
    from giemsa.data.cache import open_cache
    from giemsa.data.laboratory import read_laboratory
    from giemsa.lab.adapting.adaptation import (
        adapt,
        adapted_recipe,
        check_enough,
        choose_rehearsal,
        finish,
        open_start,
    )
    from giemsa.lab.adapting.report import to_markdown, write_report
    from giemsa.lab.comparing.entries import describe_machine
    from giemsa.lab.evaluation.reports import versions
    from giemsa.lab.export.onnx import export_run
    from giemsa.lab.recipes import parse_overrides
    from giemsa.lab.training.datasets import read_labelled

    started = time.perf_counter()
    start = open_start(args.start)
    recipe = adapted_recipe(start.recipe, parse_overrides(args.set))
    laboratory = read_laboratory(args.cells, recipe.input_size_px, positive_class=args.positive_class, cache=args.cache)
    for note in laboratory.notes:
        print(f"giemsa: note: {note}", file=sys.stderr)
    check_enough(laboratory)
    rehearsal = None
    if args.data is not None:
        data = read_labelled(args.data, reviewed=args.reviewed, donors=args.donors)
        rehearsal = choose_rehearsal(data, open_cache(data.index, recipe.input_size_px, directory=args.cache), start)
    else:
        print(
            "giemsa: warning: without --data nothing keeps the model from forgetting, and that cannot be measured",
            file=sys.stderr,
        )
    result = adapt(
        laboratory,
        start,
        rehearsal,
        recipe,
        args.output,
        false_alarms=args.false_alarms,
        curve=not args.no_curve,
        resume=args.resume,
        command=args.command_line,
        threads=args.threads,
        report=lambda sentence: print(sentence, file=sys.stderr),
    )
    folder = result.run.folder
    content = write_report(
        folder,
        laboratory,
        start,
        result,
        rehearsal,
        {
            "start": start.name,
            "recipe": recipe.name,
            "recipe_digest": recipe.digest,
            "laboratory_digest": laboratory.index.digest,
            "data_digest": None if rehearsal is None else data.index.digest,
            "command": args.command_line,
            "machine": describe_machine(),
            "versions": versions(),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )
    figures = {"how": "held-back cells of the laboratory", **content["laboratory"]["after"]}
    agreement = export_run(
        result.run,
        folder / "model.onnx",
        calibration=result.calibration,
        figures=figures,
        comparison_cells=laboratory.pixels,
    )
    finish(args.output)
    if args.json:
        print(json.dumps(content, indent=2, allow_nan=False))
    else:
        print(to_markdown(content))
        print(f"{args.output / 'model.onnx'}: {agreement}")
        print(f"Adapted in {content['seconds']:.0f} s: {args.output}")
    return 0
