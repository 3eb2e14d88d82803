"""Photographs of the fields of one smear to a count, with progress, or as the report alone."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from giemsa.verdicts import DISCLAIMER
from giemsa.web.exchange import HTML, JSON, LINES, as_json, preferred, unless_left
from giemsa.web.limits import share_of
from giemsa.web.problems import UNEXPECTED, ProblemError, busy, problem
from giemsa.web.schemas import Words, multipart, problems
from giemsa.web.settings import MAX_FIELDS
from giemsa.web.smears import (
    DIAMETER_PX,
    MAX_PATIENT,
    RED_CELLS_PER_UL,
    SUSPICIOUS_SHOWN,
    TEXTS,
    smear_request,
    told_apart,
)
from giemsa.web.uploads import receive_upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from giemsa.web.smears import SmearJob, Smears
    from giemsa.web.state import AppState


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
        "minimum": DIAMETER_PX[0],
        "maximum": DIAMETER_PX[1],
        "description": "A typical red cell's diameter in pixels; by default each field's is estimated",
    },
    red_cells_per_ul={
        "type": "number",
        "minimum": RED_CELLS_PER_UL[0],
        "maximum": RED_CELLS_PER_UL[1],
        "description": "The patient's red cell count; by default 5,000,000 is assumed, and said",
    },
)
EXAMPLE: Final = {
    "sentences": [
        "6 suspicious cells in 187 red cells of 3 fields: look at them.",
        "The parasitaemia is not more than 5.5 % (95 %), and may be none.",
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


def smears_router(smears: Smears) -> APIRouter:
    """Route that counts parasitized cells in fields."""
    router = APIRouter()
    state = smears.state

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
                    JSON: {"example": EXAMPLE},
                    LINES: {"schema": {"type": "string"}, "example": _EXAMPLE_LINES},
                    HTML: {"schema": {"type": "string"}, "example": "<!doctype html>..."},
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
        kind = preferred(request.headers.get("accept", ""), (JSON, LINES, HTML))
        wanted = frozenset(include or ()) | ({"report"} if kind == HTML else frozenset())
        progress: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        with ExitStack() as stack:
            stack.callback(share_of(request).keep().release)
            upload = await receive_upload(request, state.folder, texts=TEXTS)
            stack.callback(upload.close)
            asked = smear_request(state, upload, wanted)
            sources = await asyncio.to_thread(upload.pictures, max_unpacked=state.settings.max_unpacked_bytes)
            if len(sources) > MAX_FIELDS:
                raise ProblemError(413, f"there are {len(sources):,} photographs; at most {MAX_FIELDS:,} are read of "
                                   "one smear, so send fewer or use `giemsa smear`")  # fmt: skip
            smears.check_place()
            job = smears.start(asked, told_apart(sources), stack.pop_all(), progress.put_nowait)
        if kind == LINES:
            return StreamingResponse(_lines(state, job, progress), media_type=LINES)
        answer = await _awaited(request, job)
        state.counts.read_fields(bool(one["refusal"]) for one in answer["fields"])
        if kind == HTML:
            named = {"Content-Disposition": 'attachment; filename="report.html"'}
            return Response(answer["report"], media_type=HTML, headers=named)
        return Response(await asyncio.to_thread(as_json, answer), media_type=JSON)

    return router


async def _awaited(request: Request, job: SmearJob) -> dict[str, Any]:
    """Wait for a smear, as long as there is somebody who waits for it."""
    try:
        return await unless_left(request, job.done)
    except asyncio.CancelledError:
        raise busy("the server is about to stop") from None
    finally:
        job.stop.set()


async def _lines(state: AppState, job: SmearJob, progress: asyncio.Queue[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Lines of an answer: each field as it is read, and then the smear."""
    job.done.add_done_callback(lambda _done: progress.put_nowait({}))
    try:
        yield as_json({"read": 0, "of": len(job.sources)}) + b"\n"  # all has come in, and reading begins
        while said := await progress.get():
            yield as_json(said) + b"\n"
        try:
            answer = job.done.result()
        except asyncio.CancelledError:
            yield b'{"problem": ' + bytes(problem(503, "the server is about to stop").body) + b"}\n"
        except Exception:
            said_wrong = problem(500, UNEXPECTED)
            yield b'{"problem": ' + bytes(said_wrong.body) + b"}\n"
        else:
            state.counts.read_fields(bool(one["refusal"]) for one in answer["fields"])
            yield await asyncio.to_thread(as_json, {"smear": answer}) + b"\n"
    finally:
        job.stop.set()
