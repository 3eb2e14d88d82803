"""Pictures of no cell at all, drawn or taken from what our dependencies bring: what people hand in by mistake.

A classifier of cells has an answer to everything. What it must refuse cannot be listed, so it is shown many kinds:
even colours, gradients, noise of every grain, shapes, text, plots, and parts of three photographs (two of scikit-learn,
one of Matplotlib) in their own colours and in others.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from giemsa.images import decode, resize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PHOTOGRAPHS: Final = (
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)
_DRAWN_PX: Final = 160
_FONTS: Final = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_ITALIC)
_LETTERS: Final = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,.-:%() "))


def draw_not_cells(count: int, size_px: int, seed: int = 0) -> tuple[NDArray[np.uint8], list[str]]:
    """Return pictures that show no cell, and their kinds.

    Parameters
    ----------
    count : int
        How many.
    size_px : int
        Their side.
    seed : int
        The same seed gives the same pictures.

    Returns
    -------
    (N, S, S, 3) ndarray of uint8
        RGB.
    list of str
        The kind of each: a name of `DRAWERS`.
    """
    rng = np.random.default_rng((seed, 7))
    names = list(DRAWERS)
    kinds = [names[i % len(names)] for i in range(count)]
    pictures = [resize(np.ascontiguousarray(DRAWERS[kind](rng)), size_px) for kind in kinds]
    return np.stack(pictures) if pictures else np.zeros((0, size_px, size_px, 3), np.uint8), kinds


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    how = rng.random()
    if how < 0.3:
        grey = int(rng.integers(256))
        return grey, grey, grey
    red, green, blue = rng.integers(0, 256, 3)
    return int(red), int(green), int(blue)


def _even(rng: np.random.Generator) -> NDArray[np.uint8]:
    colour = np.array((0, 0, 0) if rng.random() < 0.2 else _colour(rng), np.float64)
    noise = rng.normal(0, rng.uniform(0, 6), (_DRAWN_PX, _DRAWN_PX, 3))
    return np.asarray(np.clip(colour + noise * (rng.random() < 0.6), 0, 255).astype(np.uint8))


def _gradient(rng: np.random.Generator) -> NDArray[np.uint8]:
    first, last = np.array(_colour(rng), float), np.array(_colour(rng), float)
    y, x = np.mgrid[0:_DRAWN_PX, 0:_DRAWN_PX] / (_DRAWN_PX - 1)
    turn = rng.uniform(0, 2 * np.pi)
    along = np.clip(0.5 + (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn), 0, 1)[..., np.newaxis]
    return np.asarray((first + (last - first) * along).astype(np.uint8))


def _noise(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Noise whose power falls with some power of the frequency: from television's to clouds."""
    frequency = np.hypot(np.fft.fftfreq(_DRAWN_PX)[:, None], np.fft.fftfreq(_DRAWN_PX)[None, :])
    frequency[0, 0] = 1.0
    weight = frequency ** -rng.uniform(0, 2.2)
    shared = rng.normal(size=(_DRAWN_PX, _DRAWN_PX))
    planes = []
    for _ in range(3):
        own = rng.normal(size=(_DRAWN_PX, _DRAWN_PX))
        plane = np.fft.ifft2(np.fft.fft2(shared + own * rng.uniform(0, 0.8)) * weight).real
        planes.append((plane - plane.mean()) / (plane.std() + 1e-9))
    picture = np.stack(planes, -1) * rng.uniform(15, 70) + np.array(_colour(rng))
    return np.asarray(np.clip(picture, 0, 255).astype(np.uint8))


