from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from giemsa.data.headers import probe
from giemsa.data.index import CellIndex, LabelledCell, read_index
from giemsa.errors import DataError, PictureError, SourceError
from giemsa.images import decode


def test_the_official_tree_tells_label_patient_photograph_and_size(tree, patients):
    index = read_index(tree)
    assert index.layout == "official tree"
    assert len(index) == sum(sum(counts) for counts in patients.values())
    assert index.patients == tuple(sorted(patients))
    assert index.patients_known
    assert index.notes == ()
    first = index.cells[0]
    assert first.file.startswith("Parasitized/C39P0thinF_IMG_20150622_")
    assert (first.label, first.patient, first.width, first.height) == ("parasitized", "C39P0thinF", 30, 28)
    assert first.photograph is not None
    assert first.photograph.startswith("IMG_20150622_10510")
    assert first.sha256 == hashlib.sha256((tree / first.file).read_bytes()).hexdigest()
    assert [path.is_file() for path in index.paths()] == [True] * len(index)
    assert [cell.file for cell in index] == sorted(cell.file for cell in index)
    assert index.summary == "65 cells, 30 parasitized and 35 uninfected, of 10 patients"


def test_thumbs_and_hidden_files_are_no_cells(tree):
    before = read_index(tree)
    (tree / "Parasitized" / "Thumbs.db").write_bytes(b"thumbs")
    (tree / "Parasitized" / "._1.png").write_bytes(b"mac")
    (tree / "notes.txt").write_text("notes")
    (tree / "__MACOSX" / "Parasitized").mkdir(parents=True)
    (tree / "__MACOSX" / "Parasitized" / "1.png").write_bytes(b"mac")
    assert read_index(tree) == before


def test_the_doubled_tree_of_the_mirror_counts_each_cell_once_and_says_so(tree, tmp_path):
    once = read_index(tree)
    shutil.copytree(tree, tmp_path / "mirror" / "cell_images")
    shutil.copytree(tree, tmp_path / "mirror" / "cell_images" / "cell_images")
    index = read_index(tmp_path / "mirror")
    assert index.layout == "official tree, twice"
    assert index.digest == once.digest
    assert {cell.file.count("/") for cell in index} == {2}
    (note,) = index.notes
    assert note == (
        "the tree lies there twice: 65 cells in cell_images/cell_images are those in cell_images and count once"
    )


def test_the_digest_depends_on_content_and_not_on_place_or_order(tree, tmp_path, drawing):
    index = read_index(tree)
    moved = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(tree, moved)
    assert read_index(moved.parent).digest == index.digest
    rows = [{"file": str(tree / cell.file), "label": cell.label} for cell in reversed(index.cells)]
    listed = read_index(drawing.table(tmp_path / "table.csv", rows))
    assert [cell.sha256 for cell in listed] == [cell.sha256 for cell in reversed(index.cells)]
    assert listed.digest == index.digest
    (tree / index.cells[0].file).write_bytes(drawing.png(12345))
    assert read_index(tree).digest != index.digest


@pytest.mark.parametrize("validation", ["valid", "val", "Validation"])
def test_part_folders_give_parts_and_a_flat_test_folder_is_left_out_and_said(tmp_path, drawing, validation):
    root = drawing.folders(
        tmp_path,
        {"train/Infected": 3, "train/Healthy": 2, f"{validation}/Infected": 1, f"{validation}/Healthy": 1, "test": 4},
    )
    index = read_index(root)
    assert index.layout == "train/validation/test folders"
    assert sorted((cell.part, cell.label) for cell in index) == [
        *[("train", "parasitized")] * 3,
        *[("train", "uninfected")] * 2,
        ("validation", "parasitized"),
        ("validation", "uninfected"),
    ]
    assert "4 pictures in a flat test/ folder left out: no label, for classifying only" in index.notes
    assert any(note.startswith("patients are not known") for note in index.notes)


