"""Where fields lie between reading and counting: a smear's folder, or a file without a name.

    OUTPUT/
      .giemsa.lock      while a process writes here: two would count every field twice
      fields.jsonl      what was read of each field, a line a field, on disk as soon as it is read
      pictures/         each field as a JPEG of at most 1,280 px
      cells.csv         every counted cell
      summary.json      the count, its error, and how both were made
      overlays/         each field with its cells
      report.html       for a person: confirm or reject suspicious cells
      decisions.json    put here by a person; never removed

`cells.csv` and all below it but the decisions are made of the first two when all fields are read, or again with other
decisions, another site or red cell count, without judging a photograph again.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from contextlib import contextmanager
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from giemsa.errors import OutputError, PictureError
from giemsa.files import cannot_write, lock, lock_path, replace_file, write_file
from giemsa.smear.overlays import draw_overlay
from giemsa.smear.pipeline import count_fields, slide_of
from giemsa.smear.results import ReadCell, ReadField, Thumbnail
from giemsa.spreadsheets import GuardedWriter
from giemsa.stamps import Stamp, Stamped

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from giemsa.smear.reading import SmearReader
    from giemsa.smear.results import JudgedCell, JudgedField, SmearSummary
    from giemsa.smear.tally import Basis
    from giemsa.sources import Source

COLUMNS: Final = (
    "field", "x0", "y0", "x1", "y1", "diameter_um", "verdict", "p_parasitized", "logit", "relative_logit",
)  # fmt: skip
STATE_VERSION: Final = 1
_STATE, _CELLS, _SUMMARY, _REPORT = "fields.jsonl", "cells.csv", "summary.json", "report.html"
_PICTURES, _OVERLAYS, _DECISIONS = "pictures", "overlays", "decisions.json"
_MADE: Final = (_CELLS, _SUMMARY, _REPORT)
_PARTS: Final = frozenset({_STATE, _PICTURES, _OVERLAYS, _DECISIONS, *_MADE})
_BESIDE: Final = re.compile(
    r"\.giemsa-[0-9a-f]{12}.*|\.[0-9a-f]{8}-(?:fields\.jsonl|cells\.csv|summary\.json|report\.html)"
)
"""What a process that was killed may have left while it wrote, now and in version 0.1.0."""
_STEM_BYTES: Final = 180  # of a picture's name, which with its number and what is written beside it must stay below 255


class SmearFolder:
    """The folder of one smear.

    Parameters
    ----------
    folder : path
        Made if it is not there; its parent must be.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.state = self.folder / _STATE
        self.fields = 0

    @contextmanager
    def opened(self, reader: SmearReader, *, force: bool = False, resume: bool = False) -> Iterator[None]:
        """Hold the folder, ready to be written to; no other process can meanwhile.

        Parameters
        ----------
        reader : SmearReader
            What fields are read with.
        force : bool
            Whether a smear that stands there is replaced.
        resume : bool
            Whether a smear that stands there is continued; `fields` is then the number of fields that it has.

        Raises
        ------
        OutputError
            If it is there and neither `force` nor `resume` is given, cannot be made, is written to by another process,
            or holds fields that were read with another model or diameter.
        """
        try:
            self._check_place(force=force, resume=resume)
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"cannot make the folder {self.folder}: {error.strerror or error}") from error
        with lock(self.folder):
            header = {
                "giemsa_smear": STATE_VERSION,
                "model_sha256": reader.model.digest,
                "cell_diameter_px": reader.cell_diameter_px,
            }
            try:
                self._check_place(force=force, resume=resume)  # again: another process may just have been here
                if resume and self.state.exists():
                    self._continue(header)
                else:
                    self._begin(header)
            except OSError as error:
                if isinstance(error, OutputError):
                    raise
                raise OutputError(f"cannot write to the folder {self.folder}: {error.strerror or error}") from error
            yield

    def settings(self) -> dict[str, bool]:
        """Whether the count that stands here used a person's decisions, a site, and a red cell count that was given."""
        try:
            summary = json.loads((self.folder / _SUMMARY).read_text(encoding="utf-8"))
            count = summary["count"] or {}
            return {
                "decisions": bool(count.get("confirmed") or count.get("rejected")),
                "site": bool(summary["rates_measured"]),
                "red_cells_per_ul": not count.get("red_cells_per_ul_assumed", True),
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def patient(self) -> str:
        """Whose smear stands here; empty where that is not said."""
        try:
            return str(json.loads((self.folder / _SUMMARY).read_text(encoding="utf-8"))["patient"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ""

    def header(self) -> dict[str, Any]:
        """What the fields here were read with; empty where that cannot be read."""
        try:
            with self.state.open("rb") as file:
                header = json.loads(file.readline())
        except (OSError, ValueError, RecursionError):
            return {}
        return header if isinstance(header, dict) else {}

    def pending(self, sources: Sequence[Source], *, note: Callable[[str], None]) -> list[Source]:
        """Sources that are still to be read, after making sure that those read before are the same.

        Parameters
        ----------
        sources : sequence of Source
            All photographs of the smear, in their order.
        note : callable
            Called with a sentence where something cannot be made sure of.

        Raises
        ------
        OutputError
            If a photograph that was read is missing, stands at another place, or has changed.
        """
        unknown = 0
        for index, raw in enumerate(self._lines()):
            name, source = raw["field"], sources[index] if index < len(sources) else None
            if source is None or source.name != name:
                there = "there are no more photographs" if source is None else f"the photograph there is {source.name}"
                raise self._cannot_resume(
                    f"it has the field {name} where {there}; give the same photographs in the same order"
                )
            before = _stamp_from(raw.get("stamp"))
            if before is None:
                unknown += 1
            elif changed := Stamped(source.read, source.path).difference(before):
                raise self._cannot_resume(f"the photograph {name} has changed since it was read: {changed}")
        if unknown:
            note(f"{self.folder} was begun by a version of Giemsa that did not record the photographs' digests, so "
                 f"that the {unknown} read before are known by their names only")  # fmt: skip
        return list(sources[self.fields :])

    def add(self, read: ReadField) -> None:
        """Put one more field on disk."""
        if read.picture:
            write_file(self.folder / _PICTURES / _picture_name(self.fields, read.field), read.picture)
        line = (json.dumps(_to_dict(read), ensure_ascii=False) + "\n").encode()
        try:
            with self.state.open("ab", buffering=0) as file:
                file.write(line)
        except OSError as error:
            raise cannot_write(self.state, error) from error
        self.fields += 1

    def names(self) -> Iterator[str]:
        """Names of the fields that are read, in their order."""
        for raw in self._lines():
            yield raw["field"]

    def __iter__(self) -> Iterator[ReadField]:
        """Each field that was read, from disk, without its picture."""
        for index, raw in enumerate(self._lines()):
            try:
                yield _from_dict(raw)
            except (KeyError, TypeError, ValueError) as error:
                raise self._damaged(index + 2, repr(error)) from error

    def read_fields(self) -> Iterator[ReadField]:
        """Each field that was read, from disk, with its picture.

        Raises
        ------
        OutputError
            If the file of fields is damaged.
        """
        for index, read in enumerate(self):
            picture = self.folder / _PICTURES / _picture_name(index, read.field)
            yield replace(read, picture=picture.read_bytes()) if picture.is_file() else read

    def finish(self, basis: Basis, *, overlays: bool = True) -> SmearSummary:
        """Judge, count and write everything that is made of what was read; memory does not grow with the fields.

        Parameters
        ----------
        basis : Basis
            What the count is based on.
        overlays : bool
            Whether to draw each field with its cells.
        """
        from giemsa.smear.report import ReportBuilder

        report = ReportBuilder(basis.cut)
        drawn = self._draw_overlays() if overlays else None
        with replace_file(self.folder / _CELLS) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            file.write(",".join(COLUMNS) + "\n")

            def write_rows(judged: JudgedField) -> None:
                file.write(rows_as_csv(judged.cells))

            takers = (report.add, write_rows) if drawn is None else (report.add, write_rows, drawn)
            summary = count_fields(_WithPictures(self), basis, *takers, slide=slide_of(self))
        write_file(self.folder / _SUMMARY, summary_as_json(summary))
        write_file(self.folder / _REPORT, report.render(summary, basis.rates(), basis.complete_fields))
        return summary

    def _draw_overlays(self) -> Callable[[JudgedField], None]:
        index = -1

        def draw(judged: JudgedField) -> None:
            nonlocal index
            index += 1
            if judged.read.picture:
                name = _picture_name(index, judged.read.field)
                try:
                    drawn = draw_overlay(judged)
                except PictureError as error:
                    raise OutputError(
                        f"{self.folder / _PICTURES / name} is damaged; start anew with --force"
                    ) from error
                write_file(self.folder / _OVERLAYS / name, drawn)

        return draw

    def _check_place(self, *, force: bool, resume: bool) -> None:
        """Refuse a folder that must not be written to, or in which there is nothing to continue."""
        if not self.folder.parent.is_dir():
            raise OutputError(f"the folder {self.folder.parent} for the output {self.folder.name} does not exist; "
                              "make it first")  # fmt: skip
        if self.folder.is_file():
            raise OutputError(f"the output {self.folder} is a file; name a folder")
        there = {entry.name for entry in self.folder.iterdir()} if self.folder.is_dir() else set()
        there.discard(lock_path(self.folder).name)
        if not there or (resume and _STATE in there):
            return
        others = sorted(name for name in there - _PARTS if not _BESIDE.fullmatch(name))
        if others and _STATE not in there:
            raise OutputError(f"the folder {self.folder} holds other things than a smear, such as {others[0]}; name "
                              "another one")  # fmt: skip
        if resume and not there & set(_MADE):
            return  # the disk was full, or the process ended, before anything was read
        if resume:
            raise OutputError(f"the folder {self.folder} lacks {_STATE}, the record of what was read, so that it cannot "
                              "be continued; replace it with --force")  # fmt: skip
        if not force:
            raise OutputError(f"the output {self.folder} exists already; name another one, continue it with --resume or "
                              "replace it with --force")  # fmt: skip

    def _begin(self, header: dict[str, Any]) -> None:
        self.state.unlink(missing_ok=True)
        for part in (_PICTURES, _OVERLAYS):
            (self.folder / part).mkdir(exist_ok=True)
            for old in (self.folder / part).glob("*.jpg"):
                old.unlink()
        for name in _MADE:
            (self.folder / name).unlink(missing_ok=True)
        write_file(self.state, json.dumps(header) + "\n")

    def _continue(self, header: dict[str, Any]) -> None:
        """Check that the fields there mean the same, and take a torn last line off."""
        self.fields = complete = 0
        with self.state.open("rb+") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break
                self.fields = number
                complete += len(line)
            file.truncate(complete)
        if not complete:
            write_file(self.state, json.dumps(header) + "\n")
        elif (before := self.header()) != header:
            raise self._cannot_resume(f"its fields were read with {before}, and now it would be {header}")
        (self.folder / _PICTURES).mkdir(exist_ok=True)
        (self.folder / _OVERLAYS).mkdir(exist_ok=True)

    def _cannot_resume(self, why: str) -> OutputError:
        return OutputError(f"cannot resume {self.folder}: {why}; or start anew with --force")

    def _damaged(self, line: int, why: str) -> OutputError:
        return OutputError(f"{self.state} is damaged in line {line}: {why}; start anew with --force")

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            with self.state.open("rb") as file:
                next(file, None)
                for number, line in enumerate(file, start=2):
                    if not line.endswith(b"\n"):
                        return  # torn by an interruption
                    try:
                        raw = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise self._damaged(number, str(error)) from error
                    if not isinstance(raw, dict) or not isinstance(raw.get("field"), str):
                        raise self._damaged(number, "expected an object with the name of a field")
                    yield raw
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{self.state} cannot be read: {error.strerror or error}; expected the output folder of "
                              "`giemsa smear`") from error  # fmt: skip


class _WithPictures:
    """A folder's fields with their pictures, as often as they are gone through."""

    def __init__(self, folder: SmearFolder) -> None:
        self._folder = folder

    def __iter__(self) -> Iterator[ReadField]:
        return self._folder.read_fields()


class TemporaryFields:
    """Fields of a smear that is kept nowhere: their pictures, which are most of them, lie in a file without a name.

    Parameters
    ----------
    file : binary file
        Empty; open for reading and writing.
    pictures : bool
        Whether pictures of whole fields are kept.
    """

    def __init__(self, file: BinaryIO, *, pictures: bool) -> None:
        self._file = file
        self._pictures = pictures
        self._reads: list[ReadField] = []
        self._places: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._reads)

    def add(self, read: ReadField) -> None:
        """Keep one more field."""
        picture = read.picture if self._pictures else b""
        self._places.append((self._file.seek(0, 2), len(picture)))
        self._file.write(picture)
        self._reads.append(replace(read, picture=b""))

    def __iter__(self) -> Iterator[ReadField]:
        for read, (start, size) in zip(self._reads, self._places, strict=True):
            self._file.seek(start)
            yield replace(read, picture=self._file.read(size))


def rows_as_csv(cells: tuple[JudgedCell, ...]) -> str:
    """Cells as CSV rows, without the header; boxes in pixels of the photograph, ends exclusive."""
    text = StringIO()
    GuardedWriter(text).writerows(
        (c.field, c.x0, c.y0, c.x1, c.y1, c.diameter_um, c.verdict, c.p_parasitized, c.logit, c.relative_logit)
        for c in cells
    )
    return text.getvalue()


def summary_as_json(summary: SmearSummary) -> str:
    """Content of `summary.json`."""
    from giemsa.smear.sentences import sentences

    return json.dumps(asdict(summary) | {"sentences": sentences(summary)}, indent=2, ensure_ascii=False) + "\n"


def _picture_name(index: int, field: str) -> str:
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(field).stem)[:60]
    while len(stem.encode()) > _STEM_BYTES:
        stem = stem[:-1]
    return f"{index + 1:05d}_{stem}.jpg"


