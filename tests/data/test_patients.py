from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from giemsa.data.patients import (
    assign_patients,
    has_infected_number,
    is_official,
    origin_of,
    read_mapping,
)
from giemsa.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "patient", "photograph"),
    [
        ("C39P4thinF_original_IMG_20150622_105102_cell_101.png", "C39P4thinF_original", "IMG_20150622_105102"),
        ("C33P1thinF_IMG_20150619_114756a_cell_179.png", "C33P1thinF", "IMG_20150619_114756a"),
        ("C1_thinF_IMG_20150604_104722_cell_9.png", "C1_thinF", "IMG_20150604_104722"),
        ("C67P28N_ThinF_IMG_20150819_1_cell_4_png.rf.0a1b.jpg", "C67P28N_ThinF", "IMG_20150819_1"),
        ("C47P8thin_Original_Motic_IMG_20150714_094626_cell_1.png", "C47P8", "IMG_20150714_094626"),
        ("C47P8thinOriginalOlympusCX21_IMG_20150714_1_cell_1.png", "C47P8", "IMG_20150714_1"),
        ("C47P80thin_IMG_20150714_1_cell_1.png", "C47P80thin", "IMG_20150714_1"),
    ],
)
def test_a_file_name_tells_patient_and_photograph(name, patient, photograph):
    assert origin_of(name) == (patient, photograph)


@pytest.mark.parametrize("name", ["1.png", "cell_3.png", "IMG_1_cell_2.png", "C39P4thinF.png", ""])
def test_other_file_names_tell_nothing(name):
    assert origin_of(name) is None


@given(st.from_regex(r"C[0-9]{1,3}[a-zA-Z]{1,9}", fullmatch=True), st.integers(0, 10**6))
def test_what_stands_before_img_is_the_patient(patient, number):
    origin = origin_of(f"{patient}_IMG_20150101_000000_cell_{number}.png")
    assert origin is not None
    assert origin.patient == patient


@pytest.mark.parametrize("name", ["C39P4thinF_original", "C51AP12thinF", "C182P143NThinF", "C64P25N_ThinF", "C47P8"])
def test_names_of_infected_patients_carry_a_number(name):
    assert is_official(name)
    assert has_infected_number(name)


@pytest.mark.parametrize("name", ["C1_thinF", "C4thin_original", "C7NthinF", "C202ThinF", "C238NThinF"])
def test_names_of_donors_carry_none(name):
    assert is_official(name)
    assert not has_infected_number(name)


@pytest.mark.parametrize("name", ["C12", "anna", "patient-7", "thinF"])
def test_other_names_are_not_official(name):
    assert not is_official(name)
    assert not has_infected_number(name)


def test_the_first_line_of_an_official_list_is_a_patient_too(tmp_path: Path):
    listed = tmp_path / "list.csv"
    listed.write_text(
        "C33P1,\"['C33P1thinF_IMG_1_cell_1.png', 'C33P1thinF_IMG_1_cell_2.png']\",,,\n"
        "C34P2,\"['C34P2thinF_IMG_1_cell_1.png']\"\n",
    )
    assert read_mapping(listed) == {
        "C33P1thinF_IMG_1_cell_1.png": "C33P1",
        "C33P1thinF_IMG_1_cell_2.png": "C33P1",
        "C34P2thinF_IMG_1_cell_1.png": "C34P2",
    }


def test_copies_without_quotes_with_a_header_and_empty_lists_are_read(tmp_path: Path):
    listed = tmp_path / "list.csv"
    listed.write_text("\ufeffpatient,cells\nA,['a_1.png', 'a_2.png'],,\n\nB,[]\nC,[c.PNG]\n,,,\n", encoding="utf-8")
    assert read_mapping(listed) == {"a_1.png": "A", "a_2.png": "A", "c.PNG": "C"}


def test_a_line_without_pictures_is_refused(tmp_path: Path):
    listed = tmp_path / "list.csv"
    listed.write_text("A,['a.png']\nB,nothing here\n")
    with pytest.raises(DataError, match=r"list\.csv, line 2: 'B,nothing here' names no picture; expected"):
        read_mapping(listed)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DataError, match="cannot be read"):
        read_mapping(tmp_path / "list.csv")


def test_lists_name_the_patients_of_files_that_do_not():
    patients, joined = assign_patients(["a.png", "b.png"], {"a.png": "Anna"})
    assert patients == ["Anna", None]
    assert joined == []


def test_the_file_name_counts_where_both_are_known():
    name = "C33P1thinF_IMG_1_cell_1.png"
    assert assign_patients([name], {name: "C33P1"}) == (["C33P1thinF"], [])


def test_patients_that_a_list_calls_one_become_one():
    names = ["C5thin_a_IMG_1_cell_1.png", "C5thin_b_IMG_1_cell_1.png", "C6thin_IMG_1_cell_1.png", "other.png"]
    listed = {names[0]: "C5", names[1]: "C5", "other.png": "C5"}
    patients, joined = assign_patients(names, listed)
    assert patients == ["C5thin_a", "C5thin_a", "C6thin", "C5thin_a"]
    assert joined == ["the official lists say that C5thin_a and C5thin_b are one patient, here C5thin_a"]
