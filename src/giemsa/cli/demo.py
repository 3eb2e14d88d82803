"""`giemsa demo`: classify two dozen cells to check that everything works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from giemsa.cli._options import add_force, add_model
from giemsa.errors import OutputError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from giemsa.classifier import Classifier
    from giemsa.demo import Choice, Known
    from giemsa.sources import Source
    from giemsa.verdicts import Verdict

EPILOG = """The cells are those given by --cells; else real ones, fetched from the official archive (some 4 MB)
or from the cache of an earlier run; else, where there is no network, drawn ones.

examples:
  giemsa demo
  giemsa demo --cells my-cells/ --output what-it-says --force

For research and education: no diagnosis without a qualified professional.
"""

_WHOSE: Final = {
    "given": "The cells are yours",
    "real": "The cells are real, of the Malaria Cell Images of the U.S. National Library of Medicine",
    "drawn": "The cells are drawn by a program, not real, because real ones could not be had",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--cells", metavar="PATH", help="your own cells: a file, a folder, a pattern or a zip archive")
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), metavar="DIR", help="output folder (default: demo-output)"
    )
    add_force(parser)
    add_model(parser)
    parser.add_argument("--archive", metavar="URL", help="another place of the archive of real cells")


def run(args: argparse.Namespace) -> int:
    """Classify, and show what came out in three ways."""
    if args.archive and not args.archive.startswith(("https://", "http://")):
        raise UsageError(f"--archive is {args.archive!r}; expected an address that starts with https:// or http://")
    table_path, sheet_path = _outputs(args.output, force=args.force)
    import cv2

    from giemsa.classifier import Classifier
    from giemsa.pictures import ContactSheet, write_png
    from giemsa.tables import Summary, open_table
    from giemsa.verdicts import DISCLAIMER

    cv2.setNumThreads(1)  # each worker decodes and resizes by itself
    classifier = Classifier(args.model)
    record = classifier.record(command=args.command_line)
    choice = _choose(args)
    whose = f"{_WHOSE[choice.kind]}: {choice.why}."
    print(f"{whose}\n")

    summary, sheet, agreement = Summary(), ContactSheet(), Agreement(choice.known)
    with open_table(table_path, record, force=args.force) as table:
        _print_header(choice.known)
        for pairs in _verdicts(classifier, choice):
            verdicts = [verdict for _, verdict in pairs]
            table.write(verdicts)
            _print_rows(verdicts, choice.known)
            summary.add(verdicts)
            agreement.add(verdicts)
            sheet.add(pairs)
        table.finish(summary)
    said = [summary.sentence(), *agreement.sentences(), *_seen(classifier, choice.known), record.sentence()]
    write_png(sheet_path, sheet.draw([whose, *said]))
    print("", *said, f"Written: {table_path} and {sheet_path}.", DISCLAIMER, sep="\n")
    return 1 if summary.unreadable else 0


class Agreement:
    """Counts how often verdicts say what is known of the cells."""

    def __init__(self, known: Mapping[str, Known]) -> None:
        self._known = known
        self._right = self._told = self._open = 0

    def add(self, verdicts: list[Verdict]) -> None:
        """Count some more."""
        for verdict in verdicts:
            known = self._known.get(verdict.image)
            if known is None:
                continue
            self._open += known.label is None
            self._told += known.label is not None
            self._right += known.label == verdict.verdict

    def sentences(self) -> list[str]:
        """What was counted, in none to two sentences."""
        if not self._known:
            return []
        said = [f"{self._right} of {self._told} verdicts agree with what the cells are."]
        if self._open:
            said.append(f"{self._open} more are disputed: readers disagree about them.")
        return said


def _seen(classifier: Classifier, known: Mapping[str, Known]) -> list[str]:
    """Remark that the model was trained on these patients, where it was: its verdicts prove nothing then."""
    patients = {one.patient for one in known.values() if one.patient is not None}
    trained_on = set(classifier.model.card.training_patients)
    if not patients or (trained_on and not patients & trained_on):
        return []
    if not trained_on:
        said = "It is not known whether the model was trained on these patients"
    else:
        said = f"The model was trained on {len(patients & trained_on)} of these {len(patients)} patients"
    return [f"{said}: this shows that it runs, not how good it is."]


def _outputs(folder: Path, *, force: bool) -> tuple[Path, Path]:
    """Paths of the table and the sheet; what cannot be written there is refused before any work is done for it."""
    from giemsa.files import check_output

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {folder}: {error.strerror or error}; name another --output"
        ) from error
    return check_output(folder / "verdicts.csv", force=force), check_output(folder / "sheet.png", force=force)


def _choose(args: argparse.Namespace) -> Choice:
    """Chosen cells; that something is fetched is said before it is."""
    from giemsa.cli._console import inform, progress
    from giemsa.demo import ARCHIVE_URL, choose_cells

    archive = args.archive or ARCHIVE_URL
    with progress() as bars:

        def show(done: int, missing: int) -> None:
            if done == 0:
                inform(f"Fetching {missing} real cells (some 4 MB) from {archive}")
            bars("fetching cells", done, missing)

        return choose_cells(args.cells, archive=archive, progress=show)


def _verdicts(classifier: Classifier, choice: Choice) -> Iterator[list[tuple[Source, Verdict]]]:
    """Pictures with their verdicts, batch by batch."""
    from collections import deque

    waiting: deque[Source] = deque()

    def remembered() -> Iterator[Source]:
        for source in choice.sources:
            waiting.append(source)
            yield source

    for verdicts in classifier.classify_batches(remembered()):
        yield [(waiting.popleft(), verdict) for verdict in verdicts]


def _print_header(known: Mapping[str, Known]) -> None:
    from giemsa.tables import TEXT_HEADER

    print(TEXT_HEADER.replace("image", f"{'what it is':<{_width(known)}}image") if known else TEXT_HEADER, end="")


def _print_rows(verdicts: list[Verdict], known: Mapping[str, Known]) -> None:
    """Print verdicts as `giemsa classify` does, with what is known of the cells before their names."""
    from giemsa.cli._console import in_colour
    from giemsa.tables import rows_as_text

    if known:
        width = _width(known)
        verdicts = [replace(v, image=f"{known[v.image].words:<{width}}{v.image}") for v in verdicts]
    print(rows_as_text(verdicts, colour=in_colour()), end="", flush=True)


def _width(known: Mapping[str, Known]) -> int:
    return max(len(one.words) for one in known.values()) + 2
