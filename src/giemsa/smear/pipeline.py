"""Photographs to a count, in one way for the Python API, the command line and the page.

    read      each field is decoded, searched, scored and checked (`reading`); of the other fields nothing is needed, so
              that fields stream through a few threads
    slide     the healthy cells' middle and spread over all fields, known when all are read
    judge     each cell against its slide and field (`judging`)
    count     added up, with its interval (`tally`, `counting`)

Between reading and judging fields lie in a list, in a folder (`store.SmearFolder`) or in a file without a name
(`store.TemporaryFields`): anything that can be gone through more than once.

>>> smear = read_smear(["field1.jpg", "field2.jpg"])          # doctest: +SKIP
>>> smear.summary.count.parasitaemia                          # doctest: +SKIP
Interval(value=0.012, low=0.004, high=0.021)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from giemsa.smear import judging
from giemsa.smear.reading import SmearReader
from giemsa.smear.results import JudgedCell, JudgedField, ReadCell, ReadField, Reference, Slide, Smear, SmearSummary
from giemsa.smear.tally import Basis, Tally
from giemsa.sources import open_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from giemsa.model import Model
    from giemsa.smear.decisions import Decisions, Key
    from giemsa.smear.results import Decision
    from giemsa.smear.site import Site


def read_smear(
    pictures: Iterable[Any] | str | os.PathLike[str],
    *,
    patient: str = "",
    model: Model | str | os.PathLike[str] | None = None,
    site: Site | str | os.PathLike[str] | None = None,
    decisions: Decisions | Mapping[Key, Decision] | None = None,
    cell_diameter_px: float | None = None,
    red_cells_per_ul: float | None = None,
    threads: int | None = None,
) -> Smear:
    """The count of one smear, with its fields and their cells.

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
    decisions : Decisions or mapping, optional
        From a cell's key to `confirmed` or `rejected`; `read_decisions` knows of complete fields too.
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
    from giemsa.smear.decisions import Decisions
    from giemsa.smear.site import Site, read_site

    reader = SmearReader(model, cell_diameter_px=cell_diameter_px, threads=threads)
    if site is not None and not isinstance(site, Site):
        site = read_site(site, model_sha256=reader.model.digest)
    if not isinstance(decisions, Decisions):
        decisions = Decisions(dict(decisions or {}))
    basis = Basis(
        reader.model,
        site,
        patient,
        red_cells_per_ul,
        decisions.cells,
        complete_fields=decisions.complete_fields,
    )
    judged: list[JudgedField] = []
    summary = count_fields(list(reader.read_fields(_opened(pictures))), basis, judged.append)
    return Smear(summary, tuple(judged))


def count_fields(
    fields: Iterable[ReadField],
    basis: Basis,
    *takers: Callable[[JudgedField], object],
    slide: Slide | None = None,
) -> SmearSummary:
    """The count of the fields of one smear; each of its fields is judged once and handed on.

    Parameters
    ----------
    fields : iterable of ReadField
        All of them, in their order.
    basis : Basis
        What the count is based on besides the photographs.
    *takers : callable
        Each is given each judged field: a report, a table.
    slide : Slide, optional
        Of these fields, where it is known already; None means that they are gone through once more for it.

    Returns
    -------
    SmearSummary
    """
    slide = slide if slide is not None else slide_of(fields)
    tally = Tally(basis, slide)
    for judged in judge_fields(fields, slide, basis.cut, basis.decisions, basis.complete_fields):
        for take in (tally.add, *takers):
            take(judged)
    return tally.summary()


def slide_of(fields: Iterable[ReadField]) -> Slide | None:
    """What judging needs of a slide; None where no field is counted."""
    own, diameters = [], []
    for read in fields:
        if not read.refusal and read.cells:
            own.append((*judging.own_reference([cell.logit for cell in read.cells]), len(read.cells)))
            diameters.append(read.cell_diameter_px)
    if not own:
        return None
    centre, spread, cells = judging.slide_reference(own)
    return Slide(centre, spread, cells, float(np.median(diameters)))


def judge_fields(
    fields: Iterable[ReadField],
    slide: Slide | None,
    cut: float,
    decisions: Mapping[Key, Decision],
    complete_fields: frozenset[str] = frozenset(),
) -> Iterator[JudgedField]:
    """Each field with its cells judged against their slide; a refused field stays without.

    Parameters
    ----------
    fields : iterable of ReadField
        Of one smear.
    slide : Slide or None
        Of `slide_of`; None where no field is counted.
    cut : float
        `parasitized` means a relative logit of at least this.
    decisions : mapping
        From a cell's key to what a person decided.
    complete_fields : frozenset of str
        Fields in which a person has looked at every cell: none but the confirmed ones is parasitized.
    """
    for read in fields:
        if read.refusal or slide is None or not read.cells:
            yield JudgedField(read, (), None)
            continue
        own = judging.own_reference([cell.logit for cell in read.cells])
        against = judging.reference(own, len(read.cells), (slide.centre, slide.spread))
        least = np.inf if read.field in complete_fields else cut
        yield JudgedField(read, tuple(_judged(read.field, c, against, least, decisions) for c in read.cells), against)


def _judged(name: str, cell: ReadCell, against: Reference, cut: float, decisions: Mapping[Key, Decision]) -> JudgedCell:
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
    for picture in [pictures] if isinstance(pictures, str | os.PathLike) else pictures:
        if isinstance(picture, str | os.PathLike):
            yield from open_sources([os.fspath(picture)])
        else:
            yield picture
