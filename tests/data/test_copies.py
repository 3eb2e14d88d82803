from __future__ import annotations

import cv2
import numpy as np
import pytest

from giemsa.data.cache import open_cache
from giemsa.data.copies import THUMBNAIL_PX, Copies, find_copies
from giemsa.data.index import read_index


@pytest.fixture
def folder(tmp_path, drawing):
    """Forty cells, each different."""
    root = tmp_path / "cells"
    for number, label in enumerate(["Positive", "Negative"]):
        (root / label).mkdir(parents=True)
        for cell in range(20):
            data = drawing.png(100 * number + cell, parasitized=label == "Positive", size=(90, 80))
            (root / label / f"{cell:02d}.png").write_bytes(data)
    return root


def copies_in(folder, **options) -> list[tuple[list[str], bool]]:
    index = read_index(folder)
    thumbnails = open_cache(index, THUMBNAIL_PX)
    return [
        ([index.cells[row].file for row in copies.rows], copies.identical)
        for copies in find_copies(index, thumbnails, **options)
    ]


def cell_of(folder, file: str) -> np.ndarray:
    return cv2.imread(str(folder / file))


def test_different_cells_are_no_copies(folder):
    assert copies_in(folder) == []


def test_identical_files_are_copies_whatever_they_are_called(folder):
    data = (folder / "Positive" / "03.png").read_bytes()
    (folder / "Negative" / "other.png").write_bytes(data)
    (folder / "Positive" / "again.png").write_bytes(data)
    assert copies_in(folder) == [(["Negative/other.png", "Positive/03.png", "Positive/again.png"], True)]
    index = read_index(folder)
    assert [copies.identical for copies in find_copies(index, None)] == [True]


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: cell,
        lambda cell: cv2.resize(cell, (64, 64), interpolation=cv2.INTER_AREA),
        lambda cell: cv2.resize(cell, (224, 224), interpolation=cv2.INTER_CUBIC),
        lambda cell: (cell * 0.9).astype(np.uint8),
        lambda cell: cell[:, ::-1],
        np.rot90,
        lambda cell: np.rot90(cell[::-1], 3),
    ],
    ids=["as JPEG", "smaller", "larger", "darker", "mirrored", "turned", "both"],
)
def test_a_changed_copy_is_found(folder, change):
    copy = np.ascontiguousarray(change(cell_of(folder, "Positive/05.png")))
    assert cv2.imwrite(str(folder / "Negative" / "zz.jpg"), copy, [cv2.IMWRITE_JPEG_QUALITY, 75])
    assert copies_in(folder) == [(["Negative/zz.jpg", "Positive/05.png"], False)]


def test_a_chain_of_copies_is_one_group(folder):
    cell = cell_of(folder, "Positive/05.png")
    for name, quality in (("a", 90), ("b", 60)):
        cv2.imwrite(str(folder / "Positive" / f"x{name}.jpg"), cell, [cv2.IMWRITE_JPEG_QUALITY, quality])
    (folder / "Positive" / "xc.png").write_bytes((folder / "Positive" / "05.png").read_bytes())
    names = ["Positive/05.png", "Positive/xa.jpg", "Positive/xb.jpg", "Positive/xc.png"]
    assert copies_in(folder) == [(names, False)]


def test_pictures_of_one_colour_are_not_taken_for_copies(folder):
    for shade in (10, 200):
        cv2.imwrite(str(folder / "Negative" / f"flat{shade}.png"), np.full((40, 40, 3), shade, np.uint8))
    assert copies_in(folder) == []


def test_copies_far_apart_in_a_long_list_are_found(tmp_path):
    """More pictures than are compared in one block."""
    rng = np.random.default_rng(0)
    for folder in ("Positive", "Negative"):
        (tmp_path / folder).mkdir()
    for number in range(1100):
        cell = rng.integers(0, 256, (THUMBNAIL_PX, THUMBNAIL_PX, 3), np.uint8)
        if number == 0:
            first = cell
        if number == 1099:
            cell = np.ascontiguousarray(np.rot90(first, 2))
        cv2.imwrite(str(tmp_path / ("Positive" if number % 2 else "Negative") / f"{number:04d}.bmp"), cell)
    calls = []
    found = copies_in(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert found == [(["Negative/0000.bmp", "Positive/1099.bmp"], False)]
    assert calls == [(1024, 1100), (1100, 1100)]


def test_copies_say_their_rows(folder):
    (folder / "Negative" / "00.png").write_bytes((folder / "Negative" / "01.png").read_bytes())
    assert find_copies(read_index(folder), None) == [Copies((0, 1), identical=True)]
