"""Read a few parts of a large remote file as if it were a local one, by HTTP range requests.

`RangeFile` is a seekable, read-only file over an address, made for `zipfile`: that reads the directory at the
end of an archive and then only the members asked for, so that two dozen pictures of an archive of 353 MB cost
some four. Each read asks for the bytes that are wanted and a little more, and keeps the last answer, since
`zipfile` reads headers in small steps.

A server is not believed: it must answer with exactly the range that was asked for (RFC 9110, 14.2 to 15.3.7),
and the file must stay the same from the first answer to the last, by its `ETag` or, where there is none, its
`Last-Modified`, and by its length. Only the standard library is used, so that proxies and certificates are those
of the system.
"""

from __future__ import annotations

import http.client
import io
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Final, NamedTuple

from giemsa.errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from _typeshed import WriteableBuffer

READ_AHEAD: Final = 16 * 1024
TIMEOUT_S: Final = 10.0
TIME_LIMIT_S: Final = 180.0
TRANSFER_LIMIT: Final = 16 * 1024 * 1024

_CHUNK: Final = 64 * 1024
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})\s*\Z")
_WITHOUT: Final = "use a server or mirror that serves ranges, or download the whole file"


class RangeFile(io.RawIOBase):
    """A remote file, read-only and seekable, of which only the parts that are read are transferred.

    Parameters
    ----------
    url : str
        An `http` or `https` address.
    read_ahead : int
        The least number of bytes that one request asks for, as far as the file goes.
    timeout_s : float
        How long one step of the network may be silent.
    time_limit_s : float
        How long all requests may take together: a server that trickles does not hold anyone for ever.
    transfer_limit : int
        How many bytes may be transferred in all; more means that this is not the file it should be.
    clock : callable
        Gives seconds, monotonically.

    Attributes
    ----------
    size : int
        Bytes of the remote file.
    transferred : int
        Bytes of content received so far.
    requests : int
        Requests sent so far.

    Raises
    ------
    DownloadError
        The server cannot be reached, does not serve ranges, answers with something else than was asked for, or
        the file changes while it is read. From the constructor and from every read.

    Examples
    --------
    >>> with RangeFile("https://example.org/cells.zip") as remote:  # doctest: +SKIP
    ...     zipfile.ZipFile(remote).read("cells/one.png")
    """

    def __init__(
        self,
        url: str,
        *,
        read_ahead: int = READ_AHEAD,
        timeout_s: float = TIMEOUT_S,
        time_limit_s: float = TIME_LIMIT_S,
        transfer_limit: int = TRANSFER_LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise DownloadError(f"{url!r} is no address to fetch from; expected one with https:// or http://")
        self.url = url
        self.transferred = 0
        self.requests = 0
        self._read_ahead = read_ahead
        self._timeout_s = timeout_s
        self._clock = clock
        self._deadline = clock() + time_limit_s
        self._time_limit_s = time_limit_s
        self._transfer_limit = transfer_limit
        self.size = 0
        self._position = 0
        self._start, self._bytes = 0, b""  # the last answer, and where in the file it begins
        self._identity: _Identity | None = None
        # One byte tells whether ranges are served, how long the file is, and which version of it this is.
        # A suffix range would save this request, but not every server that knows ranges knows those.
        self._bytes = self._fetch(0, 1)

    def __enter__(self) -> RangeFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Give the position of the next read, in bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position of the next read; nothing is transferred by it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} lies before the start of {self.url}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer from the current position; less only at the end of the file."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self.size - self._position))
        if wanted == 0:
            return 0
        self.prefetch(self._position, wanted)
        begin = self._position - self._start
        view[:wanted] = self._bytes[begin : begin + wanted]
        self._position += wanted
        return wanted

    def prefetch(self, start: int, length: int) -> None:
        """Make the next reads inside `start`, `length` answer from memory: one request where it is not there yet."""
        stop = min(start + length, self.size)
        if self._start <= start and stop <= self._start + len(self._bytes):
            return
        # Near the end of the file, where a zip archive begins to be read, what lies before is read along.
        start = min(start, max(0, self.size - self._read_ahead))
        stop = min(max(stop, start + self._read_ahead), self.size)
        self._bytes = self._fetch(start, stop - start)
        self._start = start

    def _fetch(self, start: int, length: int) -> bytes:
        """Fetch exactly these bytes; a second time where the connection to a server that has answered broke off."""
        try:
            return self._request(start, length)
        except _BrokenOffError:
            if self._identity is None:
                raise
        return self._request(start, length)

    def _request(self, start: int, length: int) -> bytes:
        """Ask for exactly these bytes, and believe nothing else."""
        if self.transferred + length > self._transfer_limit:
            raise DownloadError(
                f"{self.url} would take more than {self._transfer_limit:,} bytes to read, more than the file that "
                "was expected there; check the address"
            )
        headers = {
            "Range": f"bytes={start}-{start + length - 1}",
            "Accept-Encoding": "identity",  # ranges count encoded bytes
            "User-Agent": "giemsa",
        }
        if self._identity is not None and self._identity.if_range:
            headers["If-Range"] = self._identity.if_range
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 - the scheme was checked
        self.requests += 1
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                self._check(answer, start, length)
                return self._receive(answer, length)
        except urllib.error.HTTPError as error:
            error.close()
            raise DownloadError(
                f"{self.url} answered {error.code} {_clean(error.reason)}; check the address"
            ) from error
        except DownloadError:
            raise
        except (OSError, http.client.HTTPException) as error:
            host = urllib.parse.urlsplit(self.url).hostname
            raise _BrokenOffError(f"no answer from {host} ({_describe(error)}); check the network") from error

    def _check(self, answer: http.client.HTTPResponse, start: int, length: int) -> None:
        """Refuse an answer that is not the range asked for, out of the same file as before."""
        if answer.status == http.HTTPStatus.OK:
            if self._identity is not None:
                raise DownloadError(f"{self.url} changed while it was being read; try again")
            raise DownloadError(f"{self.url} is served whole only, not in ranges; {_WITHOUT}")
        found = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT or found is None:
            raise DownloadError(
                f"{self.url} answered {answer.status} with Content-Range {answer.headers.get('Content-Range')!r} to a "
                f"request for {length:,} bytes from {start:,}, expected exactly those; {_WITHOUT}"
            )
        first, last, size = (int(number) for number in found.groups())
        identity = _Identity.of(answer.headers, size)
        if self._identity is not None and identity != self._identity:
            raise DownloadError(f"{self.url} changed while it was being read; try again")
        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding != "identity":
            raise DownloadError(f"{self.url} was sent packed as {_clean(encoding)}, expected as it is; {_WITHOUT}")
        if (first, last) != (start, start + length - 1) or last >= size:
            raise DownloadError(
                f"{self.url} sent bytes {first:,} to {last:,} of {size:,} where {start:,} to {start + length - 1:,} "
                f"were asked for; {_WITHOUT}"
            )
        self._identity = identity
        self.size = size

    def _receive(self, answer: http.client.HTTPResponse, length: int) -> bytes:
        parts: list[bytes] = []
        missing = length
        while missing > 0:
            if self._clock() > self._deadline:
                raise DownloadError(
                    f"{self.url} took more than {self._time_limit_s:g} s; try again where the network is faster"
                )
            part = answer.read1(min(missing, _CHUNK))
            if not part:
                raise _BrokenOffError(
                    f"the connection to {self.url} broke off after {length - missing:,} of {length:,} bytes; try again"
                )
            self.transferred += len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)


class _BrokenOffError(DownloadError):
    """The network failed, not the server's manners: worth a second try."""


class _Identity(NamedTuple):
    """What must stay the same for the parts to be parts of one file."""

    size: int
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, headers: http.client.HTTPMessage, size: int) -> _Identity:
        return cls(size, headers.get("ETag"), headers.get("Last-Modified"))

    @property
    def if_range(self) -> str | None:
        """The validator for `If-Range`: a strong ETag, else the date (RFC 9110, 13.1.5)."""
        if self.etag is None:
            return self.modified
        return None if self.etag.startswith("W/") else self.etag


def _describe(error: BaseException) -> str:
    """Say in a few words what a network error is, without the Python around it."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        error = reason
    return _clean(getattr(error, "strerror", None) or str(error)) or type(error).__name__


def _clean(text: str) -> str:
    """Make what a server said fit for a terminal: one short line without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:120]).split())
