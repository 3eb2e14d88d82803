"""A body in pieces to pictures, within limits, in a private temporary folder.

A multipart body is taken apart while it comes in, watched by `limits`. Pictures stay in memory; archives, which are
read from their end, go to files in a folder that only this user may enter. On Linux such a file loses its name as soon
as it is open, so that nothing is left of it even after `kill -9`; elsewhere the folder of a server that is gone is
removed when the next one starts.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from giemsa.archives import open_archive
from giemsa.errors import PictureError, SourceError
from giemsa.sources import Source, open_archive_sources, printable
from giemsa.web.problems import ProblemError, busy
from giemsa.web.settings import MAX_CELLS, MAX_NAME

if TYPE_CHECKING:
    from typing import BinaryIO

    from starlette.requests import Request

MAX_MEMBERS: Final = 100_000
"""Most entries, pictures or not, of an archive that is uploaded."""
MAX_FILES: Final = 200
"""Most archives, and pictures of fields for reports, that are open at a time."""
MAX_ARCHIVES: Final = 20
"""Most archives in one body; each is a file, which is made while nobody else is answered."""
READING_S: Final = 20.0
"""Seconds of a processor that reading the pictures of an archive may take: some 2 GB that shrink as cells do."""
_PREFIX: Final = "giemsa-serve-"
_MAX_HEADER: Final = 8 * MAX_NAME  # bytes of the headers of one part: a name of four-byte characters, escaped
_MAX_TEXT: Final = 4_096  # bytes
_log = logging.getLogger("giemsa.web")


class Folder:
    """A private temporary folder, emptied whatever happens.

    Folders of servers that are gone are removed when a new one is made: a running server holds a lock on its own.
    """

    def __init__(self) -> None:
        _remove_deserted()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))  # 0700
        self._lock = _locked(self.path / "new-lock")
        (self.path / "new-lock").rename(self.path / "lock")  # it never lies there unlocked
        self._files: list[BinaryIO] = []

    def close(self) -> None:
        """Remove it with all that is in it."""
        if self._lock is not None:
            self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def new_file(self) -> BinaryIO:
        """Open a file in it, without a name where the system can do that.

        Raises
        ------
        ProblemError
            503, if as many are open as may be: files are few in a process, and connections need some too.
        """
        self._files = [file for file in self._files if not file.closed]
        if len(self._files) >= MAX_FILES:
            raise busy("the server holds as many archives as it has room for")
        has_no_name = Path("/proc/self/fd").is_dir()
        make: Any = tempfile.TemporaryFile if has_no_name else tempfile.NamedTemporaryFile
        file = cast("BinaryIO", make(dir=self.path))
        self._files.append(file)
        return file


def path_of(file: BinaryIO) -> str:
    """Path under which a file of `Folder.new_file` can be opened once more while it is open."""
    if isinstance(file.name, int):  # it has no name
        return f"/proc/self/fd/{file.fileno()}"
    return os.fspath(file.name)


@dataclass(slots=True)
class Part:
    """A file of an upload: its name as it was sent, and its bytes, in memory or, of an archive, in a file."""

    name: str
    content: bytearray = field(default_factory=bytearray)
    file: BinaryIO | None = None


@dataclass(slots=True)
class Upload:
    """What came in with one request."""

    parts: list[Part] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """Let go of its files."""
        for part in self.parts:
            if part.file is not None:
                part.file.close()

    def pictures(self, *, max_unpacked: int) -> list[Source]:
        """List the pictures, those of archives too, in the order in which they were sent.

        Parameters
        ----------
        max_unpacked : int
            Most bytes that the pictures of one archive may have together.

        Raises
        ------
        ProblemError
            413, if they are more, or unpacked larger, than one request may send.
        """
        pictures: list[Source] = []
        for part in self.parts:
            if part.file is None:
                pictures.append(Source(part.name, partial(bytes, part.content)))
            else:
                pictures += _of_archive(part, max_unpacked)
            if len(pictures) > MAX_CELLS:
                raise ProblemError(413, f"there are more than {MAX_CELLS:,} pictures; send them in several requests")
        return pictures


async def receive_upload(request: Request, folder: Folder, *, texts: frozenset[str] = frozenset()) -> Upload:
    """Take in a multipart body whose parts are files called `files`, and short texts with the names of `texts`.

    Raises
    ------
    ProblemError
        400 if the body is no such thing, 415 if it says to be something else, 422 if a part is called otherwise or
        there is none; and what `limits` refuses.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:  # 70 as in RFC 2046
        raise ProblemError(
            415, "expected a body of multipart/form-data with a boundary, and pictures in parts named files"
        )
    reader = _Reader(boundary, folder, texts)
    try:
        async for piece in request.stream():
            reader.feed(piece)
        return reader.finish()
    except BaseException:
        reader.upload.close()
        raise


