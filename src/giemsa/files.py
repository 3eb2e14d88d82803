"""Writing files so that nothing is lost: beside their place first, then renamed; never over an existing one unasked.

>>> with replace_file(Path("metrics.json")) as beside:      # doctest: +SKIP
...     beside.write_text("{}")

What grows for a long time, a table or a folder of results, is written by one process at a time: the one that
holds its `lock`.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from hashlib import sha256
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
        If the file exists and `force` is not given, if it is a folder, if its folder is not there, or if nothing can
        be written to it.
    """
    path = _check_name(path, force=force)
    beside = _beside(path)
    try:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        beside.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error
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
    path = _check_name(path, force=force)
    beside = _beside(path)
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
    """Write a whole small file (text as UTF-8, bytes of names that are none as escapes) by way of `replace_file`."""
    path = Path(path)
    with replace_file(path, force=force) as beside:
        beside.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
    return path


def remove_left_behind(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes left beside `path`; to be called by the one that holds its `lock`."""
    path = Path(path)
    with suppress(OSError):
        for beside in path.parent.iterdir():
            if beside.name.startswith(_hidden(path)) and beside.suffix != ".lock":
                beside.unlink()


def seal(path: str | os.PathLike[str]) -> None:
    """Write a file's digest beside it, `NAME.sha256`, as `sha256sum` writes and checks it."""
    path = Path(path)
    write_file(seal_path(path), f"{_sha256(path)}  {path.name}\n")


def is_sealed(path: str | os.PathLike[str]) -> bool:
    """Whether a file is the one that was sealed, to the last bit."""
    path = Path(path)
    try:
        return seal_path(path).read_text(encoding="utf-8", errors="replace").partition(" ")[0] == _sha256(path)
    except OSError:
        return False


def seal_path(path: str | os.PathLike[str]) -> Path:
    """Name the digest that stands beside a file."""
    path = Path(path)
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a file or folder for this process alone; the system takes the lock back from a process that is killed.

    The lock is a hidden file, beside a file and inside of a folder, that names its holder. It is the lock on that
    file that counts, never its presence: what a killed process leaves behind keeps nobody out.

    Parameters
    ----------
    path : path
        What is going to be written: a folder that exists, or a file that need not.

    Raises
    ------
    OutputError
        If another process (or thread) holds it, which is named, or if nothing can be written there.
    """
    path = Path(path)
    place = lock_path(path)
    try:
        descriptor = _open_lock(place, path)
    except OSError as error:
        if isinstance(error, GiemsaError):
            raise
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        if os.name != "nt":  # Windows removes no file that is open, and the next holder uses it again
            with suppress(OSError):
                place.unlink()
        os.close(descriptor)


def lock_path(path: str | os.PathLike[str]) -> Path:
    """Path of the hidden file that is locked while `path` is written."""
    path = Path(path)
    if path.is_dir():
        return path / ".giemsa.lock"
    return path.with_name(f"{_hidden(path)}.lock")


def _open_lock(place: Path, path: Path) -> int:
    """Lock a file that is still there under its name once it is locked; return its descriptor."""
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            if not _lock_at_once(descriptor):
                holder = os.pread(descriptor, 200, 0) if hasattr(os, "pread") else os.read(descriptor, 200)
                named = " ".join(holder.decode("utf-8", "replace").split()) or "a process that does not say which"
                raise OutputError(
                    f"{path} is being written by another process ({named}); wait for it, or name another output"
                )
            if _stands_there(descriptor, place):
                with suppress(OSError):  # on a full disk the holder is not named
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, _who().encode("utf-8", "replace"))
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock_at_once(descriptor: int) -> bool:
    """Lock an open file, False where another holds it."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, 2**30, os.SEEK_SET)  # far behind the holder's name, which others must be able to read
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            if os.name == "nt":
                os.lseek(descriptor, 0, os.SEEK_SET)
            return False
        raise
    return True


def _stands_there(descriptor: int, place: Path) -> bool:
    """Whether an open file still has its name; its last holder may have removed it just before we locked it."""
    try:
        return os.path.samestat(os.fstat(descriptor), place.stat())
    except FileNotFoundError:
        return False


def _who() -> str:
    """Name this process to those who find its lock."""
    import socket

    return f"process {os.getpid()} on {socket.gethostname()}"


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


def _check_name(path: str | os.PathLike[str], *, force: bool) -> Path:
    """Refuse a name under which no file can be written, or one is there already."""
    path = Path(path)
    folder = path.parent
    try:
        if not folder.is_dir():
            raise OutputError(f"the folder {folder} for the output {path.name} does not exist; make it first")
        path.lstat()
    except FileNotFoundError:
        return path
    except OSError as error:
        if isinstance(error, GiemsaError):
            raise
        raise cannot_write(path, error) from error
    if path.is_dir():
        raise OutputError(f"the output {path} is a folder; name a file")
    if not force:
        raise OutputError(f"the output {path} exists already; name another one or replace it with --force")
    return path


def _beside(path: Path) -> Path:
    """Name a hidden file beside `path`, short however long its name is, with the same ending."""
    ending = path.suffix if len(os.fsencode(path.suffix)) <= 16 else ""
    return path.with_name(f"{_hidden(path)}-{os.urandom(4).hex()}{ending}")


def _hidden(path: Path) -> str:
    """Begin the names of the hidden files beside `path`, with a few letters that stand for a name of any length."""
    return f".giemsa-{sha256(os.fsencode(path.name)).hexdigest()[:12]}"


def cannot_write(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Say in one sentence why `path` could not be written, from what the system said."""
    said = error.strerror or str(error)
    return OutputError(f"cannot write {os.fspath(path)}: {said}; what stood there before is untouched")
