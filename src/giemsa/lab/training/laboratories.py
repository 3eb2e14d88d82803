"""Cells, and what is none, out of whole photographs of other laboratories: blood of people without malaria.

Each folder is one laboratory and holds photographs and an `annotations.json`, in which each photograph has `objects`
(boxes of red cells, white cells and platelets), `points` (the middles of red cells) or a `middle` (what stands in the
middle of it). Which folders are trained on is the recipe's word (`laboratories.names`), never what happens to lie there.

From boxes and points come red cells, each of them healthy; from the rest what is no red cell: white cells, platelets,
bare ground where everything was boxed, windows over several cells, and whole photographs as they look when somebody
takes them for a cell.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import DataError
from giemsa.images import decode, resize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

KINDS: Final = ("red cell", "white cell", "platelet", "erythroblast", "ground", "clump", "field")
POINT_DIAMETER_PX: Final = 46.0
"""Of a red cell where only middles are given: those of `chula` measure some 45 px."""
MIDDLE_DIAMETER_PX: Final = 80.0
"""Of a red cell where only the middle's kind is given: the median box of `pbc`, of the same scanner."""
CELLS_A_PHOTOGRAPH: Final = 24
"""Red cells that are kept of one photograph at most, so that no laboratory's crowded fields outweigh the rest."""
_WORDS: Final = {"red blood cell": "red cell", "white blood cell": "white cell"}
_WINDOWS: Final = 3
_LEAST_GROUND: Final = 0.35


@dataclass(frozen=True)
class LaboratoryCells:
    """Pictures of other laboratories, as a training takes them.

    Attributes
    ----------
    pixels : (N, S, S, 3) ndarray of uint8
        RGB.
    kind : (N,) ndarray of int8
        Place in `KINDS`.
    laboratory, photograph : (N,) ndarray of str
        Where each comes from.
    digest : str
        SHA-256 of the annotations that it was read from, as hex.
    """

    pixels: NDArray[np.uint8]
    kind: NDArray[np.int8]
    laboratory: NDArray[np.str_]
    photograph: NDArray[np.str_]
    digest: str = ""

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> LaboratoryCells:
        """Return some of them."""
        return replace(
            self,
            pixels=self.pixels[rows],
            kind=self.kind[rows],
            laboratory=self.laboratory[rows],
            photograph=self.photograph[rows],
        )

    def of(self, *kinds: str) -> NDArray[np.intp]:
        """Return the rows of these kinds."""
        return np.flatnonzero(np.isin(self.kind, [KINDS.index(kind) for kind in kinds]))

    def folds(self, count: int) -> NDArray[np.int64]:
        """Return a fold for each picture; those of one photograph share theirs, whatever the order."""
        numbers = {
            name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % count for name in np.unique(self.photograph)
        }
        return np.array([numbers[name] for name in self.photograph], np.int64)

    def describe(self) -> str:
        """Return in a sentence what is there."""
        laboratories = ", ".join(sorted(set(self.laboratory.tolist())))
        red = len(self.of("red cell"))
        return f"{red:,} red cells and {len(self) - red:,} pictures of what is none, of {laboratories}."


