"""`giemsa adapt`: go on training a model, on a laboratory's own reviewed cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli._options import add_json, add_positive_class, add_set, add_training

if TYPE_CHECKING:
    import argparse

EPILOG = """examples:
  giemsa adapt fields/ --data cells --reviewed reviewed.csv --output runs/ours
  giemsa adapt reviewed_cells.csv --from runs/first --output runs/ours

REVIEWED is a folder of class folders, a CSV with file,label[,patient][,field], or a folder of photographs
with an annotations.json that boxes every red cell.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("cells", nargs="+", type=Path, metavar="REVIEWED", help="the laboratory's reviewed cells")
    parser.add_argument(
        "--from", dest="start", default="default", metavar="RUN", help="the run to adapt (default: the embedded model)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="official cells, mixed in so that nothing is forgotten"
    )
    parser.add_argument("--reviewed", type=Path, metavar="CSV", help="their second reading: file,official,reviewed")
    parser.add_argument("--donors", type=Path, metavar="FILE", help="their people without malaria, one name per line")
    add_positive_class(parser)
    add_set(parser)
    parser.add_argument(
        "--false-alarms",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="largest share of the laboratory's uninfected cells called parasitized (default: 0.01)",
    )
    parser.add_argument("--no-curve", action="store_true", help="do not measure how many reviewed parasites it takes")
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="the adapted run's folder")
    add_training(parser)
    add_json(parser, "adaptation.json")


def run(args: argparse.Namespace) -> int:
    """Adapt."""
    from giemsa.cli._console import interruptible

    with interruptible(lambda: _what_is_left(args.output)):
        return _adapt(args)


def _what_is_left(output: Path) -> str:
    from giemsa.lab.adapting.adaptation import working_folder

    return (
        f"the trainings that are complete are kept in {working_folder(output)}; continue with the same command and "
        "--resume"
    )


def _adapt(args: argparse.Namespace) -> int:
    import time

    from giemsa.cli._console import inform, note, print_json, warn
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
    for sentence in laboratory.notes:
        note(sentence)
    check_enough(laboratory)
    rehearsal = None
    if args.data is not None:
        data = read_labelled(args.data, reviewed=args.reviewed, donors=args.donors)
        rehearsal = choose_rehearsal(data, open_cache(data.index, recipe.input_size_px, directory=args.cache), start)
    else:
        warn("without --data nothing keeps the model from forgetting, and that cannot be measured")
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
        report=inform,
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
        print_json(content)
    else:
        print(to_markdown(content))
        print(f"{args.output / 'model.onnx'}: {agreement}")
        print(f"Adapted in {content['seconds']:.0f} s: {args.output}")
    return 0
