from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
from PIL import Image

from giemsa.data.describe import Counts, Sizes, describe, draw_classes
from giemsa.data.index import read_index
from giemsa.data.labels import read_label_sets
from giemsa.data.splits import make_split
from giemsa.errors import MissingExtraError, OutputError


@pytest.fixture
def index(tree):
    return read_index(tree)


@pytest.fixture
def labels(index, drawing, tmp_path):
    rows = [{"file": cell.file, "official": cell.label, "reviewed": cell.label} for cell in index]
    rows[0]["reviewed"] = rows[64]["reviewed"] = "uninfected"
    rows[63]["reviewed"] = "parasitized"
    return read_label_sets(index, reviewed=drawing.table(tmp_path / "reviewed.csv", rows))


def test_cells_are_counted_by_class_patient_and_label_set(index, labels):
    found = describe(index, labels)
    assert found.whole == Counts("all", 65, 30, 35, disputed=2, donor_cells=20, patients=10, donors=4)
    assert [one.name for one in found.per_patient] == list(index.patients)
    assert found.per_patient[0] == Counts("C200ThinF", 5, 0, 5, disputed=0, donor_cells=5, patients=1, donors=1)
    assert sum(one.cells for one in found.per_patient) == 65
    assert found.width_px == Sizes(30, 30.0, 30)
    assert found.height_px == Sizes(28, 28.0, 28)
    assert (found.parts_of, found.per_part, found.patients_on_several_sides) == ("", (), 0)
    assert found.copies == ()
    assert found.digest == index.digest


def test_the_parts_of_a_split_are_counted(index, labels):
    split = make_split(index, labels, folds=2)
    found = describe(index, labels, split=split, near_identical=False)
    assert found.parts_of == "folds by patient"
    assert [part.name for part in found.per_part] == ["0", "1"]
    assert [part.donors for part in found.per_part] == [2, 2]
    assert sum(part.parasitized for part in found.per_part) == 30
    assert not found.near_identical_sought


def test_leaks_between_folders_are_found(tmp_path, drawing):
    drawing.official_tree(tmp_path / "train", {"C1P1thinF": (3, 3)})
    drawing.official_tree(tmp_path / "test", {"C2P2thinF": (3, 3)})
    first = sorted((tmp_path / "train" / "Parasitized").iterdir())[0]
    (tmp_path / "test" / "Uninfected" / first.name).write_bytes(first.read_bytes())
    for path in (tmp_path / "test" / "Parasitized").iterdir():
        path.write_bytes(drawing.png(500 + len(path.name), size=(31, 29)) + path.name.encode())
    index = read_index(tmp_path)
    found = describe(index, read_label_sets(index), near_identical=False)
    assert found.parts_of == "folders"
    assert found.patients_on_several_sides == 1
    leak = next(group for group in found.copies if group.across_labels)
    assert leak.across_parts
    assert not leak.across_patients
    assert leak.parts == ("test", "train")
    text = " ".join(found.notes)
    assert "1 patient in more than one part (folders): figures will be too good" in text
    assert "in more than one part: figures will be too good" in text
    assert "1 picture under both labels: one of them is wrong" in text


def test_the_same_picture_with_two_patients_is_found(tmp_path, drawing):
    drawing.folders(tmp_path, {"x": 1})
    (tmp_path / "x" / "copy.png").write_bytes((tmp_path / "x" / "0.png").read_bytes())
    rows = [
        {"file": "x/0.png", "label": "infected", "patient": "anna"},
        {"file": "x/copy.png", "label": "infected", "patient": "ben"},
    ]
    index = read_index(drawing.table(tmp_path / "cells.csv", rows))
    found = describe(index, read_label_sets(index))
    assert found.copies[0].across_patients
    assert "1 picture with more than one patient: one of them is wrong" in found.notes


def test_unreadable_pictures_are_listed(tree, index):
    (tree / "Uninfected" / "bad.png").write_bytes(b"bad")
    again = read_index(tree)
    (bad,) = describe(again, read_label_sets(again), near_identical=False).unreadable
    assert bad["file"] == "Uninfected/bad.png"
    assert bad["reason"]


def test_everything_is_json(index, labels):
    split = make_split(index, labels, folds=2)
    content = json.loads(json.dumps(describe(index, labels, split=split).to_json()))
    assert content["whole"]["parasitized"] == 30
    assert content["width_px"] == {"smallest": 30, "median": 30.0, "largest": 30}
    assert len(content["per_patient"]) == 10


def test_progress_is_told_by_stage(index, labels):
    calls = []
    describe(index, labels, progress=lambda *numbers: calls.append(numbers))
    assert calls[-1] == ("compare", 65, 65)
    assert ("decode", 65, 65) in calls


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_class_distribution_is_drawn(index, labels, tmp_path, suffix):
    split = make_split(index, labels, folds=2)
    path = tmp_path / f"classes{suffix}"
    draw_classes(describe(index, labels, split=split, near_identical=False), path)
    assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")


def test_the_drawing_shows_each_class_in_its_colour(index, labels, tmp_path):
    draw_classes(describe(index, labels, near_identical=False), tmp_path / "classes.png")
    pixels = np.asarray(Image.open(tmp_path / "classes.png").convert("RGB")).reshape(-1, 3)
    areas = [
        int((pixels == colour).all(axis=1).sum()) for colour in ((0xD5, 0x5E, 0), (0, 0x72, 0xB2), (0x56, 0xB4, 0xE9))
    ]
    parasitized, uninfected, donors = areas
    assert parasitized > donors > uninfected > 1000  # 30, 20 and 15 cells


def test_data_without_patients_are_drawn_too(tmp_path, drawing):
    index = read_index(drawing.folders(tmp_path, {"Positive": 2, "Negative": 3}))
    draw_classes(describe(index, read_label_sets(index), near_identical=False), tmp_path / "classes.png")
    assert Image.open(tmp_path / "classes.png").size[0] == 1500


def test_many_patients_are_drawn_without_their_names(tmp_path, drawing):
    tree = drawing.official_tree(tmp_path / "data", {f"C{number}P{number}thinF": (1, 1) for number in range(1, 35)})
    index = read_index(tree)
    draw_classes(describe(index, read_label_sets(index), near_identical=False), tmp_path / "classes.png")
    assert Image.open(tmp_path / "classes.png").size[0] == 1500


def test_a_drawing_needs_its_folder(index, labels, tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        draw_classes(describe(index, labels, near_identical=False), tmp_path / "nowhere" / "classes.png")


def test_without_matplotlib_the_command_that_installs_it_is_named(index, labels, tmp_path, monkeypatch):
    imported = builtins.__import__

    def without_matplotlib(name, *arguments, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *arguments, **options)

    description = describe(index, labels, near_identical=False)
    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(MissingExtraError, match=r"pip install 'giemsa\[lab\]'"):
        draw_classes(description, tmp_path / "classes.png")
