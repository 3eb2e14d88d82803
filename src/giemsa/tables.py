"""Verdicts to terminal, CSV, JSON lines and Parquet.

The columns are `image, verdict, p_parasitized, novelty, reason`, in this order, everywhere. Probabilities are
written with all their digits, so that each format gives back the same number.

CSV and JSON lines grow row by row and reach the disk batch by batch. Beside them stands a record,
`FILE.run.json`: the model's digest, provider, threads, threshold and command, and at the end the counts; and
`FILE.pictures`, a line a row with size, time and digest of what was judged. A table is resumed only if its record
names the same model and its rows name the same pictures in the same order; a last row that was torn is dropped. A
table that is to replace another grows as `FILE.part` and takes its place at the end. Parquet cannot be read until it
is finished, so it appears when the command ends, with the same record in its metadata under `giemsa`.

One process at a time writes a table (`files.lock`), and a table that somebody removes meanwhile is an error.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from giemsa.errors import MissingExtraError, OutputError, UsageError
from giemsa.files import cannot_write, check_output, lock, remove_left_behind, replace_file, write_file
from giemsa.render.palette import TERMINAL, TERMINAL_OTHER
from giemsa.spreadsheets import GuardedWriter, unguarded
from giemsa.stamps import LINE_BYTES, Stamp
from giemsa.verdicts import DISCLAIMER, VERDICTS, Verdict
from giemsa.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

COLUMNS: Final = ("image", "verdict", "p_parasitized", "novelty", "reason")
SUFFIXES: Final = (".csv", ".jsonl", ".parquet")
_ROW_GROUP: Final = 65_536
"""Rows that Parquet holds back at a time (some 10 MB)."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What was used to make verdicts; stands in every report of them.

    Attributes
    ----------
    model : str
        The model's name.
    model_sha256 : str
        The digest of its file.
    provider : str
        What computed: ONNX Runtime's name of it.
    threads : int
        Worker threads.
    threshold : float
        `parasitized` means that p_parasitized is at least this.
    giemsa : str
        Version of this program.
    command : str
        The command line.
    """

    model: str
    model_sha256: str
    provider: str
    threads: int
    threshold: float
    giemsa: str
    command: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON takes."""
        return {
            "model": self.model,
            "model_sha256": self.model_sha256,
            "provider": self.provider,
            "threads": self.threads,
            "threshold": self.threshold,
            "giemsa": self.giemsa,
            "command": printable(self.command),
            "disclaimer": DISCLAIMER,
        }

    def sentence(self) -> str:
        """Say it in one line."""
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return (
            f"Model {self.model} (SHA-256 {self.model_sha256[:12]}), {self.provider}, {threads}; "
            f"parasitized where p_parasitized >= {self.threshold:.6g}."
        )


@dataclass(slots=True)
class Summary:
    """How many cells got which verdict."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """Count some more."""
        for verdict in verdicts:
            self.counts[verdict.verdict] += 1

    @property
    def cells(self) -> int:
        """All pictures, the unreadable ones too."""
        return sum(self.counts.values())

    @property
    def unreadable(self) -> int:
        """Pictures without a verdict."""
        return self.counts["unreadable"]

    def to_dict(self) -> dict[str, int]:
        """Give what JSON takes: all pictures, and the verdicts that were given or can be."""
        always = ("parasitized", "uninfected", "unreadable")
        return {"cells": self.cells} | {k: n for k, n in self.counts.items() if n or k in always}

    def sentence(self) -> str:
        """Say it in one line."""
        counts = self.to_dict()
        cells = counts.pop("cells")
        named = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
        return f"{cells:,} cell{'s' if cells != 1 else ''}: {named}."


class Table(Protocol):
    """A file of verdicts that is being written: how many rows it has, and where they go until it is finished."""

    rows: int
    place: Path

    def __enter__(self) -> Table: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def existing(self) -> Iterator[Verdict]:
        """Give the rows that were there before, from the first; to be read to the end before `write`."""

    def stamps(self) -> Iterator[Stamp | None]:
        """Give what is known of the pictures of these rows, without end; None where nothing is."""

    def write(self, verdicts: Sequence[Verdict], stamps: Sequence[Stamp | None] = ()) -> None:
        """Append rows, and what is known of their pictures."""

    def finish(self, summary: Summary) -> None:
        """Say that all rows are there; without it, Parquet leaves nothing."""


def table_suffix(path: str | os.PathLike[str]) -> str:
    """Tell the format of a table by the ending of its name.

    Raises
    ------
    UsageError
        If it is none of `SUFFIXES`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"the output {os.fspath(path)} ends in {suffix or 'nothing'}; expected "
                         f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")  # fmt: skip
    return suffix


