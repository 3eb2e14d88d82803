"""Pictures that are copies of one another: byte for byte, or encoded, scaled, lightened, mirrored or turned anew.

Two pictures count as near-identical when their 32 x 32 px thumbnails correlate by 0.99 or more, in one of the
eight orientations of a square. Correlation was chosen over a perceptual hash after trying both on the 15,617 real
cells: cells resemble each other so much that 128-bit difference hashes of different cells come as close as 3 bits,
while a copy saved as JPEG of quality 75 is up to 11 bits away. Thumbnails of different cells correlate by 0.986 at
most, of all pairs in all orientations; those of copies by 0.9988 and more (JPEG of quality 50 to 90, scaled to 64
and 224 px, a tenth darker or lighter) and by 0.996 (blurred by one pixel). Of 300 such copies, mirrored and turned
at random and hidden among the cells, all were found and nothing else. Copies that were shifted or cut anew, and
second photographs of the same cell, are not found.

Correlating every pair of thumbnails would take minutes, so pairs are first chosen by 8 x 8 grey ones, with a
threshold that each of those copies clears by far.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from giemsa.data.index import CellIndex

THUMBNAIL_PX: Final = 32
SIMILARITY: Final = 0.99

_COARSE_PX: Final = 8
_COARSE_SIMILARITY: Final = 0.995
_BLOCK: Final = 1024
_ORIENTATIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Copies:
    """Pictures that are copies of one another.

    Attributes
    ----------
    rows : tuple of int
        Their rows in the index, two or more, sorted.
    identical : bool
        Whether they are the same byte for byte.
    """

    rows: tuple[int, ...]
    identical: bool


def find_copies(
    index: CellIndex,
    thumbnails: NDArray[np.uint8] | None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Copies]:
    """Find the groups of copies among the cells of an index.

    Parameters
    ----------
    index : CellIndex
        The cells.
    thumbnails : (N, 32, 32, 3) ndarray of uint8, optional
        Aligned with the index; without them only byte-identical pictures are found.
    progress : callable, optional
        Called with the number of pictures compared so far and in all.

    Returns
    -------
    list of Copies
        In the order of their first rows.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, cell in enumerate(index):
        rows_of[cell.sha256].append(row)
    different = list(rows_of.values())
    groups = [[number] for number in range(len(different))]
    if thumbnails is not None:
        firsts = np.array([rows[0] for rows in different], np.intp)
        groups = _similar_groups(np.asarray(thumbnails[firsts]), progress)
    copies = []
    for group in groups:
        rows = sorted(row for number in group for row in different[number])
        if len(rows) > 1:
            copies.append(Copies(tuple(rows), identical=len(group) == 1))
    return sorted(copies, key=lambda found: found.rows)


def _similar_groups(thumbnails: NDArray[np.uint8], progress: Callable[[int, int], None] | None) -> list[list[int]]:
    """Group pictures that are connected by similarity."""
    group_of = np.arange(len(thumbnails))
    for done, pairs in _coarse_pairs(thumbnails):
        for first, second, orientation in pairs:
            one, other = group_of[first], group_of[second]
            if one != other and _similarity(thumbnails, first, second, orientation) >= SIMILARITY:
                group_of[group_of == other] = one
        if progress is not None:
            progress(done, len(thumbnails))
    groups: dict[int, list[int]] = defaultdict(list)
    for number, group in enumerate(group_of.tolist()):
        groups[group].append(number)
    return list(groups.values())


def _coarse_pairs(thumbnails: NDArray[np.uint8]) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
    """Yield, block by block, how many pictures are done and pairs (first < second, orientation) that may be similar."""
    number = len(thumbnails)
    scale = THUMBNAIL_PX // _COARSE_PX
    grey = np.empty((number, _COARSE_PX, _COARSE_PX), np.float32)
    for start in range(0, number, _BLOCK):
        block = thumbnails[start : start + _BLOCK].astype(np.float32)
        grey[start : start + _BLOCK] = block.reshape(-1, _COARSE_PX, scale, _COARSE_PX, scale, 3).mean((2, 4, 5))
    upright = _standardized(grey)
    for start in range(0, number, _BLOCK):
        end = min(start + _BLOCK, number)
        found: list[tuple[int, int, int]] = []
        for orientation in range(_ORIENTATIONS):
            turned = _standardized(_oriented(grey[start:end], orientation))
            alike = turned @ upright[start:].T >= _COARSE_SIMILARITY
            for first, second in np.argwhere(alike):
                if first < second:
                    found.append((start + int(first), start + int(second), orientation))
        yield end, found


def _similarity(thumbnails: NDArray[np.uint8], first: int, second: int, orientation: int) -> float:
    pair = np.stack([_oriented(thumbnails[first : first + 1], orientation)[0], thumbnails[second]])
    one, other = _standardized(pair.astype(np.float32))
    return float(one @ other)


def _oriented(pictures: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """Turn [N, S, S, ...] by quarters, and mirror it from the fifth orientation on."""
    mirrored = pictures[:, :, ::-1] if orientation >= 4 else pictures
    return np.rot90(mirrored, orientation % 4, axes=(1, 2))


def _standardized(pictures: NDArray[np.generic]) -> NDArray[np.float32]:
    """Pictures of mean 0 and length 1, so that products are correlations; a picture of one colour becomes 0."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    standardized: NDArray[np.float32] = np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-3)
    return standardized
