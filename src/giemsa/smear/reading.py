"""One field at a time: decoded, searched for cells, scored and checked, in bounded memory.

Reading a field needs nothing of the other fields; what is made of many of them is `pipeline`'s.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from giemsa.classifier import pixels_of, usable_cores
from giemsa.errors import PictureError, UsageError
from giemsa.model import Model, open_model
from giemsa.smear import judging, quality
from giemsa.smear.finding import find_cells
from giemsa.smear.results import ReadCell, ReadField, Thumbnail
from giemsa.sources import Source, read_file
from giemsa.stamps import Stamp, Stamped
from giemsa.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

PICTURE_PX: Final = 1280
"""Longer side of the picture of a field that results carry."""
_THUMBNAIL_PX: Final = 128
_THUMBNAILS: Final = (4, 40)  # of a field: at least the most suspicious few, at most so many
_SUSPICIOUS: Final = 2.0  # spreads above the field's own middle


class SmearReader:
    """Reads fields: finds their cells, scores them and refuses fields that should not be judged.

    Parameters
    ----------
    model : Model or path, optional
        A model, an ONNX file or a run folder; None means the embedded model.
    cell_diameter_px : float, optional
        The typical red cell's diameter in pixels of the photographs; None means that each field's is estimated.
    threads : int, optional
        Fields that are read at a time; None means one for each core that this process may use.

    Raises
    ------
    ModelError
        If the model cannot be opened.
    UsageError
        If a number is out of range.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str] | None = None,
        *,
        cell_diameter_px: float | None = None,
        threads: int | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"threads is {threads}; expected 1 or more")
        if cell_diameter_px is not None and not 8 <= cell_diameter_px <= 2000:
            raise UsageError(f"the cell's diameter is {cell_diameter_px} px; expected 8 to 2,000")
        self.model = model if isinstance(model, Model) else open_model(model)
        self.cell_diameter_px = cell_diameter_px
        self.threads = threads if threads is not None else usable_cores()

    def read_field(self, picture: Any, name: str | None = None) -> ReadField:  # noqa: ANN401
        """One field with its red cells and their scores.

        Parameters
        ----------
        picture : Source, path, bytes or ndarray
            A photograph; an array as `images.to_rgb` takes it.
        name : str, optional
            What it is called; None means the source's or path's name. Arrays and bytes have none and are called `#1`:
            where there are several, name them, or read them with `read_fields`.

        Returns
        -------
        ReadField
            With a reason in `refusal` where it cannot be read or should not be judged.
        """
        name = name if name is not None else _name(picture, 1)
        stamped = _stamped(picture)
        try:
            rgb = _pixels(picture if stamped is None else stamped())
        except PictureError as error:
            return replace(_unread(name, " ".join(str(error).split())), stamp=_stamp_of(stamped))
        stamp = _stamp_of(stamped)
        height, width = rgb.shape[:2]
        unfit = quality.too_small(width, height) or quality.badly_exposed(rgb)
        if unfit:
            picture_jpeg = _jpeg(rgb, PICTURE_PX)
            return replace(_unread(name, unfit), width=width, height=height, picture=picture_jpeg, stamp=stamp)
        found = find_cells(rgb, cell_diameter_px=self.cell_diameter_px)
        sharpness = quality.sharpness_of(found)
        refusal = quality.refusal(found, sharpness)
        logits = judging.score_cells(rgb, found, self.model) if not refusal else np.empty(0, np.float32)
        p = self.model.p_parasitized(logits)
        cells = tuple(
            ReadCell(c.x0, c.y0, c.x1, c.y1, round(c.diameter_px / found.px_per_um, 3), float(logit), float(share))
            for c, logit, share in zip(found.cells, logits, p, strict=False)
        )
        return ReadField(
            field=name,
            width=width,
            height=height,
            cells=cells,
            refusal=refusal,
            cut=found.cut,
            cell_diameter_px=found.cell_diameter_px,
            px_per_um=found.px_per_um,
            sharpness=sharpness,
            ground_share=found.stain.ground_share if found.stain else 1.0,
            explained=found.explained,
            picture=_jpeg(rgb, PICTURE_PX),
            thumbnails=_thumbnails(rgb, cells, logits),
            stamp=stamp,
        )

    def read_fields(self, pictures: Iterable[Any]) -> Iterator[ReadField]:
        """Many fields, in their order, lazily; a few are under way at a time.

        Arrays and bytes are called by their place: `#1`, `#2`.
        """
        stream = ((picture, _name(picture, place)) for place, picture in enumerate(pictures, start=1))
        if self.threads == 1:
            for picture, name in stream:
                yield self.read_field(picture, name)
            return
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="giemsa-smear")
        under_way: deque[Future[ReadField]] = deque()
        try:
            for picture, name in islice(stream, self.threads + 1):
                under_way.append(pool.submit(self.read_field, picture, name))
            while under_way:
                done = under_way.popleft().result()
                for picture, name in islice(stream, 1):
                    under_way.append(pool.submit(self.read_field, picture, name))
                yield done
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pixels(picture: object) -> NDArray[np.uint8]:
    rgb = pixels_of(picture)
    if rgb is None:
        raise UsageError(f"a field is given as {type(picture).__name__}; expected a path, bytes or an array")
    return rgb


def _name(picture: object, place: int) -> str:
    if isinstance(picture, Source):
        return picture.name
    return printable(os.fsdecode(picture)) if isinstance(picture, str | os.PathLike) else f"#{place}"


def _stamped(picture: object) -> Stamped | None:
    """What reads a picture and keeps its stamp; None of an array, which has none."""
    if isinstance(picture, Source):
        return Stamped(picture.read, picture.path)
    if isinstance(picture, str | os.PathLike):
        path = os.fsdecode(picture)
        return Stamped(partial(read_file, path), path)
    if isinstance(picture, bytes | bytearray | memoryview):
        return Stamped(partial(bytes, picture), "")
    return None


def _stamp_of(stamped: Stamped | None) -> Stamp | None:
    return stamped.stamp if stamped is not None else None


def _unread(name: str, reason: str) -> ReadField:
    return ReadField(name, 0, 0, (), reason, 0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _thumbnails(
    rgb: NDArray[np.uint8], cells: tuple[ReadCell, ...], logits: NDArray[np.float32]
) -> tuple[Thumbnail, ...]:
    """Keep pictures of the cells that a person may want to look at, most suspicious first."""
    if not cells:
        return ()
    middle, spread = judging.own_reference(logits)
    order = np.argsort(-logits, kind="stable")
    least, most = _THUMBNAILS
    wanted = min(most, max(least, int((logits >= middle + _SUSPICIOUS * spread).sum())))
    return tuple(Thumbnail(int(i), _cell_jpeg(rgb, cells[int(i)])) for i in order[:wanted])


def _cell_jpeg(rgb: NDArray[np.uint8], cell: ReadCell) -> bytes:
    """Show a cell with a quarter of its width around it."""
    margin = max(cell.x1 - cell.x0, cell.y1 - cell.y0) // 4
    around = rgb[max(0, cell.y0 - margin) : cell.y1 + margin, max(0, cell.x0 - margin) : cell.x1 + margin]
    return _jpeg(around, _THUMBNAIL_PX, grow=True)


def _jpeg(rgb: NDArray[np.uint8], longest_px: int, *, grow: bool = False) -> bytes:
    scale = longest_px / max(rgb.shape[:2])
    if scale < 1 or grow:
        size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=kernel), np.uint8)
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done
    return bytes(encoded.tobytes())
