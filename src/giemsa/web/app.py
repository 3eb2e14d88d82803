"""Puts it together: one FastAPI application with Dash on it."""

from __future__ import annotations

import logging
import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import cv2
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from giemsa import __version__
from giemsa.classifier import Classifier
from giemsa.smear.site import read_site
from giemsa.verdicts import DISCLAIMER
from giemsa.web.api import EXAMPLE as CELLS_EXAMPLE
from giemsa.web.api import Desk, api_router
from giemsa.web.batching import Batcher
from giemsa.web.counts import Counts
from giemsa.web.database import Reviews
from giemsa.web.figures import embedded_curves, read_curves
from giemsa.web.guard import Guard
from giemsa.web.page import add_page
from giemsa.web.problems import add_problem_handlers
from giemsa.web.reviews import reviews_router
from giemsa.web.settings import check_settings
from giemsa.web.smears import EXAMPLE as SMEAR_EXAMPLE
from giemsa.web.smears import Smears, smears_router
from giemsa.web.uploads import Folder, Room

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

    from giemsa.model import Model
    from giemsa.web.settings import Settings

_DESCRIPTION = f"""Says of pictures of red blood cells whether they are parasitized: the verdicts of `giemsa classify`.

    curl -F files=@cell.png -F files=@cells.zip http://127.0.0.1:8000/api/v1/cells
    curl -F files=@cells.zip -H 'Accept: text/csv' http://127.0.0.1:8000/api/v1/cells

Of photographs of whole fields of one smear, how many red cells are parasitized: the count of `giemsa smear`.

    curl -F files=@fields.zip -F patient=P1 http://127.0.0.1:8000/api/v1/smears
    curl -F files=@fields.zip -H 'Accept: text/html' -o report.html http://127.0.0.1:8000/api/v1/smears

Errors are `application/problem+json` (RFC 9457). {DISCLAIMER}
"""


def create_app(settings: Settings) -> ASGIApp:
    """Make the application of a server.

    Raises
    ------
    UsageError, ModelError, DataError
        If the settings make no sense or are not safe, or the model or the site's file cannot be read.
    """
    check_settings(settings)
    cv2.setNumThreads(1)  # each worker decodes and resizes by itself
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters about a picture becomes its reason
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what it says of a broken body is in the answer
    counts = Counts()
    classifier = Classifier(settings.model, threads=settings.threads)
    batcher = Batcher(classifier, capacity=settings.queue_cells, on_run=counts.ran)
    room = Room(settings.max_held_bytes)
    counts.watch("giemsa_waiting_cells", "Pictures that wait for the model", lambda: batcher.waiting)
    counts.watch("giemsa_held_bytes", "Bytes of bodies that are held", lambda: room.held)
    folder = Folder()
    site = read_site(settings.site, model_sha256=classifier.model.digest) if settings.site is not None else None
    desk = Desk(settings, classifier, batcher, room, folder, counts, _curves(settings, classifier.model), site)
    smears = Smears(desk)
    counts.watch("giemsa_smears_under_way", "Smears that are being read", lambda: smears.under_way)
    reviews = Reviews(settings.database or f"sqlite:///{folder.path / 'reviews.sqlite'}")

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            smears.close()
            batcher.close()
            reviews.close()
            folder.close()

    app = FastAPI(title="Giemsa", version=__version__, description=_DESCRIPTION, lifespan=lifespan,
                  docs_url=None, redoc_url=None, openapi_url=None)  # fmt: skip
    add_problem_handlers(app)
    app.include_router(api_router(desk))
    app.include_router(smears_router(smears))
    app.include_router(reviews_router(desk, reviews))
    schema = _schema(app, settings)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return schema

    hashes = add_page(app, desk)
    return Guard(app, settings, counts, hashes)


def _curves(settings: Settings, model: Model) -> list[dict[str, Any]]:
    """Gather the labelled predictions that there are, those of the model that judges first."""
    found = [embedded_curves(model.digest), *(read_curves(run) for run in settings.runs)]
    known = [one | {"serving": one["model_sha256"] == model.digest} for one in found if one is not None]
    return sorted(known, key=lambda one: not one["serving"])


def _schema(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """Describe the API as it is: what FastAPI adds of its own form of errors is not what this server answers."""
    schema = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes,
                         openapi_version="3.1.0")  # fmt: skip
    from giemsa.web.api import ProblemAnswer

    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["ProblemAnswer"] = ProblemAnswer.model_json_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, example in (("/api/v1/cells", CELLS_EXAMPLE), ("/api/v1/smears", SMEAR_EXAMPLE)):
        answer = schema["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
        answer["example"] = example  # FastAPI leaves out of it what is null
    guarded = settings.token is not None
    if guarded:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if guarded and path.startswith(("/api/", "/metrics")):
                operation["security"] = [{"token": []}]
            elif not guarded:
                operation["responses"].pop("401", None)
    return schema
