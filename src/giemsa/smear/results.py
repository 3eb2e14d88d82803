"""Results of reading a smear, as frozen types."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from giemsa.verdicts import DISCLAIMER

if TYPE_CHECKING:
    from giemsa.smear.counting import Count
    from giemsa.stamps import Stamp

Decision = Literal["confirmed", "rejected"]
CellVerdict = Literal["parasitized", "uninfected"]


@dataclass(frozen=True, slots=True)
class ReadCell:
    """A red cell that was found in a field, with the model's score; not judged against its slide yet.

    Attributes
    ----------
    x0, y0, x1, y1 : int
        Its box in pixels of the photograph, ends exclusive.
    diameter_um : float
        In micrometres, if the typical red cell of its field measures `finding.RED_CELL_UM`.
    logit : float
        The model's score.
    p_parasitized : float
        The model's calibrated probability, which knows nothing of this slide.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    diameter_um: float
    logit: float
    p_parasitized: float


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture of a suspicious cell.

    Attributes
    ----------
    cell : int
        Its place among the cells of its field.
    jpeg : bytes
        A JPEG of 128 px along its longer side.
    """

    cell: int
    jpeg: bytes = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class ReadField:
    """A field that was read, or refused.

    Attributes
    ----------
    field : str
        Its name.
    width, height : int
        In pixels; 0 where it could not be decoded.
    cells : tuple of ReadCell
        Whole red cells; of a refused field too, where any were found.
    refusal : str
        Why it is left out of the count; empty where it is counted.
    cut : int
        Red cells that the border cuts; left out.
    cell_diameter_px, px_per_um : float
        The typical red cell's diameter, and the scale that this means; 0 where there is none.
    sharpness, ground_share, explained : float
        What refusals go by: see `quality`.
    picture : bytes
        A JPEG of the field, at most 1,280 px wide, for overlays; empty where it could not be decoded.
    thumbnails : tuple of Thumbnail
        Of its most suspicious cells.
    stamp : Stamp or None
        Of the file that it was read from, so that a later run can tell whether it is the same; None of an array.
    """

    field: str
    width: int
    height: int
    cells: tuple[ReadCell, ...]
    refusal: str
    cut: int
    cell_diameter_px: float
    px_per_um: float
    sharpness: float
    ground_share: float
    explained: float
    picture: bytes = dataclasses.field(default=b"", repr=False)
    thumbnails: tuple[Thumbnail, ...] = dataclasses.field(default=(), repr=False)
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """The cells that another cell is judged against.

    Attributes
    ----------
    centre, spread : float
        The healthy cells' middle logit, and the logits below it in robust standard deviations; logit units.
    cells : int
        How many cells of the field itself are behind it.
    slide_share : float
        How much of it comes from the whole slide, 0 to 1.
    """

    centre: float
    spread: float
    cells: int
    slide_share: float


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


@dataclass(frozen=True, slots=True)
class JudgedCell:
    """A red cell judged against its slide.

    Attributes
    ----------
    field : str
        The field that it lies in.
    x0, y0, x1, y1 : int
        Its box in pixels of the photograph, ends exclusive.
    diameter_um : float
        If the field's typical red cell measures 7.5 micrometres.
    verdict : str
        `parasitized` where `relative_logit` reaches the smear's cut or a person confirmed it; else `uninfected`.
    p_parasitized, logit : float
        As the model gives them (the logit: the mean of eight looks), without regard to the slide.
    relative_logit : float
        The logit above the healthy cells' middle, in their spreads.
    decision : str
        What a person decided: `confirmed`, `rejected`, or nothing.
    """

    field: str
    x0: int
    y0: int
    x1: int
    y1: int
    diameter_um: float
    verdict: CellVerdict
    p_parasitized: float
    logit: float
    relative_logit: float
    decision: Decision | None = None

    @property
    def key(self) -> tuple[str, int, int, int, int]:
        """What names the cell in files of decisions."""
        return (self.field, self.x0, self.y0, self.x1, self.y1)


@dataclass(frozen=True, slots=True)
class JudgedField:
    """A field with its cells judged.

    Attributes
    ----------
    read : ReadField
        What was read.
    cells : tuple of JudgedCell
        Empty for a refused field.
    reference : Reference or None
        What they were judged against; None for a refused field.
    """

    read: ReadField
    cells: tuple[JudgedCell, ...]
    reference: Reference | None

    @property
    def called(self) -> int:
        """Cells called parasitized."""
        return sum(cell.verdict == "parasitized" for cell in self.cells)


@dataclass(frozen=True, slots=True)
class SmearSummary:
    """A smear's count and how it was made; what `summary.json` holds.

    Attributes
    ----------
    patient : str
        The name given, or empty.
    fields, fields_counted : int
        Photographs given, and those that were counted.
    refused : tuple of (str, str)
        Fields left out, each with its reason.
    other_scale : tuple of (str, float)
        Counted fields whose red cells measure more than a quarter more or less than the smear's median, with
        their diameter in px: another magnification, or a wrong estimate.
    cells_cut : int
        Red cells that a border cuts, left out.
    count : Count or None
        None where no field is left.
    cell_diameter_px, px_per_um : float
        Medians over counted fields.
    cut : float
        `parasitized` means a relative logit of at least this.
    reference_centre, reference_spread : float
        The slide's healthy cells: middle and spread of their logits.
    reference_cells : int
        How many cells these come from.
    rates : str
        Where the rates of right and wrong calls come from.
    rates_measured : bool
        Whether slides of this laboratory were reviewed.
    rates_lack : str
        What the site's file does not tell; empty where nothing is missing or no site is given.
    slides_reviewed : int
        How many slides they come from; 0 where they are assumed.
    sensitivity, false_alarms : tuple of float
        On another slide of this laboratory: median and 95 % limits. Of infected cells found and called; of healthy ones.
    called_per_field : tuple of float
        Least, median and most cells that the classifier called in a counted field.
    model, model_sha256, giemsa, command : str
        What was used.
    """

    patient: str
    fields: int
    fields_counted: int
    refused: tuple[tuple[str, str], ...]
    other_scale: tuple[tuple[str, float], ...]
    cells_cut: int
    count: Count | None
    cell_diameter_px: float
    px_per_um: float
    cut: float
    reference_centre: float
    reference_spread: float
    reference_cells: int
    rates: str
    rates_measured: bool
    rates_lack: str
    slides_reviewed: int
    sensitivity: tuple[float, float, float]
    false_alarms: tuple[float, float, float]
    called_per_field: tuple[float, float, float]
    model: str
    model_sha256: str
    giemsa: str
    command: str = ""
    disclaimer: str = DISCLAIMER


@dataclass(frozen=True, slots=True)
class Smear:
    """A smear that was read: its summary, and its fields with their cells.

    Attributes
    ----------
    summary : SmearSummary
        The count and how it was made.
    fields : tuple of JudgedField
        In the order in which they were given.
    """

    summary: SmearSummary
    fields: tuple[JudgedField, ...]

    @property
    def cells(self) -> tuple[JudgedCell, ...]:
        """All cells that were counted."""
        return tuple(cell for field in self.fields for cell in field.cells)
