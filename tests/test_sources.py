"""Files, folders, patterns, archives and lists become one ordered stream; what is broken becomes a row."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import pytest

from giemsa import sources
from giemsa.errors import PictureError, SourceError
from giemsa.sources import open_sources, printable, read_file


def names(*paths, **options):
    return [source.name for source in open_sources(paths, **options)]


def reason(source):
    with pytest.raises(PictureError) as caught:
        source.read()
    return str(caught.value)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """b.png, a/1.PNG, a/2.jpeg, a/deep/3.tif, c.webp and things that are no pictures."""
    monkeypatch.chdir(tmp_path)
    for name in ("cells/b.png", "cells/a/1.PNG", "cells/a/2.jpeg", "cells/a/deep/3.tif", "cells/c.webp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    for name in ("notes.txt", "Thumbs.db", ".hidden.png", ".git/x.png", "__MACOSX/y.png"):
        path = tmp_path / "cells" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "cells"


def test_a_folder_is_read_with_its_folders_in_the_order_of_names(tree):
    assert names("cells") == ["cells/a/1.PNG", "cells/a/2.jpeg", "cells/a/deep/3.tif", "cells/b.png", "cells/c.webp"]
    assert next(open_sources(["cells/a"])).read() == b"cells/a/1.PNG"


def test_files_are_taken_whatever_they_are_called_and_in_the_order_given(tree):
    assert names("cells/notes.txt", tree / "b.png", "cells/a/1.PNG", "cells/b.png") == [
        "cells/notes.txt", str(tree / "b.png"), "cells/a/1.PNG", "cells/b.png"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("cells/*.png", ["cells/b.png"]),
        ("cells/?.*", ["cells/b.png", "cells/c.webp"]),
        ("cells/[a-b]/*", ["cells/a/1.PNG", "cells/a/2.jpeg", "cells/a/deep/3.tif"]),
        ("*/a/*.PNG", ["cells/a/1.PNG"]),
        ("cells/**/*.tif", ["cells/a/deep/3.tif"]),
        ("**/deep", ["cells/a/deep/3.tif"]),
        ("cells/**/**/1.PNG", ["cells/a/1.PNG"]),
        ("cells/a/**", ["cells/a/1.PNG", "cells/a/2.jpeg", "cells/a/deep/3.tif", "cells/a/deep/3.tif"]),
        ("cells/.hid*", ["cells/.hidden.png"]),
    ],
)
def test_patterns_are_expanded(tree, pattern, expected):
    assert names(pattern) == expected
    assert names(tree.parent / pattern) == [str(tree.parent / name) for name in expected]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    (tmp_path / "cell[1].png").write_bytes(b"x")
    assert names(tmp_path / "cell[1].png") == [str(tmp_path / "cell[1].png")]


def test_a_pattern_passes_over_what_cannot_be_listed(open_folder, unprivileged):
    (open_folder / "a").mkdir()
    (open_folder / "a" / "1.png").write_bytes(b"x")
    (open_folder / "b").mkdir(mode=0)
    (open_folder / "c.png").write_bytes(b"x")
    notes = []
    with unprivileged():
        assert names(open_folder / "*" / "*.png", note=notes.append) == [str(open_folder / "a" / "1.png")]
    assert any("b cannot be listed" in note for note in notes)


def test_a_list_names_files_folders_and_things_that_are_not_there(tree):
    listing = io.BytesIO(b"cells/b.png\r\n\ncells/a\nmissing.png\ncells/c.webp")
    stream = list(open_sources(["-"], listing=listing))
    assert [s.name for s in stream] == [
        "cells/b.png", "cells/a/1.PNG", "cells/a/2.jpeg", "cells/a/deep/3.tif", "missing.png", "cells/c.webp"
    ]  # fmt: skip
    assert "no such file" in reason(stream[4])


def test_a_list_with_zero_bytes_in_it_becomes_rows():
    (source,) = open_sources(["-"], listing=io.BytesIO(b"a\0b.png\n"))
    assert source.name == r"a\x00b.png"
    assert "cannot be read" in reason(source)


def test_a_list_that_is_no_list_is_refused():
    with pytest.raises(SourceError, match="line of more than 65,536 bytes"):
        list(open_sources(["-"], listing=io.BytesIO(b"x" * 100_000)))


@pytest.mark.parametrize(
    ("path", "said"), [("missing", "missing does not exist"), ("missing/*.png", "matches nothing")]
)
def test_what_does_not_exist_stops_everything_at_once(tree, path, said):
    with pytest.raises(SourceError, match=said):
        open_sources(["cells", path])


def test_no_pictures_at_all_is_said(tmp_path, tree):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"no pictures in .*empty; expected files that end in \.bmp, \.jpe"):
        open_sources([tmp_path / "empty"])
    with pytest.raises(SourceError, match="empty list"):
        open_sources([])
    with pytest.raises(SourceError, match="no pictures in -"):
        open_sources(["-"], listing=io.BytesIO(b"\n"))


def test_an_empty_folder_among_others_is_noted(tree):
    notes = []
    (tree.parent / "empty").mkdir()
    assert len(names("empty", "cells", note=notes.append)) == 5
    assert notes == ["there are no pictures in the folder empty"]


def test_a_broken_link_becomes_a_row(tree):
    (tree / "broken.png").symlink_to("nowhere.png")
    stream = {source.name: source for source in open_sources(["cells"])}
    assert len(stream) == 6
    assert "broken link: it leads to nowhere.png" in reason(stream["cells/broken.png"])
    (direct,) = open_sources(["cells/broken.png"])
    assert "broken link" in reason(direct)


def test_links_that_lead_to_each_other_become_rows(tree):
    (tree / "x.png").symlink_to("y.png")
    (tree / "y.png").symlink_to("x.png")
    (tree / "loop").symlink_to("loop")  # not called like a picture
    stream = {source.name: source for source in open_sources(["cells"])}
    assert len(stream) == 7
    assert "leads back to itself" in reason(stream["cells/x.png"])


def test_a_link_to_a_folder_above_is_not_followed_and_said(tree):
    (tree / "a" / "up").symlink_to("..")
    notes = []
    assert len(names("cells", note=notes.append)) == 5
    assert notes == ["the link cells/a/up was not followed: it leads to a folder that is read already"]


def test_a_link_to_another_folder_is_followed_once(tree, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "z.png").write_bytes(b"z")
    (tree / "l1").symlink_to(tmp_path / "other")
    (tree / "l2").symlink_to(tmp_path / "other")
    notes = []
    assert [n for n in names("cells", note=notes.append) if "l" in n.split("/")[1][:1]] == ["cells/l1/z.png"]
    assert len(notes) == 1


def test_what_may_not_be_read_becomes_a_row(open_folder, unprivileged):
    (open_folder / "a.png").write_bytes(b"a")
    (open_folder / "secret.png").write_bytes(b"s")
    (open_folder / "secret.png").chmod(0)
    (open_folder / "closed").mkdir(mode=0)
    with unprivileged():
        stream = {Path(source.name).name: source for source in open_sources([open_folder])}
        assert list(stream) == ["a.png", "closed", "secret.png"]
        assert stream["a.png"].read() == b"a"
        assert "no permission" in reason(stream["secret.png"])
        assert "cannot be listed: Permission denied" in reason(stream["closed"])
        with pytest.raises(SourceError, match="closed cannot be listed"):
            open_sources([open_folder / "closed"])


def test_a_name_that_is_no_utf8_can_be_read_and_printed(tmp_path):
    Path(tmp_path, os.fsdecode(b"caf\xe9\n.png")).write_bytes(b"x")
    (source,) = open_sources([tmp_path])
    assert source.name.endswith(r"caf\xe9\x0a.png")
    assert source.name.encode()
    assert source.read() == b"x"


def test_printable_names_stay_as_they_are():
    assert printable("Blut/Zellen ä 细胞\u202f1.png") == "Blut/Zellen ä 细胞\u202f1.png"
    assert printable("\x1b[31mred") == r"\x1b[31mred"


def test_pipes_devices_and_folders_are_no_pictures(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (source,) = open_sources([tmp_path])
    assert "no regular file" in reason(source)  # and does not wait for a writer
    with pytest.raises(PictureError, match="no regular file"):
        read_file("/dev/zero")
    with pytest.raises(PictureError, match="no regular file"):
        read_file(str(tmp_path))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(10**10)  # takes no room
    with pytest.raises(PictureError, match=r"10,000,000,000 bytes; at most 134,217,728"):
        read_file(str(path))


def test_a_file_that_grows_while_it_is_read_is_read_whole(tmp_path, monkeypatch):
    path = tmp_path / "growing.png"
    path.write_bytes(b"x" * 5000)
    true_fstat = os.fstat

    def before_it_grew(descriptor):
        status = list(true_fstat(descriptor))
        status[6] = 100
        return os.stat_result(status)

    monkeypatch.setattr(sources.os, "fstat", before_it_grew)
    assert read_file(str(path)) == b"x" * 5000
    monkeypatch.setattr(sources, "MAX_BYTES", 1000)
    with pytest.raises(PictureError, match="more than 1,000 bytes"):
        read_file(str(path))


def test_a_long_folder_is_sorted_in_runs(tmp_path, monkeypatch):
    expected = sorted(f"{i * 7919 % 1000:03d}.png" for i in range(250))
    for name in expected:
        (tmp_path / name).touch()
    for run in (1, 7, 124, 125, 126, 250, 251, 1000):
        monkeypatch.setattr(sources, "_RUN", run)
        assert [Path(name).name for name in names(tmp_path)] == expected


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_RUN", 100)

    def peak(count):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            (folder / f"{i:06d}.png").touch()
        tracemalloc.start()
        try:
            assert sum(1 for _ in open_sources([folder])) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(4000) < 1.5 * peak(400)


def test_listing_is_lazy(tree):
    stream = open_sources(["cells"])
    assert next(stream).name == "cells/a/1.PNG"
    (tree / "d.png").write_bytes(b"")  # the folder `cells` has been listed already, `a/deep` has not
    (tree / "a" / "deep" / "4.tif").write_bytes(b"")
    assert "cells/a/deep/4.tif" in [source.name for source in stream]
