"""Decode once: the pixels of an index as one memory-mapped array per input size.

A cache is named after what is in it: the digests of the pictures in their order, the size, and the code that made
pixels of them. Changed data or another version of OpenCV therefore make a new cache, and an old one is never
mistaken for it. It is built beside its place by the one process that holds the lock and renamed when it is
complete and on disk; what a killed process leaves behind is a file that nobody reads and the next builder removes.
Its digest stands beside it and is checked whenever it is opened, since nobody looks at pixels that are trained on: one
that a disk has damaged is made anew, and that is said.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from giemsa.data.folders import cache_folder, usable_cores
from giemsa.errors import DataError, GiemsaWarning, MissingExtraError, OutputError, PictureError, UsageError
from giemsa.files import is_sealed, seal, seal_path
from giemsa.images import decode, resize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from giemsa.data.index import CellIndex

PIXELS_VERSION: Final = 2
"""Raised whenever `images.decode` or `images.resize` make other pixels of the same file."""

_BATCH: Final = 64
_SPARE_BYTES: Final = 64 * 2**20


def open_cache(
    index: CellIndex,
    size_px: int,
    *,
    directory: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """Open the pixels of an index, decoding them first where that has not been done.

    Two processes may call this at once: one builds, the other waits for it.

    Parameters
    ----------
    index : CellIndex
        The cells.
    size_px : int
        Side of the square to which each cell is resized.
    directory : path, optional
        Where caches lie; by default `pixels` in the user's cache.
    progress : callable, optional
        Called with the number of cells decoded so far and in all, while the cache is built.

    Returns
    -------
    memmap
        uint8 [N, size_px, size_px, 3], RGB, read-only, in the order of `index`.

    Raises
    ------
    DataError
        If a picture has changed since the index was read, or cannot be decoded after all.
    OutputError
        If the cache cannot be written.
    """
    if size_px < 1:
        raise UsageError(f"cells cannot be resized to {size_px} px; expected a size of at least 1")
    folder = Path(directory) if directory is not None else cache_folder() / "pixels"
    shape = (len(index), size_px, size_px, 3)
    path = folder / f"{_key(index, size_px)}-{size_px}px.npy"
    if (cells := _open_complete(path, shape)) is not None:
        return cells
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(path.with_name(f"{path.name}.lock")):
            if (cells := _open_complete(path, shape)) is None:
                _build(index, path, shape, progress)
                cells = _open_complete(path, shape)
    except (DataError, OutputError):
        raise
    except OSError as error:
        raise _cannot_write(path, error.strerror or str(error)) from error
    if cells is None:
        raise _cannot_write(path, "what was written cannot be read back")
    return cells


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Wait for a lock that the system takes back from a process that is killed.

    Raises
    ------
    MissingExtraError
        If `filelock` is not installed.
    """
    try:
        from filelock import FileLock
    except ImportError as error:
        message = "sharing data between processes needs filelock; install it with: pip install 'giemsa[lab]'"
        raise MissingExtraError(message) from error
    with FileLock(path):
        yield


def _key(index: CellIndex, size_px: int) -> str:
    """Name what a cache holds."""
    made_by = f"giemsa pixels {PIXELS_VERSION}, OpenCV {cv2.__version__}, {size_px} px\n"
    digest = hashlib.sha256(made_by.encode())
    for cell in index:
        digest.update(bytes.fromhex(cell.sha256))
    return digest.hexdigest()[:40]


def _open_complete(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]] | None:
    """Open a cache, None where there is none of this shape."""
    if not is_sealed(path):
        if seal_path(path).exists() and path.exists():
            warnings.warn(
                f"{path}: the cache of decoded cells was damaged and is made anew", GiemsaWarning, stacklevel=3
            )
        return None
    try:
        cells = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(cells, np.memmap) or cells.shape != shape or cells.dtype != np.uint8:
        return None
    return cells


def _build(index: CellIndex, path: Path, shape: tuple[int, ...], progress: Callable[[int, int], None] | None) -> None:
    """Decode all cells into a file beside `path` and rename it; to be called with the lock held."""
    for left_behind in path.parent.glob(f".{path.name}.*.part"):
        left_behind.unlink(missing_ok=True)  # of a process that was killed: we hold the lock
    needed = math.prod(shape) + _SPARE_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise _cannot_write(path, f"it takes {needed:,} bytes and {free:,} are free")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        cells = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # Else a disk that fills up meanwhile would end the process by a signal.
            with beside.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, beside.stat().st_size)
        _decode_all(index, cells, progress)
        cells.flush()
        del cells
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        seal_path(path).unlink(missing_ok=True)  # of a damaged one
        beside.replace(path)
        seal(path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _decode_all(index: CellIndex, cells: NDArray[np.uint8], progress: Callable[[int, int], None] | None) -> None:
    """Decode each cell into its row, on all cores."""

    def fill(start: int) -> int:
        chosen = range(start, min(start + _BATCH, len(index)))
        for row in chosen:
            cells[row] = _read_cell(index, row, cells.shape[1])
        return len(chosen)

    done = 0
    with ThreadPoolExecutor(usable_cores()) as pool:
        for finished in pool.map(fill, range(0, len(index), _BATCH)):
            done += finished
            if progress is not None:
                progress(done, len(index))


def _read_cell(index: CellIndex, row: int, size_px: int) -> NDArray[np.uint8]:
    """Decode one cell, having made sure that it is the one of the index."""
    cell = index.cells[row]
    path = index.root / cell.file
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path}: the picture cannot be read any more ({error.strerror}); check the data and run again"
        raise DataError(message) from error
    if hashlib.sha256(data).hexdigest() != cell.sha256:
        raise DataError(f"{path}: the picture has changed since the data were read; run again")
    try:
        return resize(decode(data), size_px)
    except PictureError as error:
        raise DataError(f"{path}: the picture cannot be decoded ({error}); remove it from the data") from error


def _cannot_write(path: Path, why: str) -> OutputError:
    return OutputError(
        f"{path}: the cache of decoded cells cannot be written ({why}); make room, or name another folder for caches"
        " in XDG_CACHE_HOME"
    )
