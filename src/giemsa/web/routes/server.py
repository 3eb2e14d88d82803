"""Whether the server is well, and what it counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from giemsa.errors import OutputError
from giemsa.web.problems import busy
from giemsa.web.schemas import Words, problems, with_example

if TYPE_CHECKING:
    from giemsa.web.state import AppState


class StatusAnswer(Words):
    """Whether a server is well."""

    model_config = with_example({"status": "ok"})

    status: Literal["ok"]


class ReadyAnswer(Words):
    """Whether a server takes cells, and whether it can keep answers of reviewers."""

    model_config = with_example({"status": "ok", "reviews": "ok"})

    status: Literal["ok"]
    reviews: Literal["ok", "unavailable"] = Field(description="unavailable: cells are judged, and no answer is kept")


_CHECK_S: Final = 2.0
_EXAMPLE_METRICS: Final = (
    "# HELP giemsa_cells_total Pictures judged\n# TYPE giemsa_cells_total counter\n"
    'giemsa_cells_total{verdict="parasitized"} 12.0\n'
)


def server_router(state: AppState) -> APIRouter:
    """Routes that tell how the server does."""
    router = APIRouter()

    @router.get("/healthz", summary="Tell whether the server is up", tags=["server"], responses=_only_host())
    async def health() -> StatusAnswer:
        return StatusAnswer(status="ok")

    @router.get(
        "/readyz",
        summary="Tell whether the server takes cells",
        tags=["server"],
        responses=_only_host() | {503: problems(503)[503]},
    )
    async def ready() -> ReadyAnswer:
        if state.batcher.waiting >= state.batcher.capacity:
            raise busy("the queue is full")
        try:
            await asyncio.wait_for(state.calls(state.reviews.check), _CHECK_S)
        except (OutputError, asyncio.TimeoutError, TimeoutError):
            return ReadyAnswer(status="ok", reviews="unavailable")
        return ReadyAnswer(status="ok", reviews="ok")

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
        return Response(state.counts.text(), media_type="text/plain; version=0.0.4")

    return router


def _only_host() -> dict[int | str, dict[str, Any]]:
    return {421: problems()[421]}
