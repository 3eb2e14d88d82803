"""Judging cells against their own slide: most cells of any slide are healthy, and so its control.

A cell is looked at in eight ways, and the mean of its logits is taken relative to its field's healthy cells: how far it
lies above their middle, in units of their spread. Stain, light and camera move the logits of all cells of a field together, so that this undoes them.

Infected cells lie above, never below. The spread is therefore measured downwards, from the middle to the 15.9th
percentile (a standard deviation, where the law is normal), and the middle is the 45th percentile: with a fifth of the
cells infected, the healthy ones' own median is the 40th percentile of all, with none the 50th. A field's
own middle and spread are drawn towards its slide's by `SLIDES_SHARE` of the way. The model sees colours relative to the
cell's own and needs little of this, and fields have few cells: of the shares 0, 0.25, 0.5, 0.75 and 1, 0.75 gave the
higher AUC over both foreign laboratories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from giemsa.images import resize
from giemsa.smear.light import without_marks
from giemsa.smear.results import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from giemsa.model import Model
    from giemsa.smear.finding import Found

DEFAULT_CUT: Final = 8.0
"""A relative logit from which a cell is called parasitized where no site says otherwise. Chosen on NIH cells only
(benchmarks/smear_default_cut.py): up to there, raising the cut takes false alarms away and hardly any parasites."""
SLIDES_SHARE: Final = 0.75
_MIDDLE, _LOW = 45.0, 15.9
_SPREADS: Final = 0.874  # from the 15.9th to the 45th percentile of a normal law, in standard deviations
_LEAST_SPREAD: Final = 0.25  # logit units; identical cells, as in a drawing, would divide by nothing
_BATCH: Final = 64


def score_cells(rgb: NDArray[np.uint8], found: Found, model: Model) -> NDArray[np.float32]:
    """Cut found cells out and score them.

    Parameters
    ----------
    rgb : ndarray
        uint8 [H, W, 3], the photograph.
    found : Found
        What was found in it.
    model : Model
        The classifier.

    Returns
    -------
    ndarray
        float32 [N], a logit for each of `found.cells`: the mean of eight.
    """
    size = model.card.input_size_px
    logits = np.empty(len(found.cells), np.float32)
    if found.marks.any():
        whole = cv2.resize(found.marks.astype(np.uint8), rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        rgb = without_marks(rgb, np.asarray(whole > 0))
    for start in range(0, len(found.cells), _BATCH):
        some = found.cells[start : start + _BATCH]
        cells = np.stack([resize(np.ascontiguousarray(rgb[c.y0 : c.y1, c.x0 : c.x1]), size) for c in some])
        logits[start : start + len(some)] = look_eight_times(cells, model)
    return logits


def look_eight_times(cells: NDArray[np.uint8], model: Model) -> NDArray[np.float32]:
    """Give the mean logits of cells in all eight ways that each can be turned by right angles and mirrored.

    A cell has no up. The mean is the same for a field that is turned, and was more often right than one look: on `iml`
    the AUC rose from 0.979 to 0.983, on `bbbc041` it stayed.

    Parameters
    ----------
    cells : ndarray
        uint8 [N, S, S, 3], RGB.
    model : Model
        The classifier.

    Returns
    -------
    ndarray
        float32 [N].
    """
    looks = [model.run(turned, evidence=False).logit for turned in eight_ways(cells)]
    return np.asarray(np.mean(looks, axis=0, dtype=np.float32))


def eight_ways(cells: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Turn cells by right angles, and mirror each; uint8 [N, S, S, 3] all."""
    for quarters in range(4):
        turned = np.rot90(cells, quarters, axes=(1, 2))
        yield np.ascontiguousarray(turned)
        yield np.ascontiguousarray(turned[:, :, ::-1])


def own_reference(logits: Sequence[float] | NDArray[np.floating]) -> tuple[float, float]:
    """Give middle and spread of a field's healthy cells, from the logits of all of its cells (at least one)."""
    low, middle = np.percentile(np.asarray(logits, float), (_LOW, _MIDDLE))
    return float(middle), max(_LEAST_SPREAD, float(middle - low) / _SPREADS)


def slide_reference(fields: Sequence[tuple[float, float, int]]) -> tuple[float, float, int]:
    """Give a slide's middle, spread and number of cells, from those of its fields (at least one).

    The median over fields, each counted as often as it has cells, so that a few odd fields don't move it.
    """
    middles, spreads, cells = (np.array(part, float) for part in zip(*fields, strict=True))
    return _weighted_median(middles, cells), _weighted_median(spreads, cells), int(cells.sum())


def reference(own: tuple[float, float], cells: int, slide: tuple[float, float]) -> Reference:
    """Draw a field's own middle and spread towards its slide's."""
    centre = (1 - SLIDES_SHARE) * own[0] + SLIDES_SHARE * slide[0]
    spread = float(np.exp((1 - SLIDES_SHARE) * np.log(own[1]) + SLIDES_SHARE * np.log(slide[1])))
    return Reference(centre, spread, cells, SLIDES_SHARE)


def relative(logit: float, against: Reference) -> float:
    """Give a cell's logit above the healthy cells' middle, in their spreads."""
    return (logit - against.centre) / against.spread


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, passed[-1] / 2)])
