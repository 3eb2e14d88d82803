"""Small drawn cells in the layouts that people have them in. No patient's picture is used."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = {"parasitized": "Parasitized", "uninfected": "Uninfected"}


class Drawing:
    """Draws cells and lays them out as folders and tables."""

    def png(self, number: int, *, parasitized: bool = False, size: tuple[int, int] = (30, 28)) -> bytes:
        """Encode a cell that is like no other: `number` decides its shades."""
        rng = np.random.default_rng((7, number, parasitized))
        width, height = size
        shades = rng.integers(90, 255, (4, 4, 3), dtype=np.uint8)
        cell = cv2.resize(shades, size, interpolation=cv2.INTER_LINEAR)
        outline = np.zeros((height, width), np.uint8)
        cv2.ellipse(outline, (width // 2, height // 2), (width // 2 - 2, height // 2 - 2), 0, 0, 360, 1, -1)
        if parasitized:
            cv2.circle(cell, (width // 2, height // 2), 2, (120, 20, 90), -1)
        cell *= outline[:, :, None]
        done, data = cv2.imencode(".png", cell)
        assert done
        return data.tobytes()

    def official_name(self, patient: str, number: int) -> str:
        return f"{patient}_IMG_20150622_10510{number % 3}_cell_{number}.png"

    def official_tree(self, root: Path, patients: dict[str, tuple[int, int]]) -> Path:
        """Draw so many parasitized and uninfected cells of each patient, in the official layout."""
        number = 0
        for folder in FOLDERS.values():
            (root / folder).mkdir(parents=True, exist_ok=True)
        for patient, counts in patients.items():
            for folder, how_many in zip(FOLDERS.values(), counts, strict=True):
                for _ in range(how_many):
                    number += 1
                    data = self.png(number, parasitized=folder == "Parasitized")
                    (root / folder / self.official_name(patient, number)).write_bytes(data)
        return root

    def folders(self, root: Path, folders: dict[str, int]) -> Path:
        """Draw so many cells into each folder, named after nobody."""
        for number, (folder, how_many) in enumerate(folders.items()):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for cell in range(how_many):
                (root / folder / f"{cell}.png").write_bytes(self.png(1000 * (number + 1) + cell))
        return root

    def table(self, path: Path, rows: list[dict[str, str]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path


@pytest.fixture
def drawing() -> Drawing:
    return Drawing()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep tests out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "giemsa"


@pytest.fixture
def patients() -> dict[str, tuple[int, int]]:
    """Six infected patients and four donors: parasitized and uninfected cells of each."""
    infected = {f"C{39 + number}P{number}thinF": (4 + number % 3, 2 + number % 2) for number in range(6)}
    return {**infected, **{f"C{200 + number}ThinF": (0, 5) for number in range(4)}}


@pytest.fixture
def tree(tmp_path: Path, drawing: Drawing, patients: dict[str, tuple[int, int]]) -> Path:
    return drawing.official_tree(tmp_path / "cell_images", patients)
