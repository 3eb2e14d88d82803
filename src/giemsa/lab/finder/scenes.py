"""Drawn scenes: pieces of fields set together, with single cells laid over them, and stained, lit and blurred otherwise.

Densities add where cells overlap, so that a cell laid over another looks as two cells do. Infected cells are NIH's, and
red cells of any laboratory with what *P. vivax* does to them: larger, paler, of another colour and shape, stippled, filled
with an amoeboid parasite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from giemsa.lab.finder.fields import PLATELET, RED, STORED_PX, WHITE
from giemsa.smear.finding import CLIP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from giemsa.lab.finder.cutouts import Cutout
    from giemsa.lab.finder.fields import Field

    Planes = NDArray[np.float32]

CELL_PX: Final = 16
"""What a typical red cell measures in the network's input."""
SCENE_PX: Final = 128
_JITTER: Final = 0.3  # of the scale's logarithm, either way
_DRAWN_SHARE: Final = 0.4
_PARTLY_SHARE: Final = 0.15
_PURPLE: Final = np.array([0.8, 1.25, 0.7], np.float32)  # nuclei take up azure and eosin: green is absorbed most


@dataclass(frozen=True)
class Material:
    """What scenes are drawn from.

    Attributes
    ----------
    boxed, partly : list of Field
        Fields that are labelled completely, and those that are not.
    red : list of list of Cutout
        Red cells, a list for each photograph or laboratory, healthy and infected.
    white, platelets : list of Cutout
        What is no red cell.
    """

    boxed: list[Field]
    partly: list[Field]
    red: list[list[Cutout]]
    white: list[Cutout]
    platelets: list[Cutout]


class Scene:
    """A scene while it is drawn; `density` [S, S, 3], `known` [S, S], boxes and kinds of what lies in it."""

    def __init__(self, scale: float) -> None:
        self.scale = scale  # pixels of the scene per pixel of a stored field
        self.density = np.zeros((SCENE_PX, SCENE_PX, 3), np.float32)
        self.known = np.ones((SCENE_PX, SCENE_PX), bool)
        self.boxes: list[tuple[float, float, float, float]] = []
        self.kinds: list[int] = []

    @property
    def cell_px(self) -> float:
        """A typical red cell's diameter."""
        return STORED_PX * self.scale


