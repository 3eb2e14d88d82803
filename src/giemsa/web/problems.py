"""Errors as `application/problem+json` (RFC 9457), with one sentence each; as a page for a browser that goes astray."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from giemsa.errors import OutputError
from giemsa.web.exchange import CallerLeftError, preferred
from giemsa.web.markup import render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE: Final = "application/problem+json"
UNEXPECTED: Final = "something went wrong that should not; the server's log tells more"
_RETRY_S: Final = 2
_log = logging.getLogger("giemsa.web")


class ProblemError(Exception):
    """Why a request is not answered as it wished.

    Attributes
    ----------
    status : int
        HTTP status.
    detail : str
        One sentence: what is wrong, what was expected, what to do.
    headers : mapping
        More headers of the response.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Response that says what went wrong."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def problem_for(error: ProblemError) -> Response:
    """Response that says an error."""
    return problem(error.status, error.detail, error.headers)


def busy(why: str, retry_s: int = _RETRY_S) -> ProblemError:
    """Error 503 of a server that has enough to do."""
    return ProblemError(503, f"{why}; try again in {retry_s} seconds", {"Retry-After": str(retry_s)})


def add_problem_handlers(app: FastAPI) -> None:
    """Let an application answer every error as a problem."""

    async def ours(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return problem_for(error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = str(request.scope["path"])[:200]
        said = {
            400: "the body cannot be read; expected JSON in UTF-8",
            404: f"there is nothing at {path}; the API is described at /docs",
            405: f"{path} does not take {request.method[:20]}",
        }
        detail = said.get(error.status_code, str(error.detail))
        if _is_visit(request):
            title = HTTPStatus(error.status_code).phrase
            page = render("problem.html", title=title, detail=detail, shown=None)
            return HTMLResponse(page, error.status_code, error.headers)
        return problem(error.status_code, detail, error.headers)

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem(422, _sentence(error.errors()[0]))

    async def database(_request: Request, error: Exception) -> Response:
        _log.error("%s", error)
        said = "the database of reviews cannot be used now; try again in 5 seconds, answers with the same key"
        return problem(503, said, {"Retry-After": "5"})

    async def left(_request: Request, _error: Exception) -> Response:
        return problem(400, "the caller has left")  # nobody reads it

    async def unexpected(_request: Request, _error: Exception) -> Response:
        return unexpected_problem()

    app.add_exception_handler(ProblemError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(OutputError, database)
    app.add_exception_handler(CallerLeftError, left)
    app.add_exception_handler(Exception, unexpected)


def unexpected_problem() -> Response:
    """Response to what nobody foresaw."""
    # uvicorn hangs up after an unexpected error, which a client that keeps its connection must hear
    return problem(500, UNEXPECTED, {"Connection": "close"})


def _is_visit(request: Request) -> bool:
    """Whether a browser wants a page, and not a program an answer of the API."""
    kind = preferred(request.headers.get("accept", ""), (MEDIA_TYPE, "text/html"))
    return request.method == "GET" and not request.scope["path"].startswith("/api/") and kind == "text/html"


def _sentence(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path")) or "the body"
    return f"{where[:200]}: {error['msg'][:1].lower()}{error['msg'][1:]}"
