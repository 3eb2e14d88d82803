"""Draw red blood cells, for the demo without a network, for tests and for pictures in the README.

    python examples/draw.py [FOLDER]            # default: cells/ beside this file

These are drawings: no patient's cell is in them, none may be called real, and no model is trained on them. What
they imitate was seen in the cut-outs of the Malaria Cell Images of the U.S. National Library of Medicine: a cell
on black, cut along a level set on a grid of 3 px; a soft edge that still shows the bright ground; stains from
salmon to grey-blue; a pale centre in some; the softness of a phone's JPEG; and, where there is a parasite, a thin
purple ring with a dark dot of chromatin, or the larger body of a trophozoite. Look-alikes have no parasite: platelets
beside the cell, and precipitate of the stain.

Each drawing has a seed of its own, made from its name, so that one can be changed and the others stay.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Colour = tuple[int, int, int]

SIDE_PX: Final = 240  # of the sheet that one cell is drawn on, before it is cut out
GRID_PX: Final = 3  # outlines of the cut-outs run along such a grid
MIDDLE: Final = SIDE_PX / 2


@dataclass(frozen=True)
class Stain:
    """The colours of one smear, RGB: its red cells, the ground they lie on, the pale centre, and parasites."""

    cell: Colour
    ground: Colour
    pallor: Colour
    chromatin: Colour
    cytoplasm: Colour


STAINS: Final = {
    "rose": Stain((187, 134, 148), (217, 178, 168), (208, 168, 166), (146, 8, 112), (152, 78, 134)),
    "magenta": Stain((180, 100, 145), (226, 172, 164), (192, 122, 153), (140, 0, 100), (148, 40, 120)),
    "salmon": Stain((212, 146, 140), (228, 184, 160), (220, 166, 152), (146, 4, 104), (168, 82, 120)),
    "apricot": Stain((208, 157, 145), (224, 186, 160), (216, 170, 150), (148, 10, 108), (170, 98, 128)),
    "beige": Stain((190, 162, 152), (224, 196, 170), (206, 180, 158), (138, 6, 116), (146, 100, 142)),
    "lilac": Stain((178, 165, 184), (202, 204, 202), (192, 184, 196), (140, 26, 166), (146, 108, 176)),
    "grey-blue": Stain((158, 162, 188), (196, 204, 200), (182, 186, 194), (128, 24, 168), (134, 104, 178)),
    "violet": Stain((136, 132, 174), (190, 192, 184), (180, 180, 178), (116, 18, 160), (112, 74, 164)),
}
PLATELET: Final = (150, 40, 172)
PRECIPITATE: Final = (88, 34, 88)
PIGMENT: Final = (104, 62, 58)


@dataclass
class Sheet:
    """One cell while it is being drawn.

    Attributes
    ----------
    rng : numpy.random.Generator
        The source of everything irregular.
    stain : Stain
        The colours.
    rgb : (240, 240, 3) ndarray of float32
        The picture so far, RGB, 0 to 255.
    body : (240, 240) ndarray of float32
        1 inside the red cell, 0 outside, hard.
    extra : (240, 240) ndarray of float32
        1 where something beside the cell belongs to the cut-out as well.
    radius_px : float
        The mean radius of the cell.
    """

    rng: np.random.Generator
    stain: Stain
    rgb: Plane
    body: Plane
    radius_px: float
    extra: Plane = field(default_factory=lambda: np.zeros((SIDE_PX, SIDE_PX), np.float32))


# ------------------------------------------------------------------------------------------------ the red cell


def red_cell(
    rng: np.random.Generator, stain: Stain, *, radius_px: float = 62, pallor: float = 0.0, torn: int = 0, tail: int = 0
) -> Sheet:
    """Lay out one red cell in the middle of the sheet.

    Parameters
    ----------
    rng : numpy.random.Generator
        The source of everything irregular.
    stain : Stain
        The colours.
    radius_px : float
        The mean radius.
    pallor : float
        How pale the centre is, 0 to 1.
    torn : int
        How many bites are missing from the rim.
    tail : int
        How many tails are drawn out of it.

    Returns
    -------
    Sheet
        With the cell on its ground, without grain yet.
    """
    body = _blob(rng, (MIDDLE, MIDDLE), radius_px, roughness=0.045, stretch=rng.uniform(0.84, 1.0))
    for angle in rng.uniform(0, 2 * np.pi, torn):
        away = radius_px * rng.uniform(0.85, 1.0)
        body *= 1 - _blob(rng, _polar(angle, away), radius_px * rng.uniform(0.25, 0.4), roughness=0.15)
    for angle in rng.uniform(0, 2 * np.pi, tail):
        _draw_tail(rng, body, angle, radius_px)

    depth = _depth(body)
    ground = np.empty((SIDE_PX, SIDE_PX, 3), np.float32)
    ground[:] = stain.ground
    sheet = Sheet(rng, stain, ground, body, radius_px)
    edge_px = rng.uniform(1.8, 3.0)
    _tint(sheet, stain.cell, _sigmoid((depth - 1.5 * edge_px) / edge_px))
    _shade_rim(sheet, depth)
    if pallor > 0:
        _make_pale(sheet, pallor)
    return sheet


def _draw_tail(rng: np.random.Generator, body: Plane, angle: float, radius_px: float) -> None:
    """Draw a bent tail out of the body, thinner towards its end."""
    bend = rng.uniform(-0.5, 0.5)
    for step in np.linspace(0.8, rng.uniform(1.25, 1.5), 30):
        x, y = _polar(angle + bend * (step - 0.8) * 2, radius_px * step)
        width = radius_px * 0.2 * (1.75 - step)
        cv2.circle(body, (round(x), round(y)), max(2, round(width)), 1.0, -1)


def _shade_rim(sheet: Sheet, depth: Plane) -> None:
    """Make the cell a little darker under its rim, where it is thickest, and uneven as thick things are."""
    ring = np.exp(-(((depth - 0.3 * sheet.radius_px) / (0.22 * sheet.radius_px)) ** 2)) * sheet.body
    _darken(sheet, ring * sheet.rng.uniform(0.01, 0.035))
    clouds = _clouds(sheet.rng, 26) * 0.016 + _clouds(sheet.rng, 8) * 0.007
    angle = sheet.rng.uniform(0, 2 * np.pi)
    x, y = _offsets((MIDDLE, MIDDLE))
    slope = (x * np.cos(angle) + y * np.sin(angle)) / MIDDLE * 0.03
    _darken(sheet, (clouds + slope).astype(np.float32))


def _make_pale(sheet: Sheet, strength: float) -> None:
    """Lighten the middle: a sharp-edged dent in some smears, a broad glow in others."""
    rng = sheet.rng
    at = (MIDDLE + rng.normal(0, 5), MIDDLE + rng.normal(0, 5))
    dent = _blob(rng, at, sheet.radius_px * rng.uniform(0.3, 0.42), roughness=0.05, stretch=rng.uniform(0.8, 1.0))
    _tint(sheet, sheet.stain.pallor, _soften(dent, rng.uniform(2.5, 9)) * strength)


# ------------------------------------------------------------------------------------------------ what may be in it


def add_ring(sheet: Sheet, *, away: float, angle: float | None = None, size_px: float = 13, dots: int = 1) -> None:
    """Put a ring-stage parasite into the cell.

    Parameters
    ----------
    sheet : Sheet
        Changed in place.
    away : float
        How far from the cell's middle, in cell radii.
    angle : float or None
        In which direction from there, in radians; None: any.
    size_px : float
        Radius of the ring.
    dots : int
        How many dots of chromatin sit on it.
    """
    rng, stain = sheet.rng, sheet.stain
    at = _polar(rng.uniform(0, 2 * np.pi) if angle is None else angle, away * sheet.radius_px)
    x, y = _offsets(at)
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(0.72, 0.95)
    u, v = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / stretch
    distance, around = np.hypot(u, v), np.arctan2(v, u)
    start = rng.uniform(0, 2 * np.pi)
    # The cytoplasm is thin beside the chromatin and thicker opposite, wavers, and fades here and there.
    thick_px = 1.5 + rng.uniform(0.8, 2.4) * (1 - np.cos(around - start)) / 2
    strength = np.clip(0.66 + 0.34 * np.cos(around - start + rng.uniform(1.2, 5)) + 0.14 * _clouds(rng, 5), 0.15, 1)
    wave = 1 + 0.07 * np.cos(2 * around + rng.uniform(0, 6)) + 0.05 * np.cos(3 * around + rng.uniform(0, 6))
    ring = np.exp(-(((distance - size_px * wave) / thick_px) ** 2)) * strength
    _tint(sheet, stain.pallor, _soften((distance < size_px * wave).astype(np.float32), 2.5) * rng.uniform(0.2, 0.5))
    _tint(sheet, stain.cytoplasm, _soften(ring, 1.3) * 0.95)
    for turn_on in start + np.array([0.0, rng.uniform(0.8, 1.5)])[:dots]:
        a, b = size_px * np.cos(turn_on), size_px * np.sin(turn_on) * stretch
        dot_at = (at[0] + a * np.cos(turn) - b * np.sin(turn), at[1] + a * np.sin(turn) + b * np.cos(turn))
        _add_chromatin(sheet, dot_at, rng.uniform(5.0, 6.4) if dots == 1 else rng.uniform(4.0, 5.0))


def add_trophozoite(sheet: Sheet, *, away: float, size_px: float = 21) -> None:
    """Put an older parasite into the cell: a solid, ragged body with a vacuole, chromatin and brown pigment."""
    rng, stain = sheet.rng, sheet.stain
    at = _polar(rng.uniform(0, 2 * np.pi), away * sheet.radius_px)
    body = _blob(rng, at, size_px, roughness=0.12, stretch=rng.uniform(0.65, 0.9))
    vacuole = _blob(rng, _near(rng, at, 0.3 * size_px), size_px * 0.32, roughness=0.1)
    grain = 1 + 0.16 * _clouds(rng, 3)
    _tint(sheet, stain.cytoplasm, np.clip(_soften(body * (1 - 0.75 * vacuole), 1.6) * 0.85 * grain, 0, 1))
    _add_chromatin(sheet, _near(rng, at, 0.55 * size_px), rng.uniform(6.5, 8.0))
    for _ in range(3):
        speck = _blob(rng, _near(rng, at, 0.3 * size_px), 1.8, roughness=0.2)
        _tint(sheet, PIGMENT, _soften(speck, 0.9) * 0.6)


def add_edge_form(sheet: Sheet) -> None:
    """Put a young parasite flat against the inside of the rim: a crescent with its chromatin on it."""
    rng = sheet.rng
    angle = rng.uniform(0, 2 * np.pi)
    depth = _depth(sheet.body)
    x, y = _offsets((MIDDLE, MIDDLE))
    beside = (np.arctan2(y, x) - angle + np.pi) % (2 * np.pi) - np.pi
    crescent = np.exp(-(((depth - 9) / 3.0) ** 2) - (beside / 0.22) ** 2)
    _tint(sheet, sheet.stain.cytoplasm, _soften(crescent, 0.8) * 0.95)
    along = depth + 1000 * (np.abs(beside) > 0.03) + 1000 * (depth < 1)
    row, column = np.unravel_index(np.argmin(np.abs(along - 10)), along.shape)
    _add_chromatin(sheet, (float(column), float(row)), rng.uniform(5.5, 7.0))


def _add_chromatin(sheet: Sheet, at: tuple[float, float], radius_px: float) -> None:
    rng = sheet.rng
    dot = _blob(rng, at, radius_px, roughness=0.12, stretch=rng.uniform(0.65, 0.95))
    _tint(sheet, sheet.stain.cytoplasm, _soften(dot, 3.0) * 0.6)
    _tint(sheet, sheet.stain.chromatin, np.clip(_soften(dot, 1.5) * (0.98 + 0.06 * _clouds(rng, 2)), 0, 1))


# ------------------------------------------------------------------------------------------------ what is not


def add_platelet(sheet: Sheet, *, angle: float | None = None, size_px: float = 15) -> None:
    """Lay a platelet beside the cell, with the pale halo that keeps the two apart; the cut-out takes it along."""
    rng = sheet.rng
    angle = rng.uniform(0, 2 * np.pi) if angle is None else angle
    reach = np.flatnonzero([sheet.body[_pixel(_polar(angle, r))] > 0 for r in range(int(MIDDLE) - 1)])[-1]
    at = _polar(angle, reach + size_px * rng.uniform(0.8, 1.0))
    shape = _blob(rng, at, size_px, roughness=0.07, stretch=rng.uniform(0.85, 1.0))
    halo = _blob(rng, at, size_px + 7, roughness=0.06)
    _tint(sheet, tuple(min(255, c + 12) for c in sheet.stain.ground), _soften(halo, 3.5) * 0.9)
    grain = 1 + 0.05 * _clouds(rng, 3)
    _tint(sheet, PLATELET, np.clip(_soften(shape, 2.0) * 0.97 * grain, 0, 1))
    # The level set follows the platelet more tightly than the cell, and cuts into it here and there.
    cover = _blob(rng, at, size_px + 1, roughness=0.12)
    bridge = np.zeros_like(cover)
    start, stop = (tuple(round(c) for c in _polar(angle, r)) for r in (reach - 8, reach + size_px * 0.8))
    cv2.line(bridge, start, stop, 1.0, round(size_px * 1.3))
    sheet.extra[:] = np.maximum(sheet.extra, np.maximum(cover, bridge))


def add_precipitate(sheet: Sheet, *, grains: int = 3) -> None:
    """Scatter grains and splinters of dried stain over the cell: small, dark, hard, without ring or body."""
    rng = sheet.rng
    for _ in range(grains):
        at = _polar(rng.uniform(0, 2 * np.pi), sheet.radius_px * rng.uniform(0.1, 0.75))
        turn, long_px = rng.uniform(0, np.pi), rng.uniform(2.0, 5.0)
        x, y = _offsets(at)
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        splinter = (np.abs(v) < 1.5 * (1 - u / long_px) / 2) & (np.abs(u) < long_px)  # pointed at one end
        _tint(sheet, PRECIPITATE, _soften(splinter.astype(np.float32), 0.9) * rng.uniform(0.6, 0.9))


def add_smudge(sheet: Sheet) -> None:
    """Leave a grey shadow on the cell: dirt far out of focus."""
    rng = sheet.rng
    at = _polar(rng.uniform(0, 2 * np.pi), sheet.radius_px * rng.uniform(0.3, 0.6))
    shadow = _blob(rng, at, rng.uniform(7, 10), roughness=0.1, stretch=0.5)
    _darken(sheet, _soften(shadow, 4.5) * 0.5)


# ------------------------------------------------------------------------------------------------ the photograph


def cut_out(sheet: Sheet) -> NDArray[np.uint8]:
    """Photograph the sheet and cut the cell out, as the segmentation of the real ones did.

    Returns
    -------
    (H, W, 3) ndarray of uint8
        RGB; black outside of the outline, which touches all four sides.
    """
    rng = sheet.rng
    rgb = sheet.rgb
    for channel in range(3):  # the sensor's grain, smoothed by the phone
        rgb[..., channel] += _soften(rng.normal(0, 1, rgb.shape[:2]).astype(np.float32), 0.9) * 4.2
    rgb += (_soften(rng.normal(0, 1, rgb.shape[:2]).astype(np.float32), 0.7) * 3.0)[..., None]
    ycc = np.asarray(cv2.cvtColor(np.clip(rgb / 255, 0, 1).astype(np.float32), cv2.COLOR_RGB2YCrCb), np.float32)
    ycc[..., 0] = _soften(ycc[..., 0], 0.6)
    ycc[..., 1:] = cv2.GaussianBlur(ycc[..., 1:], (0, 0), 1.3)  # JPEG keeps colour at half the resolution
    picture = np.clip(np.rint(cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB) * 255), 1, 255).astype(np.uint8)

    keep = _outline(sheet)
    picture[~keep] = 0
    rows, columns = np.flatnonzero(keep.any(1)), np.flatnonzero(keep.any(0))
    return np.ascontiguousarray(picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _outline(sheet: Sheet) -> NDArray[np.bool_]:
    """Cut along a level set found at a third of the resolution, a little outside of the cell and never smooth."""
    wobble = _clouds(sheet.rng, 7) * 1.1
    signed = _depth(np.maximum(sheet.body, sheet.extra)) - _depth(1 - np.maximum(sheet.body, sheet.extra))
    coarse = (signed + wobble > -0.5)[GRID_PX // 2 :: GRID_PX, GRID_PX // 2 :: GRID_PX].astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(coarse, connectivity=4)
    largest = 1 + int(np.argmax(stats[1:count, cv2.CC_STAT_AREA]))
    return np.kron(parts == largest, np.ones((GRID_PX, GRID_PX), bool))


# ------------------------------------------------------------------------------------------------ small tools


def _offsets(at: tuple[float, float]) -> tuple[Plane, Plane]:
    """Distances of every pixel from a point, in x and in y."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
    return x - np.float32(at[0]), y - np.float32(at[1])


