"""Fields that should not be judged, each with its reason.

Every rule goes by something that a microscopist would see, and has one number; docs/smears.md tells where each comes
from. The first that applies is the reason that is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from giemsa.smear.finding import Found

SMALLEST_FIELD: Final = (400, 300)  # px, longer and shorter side: less is a cut-out, not a field
DARKEST_GROUND: Final = 60.0  # grey levels of the empty ground's brightest channel
BRIGHTEST_CELLS: Final = 238.0  # grey levels of the typical cell's darkest channel
LEAST_CONTRAST: Final = 3.0  # of cells against the ground's unevenness, in its standard deviations
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
    stain = found.stain
    if stain is None:
        return "no cells at all: nothing in it stands out of an even ground"
    ground = np.exp(np.median(stain.ground[stain.seen], axis=0)) - 1
    cell = np.exp(np.log(ground + 1) - stain.cell_density) - 1
    if ground.max() < DARKEST_GROUND:
        return f"under-exposed: its empty ground has {ground.max():.0f} of 255 grey levels; expected {DARKEST_GROUND:.0f}"
    if cell.min() > BRIGHTEST_CELLS:
        return f"over-exposed: its cells have {cell.min():.0f} of 255 grey levels; expected {BRIGHTEST_CELLS:.0f} or less"
    absorbed = float(stain.cell_density[2] / max(1e-6, float(stain.cell_density[1])))
    if absorbed > NEUTRAL:
        return (
            f"not a Giemsa-stained smear: what is dark in it absorbs {absorbed:.2f} times as much blue as green, as ink, "
            f"print and grey pictures do; expected {NEUTRAL} or less"
        )
    cells = len(found.cells)
    if cells + found.cut >= FEWEST_CELLS and 0 < stain.ground_share < LEAST_GROUND:
        return f"too crowded: {stain.ground_share:.1%} of it is free of cells; expected {LEAST_GROUND:.0%} or more"
    if cells < FEWEST_CELLS:
        return f"too few cells: {cells} whole red cells were found; expected {FEWEST_CELLS} or more"
    if found.explained < LEAST_EXPLAINED:
        return (
            f"not a thin smear of single red cells: red cells are {found.explained:.0%} of what is stained in it, as in "
            f"thick films and crowded fields; expected {LEAST_EXPLAINED:.0%} or more"
        )
    low, middle, high = np.percentile([c.diameter_px for c in found.cells], (25, 50, 75))
    if (high - low) / middle > WIDEST_SIZES:
        return "not a smear of red cells: the round things in it differ too much in size"
    if sharpness < LEAST_SHARPNESS:
        return f"out of focus: its cells' borders have a sharpness of {sharpness:.1f}; expected {LEAST_SHARPNESS:.0f} or more"
    return ""


def sharpness_of(found: Found) -> float:
    """Measure how steeply density rises at cells' borders, in cells' densities per diameter; 0 without cells.

    A step that the lens blurs with a standard deviation of s rises by 0.4 / s.
    """
    if found.stain is None or not found.cells:
        return 0.0
    density = np.clip(found.stain.density, -0.25, 1.5)
    across = cv2.Sobel(density, cv2.CV_32F, 1, 0, ksize=3) / 8
    down = cv2.Sobel(density, cv2.CV_32F, 0, 1, ksize=3) / 8
    steepness = cv2.magnitude(across, down)
    steepest = [_steepest(steepness, found, index) for index in range(len(found.cells))]
    return float(np.median(steepest)) * found.cell_diameter_px * found.scale


def _steepest(steepness: NDArray[np.float32], found: Found, index: int) -> float:
    cell = found.cells[index]
    x0, y0, x1, y1 = (round(v * found.scale) for v in (cell.x0, cell.y0, cell.x1, cell.y1))
    window = steepness[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1]
    return float(np.percentile(window, 90)) if window.size else 0.0
