"""A smear's folder: what stands in it, how it grows, and how it is gone on with.

    OUTPUT/
      fields.jsonl      what was read of each field, a line a field, on disk as soon as it is read: what resuming reads
      pictures/         each field as a JPEG of at most 1,280 px
      cells.csv         every counted cell
      summary.json      the count, its error, and how both were made
      overlays/         each field with its cells
      report.html       for a person: confirm or reject suspicious cells

The last four are made of the first two, when all fields are read, or again with other decisions, another site or red
cell count, without reading a photograph again.
"""

from __future__ import annotations

import csv
import json
from base64 import b64decode, b64encode
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from giemsa.errors import OutputError
from giemsa.files import cannot_write, replace_file, write_file
from giemsa.smear.reading import SmearReader, judge_field, slide_of
from giemsa.smear.results import ReadCell, ReadField, Thumbnail

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from giemsa.smear.reading import Tally
    from giemsa.smear.results import Decision, JudgedCell, JudgedField, SmearSummary

COLUMNS: Final = (
    "field", "x0", "y0", "x1", "y1", "diameter_um", "verdict", "p_parasitized", "logit", "relative_logit",
)  # fmt: skip
STATE_VERSION: Final = 1
_VERMILION, _BLUE = (0, 94, 213), (178, 114, 0)  # BGR, as in giemsa.pictures


class SmearFolder:
    """The folder of one smear.

    Parameters
    ----------
    folder : path
        Made if it is not there; its parent must be.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.state = self.folder / "fields.jsonl"
        self.fields = 0

    def settings(self) -> dict[str, bool]:
        """Tell what the count that stands here went by: a person's decisions, a site, a red cell count that was given."""
        try:
            summary = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
            count = summary["count"] or {}
            return {
                "decisions": bool(count.get("confirmed") or count.get("rejected")),
                "site": bool(summary["rates_measured"]),
                "red_cells_per_ul": not count.get("red_cells_per_ul_assumed", True),
            }
        except (OSError, ValueError, KeyError):
            return {}

    def begin(self, reader: SmearReader, *, force: bool = False, resume: bool = False) -> int:
        """Make the folder ready, and tell how many fields are read already.

        Raises
        ------
        OutputError
            If it is there and neither `force` nor `resume` is given, cannot be made, or holds fields that were read
            with another model or diameter.
        """
        header = {
            "giemsa_smear": STATE_VERSION,
            "model_sha256": reader.model.digest,
            "cell_diameter_px": reader.cell_diameter_px,
        }
        if not self.folder.parent.is_dir():
            raise OutputError(f"the folder {self.folder.parent} for the output {self.folder.name} does not exist; "
                              "make it first")  # fmt: skip
        if self.folder.is_file():
            raise OutputError(f"the output {self.folder} is a file; name a folder")
        if resume and self.state.exists():
            return self._resumed(header)
        if self.folder.is_dir() and any(self.folder.iterdir()) and not force:
            raise OutputError(f"the output {self.folder} exists already; name another one, go on with it by --resume or "
                              "replace it with --force")  # fmt: skip
        if self.folder.is_dir() and any(self.folder.iterdir()) and not self.state.exists() and not resume:
            raise OutputError(f"the folder {self.folder} holds other things than a smear; name another one")
        try:
            for part in (self.folder, self.folder / "pictures", self.folder / "overlays"):
                part.mkdir(exist_ok=True)
                for old in part.glob("*.jpg"):
                    old.unlink()
            for name in ("cells.csv", "summary.json", "report.html"):
                (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.folder}: {error.strerror or error}") from error
        write_file(self.state, json.dumps(header) + "\n")
        return 0

    def add(self, read: ReadField) -> None:
        """Put one more field on disk."""
        if read.picture:
            write_file(self.folder / "pictures" / self._picture_name(self.fields, read.field), read.picture)
        line = (json.dumps(_to_dict(read), ensure_ascii=False) + "\n").encode()
        try:
            with self.state.open("ab", buffering=0) as file:
                file.write(line)
        except OSError as error:
            raise cannot_write(self.state, error) from error
        self.fields += 1

    def names(self) -> Iterator[str]:
        """Give the names of the fields that are read, in their order."""
        for raw in self._lines():
            yield str(raw["field"])

    def read_fields(self, *, pictures: bool = False) -> Iterator[ReadField]:
        """Give what was read, field by field, from disk.

        Raises
        ------
        OutputError
            If the file of fields is damaged.
        """
        for index, raw in enumerate(self._lines()):
            try:
                read = _from_dict(raw)
            except (KeyError, TypeError, ValueError) as error:
                raise OutputError(f"{self.state} is damaged in line {index + 2}: {error!r}; start anew with --force"
                                  ) from error  # fmt: skip
            picture = self.folder / "pictures" / self._picture_name(index, read.field)
            yield replace(read, picture=picture.read_bytes()) if pictures and picture.is_file() else read

    def finish(
        self, tally: Tally, decisions: Mapping[tuple[str, int, int, int, int], Decision], *, overlays: bool = True
    ) -> SmearSummary:
        """Judge, count and write everything that is made of what was read; memory does not grow with the fields.

        Parameters
        ----------
        tally : Tally
            Made with this folder's `slide_of(read_fields())`.
        decisions : mapping
            From a cell's key to what a person decided.
        overlays : bool
            Whether to draw each field with its cells.
        """
        from giemsa.smear.report import ReportBuilder

        report = ReportBuilder(tally.cut)
        with replace_file(self.folder / "cells.csv") as beside, beside.open("w", encoding="utf-8", newline="") as file:
            file.write(",".join(COLUMNS) + "\n")
            for index, read in enumerate(self.read_fields(pictures=True)):
                judged = judge_field(read, tally.slide, tally.cut, decisions)
                tally.add(judged)
                report.add(judged)
                file.write(rows_as_csv(judged.cells))
                if overlays and read.picture:
                    drawn = draw_overlay(judged)
                    write_file(self.folder / "overlays" / self._picture_name(index, read.field), drawn)
        summary = tally.summary()
        write_file(self.folder / "summary.json", summary_as_json(summary))
        write_file(self.folder / "report.html", report.render(summary, tally.rates()))
        return summary

    def slide(self) -> Any:  # noqa: ANN401 - reading.Slide or None
        """Give what judging needs of the slide."""
        return slide_of(self.read_fields())

    @staticmethod
    def _picture_name(index: int, field: str) -> str:
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(field).stem)[:60]
        return f"{index + 1:05d}_{stem}.jpg"

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            with self.state.open("rb") as file:
                next(file, None)
                for number, line in enumerate(file):
                    if not line.endswith(b"\n"):
                        return  # torn by an interruption
                    try:
                        yield json.loads(line)
                    except ValueError as error:
                        raise OutputError(f"{self.state} is damaged in line {number + 2}: {error}; start anew with "
                                          "--force") from error  # fmt: skip
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{self.state} cannot be read: {error.strerror or error}; expected the output folder of "
                              "`giemsa smear`") from error  # fmt: skip

    def _resumed(self, header: dict[str, Any]) -> int:
        """Check that going on means the same, and take a torn last line off."""
        with self.state.open("rb+") as file:
            content_end = 0
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if content_end == 0:
                    try:
                        before = json.loads(line)
                    except ValueError:
                        before = None
                    if before != header:
                        raise OutputError(f"cannot resume {self.folder}: its fields were read with {before}, and now it "
                                          f"would be {header}; start anew with --force")  # fmt: skip
                else:
                    self.fields += 1
                content_end += len(line)
            file.truncate(content_end)
        (self.folder / "pictures").mkdir(exist_ok=True)
        (self.folder / "overlays").mkdir(exist_ok=True)
        return self.fields


