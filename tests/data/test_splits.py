from __future__ import annotations

import json
import random
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from giemsa.data.index import CellIndex, LabelledCell, read_index
from giemsa.data.labels import LabelSets, read_label_sets
from giemsa.data.splits import Split, make_split, patients_on_several_sides, read_split
from giemsa.errors import DataError, GiemsaWarning, OutputError, UsageError


@pytest.fixture
def index(tree):
    return read_index(tree)


@pytest.fixture
def labels(index):
    return read_label_sets(index)


def make_up(counts: list[tuple[int, int]]) -> tuple[CellIndex, LabelSets]:
    """Make up an index of patients with so many parasitized and uninfected cells; those without any are donors."""
    cells, donor = [], []
    for patient, (parasitized, uninfected) in enumerate(counts):
        for label, number in (("parasitized", parasitized), ("uninfected", uninfected)):
            for _ in range(number):
                sha256 = f"{len(cells):064x}"[::-1]
                cells.append(LabelledCell(f"{len(cells)}.png", label, f"p{patient}", None, 9, 9, sha256))
                donor.append(parasitized == 0)
    official = np.array([cell.label == "parasitized" for cell in cells], np.uint8)
    index = CellIndex(Path("made-up"), tuple(cells), "CSV table")
    return index, LabelSets(official, np.full(len(cells), -1, np.int8), np.array(donor, np.bool_))


def test_no_patient_is_on_both_sides(index, labels):
    split = make_split(index, labels, validation=0.3)
    parts = split.parts(index)
    assert list(parts) == ["train", "validation"]
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(index)))
    assert patients_on_several_sides(index, parts) == 0
    assert {part.dtype for part in parts.values()} == {np.dtype(np.intp)}


def test_a_hold_out_may_have_a_test_part(index, labels):
    parts = make_split(index, labels, validation=0.2, test=0.2).parts(index)
    assert list(parts) == ["train", "validation", "test"]
    assert len(parts["train"]) > len(parts["test"]) > 0


def test_folds_are_disjoint_and_each_cell_is_validated_once(index, labels):
    split = make_split(index, labels, folds=4)
    assert split.n_folds == 4
    seen = []
    for number in range(4):
        train, validation = split.fold(index, number)
        assert not set(train) & set(validation)
        assert len(train) + len(validation) == len(index)
        seen.extend(validation.tolist())
    assert sorted(seen) == list(range(len(index)))


def test_donors_are_spread_over_the_folds(index, labels):
    for rows in make_split(index, labels, folds=4).parts(index).values():
        assert len({index.cells[row].patient for row in rows if labels.donor[row]}) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=6, max_size=40),
    st.integers(2, 6),
    st.integers(0, 10**6),
)
def test_every_deal_keeps_patients_together_and_fills_every_fold(counts, folds, seed):
    index, labels = make_up(counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GiemsaWarning)
        split = make_split(index, labels, folds=folds, seed=seed)
    parts = split.parts(index)
    assert patients_on_several_sides(index, parts) == 0
    assert all(len(rows) for rows in parts.values())
    assert sum(len(rows) for rows in parts.values()) == len(index)


def test_folds_are_at_least_as_even_as_those_of_scikit_learn():
    rng = np.random.default_rng(5)
    counts = [(int(rng.integers(1, 400)), int(rng.integers(60, 80))) for _ in range(45)] + [(0, 70)] * 15
    index, labels = make_up(counts)
    groups = [cell.patient for cell in index]
    theirs = [
        rows for _, rows in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(groups, labels.official, groups)
    ]
    ours = list(make_split(index, labels, folds=5).parts(index).values())

    def unevenness(folds, values):
        return np.ptp([values[rows].mean() for rows in folds]) + np.ptp([len(rows) for rows in folds]) / len(index)

    assert unevenness(ours, labels.official) <= unevenness(theirs, labels.official)
    assert unevenness(ours, labels.donor) <= unevenness(theirs, labels.donor)
    assert unevenness(ours, labels.official) < 0.01


def test_the_same_seed_gives_the_same_split_in_any_order(index, labels):
    order = list(range(len(index)))
    random.Random(3).shuffle(order)
    shuffled = CellIndex(index.root, tuple(index.cells[row] for row in order), index.layout)
    one = make_split(index, labels, folds=3, seed=7)
    assert one == make_split(shuffled, labels.take(order), folds=3, seed=7)
    assert one.digest != make_split(index, labels, folds=3, seed=8).digest


