"""Puts it together: one FastAPI application, behind what every request passes."""

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
from giemsa.web.batching import Batcher
from giemsa.web.calls import Calls
from giemsa.web.counts import Counts
from giemsa.web.database import Reviews
from giemsa.web.figures import embedded_curves, read_curves
from giemsa.web.guard import Guard
from giemsa.web.limits import BodyLimits, Room
from giemsa.web.problems import add_problem_handlers
from giemsa.web.routes.cells import EXAMPLE as CELLS_EXAMPLE
from giemsa.web.routes.cells import cells_router
from giemsa.web.routes.model import model_router
from giemsa.web.routes.pages import pages_router, static_files
from giemsa.web.routes.reviews import reviews_router
from giemsa.web.routes.server import server_router
from giemsa.web.routes.smears import EXAMPLE as SMEAR_EXAMPLE
from giemsa.web.routes.smears import smears_router
from giemsa.web.schemas import ProblemAnswer
from giemsa.web.settings import check_settings
from giemsa.web.smears import Smears
from giemsa.web.state import AppState
from giemsa.web.uploads import Folder

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
    """Application of a server.

    Raises
    ------
    UsageError, ModelError, DataError
        If the settings make no sense or are not safe, or the model or the site's file cannot be read.
    """
    check_settings(settings)
    cv2.setNumThreads(1)  # each worker decodes and resizes by itself
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters about a picture becomes its reason
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what it says of a broken body is in the answer
    state = _open(settings)
    room = Room(settings.max_held_bytes, reserve=settings.reserved_bytes, small=settings.small_bytes)
    smears = Smears(state)
    state.counts.watch("giemsa_waiting_cells", "Pictures that wait for the model", lambda: state.batcher.waiting)
    state.counts.watch("giemsa_held_bytes", "Bytes of bodies that are held", lambda: room.held)
    state.counts.watch("giemsa_smears_under_way", "Smears that are being read", lambda: smears.under_way)
    state.counts.watch("giemsa_database_calls", "Calls of the database under way", lambda: state.calls.under_way)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            smears.close()
            state.batcher.close()
            if not state.calls.under_way:  # else it would wait for a database that does not answer
                state.reviews.close()
            state.folder.close()

    # no redirects, which would name whatever host a caller says that this is
    app = FastAPI(title="Giemsa", version=__version__, description=_DESCRIPTION, lifespan=lifespan,
                  docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)  # fmt: skip
    add_problem_handlers(app)
    for router in (cells_router(state), model_router(state), server_router(state), smears_router(smears),
                   reviews_router(state), pages_router()):  # fmt: skip
        app.include_router(router)
    for path, files in static_files().items():
        app.mount(path, files)
    schema = _schema(app, settings)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return schema

    return Guard(BodyLimits(app, room, settings.max_upload_bytes), settings, state.counts)


def _open(settings: Settings) -> AppState:
    """Open all that a server works with; what cannot be opened ends it before it listens."""
    counts = Counts()
    classifier = Classifier(settings.model, threads=settings.threads)
    site = read_site(settings.site, model_sha256=classifier.model.digest) if settings.site is not None else None
    curves = _curves(settings, classifier.model)
    folder = Folder()
    return AppState(
        settings=settings,
        classifier=classifier,
        batcher=Batcher(classifier, capacity=settings.queue_cells, on_run=counts.ran),
        folder=folder,
        counts=counts,
        reviews=Reviews(settings.database or f"sqlite:///{folder.path / 'reviews.sqlite'}"),
        calls=Calls(),
        curves=curves,
        site=site,
    )


def _curves(settings: Settings, model: Model) -> list[dict[str, Any]]:
    """Labelled predictions that there are, those of the model that judges first."""
    found = [embedded_curves(model.digest), *(read_curves(run) for run in settings.runs)]
    known = [one | {"serving": one["model_sha256"] == model.digest} for one in found if one is not None]
    return sorted(known, key=lambda one: not one["serving"])


def _schema(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """Describe the API as it is: what FastAPI adds of its own form of errors is not what this server answers."""
    schema = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes,
                         openapi_version="3.1.0")  # fmt: skip
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
