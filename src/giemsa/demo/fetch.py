"""Fetch the real cells of the demo out of the official archive, without the other 99 % of it."""

from __future__ import annotations

import struct
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from giemsa.demo.cells import ARCHIVE_URL, MAX_CELL_BYTES, cache_folder, read_cached, real_cells
from giemsa.demo.ranges import RangeFile
from giemsa.errors import DownloadError, OutputError
from giemsa.files import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from giemsa.demo.cells import DemoCell

    Progress = Callable[[int, int], None]

_LOCAL_HEADER_BYTES: Final = 30
_SPARE_BYTES: Final = 64  # for the extra field of a local header, whose length only the header itself tells


@dataclass(frozen=True, slots=True)
class Fetched:
    """The real cells and where they came from.

    Attributes
    ----------
    pictures : mapping of DemoCell to bytes
        The picture files, all verified, in the order of the list.
    folder : Path
        The cache.
    from_cache : int
        How many were in it already.
    transferred : int
        Bytes that came over the network.
    requests : int
        How many requests that took.
    not_kept : str
        Why what was fetched could not be written to the cache; empty where it could.
    """

    pictures: Mapping[DemoCell, bytes]
    folder: Path
    from_cache: int
    transferred: int = 0
    requests: int = 0
    not_kept: str = field(default="")


def fetch_cells(
    cells: Sequence[DemoCell] | None = None,
    *,
    archive: str = ARCHIVE_URL,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Fetched:
    """Get the real cells: from the cache, and what is missing there from the archive by range requests.

    Parameters
    ----------
    cells : sequence of DemoCell, optional
        Which; None means all of `real_cells`.
    archive : str
        The address of the archive or of a mirror of it.
    folder : Path, optional
        The cache; None means `cache_folder`.
    progress : callable, optional
        Called with how many of the missing cells have come and how many are missing, first with 0.

    Returns
    -------
    Fetched

    Raises
    ------
    DownloadError
        If one cannot be had, or its pixels are not the official ones. What came before is in the cache.
    """
    cells = real_cells() if cells is None else cells
    folder = cache_folder() if folder is None else folder
    pictures = read_cached(cells, folder)
    from_cache = len(pictures)
    missing = [cell for cell in cells if cell not in pictures]
    transferred, requests, not_kept = 0, 0, ""
    if missing:
        say = progress or _say_nothing
        say(0, len(missing))
        with RangeFile(archive) as remote, _open_archive(remote) as opened:
            for done, cell in enumerate(missing, start=1):
                pictures[cell] = _read_member(opened, remote, cell)
                not_kept = not_kept or _keep(folder, cell, pictures[cell])
                say(done, len(missing))
            transferred, requests = remote.transferred, remote.requests
    ordered = {cell: pictures[cell] for cell in cells}
    return Fetched(ordered, folder, from_cache, transferred, requests, not_kept)


@contextmanager
def _open_archive(remote: RangeFile) -> Iterator[zipfile.ZipFile]:
    """Open a remote archive, and say in one sentence what may be wrong with it, here or inside of the block."""
    try:
        with zipfile.ZipFile(remote) as opened:
            yield opened
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        # zipfile takes any OSError at the end of a file for a sign that it is no archive.
        if isinstance(error.__context__, DownloadError):
            raise error.__context__ from None
        raise DownloadError(
            f"{remote.url} is not a zip archive that can be read ({error}), expected the Malaria Cell Images; "
            "check the address"
        ) from error


def _read_member(opened: zipfile.ZipFile, remote: RangeFile, cell: DemoCell) -> bytes:
    """Read one cell with one request, and make sure that it is the one."""
    try:
        entry = opened.getinfo(cell.member)
    except KeyError:
        raise DownloadError(
            f"{cell.member} is not in {remote.url}, expected the official archive or an exact mirror of it"
        ) from None
    if max(entry.file_size, entry.compress_size) > MAX_CELL_BYTES:
        raise DownloadError(
            f"{cell.member} in {remote.url} is {entry.file_size:,} bytes large, expected at most {MAX_CELL_BYTES:,}"
        )
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DownloadError(f"{cell.member} in {remote.url} is packed by method {entry.compress_type}, expected 0 or 8")
    overhead = _LOCAL_HEADER_BYTES + len(entry.filename.encode()) + len(entry.extra) + _SPARE_BYTES
    remote.prefetch(entry.header_offset, overhead + entry.compress_size)
    with opened.open(entry) as member:
        data = member.read(MAX_CELL_BYTES + 1)
    cell.check(data)
    return data


def _keep(folder: Path, cell: DemoCell, data: bytes) -> str:
    """Write one cell to the cache; a cache that cannot be written is no reason not to show the cell."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / cell.name, data)
    except (OSError, OutputError) as error:
        return str(error)
    return ""


def _say_nothing(done: int, missing: int) -> None:
    """Stand in for a progress bar."""