def draw(material: Material, rng: np.random.Generator) -> tuple[Planes, NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """One scene: float32 [S, S, 3], boxes [N, 4], kinds [N], and where they are known, bool [S, S]."""
    scene = Scene(CELL_PX / STORED_PX * float(np.exp(rng.uniform(-_JITTER, _JITTER))))
    choice = rng.random()
    pool = material.red[rng.integers(len(material.red))]
    if choice < _DRAWN_SHARE:
        _crowd(scene, pool, rng)
    else:
        fields = material.partly if choice < _DRAWN_SHARE + _PARTLY_SHARE else material.boxed
        _mosaic(scene, fields, rng)
        for _ in range(rng.poisson(2)):
            _lay(scene, pool[rng.integers(len(pool))], rng)
    for _ in range(rng.poisson(0.25)):
        _lay(scene, material.white[rng.integers(len(material.white))], rng)
    for _ in range(rng.poisson(1.5)):
        _lay(scene, material.platelets[rng.integers(len(material.platelets))], rng)
    for _ in range(rng.poisson(0.7)):
        _precipitate(scene, rng)
    _paler_and_stippled(scene, rng)
    density = _stained_otherwise(scene.density, rng)
    return density, np.array(scene.boxes, np.float32).reshape(-1, 4), np.array(scene.kinds, np.int64), scene.known


def _mosaic(scene: Scene, fields: list[Field], rng: np.random.Generator) -> None:
    """Set pieces of fields side by side, each turned its own way; what a seam cuts is cut as by a border."""
    right_of, below = int(rng.integers(SCENE_PX // 4, SCENE_PX)), int(rng.integers(SCENE_PX // 4, SCENE_PX))
    for top, bottom in ((0, below), (below, SCENE_PX)):
        for left, right in ((0, right_of), (right_of, SCENE_PX)):
            at, ends = [left, top], [right, bottom]
            while at[1] < ends[1]:  # a field that is smaller than its place is followed by others
                x, lowest = at[0], ends[1]
                while x < ends[0]:
                    wide, high = _tile(scene, fields[rng.integers(len(fields))], (x, at[1], ends[0], ends[1]), rng)
                    x, lowest = x + wide, min(lowest, at[1] + high)
                at[1] = lowest


def _tile(scene: Scene, field: Field, place: tuple[int, int, int, int], rng: np.random.Generator) -> tuple[int, int]:
    density, known, boxes = field.density, field.known, field.boxes
    for _ in range(rng.integers(4)):
        side = density.shape[1]
        density, known = np.rot90(density), np.rot90(known)
        boxes = np.stack([boxes[:, 1], side - boxes[:, 2], boxes[:, 3], side - boxes[:, 0]], axis=1)
    if rng.random() < 0.5:
        side = density.shape[1]
        density, known = density[:, ::-1], known[:, ::-1]
        boxes = np.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], axis=1)
    stretch = float(np.exp(rng.uniform(-0.1, 0.1)))
    across, down = scene.scale * stretch, scene.scale / stretch
    size = (max(4, int(density.shape[1] * across)), max(4, int(density.shape[0] * down)))
    wide, high = min(size[0], place[2] - place[0]), min(size[1], place[3] - place[1])
    x, y = int(rng.integers(size[0] - wide + 1)), int(rng.integers(size[1] - high + 1))
    window = np.s_[place[1] : place[1] + high, place[0] : place[0] + wide]
    small = cv2.resize(np.ascontiguousarray(density), size, interpolation=cv2.INTER_AREA)
    sure = cv2.resize(np.ascontiguousarray(known).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    scene.density[window] = small[y : y + high, x : x + wide] * float(np.exp(rng.normal(0, 0.12)))
    scene.known[window] = sure[y : y + high, x : x + wide] > 0
    whole = boxes * (across, down, across, down) - (x, y, x, y)
    clipped = np.clip(whole, 0, (wide, high, wide, high))
    for box, kind in zip(clipped, field.kinds, strict=True):
        x0, y0, x1, y1 = (float(v) for v in box)
        if x1 - x0 < 1 or y1 - y0 < 1:
            continue
        if min(x1 - x0, y1 - y0) < (1.5 if kind == PLATELET else 0.2 * scene.cell_px):
            scene.known[place[1] + int(y0) : place[1] + int(y1) + 1, place[0] + int(x0) : place[0] + int(x1) + 1] = False
            continue
        scene.boxes.append((x0 + place[0], y0 + place[1], x1 + place[0], y1 + place[1]))
        scene.kinds.append(int(kind))
    return wide, high


def _crowd(scene: Scene, pool: list[Cutout], rng: np.random.Generator) -> None:
    """Strew red cells of one photograph over empty ground, from few to crowded, with clumps."""
    wanted = int(rng.uniform(0.05, 1.0) * (SCENE_PX / scene.cell_px) ** 2)
    closest = rng.uniform(0.45, 1.0)
    clumps = rng.random() < 0.5
    for _ in range(wanted):
        _lay(scene, pool[rng.integers(len(pool))], rng, closest=closest, beside=clumps and rng.random() < 0.6)


def _lay(scene: Scene, cutout: Cutout, rng: np.random.Generator, *, closest: float = 0.5, beside: bool = False) -> None:
    """Lay a single thing into a scene, turned and altered, not too near to another one's middle."""
    density, alpha = cutout.density, cutout.alpha
    size = float(np.exp(rng.normal(0, 0.08)))
    if cutout.kind == RED:
        odd = rng.random() < (0.5 if cutout.infected else 0.15)
        if odd:
            size *= float(np.exp(rng.uniform(-0.1, 0.45)))
            density = _as_vivax_does(density, alpha, rng)
        stretch = float(np.exp(rng.normal(0, 0.18 if odd else 0.06)))
    else:
        stretch = float(np.exp(rng.normal(0, 0.1)))
        density = density * np.exp(rng.normal(0, 0.2, 3)).astype(np.float32)
        size *= float(np.exp(rng.uniform(-0.3, 0.3))) if cutout.kind == PLATELET else 1.0
    turn = rng.uniform(0, 2 * np.pi)
    across, down = scene.scale * size * stretch, scene.scale * size / stretch
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos * across, -sin * across], [sin * down, cos * down]])
    if rng.random() < 0.5:
        matrix[:, 0] *= -1
    reach = int(np.ceil(np.abs(matrix).sum(axis=1).max() * max(alpha.shape) / 2)) + 1
    move = np.hstack([matrix, (reach - matrix @ (np.array(alpha.shape[::-1]) / 2))[:, np.newaxis]])
    patch = cv2.warpAffine(density, move, (2 * reach, 2 * reach), flags=cv2.INTER_LINEAR)
    inside = cv2.warpAffine(alpha, move, (2 * reach, 2 * reach), flags=cv2.INTER_LINEAR) > 0.5
    if not inside.any():
        return
    place = _place(scene, cutout.kind, rng, closest, beside=beside)
    if place is None:
        return
    left, top = round(place[0]) - reach, round(place[1]) - reach
    x0, y0, x1, y1 = max(0, left), max(0, top), min(SCENE_PX, left + 2 * reach), min(SCENE_PX, top + 2 * reach)
    if x1 <= x0 or y1 <= y0:
        return
    part = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    seen = inside[part]
    if seen.sum() < 0.15 * inside.sum():
        return
    scene.density[y0:y1, x0:x1] += patch[part]
    scene.known[y0:y1, x0:x1] |= seen
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    scene.boxes.append((float(x0 + columns[0]), float(y0 + rows[0]), float(x0 + columns[-1] + 1), float(y0 + rows[-1] + 1)))
    scene.kinds.append(cutout.kind)


