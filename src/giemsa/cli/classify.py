"""`giemsa classify`: classify cells as parasitized or uninfected."""

from __future__ import annotations

import os
import sys
import warnings
from collections import deque
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from giemsa.cli._options import add_force, add_json, add_model, add_resume, add_threads
from giemsa.errors import OutputError, UsageError
from giemsa.words import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    from giemsa.classifier import Classifier
    from giemsa.pictures import ContactSheet
    from giemsa.sources import Source
    from giemsa.stamps import Stamp
    from giemsa.tables import RunRecord, Summary, Table
    from giemsa.verdicts import Verdict

    Pairs: TypeAlias = list[tuple[Source, Verdict]]

EPILOG = """examples:
  giemsa classify cells/
  giemsa classify cells.zip --output verdicts.csv --sheet sheet.png

Exit status: 0; 1 where something was unreadable; 2 for wrong use.
For research and education: no diagnosis without a qualified professional.
"""
_COUNT_AT_MOST = 200_000  # pictures counted ahead for a progress bar; more than that, and it shows no end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="files, folders, patterns, zip archives; - reads a list from standard input",
    )
    parser.add_argument("--output", metavar="FILE", help="write the verdicts to a .csv, .jsonl or .parquet")
    again = parser.add_mutually_exclusive_group()
    add_resume(again)
    add_force(again)
    parser.add_argument("--sheet", metavar="FILE.png", help="draw a contact sheet of the cells and their verdicts")
    parser.add_argument(
        "--decide",
        action="store_true",
        help="call every readable picture parasitized or uninfected, whatever the doubt",
    )
    add_model(parser, kinds="an ONNX or .tflite file, or a run folder")
    add_threads(parser)
    add_json(parser, "JSON lines")


