"""The routes of the API, and what it says of itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import cv2
import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from giemsa import __version__
from giemsa.sources import Source
from giemsa.tables import COLUMNS, rows_as_csv
from giemsa.verdicts import DISCLAIMER, VerdictName
from giemsa.web.batching import QueueFullError
from giemsa.web.problems import MEDIA_TYPE, ProblemError, problem
from giemsa.web.uploads import UNPACKED_FACTOR, busy, receive_upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from giemsa.classifier import Classifier, Examined
    from giemsa.smear.site import Site
    from giemsa.verdicts import Verdict
    from giemsa.web.batching import Batcher
    from giemsa.web.counts import Counts
    from giemsa.web.settings import Settings
    from giemsa.web.uploads import Folder, Room

SHOWN_PX: Final = 160
"""Longest side of the thumbnails that `include=picture` gives."""
_JPEG: Final = [cv2.IMWRITE_JPEG_QUALITY, 88]
_JSON, _CSV, _LINES = "application/json", "text/csv", "application/x-ndjson"
_log = logging.getLogger("giemsa.web")
Result = TypeVar("Result")
Row = tuple["Verdict", dict[str, Any]]
"""A verdict, and what `include` asked for besides."""


class Words(BaseModel):
    """An answer: all that it holds is described."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def with_example(content: dict[str, Any]) -> ConfigDict:
    """Give the configuration of an answer that has an example."""
    return ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_extra={"example": content})


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


class CardAnswer(Words):
    """What a model says about itself."""

    model_config = with_example(
        {
            "name": "default", "sha256": "fc7b272d6d41...", "threshold": 0.5, "provider": "CPUExecutionProvider",
            "giemsa": __version__, "input_size_px": 64, "class_names": ["uninfected", "parasitized"],
            "has_evidence": True, "calibration": {"temperature": 0.62, "bias": 0.25},
            "label_set": "disputed: leave-out; donors: negative", "training_patients": 120,
            "digests": {"data": "6c8f1d983170...", "recipe": "cebc4d324e4f..."},
            "figures": {"how": "5-fold cross-validation, patients grouped"}, "licence": "Apache-2.0",
            "created_by": f"giemsa {__version__}",
            "limits": {"body_bytes": 52_428_800, "cells": 5_000, "fields": 500, "pixels_per_picture": 50_000_000},
            "disclaimer": DISCLAIMER,
        }
    )  # fmt: skip

    name: str
    sha256: str
    threshold: float
    provider: str
    giemsa: str
    input_size_px: int
    class_names: list[str]
    has_evidence: bool
    calibration: dict[str, float]
    label_set: str
    training_patients: int = Field(description="How many; 0 where they are not known")
    digests: dict[str, str]
    figures: dict[str, Any]
    licence: str
    created_by: str
    limits: dict[str, int]
    disclaimer: str


class CurvesAnswer(Words):
    """What a model's labelled predictions show at every threshold."""

    model_config = with_example(
        {
            "name": "default", "model_sha256": "fc7b272d6d41...", "serving": True,
            "labels": {
                "confirmed": {
                    "n": 2_000, "positives": 1_000, "units": 40, "kind": "patients", "thresholds": [0.1, 0.5, 0.9],
                    "true_positives": [998, 990, 951], "false_positives": [61, 12, 3],
                    "sensitivity": {"low": [0.99, 0.98, 0.93], "high": [1.0, 1.0, 0.97]},
                    "specificity": {"low": [0.91, 0.98, 0.99], "high": [0.96, 1.0, 1.0]},
                    "roc_auc": {"value": 0.998, "low": 0.997, "high": 0.999},
                    "reliability": {"said": [0.02, 0.97], "seen": [0.03, 0.98], "n": [1_010, 990]},
                }
            },
        }
    )  # fmt: skip

    name: str
    model_sha256: str | None
    serving: bool = Field(description="Whether this is the model that judges here")
    labels: dict[str, dict[str, Any]] = Field(
        description="By set of labels (confirmed, official, donors): n, positives, units, thresholds, true_positives, "
        "false_positives, limits of sensitivity and specificity, roc_auc, reliability"
    )


class StatusAnswer(Words):
    """Whether a server is well."""

    model_config = with_example({"status": "ok"})

    status: Literal["ok"]


class ProblemAnswer(Words):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


