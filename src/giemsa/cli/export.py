"""`giemsa export`: a run as one ONNX or TensorFlow Lite file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from giemsa.cli._options import add_cache, add_data, add_force, add_json, labelled_data

if TYPE_CHECKING:
    import argparse

EPILOG = """The file is compared with PyTorch, on cells where --data names them, and written only if they agree.

examples:
  giemsa export runs/first --output model.onnx
  giemsa export runs/first --data cells --int8 --calibration runs/cv/calibration.json --output model.onnx
  giemsa export runs/first --format tflite --data cells --int8 --output model.tflite
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a complete run")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument(
        "--format",
        choices=("onnx", "tflite"),
        default="onnx",
        metavar="KIND",
        help="onnx, or tflite for phones (default: onnx)",
    )
    parser.add_argument("--int8", action="store_true", help="quantise; needs --data")
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="a cross-validation's calibration.json, or metrics with one"
    )
    parser.add_argument("--figures", type=Path, metavar="FILE", help="metrics.json whose figures go into the card")
    add_data(parser, required=False)
    add_cache(parser)
    add_force(parser)
    add_json(parser, "size and agreement as JSON")


def run(args: argparse.Namespace) -> int:
    """Export."""
    from dataclasses import asdict

    import numpy as np

    from giemsa.cli._console import note, print_json
    from giemsa.errors import UsageError
    from giemsa.files import check_output
    from giemsa.lab.export.onnx import CALIBRATION_CELLS, export_run, trained_on
    from giemsa.lab.training.calibration import Calibration
    from giemsa.lab.training.crossval import read_calibration
    from giemsa.lab.training.runs import open_run

    if args.output.suffix.lower() != f".{args.format}":
        raise UsageError(
            f"the output {args.output} would be {args.format.upper()}; expected a name that ends in .{args.format}, or "
            "another --format"
        )
    check_output(args.output, force=args.force)
    if args.int8 and args.data is None:
        raise UsageError("--int8 needs --data DIR: the ranges of activations are found on cells that were trained on")
    opened = open_run(args.run)
    calibration = Calibration(**opened.record.calibration) if opened.record.calibration else Calibration()
    if args.calibration is not None:
        calibration = read_calibration(args.calibration)
    figures = _read_figures(args.figures) if args.figures is not None else {}
    pixels = rows = None
    if args.data is not None:
        from giemsa.data.cache import open_cache

        data = labelled_data(args)
        pixels = open_cache(data.index, opened.recipe.input_size_px, directory=args.cache)
        rows = trained_on(opened, data.index)
    chosen = None if rows is None else np.random.default_rng(0).permutation(rows)[:CALIBRATION_CELLS]
    if args.format == "tflite":
        from giemsa.lab.export.tflite import export_tflite

        agreement = export_tflite(
            opened, args.output, calibration=calibration, figures=figures, int8=args.int8, comparison_cells=pixels
        )
    else:
        agreement = export_run(
            opened,
            args.output,
            calibration=calibration,
            figures=figures,
            int8=args.int8,
            calibration_cells=None if pixels is None or chosen is None else pixels[np.sort(chosen)],
            comparison_cells=pixels,
        )
    size, precision = args.output.stat().st_size, "int8" if args.int8 else "fp32"
    if args.json:
        print_json({"file": str(args.output), "bytes": size, "precision": precision, "agreement": asdict(agreement)})
    else:
        print(f"{args.output}: {size / 1000:.0f} kB, {precision}")
        print(f"Agreement: {agreement}.")
    if pixels is None:
        note("compared on random pixels only; give --data to compare on cells")
    return 0


def _read_figures(path: Path) -> dict[str, Any]:
    import json

    from giemsa.errors import UsageError

    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--figures {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--figures {path} is no JSON in UTF-8: {error}") from error
    if not isinstance(figures, dict):
        raise UsageError(f"--figures {path} holds no JSON object; expected names of figures and their values")
    return figures