def run(args: argparse.Namespace) -> int:
    """Classify."""
    _check_outputs(args)
    from giemsa.cli._console import interruptible, note, progress
    from giemsa.sources import open_sources

    sources = open_sources(args.paths, note=note)
    import cv2

    from giemsa.classifier import FIELD_PX, Classifier
    from giemsa.tables import Summary

    cv2.setNumThreads(1)  # each worker decodes and resizes by itself
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters about a picture becomes its reason
    classifier = Classifier(args.model, threads=args.threads, decide=args.decide)
    record = classifier.record(command=args.command_line)
    summary = Summary()
    sheet = _sheet(args)
    table: Table | None = None
    with interruptible(lambda: _what_is_complete(args, table)), ExitStack() as stack:
        stack.enter_context(_quiet_libraries(debug=args.debug))
        table = _open_table(args, record, stack)
        show = stack.enter_context(progress(wanted=bool(args.output) or not sys.stdout.isatty()))
        total = _count(args.paths) if show.active else None
        for pairs in _verdicts(args, classifier, sources, table):
            summary.add(verdict for _, verdict in pairs)
            if sheet is not None:
                sheet.add(pairs)
            show.advance("classify", len(pairs), total)
        if table is not None:
            table.finish(summary)
    if sheet is not None:
        from giemsa.pictures import write_png

        write_png(args.sheet, sheet.draw([summary.sentence(), record.sentence()]))
    if classifier.fields_seen:
        many = "1 picture is" if classifier.fields_seen == 1 else f"{classifier.fields_seen:,} pictures are"
        note(
            f"{many} too large for one cell, {FIELD_PX} px or more on the shorter side: the verdicts there mean "
            "nothing; `giemsa smear` reads photographs of whole fields"
        )
    _report(args, summary, record)
    return 1 if summary.unreadable else 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse wrong use before anything is opened."""
    if args.resume and not args.output:
        raise UsageError("--resume needs --output, the table to continue")
    if args.output:
        from giemsa.tables import check_table

        check_table(args.output, force=args.force, resume=args.resume)
    if args.sheet:
        from giemsa.files import check_output

        if not args.sheet.lower().endswith(".png"):
            raise UsageError(f"the contact sheet {args.sheet} would be a PNG; expected a name that ends in .png")
        check_output(args.sheet, force=args.force)


def _verdicts(
    args: argparse.Namespace, classifier: Classifier, sources: Iterator[Source], table: Table | None
) -> Iterator[Pairs]:
    """Pictures with their verdicts, first those that the table has already; new ones are written."""
    if table is None:
        write = _printer(as_json=args.json)
    else:
        yield from _existing(table, sources, args.output)
        write = _writer(table)
    waiting: deque[Source] = deque()

    def remembered() -> Iterator[Source]:
        for source in sources if table is None else map(_stamped, sources):
            waiting.append(source)
            yield source

    for verdicts in classifier.classify_batches(remembered()):
        pairs = [(waiting.popleft(), verdict) for verdict in verdicts]
        write(pairs)
        yield pairs


def _stamped(source: Source) -> Source:
    """Source that keeps size, time and digest of what is read, for `--resume`."""
    from giemsa.sources import Source
    from giemsa.stamps import Stamped

    return Source(source.name, Stamped(source.read, source.path), source.path)


def _stamp(source: Source) -> Stamp | None:
    return getattr(source.read, "stamp", None)


def _writer(table: Table) -> Callable[[Pairs], None]:
    def write(pairs: Pairs) -> None:
        table.write([verdict for _, verdict in pairs], [_stamp(source) for source, _ in pairs])

    return write


def _existing(table: Table, sources: Iterator[Source], output: str) -> Iterator[Pairs]:
    """What the table has, having made sure that it is of the same pictures, in name and content."""
    from giemsa.stamps import Stamped

    changed: list[str] = []
    for verdict, stamp in zip(table.existing(), table.stamps(), strict=False):
        source = next(sources, None)
        if source is None or source.name != verdict.image:
            there = "there are no more pictures" if source is None else f"the picture there is {source.name}"
            raise OutputError(
                f"cannot resume {output}: row {table.rows:,} is of {verdict.image} and {there}; "
                "give the same pictures in the same order, or start anew with --force"
            )
        if stamp is not None and (difference := Stamped(source.read, source.path).difference(stamp)):
            changed.append(f"{source.name} ({difference})")
        yield [(source, verdict)]
    if changed:
        named = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
        raise OutputError(
            f"cannot resume {output}: {counted(len(changed), 'picture')} changed since the verdicts there: {named}; "
            "start anew with --force"
        )


def _printer(*, as_json: bool) -> Callable[[Pairs], None]:
    from giemsa.cli._console import in_colour
    from giemsa.tables import TEXT_HEADER, rows_as_json_lines, rows_as_text

    colour = in_colour()
    if not as_json:
        print(TEXT_HEADER, end="")

    def write(pairs: Pairs) -> None:
        verdicts = [verdict for _, verdict in pairs]
        print(rows_as_json_lines(verdicts) if as_json else rows_as_text(verdicts, colour=colour), end="", flush=True)

    return write


def _open_table(args: argparse.Namespace, record: RunRecord, stack: ExitStack) -> Table | None:
    if not args.output:
        return None
    from giemsa.tables import open_table

    return stack.enter_context(open_table(args.output, record, force=args.force, resume=args.resume))


def _sheet(args: argparse.Namespace) -> ContactSheet | None:
    if not args.sheet:
        return None
    from giemsa.pictures import ContactSheet

    return ContactSheet()


def _count(paths: Sequence[str]) -> int | None:
    """Number of pictures; None where counting would take long, or a list can be read only once."""
    from itertools import islice

    from giemsa.sources import open_sources

    if "-" in paths:
        return None
    count = sum(1 for _ in islice(open_sources(paths), _COUNT_AT_MOST))
    return count if count < _COUNT_AT_MOST else None


def _report(args: argparse.Namespace, summary: Summary, record: RunRecord) -> None:
    """Print the summary: after the verdicts, or on standard error where they went to a file."""
    written = [path for path in (args.output, args.sheet) if path]
    if args.json:
        import json

        print(json.dumps({"summary": summary.to_dict(), "written": written} | record.to_dict(), ensure_ascii=False))
        return
    from giemsa.verdicts import DISCLAIMER

    stream = sys.stderr if args.output else sys.stdout
    lines = [summary.sentence(), record.sentence(), DISCLAIMER]
    if written:
        lines.insert(2, f"Written: {', '.join(written)}.")
    print(*([] if args.output else [""]), *lines, sep="\n", file=stream)


@contextmanager
def _quiet_libraries(*, debug: bool) -> Iterator[None]:
    """Keep what libpng and libtiff print of damaged pictures off standard error: it becomes their reason, in our words.

    They print to the descriptor, past Python; Python's own stream goes on to where it went.
    """
    try:
        prints = not debug and sys.stderr.fileno() == 2
    except (OSError, ValueError):  # somebody's stand-in
        prints = False
    if not prints:
        yield
        return
    before = sys.stderr
    before.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=before.encoding, errors="backslashreplace", closefd=False)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _what_is_complete(args: argparse.Namespace, table: Table | None) -> str:
    if table is None:
        return "the verdicts above are complete"
    if args.output.lower().endswith(".parquet"):
        return "nothing was written, since Parquet is only complete at the end; .csv and .jsonl can be resumed"
    if table.place.suffix == ".part":
        return f"{table.rows:,} rows are complete in {table.place}, {args.output} is as it was; continue with --resume"
    return f"{table.rows:,} rows are complete in {args.output}; continue with --resume"