def test_the_same_picture_in_train_and_test_is_no_doubled_tree(tmp_path, drawing):
    for part in ("train", "test"):
        drawing.folders(tmp_path / part, {"Parasitized": 2, "Uninfected": 2})
    assert len(read_index(tmp_path)) == 8


@pytest.mark.parametrize(
    ("positive", "negative"),
    [("parasitized", "UNINFECTED"), ("Infected", "healthy"), ("Positive", "Negative"), ("PARASITE", "non-infected")],
)
def test_class_folders_are_known_by_their_names(tmp_path, drawing, positive, negative):
    index = read_index(drawing.folders(tmp_path, {positive: 2, negative: 3}))
    assert index.layout == "class folders"
    assert [cell.label for cell in index].count("parasitized") == 2
    assert index.summary == "5 cells, 2 parasitized and 3 uninfected, of unknown patients"
    assert not index.patients_known


def test_the_innermost_class_folder_gives_the_label(tmp_path, drawing):
    index = read_index(drawing.folders(tmp_path, {"positive/slide 1": 1, "positive/uninfected": 2}))
    assert sorted(cell.label for cell in index) == ["parasitized", "uninfected", "uninfected"]


def test_a_positive_class_can_be_named(tmp_path, drawing):
    index = read_index(drawing.folders(tmp_path, {"train/Falciparum": 2, "train/none": 3}), positive_class="falciparum")
    assert [cell.label for cell in index] == ["parasitized"] * 2 + ["uninfected"] * 3


def test_a_positive_class_that_is_not_there_is_refused(tmp_path, drawing):
    drawing.folders(tmp_path, {"a": 1, "b": 1})
    with pytest.raises(DataError, match=r"no class is called 'c'; found a, b: give one of them as --positive-class"):
        read_index(tmp_path, positive_class="c")


def test_a_positive_class_beside_several_others_is_refused(tmp_path, drawing):
    drawing.folders(tmp_path, {"a": 1, "b": 1, "c": 1})
    with pytest.raises(DataError, match=r"beside the class 'a' there are b, c; expected exactly one other class"):
        read_index(tmp_path, positive_class="a")


def test_one_class_alone_is_read_and_said(tmp_path, drawing):
    index = read_index(drawing.folders(tmp_path, {"Uninfected": 2}))
    assert "every cell is labelled uninfected: there is no parasitized one" in index.notes


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        ({"a": 1, "b": 1}, "but its folders are a, b;"),
        ({}, "but there is no picture below it;"),
        ({".": 2}, "but its 2 pictures lie in no folders;"),
        ({f"f{number}": 1 for number in range(9)}, "f5 and 3 more;"),
    ],
)
def test_a_folder_without_classes_is_refused(tmp_path, drawing, folders, found):
    drawing.folders(tmp_path, folders)
    with pytest.raises(DataError) as caught:
        read_index(tmp_path)
    assert "expected class folders such as Parasitized and Uninfected" in str(caught.value)
    assert found in str(caught.value)
    assert "--positive-class" in str(caught.value)


def test_a_place_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"nowhere: there is no such folder or table"):
        read_index(tmp_path / "nowhere")


def test_unreadable_pictures_are_collected_with_their_reasons(tree, drawing):
    good = read_index(tree)
    folder = tree / "Uninfected"
    whole = drawing.png(77)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not a picture")
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    (folder / "huge.png").write_bytes(_png_that_claims(20_000, 20_000))
    index = read_index(tree)
    assert index.cells == good.cells
    reasons = {Path(picture.file).name: picture.reason for picture in index.unreadable}
    assert sorted(reasons) == ["broken.png", "cut.png", "empty.png", "huge.png", "text.png"]
    assert all(reasons.values())
    assert reasons["broken.png"] == "a link to a file that is not there"
    assert any(note.startswith("5 pictures unreadable and left out, such as Uninfected/") for note in index.notes)
    assert read_index(tree).unreadable == index.unreadable


