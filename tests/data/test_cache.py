from __future__ import annotations

import builtins
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from giemsa.data.cache import open_cache
from giemsa.data.index import read_index
from giemsa.errors import DataError, GiemsaWarning, MissingExtraError, OutputError, UsageError
from giemsa.images import decode, resize

# Builds a cache, stopping for good after the first cells.
SLOW_BUILDER = """
import sys, time
from giemsa.data import cache
from giemsa.data.index import read_index

def stop(done, total):
    print("building", flush=True)
    time.sleep(600)

cache._BATCH = 4
cache.open_cache(read_index(sys.argv[1]), 16, directory=sys.argv[2], progress=stop)
"""
BUILDER = """
import sys
from giemsa.data.cache import open_cache
from giemsa.data.index import read_index

built = []
cells = open_cache(read_index(sys.argv[1]), 16, directory=sys.argv[2], progress=lambda *numbers: built.append(1))
print(len(built) > 0, int(cells.sum()))
"""


@pytest.fixture
def index(tree):
    return read_index(tree)


def caches(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix not in (".lock", ".sha256"))


def test_the_cache_holds_what_decoding_gives(index, tmp_path):
    cells = open_cache(index, 24, directory=tmp_path / "caches")
    assert isinstance(cells, np.memmap)
    assert cells.shape == (len(index), 24, 24, 3)
    assert cells.dtype == np.uint8
    for row, path in enumerate(index.paths()):
        assert np.array_equal(cells[row], resize(decode(path.read_bytes()), 24))


def test_the_cache_cannot_be_written_to(index, tmp_path):
    cells = open_cache(index, 16, directory=tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        cells[0] = 0


def test_pictures_are_decoded_once(index, tmp_path):
    calls = []
    open_cache(index, 16, directory=tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(index), len(index))
    calls.clear()
    open_cache(index, 16, directory=tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == []


def test_each_size_and_each_content_has_its_own_cache(index, tree, drawing, tmp_path):
    folder = tmp_path / "caches"
    open_cache(index, 16, directory=folder)
    open_cache(index, 24, directory=folder)
    assert len(caches(folder)) == 2
    (tree / index.cells[0].file).write_bytes(drawing.png(4242))
    changed = read_index(tree)
    cells = open_cache(changed, 16, directory=folder)
    assert len(caches(folder)) == 3
    assert np.array_equal(cells[0], resize(decode(drawing.png(4242)), 16))


def test_caches_lie_in_the_users_cache_by_default(index, own_cache):
    open_cache(index, 16)
    assert len(caches(own_cache / "pixels")) == 1


def test_a_builder_killed_half_way_leaves_nothing_that_counts(index, tree, tmp_path):
    folder = tmp_path / "caches"
    builder = subprocess.Popen(
        [sys.executable, "-c", SLOW_BUILDER, str(tree), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == "building\n"
    (left_behind,) = caches(folder)
    assert left_behind.endswith(".part")
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    builder.stdout.close()
    assert caches(folder) == [left_behind]
    cells = open_cache(index, 16, directory=folder)
    assert np.array_equal(cells[-1], resize(decode(index.paths()[-1].read_bytes()), 16))
    (complete,) = caches(folder)
    assert complete.endswith("-16px.npy")


def test_of_two_processes_one_builds_and_the_other_waits(index, tree, tmp_path):
    folder = tmp_path / "caches"
    command = [sys.executable, "-c", BUILDER, str(tree), str(folder)]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [builder.communicate()[0].split() for builder in builders]
    assert sorted(built for built, _ in said) == ["False", "False", "True"]
    assert {total for _, total in said} == {str(int(open_cache(index, 16, directory=folder).sum()))}


@pytest.mark.parametrize("damage", ["short", "other shape", "other type", "no array"])
def test_a_damaged_cache_is_built_again(index, tmp_path, damage):
    expected = open_cache(index, 16, directory=tmp_path / "caches").copy()
    (name,) = caches(tmp_path / "caches")
    path = tmp_path / "caches" / name
    if damage == "short":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "other shape":
        np.save(path, expected[:3])
    elif damage == "other type":
        np.save(path, expected.astype(np.int8))
    else:
        path.write_bytes(b"")
    assert np.array_equal(open_cache(index, 16, directory=tmp_path / "caches"), expected)


def test_a_cache_with_a_flipped_bit_is_made_anew_and_that_is_said(index, tmp_path):
    before = np.array(open_cache(index, 16, directory=tmp_path))
    (path,) = tmp_path.glob("*.npy")
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 4
    path.write_bytes(damaged)
    with pytest.warns(GiemsaWarning, match="was damaged and is made anew"):
        cells = open_cache(index, 16, directory=tmp_path)
    np.testing.assert_array_equal(cells, before)
    np.testing.assert_array_equal(open_cache(index, 16, directory=tmp_path), before)


def test_a_picture_that_changed_since_is_refused(index, drawing, tmp_path):
    index.paths()[5].write_bytes(drawing.png(4242))
    with pytest.raises(DataError, match="the picture has changed since the data were read; run again"):
        open_cache(index, 16, directory=tmp_path / "caches")
    assert caches(tmp_path / "caches") == []


def test_a_picture_that_is_gone_is_refused(index, tmp_path):
    index.paths()[5].unlink()
    with pytest.raises(DataError, match=r"cannot be read any more \(No such file or directory\)"):
        open_cache(index, 16, directory=tmp_path / "caches")


def test_a_picture_whose_pixels_cannot_be_unpacked_is_refused_by_name(tmp_path, drawing):
    """Its header and checksums are sound, so the index takes it; only decoding shows it."""
    tree = drawing.folders(tmp_path / "data", {"Positive": 1, "Negative": 1})
    (tree / "Negative" / "odd.png").write_bytes(_sound_png_without_pixels())
    with pytest.raises(DataError, match=r"odd\.png: the picture cannot be decoded .*; remove it from the data"):
        open_cache(read_index(tree), 16, directory=tmp_path / "caches")


def test_a_cache_that_cannot_be_written_is_said(index, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"the cache of decoded cells cannot be written .* XDG_CACHE_HOME"):
        open_cache(index, 16, directory=tmp_path / "file" / "caches")


def test_a_cache_larger_than_the_free_space_is_not_begun(index, tmp_path):
    with pytest.raises(OutputError, match=r"it takes [\d,]+ bytes and [\d,]+ are free"):
        open_cache(index, 4_000_000, directory=tmp_path / "caches")
    assert caches(tmp_path / "caches") == []


def test_a_size_that_is_none_is_refused(index):
    with pytest.raises(UsageError, match="cells cannot be resized to 0 px"):
        open_cache(index, 0)


def test_a_missing_library_names_the_command_that_installs_it(index, tmp_path, monkeypatch):
    imported = builtins.__import__

    def without_filelock(name, *arguments, **options):
        if name == "filelock":
            raise ImportError(name)
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_filelock)
    with pytest.raises(MissingExtraError, match=r"pip install 'giemsa\[lab\]'"):
        open_cache(index, 16, directory=tmp_path)


def _sound_png_without_pixels() -> bytes:
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (20).to_bytes(4, "big") + (20).to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"\x00" * 40) + chunk(b"IEND", b"")
