"""`giemsa data describe`: count labelled cells, measure them and look for leaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli._options import add_cache, add_data, add_force, add_json

if TYPE_CHECKING:
    import argparse

    from rich.console import Console
    from rich.table import Table

    from giemsa.cli._parser import Parser
    from giemsa.data.describe import CopyGroup, Counts, Description

EPILOG = """DIR holds class folders (Parasitized, Infected, Positive ... and Uninfected, Healthy, Negative ...),
also below train/, valid/ and test/; or it is a CSV file,label[,patient].
Exit status 1 where a picture is unreadable.

examples:
  giemsa data describe --data cells/cell_images --reviewed reviewed.csv --output about
  giemsa data describe --data cells.csv --split split.json --json
"""
_ROWS_SHOWN = 10
_PATIENTS_SHOWN = 20


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    add_data(parser, bare_word=True)
    parser.add_argument("--split", type=Path, metavar="FILE", help="describe the parts of this split")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the class distribution: .png, .svg or .pdf")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write description.json and classes.png there")
    parser.add_argument("--patients", action="store_true", help="list every patient, however many there are")
    parser.add_argument("--identical-only", action="store_true", help="do not look for near-identical pictures")
    add_cache(parser)
    add_force(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Describe."""
    import json

    from giemsa.cli._console import inform, progress, warnings_as_sentences
    from giemsa.cli._options import chosen_split, indexed_cells
    from giemsa.data.describe import describe, draw_classes
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
    with warnings_as_sentences(), progress() as show:
        index, labels = indexed_cells(args, show.stage("read"))
        description = describe(
            index,
            labels,
            split=chosen_split(args),
            near_identical=not args.identical_only,
            cache=args.cache,
            progress=show,
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
        inform(f"Written: {path}")
    return 1 if description.unreadable else 0


def _check_figure(path: Path) -> None:
    from giemsa.errors import UsageError

    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"the figure {path} ends in {path.suffix or 'nothing'!r}; expected .png, .svg or .pdf")


def _print_description(description: Description, *, all_patients: bool) -> None:
    from giemsa.cli._console import table_console

    console = table_console()
    whole = description.whole
    print(f"{description.root} ({description.layout}): {description.summary}")
    print(f"digest {description.digest}")
    console.print(counts_table(description, [*description.per_part, whole]))
    _print_patients(console, description, all_patients=all_patients)
    width, height = description.width_px, description.height_px
    print(
        f"sizes: {width.smallest} to {width.largest} px wide (median {width.median:g}), {height.smallest} to"
        f" {height.largest} px high (median {height.median:g})"
    )
    _print_copies(description)
    _print_some("unreadable", [f"{one['file']}: {one['reason']}" for one in description.unreadable])
    print_notes(description)


def _print_patients(console: Console, description: Description, *, all_patients: bool) -> None:
    from dataclasses import replace
    from statistics import median

    people = description.per_patient
    if not people:
        return
    if all_patients or len(people) <= _PATIENTS_SHOWN:
        # Of a single patient, the numbers of patients and donors say nothing but whether they are a donor.
        described = replace(description, parts_of="patient")
        console.print(counts_table(described, list(people)))
        return
    cells = [one.cells for one in people]
    infected = [one.parasitized for one in people if one.parasitized]
    print(
        f"cells per patient: {min(cells):,} to {max(cells):,} (median {median(cells):g}); parasitized ones in"
        f" {len(infected)} patients, {min(infected, default=0):,} to {max(infected, default=0):,} each;"
        " --patients lists them all"
    )


def _print_copies(description: Description) -> None:
    from giemsa.words import counted

    identical = sum(group.identical for group in description.copies)
    similar = len(description.copies) - identical
    sought = f"; {counted(similar, 'picture')} near-identical" if description.near_identical_sought else ""
    print(f"copies: {counted(identical, 'picture')} more than once, byte for byte{sought}")
    worst = sorted(description.copies, key=lambda group: (-group.across_labels, -group.across_parts))
    _print_some("copies", [_copies_line(group) for group in worst])


def _copies_line(group: CopyGroup) -> str:
    what = "identical" if group.identical else "near-identical"
    across = {"two labels": group.across_labels, "two parts": group.across_parts, "two patients": group.across_patients}
    found = [word for word, is_so in across.items() if is_so]
    return f"{what}{' (' + ', '.join(found) + ')' if found else ''}: {' = '.join(group.files[:4])}"


def _print_some(what: str, lines: list[str]) -> None:
    for line in lines[:_ROWS_SHOWN]:
        print(f"  {line}")
    if len(lines) > _ROWS_SHOWN:
        print(f"  and {len(lines) - _ROWS_SHOWN:,} more {what}; --json lists them all")


def counts_table(description: Description, groups: list[Counts]) -> Table:
    """Table of what each group of cells holds."""
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


def print_notes(description: Description) -> None:
    """Print what a reader must know of the data, a line each."""
    for sentence in description.notes:
        print(f"- {sentence}")
