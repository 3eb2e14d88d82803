"""Pictures in zip archives, hostile ones too."""

from __future__ import annotations

import io
import os
import re
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from giemsa import archives
from giemsa.archives import open_archive
from giemsa.errors import PictureError, SourceError
from giemsa.sources import open_sources

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20  # begins like a picture, which is all that archives look at


def write(path, members, *, method=zipfile.ZIP_DEFLATED, comment=b"", **options):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.comment = comment
        for name, content in members.items():
            with archive.open(name, "w", **options) as file:
                file.write(content)
    return path


def opened(path, **options):
    return {source.name.removeprefix(f"{path}/"): source for source in open_sources([path], **options)}


def reason(source):
    with pytest.raises(PictureError) as caught:
        source.read()
    return str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("options", [{}, {"force_zip64": True}])
@pytest.mark.parametrize("comment", [b"", b"a comment", b"c" * 65_535])
def test_members_are_read_in_their_order(tmp_path, method, options, comment):
    members = {"z/2.png": PNG, "z/1.PNG": PNG + b"more", "a.jpg": PNG}
    stream = opened(write(tmp_path / "cells.ZIP", members, method=method, comment=comment, **options))
    assert list(stream) == ["z/2.png", "z/1.PNG", "a.jpg"]
    assert [source.read() for source in stream.values()] == list(members.values())


def test_only_pictures_that_are_not_hidden_count(tmp_path):
    members = {"a/": b"", "a/1.png": PNG, "Thumbs.db": b"x", "__MACOSX/a/._1.png": b"x", ".cache/2.png": PNG}
    assert list(opened(write(tmp_path / "cells.zip", members))) == ["a/1.png"]


def test_an_archive_without_pictures_is_noted_or_refused(tmp_path):
    empty = write(tmp_path / "empty.zip", {"notes.txt": b"x"})
    with pytest.raises(SourceError, match="no pictures"):
        open_sources([empty])
    (tmp_path / "a.png").write_bytes(PNG)
    notes = []
    assert len(list(open_sources([tmp_path / "a.png", empty], note=notes.append))) == 1
    assert notes == [f"there are no pictures in the archive {empty}"]


def test_something_before_the_archive_does_no_harm(tmp_path):
    path = write(tmp_path / "cells.zip", {"1.png": PNG})
    path.write_bytes(b"#!/bin/sh\n" * 100 + path.read_bytes())
    assert opened(path)["1.png"].read() == PNG


def test_names_that_lead_out_of_the_archive_become_rows_and_nothing_is_written(tmp_path):
    members = {"../evil.png": PNG, "a/../../evil.png": PNG, "/abs.png": PNG, "..\\win.png": PNG, "ok..png": PNG}
    inside = tmp_path / "inside"
    inside.mkdir()
    stream = opened(write(inside / "cells.zip", members))
    assert list(stream) == list(members)
    assert stream.pop("ok..png").read() == PNG
    for source in stream.values():
        assert "leads out of the archive" in reason(source)
    assert list(tmp_path.iterdir()) == [inside]
    assert list(inside.iterdir()) == [inside / "cells.zip"]


def test_a_bomb_is_refused_without_being_unpacked(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, begin in (("zeros.png", b""), ("like.png", PNG[:8])):
            with archive.open(name, "w") as file:
                file.write(begin)
                for _ in range(100):
                    file.write(bytes(2**20))
        with archive.open("huge.png", "w") as file:
            for _ in range(129):
                file.write(bytes(2**20))
    stream = opened(path)
    tracemalloc.start()
    try:
        assert "no picture of a known kind" in reason(stream["zeros.png"])
        assert "at most 134,217,728 are read" in reason(stream["huge.png"])
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()
    assert len(stream["like.png"].read()) == 100 * 2**20 + 8  # within the limit on bytes; decoding refuses it


def patched(path, find, change):
    """Change the fields behind each signature `find` of an archive, in place."""
    data = bytearray(path.read_bytes())
    for found in re.finditer(re.escape(find), bytes(data)):
        change(data, found.start())
    path.write_bytes(data)
    return path


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path):
    path = write(tmp_path / "lie.zip", {"1.png": PNG})
    patched(path, b"PK\1\2", lambda data, at: struct.pack_into("<L", data, at + 24, 100))
    assert "size or checksum is wrong" in reason(opened(path)["1.png"])