def check_table(path: str | os.PathLike[str], *, force: bool = False, resume: bool = False) -> None:
    """Refuse a table that cannot be written or resumed, before any work.

    Raises
    ------
    UsageError
        If the format is unknown, or one that cannot be resumed.
    OutputError
        If the file is there already, or its folder is not.
    MissingExtraError
        If Parquet is asked for and pyarrow is not installed.
    """
    suffix = table_suffix(path)
    if suffix == ".parquet":
        if resume:
            raise UsageError(f"the output {os.fspath(path)} cannot be resumed, since Parquet is only complete at the "
                             "end; use .csv or .jsonl")  # fmt: skip
        _import_pyarrow()
    check_output(path, force=force or resume)
    if suffix == ".parquet":
        return
    check_output(record_path(path), force=True)
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        raise OutputError(f"the output {os.fspath(path)} is no regular file; name another one")
    part = part_path(path)
    if force and os.path.lexists(path):
        check_output(record_path(part), force=True)
    if os.path.lexists(part) and not (force or resume):
        raise OutputError(f"the output {part} is there already, of a command that was interrupted; go on with --resume "
                          "or begin anew with --force")  # fmt: skip


def open_table(path: str | os.PathLike[str], record: RunRecord, *, force: bool = False, resume: bool = False) -> Table:
    """Open a table of verdicts for writing.

    Parameters
    ----------
    path : path
        Ends in `.csv`, `.jsonl` or `.parquet`.
    record : RunRecord
        What makes the verdicts.
    force : bool
        Whether an existing file is replaced.
    resume : bool
        Whether an existing file is gone on with; where there is none, a new one is begun.

    Returns
    -------
    Table
        A context manager. After `resume`, read `existing` to its end before the first `write`.

    Raises
    ------
    UsageError, OutputError, MissingExtraError
        As `check_table`; and `OutputError` if the rows that are there come from another model.
    """
    check_table(path, force=force, resume=resume)
    path, suffix = Path(path), table_suffix(path)
    if path.is_symlink():  # what it leads to is written, and it stays a link
        path = path.resolve()
    if suffix == ".parquet":
        return _ParquetTable(path, record)
    return _RowTable(path, record, as_csv=suffix == ".csv", resume=resume)


def record_path(path: str | os.PathLike[str]) -> Path:
    """Name the record that stands beside a table: `verdicts.csv.run.json` beside `verdicts.csv`."""
    path = Path(path)
    return path.with_name(f"{path.name}.run.json")


def part_path(path: str | os.PathLike[str]) -> Path:
    """Name what grows to replace a table: `verdicts.csv.part` beside `verdicts.csv`."""
    path = Path(path)
    return path.with_name(f"{path.name}.part")


def pictures_path(path: str | os.PathLike[str]) -> Path:
    """Name what is known of a table's pictures: `verdicts.csv.pictures` beside `verdicts.csv`."""
    path = Path(path)
    return path.with_name(f"{path.name}.pictures")