def _polar(angle: float, away: float) -> tuple[float, float]:
    return MIDDLE + away * float(np.cos(angle)), MIDDLE + away * float(np.sin(angle))


def _near(rng: np.random.Generator, at: tuple[float, float], away: float) -> tuple[float, float]:
    angle = rng.uniform(0, 2 * np.pi)
    return at[0] + away * float(np.cos(angle)), at[1] + away * float(np.sin(angle))


def _pixel(at: tuple[float, float]) -> tuple[int, int]:
    return round(at[1]), round(at[0])


def _blob(
    rng: np.random.Generator, at: tuple[float, float], radius_px: float, *, roughness: float, stretch: float = 1.0
) -> Plane:
    """Fill a round, irregular shape: a circle whose radius wavers in a few slow waves."""
    x, y = _offsets(at)
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / stretch
    angle = np.arctan2(v, u)
    wave = sum(rng.normal(0, roughness / (k - 1)) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 7))
    return np.asarray(np.hypot(u, v) < radius_px * (1 + wave), np.float32)


def _clouds(rng: np.random.Generator, scale_px: float) -> Plane:
    """Smooth noise of mean 0 and spread 1."""
    noise = _soften(rng.normal(0, 1, (SIDE_PX, SIDE_PX)).astype(np.float32), scale_px)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def _soften(plane: Plane, sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(np.asarray(plane, np.float32), (0, 0), sigma_px), np.float32)


