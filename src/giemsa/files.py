"""Writing files so that nothing is lost: beside their place first, then renamed; never over an existing one unasked.

>>> with replace_file(Path("metrics.json")) as beside:      # doctest: +SKIP
...     beside.write_text("{}")
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from giemsa.errors import GiemsaError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK: Final = ".lock"
"""The file in an output folder that is locked while a process writes to the folder."""


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


@contextmanager
def lock(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Hold a lock that no other process, and no other caller in this one, can hold at the same time.

    The system lets go of it when the process ends, however it ends. The file stays, since removing it would let two
    processes lock two files of one name; an empty file that nobody holds means nothing.

    Parameters
    ----------
    path : path
        The file to lock; made if it is not there. Its folder must be.
    what : str
        What is written under the lock, for the message: "the output smear-P1".

    Raises
    ------
    OutputError
        If another process holds it, or the file cannot be made or locked.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        raise OutputError(f"cannot lock {what}: {error.strerror or error} ({os.fspath(path)})") from error
    try:
        try:
            _lock_descriptor(descriptor)
        except (BlockingIOError, PermissionError) as error:
            raise OutputError(
                f"another process is writing to {what}; wait until it has ended, or name another output"
            ) from error
        except OSError as error:
            raise OutputError(
                f"cannot lock {what}: {error.strerror or error}; write to a disk whose file system has locks"
            ) from error
        yield
    finally:
        os.close(descriptor)  # which unlocks it


def read_small_file(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """Content of a regular file of limited size.

    Parameters
    ----------
    path : path
        A file that somebody named; a pipe or a device is not waited for.
    most_bytes : int
        Its size at most.

    Raises
    ------
    OSError
        If it cannot be opened or read.
    ValueError
        If it is no regular file, or larger.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes:,} bytes")
    return content


def cannot_write(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Say in one sentence why `path` could not be written, from what the system said."""
    said = error.strerror or str(error)
    return OutputError(f"cannot write {os.fspath(path)}: {said}; what stood there before is untouched")


if sys.platform == "win32":

    def _lock_descriptor(descriptor: int) -> None:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:

    def _lock_descriptor(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