@dataclass(frozen=True, slots=True)
class Desk:
    """What the routes work with."""

    settings: Settings
    classifier: Classifier
    batcher: Batcher
    room: Room
    folder: Folder
    counts: Counts
    curves: list[dict[str, Any]]
    site: Site | None = None


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
_EXAMPLE_METRICS: Final = (
    "# HELP giemsa_cells_total Pictures judged\n# TYPE giemsa_cells_total counter\n"
    'giemsa_cells_total{verdict="parasitized"} 12.0\n'
)


def multipart(what: str, **more: dict[str, Any]) -> dict[str, Any]:
    """Describe a body with many parts named `files`, and perhaps others beside them, for the OpenAPI."""
    files = {
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "format": "binary"},
        "description": f"{what} (PNG, JPEG, TIFF, BMP, WebP), or zip archives",
    }
    schema = {
        "type": "object",
        "required": ["files"],
        "additionalProperties": False,
        "properties": {"files": files, **more},
    }
    encoding = {"files": {"contentType": "application/octet-stream"}}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema, "encoding": encoding}}}


PICTURES_BODY: Final = multipart("Pictures of one cell each")
PROBLEMS: Final[dict[int, str]] = {
    400: "The body cannot be taken apart",
    401: "The token is missing or wrong",
    403: "The call comes from another site's page",
    404: "There is no such thing",
    408: "The body came too slowly",
    409: "It is there already, and differs",
    413: "Too large, or too many pictures",
    415: "The body is no multipart/form-data",
    421: "The server was called by another name than localhost",
    422: "A parameter or a part is not what was expected",
    503: "The server has enough to do; try again after `Retry-After` seconds",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route, for OpenAPI."""
    schema = {"$ref": "#/components/schemas/ProblemAnswer"}
    described: dict[int | str, dict[str, Any]] = {}
    for status in (401, 403, 421, *statuses):
        example = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": PROBLEMS[status],
        }
        described[status] = {
            "description": PROBLEMS[status],
            "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
        }
    if 503 in described:
        described[503]["headers"] = {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds"}}
    return described


def api_router(desk: Desk) -> APIRouter:
    """Make the routes that judge cells and tell of the model and of the server."""
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
        kind = preferred(request.headers.get("accept", ""), (_JSON, _CSV, _LINES))
        with ExitStack() as stack:
            share = stack.enter_context(desk.room.share())
            upload = await receive_upload(request, share, desk.folder, desk.settings.max_upload_bytes)
            stack.callback(upload.close)
            pictures = await asyncio.to_thread(
                upload.pictures, max_unpacked=UNPACKED_FACTOR * desk.settings.max_upload_bytes
            )
            if kind == _LINES:
                return await _streamed(desk, request, pictures, wanted, stack.pop_all())
            judging = asyncio.ensure_future(_judged(desk, pictures, frozenset() if kind == _CSV else wanted))
            rows = await _unless_left(request, judging)
        if kind == _CSV:
            header = ",".join(COLUMNS) + "\n"
            return Response(header + rows_as_csv(verdict for verdict, _ in rows), media_type=_CSV)
        return JSONResponse({"cells": _cells(rows)} | _judge_words(desk))

    @router.get("/api/v1/model", summary="Read the model's card", tags=["model"], responses=problems())
    async def read_model() -> CardAnswer:
        card, model = desk.classifier.model.card, desk.classifier.model
        return CardAnswer(
            **model_words(desk.classifier),
            input_size_px=card.input_size_px,
            class_names=list(card.class_names),
            has_evidence=model.has_evidence,
            calibration={"temperature": card.temperature, "bias": card.bias},
            label_set=card.label_set,
            training_patients=len(card.training_patients),
            digests=dict(card.digests),
            figures=dict(card.figures),
            licence=card.licence,
            created_by=card.created_by,
            limits=limits(desk.settings),
            disclaimer=DISCLAIMER,
        )

    @router.get("/api/v1/model/curves", summary="Read what thresholds cost", tags=["model"], responses=problems())
    async def read_curves() -> list[CurvesAnswer]:
        return [CurvesAnswer(**one) for one in desk.curves]

    @router.get("/healthz", summary="Tell whether the server is up", tags=["server"], responses=_only_host())
    async def health() -> StatusAnswer:
        return StatusAnswer(status="ok")

    @router.get(
        "/readyz",
        summary="Tell whether the server takes cells",
        tags=["server"],
        responses=_only_host() | {503: problems(503)[503]},
    )
    async def ready() -> StatusAnswer:
        if desk.batcher.waiting >= desk.batcher.capacity:
            raise busy("the queue is full")
        return StatusAnswer(status="ok")

    @router.get(
        "/metrics",
        summary="Read figures for Prometheus",
        tags=["server"],
        response_class=Response,
        responses={
            200: {
                "description": "Text format 0.0.4",
                "content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE_METRICS}},
            },
            **problems(),
        },
    )
    async def metrics() -> Response:
        return Response(desk.counts.text(), media_type="text/plain; version=0.0.4")

    return router


def limits(settings: Settings) -> dict[str, int]:
    """Say what one request may send."""
    from giemsa.images import MAX_PIXELS
    from giemsa.web.settings import MAX_CELLS, MAX_FIELDS

    return {
        "body_bytes": settings.max_upload_bytes,
        "cells": MAX_CELLS,
        "fields": MAX_FIELDS,
        "pixels_per_picture": MAX_PIXELS,
    }


def model_words(classifier: Classifier) -> dict[str, Any]:
    """Say what judges: name, digest, threshold, provider, version."""
    record = classifier.record()
    return {
        "name": record.model,
        "sha256": record.model_sha256,
        "threshold": record.threshold,
        "provider": record.provider,
        "giemsa": record.giemsa,
    }


def _only_host() -> dict[int | str, dict[str, Any]]:
    return {421: problems()[421]}


def _row(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in COLUMNS}


def _cells(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [_row(verdict) | more for verdict, more in rows]


def _judge_words(desk: Desk) -> dict[str, Any]:
    return {"model": model_words(desk.classifier), "disclaimer": DISCLAIMER}


async def _judged(
    desk: Desk,
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
        desk.counts.judged(verdict for verdict, _ in rows)
        ready(rows)

    shown_px = SHOWN_PX if wanted & {"picture", "evidence"} else 0
    try:
        return await desk.batcher.examine(pictures, finish, shown_px=shown_px, ready=complete)
    except QueueFullError as error:
        raise busy(str(error)) from error


async def _streamed(
    desk: Desk, request: Request, pictures: Sequence[Source], wanted: frozenset[str], held: ExitStack
) -> Response:
    """Answer rows as they are judged, beginning with the first; `held` is closed when all are, or nobody waits."""
    come: asyncio.Queue[list[Row]] = asyncio.Queue()  # an empty list ends it

    judging = asyncio.create_task(_judged(desk, pictures, wanted, come.put_nowait))

    def end(_done: asyncio.Task[list[Row]]) -> None:
        held.close()
        come.put_nowait([])

    judging.add_done_callback(end)
    try:
        first = await _unless_left(request, asyncio.ensure_future(come.get()))
        if not first:
            await judging  # raises what went wrong before there was an answer, as a full queue
    except BaseException:
        judging.cancel()
        raise
    return StreamingResponse(_lines(desk, judging, come, first, len(pictures)), media_type=_LINES)


async def _lines(
    desk: Desk, judging: asyncio.Task[list[Row]], come: asyncio.Queue[list[Row]], rows: list[Row], of: int
) -> AsyncIterator[bytes]:
    judged = 0
    try:
        yield _line({"judged": 0, "of": of} | _judge_words(desk))
        while rows:
            judged += len(rows)
            yield _line({"judged": judged, "of": of, "cells": _cells(rows)})
            rows = await come.get()
        if judging.cancelled() or judging.exception() is not None:
            _log.error("cells could not be judged", exc_info=None if judging.cancelled() else judging.exception())
            said = problem(500, "something went wrong that should not; the server's log tells more")
            yield b'{"problem": ' + bytes(said.body) + b"}\n"
    finally:
        judging.cancel()


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


async def _unless_left(request: Request, work: asyncio.Future[Result]) -> Result:
    """Wait for work as long as there is somebody who waits for it."""
    leaving = asyncio.ensure_future(until_left(request))
    either: set[asyncio.Future[Any]] = {work, leaving}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ProblemError(400, "the caller has left")  # nobody reads it
        return work.result()
    finally:
        leaving.cancel()
        work.cancel()


async def until_left(request: Request) -> None:
    """Wait until nobody waits for the answer any more; to be called when the body has come in."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


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


def preferred(accept: str, kinds: Sequence[str]) -> str:
    """Tell which kind of answer a caller would rather have (RFC 9110, 12.5.1): the first, unless another is named."""
    quality: Callable[[str], float] = lambda kind: max(  # noqa: E731
        (_quality(part) for part in accept.split(",") if part.split(";")[0].strip().lower() == kind), default=0.0
    )
    return max(kinds, key=quality)


def _quality(part: str) -> float:
    for parameter in part.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
