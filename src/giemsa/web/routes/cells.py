"""Pictures of cells to verdicts: all at once, as CSV, or as they are judged."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import cv2
import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from giemsa import __version__
from giemsa.sources import Source
from giemsa.tables import COLUMNS, rows_as_csv
from giemsa.verdicts import DISCLAIMER, VerdictName
from giemsa.web.batching import QueueFullError
from giemsa.web.exchange import CSV, JSON, LINES, as_json, preferred, unless_left
from giemsa.web.problems import UNEXPECTED, busy, problem
from giemsa.web.routes.model import model_words
from giemsa.web.schemas import PICTURES_BODY, Words, problems
from giemsa.web.uploads import receive_upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from giemsa.classifier import Examined
    from giemsa.verdicts import Verdict
    from giemsa.web.state import AppState

SHOWN_PX: Final = 160
"""Longest side of the thumbnails that `include=picture` gives."""
_JPEG: Final = [cv2.IMWRITE_JPEG_QUALITY, 88]
_log = logging.getLogger("giemsa.web")
Row = tuple["Verdict", dict[str, Any]]
"""A verdict, and what `include` asked for besides."""


class CellAnswer(Words):
    """A row of verdicts: the columns of `giemsa classify`, and what `include` asked for."""

    image: str = Field(description="The name under which the picture was sent; in an archive, its place in it")
    verdict: VerdictName
    p_parasitized: float | None = Field(description="Calibrated probability of parasitized; null where there is none")
    novelty: float | None = Field(
        description="How unlike the training cells it is, 0 to 1; null if the model can't tell"
    )
    reason: str = Field(description="Why there is no label; empty where there is one")
    sha256: str | None = Field(None, description="With include=digest: SHA-256 of the file; null if it was not read")
    picture: str | None = Field(None, description=f"With include=picture: a JPEG data URI of at most {SHOWN_PX} px")
    evidence: list[list[float]] | None = Field(
        None, description="With include=evidence: where the score comes from, in logit units; its mean is the logit"
    )


class ModelAnswer(Words):
    """What judged, in a few words."""

    name: str
    sha256: str
    threshold: float = Field(description="parasitized means that p_parasitized is at least this")
    provider: str
    giemsa: str


class CellsAnswer(Words):
    """Verdicts in the order in which the pictures were sent."""

    cells: list[CellAnswer]
    model: ModelAnswer
    disclaimer: str


_EXAMPLE_MODEL = {"name": "default", "sha256": "fc7b272d6d41...", "threshold": 0.5, "provider": "CPUExecutionProvider",
                  "giemsa": __version__}  # fmt: skip
EXAMPLE: Final = {
    "cells": [
        {"image": "ring.png", "verdict": "parasitized", "p_parasitized": 0.9973, "novelty": None, "reason": ""},
        {"image": "cut off.png", "verdict": "unreadable", "p_parasitized": None, "novelty": None,
         "reason": "the PNG breaks off after 412 bytes"},
    ],
    "model": _EXAMPLE_MODEL,
    "disclaimer": DISCLAIMER,
}  # fmt: skip
_EXAMPLE_CSV = (
    f"{','.join(COLUMNS)}\nring.png,parasitized,0.9973,,\ncut off.png,unreadable,,,the PNG breaks off after 412 bytes\n"
)
_EXAMPLE_LINES: Final = (
    '{"judged": 0, "of": 200, "model": {"name": "default"}, "disclaimer": "..."}\n'
    '{"judged": 64, "of": 200, "cells": [{"image": "ring.png", "verdict": "parasitized"}]}\n'
)


def cells_router(state: AppState) -> APIRouter:
    """Route that judges cells."""
    router = APIRouter()

    @router.post(
        "/api/v1/cells",
        summary="Judge cells",
        tags=["cells"],
        openapi_extra={"requestBody": PICTURES_BODY},
        response_model=CellsAnswer,
        responses={
            200: {
                "description": "Verdicts in the order in which the pictures were sent; one that cannot be read is "
                "a row, `unreadable`, with its reason. CSV with `Accept: text/csv`. With "
                "`Accept: application/x-ndjson` the same rows as they are judged, some a line, in their order; a "
                "`problem` is the last line if something goes wrong on the way.",
                "content": {
                    "application/json": {"example": EXAMPLE},
                    "text/csv": {"schema": {"type": "string"}, "example": _EXAMPLE_CSV},
                    "application/x-ndjson": {"schema": {"type": "string"}, "example": _EXAMPLE_LINES},
                },
            },
            **problems(400, 408, 413, 415, 422, 503),
        },
    )
    async def judge_cells(
        request: Request,
        include: Annotated[
            list[Literal["digest", "picture", "evidence"]] | None,
            Query(description="What else to answer of each cell; not in CSV", examples=[["evidence"]]),
        ] = None,
    ) -> Response:
        wanted = frozenset(include or ())
        kind = preferred(request.headers.get("accept", ""), (JSON, CSV, LINES))
        with ExitStack() as stack:
            upload = await receive_upload(request, state.folder)
            stack.callback(upload.close)
            pictures = await asyncio.to_thread(upload.pictures, max_unpacked=state.settings.max_unpacked_bytes)
            if kind == LINES:
                return await _streamed(state, request, pictures, wanted, stack.pop_all())
            judging = asyncio.ensure_future(_judged(state, pictures, frozenset() if kind == CSV else wanted))
            rows = await unless_left(request, judging)
        # in a thread, since thousands of pictures take a moment
        if kind == CSV:
            return Response(await asyncio.to_thread(_csv, rows), media_type=CSV)
        return Response(
            await asyncio.to_thread(as_json, {"cells": _cells(rows)} | _judge_words(state)), media_type=JSON
        )

    return router


def _row(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in COLUMNS}


def _cells(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [_row(verdict) | more for verdict, more in rows]


def _csv(rows: Sequence[Row]) -> str:
    return ",".join(COLUMNS) + "\n" + rows_as_csv(verdict for verdict, _ in rows)


def _judge_words(state: AppState) -> dict[str, Any]:
    return {"model": model_words(state.classifier), "disclaimer": DISCLAIMER}


async def _judged(
    state: AppState,
    pictures: Sequence[Source],
    wanted: frozenset[str],
    ready: Callable[[list[Row]], None] = lambda _rows: None,
) -> list[Row]:
    """Judge pictures; `ready` is told rows as they come, in their order."""
    digests: dict[int, str] = {}
    if "digest" in wanted:
        pictures = [_with_digest(picture, index, digests) for index, picture in enumerate(pictures)]

    def finish(examined: Examined) -> Row:
        return examined.verdict, _to_see(examined, wanted)

    def complete(start: int, rows: list[Row]) -> None:
        if "digest" in wanted:
            for index, (_, more) in enumerate(rows, start):
                more["sha256"] = digests.get(index)
        state.counts.judged(verdict for verdict, _ in rows)
        ready(rows)

    shown_px = SHOWN_PX if wanted & {"picture", "evidence"} else 0
    try:
        return await state.batcher.examine(pictures, finish, shown_px=shown_px, ready=complete)
    except QueueFullError as error:
        raise busy(str(error)) from error


async def _streamed(
    state: AppState, request: Request, pictures: Sequence[Source], wanted: frozenset[str], held: ExitStack
) -> Response:
    """Answer rows as they are judged, beginning with the first; `held` is closed when all are, or nobody waits."""
    come: asyncio.Queue[list[Row]] = asyncio.Queue()  # an empty list ends it

    judging = asyncio.create_task(_judged(state, pictures, wanted, come.put_nowait))

    def end(_done: asyncio.Task[list[Row]]) -> None:
        held.close()
        come.put_nowait([])

    judging.add_done_callback(end)
    try:
        first = await unless_left(request, asyncio.ensure_future(come.get()))
        if not first:
            await judging  # raises what went wrong before there was an answer, as a full queue
    except BaseException:
        judging.cancel()
        raise
    return StreamingResponse(_lines(state, judging, come, first, len(pictures)), media_type=LINES)


async def _lines(
    state: AppState, judging: asyncio.Task[list[Row]], come: asyncio.Queue[list[Row]], rows: list[Row], of: int
) -> AsyncIterator[bytes]:
    judged = 0
    try:
        yield _line({"judged": 0, "of": of} | _judge_words(state))
        while rows:
            judged += len(rows)
            yield _line({"judged": judged, "of": of, "cells": _cells(rows)})
            rows = await come.get()
        if judging.cancelled() or judging.exception() is not None:
            _log.error("cells could not be judged", exc_info=None if judging.cancelled() else judging.exception())
            said = problem(500, UNEXPECTED)
            yield b'{"problem": ' + bytes(said.body) + b"}\n"
    finally:
        judging.cancel()


def _line(content: dict[str, Any]) -> bytes:
    return as_json(content) + b"\n"


def _with_digest(picture: Source, index: int, digests: dict[int, str]) -> Source:
    def read() -> bytes:
        content = picture.read()
        digests[index] = hashlib.sha256(content).hexdigest()
        return content

    return Source(picture.name, read)


def _to_see(examined: Examined, wanted: frozenset[str]) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if "picture" in wanted:
        more["picture"] = None if examined.shown is None else _data_uri(examined)
    if "evidence" in wanted:
        evidence = examined.evidence
        more["evidence"] = None if evidence is None else np.round(evidence.astype(np.float64), 4).tolist()
    return more


def _data_uri(examined: Examined) -> str:
    assert examined.shown is not None
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(examined.shown, cv2.COLOR_RGB2BGR), _JPEG)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