def _depth(mask: Plane) -> Plane:
    """Distance of every pixel inside of a mask from its edge, in pixels; 0 outside."""
    return np.asarray(cv2.distanceTransform((mask > 0).astype(np.uint8), cv2.DIST_L2, 5), np.float32)


def _sigmoid(x: Plane) -> Plane:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


def _tint(sheet: Sheet, colour: tuple[int, ...], strength: Plane) -> None:
    sheet.rgb += (np.asarray(colour, np.float32) - sheet.rgb) * np.asarray(strength, np.float32)[..., None]


def _darken(sheet: Sheet, density: Plane) -> None:
    sheet.rgb *= np.exp(-np.asarray(density, np.float32))[..., None]


# ------------------------------------------------------------------------------------------------ the collection


def _plain(stain: str, **how: float) -> Callable[[np.random.Generator], Sheet]:
    return lambda rng: red_cell(rng, STAINS[stain], **how)  # type: ignore[arg-type]


def _with(stain: str, *additions: Callable[[Sheet], None], **how: float) -> Callable[[np.random.Generator], Sheet]:
    def draw(rng: np.random.Generator) -> Sheet:
        sheet = _plain(stain, **how)(rng)
        for add in additions:
            add(sheet)
        return sheet

    return draw


def _ring(away: float, **how: float) -> Callable[[Sheet], None]:
    return lambda sheet: add_ring(sheet, away=away, **how)  # type: ignore[arg-type]