def test_a_member_with_a_wrong_checksum_is_refused(tmp_path):
    path = write(tmp_path / "damaged.zip", {"1.png": PNG}, method=zipfile.ZIP_STORED)
    patched(path, PNG[8:20], lambda data, at: data.__setitem__(at, 255))
    assert "checksum is wrong" in reason(opened(path)["1.png"])


def test_a_member_with_nonsense_instead_of_packed_bytes_is_refused(tmp_path):
    path = write(tmp_path / "damaged.zip", {"1.png": PNG})
    patched(path, b"PK\3\4", lambda data, at: data.__setitem__(slice(at + 35, at + 45), b"\xff" * 10))
    assert "damaged: Error -3" in reason(opened(path)["1.png"])


def test_a_member_that_is_not_where_the_directory_says_is_refused(tmp_path):
    path = write(tmp_path / "moved.zip", {"1.png": PNG})
    patched(path, b"PK\1\2", lambda data, at: struct.pack_into("<L", data, at + 42, 7))
    assert "not where the directory says" in reason(opened(path)["1.png"])


@pytest.mark.parametrize("offset", [2**31, 2**63, 2**64 - 1])
def test_impossible_places_of_64_bits_stay_with_their_member(tmp_path, offset):
    path = write(tmp_path / "far.zip", {"1.png": PNG, "2.png": PNG})
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\1\2")
    struct.pack_into("<L", data, entry + 42, 2**32 - 1)
    struct.pack_into("<H", data, entry + 30, 12)
    name_end = entry + 46 + len("1.png")
    data[name_end:name_end] = struct.pack("<HHQ", 1, 8, offset)
    end = data.rindex(b"PK\5\6")
    struct.pack_into("<L", data, end + 12, struct.unpack_from("<L", data, end + 12)[0] + 12)
    path.write_bytes(data)
    stream = opened(path)
    assert "not where the directory says" in reason(stream["1.png"])
    assert stream["2.png"].read() == PNG


def test_an_impossible_place_of_the_64_bit_end_is_refused(tmp_path):
    path = write(tmp_path / "far.zip", {"1.png": PNG})
    data = path.read_bytes()
    path.write_bytes(data[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 2**63, 1) + data[-22:])
    with pytest.raises(SourceError, match="64-bit end is not where it says"):
        open_sources([path])


