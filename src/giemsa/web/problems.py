"""Errors as `application/problem+json` (RFC 9457), with one sentence each."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from giemsa.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE: Final = "application/problem+json"
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
    """Make the response that says it."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def add_problem_handlers(app: FastAPI) -> None:
    """Let an application answer every error as a problem."""

    async def ours(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return problem(error.status, error.detail, error.headers)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        said = {
            400: "the body cannot be read; expected JSON in UTF-8",
            404: f"there is nothing at {request.url.path[:200]}; the API is described at /docs",
            405: f"{request.url.path[:200]} does not take {request.method[:20]}",
        }
        return problem(error.status_code, said.get(error.status_code, str(error.detail)), error.headers)

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem(422, _sentence(error.errors()[0]))

    async def database(_request: Request, error: Exception) -> Response:
        _log.error("%s", error)
        said = "the database of reviews cannot be used now; nothing of this call was kept, so try again in 5 seconds"
        return problem(503, said, {"Retry-After": "5"})

    async def unexpected(_request: Request, _error: Exception) -> Response:
        # uvicorn hangs up after an unexpected error, which a client that keeps its connection must hear.
        said = "something went wrong that should not; the server's log tells more"
        return problem(500, said, {"Connection": "close"})

    app.add_exception_handler(ProblemError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(OutputError, database)
    app.add_exception_handler(Exception, unexpected)


def _sentence(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path")) or "the body"
    return f"{where[:200]}: {error['msg'][:1].lower()}{error['msg'][1:]}"
