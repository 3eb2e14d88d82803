"""`giemsa data`: download, describe and split labelled cells."""

from __future__ import annotations

import argparse
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from giemsa.data.describe import CopyGroup, Counts, Description
    from giemsa.data.index import CellIndex
    from giemsa.data.labels import LabelSets

NAME = "data"
HELP = "download, describe and split labelled cells"
EPILOG = """examples:
  giemsa data download cells
  giemsa data describe cells/cell_images --reviewed reviewed.csv --figure classes.png
  giemsa data split cells/cell_images --folds 5 --output split.json
`giemsa data download --help` and so on tell more.
"""

_ROWS_SHOWN = 10
_PATIENTS_SHOWN = 20
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the three commands take."""
    actions = parser.add_subparsers(dest="action", metavar="download|describe|split", required=True)
    for name, text, examples, add in (
        ("download", "fetch the official cells, 353 MB, verified and unpacked", _DOWNLOAD_EXAMPLES, _add_download),
        ("describe", "count, measure and look for leaks", _DESCRIBE_EXAMPLES, _add_describe),
        ("split", "divide cells by patient into a hold-out or folds", _SPLIT_EXAMPLES, _add_split),
    ):
        action = actions.add_parser(
            name,
            help=text,
            description=text[:1].upper() + text[1:] + ".",
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add(action)
        action.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error came from"
        )


def run(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    with _warnings_as_sentences():
        return {"download": _download, "describe": _describe, "split": _split}[args.action](args)


_DOWNLOAD_EXAMPLES = """examples:
  giemsa data download cells            makes cells/cell_images, or goes on where it stopped
  giemsa data download cells --url https://mirror.example/cell_images.zip
Elsewhere: put the archive at cells/cell_images.zip and run the same command offline.
"""
_DESCRIBE_EXAMPLES = """DIR holds class folders (Parasitized, Infected, Positive ... and Uninfected, Healthy,
Negative ...), also below train/, valid/ and test/; or is a CSV file,label[,patient].
Exit status 1 where a picture is unreadable.

examples:
  giemsa data describe cells/cell_images --reviewed reviewed.csv --output about
  giemsa data describe cells.csv --split split.json --json
"""
_SPLIT_EXAMPLES = """examples:
  giemsa data split cells/cell_images --folds 5 --output folds.json
  giemsa data split cells/cell_images --validation 0.1 --test 0.1 --seed 7 --output split.json