def _shapes(rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = np.full((_DRAWN_PX, _DRAWN_PX, 3), _colour(rng), np.uint8)
    for _ in range(int(rng.integers(3, 14))):
        points = rng.integers(-20, _DRAWN_PX + 20, (int(rng.integers(3, 7)), 2)).astype(np.int32)
        how = rng.integers(3)
        if how == 0:
            cv2.fillPoly(picture, [points], _colour(rng), cv2.LINE_AA)
        elif how == 1:
            cv2.polylines(picture, [points], bool(rng.integers(2)), _colour(rng), int(rng.integers(1, 6)), cv2.LINE_AA)
        else:
            a, b = (int(v) for v in rng.integers(0, _DRAWN_PX, 2)), (int(v) for v in rng.integers(0, _DRAWN_PX, 2))
            cv2.rectangle(picture, tuple(a), tuple(b), _colour(rng), -1)
    return picture


def _text(rng: np.random.Generator) -> NDArray[np.uint8]:
    dark = rng.random() < 0.2
    picture = np.full((_DRAWN_PX, _DRAWN_PX, 3), 20 if dark else _light(rng), np.uint8)
    ink = (235, 235, 235) if dark else tuple(int(v) for v in rng.integers(0, 110, 3))
    scale = float(np.exp(rng.uniform(np.log(0.25), np.log(2.5))))
    step = max(8, round(32 * scale))
    for y in range(step, _DRAWN_PX + step, step):
        line = "".join(rng.choice(_LETTERS, int(rng.integers(4, 40))))
        font = int(rng.choice(np.array(_FONTS)))
        cv2.putText(picture, line, (int(rng.integers(-20, 30)), y), font, scale, ink, 1 + round(scale), cv2.LINE_AA)
    return picture


def _light(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = np.clip(rng.integers(205, 256) + rng.integers(-25, 8, 3), 0, 255)
    return int(red), int(green), int(blue)


def _plot(rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = np.full((_DRAWN_PX, _DRAWN_PX, 3), _light(rng), np.uint8)
    ink = tuple(int(v) for v in rng.integers(0, 90, 3))
    left, bottom = int(rng.integers(8, 30)), _DRAWN_PX - int(rng.integers(8, 30))
    cv2.line(picture, (left, 5), (left, bottom), ink, 1)
    cv2.line(picture, (left, bottom), (_DRAWN_PX - 5, bottom), ink, 1)
    if rng.random() < 0.4:
        for at in range(left, _DRAWN_PX, 20):
            cv2.line(picture, (at, 5), (at, bottom), (205, 205, 205), 1)
    for _ in range(int(rng.integers(1, 4))):
        colour, n = _colour(rng), int(rng.integers(5, 40))
        xs = np.linspace(left, _DRAWN_PX - 8, n)
        ys = bottom - np.abs(np.cumsum(rng.normal(size=n)) * 12 + rng.uniform(10, 90))
        how = rng.integers(3)
        points = np.stack([xs, np.clip(ys, 6, bottom)], 1).astype(np.int32)
        if how == 0:
            cv2.polylines(picture, [points], False, colour, int(rng.integers(1, 4)), cv2.LINE_AA)
        for x, y in points.tolist() if how else []:
            if how == 1:
                cv2.circle(picture, (x, y), int(rng.integers(1, 4)), colour, -1, cv2.LINE_AA)
            else:
                cv2.rectangle(picture, (x, y), (x + 4, bottom), colour, -1)
    return picture


_read: dict[str, NDArray[np.uint8]] = {}


def photographs() -> dict[str, NDArray[np.uint8]]:
    """Return the photographs that our dependencies bring, by name; those that are not installed are left out."""
    for package, name in PHOTOGRAPHS:
        spec = find_spec(package)
        if name not in _read and spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / name
            if path.is_file():
                _read[name] = decode(path.read_bytes())
    return _read


def _photograph(rng: np.random.Generator) -> NDArray[np.uint8]:
    known = photographs()
    if not known:
        return _noise(rng)
    rgb = known[str(rng.choice(sorted(known)))]
    height, width = rgb.shape[:2]
    side = round(min(height, width) * np.exp(rng.uniform(np.log(0.12), 0)))
    y, x = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    part = rgb[y : y + side, x : x + side]
    how = rng.random()
    if how < 0.15:
        part = np.repeat(part.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    elif how < 0.35:
        part = part[..., rng.permutation(3)]
    elif how < 0.45:
        part = 255 - part
    if rng.random() < 0.3:
        part = np.clip(part * rng.uniform(0.5, 1.3, 3) + rng.uniform(-20, 40), 0, 255).astype(np.uint8)
    return np.asarray(part[:, ::-1] if rng.random() < 0.5 else part)


DRAWERS: Final[dict[str, Callable[[np.random.Generator], NDArray[np.uint8]]]] = {
    "even": _even,
    "gradient": _gradient,
    "noise": _noise,
    "shapes": _shapes,
    "text": _text,
    "plot": _plot,
    "photograph": _photograph,
}
