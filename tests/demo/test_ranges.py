"""A remote file read in parts, from servers that know ranges, that do not, and that lie."""

from __future__ import annotations

import io
import socket
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from giemsa.demo import RangeFile
from giemsa.errors import DownloadError

CONTENT = np.random.default_rng(0).bytes(200_000)


def test_it_reads_like_a_local_file(serve):
    with RangeFile(serve(CONTENT).url) as remote:
        assert (remote.size, remote.readable(), remote.seekable(), remote.writable()) == (200_000, True, True, False)
        assert remote.seek(-5, io.SEEK_END) == 199_995
        assert remote.read(100) == CONTENT[-5:]
        assert remote.read(100) == b""
        assert remote.seek(70_000) == 70_000
        assert remote.seek(10, io.SEEK_CUR) == remote.tell() == 70_010
        assert remote.read(90_000) == CONTENT[70_010:160_010]
        assert remote.seek(0) == 0
        assert remote.read() == CONTENT


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 400)), min_size=1, max_size=6), st.integers(1, 300))
def test_any_reads_in_any_order_give_the_same_bytes(serve, reads, read_ahead):
    content = CONTENT[:1000]
    with RangeFile(serve(content).url, read_ahead=read_ahead) as remote:
        for start, length in reads:
            remote.seek(start)
            assert remote.read(length) == content[start : start + length]


def test_a_position_before_the_start_is_refused(serve):
    with RangeFile(serve(CONTENT).url) as remote, pytest.raises(ValueError, match="before the start"):
        remote.seek(-1)


def test_what_lies_near_comes_along_and_is_not_asked_for_again(serve):
    site = serve(CONTENT)
    with RangeFile(site.url, read_ahead=1000) as remote:
        for start in (50_000, 50_010, 50_990, 50_500):
            remote.seek(start)
            remote.read(10)
        assert site.asked == ["bytes=0-0", "bytes=50000-50999"]
        assert remote.requests == 2
        assert remote.transferred == site.sent == 1001


def test_the_end_is_fetched_with_what_lies_before_it_as_archives_are_read_backwards(serve):
    site = serve(CONTENT)
    with RangeFile(site.url, read_ahead=1000) as remote:
        for start in (199_978, 199_500, 199_000):
            remote.seek(start)
            remote.read(22)
    assert site.asked == ["bytes=0-0", "bytes=199000-199999"]


def test_what_was_prefetched_is_not_asked_for_again(serve):
    site = serve(CONTENT)
    with RangeFile(site.url, read_ahead=10) as remote:
        remote.prefetch(3000, 500)
        remote.seek(3000)
        assert b"".join(remote.read(50) for _ in range(10)) == CONTENT[3000:3500]
    assert site.asked == ["bytes=0-0", "bytes=3000-3499"]


def test_of_an_archive_only_the_directory_and_the_wanted_members_are_transferred(serve, pack):
    content = pack(others=3000)
    site = serve(content)
    with RangeFile(site.url) as remote, zipfile.ZipFile(remote) as archive:
        assert archive.read("cell_images/Parasitized/C0P1thinF_IMG_1_cell_0.png").startswith(b"\x89PNG")
        directory = len(content) - archive.start_dir
        assert len(archive.namelist()) == 3004
        assert remote.transferred < directory + 3 * 16 * 1024
        assert remote.requests <= 4


def test_every_later_request_holds_the_server_to_the_same_file(serve):
    for how, expected in (
        ({"etag": '"one"'}, '"one"'),
        ({"etag": None, "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, "Mon, 01 Jan 2024 00:00:00 GMT"),
        ({"etag": 'W/"weak"'}, None),
        ({"etag": None}, None),
    ):
        site = serve(CONTENT, **how)
        with RangeFile(site.url) as remote:
            remote.read(10)
        assert site.if_range == [None, expected]


def test_a_server_that_does_not_know_ranges_is_refused_before_the_file_is_transferred(serve):
    site = serve(CONTENT * 100, "whole")
    with pytest.raises(DownloadError, match=r"cell_images\.zip is served whole only, not in ranges; use a server"):
        RangeFile(site.url)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("shifted", "sent bytes 183,617 to 200,000 of 200,000 where 183,616 to 199,999 were asked for"),
        ("unnamed", "answered 206 with Content-Range None to a request for 1 bytes from 0"),
        ("unsized", r"answered 206 with Content-Range 'bytes 0-0/\*'"),
        ("packed", "was sent packed as gzip, expected as it is"),
        ("absent", "answered 404 Not Found; check the address"),
        ("rubbish", r"no answer from 127\.0\.0\.1 \(.*; check the network"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_refused_in_one_sentence(serve, behaviour, message):
    def read_the_end():
        with RangeFile(serve(CONTENT, behaviour).url) as remote:
            remote.seek(199_990)
            remote.read(10)

    with pytest.raises(DownloadError, match=message) as caught:
        read_the_end()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("behaviour", ["ranges", "forgetful"])
@pytest.mark.parametrize(
    "how", [{"etag": '"first"'}, {"etag": None, "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {"etag": None}]
)
def test_a_file_that_changes_half_way_is_noticed(serve, behaviour, how):
    site = serve(CONTENT, behaviour, next_content=CONTENT[:-1], change_at=3, **how)
    with RangeFile(site.url, read_ahead=10) as remote:
        remote.seek(1000)
        remote.read(10)
        remote.seek(2000)
        with pytest.raises(DownloadError, match=r"cell_images\.zip changed while it was being read; try again"):
            remote.read(10)


def test_a_connection_that_breaks_off_once_is_tried_again(serve):
    site = serve(CONTENT, break_at=(2,))
    with RangeFile(site.url) as remote:
        assert remote.read(20_000) == CONTENT[:20_000]
    assert site.asked == ["bytes=0-0", "bytes=0-19999", "bytes=0-19999"]


def test_a_connection_that_breaks_off_twice_ends_it(serve):
    site = serve(CONTENT, break_at=(2, 3))
    with RangeFile(site.url) as remote, pytest.raises(DownloadError, match="broke off after 10,000 of 20,000 bytes"):
        remote.read(20_000)


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x.zip"
        with pytest.raises(DownloadError, match=r"no answer from 127\.0\.0\.1 \(.+\); check the network"):
            RangeFile(url)


def test_a_host_that_does_not_exist_is_named():
    with pytest.raises(DownloadError, match=r"no answer from nowhere\.invalid \(.+\); check the network"):
        RangeFile("https://nowhere.invalid/x.zip", timeout_s=5)


def test_a_server_that_stays_silent_is_left(serve):
    with pytest.raises(DownloadError, match=r"no answer from 127\.0\.0\.1 \(timed out\)"):
        RangeFile(serve(CONTENT, "silence").url, timeout_s=0.2)


def test_a_server_that_takes_for_ever_is_left(serve):
    seconds = iter(range(0, 10_000, 100))
    with (
        RangeFile(serve(CONTENT).url, time_limit_s=250, clock=lambda: next(seconds)) as remote,
        pytest.raises(DownloadError, match="took more than 250 s"),
    ):
        remote.read(200_000)


def test_more_than_the_limit_is_never_transferred(serve):
    site = serve(CONTENT)
    with (
        RangeFile(site.url, transfer_limit=50_000) as remote,
        pytest.raises(DownloadError, match="would take more than 50,000 bytes to read"),
    ):
        remote.read(60_000)
    assert site.sent == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x.zip", "cell_images.zip", ""])
def test_an_address_of_another_kind_is_refused(url):
    with pytest.raises(DownloadError, match="no address to fetch from; expected one with https:// or http://"):
        RangeFile(url)
