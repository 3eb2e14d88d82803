"""`giemsa data download`: fetch the official cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli._options import add_json

if TYPE_CHECKING:
    import argparse

EPILOG = """examples:
  giemsa data download cells            makes cells/cell_images, or goes on where it stopped
  giemsa data download cells --url https://mirror.example/cell_images.zip

Offline: put the archive at cells/cell_images.zip and run the same command.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("place", type=Path, nargs="?", default=Path(), metavar="DIR", help="where to (default: here)")
    parser.add_argument("--url", metavar="URL", help="another place of the same archive, which must have its digest")
    parser.add_argument("--keep-archive", action="store_true", help="keep the zip archive as well")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Download, verify and unpack."""
    from dataclasses import replace

    from giemsa.cli._console import interruptible, print_json, progress, warnings_as_sentences
    from giemsa.data import download
    from giemsa.words import counted

    archive = replace(download.OFFICIAL, url=args.url) if args.url else download.OFFICIAL
    left = f"what has been fetched is kept in {args.place}; continue with the same command"
    with interruptible(left), warnings_as_sentences(), progress() as show:
        done = download.download(args.place, archive=archive, keep_archive=args.keep_archive, progress=show)
    if args.json:
        print_json(
            {
                "folder": str(done.folder),
                "cells": done.n_pictures,
                "archive_sha256": archive.sha256,
                "was_complete": done.was_complete,
            }
        )
    elif done.was_complete:
        print(f"{done.folder} is complete with {counted(done.n_pictures, 'cell')}: nothing to do")
    else:
        print(
            f"{counted(done.n_pictures, 'cell')} in {done.folder}, verified by their archive's SHA-256 {archive.sha256}"
        )
    return 0