def test_a_file_beyond_the_limit_on_bytes_is_not_read(tree):
    from giemsa.images import MAX_BYTES

    with (tree / "Uninfected" / "large.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (picture,) = read_index(tree).unreadable
    assert "more than the limit" in picture.reason


def test_data_that_are_all_unreadable_are_refused(tmp_path):
    (tmp_path / "Parasitized").mkdir()
    (tmp_path / "Parasitized" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="all 1 are unreadable"):
        read_index(tmp_path)


def test_loops_of_links_end(tree):
    (tree / "Parasitized" / "loop").symlink_to(tree, target_is_directory=True)
    (tree / "self").symlink_to("self")
    assert len(read_index(tree)) == 65


def test_linked_folders_are_followed(tree, tmp_path):
    (tmp_path / "linked").mkdir()
    for folder in ("Parasitized", "Uninfected"):
        (tmp_path / "linked" / folder).symlink_to(tree / folder, target_is_directory=True)
    assert read_index(tmp_path / "linked").digest == read_index(tree).digest


def test_a_folder_that_is_linked_into_two_parts_is_in_both(tmp_path, drawing):
    drawing.folders(tmp_path / "cells", {"Positive": 2, "Negative": 2})
    for part in ("train", "test"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / part).symlink_to(tmp_path / "cells", target_is_directory=True)
    assert sorted(cell.part for cell in read_index(tmp_path / "data")) == ["test"] * 4 + ["train"] * 4


def test_a_file_name_that_is_not_utf8_is_read(tree, drawing):
    name = os.fsencode(str(tree / "Uninfected")) + b"/C200ThinF_IMG_\xff_cell_1.png"
    with open(name, "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(drawing.png(4711))
    index = read_index(tree)
    assert len(index) == 66
    assert len(index.digest) == 64
    assert read_index(tree) == index


def test_folders_that_may_not_be_listed_are_said(drawing):
    """Permissions do not bind root, so another process drops its privileges first."""
    script = (
        "import os, sys\n"
        "from giemsa.data.index import read_index\n"
        "from giemsa.errors import SourceError\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "print(*read_index(sys.argv[1]).notes, sep='\\n')\n"
        "try: read_index(sys.argv[1] + '/Uninfected/secret')\n"
        "except SourceError as error: print(error)\n"
    )
    with tempfile.TemporaryDirectory() as place:
        tree = drawing.folders(Path(place), {"Parasitized": 2, "Uninfected": 2})
        tree.chmod(0o755)
        (tree / "Uninfected" / "secret").mkdir(mode=0o000)
        done = subprocess.run(
            [sys.executable, "-c", script, place],
            capture_output=True, text=True, check=False, env={**os.environ, "XDG_CACHE_HOME": "/nonexistent"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the folder Uninfected/secret cannot be listed (Permission denied) and is left out" in done.stdout
    assert "the folder cannot be listed (Permission denied); check its permissions" in done.stdout


def test_a_table_gives_labels_and_patients(tmp_path, drawing):
    drawing.folders(tmp_path / "pictures", {"x": 4})
    rows = [
        {"patient": "anna", "file": "pictures/x/0.png", "label": "Infected", "remark": "ring"},
        {"patient": "anna", "file": "pictures/x/1.png", "label": "negative", "remark": ""},
        {"patient": "ben", "file": "pictures\\x\\2.png", "label": "healthy", "remark": ""},
        {"patient": "ben", "file": "pictures/x/gone.png", "label": "healthy", "remark": ""},
    ]
    index = read_index(drawing.table(tmp_path / "cells.csv", rows))
    assert index.layout == "CSV table"
    assert [(cell.file, cell.label, cell.patient) for cell in index] == [
        ("pictures/x/0.png", "parasitized", "anna"),
        ("pictures/x/1.png", "uninfected", "anna"),
        ("pictures/x/2.png", "uninfected", "ben"),
    ]
    assert [(picture.file, picture.reason) for picture in index.unreadable] == [
        ("pictures/x/gone.png", "no such file or directory")
    ]


def test_a_table_may_use_words_of_its_own(tmp_path, drawing):
    drawing.folders(tmp_path, {"x": 2})
    rows = [{"file": "x/0.png", "label": "ring"}, {"file": "x/1.png", "label": "clean"}]
    index = read_index(drawing.table(tmp_path / "cells.csv", rows), positive_class="Ring")
    assert [cell.label for cell in index] == ["parasitized", "uninfected"]


def test_a_table_without_a_column_of_patients_takes_them_from_file_names(tree, drawing):
    rows = [{"file": cell.file, "label": cell.label} for cell in read_index(tree)]
    assert read_index(drawing.table(tree / "cells.csv", rows)).patients_known


def test_patients_that_a_table_leaves_empty_are_not_known(tmp_path, drawing):
    drawing.folders(tmp_path, {"x": 2})
    rows = [
        {"file": "x/0.png", "label": "infected", "patient": "anna"},
        {"file": "x/1.png", "label": "healthy", "patient": ""},
    ]
    index = read_index(drawing.table(tmp_path / "cells.csv", rows))
    assert index.summary.endswith("of 1 patient; the patient of 1 cell is not known")
    assert any("the patient of 1 cells is not known" in note for note in index.notes)


def test_a_row_that_repeats_another_counts_once_and_is_said(tmp_path, drawing):
    drawing.folders(tmp_path, {"x": 2})
    row = {"file": "x/0.png", "label": "infected"}
    index = read_index(drawing.table(tmp_path / "cells.csv", [row, row, {"file": "x/1.png", "label": "healthy"}]))
    assert len(index) == 2
    assert index.notes[0] == "1 row of the table repeated an earlier one and count once"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the column file and label is missing; .* found nothing"),
        ("image,class\na.png,infected\n", "the column file and label is missing; .* found image,class"),
        ("file,label\na.png,1\n", "line 2: the row has the label '1'; expected a file and a word"),
        ("file,label\n,infected\n", "line 2: the row names no file"),
        ("file,label\na.png\n", "line 2: the row has the label ''"),
        ("file,label\na.png,infected\na.png,healthy\n", "line 3: a.png stands there twice with another label"),
        ("file,label\na.png,infected\n", "expected labelled pictures of cells, but all 1 are unreadable"),
        ("file,label\n", "there is none"),
        (b"file,label\n\xff\xfe,infected\n", "cannot be read"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path, content, message):
    table = tmp_path / "cells.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_index(table)


def test_official_lists_beside_the_tree_join_patients(tmp_path, drawing):
    tree = drawing.official_tree(tmp_path / "data" / "cell_images", {"C1thin_a": (1, 1), "C1thin_b": (1, 1)})
    names = sorted(path.name for path in (tree / "Parasitized").iterdir())
    listed = f'C1,"{names}"\n'
    (tmp_path / "data" / "patientid_cellmapping_parasitized.csv").write_text(listed)
    for root in (tree, tree.parent):
        index = read_index(root)
        assert index.patients == ("C1thin_a",)
        assert "the official lists say that C1thin_a and C1thin_b are one patient, here C1thin_a" in index.notes


def test_an_index_is_remembered_but_never_out_of_date(tree, drawing, own_cache):
    _settle(tree)
    index = read_index(tree)
    (memory,) = (own_cache / "index").iterdir()
    files = remembered(memory)["files"]
    assert set(files) == {cell.file for cell in index}
    assert read_index(tree) == index
    changed = tree / index.cells[0].file
    changed.write_bytes(drawing.png(999))
    again = read_index(tree)
    assert again.cells[0].sha256 == hashlib.sha256(changed.read_bytes()).hexdigest()
    assert set(remembered(memory)["files"]) == set(files)


def remembered(memory):
    """Read what is behind the line with the digest."""
    return json.loads(memory.read_text().partition("\n")[2])


@pytest.mark.parametrize("flipped", [False, True])
def test_what_is_remembered_is_used_where_it_is_as_it_was_written(tree, own_cache, flipped):
    _settle(tree)
    index = read_index(tree)
    (memory,) = (own_cache / "index").iterdir()
    content = remembered(memory)
    content["files"][index.cells[0].file][3] = 31
    written = json.dumps(content)
    digest = "0" * 64 if flipped else hashlib.sha256(written.encode()).hexdigest()
    memory.write_text(f"{digest}\n{written}")
    assert (read_index(tree).cells[0].width == 31) is not flipped


def test_files_just_written_are_not_remembered(tree, own_cache):
    read_index(tree)
    assert not (own_cache / "index").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 99}', '{"version": 1, "root": "other", "files": {}}'])
def test_a_damaged_memory_is_as_good_as_none(tree, own_cache, content):
    _settle(tree)
    index = read_index(tree)
    (memory,) = (own_cache / "index").iterdir()
    memory.write_text(content)
    assert read_index(tree) == index


def test_a_cache_that_cannot_be_written_is_done_without(tree, tmp_path, monkeypatch):
    _settle(tree)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(read_index(tree)) == 65


def test_progress_ends_with_all_files(tree):
    calls = []
    read_index(tree, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (65, 65)


def test_a_part_of_an_index_remembers_the_whole(tree):
    index = read_index(tree)
    some = index.take(np.array([3, 5]))
    assert [cell.file for cell in some] == [index.cells[3].file, index.cells[5].file]
    assert some.whole is index
    assert some.take([0]).whole is index
    assert some.notes[-1] == "2 of 65 cells are used"


def _cell(number: int, label: str, patient: str | None) -> LabelledCell:
    return LabelledCell(f"{number}.png", label, patient, None, 1, 1, f"{number:064x}")  # type: ignore[arg-type]


@given(
    st.lists(
        st.builds(
            _cell, st.integers(0, 50), st.sampled_from(["parasitized", "uninfected"]), st.sampled_from(["a", "b", None])
        ),
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_the_digest_does_not_know_order(cells, random):
    shuffled = list(cells)
    random.shuffle(shuffled)
    one, other = (CellIndex(Path(root), tuple(some), "CSV table") for root, some in (("a", cells), ("b", shuffled)))
    assert one.digest == other.digest


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp"])
def test_sizes_are_those_of_the_decoded_picture(tmp_path, suffix):
    Image.new("RGB", (17, 9), (200, 150, 180)).save(tmp_path / f"a{suffix}")
    assert probe((tmp_path / f"a{suffix}").read_bytes()) == (17, 9)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_turned_picture_has_its_upright_size(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (17, 9), (200, 150, 180)).save(tmp_path / f"a{suffix}", exif=exif)
    data = (tmp_path / f"a{suffix}").read_bytes()
    assert probe(data) == (9, 17) == decode(data).shape[1::-1]


@given(st.data())
def test_a_damaged_png_is_never_taken_for_sound(data):
    done, encoded = cv2.imencode(".png", np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    assert done
    png = bytearray(encoded.tobytes())
    place = data.draw(st.integers(8, len(png) - 1))
    png[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(png)))
    for damaged in (bytes(png), bytes(encoded.tobytes()[: min(cut, len(png) - 1)])):
        try:
            size = probe(damaged)
        except PictureError:
            continue
        assert size == decode(damaged).shape[1::-1]


def _settle(tree: Path) -> None:
    """Make files look older than the clock's resolution, so that they may be remembered."""
    for path in tree.rglob("*.png"):
        os.utime(path, ns=(10**18, 10**18))


def _png_that_claims(width: int, height: int) -> bytes:
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def test_a_table_may_name_the_laboratory_of_each_cell(tmp_path, drawing):
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(drawing.png(number))
    rows = [
        {"file": "0.png", "label": "infected", "field": "f1", "laboratory": "Lahore"},
        {"file": "1.png", "label": "healthy", "field": "f2", "laboratory": ""},
    ]
    index = read_index(drawing.table(tmp_path / "cells.csv", rows))
    assert [cell.laboratory for cell in index] == ["Lahore", None]
    assert index.laboratories == ("Lahore",)
    assert index.patients == ()
