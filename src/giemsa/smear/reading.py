"""Photographs to a smear: each field is decoded, searched, scored and checked; then all are judged and counted.

Reading a field needs nothing of the other fields, so that fields stream through a few threads in bounded memory. Judging
needs the slide's middle and spread, which are known when all fields are read; it needs their numbers only.

>>> smear = read_smear(["field1.jpg", "field2.jpg"])          # doctest: +SKIP
>>> smear.summary.count.parasitaemia                          # doctest: +SKIP
Interval(value=0.012, low=0.004, high=0.021)
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from giemsa.classifier import pixels_of, usable_cores
from giemsa.errors import PictureError, UsageError
from giemsa.model import Model, open_model
from giemsa.smear import counting, judging, quality
from giemsa.smear.finding import find_cells
from giemsa.smear.results import (
    JudgedCell,
    JudgedField,
    ReadCell,
    ReadField,
    Reference,
    Smear,
    SmearSummary,
    Thumbnail,
)
from giemsa.sources import Source, open_sources, printable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from giemsa.smear.results import Decision
    from giemsa.smear.site import Site

PICTURE_PX: Final = 1280
"""Longer side of the picture of a field that results carry."""
OTHER_SCALE: Final = 1.25
"""A field whose red cells measure so many times more or less than the smear's is named."""
_THUMBNAIL_PX: Final = 128
_THUMBNAILS: Final = (4, 40)  # of a field: at least the most suspicious few, at most so many
_SUSPICIOUS: Final = 2.0  # spreads above the field's own middle