def test_a_split_survives_its_file(index, labels, tmp_path):
    for kind in ({"folds": 3}, {"test": 0.2}):
        split = make_split(index, labels, **kind)
        path = split.save(tmp_path / "split.json", force=True)
        again = read_split(path)
        assert again == split
        assert again.digest == split.digest
        assert path.stat().st_size < 5_000
    with pytest.raises(OutputError, match="exists already"):
        split.save(path)


def test_the_random_split_of_the_notebooks_says_how_many_patients_leak(index, labels):
    with pytest.warns(
        GiemsaWarning, match=r"split by image: \d+ of 10 patients have cells on several sides; .* 2 to 3"
    ):
        split = make_split(index, labels, by="image", seed=1)
    parts = split.parts(index)
    assert len(parts["validation"]) == 13
    assert labels.official[parts["validation"]].sum() == 6


def test_the_random_split_keeps_identical_pictures_together(tmp_path, drawing):
    drawing.folders(tmp_path, {"Positive": 10, "Negative": 10})
    for number in range(10):
        (tmp_path / "Negative" / f"copy-{number}.png").write_bytes(
            (tmp_path / "Positive" / f"{number}.png").read_bytes()
        )
    index = read_index(tmp_path)
    with pytest.warns(GiemsaWarning, match="patients are not known: cells of one patient may stand on several sides"):
        split = make_split(index, read_label_sets(index), by="image", folds=4)
    part_of = {}
    for name, rows in split.parts(index).items():
        for row in rows:
            assert part_of.setdefault(index.cells[row].sha256, name) == name


def test_folders_can_be_taken_over(tmp_path, drawing):
    for part, number in (("train", 3), ("valid", 1), ("test", 2)):
        drawing.folders(tmp_path / part, {"Positive": number, "Negative": number})
    copy = tmp_path / "test" / "Positive" / "copy.png"
    copy.write_bytes((tmp_path / "train" / "Positive" / "0.png").read_bytes())
    index = read_index(tmp_path)
    with pytest.warns(GiemsaWarning, match="patients are not known"):
        split = make_split(index, read_label_sets(index), by="folder")
    assert {name: len(rows) for name, rows in split.parts(index).items()} == {"train": 6, "validation": 2, "test": 5}
    split.save(tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split


def test_folders_that_keep_patients_apart_give_no_warning(tmp_path, drawing):
    drawing.official_tree(tmp_path / "train", {"C1P1thinF": (2, 2)})
    drawing.official_tree(tmp_path / "valid", {"C2P2thinF": (2, 2)})
    index = read_index(tmp_path)
    assert make_split(index, read_label_sets(index), by="folder").names == ("train", "validation")


def test_folders_that_are_no_parts_are_refused(index, labels):
    with pytest.raises(DataError, match=r"65 cells such as Parasitized/.* in no folder called train, valid or"):
        make_split(index, labels, by="folder")


def test_unknown_patients_cannot_be_kept_together(tmp_path, drawing):
    index = read_index(drawing.folders(tmp_path, {"Positive": 3, "Negative": 3}))
    with pytest.raises(DataError, match=r"the patient of 6 of 6 cells is not known.* or split --by image"):
        make_split(index, read_label_sets(index))


def test_fewer_patients_than_parts_are_refused(index, labels):
    with pytest.raises(DataError, match="10 patients cannot fill 11 parts"):
        make_split(index, labels, folds=11)


def test_fewer_pictures_than_parts_are_refused(tmp_path, drawing):
    index = read_index(drawing.folders(tmp_path, {"Positive": 1, "Negative": 1}))
    with pytest.raises(DataError, match="2 different pictures cannot fill 3 parts"):
        make_split(index, read_label_sets(index), by="image", folds=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 1}, "1 folds make no split; expected 2 or more"),
        ({"validation": 0.0}, "shares of 0.0 for validation"),
        ({"validation": 0.6, "test": 0.4}, "whose sum is below 1"),
        ({"validation": 0.2, "test": -0.1}, "leave nothing to divide"),
        ({"by": "folder", "folds": 3}, "folders give no folds, but 3 were asked for"),
        ({"by": "cell"}, "a split by 'cell' is not known; expected patient, field, laboratory, image or folder"),
    ],
)
def test_impossible_wishes_are_refused(index, labels, arguments, message):
    with pytest.raises(UsageError, match=message):
        make_split(index, labels, **arguments)


