"""`giemsa explain`: show where in a cell a model finds its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from giemsa.cli._options import add_force, add_json, add_model, at_least

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from giemsa.lab.explaining.explainer import Explainer
    from giemsa.model import Model
    from giemsa.sources import Source

EPILOG = """Each picture is drawn beside its map: orange is evidence for parasitized, blue for uninfected, in logits,
on one scale for all. The map is the model's own evidence where it has one, else Grad-CAM,
which needs the run's folder. explanations.csv lists what was drawn.

examples:
  giemsa explain cells/ --output maps
  giemsa explain cell.png --model runs/resnet18 --layer base.layer2 --output maps
"""
COLUMNS = (
    "image", "file", "verdict", "p_parasitized", "logit", "method", "layer", "class", "largest", "smallest", "extent",
    "reason",
)  # fmt: skip
_BATCH = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="pictures, folders, patterns, zip archives, - (a list)"
    )
    add_model(parser)
    parser.add_argument("--layer", metavar="NAME", help="Grad-CAM at this layer (`giemsa recipes NAME`)")
    parser.add_argument(
        "--scale",
        type=float,
        default=20.0,
        metavar="LOGITS",
        help="evidence at which colours end (default: %(default)g)",
    )
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="explain the first N pictures only")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder of the drawings")
    add_force(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Explain."""
    from giemsa.errors import OutputError, UsageError

    if not args.scale > 0:
        raise UsageError(f"--scale is {args.scale:g}; expected a number of logits above 0")
    if args.output.exists() and (not args.output.is_dir() or (any(args.output.iterdir()) and not args.force)):
        raise OutputError(f"the output {args.output} exists and is not an empty folder: name another one, or --force")
    from itertools import islice

    from giemsa.cli._console import interruptible, note, print_json
    from giemsa.lab.explaining.explainer import choose_explainer
    from giemsa.sources import open_sources

    model, explainer = choose_explainer(args.model, layer=args.layer)
    sources = open_sources(args.paths, note=note)
    with interruptible(f"what explanations.csv lists is complete in {args.output}"):
        done, unreadable = _explain(islice(sources, args.limit), model, explainer, args)
    if args.json:
        print_json(
            {
                "output": str(args.output),
                "explained": done,
                "unreadable": unreadable,
                "method": explainer.method.name,
                "layer": explainer.method.layer,
                "model": {"name": model.card.name, "digest": model.digest},
            }
        )
        return 1 if unreadable else 0
    from giemsa.verdicts import DISCLAIMER
    from giemsa.words import counted

    print(
        f"{counted(done, 'picture')} explained in {args.output}: {explainer.method}. "
        f"Model {model.card.name} {model.digest[:12]}"
    )
    if unreadable:
        print(f"{counted(unreadable, 'unreadable picture')}: explanations.csv lists the reasons.")
    print(DISCLAIMER)
    return 1 if unreadable else 0


def _explain(
    sources: Iterator[Source], model: Model, explainer: Explainer, args: argparse.Namespace
) -> tuple[int, int]:
    """Numbers of pictures explained and unreadable; each is drawn and gets its row, a few at a time."""
    from itertools import islice

    from giemsa.files import cannot_write
    from giemsa.spreadsheets import GuardedWriter

    done = unreadable = 0
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        with (args.output / "explanations.csv").open("w", newline="", encoding="utf-8") as file:
            writer = GuardedWriter(file)
            writer.writerow(COLUMNS)
            while batch := list(islice(sources, _BATCH)):
                for row in _explain_batch(batch, done + unreadable, model, explainer, args):
                    writer.writerow(row.get(column, "") for column in COLUMNS)
                    unreadable += row["verdict"] == "unreadable"
                    done += row["verdict"] != "unreadable"
                file.flush()
    except OSError as error:
        from giemsa.errors import GiemsaError

        if isinstance(error, GiemsaError):
            raise
        raise cannot_write(args.output, error) from error
    return done, unreadable


def _explain_batch(
    batch: list[Source], start: int, model: Model, explainer: Explainer, args: argparse.Namespace
) -> list[dict[str, Any]]:
    import numpy as np

    from giemsa.errors import PictureError
    from giemsa.images import decode, resize
    from giemsa.verdicts import LABELS, is_parasitized

    pictures: dict[int, NDArray[np.uint8]] = {}
    rows: list[dict[str, Any]] = []
    for place, source in enumerate(batch):
        rows.append({"image": source.name})
        try:
            pictures[place] = decode(source.read())
        except PictureError as error:
            rows[place] |= {"verdict": "unreadable", "reason": " ".join(str(error).split())}
    if not pictures:
        return rows
    cells = np.stack([resize(rgb, model.card.input_size_px) for rgb in pictures.values()])
    logits = model.run(cells, evidence=False).logit
    p = model.p_parasitized(logits)
    maps = explainer.explain(cells)
    for number, (place, rgb) in enumerate(pictures.items()):
        verdict = LABELS[int(is_parasitized(p[number], model.card.threshold))]
        row = rows[place]
        row["file"] = f"{start + place:06d}-{Path(row['image']).stem}.png"
        row |= {"verdict": verdict, "p_parasitized": repr(float(p[number])), "logit": f"{logits[number]:.9g}"}
        row |= _draw(rgb, maps[number], row, explainer, args)
    return rows


def _draw(
    rgb: NDArray[np.uint8], evidence: NDArray[np.float32], row: dict[str, Any], explainer: Explainer,
    args: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    from giemsa.lab.explaining.explainer import CLASS, extent
    from giemsa.lab.explaining.overlays import draw_explanation
    from giemsa.pictures import write_png
    from giemsa.render.palette import VERDICT_COLOURS

    method = explainer.method
    lines = (
        f"{row['verdict']}, p parasitized {float(row['p_parasitized']):.4f}, logit {float(row['logit']):.2f}",
        f"{method}; from {evidence.min():.1f} to {evidence.max():.1f} logits",
        Path(row["image"]).name,
    )
    page = draw_explanation(rgb, evidence, lines, colour=VERDICT_COLOURS[row["verdict"]], scale=args.scale)
    write_png(args.output / row["file"], page)
    return {
        "method": method.name,
        "layer": method.layer,
        "class": CLASS,
        "largest": f"{evidence.max():.6g}",
        "smallest": f"{evidence.min():.6g}",
        "extent": f"{float(extent(evidence[None])[0]):.4f}",
    }
