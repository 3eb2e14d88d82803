"""Which cells the demo shows: those given, else the real ones, else the drawn ones."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from giemsa.demo.cells import ARCHIVE_URL
from giemsa.demo.fetch import fetch_cells
from giemsa.errors import DownloadError, SourceError
from giemsa.sources import Source, open_sources, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from giemsa.demo.cells import DemoCell
    from giemsa.demo.fetch import Progress
    from giemsa.verdicts import Label

_INSTALLED = Path(__file__).with_name("drawn")
"""Where a wheel holds `examples/cells` (see `pyproject.toml`)."""
_IN_CLONE = Path(__file__).parents[3] / "examples" / "cells"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a cell.

    Attributes
    ----------
    label : Label or None
        What it is; None where people disagree and nothing tells who is right.
    words : str
        The same for people, and why the cell is here.
    patient : str or None
        Whose it is; None for a drawn one.
    """

    label: Label | None
    words: str
    patient: str | None = None

    @classmethod
    def of_real(cls, cell: DemoCell) -> Known:
        """Take the official label, and say what else is known."""
        if cell.disputed:
            return cls(None, f"disputed: {cell.label}, {cell.reviewed}", cell.patient)
        kind = "donor" if cell.donor and cell.label != cell.reviewed else cell.kind
        return cls(cell.label, f"{cell.label} ({kind})", cell.patient)

    @classmethod
    def of_drawn(cls, name: str) -> Known:
        """Read what was drawn out of the name, such as `drawn_parasitized_ring_01.png`."""
        label: Label = "parasitized" if name.startswith("drawn_parasitized_") else "uninfected"
        return cls(label, f"drawn {label}")


@dataclass(frozen=True, slots=True)
class Choice:
    """The cells that the demo is going to classify.

    Attributes
    ----------
    kind : {"given", "real", "drawn"}
        Whose cells they are.
    why : str
        Why these, as a sentence for the user.
    sources : iterable of Source
        The pictures, to be read once.
    known : mapping of str to Known
        What is known of the cells, by the name of their source; empty where they were given.
    """

    kind: Literal["given", "real", "drawn"]
    why: str
    sources: Iterable[Source]
    known: Mapping[str, Known] = field(default_factory=dict)


def choose_cells(
    given: str | os.PathLike[str] | None = None,
    *,
    archive: str = ARCHIVE_URL,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Choice:
    """Choose, and say why.

    Parameters
    ----------
    given : path, optional
        Someone's own cells: anything that `giemsa classify` takes. They are taken, or it is an error.
    archive : str
        Where the real cells are fetched from.
    folder : Path, optional
        The cache of the real cells; None means `giemsa.demo.cache_folder`.
    progress : callable, optional
        As for `giemsa.demo.fetch_cells`.

    Returns
    -------
    Choice

    Raises
    ------
    SourceError
        If the given cells, or the drawn ones where they are needed, are not there.
    """
    if given is not None:
        return Choice("given", f"they were asked for: {printable(os.fspath(given))}", open_sources([given]))
    try:
        fetched = fetch_cells(archive=archive, folder=folder, progress=progress)
    except DownloadError as error:
        sources = [Source(Path(drawn.name).name, drawn.read) for drawn in open_sources([drawn_folder()])]
        return Choice("drawn", str(error), sources, {drawn.name: Known.of_drawn(drawn.name) for drawn in sources})
    if fetched.transferred == 0:
        why = f"they are in the cache {fetched.folder}"
    else:
        why = (
            f"fetched {len(fetched.pictures) - fetched.from_cache} of them from {archive} "
            f"({fetched.transferred / 1e6:.1f} MB in {fetched.requests} range requests)"
        )
        why += f"; not kept: {fetched.not_kept}" if fetched.not_kept else f" and kept in {fetched.folder}"
    sources = [Source(cell.name, partial(bytes, data)) for cell, data in fetched.pictures.items()]
    return Choice("real", why, sources, {cell.name: Known.of_real(cell) for cell in fetched.pictures})


def drawn_folder() -> Path:
    """Find the drawn cells: in the installed package, else in the clone that this code is part of.

    Raises
    ------
    SourceError
        If they are in neither place.
    """
    for folder in (_INSTALLED, _IN_CLONE):
        if folder.is_dir():
            return folder
    raise SourceError(
        f"the drawn cells are neither in {_INSTALLED} nor in {_IN_CLONE}; install Giemsa again, or give cells"
    )
