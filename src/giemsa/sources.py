"""Many pictures: files, folders, patterns, archives and lists become one ordered stream of named bytes.

- A file is taken whatever it is called; a `.zip` is an archive.
- A folder is read with the folders in it, in the order of names. Of it, and of an archive, only files with the
  ending of a picture count (`images.SUFFIXES`), and nothing hidden (`.name`, `__MACOSX`).
- A pattern (`*`, `?`, `[...]`, `**`) is expanded here where the shell has not done it.
- `-` reads a list from standard input, one path a line.

What does not exist stops everything before any work (`SourceError`). What exists and cannot be read (a broken
link, a loop of links, no permission, a folder that cannot be listed) becomes a source whose `read` raises
`PictureError`, and so a row. Links to folders are followed, each target once, and never back into a folder that
is being read.

Memory stays bounded: a folder of any length is sorted in runs of `_RUN` names, and the directory of an archive
is read as a stream.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, Final

from giemsa.errors import PictureError, SourceError
from giemsa.images import MAX_BYTES, SUFFIXES
from giemsa.words import printable as printable  # noqa: PLC0414 - its home for those who read pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from giemsa.archives import Member, ZipArchive

    Note = Callable[[str], None]

_RUN: Final = 100_000
"""Names of one folder that are held at a time (some 10 MB)."""
_MAX_LINE: Final = 65_536
"""Longest line of a list, in bytes; paths have at most 4,096 on Linux."""
_PATTERN = re.compile(r"[*?\[]")
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Source:
    r"""A picture that can be read.

    Attributes
    ----------
    name : str
        What it is called in results: a path, or the path of an archive and the path inside it. Bytes that are
        no UTF-8, and control characters, are written as escapes (`\xff`), so that it can always be printed.
    read : callable
        Gives the bytes, or raises `PictureError`.
    path : str
        The file that it is in, itself or an archive, as the system knows it; empty where it is in none.
    """

    name: str
    read: Callable[[], bytes]
    path: str = ""


def open_sources(
    paths: Iterable[str | os.PathLike[str]], *, listing: BinaryIO | None = None, note: Note | None = None
) -> Iterator[Source]:
    """Open a stream of pictures, in the order of `paths`.

    Parameters
    ----------
    paths : iterable of path
        Files, folders, patterns, archives, and `-` for a list on standard input.
    listing : binary file, optional
        Read for `-` instead of standard input.
    note : callable, optional
        Called with one sentence about each thing that was passed over and is no picture: a link that leads
        back, a folder without pictures.

    Returns
    -------
    iterator of Source
        At least one; lazily.

    Raises
    ------
    SourceError
        If a path does not exist, a folder cannot be listed, an archive is none, a pattern matches nothing, or
        there is no picture at all. All of that is found out at the call, before the first picture is read,
        but what a list names: that becomes rows.
    """
    texts = [os.fspath(path) for path in paths]
    for text in texts:
        if text != "-":
            _check_argument(text)
    say = _HeldBack(note or _say_nothing)  # where there is nothing at all, the error says it all

    stream = chain.from_iterable(_of_argument(text, listing, say) for text in texts)
    first = next(stream, None)
    if first is None:
        where = ", ".join(printable(text) for text in texts[:3]) + (", ..." if len(texts) > 3 else "")
        raise SourceError(f"there are no pictures in {where or 'an empty list of paths'}; expected files that end in "
                          f"{', '.join(sorted(SUFFIXES))}")  # fmt: skip
    say.release()
    return chain([first], stream)


def read_file(path: str) -> bytes:
    """Read a whole file that is meant to be a picture.

    Raises
    ------
    PictureError
        If it cannot be read, is no regular file, or has more than `images.MAX_BYTES`.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS)  # without waiting, should it be a pipe
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise PictureError("this is no regular file; expected a picture")
            if status.st_size > MAX_BYTES:
                raise PictureError(f"the file has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
            return _read_all(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(_why_unreadable(path, error)) from error


def open_archive_sources(path: str, *, name: str | None = None, note: Note | None = None) -> Iterator[Source]:
    """Give the pictures in a zip archive, in the order of its directory.

    Parameters
    ----------
    path : str
        Where it lies.
    name : str, optional
        What it is called in results; by default its path.
    note : callable, optional
        Told, in one sentence, if there is no picture in it.

    Yields
    ------
    Source
        A row for each picture; where the archive cannot be read, or no further, one that says why.
    """
    from giemsa.archives import open_archive

    called = printable(path if name is None else name)
    found = False
    try:
        archive = open_archive(path)
        for member in archive:
            inner = member.name
            if _is_hidden_in_archive(inner) or not _has_suffix(inner):
                continue
            found = True
            shown = f"{called}/{printable(inner)}"
            if inner.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", inner):
                yield _unreadable(shown, "the name of the member leads out of the archive; pack it anew", shown=True)
            else:
                yield Source(shown, partial(_read_member, archive, member), path)
    except SourceError as error:
        found = True
        yield _unreadable(called, str(error).replace(path, called), shown=True)
    except OSError as error:
        found = True
        yield _unreadable(called, f"the archive cannot be read: {error.strerror or error}", shown=True)
    if not found and note is not None:
        note(f"there are no pictures in the archive {called}")


def _check_argument(text: str) -> None:
    """Stop at an argument that cannot be meant."""
    if not os.path.lexists(text):
        if not _PATTERN.search(text):
            raise SourceError(f"{printable(text)!s} does not exist; expected a file, a folder, a pattern or an archive")
        if next(_expand(text, _say_nothing), None) is None:
            raise SourceError(f"the pattern {printable(text)} matches nothing")
    elif os.path.isdir(text):  # noqa: PTH112 - a path of any bytes, as the system gave it
        try:
            os.scandir(text).close()
        except OSError as error:
            raise SourceError(f"the folder {printable(text)} cannot be listed: {error.strerror}") from error
    elif _is_archive(text) and os.path.exists(text):  # noqa: PTH110
        from giemsa.archives import open_archive

        open_archive(text)


def _of_argument(text: str, listing: BinaryIO | None, note: Note) -> Iterator[Source]:
    if text == "-":
        return _of_list(sys.stdin.buffer if listing is None else listing, note)
    if not os.path.lexists(text):
        return chain.from_iterable(_of_path(path, note) for path in _expand(text, note))
    return _of_path(text, note)


def _of_list(listing: BinaryIO, note: Note) -> Iterator[Source]:
    while line := _next_line(listing):
        if len(line) > _MAX_LINE:
            raise SourceError(f"the list on standard input has a line of more than {_MAX_LINE:,} bytes; "
                              "expected one path a line")  # fmt: skip
        path = os.fsdecode(line.rstrip(b"\r\n"))
        if path:
            yield from _of_path(path, note)


def _next_line(listing: BinaryIO) -> bytes:
    try:
        return listing.readline(_MAX_LINE + 1)
    except OSError as error:
        raise SourceError(f"the list on standard input cannot be read: {error.strerror or error}") from error


def _of_path(path: str, note: Note) -> Iterator[Source]:
    """Give what a path holds that exists, or did a moment ago."""
    if os.path.isdir(path):  # noqa: PTH112
        return _of_folder(path, note)
    if _is_archive(path):
        return open_archive_sources(path, note=note)
    return iter((Source(printable(path), partial(read_file, path), path),))


def _of_folder(top: str, note: Note) -> Iterator[Source]:
    """Give the pictures of a folder and of those in it, in the order of names, without recursion."""
    open_folders = [(top, _sorted_entries(top, _is_candidate), _identity(top))]
    linked: set[tuple[int, int]] = set()
    found = False
    while open_folders:
        folder, entries, _ = open_folders[-1]
        try:
            name, is_folder = next(entries, ("", False))
        except OSError as error:
            yield _unreadable(folder, f"the folder cannot be listed: {error.strerror or error}")
            name = ""
        if not name:
            open_folders.pop()
            continue
        path = os.path.join(folder, name)  # noqa: PTH118
        if not is_folder:
            found = True
            yield Source(printable(path), partial(read_file, path), path)
            continue
        identity = _identity(path)
        if os.path.islink(path):  # noqa: PTH114
            if identity in linked or any(identity == above for _, _, above in open_folders):
                note(f"the link {printable(path)} was not followed: it leads to a folder that is read already")
                continue
            linked.add(identity)
        open_folders.append((path, _sorted_entries(path, _is_candidate), identity))
    if not found:
        note(f"there are no pictures in the folder {printable(top)}")


def _read_member(archive: ZipArchive, member: Member) -> bytes:
    return archive.read(member)


def _unreadable(path: str, reason: str, *, shown: bool = False) -> Source:
    def read() -> bytes:
        raise PictureError(reason)

    return Source(path if shown else printable(path), read)


def _sorted_entries(folder: str, keep: Callable[[str, bool], bool]) -> Iterator[tuple[str, bool]]:
    """Give (name, whether it is a folder) in the order of names, holding at most two runs of them.

    A folder longer than a run is listed once for each run, so that its length costs time and not memory.
    """
    after = ""
    while True:
        run: list[tuple[str, bool]] = []
        last: str | None = None
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name <= after or (last is not None and name > last):
                    continue
                is_folder = _is_folder(entry)
                if not keep(name, is_folder):
                    continue
                run.append((name, is_folder))
                if len(run) >= 2 * _RUN:
                    run.sort()
                    del run[_RUN:]
                    last = run[-1][0]
        run.sort()
        yield from run
        if last is None:
            return
        after = last if not run else max(last, run[-1][0])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links: to be tried, and reported, as a picture if it is called like one
        return False


def _is_candidate(name: str, is_folder: bool) -> bool:
    return not name.startswith(".") and name != "__MACOSX" and (is_folder or _has_suffix(name))


def _is_hidden_in_archive(name: str) -> bool:
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in re.split(r"[/\\]", name))


def _has_suffix(name: str) -> bool:
    return name[name.rfind(".") :].lower() in SUFFIXES


def _is_archive(path: str) -> bool:
    return path[-4:].lower() == ".zip"


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return (-1, -1)
    return (status.st_dev, status.st_ino)


def _expand(pattern: str, note: Note) -> Iterator[str]:
    """Give the paths that match a pattern, folder by folder in the order of names."""
    drive, rest = os.path.splitdrive(pattern)
    separators = "/\\" if os.sep == "\\" else "/"
    root = drive + os.sep if rest[:1] and rest[0] in separators else drive
    parts = [part for part in re.split(f"[{re.escape(separators)}]", rest) if part]
    collapsed = [part for index, part in enumerate(parts) if part != "**" or parts[index - 1 : index] != ["**"]]
    if collapsed and collapsed[-1] == "**":
        collapsed.append("*")
    return _expand_parts(root, collapsed, note)


def _expand_parts(base: str, parts: list[str], note: Note) -> Iterator[str]:
    from fnmatch import translate

    part, rest = parts[0], parts[1:]
    if not _PATTERN.search(part):
        path = os.path.join(base, part)  # noqa: PTH118
        if os.path.lexists(path):
            yield from _expand_parts(path, rest, note) if rest else (path,)
        return
    anywhere = part == "**"
    if anywhere:
        yield from _expand_parts(base, rest, note)
    matches = re.compile(translate("*" if anywhere else part)).match
    shows_hidden = part.startswith(".")

    def keep(name: str, is_folder: bool) -> bool:
        return (shows_hidden or not name.startswith(".")) and (is_folder or not rest) and matches(name) is not None

    try:
        for name, is_folder in _sorted_entries(base or os.curdir, keep):
            path = os.path.join(base, name)  # noqa: PTH118
            if anywhere:
                if is_folder and not os.path.islink(path):  # noqa: PTH114
                    yield from _expand_parts(path, parts, note)
            elif rest:
                yield from _expand_parts(path, rest, note)
            else:
                yield path
    except NotADirectoryError:
        return
    except OSError as error:
        note(f"the folder {printable(base) or '.'} cannot be listed for a pattern: {error.strerror or error}")


def _read_all(descriptor: int, size: int) -> bytes:
    content = os.read(descriptor, size + 1)
    if len(content) == size:
        return content
    # It grew, or came in pieces (a network's file system).
    pieces = [content]
    total = len(content)
    while content and total <= MAX_BYTES:
        content = os.read(descriptor, 2**20)
        pieces.append(content)
        total += len(content)
    if total > MAX_BYTES:
        raise PictureError(f"the file has more than {MAX_BYTES:,} bytes; at most that many are read")
    return b"".join(pieces)


def _why_unreadable(path: str, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):  # noqa: PTH114
            return f"this is a broken link: it leads to {printable(os.readlink(path))}, which does not exist"  # noqa: PTH115
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "there is no permission to read the file"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "this is a link that leads back to itself"
    return f"the file cannot be read: {getattr(error, 'strerror', None) or error}"


class _HeldBack:
    """A note taker that keeps what it is told until it is released, and passes on all that follows."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._kept: list[str] | None = []

    def __call__(self, sentence: str) -> None:
        if self._kept is None:
            self._note(sentence)
        else:
            self._kept.append(sentence)

    def release(self) -> None:
        kept, self._kept = self._kept or [], None
        for sentence in kept:
            self._note(sentence)


def _say_nothing(_sentence: str) -> None:
    """Drop a note that nobody asked for."""