def rows_as_csv(cells: tuple[JudgedCell, ...]) -> str:
    """Format cells as CSV rows, without the header; boxes in pixels of the photograph, ends exclusive."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        (c.field, c.x0, c.y0, c.x1, c.y1, c.diameter_um, c.verdict, repr(c.p_parasitized), repr(c.logit),
         repr(c.relative_logit))
        for c in cells
    )  # fmt: skip
    return text.getvalue()


def summary_as_json(summary: SmearSummary) -> str:
    """Write what `summary.json` holds."""
    from giemsa.smear.sentences import sentences

    return json.dumps(asdict(summary) | {"sentences": sentences(summary)}, indent=2, ensure_ascii=False) + "\n"


def draw_overlay(judged: JudgedField) -> bytes:
    """Draw a field with its cells: thin blue frames, thick orange ones with a number where parasitized; a JPEG.

    A refused field is shown as it is, with its reason.
    """
    bgr = cv2.imdecode(np.frombuffer(judged.read.picture, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    scale = bgr.shape[1] / max(1, judged.read.width)
    number = 0
    for cell in sorted(judged.cells, key=lambda c: c.verdict == "parasitized"):
        corners = [round(v * scale) for v in (cell.x0, cell.y0, cell.x1, cell.y1)]
        called = cell.verdict == "parasitized"
        cv2.rectangle(bgr, corners[:2], corners[2:], _VERMILION if called else _BLUE, 3 if called else 1)
        if called:
            number += 1
            _write(bgr, f"{number}: {cell.relative_logit:.1f}", (corners[0], max(12, corners[1] - 5)))
    if judged.read.refusal:
        _write(bgr, f"left out: {judged.read.refusal}"[:110], (12, 28))
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    return bytes(encoded.tobytes())


def _write(bgr: Any, text: str, at: tuple[int, int]) -> None:  # noqa: ANN401
    for colour, width in (((255, 255, 255), 4), ((20, 20, 20), 1)):
        cv2.putText(bgr, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width, cv2.LINE_AA)


def _to_dict(read: ReadField) -> dict[str, Any]:
    whole = {name: getattr(read, name) for name in _PLAIN}
    whole["cells"] = [[c.x0, c.y0, c.x1, c.y1, c.diameter_um, c.logit, c.p_parasitized] for c in read.cells]
    whole["thumbnails"] = [[t.cell, b64encode(t.jpeg).decode()] for t in read.thumbnails]
    return whole


def _from_dict(raw: dict[str, Any]) -> ReadField:
    cells = tuple(ReadCell(*cell) for cell in raw["cells"])
    thumbnails = tuple(Thumbnail(int(i), b64decode(jpeg)) for i, jpeg in raw["thumbnails"])
    return ReadField(**{name: raw[name] for name in _PLAIN}, cells=cells, thumbnails=thumbnails)


_PLAIN: Final = (
    "field", "width", "height", "refusal", "cut", "cell_diameter_px", "px_per_um", "sharpness", "ground_share",
    "explained",
)  # fmt: skip
