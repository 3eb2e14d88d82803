"""The download against real servers on this machine that break off, lie, and send other bytes."""

from __future__ import annotations

import hashlib
import io
import re
import stat
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from giemsa.data.download import OFFICIAL, Archive, download
from giemsa.data.index import read_index
from giemsa.errors import DownloadError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass
class Behaviour:
    """What the server does; each request is recorded with its range."""

    content: bytes
    etag: str | None = '"1"'
    ranges: bool = True
    break_after: list[int] = field(default_factory=list)  # bytes sent by each of the first requests
    statuses: list[int] = field(default_factory=list)  # answers of the first requests; 0 is an ordinary one
    content_range: Callable[[int, int], str] | None = None
    partial: Callable[[bytes], bytes] | None = None
    tell_length: bool = True
    requests: list[str] = field(default_factory=list)


def handler_of(behaviour: Behaviour) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Be silent."""

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            behaviour.requests.append(wanted)
            if behaviour.statuses and (status := behaviour.statuses.pop(0)):
                self.send_error(status)
                return
            match = re.fullmatch(r"bytes=(\d+)-", wanted)
            known = self.headers.get("If-Range") in (None, behaviour.etag)
            if match and behaviour.ranges and known:
                start = int(match[1])
                body = behaviour.content[start:]
                self.send_response(206)
                stated = behaviour.content_range or (lambda start, size: f"bytes {start}-{size - 1}/{size}")
                self.send_header("Content-Range", stated(start, len(behaviour.content)))
                body = behaviour.partial(body) if behaviour.partial else body
            else:
                body = behaviour.content
                self.send_response(200)
            if behaviour.tell_length:
                self.send_header("Content-Length", str(len(body)))
            if behaviour.etag:
                self.send_header("ETag", behaviour.etag)
            self.end_headers()
            if behaviour.break_after:
                body = body[: behaviour.break_after.pop(0)]
            self.wfile.write(body)

    return Handler


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], str]]:
    servers = []

    def start(behaviour: Behaviour) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(behaviour))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/cell_images.zip"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


@pytest.fixture
def members(drawing) -> dict[str, bytes]:
    pictures = {}
    for folder in ("Parasitized", "Uninfected"):
        for number in range(4):
            name = drawing.official_name("C39P4thinF", number)
            pictures[f"cell_images/{folder}/{name}"] = drawing.png(number, parasitized=folder == "Parasitized")
        pictures[f"cell_images/{folder}/Thumbs.db"] = b"thumbs"
    return pictures


@pytest.fixture
def behaviour(members) -> Behaviour:
    return Behaviour(zipped(members))


def archive_of(content: bytes, url: str, n_pictures: int = 8) -> Archive:
    return Archive(url, len(content), hashlib.sha256(content).hexdigest(), n_pictures)


@pytest.fixture
def fetch(serve, tmp_path):
    """Download from a server that behaves so, without waiting between attempts."""

    def run(behaviour: Behaviour, **options):
        content = options.pop("content", behaviour.content)
        n_pictures = options.pop("n_pictures", 8)
        archive = archive_of(content, serve(behaviour), n_pictures)
        return download(tmp_path / "data", archive=archive, wait=lambda seconds: None, **options)

    return run


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_the_official_archive_is_the_one_of_the_library():
    assert OFFICIAL.url.startswith("https://data.lhncbc.nlm.nih.gov/")
    assert OFFICIAL.size == 353_452_851
    assert OFFICIAL.n_pictures == 27_558
    assert re.fullmatch("[0-9a-f]{64}", OFFICIAL.sha256)


def test_an_archive_is_fetched_verified_and_unpacked(fetch, behaviour, members, tmp_path):
    done = fetch(behaviour)
    assert done.folder == tmp_path / "data" / "cell_images"
    assert (done.n_pictures, done.fetched_bytes, done.was_complete) == (8, len(behaviour.content), False)
    assert left_in(tmp_path / "data") == ["cell_images"]
    index = read_index(done.folder)
    assert len(index) == 8
    for cell, path in zip(index, index.paths(), strict=True):
        assert path.read_bytes() == members[f"cell_images/{cell.file}"]
    assert not list(done.folder.rglob("Thumbs.db"))


def test_a_second_run_does_nothing(fetch, behaviour):
    fetch(behaviour)
    again = fetch(behaviour)
    assert again.was_complete
    assert again.fetched_bytes == 0
    assert len(behaviour.requests) == 1


def test_the_archive_can_be_kept(fetch, behaviour, tmp_path):
    fetch(behaviour, keep_archive=True)
    assert left_in(tmp_path / "data") == ["cell_images", "cell_images.zip"]


def test_progress_counts_bytes_and_then_pictures(fetch, behaviour):
    calls = []
    fetch(behaviour, progress=lambda *numbers: calls.append(numbers))
    size = len(behaviour.content)
    assert ("fetch", size, size) in calls
    assert calls[-1] == ("unpack", 8, 8)


def test_a_transfer_that_breaks_off_goes_on_from_there(fetch, behaviour):
    behaviour.break_after = [700, 300]
    done = fetch(behaviour)
    assert behaviour.requests == ["", "bytes=700-", "bytes=1000-"]
    assert done.fetched_bytes == len(behaviour.content)


def test_a_later_run_goes_on_where_the_first_gave_up(fetch, behaviour, tmp_path):
    behaviour.break_after = [700]
    behaviour.statuses = [0, 503, 503]
    with pytest.raises(DownloadError, match=r"broke off after 700 of [\d,]+ bytes \(the server answered 503"):
        fetch(behaviour, attempts=3)
    assert left_in(tmp_path / "data") == ["cell_images.zip.part", "cell_images.zip.part.json"]
    url = behaviour_url(tmp_path)
    archive = archive_of(behaviour.content, url)
    done = download(tmp_path / "data", archive=archive, wait=lambda seconds: None)
    assert behaviour.requests[-1] == "bytes=700-"
    assert done.fetched_bytes == len(behaviour.content) - 700


def behaviour_url(tmp_path: Path) -> str:
    import json

    return json.loads((tmp_path / "data" / "cell_images.zip.part.json").read_text())["url"]


def test_a_partial_file_of_another_archive_is_not_continued(fetch, behaviour, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cell_images.zip.part").write_bytes(b"x" * 100)
    (tmp_path / "data" / "cell_images.zip.part.json").write_text('{"url": "", "sha256": "other", "validator": ""}')
    fetch(behaviour)
    assert behaviour.requests == [""]


def test_a_file_that_changed_on_the_server_is_fetched_anew(fetch, behaviour):
    behaviour.break_after = [700]
    first_etag = behaviour.etag

    def change(stage, done, total):
        behaviour.etag = '"2"'

    fetch(behaviour, progress=change)
    assert first_etag != behaviour.etag
    assert behaviour.requests == ["", "bytes=700-"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(fetch, behaviour):
    behaviour.ranges = False
    behaviour.break_after = [700]
    assert fetch(behaviour).fetched_bytes == len(behaviour.content) + 700


def test_a_server_that_tells_no_length_is_read_to_the_end(fetch, behaviour):
    behaviour.tell_length = False
    behaviour.etag = None
    behaviour.break_after = [700]
    fetch(behaviour)
    assert behaviour.requests == ["", "bytes=700-"]


@pytest.mark.parametrize(
    "content_range",
    [
        lambda start, size: f"bytes 0-{size - 1}/{size}",
        lambda start, size: f"bytes {start}-{size - 1}/{size + 1}",
        lambda start, size: "nonsense",
        lambda start, size: "",
    ],
)
def test_a_server_that_lies_about_ranges_is_asked_for_the_whole(fetch, behaviour, content_range):
    behaviour.content_range = content_range
    behaviour.break_after = [700]
    fetch(behaviour)
    assert behaviour.requests == ["", "bytes=700-", ""]


def test_a_server_that_sends_another_range_than_it_says_is_asked_for_the_whole(fetch, behaviour):
    behaviour.partial = lambda body: b"x" * len(body)
    behaviour.break_after = [700]
    fetch(behaviour)
    assert behaviour.requests == ["", "bytes=700-", ""]


def test_a_range_that_the_server_does_not_have_is_asked_for_no_more(fetch, behaviour):
    behaviour.break_after = [700]
    behaviour.statuses = [0, 416]
    fetch(behaviour)
    assert behaviour.requests == ["", "bytes=700-", ""]


def test_other_bytes_are_refused_and_removed(fetch, behaviour, tmp_path):
    right = behaviour.content
    behaviour.content = bytes(reversed(right))
    with pytest.raises(DownloadError) as caught:
        fetch(behaviour, content=right)
    message = str(caught.value)
    assert hashlib.sha256(behaviour.content).hexdigest() in message
    assert f"expected {len(right):,} bytes and {hashlib.sha256(right).hexdigest()}" in message
    assert left_in(tmp_path / "data") == []


def test_other_bytes_after_a_resumed_transfer_are_fetched_once_more_and_then_refused(fetch, behaviour, tmp_path):
    right = behaviour.content
    behaviour.content = bytes(reversed(right))
    behaviour.break_after = [700]
    with pytest.raises(DownloadError, match="was removed: run again to fetch it anew"):
        fetch(behaviour, content=right)
    assert behaviour.requests == ["", "bytes=700-", ""]
    assert left_in(tmp_path / "data") == []


def test_a_file_of_another_length_is_refused_before_it_is_fetched(fetch, behaviour, tmp_path):
    right = behaviour.content
    behaviour.content = right + b"more"
    with pytest.raises(DownloadError, match=r"the file there has [\d,]+ bytes, expected [\d,]+; it is not the archive"):
        fetch(behaviour, content=right)
    assert left_in(tmp_path / "data") == []


def test_a_server_that_sends_without_end_is_stopped(fetch, behaviour, tmp_path):
    right = behaviour.content
    behaviour.content = right * 3
    behaviour.tell_length = False
    with pytest.raises(DownloadError, match="the server sends more than the"):
        fetch(behaviour, content=right)
    assert left_in(tmp_path / "data") == []


def test_a_missing_file_is_said_at_once(fetch, behaviour):
    behaviour.statuses = [404]
    with pytest.raises(
        DownloadError, match=r"the server answered 404 Not Found; try again later, or put the archive by"
    ):
        fetch(behaviour)
    assert len(behaviour.requests) == 1


def test_waiting_grows_between_attempts(serve, behaviour, tmp_path):
    waited = []
    behaviour.statuses = [500] * 8
    with pytest.raises(DownloadError, match="8 times in a row"):
        download(tmp_path, archive=archive_of(behaviour.content, serve(behaviour)), attempts=8, wait=waited.append)
    assert waited == [1, 2, 4, 8, 16, 30, 30]


def test_no_server_is_said(behaviour, tmp_path):
    archive = archive_of(behaviour.content, "http://127.0.0.1:1/cell_images.zip")
    with pytest.raises(
        DownloadError, match=r"broke off after 0 of .* refused.*; try again later, or put the archive by"
    ):
        download(tmp_path, archive=archive, attempts=2, wait=lambda seconds: None)


def test_no_network_is_said_at_once(behaviour, tmp_path):
    archive = archive_of(behaviour.content, "http://cells.invalid/cell_images.zip")
    with pytest.raises(DownloadError, match="there is no way to the server"):
        download(tmp_path, archive=archive, wait=pytest.fail)


def test_only_http_is_fetched(behaviour, tmp_path):
    archive = archive_of(behaviour.content, (tmp_path / "x.zip").as_uri())
    with pytest.raises(DownloadError, match="expected an address with http:// or https://"):
        download(tmp_path, archive=archive)


def test_an_archive_put_there_by_hand_is_used(fetch, behaviour, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cell_images.zip").write_bytes(behaviour.content)
    assert fetch(behaviour).fetched_bytes == 0
    assert behaviour.requests == []


def test_another_archive_put_there_by_hand_is_refused_and_left_alone(fetch, behaviour, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cell_images.zip").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"cell_images\.zip: the archive has 4 bytes .* move it away and run again"):
        fetch(behaviour)
    assert (tmp_path / "data" / "cell_images.zip").read_bytes() == b"mine"


def test_something_else_in_the_place_of_the_data_is_refused(fetch, behaviour, tmp_path):
    (tmp_path / "data" / "cell_images" / "Parasitized").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cell_images is there already, but holds 0 pictures .*; expected 8"):
        fetch(behaviour)


def test_too_little_room_is_said_before_anything_is_fetched(serve, behaviour, tmp_path):
    archive = replace(archive_of(behaviour.content, serve(behaviour)), size=10**18)
    with pytest.raises(OutputError, match=r"2,000,000,000,000,000,000 bytes are needed and [\d,]+ are free"):
        download(tmp_path, archive=archive)
    assert behaviour.requests == []


def test_a_place_that_cannot_be_written_is_said(behaviour, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="the data cannot be written"):
        download(tmp_path / "file" / "data", archive=archive_of(behaviour.content, "http://127.0.0.1:1/"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cell_images/Parasitized/../../../evil.png", "expected plain files cell_images/CLASS/NAME only"),
        ("/cell_images/evil.png", "expected plain files"),
        ("cell_images\\Parasitized\\evil.png", "expected plain files"),
        ("other/Parasitized/evil.png", "expected plain files"),
        ("cell_images/evil.png", "expected plain files"),
        ("cell_images/C:/evil.png", "expected plain files"),
    ],
)
def test_an_archive_with_odd_names_is_refused_and_nothing_is_left(fetch, behaviour, members, tmp_path, name, message):
    behaviour.content = zipped({**members, name: b"evil"})
    with pytest.raises(DownloadError, match=message):
        fetch(behaviour, n_pictures=9)
    assert left_in(tmp_path / "data") == ["cell_images.zip"]
    assert not list(tmp_path.rglob("evil*"))


def test_a_link_in_the_archive_is_refused(fetch, behaviour, members):
    link = zipfile.ZipInfo("cell_images/Parasitized/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    file = io.BytesIO(behaviour.content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    behaviour.content = file.getvalue()
    with pytest.raises(DownloadError, match=r"holds 'cell_images/Parasitized/link\.png'; expected plain files"):
        fetch(behaviour, n_pictures=9)


def test_a_zip_bomb_is_not_unpacked(fetch, behaviour, members, tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cell_images/Parasitized/a.png", bytes(10**6))
    behaviour.content = file.getvalue()
    with pytest.raises(DownloadError, match="unpacks to far more than it should: do not use it"):
        fetch(behaviour, n_pictures=1)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_there_twice_is_refused(fetch, behaviour, members):
    file = io.BytesIO(behaviour.content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(next(iter(members)), b"other")
    behaviour.content = file.getvalue()
    with pytest.raises(DownloadError, match="twice or unpacks to far more"):
        fetch(behaviour, n_pictures=9)


def test_an_archive_with_too_few_pictures_is_refused(fetch, behaviour):
    with pytest.raises(DownloadError, match="the archive holds 8 pictures; expected 9: do not use it"):
        fetch(behaviour, n_pictures=9)


@pytest.mark.parametrize("damage", ["not a zip", "damaged member"])
def test_a_zip_that_cannot_be_unpacked_leaves_nothing_half_done(fetch, behaviour, members, tmp_path, damage):
    if damage == "not a zip":
        behaviour.content = b"text" * 100
    else:
        picture = next(iter(members.values()))
        place = behaviour.content.index(picture) + len(picture) // 2
        behaviour.content = behaviour.content[:place] + b"\0\0\0\0" + behaviour.content[place + 4 :]
    with pytest.raises(DownloadError, match=r"the archive cannot be unpacked .*; remove it and run again"):
        fetch(behaviour)
    assert left_in(tmp_path / "data") == ["cell_images.zip"]


UNPACKER = """
import os, signal, sys
from giemsa.data.download import Archive, download

def stop(stage, done, total):
    if stage == "unpack" and done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

url, size, sha256, place = sys.argv[1:]
download(place, archive=Archive(url, int(size), sha256, 8), progress=stop)
"""


def test_a_process_killed_while_it_unpacks_leaves_no_data_and_the_next_one_finishes(serve, behaviour, tmp_path):
    archive = archive_of(behaviour.content, serve(behaviour))
    killed = subprocess.run(
        [sys.executable, "-c", UNPACKER, archive.url, str(archive.size), archive.sha256, str(tmp_path)], check=False
    )
    assert killed.returncode == -9
    assert left_in(tmp_path) == [".cell_images.unpacking", "cell_images.zip"]
    done = download(tmp_path, archive=archive)
    assert (done.fetched_bytes, len(read_index(done.folder))) == (0, 8)
    assert left_in(tmp_path) == ["cell_images"]
