"""Photographs of whole fields to a count: what `giemsa smear` does, for one upload.

A smear is read by a worker of its own, field by field, so that cells are judged and pages are served meanwhile; a few
smears are read at a time, and who comes when they are full is told when to come again. What is read is the answer and
nothing else: pictures of fields that the report shows lie in a file without a name until it is written.
"""

from __future__ import annotations

import asyncio
import base64
import heapq
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from giemsa.errors import UsageError
from giemsa.smear.pipeline import count_fields
from giemsa.smear.reading import SmearReader
from giemsa.smear.report import ReportBuilder
from giemsa.smear.store import TemporaryFields, summary_as_json
from giemsa.smear.tally import NO_CELLS, Basis
from giemsa.sources import printable
from giemsa.verdicts import DISCLAIMER
from giemsa.web.api import Words, multipart, preferred, problems, until_left
from giemsa.web.problems import ProblemError, problem
from giemsa.web.settings import MAX_FIELDS
from giemsa.web.uploads import UNPACKED_FACTOR, busy, receive_upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from giemsa.smear.results import JudgedCell, JudgedField
    from giemsa.sources import Source
    from giemsa.web.api import Desk
    from giemsa.web.uploads import Upload

SMEARS_AT_ONCE: Final = 2
"""Smears that are read at a time; each has its share of the model's threads."""
SUSPICIOUS_SHOWN: Final = 100
"""Suspicious cells in an answer; the report has more."""
MAX_PATIENT: Final = 200
"""Longest name of a patient, in characters."""
_DIAMETER_PX: Final = (8.0, 2000.0)
_RED_CELLS_PER_UL: Final = (1e5, 1e7)
_TEXTS: Final = frozenset({"patient", "cell_diameter_px", "red_cells_per_ul"})
_RETRY_S: Final = 10
_JSON, _LINES, _HTML = "application/json", "application/x-ndjson", "text/html"
_log = logging.getLogger("giemsa.web")


class FieldAnswer(Words):
    """What came of a field."""

    field: str = Field(description="The name under which it was sent; in an archive, its place in it")
    red_cells: int = Field(description="Whole red cells that were counted")
    parasitized: int = Field(description="Of these, called parasitized")
    cells_cut: int = Field(description="Red cells that the border cuts; not counted")
    cell_diameter_px: float | None = Field(description="The typical red cell's; null where none was found")
    refusal: str = Field(description="Why the field is left out of the count; empty where it is counted")


class SuspiciousCellAnswer(Words):
    """A cell that a person should look at."""

    field: str
    x0: int
    y0: int
    x1: int
    y1: int
    diameter_um: float
    verdict: Literal["parasitized", "uninfected"]
    p_parasitized: float
    relative_logit: float = Field(description="The logit above the smear's healthy cells, in their spreads")
    picture: str | None = Field(None, description="With include=picture: a JPEG data URI of 128 px")


class SmearAnswer(Words):
    """A count with its error, and what a person should look at."""

    sentences: list[str] = Field(description="What was counted and what that means; the first holds the count")
    summary: dict[str, Any] = Field(description="What `giemsa smear` writes to summary.json; `count` is null where "
                                    "nothing can be counted")  # fmt: skip
    fields: list[FieldAnswer] = Field(description="In the order in which they were sent")
    suspicious: list[SuspiciousCellAnswer] = Field(
        description=f"The most suspicious first, {SUSPICIOUS_SHOWN} at most; called parasitized or not"
    )
    report: str | None = Field(None, description="With include=report: the page that `giemsa smear` writes")
    disclaimer: str