def _place(
    scene: Scene, kind: int, rng: np.random.Generator, closest: float, *, beside: bool
) -> tuple[float, float] | None:
    boxes = np.array([b for b, k in zip(scene.boxes, scene.kinds, strict=True) if k != PLATELET]).reshape(-1, 4)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    apart = {PLATELET: 0.3, RED: closest, WHITE: 1.0}[kind] * scene.cell_px
    for _ in range(6):
        if beside and len(middles):
            turn = rng.uniform(0, 2 * np.pi)
            away = rng.uniform(closest, 1.1) * scene.cell_px
            at = middles[rng.integers(len(middles))] + away * np.array([np.cos(turn), np.sin(turn)])
        else:
            at = rng.uniform(-0.3 * scene.cell_px, SCENE_PX + 0.3 * scene.cell_px, 2)
        if not len(middles) or np.hypot(*(middles - at).T).min() > apart:
            return float(at[0]), float(at[1])
    return None


def _as_vivax_does(density: Planes, alpha: NDArray[np.float32], rng: np.random.Generator) -> Planes:
    """Make a red cell paler and of another colour, and fill it with what a growing parasite looks like."""
    inside = alpha > 0.5
    body = np.median(density[inside], axis=0)
    excess = np.maximum(density - body, 0)
    tint = np.exp(rng.normal(0, 0.2, 3)).astype(np.float32)
    made = np.minimum(density, body) * rng.uniform(0.35, 1.1) * tint + excess * rng.uniform(0.7, 1.5)
    purple = _PURPLE * np.exp(rng.normal(0, 0.2, 3)).astype(np.float32)
    for likely, coarse, share, strength in ((0.5, 2.5, 0.45, 1.6), (0.4, 0.7, 0.15, 1.0)):
        if rng.random() < likely:
            noise = cv2.GaussianBlur(rng.normal(size=alpha.shape).astype(np.float32), (0, 0), coarse)
            high = noise > np.quantile(noise[inside], 1 - rng.uniform(0.05, share))
            soft = cv2.GaussianBlur((high & inside).astype(np.float32), (0, 0), 0.6)
            made = made + soft[..., np.newaxis] * purple * rng.uniform(0.2, strength)
    return np.asarray(made, np.float32)