def _trophozoite(away: float, **how: float) -> Callable[[Sheet], None]:
    return lambda sheet: add_trophozoite(sheet, away=away, **how)


def _platelet(angle: float, **how: float) -> Callable[[Sheet], None]:
    return lambda sheet: add_platelet(sheet, angle=angle, **how)


def _precipitate(grains: int) -> Callable[[Sheet], None]:
    return lambda sheet: add_precipitate(sheet, grains=grains)


DRAWINGS: Final[dict[str, Callable[[np.random.Generator], Sheet]]] = {
    "drawn_parasitized_ring_01": _with("salmon", _ring(0.45)),
    "drawn_parasitized_ring_02": _with("lilac", _ring(0.3), radius_px=58),
    "drawn_parasitized_ring_03": _with("rose", _ring(0.5, size_px=14), radius_px=66, pallor=0.7),
    "drawn_parasitized_ring_04": _with("grey-blue", _ring(0.4, dots=2), radius_px=55),
    "drawn_parasitized_ring_05": _with("magenta", _ring(0.35, size_px=15), radius_px=68),
    "drawn_parasitized_ring_06": _with("beige", _ring(0.55, size_px=12), radius_px=60, torn=1),
    "drawn_parasitized_edge_form_01": _with("apricot", add_edge_form, radius_px=64),
    "drawn_parasitized_edge_form_02": _with("violet", add_edge_form, radius_px=56),
    "drawn_parasitized_several_rings_01": _with(
        "apricot", _ring(0.5, angle=1.0), _ring(0.4, angle=3.6, size_px=12), radius_px=66
    ),
    "drawn_parasitized_several_rings_02": _with(
        "violet", _ring(0.55, angle=5.5, size_px=11), _ring(0.45, angle=2.0), radius_px=60
    ),
    "drawn_parasitized_several_rings_03": _with(
        "rose",
        _ring(0.6, angle=4.0, size_px=11),
        _ring(0.55, angle=0.3),
        _ring(0.4, angle=2.0, size_px=11),
        radius_px=70,
    ),
    "drawn_parasitized_trophozoite_01": _with("rose", _trophozoite(0.2), radius_px=60),
    "drawn_parasitized_trophozoite_02": _with("lilac", _trophozoite(0.35, size_px=19), radius_px=62),
    "drawn_parasitized_trophozoite_03": _with("salmon", _trophozoite(0.3, size_px=24), radius_px=64, torn=1),
    "drawn_parasitized_trophozoite_04": _with("grey-blue", _trophozoite(0.25, size_px=22), radius_px=58),
    "drawn_uninfected_plain_01": _plain("salmon", radius_px=64),
    "drawn_uninfected_plain_02": _plain("lilac", radius_px=60),
    "drawn_uninfected_plain_03": _plain("grey-blue", radius_px=52),
    "drawn_uninfected_plain_04": _plain("magenta", radius_px=62),
    "drawn_uninfected_plain_05": _plain("beige", radius_px=72),
    "drawn_uninfected_pale_centre_01": _plain("rose", radius_px=58, pallor=0.9),
    "drawn_uninfected_pale_centre_02": _plain("violet", radius_px=56, pallor=1.0),
    "drawn_uninfected_pale_centre_03": _plain("beige", radius_px=60, pallor=0.8),
    "drawn_uninfected_torn_01": _plain("salmon", radius_px=60, torn=2, tail=1),
    "drawn_uninfected_torn_02": _plain("grey-blue", radius_px=54, torn=2),
    "drawn_uninfected_torn_03": _plain("apricot", radius_px=58, tail=2),
    "drawn_uninfected_platelet_01": _with("lilac", add_platelet, radius_px=58),
    "drawn_uninfected_platelet_02": _with("rose", add_platelet, radius_px=56, pallor=0.5),
    "drawn_uninfected_platelet_03": _with("grey-blue", _platelet(0.4), _platelet(3.0, size_px=13), radius_px=56),
    "drawn_uninfected_precipitate_01": _with("lilac", _precipitate(3), radius_px=60),
    "drawn_uninfected_precipitate_02": _with("apricot", _precipitate(2), radius_px=66),
    "drawn_uninfected_smudge_01": _with("violet", add_smudge, radius_px=60),
}


def draw(name: str) -> NDArray[np.uint8]:
    """Draw one cell of the collection.

    Parameters
    ----------
    name : str
        One of `DRAWINGS`; it says what the cell is and shows.

    Returns
    -------
    (H, W, 3) ndarray of uint8
        RGB on black; the same each time.
    """
    return cut_out(DRAWINGS[name](np.random.default_rng(zlib.crc32(name.encode()))))


def draw_all() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Draw the whole collection, one name and picture after the other."""
    for name in DRAWINGS:
        yield name, draw(name)


def main(folder: Path) -> None:
    """Write the collection as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rgb in draw_all():
        done, png = cv2.imencode(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        assert done
        (folder / f"{name}.png").write_bytes(png.tobytes())
    print(f"{len(DRAWINGS)} drawn cells are in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("cells"))