def rows_as_text(verdicts: Iterable[Verdict], *, colour: bool = False) -> str:
    """Format verdicts as lines for a terminal: verdict, p_parasitized, image, and why it is unreadable."""
    lines = []
    for v in verdicts:
        word = f"{v.verdict.replace('_', ' '):<14}"
        if colour:
            word = f"\x1b[{TERMINAL.get(v.verdict, TERMINAL_OTHER)}m{word}\x1b[0m"
        lines.append(f"{word}{_rounded(v.p_parasitized):>13}  {v.image}{': ' if v.reason else ''}{v.reason}\n")
    return "".join(lines)


TEXT_HEADER: Final = f"{'verdict':<14}{'p_parasitized':>13}  image\n"


def rows_as_json_lines(verdicts: Iterable[Verdict]) -> str:
    """Format verdicts as JSON, one object a line."""
    return "".join(
        json.dumps(
            {
                "image": v.image,
                "verdict": v.verdict,
                "p_parasitized": v.p_parasitized,
                "novelty": v.novelty,
                "reason": v.reason,
            },
            ensure_ascii=False,
        )
        + "\n"
        for v in verdicts
    )


def rows_as_csv(verdicts: Iterable[Verdict]) -> str:
    """Format verdicts as CSV rows, without the header; what a spreadsheet would run is guarded."""
    from io import StringIO

    text = StringIO()
    GuardedWriter(text).writerows(
        (
            v.image,
            v.verdict,
            "" if v.p_parasitized is None else repr(v.p_parasitized),
            "" if v.novelty is None else repr(v.novelty),
            v.reason,
        )
        for v in verdicts
    )
    return text.getvalue()