def _precipitate(scene: Scene, rng: np.random.Generator) -> None:
    """Specks of stain, nearly black, alone or in a heap."""
    at = rng.uniform(0, SCENE_PX, 2)
    specks = int(rng.integers(1, 9))
    colour = np.array([1.0, 1.2, 1.0], np.float32) * float(rng.uniform(0.8, 3.0))
    spots = np.zeros((SCENE_PX, SCENE_PX), np.float32)
    for _ in range(specks):
        x, y = at + rng.normal(0, 0.09 * scene.cell_px * np.sqrt(specks), 2)
        cv2.circle(spots, (round(x * 8), round(y * 8)), max(4, round(rng.uniform(0.03, 0.09) * scene.cell_px * 8)), 1.0,
                   cv2.FILLED, cv2.LINE_AA, 3)  # fmt: skip
    spots = cv2.GaussianBlur(spots, (0, 0), 0.5)
    rows, columns = np.flatnonzero((spots > 0.3).any(axis=1)), np.flatnonzero((spots > 0.3).any(axis=0))
    if len(rows) and len(columns):
        scene.density += spots[..., np.newaxis] * colour
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        if max(box[2] - box[0], box[3] - box[1]) > 1.5:
            scene.boxes.append(box)
            scene.kinds.append(PLATELET)


def _paler_and_stippled(scene: Scene, rng: np.random.Generator) -> None:
    """Change the pallor of all middles, and some cells as a whole, where they lie."""
    pallor = rng.uniform(-0.2, 1.0) if rng.random() < 0.4 else 0.0
    for (x0, y0, x1, y1), kind in zip(scene.boxes, scene.kinds, strict=True):
        if kind != RED:
            continue
        at, size = ((x0 + x1) / 2, (y0 + y1) / 2), float(np.sqrt((x1 - x0) * (y1 - y0)))
        if pallor:
            _spot(scene.density, at, rng.uniform(0.15, 0.3) * size, np.full(3, -pallor * rng.uniform(0.6, 1)))
        if rng.random() < 0.1:
            _spot(scene.density, at, 0.5 * size, rng.uniform(-0.6, 0.6) + rng.normal(0, 0.15, 3))
        if rng.random() < 0.08:
            place = (at[0] + rng.normal(0, 0.15 * size), at[1] + rng.normal(0, 0.15 * size))
            _spot(scene.density, place, rng.uniform(0.06, 0.25) * size, rng.uniform(0.2, 1.5) * _PURPLE)


def _spot(density: Planes, at: tuple[float, float], radius: float, change: NDArray[np.floating]) -> None:
    """Change densities by a share of what they are, in a soft disc."""
    reach = int(1.5 * radius + 3)
    left, top = (int(np.clip(c - reach, 0, SCENE_PX - 1)) for c in at)
    right, bottom = (int(np.clip(c + reach, 1, SCENE_PX)) for c in at)
    y, x = np.mgrid[top : max(bottom, top + 1), left : max(right, left + 1)].astype(np.float32)
    away = (np.hypot(x + 0.5 - at[0], y + 0.5 - at[1]) - radius) / (0.15 * radius + 0.3)
    soft = 1 / (1 + np.exp(np.clip(away, -30, 30)))
    window = density[top : max(bottom, top + 1), left : max(right, left + 1)]
    window *= 1 + soft[..., np.newaxis] * change.astype(np.float32)


def _stained_otherwise(density: Planes, rng: np.random.Generator) -> Planes:
    """Another stain, camera and lens."""
    mix = np.eye(3) * np.exp(rng.normal(0, 0.22, 3)) + rng.normal(0, 0.08, (3, 3))
    mixed = (density @ mix.T.astype(np.float32)).astype(np.float32)
    mixed = np.sign(mixed) * np.abs(mixed) ** float(rng.uniform(0.75, 1.3)) * float(rng.uniform(0.7, 1.35))
    if rng.random() < 0.5:
        mixed = cv2.GaussianBlur(mixed, (0, 0), float(rng.uniform(0.3, 1.3)))
    slope = rng.normal(0, 0.06, (2, 1, 1, 3))
    ramp = np.linspace(-0.5, 0.5, SCENE_PX)[:, np.newaxis, np.newaxis]
    mixed = mixed + ramp * slope[0] + ramp.swapaxes(0, 1) * slope[1] + rng.normal(0, 0.02, 3)
    grain = rng.normal(0, 1, mixed.shape).astype(np.float32) * float(rng.uniform(0, 0.08))
    return np.clip(mixed + grain, -CLIP[0], CLIP[1]).astype(np.float32)
