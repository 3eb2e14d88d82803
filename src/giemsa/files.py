"""Writing files so that nothing is lost: beside their place first, then renamed; never over an existing one unasked.

>>> with replace_file(Path("metrics.json")) as beside:      # doctest: +SKIP
...     beside.write_text("{}")
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.errors import GiemsaError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_output(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Refuse an output that cannot be written, before any work is done for it.

    Parameters
    ----------
    path : path
        The file that is going to be written.
    force : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    OutputError
        If the file exists and `force` is not given, if it is a folder, or if its folder is not there.
    """
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"the output {path} is a folder; name a file")
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} for the output {path.name} does not exist; make it first")
    if not force and os.path.lexists(path):
        raise OutputError(f"the output {path} exists already; name another one or replace it with --force")
    return path


@contextmanager
def replace_file(path: str | os.PathLike[str], *, force: bool = True) -> Iterator[Path]:
    """Give a path beside `path` to write to, and rename it to `path` once the block has ended well.

    The path given keeps the suffix of `path`, so that libraries that tell the format by it work. Whatever
    happens, nothing half-written stands under the name `path`, and nothing is left beside it.

    Parameters
    ----------
    path : path
        Where the file shall stand in the end.
    force : bool
        Whether an existing file is replaced (the default, since callers check before the work, not after it).

    Raises
    ------
    OutputError
        If the file cannot be written (the disk is full, the folder is read-only), or exists and `force` is false.
    """
    path = check_output(path, force=force)
    beside = path.with_name(f".{os.urandom(4).hex()}-{path.name}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        if isinstance(error, GiemsaError) or error.filename not in (None, os.fspath(beside)):
            raise  # not about this file
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def write_file(path: str | os.PathLike[str], content: str | bytes, *, force: bool = True) -> Path:
    """Write a whole small file (text as UTF-8) by way of `replace_file`."""
    path = Path(path)
    with replace_file(path, force=force) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cannot_write(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Say in one sentence why `path` could not be written, from what the system said."""
    said = error.strerror or str(error)
    return OutputError(f"cannot write {os.fspath(path)}: {said}; what stood there before is untouched")
