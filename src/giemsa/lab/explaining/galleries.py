"""Pictures of an evaluation: misclassified cells, each beside its map, a random sample, and the model's input.

gallery_false_positives.png   cells labelled uninfected and classified as parasitized, the most confident first
gallery_false_negatives.png   cells labelled parasitized and classified as uninfected, likewise
gallery_donors.png            cells of people without malaria that are classified as parasitized
sample_predictions.png        a random sample of cells, with their verdicts
preprocessing.png             cells before and after preprocessing
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.images import decode, resize
from giemsa.lab.explaining.overlays import Tile, draw_gallery
from giemsa.pictures import write_png
from giemsa.verdicts import is_parasitized

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.data.index import CellIndex
    from giemsa.formats.evaluations import Predictions
    from giemsa.lab.explaining.explainer import Explainer
    from giemsa.model import Model

GALLERY_FILES: Final = (
    "gallery_false_positives.png",
    "gallery_false_negatives.png",
    "gallery_donors.png",
    "sample_predictions.png",
    "preprocessing.png",
)
SHOWN: Final = 24
"""Largest number of cells on a page."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Cells of an evaluation, with their predictions.

    Attributes
    ----------
    index : CellIndex
        The cells that were judged.
    predictions : Predictions
        Its first rows are those of the index; unreadable pictures follow.
    threshold : float
        Cells are classified as parasitized where p_parasitized is at least this.
    """

    index: CellIndex
    predictions: Predictions
    threshold: float

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """Which cells are classified as parasitized, bool [N]."""
        predicted: NDArray[np.bool_] = is_parasitized(self.predictions.p_parasitized[: len(self.index)], self.threshold)
        return predicted

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which cells have a verdict, bool [N]."""
        scored: NDArray[np.bool_] = ~np.isnan(self.predictions.p_parasitized[: len(self.index)])
        return scored

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which cells are labelled parasitized, bool [N]."""
        positive: NDArray[np.bool_] = np.asarray(self.predictions.official[: len(self.index)]) == 1
        return positive

    @property
    def donor(self) -> NDArray[np.bool_]:
        """Which cells are of people without malaria, bool [N]."""
        if self.predictions.donor is None:
            return np.zeros(len(self.index), np.bool_)
        return np.asarray(self.predictions.donor[: len(self.index)], np.bool_)

    def read(self, row: int) -> NDArray[np.uint8]:
        """A cell's pixels, uint8 [H, W, 3] RGB."""
        return decode((self.index.root / self.index.cells[row].file).read_bytes())


def draw_galleries(folder: Path, judged: Judged, model: Model, explainer: Explainer | None) -> None:
    """Draw all of `GALLERY_FILES` into a folder.

    Parameters
    ----------
    folder : Path
        An existing folder.
    judged : Judged
        The cells and their verdicts.
    model : Model
        For its input size and name.
    explainer : Explainer or None
        What makes the maps; without one the pages show none, and say so.
    """
    p = judged.predictions.p_parasitized[: len(judged.index)]
    wrong = judged.scored & (judged.predicted != judged.positive)
    pages = [
        ("gallery_false_positives.png", "Classified as parasitized, labelled uninfected", wrong & judged.predicted, -p),
        ("gallery_false_negatives.png", "Classified as uninfected, labelled parasitized", wrong & ~judged.predicted, p),
        (
            "gallery_donors.png",
            "Classified as parasitized, of people without malaria",
            judged.predicted & judged.donor,
            -p,
        ),
    ]
    for name, title, chosen, order in pages:
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(order[rows], kind="stable")]
        note = "no donors are known here" if name == "gallery_donors.png" and not judged.donor.any() else "none"
        _draw_page(folder / name, title, rows, judged, model, explainer, order="the most confident first", none=note)
    rows = np.flatnonzero(judged.scored)
    drawn = np.sort(np.random.default_rng(0).permutation(rows)[:SHOWN])
    _draw_page(
        folder / "sample_predictions.png", "Random sample of cells", drawn, judged, model, explainer, of=len(rows)
    )
    _draw_preprocessing(folder / "preprocessing.png", drawn[::3], judged, model)


def _draw_page(
    path: Path,
    title: str,
    rows: NDArray[np.intp],
    judged: Judged,
    model: Model,
    explainer: Explainer | None,
    *,
    order: str = "",
    none: str = "none",
    of: int | None = None,
) -> None:
    shown, total = rows[:SHOWN], len(rows) if of is None else of
    pictures = [judged.read(int(row)) for row in shown]
    maps: list[NDArray[np.float32] | None] = [None] * len(pictures)
    if explainer is not None and pictures:
        size = model.card.input_size_px
        maps = list(explainer.explain(np.stack([resize(rgb, size) for rgb in pictures])))
    count = f"{total:,} cells" if total else none
    ordered = f", {order}" if order and total > 1 else ""
    part = f", {len(shown)} of them shown" if total > len(shown) else ""
    how = (
        f"Maps: {explainer.method}."
        if explainer is not None
        else "No maps: the model has no evidence, and its run is not here."
    )
    heading = [f"{title}: {count}{part}{ordered}", f"Model {model.card.name}, threshold {judged.threshold:.4g}. {how}"]
    tiles = [
        Tile(rgb, evidence, _lines(judged, int(row))) for rgb, evidence, row in zip(pictures, maps, shown, strict=True)
    ]
    has_maps = any(tile.evidence is not None for tile in tiles)
    write_png(path, draw_gallery(tiles, heading) if has_maps else draw_gallery(tiles, heading, scale=None))


def _lines(judged: Judged, row: int) -> tuple[str, ...]:
    predictions = judged.predictions
    names = {1: "parasitized", 0: "uninfected", -1: "not known"}
    label = names[int(predictions.official[row])]
    verdict = "parasitized" if judged.predicted[row] else "uninfected"
    lines = [f"{verdict}, p parasitized {predictions.p_parasitized[row]:.4f}"]
    reviewed = int(predictions.reviewed[row]) if predictions.reviewed is not None else -1
    whose = ", a donor" if judged.donor[row] else ""
    second = f"second reading: {names[reviewed]}" if reviewed >= 0 else "no second reading"
    return (*lines, f"label: {label}{whose}", second, judged.index.cells[row].file.rpartition("/")[2])


def _draw_preprocessing(path: Path, rows: NDArray[np.intp], judged: Judged, model: Model) -> None:
    """Draw cells before and after preprocessing, which stretches them to the model's square input."""
    size = model.card.input_size_px
    tiles = []
    for row in rows:
        rgb = judged.read(int(row))
        given = resize(rgb, size)
        height, width = rgb.shape[:2]
        tiles += [
            Tile(rgb, None, (f"original: {width} x {height} px",)),
            Tile(given, None, (f"model input: {size} x {size} px",)),
        ]
    heading = [
        "Before and after preprocessing",
        "Each picture is stretched to a square: averaged over areas where it shrinks, interpolated where it grows. "
        "Scaling of values is the model's first step.",
    ]
    write_png(path, draw_gallery(tiles, heading, scale=None))
