"""`giemsa review export`: what reviewers answered, as a CSV that training and evaluation take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

HELP = "export what reviewers answered"
EPILOG = """examples:
  giemsa review export --data cells --output reviewed.csv
  giemsa review export --raw --database postgresql://giemsa.db/giemsa --output answers.csv

Cells are found by the digest of their files. Where people disagree, the majority counts, and a tie is left out.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("action", choices=["export"], help="write a CSV")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, metavar="DIR", help="labelled cells: writes file,official,reviewed for "
                      "--reviewed of train and evaluate")  # fmt: skip
    what.add_argument("--raw", action="store_true", help="writes every answer as it was given")
    parser.add_argument("--database", metavar="URL", help="as given to serve (default: the user's own)")
    parser.add_argument("--reviewer", action="append", metavar="NAME", help="only this person's answers; repeatable")
    parser.add_argument("--positive-class", metavar="NAME", help="the folder that means parasitized")
    parser.add_argument("--output", type=Path, required=True, metavar="CSV", help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace a file that is there already")


def run(args: argparse.Namespace) -> int:
    """Export."""
    from giemsa.files import check_output
    from giemsa.web.database import Reviews, default_database
    from giemsa.web.export import write_answers, write_reviewed

    check_output(args.output, force=args.force)
    reviews = Reviews(args.database or default_database(), existing=True)
    try:
        if args.raw:
            said = [write_answers(reviews, args.output, reviewers=args.reviewer)]
        else:
            said = write_reviewed(
                reviews, args.data, args.output, reviewers=args.reviewer, positive_class=args.positive_class
            )
    finally:
        reviews.close()
    for sentence in said:
        print(f"giemsa: {sentence}", file=sys.stderr)
    return 0
