"""What all of the API's answers have in common, and how bodies and errors are described in its OpenAPI."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from giemsa.web.problems import MEDIA_TYPE


class Words(BaseModel):
    """An answer: all that it holds is described."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def with_example(content: dict[str, Any]) -> ConfigDict:
    """Configuration of an answer that has an example."""
    return ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_extra={"example": content})


class ProblemAnswer(Words):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


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


PICTURES_BODY: Final = multipart("Pictures of one cell each")
"""The body of a request with pictures of cells."""
