"""The page: what it is made of. What it does is in `assets/`, in the browser; it calls the API like any client.

Most of the page is plain HTML (`page.html`), which stands there before any script runs. Dash gives what is hard to
make well: the table (AG Grid) and the curves (Plotly). Their callbacks run in the browser too, so that no number on
the page waits for the server, and the server holds nothing for anybody.

Another part of Giemsa gets its own page by an entry in `PAGES`, a section of the same name in `page.html`, and a
script in `assets/` that calls `giemsa.page(NAME, onShow)`.
"""

from __future__ import annotations

import html as escaping
import io
import json
import logging
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import dash
import dash_ag_grid
from dash import dcc, html
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from giemsa import __version__
from giemsa.verdicts import DISCLAIMER

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from giemsa.web.api import Desk

_HERE: Final = Path(__file__).parent
_EXAMPLES: Final = {
    "/examples.zip": (_HERE.parent / "demo" / "drawn", _HERE.parents[2] / "examples" / "cells"),
    "/example-fields.zip": (_HERE.parent / "demo" / "drawn_fields", _HERE.parents[2] / "examples" / "fields"),
}
"""Where drawn cells and fields lie: in an installation, and in a clone."""

_LIGHT: Final = {"backgroundColor": "#ffffff", "foregroundColor": "#1d1b22", "accentColor": "#5a3d94",
                 "borderColor": "#d9d4dc", "headerBackgroundColor": "#f0ebf6", "fontFamily": "inherit"}  # fmt: skip
_DARK: Final = {"backgroundColor": "#221f28", "foregroundColor": "#f1eef5", "accentColor": "#c3a9f5",
                "borderColor": "#443e4e", "headerBackgroundColor": "#2c2737", "fontFamily": "inherit",
                "browserColorScheme": "dark"}  # fmt: skip