def test_a_part_without_a_class_is_said():
    index, labels = make_up([(5, 5), (5, 5), (0, 5)])
    with pytest.warns(
        GiemsaWarning, match="fold . has 5 cells and not one parasitized one; take fewer or larger parts"
    ):
        make_split(index, labels, folds=3)


def test_a_fold_that_does_not_exist_is_refused(index, labels):
    with pytest.raises(UsageError, match="fold 3 does not exist; the split has folds 0 to 2"):
        make_split(index, labels, folds=3).fold(index, 3)
    with pytest.raises(UsageError, match="fold 0 was asked for, but the split is a hold-out"):
        make_split(index, labels).fold(index, 0)


def test_a_part_of_the_data_can_use_the_split_of_the_whole(index, labels):
    split = make_split(index, labels, folds=3)
    some = index.take([0, 1, 40])
    assert sum(len(rows) for rows in split.parts(some).values()) == 3


def test_more_cells_of_the_same_patients_are_used_with_a_warning(index, labels, tree, drawing):
    split = make_split(index, labels, folds=3)
    (tree / "Uninfected" / drawing.official_name("C200ThinF", 999)).write_bytes(drawing.png(999))
    more = read_index(tree)
    with pytest.warns(GiemsaWarning, match="the split was made for other data .* but its patients are the same ones"):
        parts = split.parts(more)
    assert sum(len(rows) for rows in parts.values()) == len(index) + 1


def test_patients_without_a_part_are_refused(index, labels, tree, drawing):
    split = make_split(index, labels, folds=3)
    (tree / "Uninfected" / drawing.official_name("C999ThinF", 1)).write_bytes(drawing.png(999))
    with pytest.raises(DataError, match="1 patient, such as C999ThinF, not in the split; use the data"):
        split.parts(read_index(tree))


def test_a_split_of_patients_who_are_not_there_is_refused(index, labels, tree):
    split = make_split(index, labels, folds=3)
    for path in (tree / "Uninfected").glob("C200ThinF*"):
        path.unlink()
    with pytest.raises(DataError, match="1 patient of the split, such as C200ThinF, not in the data"):
        split.parts(read_index(tree))


def test_a_split_by_patient_needs_data_that_tell_patients(index, labels, tmp_path, drawing):
    split = make_split(index, labels)
    other = read_index(drawing.folders(tmp_path / "other", {"Positive": 3, "Negative": 3}))
    with pytest.raises(DataError, match=r"the split is by patient, but these data do not tell patients \(6 cells"):
        split.parts(other)


def test_a_patient_in_two_parts_is_refused(index, labels, tmp_path):
    content = written(make_split(index, labels), tmp_path)
    patient = content["parts"]["train"][0]
    content["parts"]["validation"].append(patient)
    with pytest.raises(DataError, match=f"the patient {patient} stands in train and in validation"):
        read_split(rewritten(content, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "this is no split; expected a file made by"),
        ({"version": 2}, "the split has format version 2, this program reads version 1"),
        ({"by": "cell"}, "the split is damaged"),
        ({"folds": True}, "the split is damaged"),
        ({"seed": "0"}, "the split is damaged"),
        ({"data_digest": None}, "the split is damaged"),
        ({"parts": {"train": ["a"], "validation": []}}, "the split is damaged"),
        ({"parts": {"train": ["a"], "validation": [1]}}, "the split is damaged"),
        ({"parts": {"train": ["a"]}}, "the split has the parts train; expected train and validation"),
        ({"parts": {"a": ["a"], "b": ["b"]}}, "the split has the parts a, b; expected"),
        ({"parts": {"validation": ["a"], "test": ["b"]}}, "the split has the parts validation, test; expected"),
        ({"folds": 3}, "the split has the parts train, validation; expected"),
    ],
)
def test_a_file_that_is_no_split_of_ours_is_refused(index, labels, tmp_path, change, message):
    content = {**written(make_split(index, labels), tmp_path), **change}
    with pytest.raises(DataError, match=message):
        read_split(rewritten(content, tmp_path))


