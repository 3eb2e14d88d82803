"""Fields that should not be judged, each with its reason.

Every rule goes by something that a microscopist would see, and has one number; docs/smears.md tells where each comes
from. The first that applies is the reason that is given.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from giemsa.smear.finding import Found
    from giemsa.smear.light import Plane, Stain

SMALLEST_FIELD: Final = (400, 300)  # px, longer and shorter side: less is a cut-out, not a field
DARKEST_GROUND: Final = 60.0  # grey levels of the empty ground's brightest channel
BRIGHTEST_CELLS: Final = 238.0  # grey levels of the typical cell's darkest channel
_GROUND_PERCENTILE, _CELLS_PERCENTILE = 99, 5  # of a photograph's brightest, and darkest, channel, whatever it shows
LEAST_GROUND: Final = 0.04  # share of the field that no cell covers
FEWEST_CELLS: Final = 10
LEAST_EXPLAINED: Final = 0.7  # share of what is stained that is red cells
NEUTRAL: Final = 0.93  # Giemsa's eosin and azure absorb blue less than green; ink, print and grey pictures don't
LEAST_SHARPNESS: Final = 5.0  # steepest rise of density at cells' borders, in cells' densities per diameter
WIDEST_SIZES: Final = 0.75  # interquartile range of diameters in medians: red cells are all of one kind


def too_small(width: int, height: int) -> str:
    """Say why a picture cannot be a field by its size; empty where it can."""
    if max(width, height) >= SMALLEST_FIELD[0] and min(width, height) >= SMALLEST_FIELD[1]:
        return ""
    return (
        f"too small: it has {width} x {height} pixels, a cut-out cell perhaps; expected a photograph of a whole field, "
        f"{SMALLEST_FIELD[0]} x {SMALLEST_FIELD[1]} pixels or more"
    )


def badly_exposed(rgb: NDArray[np.uint8]) -> str:
    """Say why a photograph is too dark or too bright for anything to be found in it; empty where it is neither.

    Parameters
    ----------
    rgb : ndarray
        uint8 [H, W, 3].

    Returns
    -------
    str
        One sentence's end.
    """
    some = rgb[:: max(1, rgb.shape[0] // 500), :: max(1, rgb.shape[1] // 500)]
    ground = float(np.percentile(some.max(axis=2), _GROUND_PERCENTILE))
    cells = float(np.percentile(some.min(axis=2), _CELLS_PERCENTILE))
    return _exposure(ground, cells)


def _exposure(ground: float, cells: float) -> str:
    if ground < DARKEST_GROUND:
        return f"under-exposed: its empty ground has {ground:.0f} of 255 grey levels; expected {DARKEST_GROUND:.0f} or more"
    if cells > BRIGHTEST_CELLS:
        return f"over-exposed: its cells have {cells:.0f} of 255 grey levels; expected {BRIGHTEST_CELLS:.0f} or less"
    return ""


def refusal(found: Found, sharpness: float) -> str:
    """Say why a field should not be judged; empty where it can be.

    Parameters
    ----------
    found : Found
        What was found in it.
    sharpness : float
        Of `sharpness_of`.

    Returns
    -------
    str
        One sentence's end: "out of focus: ...".
    """
    if found.stain is None:
        return "no cells at all: nothing in it stands out of an even ground"
    return next(chain(_of_light(found.stain), _of_cells(found, found.stain.ground_share, sharpness)), "")


def _of_light(stain: Stain) -> Iterator[str]:
    ground = np.exp(np.median(stain.ground[stain.seen], axis=0)) - 1
    cell = np.exp(np.log(ground + 1) - stain.cell_density) - 1
    exposure = _exposure(float(ground.max()), float(cell.min()))
    if exposure:
        yield exposure
    absorbed = float(stain.cell_density[2] / max(1e-6, float(stain.cell_density[1])))
    if absorbed > NEUTRAL:
        yield (
            f"not a Giemsa-stained smear: what is dark in it absorbs {absorbed:.2f} times as much blue as green, as ink, "
            f"print and grey pictures do; expected {NEUTRAL} or less"
        )


def _of_cells(found: Found, ground_share: float, sharpness: float) -> Iterator[str]:
    cells = len(found.cells)
    if cells + found.cut >= FEWEST_CELLS and 0 < ground_share < LEAST_GROUND:
        yield f"too crowded: {ground_share:.1%} of it is free of cells; expected {LEAST_GROUND:.0%} or more"
    if cells < FEWEST_CELLS:
        yield f"too few cells: {cells} whole red cells were found; expected {FEWEST_CELLS} or more"
    if found.explained < LEAST_EXPLAINED:
        yield (
            f"not a thin smear of single red cells: red cells are {found.explained:.0%} of what is stained in it, as in "
            f"thick films and crowded fields; expected {LEAST_EXPLAINED:.0%} or more"
        )
    low, middle, high = np.percentile([c.diameter_px for c in found.cells], (25, 50, 75))
    if (high - low) / middle > WIDEST_SIZES:
        yield "not a smear of red cells: the round things in it differ too much in size"
    if sharpness < LEAST_SHARPNESS:
        yield f"out of focus: its cells' borders have a sharpness of {sharpness:.1f}; expected {LEAST_SHARPNESS:.0f} or more"


def sharpness_of(found: Found) -> float:
    """Measure how steeply density rises at cells' borders, in cells' densities per diameter; 0 without cells.

    A step that the lens blurs with a standard deviation of s rises by 0.4 / s.
    """
    if found.stain is None or not found.cells:
        return 0.0
    density = np.clip(found.stain.density, -0.25, 1.5)
    across = cv2.Sobel(density, cv2.CV_32F, 1, 0, ksize=3) / 8
    down = cv2.Sobel(density, cv2.CV_32F, 0, 1, ksize=3) / 8
    steepness = np.asarray(cv2.magnitude(across, down), np.float32)
    steepest = [_steepest(steepness, found, index) for index in range(len(found.cells))]
    return float(np.median(steepest)) * found.cell_diameter_px * found.scale


def _steepest(steepness: Plane, found: Found, index: int) -> float:
    cell = found.cells[index]
    x0, y0, x1, y1 = (round(v * found.scale) for v in (cell.x0, cell.y0, cell.x1, cell.y1))
    window = steepness[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1]
    return float(np.percentile(window, 90)) if window.size else 0.0
