"""`giemsa smear`: fields in, a count with its uncertainty out; and `giemsa smear calibrate`."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli import WRONG_USE
from giemsa.cli._console import interruptible, note, progress, terminated_like_interrupted
from giemsa.errors import OutputError, SourceError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from giemsa.smear.decisions import Decisions
    from giemsa.smear.patients import Photographs
    from giemsa.smear.reading import SmearReader
    from giemsa.smear.results import SmearSummary
    from giemsa.smear.site import Site
    from giemsa.smear.store import SmearFolder
    from giemsa.sources import Source

ENOUGH_PARASITES, ENOUGH_FIELDS = 20, 10  # from here on a site's rates say more than guesses do
HELP = "count parasitized cells in photographs of whole fields"
EPILOG = """examples:
  giemsa smear fields/ --patient P1 --site site.json --output smear-P1
  giemsa smear patients/ --by-folder --output smears
  giemsa smear fields/ --output smear-P1 --resume --decisions decisions.json
  giemsa smear calibrate reviewed/annotations.json --output site.json

Photographs of several folders are several smears; --patient NAME makes them one.
`calibrate` takes files of annotations, or output folders with decisions.json in them.
Exit status: 0; 1 where fields were left out; 2 for wrong use, or where no field can be judged.
For research and education: no diagnosis without a qualified professional.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="photographs of one smear: files, folders, patterns, zip archives"
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="the folder to write (calibrate: the JSON file)")
    parser.add_argument("--patient", default="", metavar="NAME", help="whose blood it is; all are then one smear")
    parser.add_argument("--by-folder", action="store_true", help="PATH is a folder with a folder for each patient")
    parser.add_argument("--site", metavar="SITE.json", help="this laboratory's rates, of `giemsa smear calibrate`")
    parser.add_argument("--decisions", metavar="FILE", help="what a person decided in the report")
    parser.add_argument("--cell-diameter-px", type=float, metavar="PX", help="a red cell's (default: estimated)")
    parser.add_argument("--red-cells-per-ul", type=float, metavar="N", help="the patient's (default: 5,000,000)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="continue an output, reading only what is missing")
    again.add_argument("--force", action="store_true", help="replace an output that is there already")
    parser.add_argument("--no-overlays", action="store_true", help="do not draw each field with its cells")
    parser.add_argument("--model", metavar="MODEL", help="an ONNX file or a run folder (default: the embedded model)")
    parser.add_argument("--threads", type=int, metavar="N", help="fields at a time (default: one for each core)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Read a smear, several, or reviewed fields."""
    _check(args)
    import cv2

    from giemsa.smear.reading import SmearReader
    from giemsa.words import printable

    args.patient, args.command_line = printable(args.patient), printable(args.command_line)
    cv2.setNumThreads(1)  # each worker does a whole field
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters about a picture becomes its reason
    with terminated_like_interrupted():
        if _means_calibrate(args.paths):
            return _calibrate(args)
        reader = SmearReader(args.model, cell_diameter_px=args.cell_diameter_px, threads=args.threads)
        site = _site(args, reader)
        if args.by_folder:
            return _several(args, reader, site, *_of_patients(Path(args.paths[0]), Path(args.output)))
        decisions = _decisions(args)
        sources = _opened(args.paths, Path(args.output))
        apart = _apart(args, sources)
        if len(apart) > 1:
            return _several(args, reader, site, apart)
        with interruptible(f"the fields read so far are in {args.output}; continue with --resume"):
            summary = _count(args, reader, site, decisions, sources, Path(args.output), args.patient)
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
    if args.by_folder and (len(args.paths) != 1 or not os.path.isdir(args.paths[0])):  # noqa: PTH112
        raise UsageError("--by-folder takes one folder, which holds a folder for each patient")


def _means_calibrate(paths: Sequence[str]) -> bool:
    """Whether the first word is the command, and not a folder that is called like it."""
    if paths[0] != "calibrate":
        return False
    if not os.path.lexists("calibrate"):
        return True
    if len(paths) > 1:
        note("`calibrate` is taken for the command; write ./calibrate for what is called so here")
    return len(paths) > 1


def _opened(paths: Sequence[str], output: Path) -> list[Source]:
    """Each photograph once, but for what an earlier run left in the output, should that lie among them."""
    from giemsa.sources import open_sources
    from giemsa.words import printable

    inside = os.path.join(os.path.realpath(output), "")  # noqa: PTH118
    kept: list[Source] = []
    seen: set[str] = set()
    twice = 0
    for source in open_sources(paths, note=note):
        place = os.path.realpath(source.path) if source.path else ""
        if place and place.startswith(inside):
            continue
        if source.name != printable(source.path):  # a part of an archive, or none of a file
            place = f"{place}\0{source.name}"
        if place in seen:
            twice += 1
            continue
        seen.add(place)
        kept.append(source)
    if twice:
        note(f"{twice} of the photographs were given more than once, and each is counted once")
    if not kept:
        raise SourceError(f"there are no photographs outside the output {output}; name their folder")
    return kept


def _apart(args: argparse.Namespace, sources: Sequence[Source]) -> list[Photographs]:
    """Photographs apart by their folders, unless a person says that they are one smear's."""
    from giemsa.smear.patients import by_folder

    apart = by_folder(sources)
    if args.patient or len(apart) == 1:
        return []
    named = ", ".join(one.patient for one in apart[:3]) + (", ..." if len(apart) > 3 else "")
    if args.decisions:
        raise UsageError(f"--decisions belong to one smear, and the photographs are of {len(apart)} folders ({named}); "
                         "give one of them, or --patient NAME if they are of one patient")  # fmt: skip
    if os.path.lexists(os.path.join(args.output, "fields.jsonl")):  # noqa: PTH118
        raise OutputError(f"{args.output} holds one smear, and the photographs are of {len(apart)} folders ({named}); "
                          "name another output, or give --patient NAME if they are of one patient")  # fmt: skip
    note(f"the photographs of {len(apart)} folders are counted as {len(apart)} smears ({named}); with --patient NAME "
          "they are one")  # fmt: skip
    return apart


def _count(
    args: argparse.Namespace,
    reader: SmearReader,
    site: Site | None,
    decisions: Decisions | None,
    sources: Sequence[Source],
    output: Path,
    patient: str,
) -> SmearSummary:
    """Read what is not read yet, and count."""
    from giemsa.smear.store import SmearFolder
    from giemsa.smear.tally import Basis
    from giemsa.words import printable

    name = patient or printable(output.name)
    folder = SmearFolder(output)
    with folder.opened(reader, force=args.force, resume=args.resume):
        earlier = folder.settings() if args.resume else {}
        pending = folder.pending(sources, note=note)
        with progress() as show:
            show(name, len(sources) - len(pending), len(sources))
            for read in reader.read_fields(pending):
                folder.add(read)
                show(name, folder.fields, len(sources))
        names = list(folder.names())
        if decisions is not None:
            decisions = decisions.named_as(names)
            _check_decisions(folder, decisions, args.decisions)
        _remark(names, site, args, earlier)
        decided = decisions.cells if decisions is not None else {}
        complete = decisions.complete_fields if decisions is not None else frozenset()
        basis = Basis(reader.model, site, patient, args.red_cells_per_ul, decided, args.command_line, complete)
        return folder.finish(basis, overlays=not args.no_overlays)


def _remark(names: Sequence[str], site: Site | None, args: argparse.Namespace, earlier: dict[str, bool]) -> None:
    """Note what a count may not mean, or no longer takes into account, though nothing is wrong."""
    if site is not None:
        own = {Path(field.field).name for field in site.fields} & {Path(name).name for name in names}
        if own:
            note(
                f"{len(own)} of these fields are among those that the site's rates were measured on, so that the "
                "interval promises too much; count others"
            )
    for name in ("decisions", "site", "red_cells_per_ul"):
        if earlier.get(name) and not getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            note(f"the count that stood here used {option}, and this one does not; give it again to keep it")


def _of_patients(top: Path, output: Path) -> tuple[list[Photographs], int]:
    """The photographs of each folder in one folder, and 1 where something was left out, else 0."""
    from giemsa.images import SUFFIXES
    from giemsa.smear.patients import Photographs
    from giemsa.sources import open_sources
    from giemsa.words import printable

    try:
        entries = sorted(entry for entry in top.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise SourceError(f"the folder {top} cannot be listed: {error.strerror or error}") from error
    folders = [entry for entry in entries if entry.is_dir() and entry.resolve() != output.resolve()]
    if not folders:
        raise SourceError(f"{top} holds no folders; expected one for each patient")
    found: list[Photographs] = []
    left_out = 0
    loose = sum(entry.suffix.lower() in SUFFIXES and entry.is_file() for entry in entries)
    if loose:
        note(f"photographs that lie in {top} itself, and in no patient's folder, are left out: {loose}")
        left_out = 1
    for folder in folders:
        patient = printable(folder.name)
        try:
            found.append(Photographs(patient, folder.name, tuple(open_sources([str(folder)], note=note))))
        except SourceError as error:
            note(f"{patient}: {error}")
            left_out = 1
    return found, left_out


def _several(
    args: argparse.Namespace, reader: SmearReader, site: Site | None, smears: Sequence[Photographs], worst: int = 0
) -> int:
    """Count one smear after the other, and write a table of patients."""
    from giemsa.files import cannot_write, lock, lock_path, write_file
    from giemsa.smear.patients import HEADER, TABLE, patient_row

    output = Path(args.output)
    if not smears:
        raise SourceError(f"no folder in {args.paths[0]} holds photographs")
    try:
        there = {entry.name for entry in output.iterdir()} if output.is_dir() else set()
        if there - {lock_path(output).name} and not (args.force or args.resume):
            raise OutputError(f"the output {output} exists already; name another one, continue it with --resume or "
                              "replace it with --force")  # fmt: skip
        output.mkdir(exist_ok=True)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise cannot_write(output, error) from error
    rows: list[str] = []
    with lock(output), interruptible(lambda: f"{len(rows)} patients are complete in {output}; continue with --resume"):
        for one in smears:
            summary = _count(args, reader, site, None, one.sources, output / one.folder, one.patient)
            rows.append(patient_row(summary))
            worst = max(worst, min(1, _status(summary)))
            write_file(output / TABLE, HEADER + "".join(rows))
            _report(args, summary, brief=True)
    if not args.json:
        print(f"Written: {output / TABLE}, and a folder for each of {len(rows)} patients.", file=sys.stderr)
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
        _, low, high = (100 * share for share in rates.sensitivity_interval)
        _, few, many = (100 * share for share in rates.false_alarms_interval)
        print(
            f"On another slide of ten fields: sensitivity {low:.0f} to {high:.0f} %, "
            f"false alarms {few:.2g} to {many:.2g} % of healthy cells (95 %)."
        )
        if site.lacks:
            note(site.lacks)
        parasites = sum(field.true_positives + field.false_negatives for field in site.fields)
        if parasites < ENOUGH_PARASITES or len(site.fields) < ENOUGH_FIELDS:
            note(f"{parasites} parasites in {len(site.fields)} fields are few, and intervals stay wide; review "
                  f"{ENOUGH_PARASITES} parasites in {ENOUGH_FIELDS} fields or more, of several slides")  # fmt: skip
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
    for read in folder:
        if not read.refusal:
            left -= {(read.field, c.x0, c.y0, c.x1, c.y1) for c in read.cells}
    if left:
        field, *box = min(left)
        raise UsageError(
            f"{path} decides on {len(left)} cells that this smear does not have, the first in {field} at {box}; "
            "expected the file that this smear's report saved"
        )


def _report(args: argparse.Namespace, summary: SmearSummary, *, brief: bool = False) -> None:
    """Print the count and what it means."""
    from giemsa.smear.sentences import sentences
    from giemsa.smear.store import summary_as_json

    if args.json:
        import json

        print(json.dumps(json.loads(summary_as_json(summary)), ensure_ascii=False))
        return
    if brief:
        print(f"{summary.patient}: {' '.join(sentences(summary)[:2])}")
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