class SmearReader:
    """Reads fields: finds their cells, scores them and says which fields should not be judged.

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
        """Read one field.

        Parameters
        ----------
        picture : Source, path, bytes or ndarray
            A photograph; an array as `images.to_rgb` takes it.
        name : str, optional
            What it is called; None means the source's or path's name.

        Returns
        -------
        ReadField
            With a reason in `refusal` where it cannot be read or should not be judged.
        """
        name = name if name is not None else _name(picture)
        try:
            rgb = _pixels(picture)
        except PictureError as error:
            return _unread(name, " ".join(str(error).split()))
        height, width = rgb.shape[:2]
        unfit = quality.too_small(width, height) or quality.badly_exposed(rgb)
        if unfit:
            return replace(_unread(name, unfit), width=width, height=height, picture=_jpeg(rgb, PICTURE_PX))
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
        )

    def read_fields(self, pictures: Iterable[Any]) -> Iterator[ReadField]:
        """Read many fields, in their order, lazily; a few are under way at a time."""
        stream = iter(pictures)
        if self.threads == 1:
            yield from map(self.read_field, stream)
            return
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="giemsa-smear")
        under_way: deque[Future[ReadField]] = deque()
        try:
            for picture in islice(stream, self.threads + 1):
                under_way.append(pool.submit(self.read_field, picture))
            while under_way:
                done = under_way.popleft().result()
                for picture in islice(stream, 1):
                    under_way.append(pool.submit(self.read_field, picture))
                yield done
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Slide:
    """What is known of a slide once all of its fields are read.

    Attributes
    ----------
    centre, spread : float
        Of its healthy cells' logits.
    cells : int
        How many these come from.
    diameter_px : float
        The median of its fields' red cells.
    """

    centre: float
    spread: float
    cells: int
    diameter_px: float


def slide_of(fields: Iterable[ReadField]) -> Slide | None:
    """Gather what judging needs of a slide; None where no field is counted."""
    own, diameters = [], []
    for read in fields:
        if not read.refusal and read.cells:
            own.append((*judging.own_reference([cell.logit for cell in read.cells]), len(read.cells)))
            diameters.append(read.cell_diameter_px)
    if not own:
        return None
    centre, spread, cells = judging.slide_reference(own)
    return Slide(centre, spread, cells, float(np.median(diameters)))


def judge_field(
    read: ReadField, slide: Slide | None, cut: float, decisions: Mapping[tuple[str, int, int, int, int], Decision]
) -> JudgedField:
    """Judge a field's cells against their slide; a refused field stays without.

    Parameters
    ----------
    read : ReadField
        The field.
    slide : Slide or None
        Of `slide_of`; None where no field is counted.
    cut : float
        `parasitized` means a relative logit of at least this.
    decisions : mapping
        From a cell's key to what a person decided.
    """
    if read.refusal or slide is None or not read.cells:
        return JudgedField(read, (), None)
    own = judging.own_reference([cell.logit for cell in read.cells])
    against = judging.reference(own, len(read.cells), (slide.centre, slide.spread))
    return JudgedField(read, tuple(_judged(read.field, c, against, cut, decisions) for c in read.cells), against)


def read_smear(
    pictures: Iterable[Any] | str | os.PathLike[str],
    *,
    patient: str = "",
    model: Model | str | os.PathLike[str] | None = None,
    site: Site | str | os.PathLike[str] | None = None,
    decisions: Mapping[tuple[str, int, int, int, int], Decision] | None = None,
    cell_diameter_px: float | None = None,
    red_cells_per_ul: float | None = None,
    threads: int | None = None,
) -> Smear:
    """Read the fields of one smear, and count.

    Parameters
    ----------
    pictures : path or iterable
        A folder, or files, folders, patterns and archives as `giemsa smear` takes them; or anything that
        `SmearReader.read_field` takes (arrays, bytes, sources).
    patient : str
        Whose blood it is.
    model : Model or path, optional
        None means the embedded model.
    site : Site or path, optional
        This laboratory's rates, of `giemsa smear calibrate`.
    decisions : mapping, optional
        From a cell's key to `confirmed` or `rejected`.
    cell_diameter_px : float, optional
        None means that each field's is estimated.
    red_cells_per_ul : float, optional
        The patient's red cell count; None means that 5,000,000 is assumed, and said.
    threads : int, optional
        Fields that are read at a time.

    Returns
    -------
    Smear
        Frozen and typed. All fields are held; `SmearReader.read_fields` streams.
    """
    from giemsa.smear.site import Site, read_site

    reader = SmearReader(model, cell_diameter_px=cell_diameter_px, threads=threads)
    if site is not None and not isinstance(site, Site):
        site = read_site(site, model_sha256=reader.model.digest)
    reads = list(reader.read_fields(_opened(pictures)))
    slide = slide_of(reads)
    tally = Tally(reader.model, slide, site, patient=patient, red_cells_per_ul=red_cells_per_ul)
    judged = tuple(judge_field(read, slide, tally.cut, decisions or {}) for read in reads)
    for one in judged:
        tally.add(one)
    return Smear(tally.summary(), judged)


@dataclass
class Tally:
    """Adds judged fields up to a summary."""

    model: Model
    slide: Slide | None
    site: Site | None = None
    patient: str = ""
    red_cells_per_ul: float | None = None
    command: str = ""
    fields: int = 0
    counted: int = 0
    cells_cut: int = 0
    red_cells: int = 0
    called: int = 0
    confirmed: int = 0
    rejected: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    other_scale: list[tuple[str, float]] = field(default_factory=list)

    @property
    def cut(self) -> float:
        """`parasitized` means a relative logit of at least this."""
        return self.site.cut if self.site is not None else judging.DEFAULT_CUT

    def add(self, judged: JudgedField) -> None:
        """Take one more field in."""
        self.fields += 1
        if judged.reference is None:
            self.refused.append((judged.read.field, judged.read.refusal or "no cells at all"))
            return
        self.counted += 1
        self.cells_cut += judged.read.cut
        self.red_cells += len(judged.cells)
        for cell in judged.cells:
            # A cell below the cut that a person confirmed counts as called: it is known to be parasitized.
            called = cell.relative_logit >= self.cut or cell.decision == "confirmed"
            self.called += called
            self.confirmed += cell.decision == "confirmed"
            self.rejected += called and cell.decision == "rejected"
        ratio = judged.read.cell_diameter_px / self.slide.diameter_px if self.slide else 1.0
        if not 1 / OTHER_SCALE <= ratio <= OTHER_SCALE:
            self.other_scale.append((judged.read.field, judged.read.cell_diameter_px))

    def rates(self) -> counting.Rates:
        """Give the rates that the count goes by."""
        return self.site.rates() if self.site is not None else counting.assumed_rates()

    def summary(self) -> SmearSummary:
        """Give what was counted."""
        from giemsa import __version__
        from giemsa.smear.finding import RED_CELL_UM

        rates = self.rates()
        count = None
        if self.red_cells:
            count = counting.count(
                self.red_cells,
                self.called,
                rates,
                confirmed=self.confirmed,
                rejected=self.rejected,
                red_cells_per_ul=self.red_cells_per_ul,
            )
        diameter = self.slide.diameter_px if self.slide else 0.0
        return SmearSummary(
            patient=self.patient,
            fields=self.fields,
            fields_counted=self.counted,
            refused=tuple(self.refused),
            other_scale=tuple(self.other_scale),
            cells_cut=self.cells_cut,
            count=count,
            cell_diameter_px=diameter,
            px_per_um=diameter / RED_CELL_UM,
            cut=self.cut,
            reference_centre=self.slide.centre if self.slide else 0.0,
            reference_spread=self.slide.spread if self.slide else 0.0,
            reference_cells=self.slide.cells if self.slide else 0,
            rates=rates.source,
            rates_measured=rates.measured,
            sensitivity=rates.mean_sensitivity,
            false_alarms=rates.mean_false_alarms,
            design_effect=rates.design_effect,
            model=self.model.card.name,
            model_sha256=self.model.digest,
            giemsa=__version__,
            command=self.command,
        )


def _judged(
    name: str,
    cell: ReadCell,
    against: Reference,
    cut: float,
    decisions: Mapping[tuple[str, int, int, int, int], Decision],
) -> JudgedCell:
    relative = judging.relative(cell.logit, against)
    decision = decisions.get((name, cell.x0, cell.y0, cell.x1, cell.y1))
    parasitized = relative >= cut if decision is None else decision == "confirmed"
    return JudgedCell(
        field=name,
        x0=cell.x0,
        y0=cell.y0,
        x1=cell.x1,
        y1=cell.y1,
        diameter_um=cell.diameter_um,
        verdict="parasitized" if parasitized else "uninfected",
        p_parasitized=cell.p_parasitized,
        logit=cell.logit,
        relative_logit=relative,
        decision=decision,
    )


def _opened(pictures: Iterable[Any] | str | os.PathLike[str]) -> Iterator[Any]:
    """Open paths as the command line does, and pass everything else on."""
    from os import PathLike, fspath

    if isinstance(pictures, str | PathLike):
        yield from open_sources([fspath(pictures)])
        return
    for picture in pictures:
        if isinstance(picture, str | PathLike):
            yield from open_sources([fspath(picture)])
        else:
            yield picture


def _pixels(picture: object) -> NDArray[np.uint8]:
    rgb = pixels_of(picture)
    if rgb is None:
        raise UsageError(f"a field is given as {type(picture).__name__}; expected a path, bytes or an array")
    return rgb


def _name(picture: Any) -> str:  # noqa: ANN401
    from os import PathLike, fsdecode

    if isinstance(picture, Source):
        return picture.name
    return printable(fsdecode(picture)) if isinstance(picture, str | PathLike) else f"#{id(picture):x}"


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
