"""The page: its parts, what they are made of, drawn examples, and the description of the API.

The page is templates and ES modules, which are served as they are written; it calls the API like any other client.
Another part of Giemsa gets its own page by an entry in `markup.PAGES`, a template of the same name with a section
`page-NAME`, and a module in `static/` that `main.mjs` starts.
"""

from __future__ import annotations

import io
import zipfile
from importlib import resources
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from giemsa import __version__
from giemsa.web.markup import PAGES, render

_PACKAGE: Final = Path(__file__).parents[2]
_STATIC: Final = _PACKAGE / "web" / "static"
_EXAMPLES: Final = {
    "/examples.zip": (_PACKAGE / "demo" / "drawn", _PACKAGE.parents[1] / "examples" / "cells"),
    "/example-fields.zip": (_PACKAGE / "demo" / "drawn_fields", _PACKAGE.parents[1] / "examples" / "fields"),
}
"""Where drawn cells and fields lie: in an installation, and in a clone."""
_HTML, _JAVASCRIPT = "text/html", "text/javascript"


def pages_router() -> APIRouter:
    """Routes of the page; all that they answer is made once."""
    router = APIRouter(include_in_schema=False)
    for page in PAGES:
        _serve(router, page.path, render("page.html", shown=page), _HTML)
    _serve(router, "/cells-report.html", render("cells-report.html"), _HTML)
    _serve(router, "/docs", render("docs.html", version=__version__), _HTML)
    # the script of a smear's report makes it live in the page too
    _serve(router, "/report.js", (_PACKAGE / "smear" / "report.js").read_bytes(), _JAVASCRIPT)
    for path, folders in _EXAMPLES.items():
        _serve(router, path, _packed(next((folder for folder in folders if folder.is_dir()), None)), "application/zip")
    return router


def static_files() -> dict[str, StaticFiles]:
    """Applications that serve files, by the address under which they do: the page's own, and Swagger UI's."""
    swagger = Path(str(resources.files("fastapi_offline"))) / "static"
    return {"/static": StaticFiles(directory=_STATIC), "/docs-assets": StaticFiles(directory=swagger)}


def _serve(router: APIRouter, path: str, content: str | bytes, media_type: str) -> None:
    async def answer() -> Response:
        return Response(content, media_type=media_type)

    router.add_api_route(path, answer)


def _packed(folder: Path | None) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for picture in sorted(folder.glob("*.[jp][pn]g")) if folder else ():
            archive.write(picture, picture.name)
    return packed.getvalue()