_GRID_THEME: Final = f"themeQuartz.withParams({json.dumps(_LIGHT)}, 'light').withParams({json.dumps(_DARK)}, 'dark')"


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the page that has its own address.

    Attributes
    ----------
    name : str
        Its section in `page.html` is `page-NAME`.
    path : str
        Its address.
    title : str
        What the navigation calls it.
    """

    name: str
    path: str
    title: str


PAGES: Final = (
    Page("cells", "/", "Cells"),
    Page("smear", "/smear", "Smear"),
    Page("model", "/model", "Model"),
    Page("review", "/review", "Review"),
)


def add_page(app: FastAPI, desk: Desk) -> list[str]:
    """Put the page on an application.

    Returns
    -------
    list of str
        The digests of the scripts that stand in it, for the content security policy.
    """
    page: Any = dash.Dash(
        __name__,
        server=cast("Any", app),  # its annotations know Flask only
        backend="fastapi",
        assets_folder=str(_HERE / "assets"),
        assets_ignore=r"^docs\.js$",
        title="Giemsa",
        update_title="",
        index_string=_index(),
        serve_locally=True,
        compress=False,
        add_log_handler=False,
        enable_mcp=False,
        suppress_callback_exceptions=True,
    )
    logging.getLogger(page.logger.name).setLevel(logging.WARNING)
    page.backend.websocket_capability = False  # else the page tries to open one
    # Dash would answer every address with the page; here only those of `PAGES` have one.
    page.backend._setup_catchall = lambda: None
    page.layout = _layout()
    page.clientside_callback(
        dash.ClientsideFunction("giemsa", "tableClicked"),
        dash.Output("table-clicked", "data"),
        dash.Input("table", "cellClicked"),
        prevent_initial_call=True,
    )
    page.clientside_callback(
        dash.ClientsideFunction("giemsa", "rocClicked"),
        dash.Output("roc-clicked", "data"),
        dash.Input("roc", "clickData"),
        prevent_initial_call=True,
    )
    app.add_middleware(_Pages)
    _add_examples(app)
    _add_report_script(app)
    _add_docs(app)
    return list(page.csp_hashes())


def _layout() -> Any:  # noqa: ANN401
    """Lay out what Dash makes: the table of the cells' page, and the curves of the model's."""
    return html.Div(
        [
            html.Div(
                dash_ag_grid.AgGrid(
                    id="table",
                    columnDefs=_columns(),
                    rowData=[],
                    defaultColDef={"sortable": True, "filter": True, "resizable": True, "minWidth": 90},
                    dashGridOptions={
                        "theme": {"function": _GRID_THEME},
                        "rowHeight": 44,
                        "pagination": True,
                        "paginationPageSize": 100,
                        "paginationPageSizeSelector": [100, 500, 1000],
                        "animateRows": False,
                        "suppressDragLeaveHidesColumns": True,
                        "ensureDomOrder": True,
                    },
                    getRowId="params.data.id",
                    style={"height": "70vh", "width": "100%"},
                ),
                id="table-box",
                hidden=True,
            ),
            html.Div(
                [_graph("roc", "ROC curve"), _graph("reliability", "Reliability")],
                id="curves",
                className="curves",
                hidden=True,
            ),
            dcc.Store(id="table-clicked"),
            dcc.Store(id="roc-clicked"),
        ],
        id="dash",
    )


def _columns() -> list[dict[str, Any]]:
    number = {"filter": "agNumberColumnFilter", "type": "rightAligned"}
    return [
        {"field": "picture", "headerName": "Picture", "cellRenderer": "GiemsaPicture", "sortable": False,
         "filter": False, "width": 90, "maxWidth": 90},
        {"field": "image", "headerName": "Name", "flex": 3, "minWidth": 160, "tooltipField": "image"},
        {"field": "verdict", "headerName": "Verdict", "cellRenderer": "GiemsaVerdict", "flex": 1, "minWidth": 150},
        {"field": "p_parasitized", "headerName": "p parasitized", "flex": 1, "minWidth": 165, **number,
         "valueFormatter": {"function": "giemsaProbability(params.value)"}},
        {"field": "novelty", "headerName": "Novelty", "flex": 1, "minWidth": 125, **number,
         "valueFormatter": {"function": "giemsaProbability(params.value)"}},
        {"field": "reason", "headerName": "Reason", "flex": 2, "minWidth": 160, "tooltipField": "reason"},
    ]  # fmt: skip


def _graph(name: str, title: str) -> Any:  # noqa: ANN401
    return html.Figure(
        [
            html.Figcaption(title, id=f"{name}-title"),
            dcc.Graph(
                id=name,
                figure={},
                config={"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"], "responsive": True},
                style={"height": "420px"},
            ),
        ]
    )


def _index() -> str:
    links = "".join(f'<a href="{page.path}" data-page="{page.name}">{page.title}</a>' for page in PAGES)
    template = (_HERE / "page.html").read_text(encoding="utf-8")
    return template.replace("<!-- pages -->", links).replace("{%disclaimer%}", escaping.escape(DISCLAIMER))


class _Pages:
    """An ASGI middleware that gives every address of `PAGES` the one page, which shows the part that is meant."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._paths = frozenset(page.path for page in PAGES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in self._paths:
            scope = {**scope, "path": "/", "raw_path": b"/"}
        await self.app(scope, receive, send)


def _add_examples(app: FastAPI) -> None:
    """Serve the drawn cells, and the drawn fields, each as one archive."""
    for path, folders in _EXAMPLES.items():
        folder = next((folder for folder in folders if folder.is_dir()), None)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for picture in sorted(folder.glob("*.[jp][pn]g")) if folder else ():
                archive.write(picture, picture.name)
        _serve(app, path, packed.getvalue(), "application/zip")


def _add_report_script(app: FastAPI) -> None:
    """Serve the script of a smear's report, which makes it live in the page too."""
    _serve(app, "/report.js", (_HERE.parent / "smear" / "report.js").read_bytes(), "text/javascript")


def _serve(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    async def answer() -> Response:
        return Response(content, media_type=media_type)

    app.add_api_route(path, answer, include_in_schema=False)


def _add_docs(app: FastAPI) -> None:
    """Serve Swagger UI, from a package instead of from its makers' server."""
    swagger = Path(str(resources.files("fastapi_offline"))) / "static"
    app.mount("/docs-assets", StaticFiles(directory=swagger), name="docs-assets")
    content = f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Giemsa {__version__}: API</title>
<link rel="icon" href="/assets/mark.svg"><link rel="stylesheet" href="/docs-assets/swagger-ui.css"></head>
<body><div id="swagger"></div><script src="/docs-assets/swagger-ui-bundle.js"></script>
<script src="/assets/docs.js"></script></body></html>"""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(content)
