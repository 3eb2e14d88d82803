"""`giemsa smear`: fields in, a count with its uncertainty out; and `giemsa smear calibrate`."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli import INTERRUPTED, WRONG_USE
from giemsa.errors import OutputError, SourceError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from giemsa.smear.decisions import Decisions
    from giemsa.smear.output import SmearFolder
    from giemsa.smear.reading import SmearReader
    from giemsa.smear.results import SmearSummary
    from giemsa.smear.site import Site
    from giemsa.sources import Source

ENOUGH_PARASITES, ENOUGH_FIELDS = 20, 10  # from here on a site's rates say more than guesses do
HELP = "count parasitized cells in photographs of whole fields"
EPILOG = """examples:
  giemsa smear fields/ --patient P1 --site site.json --output smear-P1
  giemsa smear patients/ --by-folder --output smears
  giemsa smear fields/ --output smear-P1 --resume --decisions decisions.json
  giemsa smear calibrate reviewed/annotations.json --output site.json

`calibrate` takes files of annotations, or output folders with decisions.json in them.
Exit status: 0; 1 where fields were left out; 2 for wrong use, or where no field can be judged.
For research and education: no diagnosis without a qualified professional.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="photographs of one smear: files, folders, patterns, zip archives"
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="the folder to write (calibrate: the JSON file)")
    parser.add_argument("--patient", default="", metavar="NAME", help="whose blood it is")
    parser.add_argument("--by-folder", action="store_true", help="PATH is a folder with a folder for each patient")
    parser.add_argument("--site", metavar="SITE.json", help="this laboratory's rates, of `giemsa smear calibrate`")
    parser.add_argument("--decisions", metavar="FILE", help="what a person decided in the report")
    parser.add_argument("--cell-diameter-px", type=float, metavar="PX", help="a red cell's (default: estimated)")
    parser.add_argument("--red-cells-per-ul", type=float, metavar="N", help="the patient's (default: 5,000,000)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with an output, reading only what is missing")
    again.add_argument("--force", action="store_true", help="replace an output that is there already")
    parser.add_argument("--no-overlays", action="store_true", help="do not draw each field with its cells")
    parser.add_argument("--model", metavar="MODEL", help="an ONNX file or a run folder (default: the embedded model)")
    parser.add_argument("--threads", type=int, metavar="N", help="fields at a time (default: one for each core)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Read a smear, several, or reviewed fields."""
    _check(args)
    import cv2

    from giemsa.cli._console import terminated_like_interrupted
    from giemsa.smear.reading import SmearReader

    cv2.setNumThreads(1)  # each worker does a whole field
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters about a picture becomes its reason
    with terminated_like_interrupted():
        if args.paths[0] == "calibrate":
            return _calibrate(args)
        reader = SmearReader(args.model, cell_diameter_px=args.cell_diameter_px, threads=args.threads)
        site = _site(args, reader)
        if args.by_folder:
            return _by_folder(args, reader, site)
        decisions = _decisions(args)
        try:
            summary = _read(args, reader, site, decisions, args.paths, Path(args.output), args.patient)
        except KeyboardInterrupt:
            print(f"giemsa: interrupted: the fields read so far are in {args.output}; go on with --resume",
                  file=sys.stderr)  # fmt: skip
            return INTERRUPTED
        _report(args, summary)
    return _status(summary)


def _check(args: argparse.Namespace) -> None:
    """Refuse wrong use before anything is opened."""
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads is {args.threads}; expected 1 or more")
    if args.red_cells_per_ul is not None and not 1e5 <= args.red_cells_per_ul <= 1e7:
        raise UsageError(f"--red-cells-per-ul is {args.red_cells_per_ul:g}; expected 100,000 to 10,000,000")
    if args.by_folder and args.decisions:
        raise UsageError("--decisions belong to one smear; give them with that smear's folder, without --by-folder")
    if args.by_folder and args.patient:
        raise UsageError("--patient names one smear; with --by-folder the folders' names are the patients'")
    if args.by_folder and (len(args.paths) != 1 or not Path(args.paths[0]).is_dir()):
        raise UsageError("--by-folder takes one folder, which holds a folder for each patient")


def _read(
    args: argparse.Namespace,
    reader: SmearReader,
    site: Site | None,
    decisions: Decisions | None,
    paths: list[str],
    output: Path,
    patient: str,
) -> SmearSummary:
    from giemsa.smear.output import SmearFolder
    from giemsa.smear.reading import Tally
    from giemsa.sources import open_sources

    sources = open_sources(paths, note=_note)
    folder = SmearFolder(output)
    earlier = folder.settings() if args.resume else {}
    done = folder.begin(reader, force=args.force, resume=args.resume)
    with ExitStack() as stack:
        advance = _progress(paths, patient or output.name, stack)
        for read in reader.read_fields(_not_read(sources, folder, done, advance)):
            folder.add(read)
            advance()
    names = list(folder.names())
    if decisions is not None:
        decisions = decisions.named_as(names)
        _check_decisions(folder, decisions, args.decisions)
    _remark(names, site, args, earlier)
    tally = Tally(
        reader.model,
        folder.slide(),
        site,
        patient=patient,
        red_cells_per_ul=args.red_cells_per_ul,
        command=args.command_line,
    )
    return folder.finish(tally, decisions.cells if decisions else {}, overlays=not args.no_overlays)


def _remark(names: Sequence[str], site: Site | None, args: argparse.Namespace, earlier: dict[str, bool]) -> None:
    """Say what a count may not mean, or no longer takes into account, though nothing is wrong."""
    folders = {Path(name).parent for name in names}
    if len(folders) > 1 and not args.by_folder:
        _note(f"the photographs of {len(folders)} folders are counted as one smear; with --by-folder each is one")
    if site is not None:
        own = {Path(field.field).name for field in site.fields} & {Path(name).name for name in names}
        if own:
            _note(
                f"{len(own)} of these fields are among those that the site's rates were measured on, so that the "
                "interval promises too much; count others"
            )
    for name in ("decisions", "site", "red_cells_per_ul"):
        if earlier.get(name) and not getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            _note(f"the count that stood here went by {option}, and this one does not; give it again to keep it")


def _not_read(
    sources: Iterator[Source], folder: SmearFolder, done: int, advance: Callable[[], None]
) -> Iterator[Source]:
    """Pass over the fields that were read before, which must be the same."""
    for name in folder.names() if done else ():
        source = next(sources, None)
        if source is None or source.name != name:
            there = "there are no more photographs" if source is None else f"the photograph there is {source.name}"
            raise OutputError(
                f"cannot resume {folder.folder}: it has the field {name} where {there}; give the same "
                "photographs in the same order, or start anew with --force"
            )
        advance()
    yield from sources


def _by_folder(args: argparse.Namespace, reader: SmearReader, site: Site | None) -> int:
    """Read one smear after the other, and write a table of patients."""
    from giemsa.files import replace_file
    from giemsa.smear.patients import HEADER, patient_row

    top, output = Path(args.paths[0]), Path(args.output)
    folders = sorted(entry for entry in top.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise SourceError(f"{top} holds no folders; expected one for each patient")
    if output.is_dir() and any(output.iterdir()) and not (args.force or args.resume):
        raise OutputError(f"the output {output} exists already; name another one, go on with it by --resume or replace "
                          "it with --force")  # fmt: skip
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {output}: {error.strerror or error}") from error
    rows: list[str] = []
    worst = 0
    for folder in folders:
        try:
            summary = _read(args, reader, site, None, [str(folder)], output / folder.name, folder.name)
        except SourceError as error:
            _note(f"{folder.name}: {error}")
            worst = max(worst, 1)
            continue
        except KeyboardInterrupt:
            print(f"giemsa: interrupted: {len(rows)} patients are complete in {output}; go on with --resume",
                  file=sys.stderr)  # fmt: skip
            return INTERRUPTED
        rows.append(patient_row(summary))
        worst = max(worst, min(1, _status(summary)))
        with replace_file(output / "patients.csv") as beside:
            beside.write_text(HEADER + "".join(rows), encoding="utf-8")
        _report(args, summary, brief=True)
    if not rows:
        raise SourceError(f"no folder in {top} holds photographs")
    if not args.json:
        print(f"Written: {output / 'patients.csv'}, and a folder for each of {len(rows)} patients.", file=sys.stderr)
    return worst


def _calibrate(args: argparse.Namespace) -> int:
    """Compare calls with labels in reviewed fields, and write this laboratory's rates."""
    for name in ("site", "decisions", "patient", "by_folder", "resume", "red_cells_per_ul"):
        if getattr(args, name):
            raise UsageError(f"--{name.replace('_', '-')} has no meaning for `giemsa smear calibrate`")
    if len(args.paths) < 2:
        raise UsageError("`giemsa smear calibrate` needs reviewed fields: files of annotations, or smears' folders")
    from giemsa.files import check_output
    from giemsa.smear.reading import SmearReader
    from giemsa.smear.reviewed import read_reviewed
    from giemsa.smear.site import calibrate, write_site

    check_output(args.output, force=args.force)
    reader = SmearReader(args.model, cell_diameter_px=args.cell_diameter_px, threads=args.threads)
    site = calibrate(read_reviewed(args.paths[1:], reader), model_sha256=reader.model.digest, command=args.command_line)
    write_site(args.output, site, force=args.force)
    if args.json:
        print(site.to_json(), end="")
    else:
        rates = site.rates()
        print(f"Cells are called parasitized from {site.cut:g} spreads above the healthy ones' middle; {rates.source}.")
        low, high = (100 * share for share in rates.sensitivity_interval)
        few, many = (100 * share for share in rates.false_alarms_interval)
        print(
            f"Sensitivity {low:.0f} to {high:.0f} %, false alarms {few:.2g} to {many:.2g} % of healthy cells (95 %). "
            f"Cells of a field are alike: they count {rates.design_effect:.1f} times fewer than they are."
        )
        parasites = sum(field.true_positives + field.false_negatives for field in site.fields)
        if parasites < ENOUGH_PARASITES or len(site.fields) < ENOUGH_FIELDS:
            _note(f"{parasites} parasites in {len(site.fields)} fields are few, and intervals stay wide; review "
                  f"{ENOUGH_PARASITES} parasites in {ENOUGH_FIELDS} fields or more")  # fmt: skip
        print(f"Written: {args.output}.", file=sys.stderr)
    return 0


def _site(args: argparse.Namespace, reader: SmearReader) -> Site | None:
    if not args.site:
        return None
    from giemsa.smear.site import read_site

    return read_site(args.site, model_sha256=reader.model.digest)


def _decisions(args: argparse.Namespace) -> Decisions | None:
    if not args.decisions:
        return None
    from giemsa.smear.decisions import read_decisions

    return read_decisions(args.decisions)


def _check_decisions(folder: SmearFolder, decisions: Decisions, path: str) -> None:
    """Refuse decisions on cells that this smear does not have: they would be lost without a word."""
    left = set(decisions.cells)
    for read in folder.read_fields():
        if not read.refusal:
            left -= {(read.field, c.x0, c.y0, c.x1, c.y1) for c in read.cells}
    if left:
        field, *box = min(left)
        raise UsageError(
            f"{path} decides on {len(left)} cells that this smear does not have, the first in {field} at {box}; "
            "expected the file that this smear's report saved"
        )


def _report(args: argparse.Namespace, summary: SmearSummary, *, brief: bool = False) -> None:
    """Say the count and what it means."""
    from giemsa.smear.output import summary_as_json
    from giemsa.smear.sentences import headline, sentences

    if args.json:
        import json

        print(json.dumps(json.loads(summary_as_json(summary)), ensure_ascii=False))
        return
    if brief:
        print(f"{summary.patient}: {headline(summary)}")
        return
    from giemsa.verdicts import DISCLAIMER

    for sentence in sentences(summary):
        print(sentence)
    print(DISCLAIMER)
    print(f"Written: {os.path.join(args.output, 'report.html')}, cells.csv, summary.json and overlays beside it.",  # noqa: PTH118
          file=sys.stderr)  # fmt: skip


def _status(summary: SmearSummary) -> int:
    if summary.count is None:
        return WRONG_USE
    return 1 if summary.refused else 0


def _progress(paths: list[str], name: str, stack: ExitStack) -> Callable[[], None]:
    """Show progress on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        return lambda: None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from giemsa.sources import open_sources

    total = None if "-" in paths else sum(1 for _ in open_sources(paths))
    bar = stack.enter_context(
        Progress(
            TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)
        )
    )
    task = bar.add_task(name, total=total)
    return lambda: bar.update(task, advance=1)


def _note(sentence: str) -> None:
    print(f"giemsa: {sentence}", file=sys.stderr)
