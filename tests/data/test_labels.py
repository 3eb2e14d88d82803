from __future__ import annotations

import numpy as np
import pytest

from giemsa.data.index import read_index
from giemsa.data.labels import read_label_sets
from giemsa.errors import DataError


@pytest.fixture
def index(tree):
    return read_index(tree)


def review_rows(index, disputed=()):
    """A review that agrees everywhere but on the rows given."""
    other = {"parasitized": "uninfected", "uninfected": "parasitized"}
    return [
        {
            "file": cell.file.rsplit("/", 1)[-1],
            "official": cell.label,
            "reviewed": other[cell.label] if row in disputed else cell.label,
        }
        for row, cell in enumerate(index)
    ]


def test_official_labels_are_those_of_the_folders(index):
    labels = read_label_sets(index)
    assert labels.official.dtype == np.uint8
    assert labels.official.tolist() == [int(cell.label == "parasitized") for cell in index]
    assert len(labels) == len(index)


def test_without_a_review_nothing_is_confirmed_or_disputed(index):
    labels = read_label_sets(index)
    assert not labels.review_known
    assert (labels.reviewed == -1).all()
    assert not labels.confirmed.any()
    assert not labels.disputed.any()


def test_a_review_confirms_or_disputes_each_label(index, drawing, tmp_path):
    labels = read_label_sets(index, reviewed=drawing.table(tmp_path / "r.csv", review_rows(index, disputed={0, 60})))
    assert labels.review_known
    assert np.flatnonzero(labels.disputed).tolist() == [0, 60]
    assert labels.confirmed.sum() == len(index) - 2
    assert labels.notes == ()


def test_a_review_of_more_and_fewer_cells_is_used_and_said(index, drawing, tmp_path):
    rows = [*review_rows(index)[:-3], {"file": "other.png", "official": "uninfected", "reviewed": "uninfected"}]
    labels = read_label_sets(index, reviewed=drawing.table(tmp_path / "r.csv", rows))
    assert labels.notes == (
        "1 file of r.csv, such as other.png, not among the cells",
        "3 cells not reviewed in r.csv, so neither confirmed nor disputed",
    )


def test_a_review_of_other_labels_is_refused(index, drawing, tmp_path):
    rows = review_rows(index)
    for row in rows[:2]:
        row["official"] = "uninfected"
    with pytest.raises(
        DataError, match=r"the official label of 2 cells differs from that of .*, where .* is parasitized"
    ):
        read_label_sets(index, reviewed=drawing.table(tmp_path / "r.csv", rows))


