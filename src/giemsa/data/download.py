"""Fetch the official archive, and leave behind either all of it, unpacked, or what is needed to go on.

    cell_images.zip.part        what has come so far; a broken transfer goes on from there
    cell_images.zip.part.json   which file that is a part of
    cell_images.zip             complete and verified
    .cell_images.unpacking/     half-unpacked, renamed to the next once it is complete
    cell_images/                the data

Nothing is trusted but the digest: a server may ignore ranges, lie about them or send other bytes, and a transfer
that does not add up is begun anew or refused. The two lists of patients that lie beside the archive are not
fetched: no digest of them is known, and the file names tell the same.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import stat
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from giemsa.data.cache import hold_lock
from giemsa.errors import DownloadError, OutputError
from giemsa.files import write_file
from giemsa.images import MAX_BYTES, SUFFIXES
from giemsa.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FOLDER: Final = "cell_images"

_CHUNK_BYTES: Final = 1 << 18
_TIMEOUT_S: Final = 30.0
_LONGEST_WAIT_S: Final = 30.0
_ENOUGH_BYTES: Final = 1 << 20  # a transfer that brought so much was no failure
_TRY_AGAIN: Final = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
# PNGs hardly shrink in a zip; more than this is no archive of pictures.
_MOST_EXPANSION: Final = 4


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip of labelled cells and how to know that it is the right one.

    Attributes
    ----------
    url : str
        Where it is.
    size : int
        In bytes.
    sha256 : str
        In hexadecimal digits.
    n_pictures : int
        How many pictures are in it.
    """

    url: str
    size: int
    sha256: str
    n_pictures: int