"""


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "place", type=Path, nargs="?", default=Path(), metavar="DIR", help="where to put it (default: here)"
    )
    parser.add_argument("--url", help="another place of the same archive; it is held against the same digest")
    parser.add_argument("--keep-archive", action="store_true", help="keep the zip beside what was unpacked")


def _add_describe(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument("--split", type=Path, metavar="FILE", help="describe the parts of this split")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the class distribution: .png, .svg or .pdf")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write description.json and classes.png there")
    parser.add_argument("--patients", action="store_true", help="list every patient, however many there are")
    parser.add_argument("--identical-only", action="store_true", help="do not look for near-identical pictures")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where decoded cells are kept (default: the user's)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--force", action="store_true", help="replace existing files")


def _add_split(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument(
        "--by",
        choices=("patient", "field", "laboratory", "image", "folder"),
        default="patient",
        help="what stays together (default: patient); image is random and leaks, folder takes train/, valid/, test/",
    )
    parser.add_argument("--folds", type=int, metavar="K", help="make K folds instead of a hold-out")
    parser.add_argument("--validation", type=float, metavar="SHARE", help="share held back (default: 0.2)")
    parser.add_argument("--test", type=float, metavar="SHARE", help="share kept for testing (default: 0)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same seed gives the same split (default: 0)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the split, as JSON")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DIR", help="labelled cells: folders by class, or a CSV")
    parser.add_argument("--reviewed", type=Path, metavar="CSV", help="a second reading: file,official,reviewed")
    parser.add_argument("--donors", type=Path, metavar="FILE", help="patients without malaria, a name a line")
    parser.add_argument("--positive-class", metavar="NAME", help="the class that means parasitized")


def _download(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from giemsa.data import download
    from giemsa.words import counted

    archive = replace(download.OFFICIAL, url=args.url) if args.url else download.OFFICIAL
    try:
        with _progress() as progress:
            done = download.download(args.place, archive=archive, keep_archive=args.keep_archive, progress=progress)
    except KeyboardInterrupt:
        print(
            f"giemsa: interrupted; what has come is kept in {args.place}: run the same command to go on",
            file=sys.stderr,
        )
        return _INTERRUPTED
    if done.was_complete:
        print(f"{done.folder} is complete with {counted(done.n_pictures, 'cell')}: nothing to do")
    else:
        print(
            f"{counted(done.n_pictures, 'cell')} in {done.folder}, verified by their archive's SHA-256 {archive.sha256}"
        )
    return 0


def _describe(args: argparse.Namespace) -> int:
    import json

    from giemsa.data.describe import describe, draw_classes
    from giemsa.data.splits import read_split
    from giemsa.errors import OutputError
    from giemsa.files import check_output, write_file

    figures = [args.figure] if args.figure else []
    report = None
    if args.output is not None:
        try:
            args.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"the folder {args.output} cannot be made ({error.strerror}); name another one"
            raise OutputError(message) from error
        figures.append(args.output / "classes.png")
        report = check_output(args.output / "description.json", force=args.force)
    for figure in figures:
        _check_figure(check_output(figure, force=args.force))
    with _progress() as progress:
        index, labels = _read(args, progress)
        split = read_split(args.split) if args.split else None
        description = describe(
            index, labels, split=split, near_identical=not args.identical_only, cache=args.cache, progress=progress
        )
    for figure in figures:
        draw_classes(description, figure)
    content = json.dumps(description.to_json(), indent=1)
    if report is not None:
        write_file(report, content + "\n")
    if args.json:
        print(content)
    else:
        _print_description(description, all_patients=args.patients)
    for path in filter(None, [report, *figures]):
        print(f"written: {path}", file=sys.stderr)
    return 1 if description.unreadable else 0


def _check_figure(path: Path) -> None:
    from giemsa.errors import UsageError

    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"the figure {path} ends in {path.suffix or 'nothing'!r}; expected .png, .svg or .pdf")


def _split(args: argparse.Namespace) -> int:
    from giemsa.data.describe import describe
    from giemsa.data.splits import make_split
    from giemsa.errors import UsageError
    from giemsa.files import check_output

    if args.folds is not None and (args.validation is not None or args.test is not None):
        raise UsageError("--folds and --validation or --test exclude each other; give folds or shares")
    if args.by == "folder" and (args.validation is not None or args.test is not None):
        raise UsageError("--by folder takes the parts as they are; leave out --validation and --test")
    check_output(args.output, force=args.force)
    with _progress() as progress:
        index, labels = _read(args, progress)
    validation = 0.2 if args.validation is None else args.validation
    split = make_split(
        index, labels, by=args.by, folds=args.folds, validation=validation, test=args.test or 0.0, seed=args.seed
    )
    split.save(args.output, force=args.force)
    description = describe(index, labels, split=split, near_identical=False)
    console = _console()
    console.print(_counts_table(description, [*description.per_part, description.whole]))
    for note in description.notes:
        console.print(f"- {note}", markup=False, highlight=False)
    print(f"{args.output}: split by {args.by}, seed {args.seed}, digest {split.digest[:12]}, data {index.digest[:12]}")
    return 0


def _read(args: argparse.Namespace, progress: Callable[[str, int, int], None]) -> tuple[CellIndex, LabelSets]:
    from giemsa.data.index import read_index
    from giemsa.data.labels import read_label_sets

    index = read_index(
        args.data, positive_class=args.positive_class, progress=lambda done, total: progress("read", done, total)
    )
    return index, read_label_sets(index, reviewed=args.reviewed, donors=args.donors)


def _print_description(description: Description, *, all_patients: bool) -> None:
    console = _console()
    whole = description.whole
    print(f"{description.root} ({description.layout}): {description.summary}")
    print(f"digest {description.digest}")
    console.print(_counts_table(description, [*description.per_part, whole]))
    _print_patients(console, description, all_patients=all_patients)
    width, height = description.width_px, description.height_px
    print(
        f"sizes: {width.smallest} to {width.largest} px wide (median {width.median:g}), {height.smallest} to"
        f" {height.largest} px high (median {height.median:g})"
    )
    _print_copies(console, description)
    _print_some(console, "unreadable", [f"{one['file']}: {one['reason']}" for one in description.unreadable])
    for note in description.notes:
        console.print(f"- {note}", markup=False, highlight=False)


def _counts_table(description: Description, groups: list[Counts]) -> Any:  # noqa: ANN401 - rich is imported late
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column(description.parts_of)
    columns = ["cells", "parasitized", "uninfected"]
    columns += ["disputed"] if description.review_known else []
    columns += ["patients"] if description.whole.patients else []
    columns += ["donors", "donor_cells"] if description.whole.donors else []
    for column in columns:
        table.add_column({"donor_cells": "donors' cells"}.get(column, column), justify="right")
    for group in groups:
        name = f"fold {group.name}" if group.name.isdecimal() and group is not description.whole else group.name
        table.add_row(name, *(f"{getattr(group, column):,}" for column in columns))
    return table


def _print_patients(console: Console, description: Description, *, all_patients: bool) -> None:
    from dataclasses import replace
    from statistics import median

    people = description.per_patient
    if not people:
        return
    if all_patients or len(people) <= _PATIENTS_SHOWN:
        # Of a single patient, the numbers of patients and donors say nothing but whether they are a donor.
        described = replace(description, parts_of="patient")
        console.print(_counts_table(described, list(people)))
        return
    cells = [one.cells for one in people]
    infected = [one.parasitized for one in people if one.parasitized]
    print(
        f"cells per patient: {min(cells):,} to {max(cells):,} (median {median(cells):g}); parasitized ones in"
        f" {len(infected)} patients, {min(infected, default=0):,} to {max(infected, default=0):,} each;"
        " --patients lists them all"
    )


def _print_copies(console: Console, description: Description) -> None:
    from giemsa.words import counted

    identical = sum(group.identical for group in description.copies)
    similar = len(description.copies) - identical
    sought = f", {counted(similar, 'picture')} near-identical" if description.near_identical_sought else ""
    print(f"copies: {counted(identical, 'picture')} there more than once byte for byte{sought}")
    worst = sorted(description.copies, key=lambda group: (-group.across_labels, -group.across_parts))
    _print_some(console, "copies", [_copies_line(group) for group in worst])


def _copies_line(group: CopyGroup) -> str:
    what = "identical" if group.identical else "near-identical"
    across = {"two labels": group.across_labels, "two parts": group.across_parts, "two patients": group.across_patients}
    found = [word for word, is_so in across.items() if is_so]
    return f"{what}{' (' + ', '.join(found) + ')' if found else ''}: {' = '.join(group.files[:4])}"


def _print_some(console: Console, what: str, lines: list[str]) -> None:
    for line in lines[:_ROWS_SHOWN]:
        console.print(f"  {line}", markup=False, highlight=False)
    if len(lines) > _ROWS_SHOWN:
        print(f"  and {len(lines) - _ROWS_SHOWN:,} more {what}; --json lists them all")


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    return console


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show how far each stage is, on standard error and only on a terminal."""
    if not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    names = {
        "fetch": "fetching", "unpack": "unpacking", "read": "reading", "decode": "decoding", "compare": "comparing",
    }  # fmt: skip
    tasks: dict[str, Any] = {}
    bars: dict[bool, Progress] = {}
    console = Console(stderr=True)

    def show(stage: str, done: int, total: int) -> None:
        in_bytes = stage == "fetch"
        if stage not in tasks:
            for bar in bars.values():
                bar.stop()
            amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
            bars[in_bytes] = Progress(
                TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn(), console=console
            )
            bars[in_bytes].start()
            tasks[stage] = bars[in_bytes].add_task(names[stage], total=total)
        bars[in_bytes].update(tasks[stage], completed=done)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.stop()


@contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    """Print what a reader must know as sentences, without the place in the code."""
    from giemsa.errors import GiemsaWarning

    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:  # noqa: ANN401
            if issubclass(category, GiemsaWarning):
                print(f"giemsa: warning: {message}", file=sys.stderr)
            else:
                usual(message, category, *place, **more)

        warnings.simplefilter("always", GiemsaWarning)
        warnings.showwarning = show
        yield
