"""Draw whole fields of a smear, for tests, for the demo without a network and for pictures in the documentation.

    python examples/draw_field.py [FOLDER]            # default: fields/ beside this file

Drawings, like the cells of `draw.py`, of which they consist: no patient's cell is in them, and no model is trained on
them. Cells take light away, as real ones do: a field is its ground times what each cell lets through, so that
overlapping cells are darker. What was drawn where stands in `annotations.json`, boxes with ends exclusive.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import draw as drawing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

WIDTH_PX, HEIGHT_PX = 1280, 960
_SHEET_RADIUS_PX: Final = 62  # of a cell on the sheet that it is drawn on


@dataclass(frozen=True)
class FieldPlan:
    """What a drawn field shows.

    Attributes
    ----------
    stain : str
        One of `draw.STAINS`.
    cells, infected : int
        Red cells, and how many of them carry a parasite.
    diameter_px : float
        Of the typical red cell.
    white_cells, platelets : int
        What else lies there.
    crowd : float
        How near to each other cells may lie, in diameters.
    """

    stain: str
    cells: int
    infected: int
    diameter_px: float = 76
    white_cells: int = 0
    platelets: int = 3
    crowd: float = 1.06


PLANS: Final = {
    "drawn_field_01": FieldPlan("rose", cells=90, infected=3, white_cells=1),
    "drawn_field_02": FieldPlan("rose", cells=80, infected=1, platelets=5),
    "drawn_field_03": FieldPlan("rose", cells=85, infected=2),
}


def draw_field(plan: FieldPlan, seed: int) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """Draw one field.

    Parameters
    ----------
    plan : FieldPlan
        What it shows.
    seed : int
        The same seed draws the same field.

    Returns
    -------
    rgb : (960, 1280, 3) ndarray of uint8
        The photograph.
    objects : list of dict
        `category` (`red blood cell` or `ring` or `trophozoite`), `x0`, `y0`, `x1`, `y1`.
    """
    rng = np.random.default_rng(seed)
    stain = drawing.STAINS[plan.stain]
    light = np.ones((HEIGHT_PX, WIDTH_PX, 3), np.float32)
    objects: list[dict[str, Any]] = []
    places = _places(rng, plan)
    for index, at in enumerate(places[: plan.cells]):
        sheet = drawing.red_cell(
            rng, stain, radius_px=_SHEET_RADIUS_PX * rng.normal(1, 0.05), pallor=rng.uniform(0, 0.8)
        )
        category = "red blood cell"
        if index < plan.infected:
            category = ("ring", "trophozoite")[index % 2]
            if category == "ring":
                drawing.add_ring(sheet, away=rng.uniform(0.2, 0.5), size_px=rng.uniform(13, 16))
            else:
                drawing.add_trophozoite(sheet, away=rng.uniform(0.1, 0.3), size_px=rng.uniform(20, 25))
        box = _lay(light, sheet, at, plan.diameter_px / (2 * _SHEET_RADIUS_PX))
        objects.append({"category": category, **box})
    for at in places[plan.cells : plan.cells + plan.white_cells]:
        objects.append({"category": "white blood cell", **_lay_white_cell(light, rng, at, plan.diameter_px)})
    for _ in range(plan.platelets):
        _lay_platelet(light, rng, plan.diameter_px)
    objects.sort(key=lambda one: (one["y0"], one["x0"]))
    return _photograph(rng, light, stain), objects


def _places(rng: np.random.Generator, plan: FieldPlan) -> list[tuple[float, float]]:
    """Find places for all cells that keep their distance, white cells' a larger one; infected ones off the border."""
    white: list[tuple[float, float]] = []
    red: list[tuple[float, float]] = []
    for _ in range(20_000):
        if len(white) < plan.white_cells:
            inside, found, apart = plan.diameter_px, white, 1.8 * plan.diameter_px
        elif len(red) < plan.cells:
            inside, found = plan.diameter_px if len(red) < plan.infected else 0.0, red
            apart = plan.crowd * plan.diameter_px
        else:
            return red + white
        at = (rng.uniform(inside, WIDTH_PX - inside), rng.uniform(inside, HEIGHT_PX - inside))
        free = all(np.hypot(at[0] - x, at[1] - y) > 1.4 * plan.diameter_px for x, y in white)
        if free and all(np.hypot(at[0] - x, at[1] - y) > apart for x, y in found):
            found.append(at)
    raise ValueError(f"{plan.cells} cells of {plan.diameter_px} px do not fit into {WIDTH_PX} x {HEIGHT_PX} px")


