"""`giemsa data split`: divide labelled cells by patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli._options import add_data, add_force, add_json

if TYPE_CHECKING:
    import argparse

    from giemsa.cli._parser import Parser

EPILOG = """--by image splits at random and leaks: cells of one patient stand on both sides. --by folder takes the parts
train/, valid/ and test/ as they are.

examples:
  giemsa data split --data cells/cell_images --folds 5 --output folds.json
  giemsa data split --data cells/cell_images --validation 0.1 --test 0.1 --seed 7 --output split.json
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    add_data(parser, bare_word=True)
    parser.add_argument(
        "--by",
        choices=("patient", "field", "laboratory", "image", "folder"),
        default="patient",
        metavar="WHAT",
        help="what stays together: patient, field, laboratory, image or folder (default: patient)",
    )
    parser.add_argument("--folds", type=int, metavar="K", help="make K folds instead of a hold-out")
    parser.add_argument("--validation", type=float, metavar="SHARE", help="share held back (default: 0.2)")
    parser.add_argument("--test", type=float, metavar="SHARE", help="share kept for testing (default: 0)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed, the same split (default: 0)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the split, as JSON")
    add_force(parser)
    add_json(parser, "counts and digests as JSON")


def run(args: argparse.Namespace) -> int:
    """Split."""
    from giemsa.cli._console import print_json, progress, warnings_as_sentences
    from giemsa.cli._options import indexed_cells
    from giemsa.data.describe import describe
    from giemsa.data.splits import make_split
    from giemsa.errors import UsageError
    from giemsa.files import check_output

    if args.folds is not None and (args.validation is not None or args.test is not None):
        raise UsageError("--folds excludes --validation and --test; give folds or shares")
    if args.by == "folder" and (args.validation is not None or args.test is not None):
        raise UsageError("--by folder takes the parts as they are; leave out --validation and --test")
    check_output(args.output, force=args.force)
    with warnings_as_sentences():
        with progress() as show:
            index, labels = indexed_cells(args, show.stage("read"))
        validation = 0.2 if args.validation is None else args.validation
        split = make_split(
            index, labels, by=args.by, folds=args.folds, validation=validation, test=args.test or 0.0, seed=args.seed
        )
        split.save(args.output, force=args.force)
        description = describe(index, labels, split=split, near_identical=False)
    if args.json:
        content = description.to_json()
        print_json(
            {
                "split": str(args.output),
                "by": args.by,
                "seed": args.seed,
                "digest": split.digest,
                "data_digest": index.digest,
                "parts": content["per_part"],
                "whole": content["whole"],
                "notes": content["notes"],
            }
        )
        return 0
    from giemsa.cli._console import table_console
    from giemsa.cli.data_describe import counts_table, print_notes

    table_console().print(counts_table(description, [*description.per_part, description.whole]))
    print_notes(description)
    print(f"{args.output}: split by {args.by}, seed {args.seed}, digest {split.digest[:12]}, data {index.digest[:12]}")
    return 0