def _to_dict(read: ReadField) -> dict[str, Any]:
    whole = {name: getattr(read, name) for name in _PLAIN}
    whole["cells"] = [[c.x0, c.y0, c.x1, c.y1, c.diameter_um, c.logit, c.p_parasitized] for c in read.cells]
    whole["thumbnails"] = [[t.cell, b64encode(t.jpeg).decode()] for t in read.thumbnails]
    whole["stamp"] = asdict(read.stamp) if read.stamp is not None else None
    return whole


def _from_dict(raw: dict[str, Any]) -> ReadField:
    cells = tuple(ReadCell(*cell) for cell in raw["cells"])
    thumbnails = tuple(Thumbnail(int(i), b64decode(jpeg)) for i, jpeg in raw["thumbnails"])
    plain = {name: raw[name] for name in _PLAIN}
    return ReadField(**plain, cells=cells, thumbnails=thumbnails, stamp=_stamp_from(raw.get("stamp")))


def _stamp_from(raw: Any) -> Stamp | None:  # noqa: ANN401 - what JSON holds
    return Stamp(int(raw["size"]), int(raw["changed_ns"]), str(raw["digest"])) if isinstance(raw, dict) else None


_PLAIN: Final = (
    "field", "width", "height", "refusal", "cut", "cell_diameter_px", "px_per_um", "sharpness", "ground_share",
    "explained",
)  # fmt: skip