class _RowTable:
    """A table of lines; each `write` is on disk, or taken back, when it returns."""

    def __init__(self, path: Path, record: RunRecord, *, as_csv: bool, resume: bool) -> None:
        self.path = path
        self.rows = 0
        self._record = record
        self._csv = as_csv
        self._end = 0
        self._begun = False  # what is there already is not touched before it has been read through
        self._pictures: BinaryIO | None = None
        self._stack = ExitStack()
        with ExitStack() as stack:  # lets go of all that is held where the rest fails
            stack.enter_context(lock(path))
            remove_left_behind(path)
            self._open(resume=resume)
            stack.callback(self._file.close)
            if not self._resumed:
                self._begin()
            self._stack = stack.pop_all()

    def __enter__(self) -> _RowTable:
        return self

    def __exit__(self, *_: object) -> None:
        if self._begun:
            self._cut()  # half a row, where an interruption came in the middle of it
        if self._pictures is not None:
            self._pictures.close()
        self._stack.close()

    def existing(self) -> Iterator[Verdict]:
        if not self._resumed:
            return
        with self.place.open("rb") as file:
            lines = _CompleteLines(file)
            self._end = 0
            for row in self._csv_rows(lines) if self._csv else self._json_rows(lines):
                self._end = lines.end
                self.rows += 1
                yield row

    def stamps(self) -> Iterator[Stamp | None]:
        from itertools import repeat

        with suppress(FileNotFoundError), pictures_path(self.place).open("rb") as file:
            while line := file.read(LINE_BYTES):
                yield Stamp.of_line(line.decode("ascii", "replace"))
        yield from repeat(None)

    def write(self, verdicts: Sequence[Verdict], stamps: Sequence[Stamp | None] = ()) -> None:
        if not self._begun:
            self._begin()
        self._write_stamps(stamps)
        self._append(rows_as_csv(verdicts) if self._csv else rows_as_json_lines(verdicts))
        self.rows += len(verdicts)

    def finish(self, summary: Summary) -> None:
        if not self._begun:
            self._begin()
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error
        self._check_still_there()
        if self.place != self.path:
            self._take_place()
        self._write_record(complete=True, summary=summary)

    def _open(self, *, resume: bool) -> None:
        """Choose where rows go, and open it: the table's own place, or `FILE.part` where that is taken."""
        part = part_path(self.path)
        taken = os.path.lexists(self.path)
        self.place = part if (os.path.lexists(part) if resume else taken) else self.path
        self._resumed = resume and os.path.lexists(self.place)
        if self._resumed:
            self._check_record()
        try:
            if not self._resumed:
                for left in (part, record_path(part), pictures_path(part), pictures_path(self.place)):
                    if os.path.lexists(left):  # which a name that is too long never does
                        left.unlink()
            self._file = self.place.open("r+b" if self._resumed else "xb", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write {self.place}: {error.strerror or error}") from error

    def _begin(self) -> None:
        self._begun = True
        self._write_record(complete=False)
        self._cut()
        if self._csv and self._end == 0:
            self._append(",".join(COLUMNS) + "\n")

    def _append(self, text: str) -> None:
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        size = len(rest)
        self._check_still_there()
        try:
            self._file.seek(self._end)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._cut()
            raise self._failed(error) from error
        self._end += size

    def _write_stamps(self, stamps: Sequence[Stamp | None]) -> None:
        """Write them before the rows that they are of, so that no row is without."""
        if not stamps:
            return
        unknown = Stamp(0, 0, "")
        try:
            if self._pictures is None:
                path = pictures_path(self.place)
                self._pictures = path.open("r+b" if path.exists() else "xb", buffering=0)
                self._pictures.truncate(self.rows * LINE_BYTES)
            self._pictures.seek(self.rows * LINE_BYTES)
            self._pictures.write("".join((stamp or unknown).to_line() for stamp in stamps).encode())
        except OSError as error:
            raise self._failed(error) from error

    def _check_still_there(self) -> None:
        """Notice that the table was removed or replaced: its rows would go nowhere."""
        try:
            there = os.path.samestat(os.fstat(self._file.fileno()), self.place.stat())
        except OSError:
            there = False
        if not there:
            raise OutputError(f"{self.place} was removed or replaced while it was being written, and its "
                              f"{self.rows:,} rows are lost; run the command again")  # fmt: skip

    def _take_place(self) -> None:
        """Replace the old table by the new one, which is complete."""
        part = self.place
        try:
            if self._pictures is not None:
                pictures_path(part).replace(pictures_path(self.path))
            else:
                pictures_path(self.path).unlink(missing_ok=True)
            part.replace(self.path)
            self.place = self.path
            record_path(part).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _cut(self) -> None:
        """Take back what stands behind the last complete row."""
        with suppress(OSError):
            self._file.truncate(self._end)

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.place}: {error.strerror or error}; {self.rows:,} rows are complete, "
                           "so make room and go on with --resume")  # fmt: skip

    def _csv_rows(self, lines: _CompleteLines) -> Iterator[Verdict]:
        import csv

        reader = csv.reader(lines, strict=True)
        try:
            for number, row in enumerate(reader):
                if number == 0:
                    if tuple(row) != COLUMNS:
                        raise self._no_table(f"its first line is not {','.join(COLUMNS)}")
                    self._end = lines.end
                elif len(row) != len(COLUMNS):
                    raise self._no_table(f"row {number:,} has {len(row)} columns instead of {len(COLUMNS)}")
                else:
                    yield self._verdict(dict(zip(COLUMNS, map(unguarded, row), strict=True)), number)
        except csv.Error as error:
            raise self._no_table(f"it is no CSV: {error}") from error

    def _json_rows(self, lines: _CompleteLines) -> Iterator[Verdict]:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise self._no_table(f"line {number:,} is no JSON") from error
            if not isinstance(row, dict) or set(row) != set(COLUMNS):
                raise self._no_table(f"line {number:,} has not the columns {', '.join(COLUMNS)}")
            yield self._verdict(row, number)

    def _verdict(self, row: dict[str, Any], number: int) -> Verdict:
        try:
            if row["verdict"] not in VERDICTS:
                raise ValueError(f"an unknown verdict {row['verdict']!r}")
            p, novelty = (None if row[key] in ("", None) else float(row[key]) for key in ("p_parasitized", "novelty"))
            return Verdict(str(row["image"]), row["verdict"], p, None, novelty, str(row["reason"]))
        except (TypeError, ValueError) as error:
            raise self._no_table(f"row {number:,} has {error}") from error

    def _no_table(self, what: str) -> OutputError:
        return OutputError(f"cannot resume {self.place}: {what}; start anew with --force or name another output")

    def _check_record(self) -> None:
        beside = record_path(self.place)
        try:
            digest = json.loads(beside.read_text(encoding="utf-8"))["model_sha256"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._no_table(f"its record {beside.name}, which names the model of its rows, is missing or "
                                 "damaged") from error  # fmt: skip
        if digest != self._record.model_sha256:
            raise self._no_table(f"its rows come from the model with SHA-256 {str(digest)[:12]} and this one has "
                                 f"{self._record.model_sha256[:12]}")  # fmt: skip

    def _write_record(self, *, complete: bool, summary: Summary | None = None) -> None:
        content = {"table": printable(self.place.name), "complete": complete} | self._record.to_dict()
        if summary is not None:
            content["counts"] = summary.to_dict()
        write_file(record_path(self.place), json.dumps(content, indent=2, ensure_ascii=False) + "\n")


class _CompleteLines:
    """The lines of a file that end in a newline, as text; `end` is the offset behind the last one given."""

    def __init__(self, file: BinaryIO) -> None:
        self.end = 0
        self._file = file

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            if not line.endswith(b"\n"):  # torn: the last one
                return
            self.end += len(line)
            yield line.decode("utf-8", "replace")


class _ParquetTable:
    """A Parquet file, written beside its place and renamed when it is finished."""

    def __init__(self, path: Path, record: RunRecord) -> None:
        self._pa, self._parquet = _import_pyarrow()
        self.path = self.place = path
        self.rows = 0
        self._record = record
        self._held: list[Verdict] = []
        self._finished = False
        self._stack = ExitStack()
        text, number = self._pa.string(), self._pa.float64()
        self._schema = self._pa.schema(
            list(zip(COLUMNS, (text, text, number, number, text), strict=True)),
            metadata={"giemsa": json.dumps(record.to_dict())},
        )

    def __enter__(self) -> _ParquetTable:
        self._stack.enter_context(lock(self.path))
        try:
            remove_left_behind(self.path)
            beside = self._stack.enter_context(replace_file(self.path))
            self._writer = self._parquet.ParquetWriter(beside, self._schema)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            with suppress(OSError):
                self._writer.close()
            # Whatever the reason, half a file does not take its place.
            error = error or OutputError(f"{self.path} was not finished")
        self._stack.__exit__(kind or (type(error) if error else None), error, trace)

    def existing(self) -> Iterator[Verdict]:
        return iter(())

    def stamps(self) -> Iterator[Stamp | None]:
        return iter(())

    def write(self, verdicts: Sequence[Verdict], stamps: Sequence[Stamp | None] = ()) -> None:
        self._held.extend(verdicts)
        self.rows += len(verdicts)
        if len(self._held) >= _ROW_GROUP:
            self._flush()

    def finish(self, summary: Summary) -> None:
        self._flush()
        self._writer.add_key_value_metadata({"giemsa_counts": json.dumps(summary.to_dict())})
        self._writer.close()
        self._finished = True

    def _flush(self) -> None:
        columns = [self._pa.array([getattr(v, name) for v in self._held], self._schema.field(name).type)
                   for name in COLUMNS]  # fmt: skip
        self._writer.write_table(self._pa.Table.from_arrays(columns, schema=self._schema))
        self._held.clear()


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Parquet needs pyarrow, which is not installed; install it with: "
                                "pip install 'giemsa[parquet]', or write .csv or .jsonl") from error  # fmt: skip
    return pyarrow, pyarrow.parquet


def _rounded(p: float | None) -> str:
    """Show a probability with four digits, and never a certainty that is none."""
    if p is None:
        return "-"
    return "<0.0001" if p < 0.0001 else ">0.9999" if p > 0.9999 else f"{p:.4f}"