OFFICIAL: Final = Archive(
    url="https://data.lhncbc.nlm.nih.gov/public/Malaria/cell_images.zip",
    size=353_452_851,
    sha256="0a949556b2414159b5100192609805376654c4266d8d187be9b1922fad43c668",
    n_pictures=27_558,
)
"""*Malaria Cell Images* of the U.S. National Library of Medicine: 200 patients, 353 MB."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """Where the data are and what had to be done for it.

    Attributes
    ----------
    folder : Path
        The unpacked data.
    n_pictures : int
        How many pictures are in it.
    fetched_bytes : int
        How much came over the network this time.
    was_complete : bool
        Whether there was nothing to do.
    """

    folder: Path
    n_pictures: int
    fetched_bytes: int
    was_complete: bool


def download(
    directory: str | os.PathLike[str],
    *,
    archive: Archive = OFFICIAL,
    keep_archive: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    attempts: int = 6,
    wait: Callable[[float], None] = time.sleep,
) -> Downloaded:
    """Fetch, verify and unpack an archive of cells into `directory/cell_images`.

    What has come stays when it is interrupted, and the next call goes on from there. An archive that was put by
    hand at `directory/cell_images.zip` is verified and used.

    Parameters
    ----------
    directory : path
        Made where it does not exist.
    archive : Archive
        What is fetched.
    keep_archive : bool
        Whether the zip stays beside what was unpacked.
    progress : callable, optional
        Called with `fetch` and bytes, or `unpack` and pictures: so far, and in all.
    attempts : int
        How often in a row a transfer may fail to bring anything substantial.
    wait : callable
        Waits for so many seconds between attempts.

    Raises
    ------
    DownloadError
        If the archive cannot be fetched, or is not what it should be.
    OutputError
        If there is no room for it, or something else stands in its place.
    """
    place = Path(directory)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with hold_lock(place / f".{FOLDER}.lock"):
            transfer = _Transfer(
                archive, place / f"{FOLDER}.zip.part", progress=progress or _silent, attempts=attempts, wait=wait
            )
            return _download(place, transfer, keep_archive=keep_archive, progress=progress or _silent)
    except (DownloadError, OutputError):
        raise
    except OSError as error:
        message = f"{place}: the data cannot be written ({error.strerror or error}); what has come is kept: run again"
        raise OutputError(message) from error


def _silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def _download(
    place: Path, transfer: _Transfer, *, keep_archive: bool, progress: Callable[[str, int, int], None]
) -> Downloaded:
    archive = transfer.archive
    folder, zipped, unpacking = place / FOLDER, place / f"{FOLDER}.zip", place / f".{FOLDER}.unpacking"
    if os.path.lexists(folder):
        _require_complete(folder, archive)
        return Downloaded(folder, archive.n_pictures, 0, was_complete=True)
    shutil.rmtree(unpacking, ignore_errors=True)  # of a process that was killed: we hold the lock
    fetched = 0
    if zipped.exists():
        if (wrong := _difference(zipped, archive)) is not None:
            raise DownloadError(f"{zipped}: {wrong}; move it away and run again to fetch it")
    else:
        fetched = transfer.run()
        transfer.part.replace(zipped)
        transfer.note.unlink(missing_ok=True)
    try:
        _unpack(zipped, unpacking, archive, progress)
        if hasattr(os, "sync"):
            os.sync()  # the rename must not reach the disk before the pictures
        unpacking.replace(folder)
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)
    if not keep_archive:
        zipped.unlink()
    return Downloaded(folder, archive.n_pictures, fetched, was_complete=False)


def _require_complete(folder: Path, archive: Archive) -> None:
    """Make sure that what stands in the place of the data are the data."""
    there = sum(path.suffix.lower() in SUFFIXES for path in folder.glob("*/*"))
    if there != archive.n_pictures:
        message = (
            f"{folder} is there already, but holds {counted(there, 'picture')} in class folders; expected"
            f" {archive.n_pictures:,}: move it away and run again, or name another folder"
        )
        raise OutputError(message)


class _BrokenOffError(Exception):
    """A transfer ended early; another one may do better."""


class _Transfer:
    """Fetches one archive into one partial file, over as many requests as it takes."""

    def __init__(
        self,
        archive: Archive,
        part: Path,
        *,
        progress: Callable[[str, int, int], None],
        attempts: int,
        wait: Callable[[float], None],
    ) -> None:
        self.archive = archive
        self.part = part
        self.note = part.with_name(f"{part.name}.json")
        self._progress = progress
        self._attempts = attempts
        self._wait = wait
        self._fetched = 0
        self._use_ranges = True
        self._resumed = False
        self._validator = ""

    def run(self) -> int:
        """Fetch until the file is complete and verified; return how many bytes came."""
        if not self.archive.url.lower().startswith(("http://", "https://")):
            raise DownloadError(f"{self.archive.url} cannot be fetched; expected an address with http:// or https://")
        self._recall()
        self._resumed = self._have() > 0
        _require_room(self.part.parent, 2 * self.archive.size - self._have())
        self._fetch_all()
        wrong = _difference(self.part, self.archive)
        if wrong is not None and self._resumed:
            # The beginning came from elsewhere or the ranges were wrong: once more, from the start.
            self._start_anew()
            self._fetch_all()
            wrong = _difference(self.part, self.archive)
        if wrong is not None:
            self._forget()
            message = f"{self.archive.url}: {wrong}; it was damaged on its way or is another file, and was removed"
            raise DownloadError(f"{message}: run again to fetch it anew")
        return self._fetched

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _recall(self) -> None:
        """Go on with a partial file only if it is one of this archive."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            same = note["sha256"] == self.archive.sha256 and self._have() <= self.archive.size
            self._validator = str(note["validator"]) if note["url"] == self.archive.url else ""
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            same = False
        if not same:
            self._forget()

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self._validator = ""

    def _fetch_all(self) -> None:
        failures = 0
        while (before := self._have()) < self.archive.size:
            try:
                self._fetch_some()
            except _BrokenOffError as error:
                failures = 1 if self._have() - before >= _ENOUGH_BYTES else failures + 1
                if failures >= self._attempts:
                    message = (
                        f"{self.archive.url}: the transfer broke off after {self._have():,} of {self.archive.size:,}"
                        f" bytes ({error}), {counted(failures, 'time')} in a row; {self._how_to_go_on()}"
                    )
                    raise DownloadError(message) from error
                self._wait(min(2.0 ** (failures - 1), _LONGEST_WAIT_S))

    def _how_to_go_on(self) -> str:
        return (
            f"run again to go on from there, or put the archive by hand at {self.part.with_suffix('')}"
            if self._have()
            else f"try again later, or put the archive by hand at {self.part.with_suffix('')}"
        )

    def _fetch_some(self) -> None:
        """Make one request and append what it brings."""
        have = self._have()
        request = urllib.request.Request(self.archive.url, headers={"Accept-Encoding": "identity"})  # noqa: S310
        if have and self._use_ranges:
            request.add_header("Range", f"bytes={have}-")
            if self._validator:
                request.add_header("If-Range", self._validator)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - checked in run
                start = self._place_of(response, have)
                self._append(response, start)
        except urllib.error.HTTPError as error:
            self._refuse(error)
        except urllib.error.URLError as error:
            if isinstance(error.reason, socket.gaierror) and not self._fetched:
                message = f"{self.archive.url}: there is no way to the server ({error.reason}); {self._how_to_go_on()}"
                raise DownloadError(message) from error
            raise _BrokenOffError(str(error.reason)) from error
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise _BrokenOffError(_said(error)) from error

    def _refuse(self, error: urllib.error.HTTPError) -> None:
        """Decide what an answer with an error means."""
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._start_anew()
            raise _BrokenOffError("the server has no such range") from error
        if error.code in _TRY_AGAIN:
            raise _BrokenOffError(f"the server answered {error.code} {error.reason}") from error
        message = f"{self.archive.url}: the server answered {error.code} {error.reason}; {self._how_to_go_on()}"
        raise DownloadError(message) from error

    def _place_of(self, response: Any, have: int) -> int:  # noqa: ANN401 - http.client.HTTPResponse or like it
        """Say where in the file an answer belongs, having checked what it says of itself."""
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            stated = response.headers.get("Content-Range", "")
            match = _CONTENT_RANGE.fullmatch(stated.strip())
            total = match[3] if match else ""
            if match is None or int(match[1]) != have or total not in ("*", str(self.archive.size)):
                self._start_anew()
                raise _BrokenOffError(f"the server sent the range {stated!r} when asked for {have}-")
            self._resumed = True
            return have
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) != self.archive.size:
            message = (
                f"{self.archive.url}: the file there has {int(length):,} bytes, expected {self.archive.size:,}; it is"
                " not the archive that this version knows: look for a newer version of giemsa"
            )
            raise DownloadError(message)
        etag = response.headers.get("ETag", "")
        self._validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        note = {"url": self.archive.url, "sha256": self.archive.sha256, "validator": self._validator}
        write_file(self.note, json.dumps(note))
        return 0

    def _start_anew(self) -> None:
        """Throw away what came and ask for no more ranges."""
        self._use_ranges = False
        self._forget()

    def _append(self, response: Any, start: int) -> None:  # noqa: ANN401
        done = start
        with self.part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while chunk := _read(response):
                done += len(chunk)
                if done > self.archive.size:
                    break
                file.write(chunk)
                self._fetched += len(chunk)
                self._progress("fetch", done, self.archive.size)
        if done > self.archive.size:
            self._forget()
            message = (
                f"{self.archive.url}: the server sends more than the {self.archive.size:,} bytes of the archive; what"
                " came was removed: look whether the address is right"
            )
            raise DownloadError(message)
        if done < self.archive.size:
            raise _BrokenOffError("the connection was closed")