_BODY: Final = multipart(
    "Photographs of one smear",
    patient={
        "type": "string",
        "maxLength": MAX_PATIENT,
        "description": "Whose blood it is; stands in the report and is kept nowhere",
    },
    cell_diameter_px={
        "type": "number",
        "minimum": _DIAMETER_PX[0],
        "maximum": _DIAMETER_PX[1],
        "description": "A typical red cell's diameter in pixels; by default each field's is estimated",
    },
    red_cells_per_ul={
        "type": "number",
        "minimum": _RED_CELLS_PER_UL[0],
        "maximum": _RED_CELLS_PER_UL[1],
        "description": "The patient's red cell count; by default 5,000,000 is assumed, and said",
    },
)
EXAMPLE: Final = {
    "sentences": [
        "Parasitaemia 2.4 % (95 % interval 0.61 % to 5.5 %): 6 cells called parasitized in 187 red cells of 3 fields."
    ],
    "summary": {"patient": "P1", "fields": 4, "fields_counted": 3, "refused": [["cut off.jpg", "the JPEG is damaged"]]},
    "fields": [
        {"field": "field.jpg", "red_cells": 63, "parasitized": 2, "cells_cut": 9, "cell_diameter_px": 76.2,
         "refusal": ""},
        {"field": "cut off.jpg", "red_cells": 0, "parasitized": 0, "cells_cut": 0, "cell_diameter_px": None,
         "refusal": "the JPEG is damaged"},
    ],
    "suspicious": [
        {"field": "field.jpg", "x0": 812, "y0": 340, "x1": 889, "y1": 415, "diameter_um": 7.48,
         "verdict": "parasitized", "p_parasitized": 0.9941, "relative_logit": 9.2},
    ],
    "disclaimer": DISCLAIMER,
}  # fmt: skip
_EXAMPLE_LINES: Final = (
    '{"read": 0, "of": 4}\n'
    '{"read": 1, "of": 4, "field": "field.jpg", "red_cells": 63, "refusal": ""}\n'
    '{"smear": {"sentences": ["..."]}}\n'
)


@dataclass(frozen=True, slots=True)
class SmearRequest:
    """What a caller asked for, checked."""

    reader: SmearReader
    basis: Basis
    pictures: bool
    report: bool


@dataclass(eq=False, slots=True)
class _Job:
    """A smear that is being read."""

    request: SmearRequest
    sources: Sequence[Source]
    held: ExitStack
    tell: Callable[[dict[str, Any]], None]
    done: asyncio.Future[dict[str, Any]]
    stop: threading.Event = field(default_factory=threading.Event)


class StoppedError(Exception):
    """Nobody waits for this smear any more."""