def read_laboratories(folder: Path, names: Sequence[str], size_px: int, *, seed: int = 0) -> LaboratoryCells:
    """Return the cells of laboratories, cut out as a finder might.

    Parameters
    ----------
    folder : Path
        Holds a folder for each laboratory.
    names : sequence of str
        Which of them.
    size_px : int
        Side of the square to which each cell is resized.
    seed : int
        How boxes are widened and which windows are taken depends on this and on the photograph's name alone.

    Raises
    ------
    DataError
        If one of them is missing or its annotations are damaged.
    """
    pictures: list[NDArray[np.uint8]] = []
    where: list[tuple[int, str, str]] = []
    digest = hashlib.sha256(f"{seed} {size_px}".encode())
    for name in names:
        path = folder / name / "annotations.json"
        try:
            text = path.read_bytes()
            content = json.loads(text)
        except OSError as error:
            raise DataError(f"the laboratory {name} cannot be read: {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise DataError(f"{path} is damaged: {error}") from None
        digest.update(text)
        for entry in content:
            try:
                image = str(entry["image"])
                key = int(hashlib.sha256(f"{seed} {name}/{image}".encode()).hexdigest()[:12], 16)
                rgb = decode((path.parent / image).read_bytes())
                for kind, picture in _cut(rgb, entry, np.random.default_rng(key)):
                    pictures.append(resize(np.ascontiguousarray(picture), size_px))
                    where.append((KINDS.index(kind), name, f"{name}/{image}"))
            except (KeyError, TypeError, OSError) as error:
                raise DataError(f"{path}: one of its photographs cannot be read: {error!r}") from None
    if not pictures:
        raise DataError(f"no picture in {folder} for the laboratories {', '.join(names)}")
    kind_of, laboratory, photograph = zip(*where, strict=True)
    return LaboratoryCells(
        np.stack(pictures), np.array(kind_of, np.int8), np.array(laboratory), np.array(photograph), digest.hexdigest()
    )


def _cut(
    rgb: NDArray[np.uint8], entry: dict[str, Any], rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Cut a photograph up: kinds with their pictures."""
    height, width = rgb.shape[:2]
    boxes: list[tuple[str, tuple[float, float, float, float]]] = []
    diameter = MIDDLE_DIAMETER_PX
    if "points" in entry:
        diameter = POINT_DIAMETER_PX
        half = diameter / 2
        boxes = [
            ("red cell", (p["x"] - half, p["y"] - half, p["x"] + half, p["y"] + half))
            for p in entry["points"]
            if half * 0.8 <= p["x"] <= width - half * 0.8 and half * 0.8 <= p["y"] <= height - half * 0.8
        ]
    elif "objects" in entry:
        boxes = [
            (_WORDS.get(o["category"], o["category"]), (o["x0"], o["y0"], o["x1"], o["y1"])) for o in entry["objects"]
        ]
        sides = [np.sqrt((x1 - x0) * (y1 - y0)) for kind, (x0, y0, x1, y1) in boxes if kind == "red cell"]
        diameter = float(np.median(sides)) if sides else diameter
        boxes = [(kind, box) for kind, box in boxes if kind in KINDS and (kind != "red cell" or _whole(box, diameter))]
    else:
        side = diameter * rng.uniform(0.4, 1.3) if entry["middle"] == "platelet" else diameter * rng.uniform(0.9, 1.4)
        x, y = width / 2, height / 2
        boxes = [(str(entry["middle"]), (x - side / 2, y - side / 2, x + side / 2, y + side / 2))]
    others = [box for kind, box in boxes if kind != "red cell"]
    boxes = [one for one in boxes if one[0] != "red cell" or not any(_over(one[1], other) for other in others)]
    red = [one for one in boxes if one[0] == "red cell"]
    if len(red) > CELLS_A_PHOTOGRAPH:
        kept = rng.choice(len(red), CELLS_A_PHOTOGRAPH, replace=False)
        boxes = [one for one in boxes if one[0] != "red cell"] + [red[i] for i in sorted(kept)]
    for kind, box in boxes:
        looks = 1 if kind == "red cell" or kind not in KINDS else 2
        for _ in range(looks if kind in KINDS else 0):
            picture = _window(rgb, _jittered(box, rng, wide=kind == "platelet"))
            if min(picture.shape[:2]) >= 8:
                yield kind, picture
    yield from _windows(rgb, diameter, [box for _, box in boxes] if "objects" in entry else None, rng)


def _whole(box: tuple[float, float, float, float], diameter: float) -> bool:
    """Tell whether a box is of a cell that can be judged: not a sliver that the border left."""
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    return max(width, height) < 1.7 * min(width, height) and width * height > (0.6 * diameter) ** 2


def _over(box: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Tell whether another thing covers more than a quarter of a box."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return min(width, height) > 0 and width * height > 0.25 * (box[2] - box[0]) * (box[3] - box[1])


def _windows(
    rgb: NDArray[np.uint8],
    diameter: float,
    boxes: list[tuple[float, float, float, float]] | None,
    rng: np.random.Generator,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Take windows that show no single cell: several, the whole photograph, and bare ground where all is boxed."""
    height, width = rgb.shape[:2]
    yield "field", rgb
    for _ in range(_WINDOWS):
        side = min(diameter * np.exp(rng.uniform(np.log(2.4), np.log(9))), height, width)
        x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
        yield "clump" if side < 4 * diameter else "field", _window(rgb, (x, y, x + side, y + side))
    if boxes is None:
        return
    for _ in range(8):
        side = diameter * rng.uniform(_LEAST_GROUND, 1.0)
        x, y = rng.uniform(0, max(1, width - side)), rng.uniform(0, max(1, height - side))
        if all(x + side <= x0 or x >= x1 or y + side <= y0 or y >= y1 for x0, y0, x1, y1 in boxes):
            yield "ground", _window(rgb, (x, y, x + side, y + side))
            return


def _jittered(
    box: tuple[float, float, float, float], rng: np.random.Generator, *, wide: bool
) -> tuple[float, float, float, float]:
    """Move a box's sides as a finder might: by some hundredths, rather outwards; around platelets up to twice as wide."""
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0)
    margin = rng.uniform(-0.02, 0.5 if wide else 0.08) * side
    a, b, c, d = rng.normal(0, 0.02 * side, 4)
    return x0 - margin + a, y0 - margin + b, x1 + margin + c, y1 + margin + d


def _window(rgb: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = (round(side) for side in box)
    return rgb[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