def overlapping(path, content, count):
    """Write an archive whose `count` members are all the same packed bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, 0, 0, 0, 0) + packed
    sizes = (zlib.crc32(content), len(packed), len(content))
    names = [f"{i}.png".encode() for i in range(count)]
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 0, *sizes, len(name), 0, 0, 0, 0, 0, 0) + name
        for name in names
    )
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(local), 0)
    path.write_bytes(local + directory + end)
    return path


def test_members_that_lie_over_each_other_end_the_archive(tmp_path):
    path = overlapping(tmp_path / "over.zip", PNG + os.urandom(20_000), 500)
    *members, last = open_sources([path])
    assert members[0].read().startswith(PNG)
    assert len(members) < 10
    assert "lie over each other" in reason(last)


def test_an_archive_unpacks_to_so_much_and_no_more_and_what_fails_is_charged_too(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(archives, "MAX_UNPACKED_RATIO", 1)
    path = write(tmp_path / "bomb.zip", {f"{i}.png": PNG + bytes(900_000) for i in range(20)})
    patched(path, b"PK\1\2", lambda data, at: struct.pack_into("<L", data, at + 16, 1))  # none has its checksum
    reasons = [reason(source) for source in opened(path).values()]
    assert "checksum is wrong" in reasons[0]
    assert ["far more than pictures" in said for said in reasons] == [False] * 4 + [True] * 16


def test_pictures_of_an_archive_have_so_many_pixels_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_PIXELS", 1_000_000)
    wide = PNG[:8] + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 1_000, 1_000, 8, 2, 0, 0, 0)
    path = write(tmp_path / "wide.zip", {f"{i}.png": wide for i in range(12)})
    stream = list(opened(path).values())
    assert [source.read() for source in stream[:4]] == [wide] * 4
    assert "far more than pictures" in reason(stream[4])


def test_the_packed_size_is_named_where_it_is_the_one_that_is_too_large(tmp_path, monkeypatch):
    path = write(tmp_path / "cells.zip", {"1.png": PNG, "2.png": os.urandom(9_000)}, method=zipfile.ZIP_STORED)
    patched(path, b"PK\1\2", lambda data, at: struct.pack_into("<LL", data, at + 20, 9_000, 100))
    monkeypatch.setattr(archives, "MAX_BYTES", 8_000)
    assert "has 9,000 packed bytes; at most 8,000 are read" in reason(opened(path)["1.png"])


def test_encrypted_and_oddly_packed_members_are_refused(tmp_path):
    path = write(tmp_path / "secret.zip", {"1.png": PNG})
    patched(path, b"PK\1\2", lambda data, at: struct.pack_into("<H", data, at + 8, 1))
    assert "encrypted" in reason(opened(path)["1.png"])
    path = write(tmp_path / "bzip2.zip", {"1.png": PNG}, method=zipfile.ZIP_BZIP2)
    assert "method 12; only stored (0) and deflated (8)" in reason(opened(path)["1.png"])


def test_names_of_old_archives_are_read(tmp_path):
    path = write(tmp_path / "old.zip", {"caf_.png": PNG, "gru_n.png": PNG})
    data = path.read_bytes().replace(b"caf_", b"caf\x82").replace(b"gru_n", "grün".encode())
    path.write_bytes(data)  # 0x82 is é in code page 437; the other is UTF-8 that does not say so
    assert list(opened(path)) == ["café.png", "grün.png"]
    path = write(tmp_path / "flagged.zip", {"é_.png": PNG})
    path.write_bytes(path.read_bytes().replace("é_".encode(), "é".encode() + b"\xff"))
    assert list(opened(path)) == [r"é\xff.png"]


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\5\6", b"PK\3\4" + b"x" * 100])
def test_what_is_no_archive_stops_everything_at_once(tmp_path, content):
    path = tmp_path / "cells.zip"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="is no zip archive"):
        open_sources([path])


def test_a_cut_or_damaged_archive_is_refused(tmp_path):
    path = write(tmp_path / "cells.zip", {f"{i}.png": PNG for i in range(9)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(SourceError, match="its end is missing"):
        open_sources([path])
    path.write_bytes(whole[:-22] + whole[-22:-12] + struct.pack("<L", 10**9) + whole[-8:])
    with pytest.raises(SourceError, match="directory would reach beyond its end"):
        open_sources([path])
    path = write(tmp_path / "64.zip", {"1.png": PNG})
    data = path.read_bytes()
    path.write_bytes(data[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 5, 1) + data[-22:])
    with pytest.raises(SourceError, match="64-bit end"):
        open_sources([path])


def test_a_directory_that_breaks_off_ends_in_a_row(tmp_path):
    path = write(tmp_path / "cells.zip", {f"{i}.png": PNG for i in range(9)})
    data = bytearray(path.read_bytes())
    fifth = [found.start() for found in re.finditer(b"PK\1\2", bytes(data))][4]
    data[fifth] = 0
    path.write_bytes(data)
    stream = list(open_sources([path]))
    assert len(stream) == 5
    assert "damaged after 4 of 9 members" in reason(stream[-1])
    assert stream[-1].name == str(path)


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    path = write(tmp_path / "cells.zip", {f"{i}.png": PNG for i in range(4)})
    with pytest.raises(SourceError, match="has 4 members; at most 3 are read"):
        open_sources([path])


def test_more_members_than_16_bits_count_are_read_and_not_held(tmp_path):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(70_000):
            archive.writestr(f"{i}.png", b"")
    tracemalloc.start()
    try:
        assert sum(1 for _ in open_sources([path])) == 70_000
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_an_archive_that_vanishes_or_may_not_be_read_becomes_rows(open_folder, unprivileged):
    path = write(open_folder / "cells.zip", {"1.png": PNG, "2.png": PNG})
    stream = open_sources([path])
    first = next(stream)
    path.chmod(0)
    with unprivileged():
        assert "Permission denied" in reason(first)
        with pytest.raises(SourceError, match="cannot be read: Permission denied"):
            open_sources([path])
        (row,) = open_sources(["-"], listing=io.BytesIO(os.fsencode(path)))
        assert "cannot be read" in reason(row)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="/\\\0.:"), min_size=1, max_size=20),
        st.binary(max_size=300),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_what_zipfile_writes_is_read_back(tmp_path_factory, members, method):
    path = tmp_path_factory.mktemp("zip") / "cells.zip"
    members = {f"{name}.png": PNG[:8] + content for name, content in members.items()}
    write(path, members, method=method)
    archive = open_archive(str(path))
    assert {member.name: archive.read(member) for member in archive} == members


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_archive_never_does_worse_than_a_refusal(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("zip") / "cells.zip", {"1.png": PNG[:60], "2.png": PNG[:90]})
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    with suppress(SourceError):
        for source in open_sources([path]):
            with suppress(PictureError):
                source.read()