class _Reader:
    """Takes a multipart body apart, piece by piece."""

    def __init__(self, boundary: bytes, folder: Folder, texts: frozenset[str]) -> None:
        self.upload = Upload()
        self._folder = folder
        self._may_be_texts = texts
        self._texts: dict[str, bytearray] = {}
        self._text: bytearray | None = None  # of the part that comes in
        self._field = bytearray()
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._ended = False
        self._archives = 0
        self._parser = MultipartParser(
            boundary,
            cast(
                "Any",
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_end": self._end,
                },
            ),
        )

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except MultipartParseError as error:
            raise ProblemError(400, f"the body is no multipart/form-data: {str(error)[:200]}") from error

    def finish(self) -> Upload:
        if not self._ended:
            raise ProblemError(400, "the body breaks off before its last boundary; send it again")
        if not self.upload.parts:
            raise ProblemError(
                422, "there is no file; expected pictures, or zip archives of them, in parts named files"
            )
        for name, text in self._texts.items():
            try:
                self.upload.texts[name] = text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ProblemError(422, f"{name} is no UTF-8; expected text") from error
        return self.upload

    def _begin(self) -> None:
        self._headers.clear()
        self._header_bytes = 0

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += self._counted(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._counted(data[start:end])

    def _counted(self, piece: bytes) -> bytes:
        self._header_bytes += len(piece)
        if self._header_bytes > _MAX_HEADER:
            raise ProblemError(
                400, f"the headers of a part have more than {_MAX_HEADER:,} bytes; shorten its file name"
            )
        return piece

    def _header_end(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        called = options.get(b"name", b"").decode("utf-8", "replace")
        self._text = None
        if called in self._may_be_texts:
            self._begin_text(called, is_file=b"filename" in options)
            return
        if called != "files":
            raise ProblemError(422, f"a part is named {printable(called)[:100]!r}; expected {self._expected()}")
        if len(self.upload.parts) >= MAX_CELLS:
            raise ProblemError(413, f"there are more than {MAX_CELLS:,} parts; send them in several requests")
        name = options.get(b"filename", b"").decode("utf-8", "backslashreplace")
        if not name:
            raise ProblemError(422, "a part has no file name; expected files, as `curl -F files=@NAME` sends them")
        if len(name) > MAX_NAME:
            raise ProblemError(400, f"a file's name has {len(name):,} characters; at most {MAX_NAME:,} are taken")
        self.upload.parts.append(Part(printable(name)))

    def _expected(self) -> str:
        return " or ".join(["files", *sorted(self._may_be_texts)])

    def _begin_text(self, called: str, *, is_file: bool) -> None:
        if is_file:
            raise ProblemError(422, f"{called} is a file; expected text")
        if called in self._texts:
            raise ProblemError(422, f"{called} is there twice; expected it once")
        self._text = self._texts[called] = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._text is not None:
            self._text += data[start:end]
            if len(self._text) > _MAX_TEXT:
                raise ProblemError(422, f"a text has more than {_MAX_TEXT:,} bytes; expected a short one")
            return
        part = self.upload.parts[-1]
        if part.file is not None:
            part.file.write(data[start:end])
            return
        part.content += data[start:end]
        if len(part.content) >= 4 and _is_archive(part):
            self._archives += 1
            if self._archives > MAX_ARCHIVES:
                raise ProblemError(413, f"there are more than {MAX_ARCHIVES} archives; send them in several requests")
            part.file = self._folder.new_file()
            part.file.write(part.content)
            part.content = bytearray()

    def _end(self) -> None:
        self._ended = True
        for part in self.upload.parts:
            if part.file is not None:
                part.file.flush()


def _is_archive(part: Part) -> bool:
    """Whether its first bytes are an archive's; what is one by its name only is read as one too, and refused."""
    return part.content.startswith((b"PK\3\4", b"PK\5\6")) or part.name.lower().endswith(".zip")


def _of_archive(part: Part, max_unpacked: int) -> list[Source]:
    assert part.file is not None
    path = path_of(part.file)
    with suppress(SourceError):  # said again below, as a row
        members = open_archive(path).members
        if members > MAX_MEMBERS:
            raise ProblemError(
                413, f"the archive {part.name[:200]} has {members:,} entries; at most {MAX_MEMBERS:,} are read"
            )
    notes: list[str] = []
    pictures = list(islice(open_archive_sources(path, name=part.name, note=notes.append), MAX_CELLS + 1))
    budget = _Budget(max_unpacked, READING_S)
    empty = [Source(part.name, partial(_refuse, note)) for note in notes]
    return [Source(picture.name, partial(budget.read, picture)) for picture in pictures] or empty


@dataclass(slots=True)
class _Budget:
    """What reading the pictures of an archive may still cost, whether or not they can be read."""

    bytes_left: int
    seconds_left: float

    def read(self, picture: Source) -> bytes:
        """Read one; whatever goes wrong is this picture's own fault, and nobody else's.

        Raises
        ------
        PictureError
            If it cannot be read, or the archive has cost enough.
        """
        if self.bytes_left < 0 or self.seconds_left < 0:
            raise PictureError("the archive unpacks to more than is read of one; send its pictures in several")
        begun = time.thread_time()
        try:
            content = picture.read()
        except PictureError:
            raise
        except Exception as error:
            _log.exception("a picture of an archive could not be read")
            raise PictureError(f"it cannot be read from its archive ({type(error).__name__})") from error
        finally:
            self.seconds_left -= time.thread_time() - begun
        self.bytes_left -= len(content)
        return content


def _refuse(reason: str) -> bytes:
    raise PictureError(reason)


def _locked(path: Path) -> BinaryIO | None:
    """Open and lock a file until it is closed or the process ends; None if somebody else holds it."""
    file = path.open("wb")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no such locks on this system, so nothing is removed for others
        return file
    except OSError:
        file.close()
        return None
    return file


def _remove_deserted() -> None:
    """Remove the folders of servers that were killed."""
    try:
        import fcntl  # noqa: F401 - without locks nobody can tell
    except ImportError:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if not (folder / "lock").is_file() or folder.stat().st_uid != os.getuid() or folder.is_symlink():
                continue
            lock = _locked(folder / "lock")
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                lock.close()