def _lay(light: Plane, sheet: drawing.Sheet, at: tuple[float, float], scale: float) -> dict[str, int]:
    """Lay a cell onto the field; its box."""
    through = np.clip(sheet.rgb / np.asarray(sheet.stain.ground, np.float32), 0.02, 1.2)
    faded = drawing._soften(sheet.body, 6)[..., np.newaxis]  # the sheet's own unevenness ends where the cell ends
    through = 1 + (through - 1) * np.clip(faded * 2, 0, 1)
    side = round(drawing.SIDE_PX * scale)
    small = cv2.resize(through, (side, side), interpolation=cv2.INTER_AREA)
    body = cv2.resize(sheet.body, (side, side), interpolation=cv2.INTER_AREA) > 0.5
    left, top = round(at[0] - side / 2), round(at[1] - side / 2)
    _multiply(light, small, left, top)
    rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
    limits = (WIDTH_PX, HEIGHT_PX, WIDTH_PX, HEIGHT_PX)
    return {name: int(np.clip(v, 0, most)) for name, v, most in zip(("x0", "y0", "x1", "y1"), box, limits, strict=True)}


def _lay_white_cell(
    light: Plane, rng: np.random.Generator, at: tuple[float, float], diameter_px: float
) -> dict[str, int]:
    radius = 0.85 * diameter_px
    body = _disc(at, radius, 2.0)
    light *= 1 - body[..., np.newaxis] * np.array([0.12, 0.16, 0.05], np.float32)
    for _ in range(3):
        lobe = (at[0] + rng.normal(0, 0.3 * radius), at[1] + rng.normal(0, 0.3 * radius))
        nucleus = _disc(lobe, 0.42 * radius, 2.0)
        light *= 1 - nucleus[..., np.newaxis] * np.array([0.5, 0.72, 0.28], np.float32)
    x0, y0, x1, y1 = (round(v) for v in (at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius))
    return {"x0": x0, "y0": y0, "x1": x1, "y1": y1}


def _lay_platelet(light: Plane, rng: np.random.Generator, diameter_px: float) -> None:
    radius = rng.uniform(0.1, 0.16) * diameter_px
    at = (rng.uniform(50, WIDTH_PX - 50), rng.uniform(50, HEIGHT_PX - 50))
    body = _disc(at, radius, 1.5)
    light *= 1 - body[..., np.newaxis] * np.array([0.3, 0.6, 0.15], np.float32)


def _disc(at: tuple[float, float], radius_px: float, soft_px: float) -> Plane:
    """Fill a circle with a soft edge, 0 to 1, over the whole field."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(np.float32)
    return np.asarray(
        1 / (1 + np.exp(np.clip((np.hypot(x - at[0], y - at[1]) - radius_px) / soft_px, -50, 50))), np.float32
    )


def _multiply(light: Plane, part: Plane, left: int, top: int) -> None:
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(WIDTH_PX, left + part.shape[1]), min(HEIGHT_PX, top + part.shape[0])
    if x1 > x0 and y1 > y0:
        light[y0:y1, x0:x1] *= part[y0 - top : y1 - top, x0 - left : x1 - left]


def _photograph(rng: np.random.Generator, light: Plane, stain: drawing.Stain) -> NDArray[np.uint8]:
    """Light the field unevenly, and photograph it with grain."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(np.float32)
    away = np.hypot((x - WIDTH_PX * 0.45) / WIDTH_PX, (y - HEIGHT_PX * 0.55) / HEIGHT_PX)
    rgb = light * np.asarray(stain.ground, np.float32) * (1.06 - 0.22 * away**2)[..., np.newaxis]
    rgb = cv2.GaussianBlur(rgb, (0, 0), 0.8)
    grain = rng.normal(0, 1, rgb.shape).astype(np.float32)
    return np.clip(np.rint(rgb + cv2.GaussianBlur(grain, (0, 0), 0.7) * 4), 0, 255).astype(np.uint8)


def main(folder: Path) -> None:
    """Write the fields as JPEG files, and what is in them."""
    folder.mkdir(parents=True, exist_ok=True)
    annotations = []
    for seed, (name, plan) in enumerate(PLANS.items(), start=1):
        rgb, objects = draw_field(plan, seed)
        done, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        assert done
        (folder / f"{name}.jpg").write_bytes(jpeg.tobytes())
        annotations.append({"image": f"{name}.jpg", "width": WIDTH_PX, "height": HEIGHT_PX, "objects": objects})
    (folder / "annotations.json").write_text(json.dumps(annotations) + "\n", encoding="utf-8")
    print(f"{len(PLANS)} drawn fields are in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("fields"))