@pytest.mark.parametrize("content", [b"", b"[]", b"not json", b"\xff"])
def test_a_file_that_is_something_else_is_refused(tmp_path, content):
    (tmp_path / "split.json").write_bytes(content)
    with pytest.raises(DataError, match=r"split\.json: (this is no split|the split cannot be read)"):
        read_split(tmp_path / "split.json")


def test_a_split_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"the split cannot be read \(No such file or directory\); make one with"):
        read_split(tmp_path / "split.json")


def test_patients_on_several_sides_are_counted():
    index, _ = make_up([(2, 2), (1, 1)])
    rows = {"train": np.array([0, 4]), "validation": np.array([1, 2])}
    assert patients_on_several_sides(index, rows) == 1
    assert Counter(cell.patient for cell in index) == {"p0": 4, "p1": 2}


def written(split: Split, folder: Path) -> dict:
    return json.loads(split.save(folder / "split.json", force=True).read_text())


def rewritten(content: dict, folder: Path) -> Path:
    path = folder / "split.json"
    path.write_text(json.dumps(content))
    return path


def make_up_fields(laboratories=("A", "B", "C"), fields=4, known=True):
    """Make up cells of fields of laboratories, whose patients nobody knows."""
    cells = []
    for laboratory in laboratories:
        for field in range(fields):
            for number in range(6):
                label = "parasitized" if number < 2 else "uninfected"
                sha256 = f"{len(cells):064x}"[::-1]
                cells.append(
                    LabelledCell(
                        f"{len(cells)}.png", label, None, f"{laboratory}{field}.jpg", 9, 9, sha256,
                        laboratory=laboratory if known else None,
                    )
                )  # fmt: skip
    index = CellIndex(Path("made-up"), tuple(cells), "CSV table")
    official = np.array([cell.label == "parasitized" for cell in cells], np.uint8)
    return index, LabelSets(official, np.full(len(cells), -1, np.int8), np.zeros(len(cells), np.bool_))


def test_a_split_by_field_keeps_each_field_together(tmp_path):
    index, labels = make_up_fields()
    split = read_split(make_split(index, labels, by="field", folds=4, seed=1).save(tmp_path / "folds.json"))
    assert split.by == "field"
    sides = {name: {index.cells[row].photograph for row in rows} for name, rows in split.parts(index).items()}
    assert sorted(field for fields in sides.values() for field in fields) == sorted({c.photograph for c in index})


def test_as_many_folds_as_laboratories_leave_each_out_whole():
    index, labels = make_up_fields()
    split = make_split(index, labels, by="laboratory", folds=3)
    assert split.members == (("0", ("A",)), ("1", ("B",)), ("2", ("C",)))
    train, held_back = split.fold(index, 1)
    assert {index.cells[row].laboratory for row in held_back} == {"B"}
    assert {index.cells[row].laboratory for row in train} == {"A", "C"}


@pytest.mark.parametrize(
    ("by", "message"),
    [("patient", "the patient of 72 of 72 cells is not known"), ("laboratory", "so laboratories cannot be kept")],
)
def test_what_is_not_known_cannot_be_kept_together(by, message):
    with pytest.raises(DataError, match=message):
        make_split(*make_up_fields(known=False), by=by, folds=3)
    with pytest.raises(DataError, match="2 laboratories cannot fill 3 parts"):
        make_split(*make_up_fields(laboratories=("A", "B")), by="laboratory", folds=3)


def test_a_split_by_laboratory_does_not_fit_data_that_do_not_tell_them():
    split = make_split(*make_up_fields(), by="laboratory", folds=3)
    with pytest.raises(DataError, match="these data do not tell laboratories"):
        split.parts(make_up_fields(known=False)[0])


def test_the_group_of_a_cell_is_its_patient_else_its_field_else_itself(index):
    assert (index.group_kind, index.groups()[0]) == ("patients", index.cells[0].patient)
    fields = make_up_fields()[0]
    assert (fields.group_kind, fields.groups()[0]) == ("fields", "field A0.jpg")
    assert fields.patients == ()
    alone = CellIndex(Path("x"), (LabelledCell("a.png", "uninfected", None, None, 9, 9, "0" * 64),), "CSV table")
    assert (alone.group_kind, alone.groups()) == ("cells", ["cell a.png"])
