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
from typing import TYPE_CHECKING, Any, Final

from giemsa.errors import UsageError
from giemsa.smear.pipeline import count_fields
from giemsa.smear.reading import SmearReader
from giemsa.smear.report import ReportBuilder
from giemsa.smear.store import TemporaryFields, summary_as_json
from giemsa.smear.tally import NO_CELLS, Basis
from giemsa.sources import printable
from giemsa.verdicts import DISCLAIMER
from giemsa.web.problems import ProblemError, busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from giemsa.smear.results import JudgedCell, JudgedField
    from giemsa.sources import Source
    from giemsa.web.state import AppState
    from giemsa.web.uploads import Upload

SMEARS_AT_ONCE: Final = 2
"""Smears that are read at a time; each has its share of the model's threads."""
SUSPICIOUS_SHOWN: Final = 100
"""Suspicious cells in an answer; the report has more."""
MAX_PATIENT: Final = 200
"""Longest name of a patient, in characters."""
DIAMETER_PX: Final = (8.0, 2000.0)
RED_CELLS_PER_UL: Final = (1e5, 1e7)
TEXTS: Final = frozenset({"patient", "cell_diameter_px", "red_cells_per_ul"})
_RETRY_S: Final = 10
_log = logging.getLogger("giemsa.web")


@dataclass(frozen=True, slots=True)
class SmearRequest:
    """What a caller asked for, checked."""

    reader: SmearReader
    basis: Basis
    pictures: bool
    report: bool


@dataclass(eq=False, slots=True)
class SmearJob:
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
    state : AppState
        Its model judges; its folder holds what is too much for memory.
    """

    def __init__(self, state: AppState) -> None:
        self.state = state
        self._jobs: set[SmearJob] = set()
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
    ) -> SmearJob:
        """Begin to read; `held` is closed when the worker has ended, however it does.

        `tell` is called in the event loop with each field that is read. Call `check_place` just before.
        """
        loop = asyncio.get_running_loop()

        def tell_loop(said: dict[str, Any]) -> None:
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(tell, said)

        job = SmearJob(request, sources, held, tell_loop, loop.create_future())
        self._jobs.add(job)
        task = asyncio.create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def _run(self, job: SmearJob) -> None:
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

    def _read(self, job: SmearJob) -> dict[str, Any]:
        """Read, judge and count a smear; called by a worker."""
        with self.state.folder.new_file() as file:
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


def told_apart(sources: Sequence[Source]) -> list[Source]:
    """Give a number to each further photograph of a name: a cell is told by the name of its field."""
    seen: dict[str, int] = {}
    named = []
    for source in sources:
        seen[source.name] = times = seen.get(source.name, 0) + 1
        named.append(source if times == 1 else replace(source, name=f"{source.name} ({times})"))
    return named


def smear_request(state: AppState, upload: Upload, wanted: frozenset[str]) -> SmearRequest:
    """Check what was asked for; an empty text is none."""
    patient = printable(upload.texts.get("patient", "").strip())
    if len(patient) > MAX_PATIENT:
        raise ProblemError(422, f"patient: the name has {len(patient):,} characters; at most {MAX_PATIENT} are taken")
    diameter = _number(upload, "cell_diameter_px", *DIAMETER_PX)
    threads = max(1, state.classifier.threads // SMEARS_AT_ONCE)
    try:
        reader = SmearReader(state.classifier.model, cell_diameter_px=diameter, threads=threads)
    except UsageError as error:
        raise ProblemError(422, str(error)) from error
    red_cells_per_ul = _number(upload, "red_cells_per_ul", *RED_CELLS_PER_UL)
    basis = Basis(reader.model, state.site, patient, red_cells_per_ul, command="giemsa serve")
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