class Smears:
    """Reads a few smears at a time, each by a worker of its own.

    Parameters
    ----------
    desk : Desk
        Its model judges; its folder holds what is too much for memory.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._jobs: set[_Job] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(SMEARS_AT_ONCE, thread_name_prefix="giemsa-smears")

    @property
    def under_way(self) -> int:
        """Smears that are being read."""
        return len(self._jobs)

    def close(self) -> None:
        """Stop, each smear after the fields that are under way."""
        for job in self._jobs:
            job.stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def check_place(self) -> None:
        """Refuse if as many smears are being read as may.

        Raises
        ------
        ProblemError
            503.
        """
        if len(self._jobs) >= SMEARS_AT_ONCE:
            raise busy(f"{len(self._jobs)} smears are being read, and no more may at a time", _RETRY_S)

    def start(
        self, request: SmearRequest, sources: Sequence[Source], held: ExitStack, tell: Callable[[dict[str, Any]], None]
    ) -> _Job:
        """Begin to read; `held` is closed when the worker has ended, however it does.

        `tell` is called in the event loop with each field that is read. Call `check_place` just before.
        """
        loop = asyncio.get_running_loop()

        def tell_loop(said: dict[str, Any]) -> None:
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(tell, said)

        job = _Job(request, sources, held, tell_loop, loop.create_future())
        self._jobs.add(job)
        task = asyncio.create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def _run(self, job: _Job) -> None:
        """See a worker to its end, whether or not somebody waits for it: until then its place is taken."""
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, self._read, job)
            job.done.set_result(answer)
        except StoppedError:
            job.done.cancel()
        except Exception as error:
            job.done.set_exception(error)
            job.done.exception()  # somebody who has left does not ask for it
            _log.exception("a smear could not be read")
        finally:
            if not job.done.done():
                job.done.cancel()
            self._jobs.discard(job)
            job.held.close()

    def _read(self, job: _Job) -> dict[str, Any]:
        """Read, judge and count a smear; called by a worker."""
        with self.desk.folder.new_file() as file:
            fields = TemporaryFields(file, pictures=job.request.report)
            for read in job.request.reader.read_fields(_until(job.stop, job.sources)):
                fields.add(read)
                job.tell({"read": len(fields), "of": len(job.sources), "field": read.field,
                          "red_cells": 0 if read.refusal else len(read.cells), "refusal": read.refusal})  # fmt: skip
            if job.stop.is_set():
                raise StoppedError
            return _answer(job.request, fields)


def _until(stop: threading.Event, sources: Iterable[Source]) -> Iterator[Source]:
    for source in sources:
        if stop.is_set():
            return
        yield source


def _answer(request: SmearRequest, read: TemporaryFields) -> dict[str, Any]:
    """Judge what was read against its slide, count, and put the answer together, as `giemsa smear` does."""
    report = ReportBuilder(request.basis.cut)
    fields: list[dict[str, Any]] = []
    suspicious: list[tuple[float, int, JudgedCell, bytes]] = []

    def take(judged: JudgedField) -> None:
        if request.report:
            report.add(judged)
        fields.append(_field(judged))
        for thumbnail in judged.read.thumbnails if judged.cells else ():
            cell = judged.cells[thumbnail.cell]
            suspicious.append((cell.relative_logit, -len(suspicious), cell, thumbnail.jpeg))

    summary = count_fields(read, request.basis, take)
    as_json = json.loads(summary_as_json(summary))
    answer = {
        "sentences": as_json.pop("sentences"),
        "summary": as_json,
        "fields": fields,
        "suspicious": [
            _suspicious(cell, jpeg if request.pictures else b"")
            for _, _, cell, jpeg in heapq.nlargest(SUSPICIOUS_SHOWN, suspicious)
        ],
        "disclaimer": DISCLAIMER,
    }
    return answer | ({"report": report.render(summary, request.basis.rates())} if request.report else {})


def _field(judged: JudgedField) -> dict[str, Any]:
    read = judged.read
    counted = judged.reference is not None
    return {
        "field": read.field,
        "red_cells": len(judged.cells),
        "parasitized": judged.called,
        "cells_cut": read.cut if counted else 0,
        "cell_diameter_px": round(read.cell_diameter_px, 1) or None,
        "refusal": "" if counted else read.refusal or NO_CELLS,
    }


def _suspicious(cell: JudgedCell, jpeg: bytes) -> dict[str, Any]:
    names = ("field", "x0", "y0", "x1", "y1", "diameter_um", "verdict", "p_parasitized", "relative_logit")
    more = {"picture": f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"} if jpeg else {}
    return {name: getattr(cell, name) for name in names} | more


def smears_router(smears: Smears) -> APIRouter:
    """Make the route that counts parasitized cells in fields."""
    router = APIRouter()
    desk = smears.desk

    @router.post(
        "/api/v1/smears",
        summary="Count a smear",
        tags=["smears"],
        openapi_extra={"requestBody": _BODY},
        response_model=SmearAnswer,
        responses={
            200: {
                "description": "The count with its error. A field that cannot be read or judged is left out, with its "
                "reason. With `Accept: application/x-ndjson` a line for each field as soon as it is read, and the "
                "answer in the last one, under `smear` (or, if something went wrong, `problem`); with "
                "`Accept: text/html` the report alone.",
                "content": {
                    _JSON: {"example": EXAMPLE},
                    _LINES: {"schema": {"type": "string"}, "example": _EXAMPLE_LINES},
                    _HTML: {"schema": {"type": "string"}, "example": "<!doctype html>..."},
                },
            },
            **problems(400, 408, 413, 415, 422, 503),
        },
    )
    async def count_smear(
        request: Request,
        include: Annotated[
            list[Literal["picture", "report"]] | None,
            Query(description="What else to answer", examples=[["report"]]),
        ] = None,
    ) -> Response:
        smears.check_place()  # before a large body comes in for nothing
        kind = preferred(request.headers.get("accept", ""), (_JSON, _LINES, _HTML))
        wanted = frozenset(include or ()) | ({"report"} if kind == _HTML else frozenset())
        progress: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        with ExitStack() as stack:
            share = stack.enter_context(desk.room.share())
            upload = await receive_upload(request, share, desk.folder, desk.settings.max_upload_bytes,
                                          texts=_TEXTS)  # fmt: skip
            stack.callback(upload.close)
            order = _order(desk, upload, wanted)
            sources = await asyncio.to_thread(
                upload.pictures, max_unpacked=UNPACKED_FACTOR * desk.settings.max_upload_bytes
            )
            if len(sources) > MAX_FIELDS:
                raise ProblemError(413, f"there are {len(sources):,} photographs; at most {MAX_FIELDS:,} are read of "
                                   "one smear, so send fewer or use `giemsa smear`")  # fmt: skip
            smears.check_place()
            job = smears.start(order, _told_apart(sources), stack.pop_all(), progress.put_nowait)
        if kind == _LINES:
            return StreamingResponse(_lines(desk, job, progress), media_type=_LINES)
        answer = await _awaited(request, job)
        desk.counts.read_fields(bool(one["refusal"]) for one in answer["fields"])
        if kind == _HTML:
            named = {"Content-Disposition": 'attachment; filename="report.html"'}
            return Response(answer["report"], media_type=_HTML, headers=named)
        return Response(await asyncio.to_thread(_dumped, answer), media_type=_JSON)

    return router


def _told_apart(sources: Sequence[Source]) -> list[Source]:
    """Give a number to each further photograph of a name: a cell is told by the name of its field."""
    seen: dict[str, int] = {}
    named = []
    for source in sources:
        seen[source.name] = times = seen.get(source.name, 0) + 1
        named.append(source if times == 1 else replace(source, name=f"{source.name} ({times})"))
    return named


def _order(desk: Desk, upload: Upload, wanted: frozenset[str]) -> SmearRequest:
    """Check what was asked for; an empty text is none."""
    patient = printable(upload.texts.get("patient", "").strip())
    if len(patient) > MAX_PATIENT:
        raise ProblemError(422, f"patient: the name has {len(patient):,} characters; at most {MAX_PATIENT} are taken")
    diameter = _number(upload, "cell_diameter_px", *_DIAMETER_PX)
    threads = max(1, desk.classifier.threads // SMEARS_AT_ONCE)
    try:
        reader = SmearReader(desk.classifier.model, cell_diameter_px=diameter, threads=threads)
    except UsageError as error:
        raise ProblemError(422, str(error)) from error
    red_cells_per_ul = _number(upload, "red_cells_per_ul", *_RED_CELLS_PER_UL)
    basis = Basis(reader.model, desk.site, patient, red_cells_per_ul, command="giemsa serve")
    return SmearRequest(reader, basis, "picture" in wanted, "report" in wanted)


def _number(upload: Upload, name: str, least: float, most: float) -> float | None:
    text = upload.texts.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise ProblemError(
            422, f"{name} is {printable(text)[:40]!r}; expected a number from {least:,.0f} to {most:,.0f}"
        )
    return value


async def _awaited(request: Request, job: _Job) -> dict[str, Any]:
    """Wait for a smear, as long as there is somebody who waits for it."""
    leaving = asyncio.ensure_future(until_left(request))
    either: set[asyncio.Future[Any]] = {job.done, leaving}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not job.done.done():
            raise ProblemError(400, "the caller has left")  # nobody reads it
        if job.done.cancelled():
            raise busy("the server is about to stop")
        return job.done.result()
    finally:
        job.stop.set()
        leaving.cancel()


async def _lines(desk: Desk, job: _Job, progress: asyncio.Queue[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Tell of each field as it is read, and then of the smear."""
    job.done.add_done_callback(lambda _done: progress.put_nowait({}))
    try:
        yield _dumped({"read": 0, "of": len(job.sources)}) + b"\n"  # all has come in, and reading begins
        while said := await progress.get():
            yield _dumped(said) + b"\n"
        try:
            answer = job.done.result()
        except asyncio.CancelledError:
            yield b'{"problem": ' + bytes(problem(503, "the server is about to stop").body) + b"}\n"
        except Exception:
            said_wrong = problem(500, "something went wrong that should not; the server's log tells more")
            yield b'{"problem": ' + bytes(said_wrong.body) + b"}\n"
        else:
            desk.counts.read_fields(bool(one["refusal"]) for one in answer["fields"])
            yield await asyncio.to_thread(_dumped, {"smear": answer}) + b"\n"
    finally:
        job.stop.set()


def _dumped(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
