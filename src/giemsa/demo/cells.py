"""The two dozen real cells of the demo: their names, labels and digests, and the place where they are kept.

The pictures themselves are not in this repository. `cells.json` names them as the official archive of the
Malaria Cell Images (U.S. National Library of Medicine) does, and holds the digest of their decoded pixels, so
that it does not matter how a copy of them was compressed. They were chosen by eye from as many patients: a dozen
on which every reader agrees, half a dozen hard ones (platelets, precipitate and dirt on the cells of people without
malaria, faint parasites), and half a dozen whose label is disputed.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, cast

from giemsa.errors import DownloadError, PictureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from giemsa.verdicts import Label

ARCHIVE_URL: Final = "https://data.lhncbc.nlm.nih.gov/public/Malaria/cell_images.zip"
"""The official archive, 353,452,851 bytes; it must be served in ranges."""
MAX_CELL_BYTES: Final = 1_000_000
"""No cell of that archive comes near it; the largest has 394 x 385 px."""


@dataclass(frozen=True, slots=True)
class DemoCell:
    """One real cell, by name and digest.

    Attributes
    ----------
    member : str
        Its path in the official archive.
    kind : {"easy", "hard", "disputed"}
        Why it was chosen.
    label : Label
        The official label.
    reviewed : Label
        What a second reading says (Fuhad et al. 2020).
    donor : bool
        Whether it is of a person without malaria, so that it is uninfected whatever a reader saw.
    shape : (int, int, int)
        Of the decoded picture: height, width and 3.
    sha256 : str
        Of the decoded pixels: RGB, uint8, row by row.
    """

    member: str
    kind: Literal["easy", "hard", "disputed"]
    label: Label
    reviewed: Label
    donor: bool
    shape: tuple[int, int, int]
    sha256: str

    @property
    def name(self) -> str:
        """The file name, as everybody who uses the collection knows it."""
        return PurePosixPath(self.member).name

    @property
    def patient(self) -> str:
        """Whose it is, by the name that a model's card has for it."""
        from giemsa.data.patients import origin_of

        origin = origin_of(self.name)
        return origin.patient if origin is not None else self.name

    @property
    def disputed(self) -> bool:
        """Whether the second reading says otherwise, and nothing tells who is right."""
        return self.label != self.reviewed and not self.donor

    def check(self, data: bytes) -> None:
        """Make sure that these bytes are this picture.

        Raises
        ------
        DownloadError
            If they are no picture, or other pixels than the official ones.
        """
        from giemsa.images import decode  # OpenCV, needed only where there are pictures

        try:
            rgb = decode(data)
        except PictureError as error:
            raise DownloadError(f"{self.member} is no picture ({error}), expected the official cell") from error
        digest = hashlib.sha256(rgb.tobytes()).hexdigest()
        if rgb.shape != self.shape or digest != self.sha256:
            raise DownloadError(
                f"the {rgb.shape[1]} x {rgb.shape[0]} pixels of {self.member} have SHA-256 {digest[:12]}..., "
                f"expected {self.sha256[:12]}... of the official {self.shape[1]} x {self.shape[0]}"
            )


@lru_cache(maxsize=1)
def real_cells() -> tuple[DemoCell, ...]:
    """List the real cells of the demo, easy ones first."""
    listed = json.loads(files("giemsa.demo").joinpath("cells.json").read_text(encoding="utf-8"))["cells"]
    return tuple(DemoCell(**{**cell, "shape": cast("tuple[int, int, int]", tuple(cell["shape"]))}) for cell in listed)


def cache_folder() -> Path:
    """Say where the demo keeps its real cells: `giemsa/demo` in the user's cache (XDG base directories).

    Raises
    ------
    DownloadError
        If the user has no home and `XDG_CACHE_HOME` does not help.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        return Path(given) / "giemsa" / "demo"
    try:
        return Path.home() / ".cache" / "giemsa" / "demo"
    except RuntimeError as error:
        raise DownloadError("there is no home folder to keep real cells in; set XDG_CACHE_HOME to a folder") from error


def read_cached(cells: Sequence[DemoCell], folder: Path) -> dict[DemoCell, bytes]:
    """Read those cells that lie in a folder with the right pixels; the others are as good as absent."""
    found = {}
    for cell in cells:
        try:
            with (folder / cell.name).open("rb") as file:
                data = file.read(MAX_CELL_BYTES + 1)
            cell.check(data)
        except OSError:  # not there, not readable, or (DownloadError) not the right pixels
            continue
        found[cell] = data
    return found