def _read(response: Any) -> bytes:  # noqa: ANN401
    """Read the next bytes; an error here is the network's, not the disk's."""
    try:
        return bytes(response.read(_CHUNK_BYTES))
    except (http.client.HTTPException, OSError) as error:
        raise _BrokenOffError(_said(error)) from error


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _difference(path: Path, archive: Archive) -> str | None:
    """Compare a file with what is known of the archive; None where it is the same."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() == archive.sha256:
        return None
    return (
        f"the archive has {path.stat().st_size:,} bytes and SHA-256 {digest.hexdigest()}, expected {archive.size:,}"
        f" bytes and {archive.sha256}"
    )


def _unpack(zipped: Path, folder: Path, archive: Archive, progress: Callable[[str, int, int], None]) -> None:
    """Unpack the pictures of an archive into a new folder, without the archive's own top folder."""
    try:
        with zipfile.ZipFile(zipped) as content:
            members = _checked_members(content.infolist(), zipped, archive)
            _require_room(folder.parent, sum(member.file_size for member, _ in members))
            for done, (member, name) in enumerate(members, start=1):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with content.open(member) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
                progress("unpack", done, len(members))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise DownloadError(f"{zipped}: the archive cannot be unpacked ({error}); remove it and run again") from error


def _checked_members(
    infos: Iterable[zipfile.ZipInfo], zipped: Path, archive: Archive
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Choose the pictures of an archive, each with its place below `cell_images/`, or refuse the whole."""
    members: list[tuple[zipfile.ZipInfo, PurePosixPath]] = []
    places: set[str] = set()
    total = 0
    for info in infos:
        name = PurePosixPath(info.filename)
        if info.is_dir() or name.suffix.lower() not in SUFFIXES or name.name.startswith("."):
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        odd = "\\" in info.filename or ".." in name.parts or name.is_absolute() or ":" in info.filename
        if odd or len(name.parts) != 3 or name.parts[0] != FOLDER or kind not in (0, stat.S_IFREG):
            message = (
                f"{zipped}: the archive holds {info.filename!r}; expected plain files {FOLDER}/CLASS/NAME only:"
                " do not use it"
            )
            raise DownloadError(message)
        place = PurePosixPath(*name.parts[1:])
        total += info.file_size
        if str(place) in places or info.file_size > MAX_BYTES or total > _MOST_EXPANSION * archive.size:
            message = f"{zipped}: the archive holds {info.filename!r} twice or unpacks to far more than it should"
            raise DownloadError(f"{message}: do not use it")
        places.add(str(place))
        members.append((info, place))
    if len(members) != archive.n_pictures:
        message = f"{zipped}: the archive holds {counted(len(members), 'picture')}; expected {archive.n_pictures:,}"
        raise DownloadError(f"{message}: do not use it")
    return members


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        message = f"{folder}: {needed:,} bytes are needed and {free:,} are free; make room or name another folder"
        raise OutputError(message)
