"""Cells dropped on a Dash page to verdicts, how sure they are, and where the model sees what.

pip install giemsa dash
python examples/apps/dash_app.py [--port 8050]
"""

from __future__ import annotations

import argparse
import base64
from io import BytesIO
from typing import Any

import numpy as np
from dash import Dash, Input, Output, State, dcc, html
from PIL import Image

import giemsa

SHOWN_PX = 160
classifier = giemsa.load()
app = Dash(__name__, title="Giemsa")
app.layout = html.Main(
    [
        html.H1("Is a malaria parasite in these cells?"),
        dcc.Upload(html.Button("Choose pictures of single red blood cells", id="choose"), id="cells", multiple=True),
        html.Div(id="verdicts", style={"display": "flex", "flexWrap": "wrap", "gap": "1rem", "margin": "1rem 0"}),
        html.Strong(giemsa.DISCLAIMER),
    ],
    style={"fontFamily": "system-ui, sans-serif", "maxWidth": "60rem", "margin": "2rem auto"},
)


@app.callback(Output("verdicts", "children"), Input("cells", "contents"), State("cells", "filename"))
def judge(contents: list[str] | None, names: list[str] | None) -> list[Any]:
    """One card for each picture, in their order."""
    pictures = [base64.b64decode(content.partition(",")[2]) for content in contents or []]
    examined = classifier.examine(pictures, evidence=True, shown_px=SHOWN_PX)
    return [card(name, one) for name, one in zip(names or [], examined, strict=True)]


def card(name: str, one: Any) -> html.Figure:  # noqa: ANN401
    """A picture with its evidence, its verdict in words, and the calibrated probability."""
    verdict, parts = one.verdict, []
    if one.shown is not None:
        parts.append(html.Img(src=as_uri(with_evidence(one.shown, one.evidence)), alt=f"{name}, with the evidence"))
    sure = f"p parasitized {verdict.p_parasitized:.4f}" if verdict.p_parasitized is not None else verdict.reason
    parts.append(html.Figcaption([html.B(verdict.verdict.replace("_", " ")), html.Br(), sure, html.Br(), name]))
    return html.Figure(parts, className="cell", style={"margin": 0, "width": f"{SHOWN_PX}px"})


def with_evidence(rgb: np.ndarray, evidence: np.ndarray | None) -> Image.Image:
    """The picture, orange where something speaks for a parasite and blue where it speaks against one."""
    picture = Image.fromarray(rgb)
    if evidence is None:
        return picture
    strength = np.clip(np.abs(evidence) / max(float(np.abs(evidence).max()), 1e-6), 0, 1)
    colour = np.where((evidence > 0)[..., np.newaxis], (255, 106, 0), (0, 114, 178)).astype(np.uint8)
    mask = Image.fromarray((140 * strength).astype(np.uint8)).resize(picture.size)
    return Image.composite(Image.fromarray(colour).resize(picture.size), picture, mask)


def as_uri(picture: Image.Image) -> str:
    """A picture as the source of an HTML image."""
    packed = BytesIO()
    picture.save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8050)
    app.run(port=parser.parse_args().port)
