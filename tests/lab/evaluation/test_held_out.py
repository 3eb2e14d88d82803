"""Which cells a model may be judged on."""

from __future__ import annotations

import numpy as np
import pytest

from giemsa.data.index import read_index
from giemsa.data.labels import read_label_sets
from giemsa.data.splits import make_split
from giemsa.errors import DataError, UsageError
from giemsa.lab.evaluation.held_out import check_held_out, choose_part
from giemsa.model import open_model


@pytest.fixture
def tree(tmp_path, draw_cell, encode):
    """A tree of six patients with four cells each, and one unreadable picture of the last patient."""
    for patient in range(6):
        for cell in range(4):
            folder = tmp_path / "cells" / ("Parasitized" if cell % 2 else "Uninfected")
            folder.mkdir(parents=True, exist_ok=True)
            name = f"C{patient}P{patient}thin_IMG_{patient}_cell_{cell}.png"
            (folder / name).write_bytes(encode(draw_cell(bool(cell % 2), seed=10 * patient + cell)))
    (tmp_path / "cells" / "Uninfected" / "C5P5thin_IMG_5_cell_9.png").write_bytes(b"")
    return tmp_path / "cells"


@pytest.fixture
def index(tree):
    return read_index(tree)


def patients_of(index, part):
    return {index.cells[row].patient for row in part.rows}


def test_without_a_split_all_cells_are_judged(index):
    part = choose_part(index)
    assert part.rows.tolist() == list(range(24))
    assert part.name == ""
    assert part.unreadable == index.unreadable


def test_of_a_hold_out_the_test_part_is_judged_unless_another_is_named(index):
    split = make_split(index, read_label_sets(index), validation=0.3, test=0.3)
    test, validation = choose_part(index, split), choose_part(index, split, part="validation")
    assert (test.name, validation.name) == ("test", "validation")
    assert np.array_equal(test.rows, split.parts(index)["test"])
    assert not patients_of(index, test) & patients_of(index, validation)


def test_of_a_hold_out_without_a_test_part_the_validation_part_is_judged(index):
    split = make_split(index, read_label_sets(index), validation=0.5)
    assert choose_part(index, split).name == "validation"
    with pytest.raises(UsageError, match="no part 'test'; its parts are train, validation"):
        choose_part(index, split, part="test")


def test_of_folds_the_one_that_is_named_is_judged(index):
    split = make_split(index, read_label_sets(index), folds=3)
    part = choose_part(index, split, fold=1)
    assert part.name == "fold 1"
    assert np.array_equal(part.rows, split.fold(index, 1)[1])
    with pytest.raises(UsageError, match="3 folds; name the one that is held back with --fold"):
        choose_part(index, split)
    with pytest.raises(UsageError, match="--part test was given, but the split has 3 folds"):
        choose_part(index, split, part="test")


def test_an_unreadable_picture_counts_in_the_part_of_its_patient(index):
    split = make_split(index, read_label_sets(index), folds=2)
    parts = [choose_part(index, split, fold=fold) for fold in (0, 1)]
    assert [len(part.unreadable) for part in parts] == [int("C5P5thin" in patients_of(index, part)) for part in parts]
    assert [part.notes for part in parts] == [(), ()]


@pytest.mark.filterwarnings("ignore::giemsa.errors.GiemsaWarning")
def test_an_unreadable_picture_that_belongs_to_no_part_is_said(index):
    split = make_split(index, read_label_sets(index), by="image", folds=2)
    part = choose_part(index, split, fold=0)
    assert part.unreadable == ()
    assert "Of 1 unreadable pictures it is not known which part" in part.notes[0]


def test_folders_that_name_parts_can_be_judged_without_a_split(tmp_path, draw_cell, encode):
    for part in ("train", "test"):
        for label in ("Infected", "Healthy"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            (folder / "1.png").write_bytes(encode(draw_cell(label == "Infected", seed=len(part))))
    index = read_index(tmp_path)
    assert [index.cells[row].part for row in choose_part(index, part="test").rows] == ["test", "test"]
    chosen = choose_part(index)  # nobody means to judge what was trained on
    assert (chosen.name, len(chosen.rows)) == ("test", 2)
    assert "Only the cells in test/ were judged" in chosen.notes[0]
    assert choose_part(index, part="all").rows.tolist() == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="no part 'validation', its folders are test, train"):
        choose_part(index, part="validation")


def test_parts_that_make_no_sense_are_refused(index):
    split = make_split(index, read_label_sets(index))
    with pytest.raises(UsageError, match="--fold 1 needs --split"):
        choose_part(index, fold=1)
    with pytest.raises(UsageError, match="the split is a hold-out"):
        choose_part(index, split, fold=1)
    with pytest.raises(UsageError, match="were both given"):
        choose_part(index, split, part="test", fold=1)
    with pytest.raises(UsageError, match="its folders name no parts"):
        choose_part(index, part="test")


def test_a_part_without_cells_is_refused(index):
    labels = read_label_sets(index)
    split = make_split(index, labels, folds=3)
    held_back = set(choose_part(index, split, fold=0).rows.tolist())
    others = index.take([row for row in range(len(index)) if row not in held_back])
    with pytest.raises(DataError, match="the part fold 0 has no cells"):
        choose_part(others, split, fold=0)


@pytest.fixture
def model(tmp_path, write_model, model_card):
    def make(*patients):
        return open_model(write_model(tmp_path / "model.onnx", card=model_card(32, training_patients=list(patients))))

    return make


def test_patients_that_the_model_was_trained_on_are_refused(index, model):
    trained = model("C1P1thin", "C2P2thin", "C99P99thin")
    with pytest.raises(DataError, match=r"2 of 6 patients \(such as C1P1thin\) .* --allow-training-patients"):
        check_held_out(trained, index.cells)
    (warning,) = check_held_out(trained, index.cells, allow=True)
    assert "better than they will be for new patients" in warning
    others = [cell for cell in index.cells if cell.patient not in {"C1P1thin", "C2P2thin"}]
    assert check_held_out(trained, others) == []


def test_where_training_patients_or_patients_are_not_known_that_is_said(index, model, tmp_path, draw_cell, encode):
    (warning,) = check_held_out(model(), index.cells)
    assert "does not name the patients" in warning

    for label in ("Infected", "Healthy"):
        (tmp_path / "own" / label).mkdir(parents=True)
        (tmp_path / "own" / label / "1.png").write_bytes(encode(draw_cell(label == "Infected")))
    unknown = read_index(tmp_path / "own")
    (warning,) = check_held_out(model("C1P1thin"), unknown.cells)
    assert warning == "Patients are not known: whether the model was trained on them cannot be checked."
    (warning,) = check_held_out(model("C99P99thin"), [*index.cells, *unknown.cells])
    assert warning.startswith("The patients of 2 cells are not known")


def test_pictures_that_the_run_was_trained_on_are_refused_even_without_patients(index, model, tmp_path):
    trained = model()
    table = tmp_path / "training_cells.csv"
    table.write_text(f"file,sha256\nelsewhere/1.png,{index.cells[3].sha256}\n", encoding="utf-8")
    with pytest.raises(DataError, match="1 of 24 pictures"):
        check_held_out(trained, index.cells)
    (warning,) = check_held_out(trained, index.cells, allow=True)
    assert warning.startswith("1 of 24 pictures")
    table.write_text("file\n1.png\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"training_cells\.csv: the list .* cannot be read"):
        check_held_out(trained, index.cells)
