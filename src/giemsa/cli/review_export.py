"""`giemsa review export`: reviewers' answers as a CSV that training and evaluation take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli._options import add_force, add_positive_class

if TYPE_CHECKING:
    import argparse

EPILOG = """Cells are found by the digest of their files. Where reviewers disagree, the majority counts, and a tie is
left out. --data gives a CSV file,official,reviewed, which `--reviewed` of train and evaluate takes.

examples:
  giemsa review export --data cells --output reviewed.csv
  giemsa review export --raw --database postgresql://giemsa@db/giemsa --output answers.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, metavar="DIR", help="labelled cells: folders by class, or a CSV")
    what.add_argument("--raw", action="store_true", help="write every answer as it was given")
    parser.add_argument("--database", metavar="URL", help="as given to serve (default: the user's own)")
    parser.add_argument("--reviewer", action="append", metavar="NAME", help="this person's answers only; repeatable")
    add_positive_class(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="CSV", help="the file to write")
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Export."""
    from giemsa.cli._console import inform
    from giemsa.files import check_output
    from giemsa.web.database import Reviews, default_database
    from giemsa.web.export import write_answers, write_reviewed

    check_output(args.output, force=args.force)
    reviews = Reviews(args.database or default_database(), existing=True)
    try:
        if args.raw:
            sentences = [write_answers(reviews, args.output, reviewers=args.reviewer)]
        else:
            sentences = write_reviewed(
                reviews, args.data, args.output, reviewers=args.reviewer, positive_class=args.positive_class
            )
    finally:
        reviews.close()
    for sentence in sentences:
        inform(f"giemsa: {sentence}")
    return 0
