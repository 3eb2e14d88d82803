"""Drawn fields: read from examples/, where the code that draws them lies beside them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

FIELDS = Path(__file__).parents[2] / "examples" / "fields"


@pytest.fixture(scope="session")
def fields_folder():
    return FIELDS


@pytest.fixture(scope="session")
def annotations():
    return json.loads((FIELDS / "annotations.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def drawn_field():
    """One drawn field, uint8 [960, 1280, 3] RGB; not to be changed."""
    rgb = np.ascontiguousarray(cv2.imread(str(FIELDS / "drawn_field_01.jpg"))[..., ::-1])
    rgb.setflags(write=False)
    return rgb


@pytest.fixture(scope="session")
def drawn_objects(annotations):
    """What was drawn in it: (category, x0, y0, x1, y1)."""
    (field,) = [f for f in annotations if f["image"] == "drawn_field_01.jpg"]
    return [(o["category"], o["x0"], o["y0"], o["x1"], o["y1"]) for o in field["objects"]]


@pytest.fixture(scope="session")
def whole_cells(drawn_objects):
    """Boxes of the red cells that the border does not cut, float [N, 4]."""
    boxes = [o[1:] for o in drawn_objects if o[0] != "white blood cell"]
    return np.array([b for b in boxes if b[0] > 2 and b[1] > 2 and b[2] < 1278 and b[3] < 958], float)