def test_a_review_of_other_cells_is_refused(index, drawing, tmp_path):
    rows = [{"file": "other.png", "official": "uninfected", "reviewed": "uninfected"}]
    with pytest.raises(DataError, match=r"none of its 1 files such as other\.png is in"):
        read_label_sets(index, reviewed=drawing.table(tmp_path / "r.csv", rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the column file and official and reviewed is missing; .* found nothing"),
        ("file,official\n", "the column reviewed is missing"),
        ("file,official,reviewed\n", "none of its 0 files is in"),
        ("file,official,reviewed\na.png,parasitized,yes\n", "line 2: found 'a.png' with 'parasitized' and 'yes'; exp"),
        ("file,official,reviewed\n,parasitized,parasitized\n", "line 2: found ''"),
        ("file,official,reviewed\na.png\n", "line 2: found 'a.png' with '' and ''"),
        (b"file,official,reviewed\n\xff,parasitized,parasitized\n", "cannot be read"),
    ],
)
def test_a_review_that_makes_no_sense_is_refused(index, tmp_path, content, message):
    (tmp_path / "r.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_label_sets(index, reviewed=tmp_path / "r.csv")


def test_two_readings_that_differ_are_refused(index, drawing, tmp_path):
    rows = [review_rows(index)[0], review_rows(index, disputed={0})[0]]
    with pytest.raises(DataError, match=r"line 3: .* was reviewed before with another result"):
        read_label_sets(index, reviewed=drawing.table(tmp_path / "r.csv", rows))


def test_names_that_fit_several_cells_need_a_folder(tmp_path, drawing):
    index = read_index(drawing.folders(tmp_path / "data", {"Positive": 1, "Negative": 1}))
    row = {"file": "0.png", "official": "uninfected", "reviewed": "parasitized"}
    with pytest.raises(
        DataError, match=r"line 2: 0\.png may be any of 2 cells, such as Negative/0\.png and Positive/0"
    ):
        read_label_sets(index, reviewed=drawing.table(tmp_path / "r.csv", [row]))
    row["file"] = "Negative\\0.png"
    labels = read_label_sets(index, reviewed=drawing.table(tmp_path / "r.csv", [row]))
    assert labels.disputed.tolist() == [True, False]


def test_official_patients_without_a_parasitized_cell_are_donors(index):
    labels = read_label_sets(index)
    assert labels.donors_known
    assert {cell.patient for cell, donor in zip(index, labels.donor, strict=True) if donor} == {
        "C200ThinF", "C201ThinF", "C202ThinF", "C203ThinF",
    }  # fmt: skip


def test_an_infected_patient_whose_parasitized_cells_are_missing_is_no_donor_and_that_is_said(tmp_path, drawing):
    index = read_index(
        drawing.official_tree(tmp_path, {"C39P4thinF": (0, 2), "C40P5thinF": (1, 1), "C7NthinF": (0, 1)})
    )
    labels = read_label_sets(index)
    assert [cell.patient for cell, donor in zip(index, labels.donor, strict=True) if donor] == ["C7NthinF"]
    (note,) = labels.notes
    assert note.startswith("1 patient without a cell labelled parasitized, such as C39P4thinF, not taken for donors")


def test_elsewhere_a_few_cells_without_a_parasite_make_no_donor(tmp_path, drawing):
    drawing.folders(tmp_path, {"x": 2})
    rows = [
        {"file": "x/0.png", "label": "infected", "patient": "anna"},
        {"file": "x/1.png", "label": "healthy", "patient": "ben"},
    ]
    index = read_index(drawing.table(tmp_path / "cells.csv", rows))
    assert not read_label_sets(index).donors_known
    (tmp_path / "donors.txt").write_text("# healthy volunteers\nben\n\nclara\n")
    labels = read_label_sets(index, donors=tmp_path / "donors.txt")
    assert labels.donor.tolist() == [False, True]
    assert labels.notes == ("1 donor of donors.txt, such as clara, not among the patients",)


def test_a_named_donor_with_parasitized_cells_is_said(index, tmp_path):
    (tmp_path / "donors.txt").write_text("C39P0thinF\n")
    labels = read_label_sets(index, donors=tmp_path / "donors.txt")
    assert labels.donor.sum() == 6
    assert labels.notes[0].startswith("4 cells of donors named in donors.txt are officially parasitized: no donor has")


@pytest.mark.parametrize("content", [b"nobody\n", b"", b"\xff\xfe\xfd"])
def test_a_list_of_donors_that_names_no_patient_is_refused(index, tmp_path, content):
    (tmp_path / "donors.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"donors\.txt: (none of its \d names? is a patient|the list of donors cannot)"):
        read_label_sets(index, donors=tmp_path / "donors.txt")


def test_a_part_of_the_labels_stays_aligned(index, drawing, tmp_path):
    labels = read_label_sets(index, reviewed=drawing.table(tmp_path / "r.csv", review_rows(index, disputed={4})))
    part = labels.take([4, 50, 64])
    assert part.disputed.tolist() == [True, False, False]
    assert part.donor.tolist() == labels.donor[[4, 50, 64]].tolist()
    assert part.official.tolist() == labels.official[[4, 50, 64]].tolist()
