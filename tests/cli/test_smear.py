"""`giemsa smear`, through its front door."""

from __future__ import annotations

import csv
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from giemsa.cli import main

FIELDS = Path(__file__).parents[2] / "examples" / "fields"
COLUMNS = "field,x0,y0,x1,y1,diameter_um,verdict,p_parasitized,logit,relative_logit"


@pytest.fixture
def smear(tiny_model, capsys, tmp_path, monkeypatch):
    """`smear(...)` runs the command with the tiny model in a folder of its own and gives (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = main(["smear", *map(os.fspath, arguments), "--model", str(tiny_model), "--threads", "1"])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def two_fields(tmp_path):
    folder = tmp_path / "fields"
    folder.mkdir()
    for name in ("drawn_field_01.jpg", "drawn_field_02.jpg"):
        shutil.copy(FIELDS / name, folder / name)
    return folder


def rows(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_fields_become_a_count_a_table_overlays_and_a_report(smear, two_fields):
    status, out, err = smear("fields", "--patient", "P1", "--output", "out")
    assert status == 0
    assert "red cells of 2 fields" in out
    assert "no diagnosis" in out
    assert "report.html" in err
    assert Path("out/cells.csv").read_text().splitlines()[0] == COLUMNS
    cells, summary = rows("out/cells.csv"), json.loads(Path("out/summary.json").read_text())
    assert len(cells) == summary["count"]["red_cells"] > 100
    assert sum(c["verdict"] == "parasitized" for c in cells) == summary["count"]["called"]
    for cell in cells:
        assert 0 < int(cell["x0"]) < int(cell["x1"]) < 1280
        assert 3 < float(cell["diameter_um"]) < 15
    assert len(list(Path("out/overlays").glob("*.jpg"))) == 2
    assert "<title>Smear of P1</title>" in Path("out/report.html").read_text()


def test_a_refused_field_is_left_out_and_named(smear, two_fields):
    Image.fromarray(np.full((700, 900, 3), 210, np.uint8)).save(two_fields / "blank.png")
    (two_fields / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    status, out, _ = smear("fields", "--output", "out")
    assert status == 1
    assert "Left out: fields/blank.png, no cells at all" in out
    assert "Left out: fields/torn.png" in out
    assert {row["field"] for row in rows("out/cells.csv")} == {f"fields/drawn_field_0{i}.jpg" for i in (1, 2)}


def test_nothing_left_ends_in_one_sentence(smear, tmp_path):
    Image.fromarray(np.full((700, 900, 3), 210, np.uint8)).save(tmp_path / "blank.png")
    status, out, _ = smear("blank.png", "--output", "out")
    assert status == 2
    assert out.startswith("Nothing was counted: none of 1 field can be judged.")
    assert json.loads(Path("out/summary.json").read_text())["count"] is None


def test_an_interrupted_smear_goes_on(smear, two_fields, monkeypatch):
    smear("fields", "--output", "whole")
    smear("fields/drawn_field_01.jpg", "--output", "part")
    from giemsa.smear.reading import SmearReader

    read = []
    original = SmearReader.read_field
    monkeypatch.setattr(SmearReader, "read_field", lambda self, p, name=None: read.append(p) or original(self, p, name))
    status, _, _ = smear("fields", "--output", "part", "--resume")
    assert status == 0
    assert [source.name for source in read] == ["fields/drawn_field_02.jpg"]
    assert Path("part/cells.csv").read_text() == Path("whole/cells.csv").read_text()


def test_an_interruption_says_how_to_continue(smear, two_fields, monkeypatch):
    from giemsa.smear.reading import SmearReader

    original = SmearReader.read_field

    def interrupted(self, picture, name=None):
        if name.endswith("02.jpg"):
            raise KeyboardInterrupt
        return original(self, picture, name)

    with monkeypatch.context() as patch:
        patch.setattr(SmearReader, "read_field", interrupted)
        status, out, err = smear("fields", "--output", "out")
        assert (status, out) == (130, "")
        assert "interrupted: the fields read so far are in out; continue with --resume" in err
    status, out, _ = smear("fields", "--output", "out", "--resume")
    assert status == 0
    assert "red cells of 2 fields" in out


def test_other_fields_cannot_be_resumed(smear, two_fields):
    smear("fields/drawn_field_02.jpg", "--output", "out")
    status, _, err = smear("fields", "--output", "out", "--resume")
    assert status == 2
    assert "cannot resume" in err


def test_an_output_is_not_overwritten_unasked(smear, two_fields):
    smear("fields/drawn_field_01.jpg", "--output", "out")
    before = Path("out/cells.csv").read_text()
    status, _, err = smear("fields", "--output", "out")
    assert status == 2
    assert "exists already" in err
    assert Path("out/cells.csv").read_text() == before
    assert smear("fields", "--output", "out", "--force")[0] == 0
    assert len(rows("out/cells.csv")) > len(before.splitlines())


def test_decisions_are_taken_without_reading_again(smear, two_fields):
    smear("fields", "--output", "out")
    cell = min(rows("out/cells.csv"), key=lambda c: float(c["relative_logit"]))
    entry = {"field": cell["field"], **{k: int(cell[k]) for k in ("x0", "y0", "x1", "y1")}, "decision": "confirmed"}
    Path("decisions.json").write_text(json.dumps({"giemsa_decisions": 1, "cells": [entry]}))
    status, _, _ = smear("fields", "--output", "out", "--resume", "--decisions", "decisions.json")
    assert status == 0
    assert json.loads(Path("out/summary.json").read_text())["count"]["confirmed"] == 1
    uploaded = entry | {"field": Path(entry["field"]).name, "decision": "rejected"}  # as the dashboard calls it
    Path("decisions.json").write_text(json.dumps({"giemsa_decisions": 1, "cells": [uploaded]}))
    assert smear("fields", "--output", "out", "--resume", "--decisions", "decisions.json")[0] == 0
    assert json.loads(Path("out/summary.json").read_text())["count"]["confirmed"] == 0
    entry["x0"] += 1
    Path("decisions.json").write_text(json.dumps({"giemsa_decisions": 1, "cells": [entry]}))
    status, _, err = smear("fields", "--output", "out", "--resume", "--decisions", "decisions.json")
    assert status == 2
    assert "does not have" in err


def test_a_site_is_calibrated_and_used(smear, two_fields):
    status, out, _ = smear("calibrate", FIELDS / "annotations.json", "--output", "site.json")
    assert status == 0
    assert "3 reviewed fields" in out
    status, out, _ = smear("fields", "--site", "site.json", "--output", "out")
    assert status == 0
    assert "reviewed fields of this laboratory" in out


def test_a_reviewed_smear_calibrates_too(smear, two_fields):
    smear("fields", "--output", "out")
    cells = rows("out/cells.csv")
    sick = sorted(cells, key=lambda c: -float(c["relative_logit"]))[:4]
    decided = [
        {"field": c["field"], **{k: int(c[k]) for k in ("x0", "y0", "x1", "y1")}, "decision": "confirmed"} for c in sick
    ]
    complete = sorted({c["field"] for c in cells})
    status, _, err = smear("calibrate", "out", "--output", "site.json")
    assert status == 2
    assert "no decisions.json" in err
    Path("out/decisions.json").write_text(
        json.dumps({"giemsa_decisions": 1, "cells": decided, "complete_fields": complete})
    )
    status, out, _ = smear("calibrate", "out", "--output", "site.json")
    assert status == 0
    assert "of 4 infected cells" in out


def test_many_smears_give_a_table_of_patients(smear, two_fields, tmp_path):
    for patient, name in (("anna", "drawn_field_01.jpg"), ("ben", "drawn_field_02.jpg")):
        (tmp_path / "patients" / patient).mkdir(parents=True)
        shutil.copy(FIELDS / name, tmp_path / "patients" / patient / name)
    (tmp_path / "patients" / "empty").mkdir()
    status, out, err = smear("patients", "--by-folder", "--output", "out")
    assert status == 1
    assert "empty: there are no pictures" in err
    table = rows("out/patients.csv")
    assert [row["patient"] for row in table] == ["anna", "ben"]
    assert all(float(row["parasitaemia_low"]) <= float(row["parasitaemia_high"]) for row in table)
    assert all(row["parasitaemia"] == row["per_ul"] == row["told_by"] == "" for row in table)  # nobody has looked
    assert Path("out/anna/report.html").exists()
    assert out.count("red cell") >= 2
    status, _, _ = smear("patients", "--by-folder", "--output", "out", "--resume")
    assert status == 1
    assert rows("out/patients.csv") == table


def test_json_is_one_object(smear, two_fields):
    _, out, _ = smear("fields/drawn_field_01.jpg", "--output", "out", "--json")
    assert json.loads(out)["fields"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing"], "does not exist"),
        (["fields", "--red-cells-per-ul", "5"], "--red-cells-per-ul is 5"),
        (["fields", "--cell-diameter-px", "2"], "diameter is 2"),
        (["fields", "--by-folder", "--patient", "x"], "--patient names one smear"),
        (["fields", "--by-folder", "--decisions", "x"], "--decisions belong to one smear"),
        (["fields/drawn_field_01.jpg", "--by-folder"], "takes one folder"),
        (["fields", "--by-folder"], "holds no folders"),
        (["calibrate"], "needs reviewed fields"),
        (["calibrate", "fields", "--patient", "x"], "has no meaning"),
        (["calibrate", "fields"], "holds no reviewed fields"),
        (["fields", "--site", "fields/drawn_field_01.jpg"], "no site file"),
        (["fields", "--decisions", "missing.json"], "cannot be read"),
    ],
)
def test_wrong_use_ends_in_one_sentence(smear, two_fields, arguments, said):
    status, out, err = smear(*arguments, "--output", "out")
    assert status == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_what_a_count_may_not_mean_is_remarked(smear, two_fields):
    """Fields that the rates were measured on; few of them."""
    _, out, err = smear("calibrate", FIELDS / "annotations.json", "--output", "site.json")
    assert "On another slide of ten fields: sensitivity" in out
    assert "parasites in 3 fields are few" in err
    _, _, err = smear(two_fields / "drawn_field_01.jpg", "--site", "site.json", "--output", "out2")
    assert "1 of these fields are among those that the site's rates were measured on" in err


@pytest.fixture
def two_folders(two_fields):
    """fields/drawn_field_01.jpg and fields/B/drawn_field_02.jpg."""
    (two_fields / "B").mkdir()
    (two_fields / "drawn_field_02.jpg").rename(two_fields / "B" / "drawn_field_02.jpg")
    return two_fields


@pytest.mark.usefixtures("two_folders")
def test_photographs_of_two_folders_are_two_smears(smear):
    status, out, err = smear("fields", "--output", "out")
    assert status == 0
    assert "the photographs of 2 folders are counted as 2 smears (B, fields); with --patient NAME they are one" in err
    assert [row["patient"] for row in rows("out/patients.csv")] == ["B", "fields"]
    assert out.count("red cells of 1 field") == 2
    assert {row["field"] for row in rows("out/B/cells.csv")} == {"fields/B/drawn_field_02.jpg"}
    before = rows("out/patients.csv")
    assert smear("fields", "--output", "out", "--resume")[0] == 0
    assert rows("out/patients.csv") == before


@pytest.mark.usefixtures("two_folders")
def test_two_folders_are_one_smear_where_a_person_says_so(smear):
    status, out, err = smear("fields", "--patient", "P1", "--output", "out")
    assert (status, err.count("smears")) == (0, 0)
    assert "red cells of 2 fields" in out
    status, _, err = smear("fields", "--output", "out", "--resume")  # and no longer
    assert status == 2
    assert "out holds one smear, and the photographs are of 2 folders (B, fields)" in err


def test_folders_in_an_archive_are_smears_of_their_own(smear, two_folders):
    with zipfile.ZipFile("all.zip", "w") as archive:
        for i in (1, 2):
            archive.write(FIELDS / f"drawn_field_0{i}.jpg", f"P{i}/a.jpg")
    assert smear("all.zip", "--output", "out")[0] == 0
    assert [row["patient"] for row in rows("out/patients.csv")] == ["P1", "P2"]
    Path("decisions.json").write_text(json.dumps({"giemsa_decisions": 1, "cells": []}))
    status, _, err = smear("all.zip", "--output", "out", "--resume", "--decisions", "decisions.json")
    assert status == 2
    assert "--decisions belong to one smear" in err


def test_an_output_among_the_photographs_is_no_photograph(smear, two_fields, monkeypatch):
    monkeypatch.chdir(two_fields)
    assert smear(".", "--output", "out")[0] == 0
    first = Path("out/cells.csv").read_text()
    assert smear(".", "--output", "out", "--resume")[0] == 0
    assert Path("out/cells.csv").read_text() == first


def test_names_that_a_spreadsheet_would_run_are_text_there(smear, two_fields):
    two_fields.rename("=1+1")
    Path("=1+1/B").mkdir()
    Path("=1+1/drawn_field_02.jpg").rename("=1+1/B/drawn_field_02.jpg")
    assert smear("=1+1", "--output", "out")[0] == 0
    assert [row["patient"] for row in rows("out/patients.csv")] == ["B", "'=1+1"]
    assert {row["field"] for row in rows("out/B/cells.csv")} == {"'=1+1/B/drawn_field_02.jpg"}


def test_a_photograph_that_is_given_twice_is_counted_once(smear, two_fields):
    status, out, err = smear("fields/drawn_field_01.jpg", "fields", "--output", "out")
    assert status == 0
    assert "red cells of 2 fields" in out
    assert "1 of the photographs were given more than once, and each is counted once" in err


def test_photographs_in_no_patients_folder_are_told(smear, two_folders):
    status, _, err = smear("fields", "--by-folder", "--output", "out")
    assert status == 1
    assert "photographs that lie in fields itself, and in no patient's folder, are left out: 1" in err
    assert [row["patient"] for row in rows("out/patients.csv")] == ["B"]


def test_a_folder_called_calibrate_is_read(smear, two_fields):
    two_fields.rename("calibrate")
    status, out, _ = smear("calibrate", "--output", "out")
    assert status == 0
    assert "red cells of 2 fields" in out
    status, _, err = smear("calibrate", FIELDS / "annotations.json", "--output", "site.json")
    assert status == 0
    assert "`calibrate` is taken for the command; write ./calibrate for what is called so here" in err


def test_a_photograph_that_was_replaced_is_not_counted_as_the_old_one(smear, two_fields):
    smear("fields", "--output", "out")
    before = Path("out/cells.csv").read_bytes()
    shutil.copy(FIELDS / "drawn_field_03.jpg", two_fields / "drawn_field_01.jpg")
    status, _, err = smear("fields", "--output", "out", "--resume")
    assert status == 2
    assert "cannot resume out: the photograph fields/drawn_field_01.jpg has changed since it was read" in err
    assert Path("out/cells.csv").read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are Unicode")
def test_names_that_are_no_utf_8_are_written_as_escapes(smear, two_fields):
    name = os.fsdecode(b"lat\xe4n")
    two_fields.rename(name)
    status, _, _ = smear(name, "--patient", os.fsdecode(b"\xe4"), "--output", "out")
    assert status == 0
    summary = json.loads(Path("out/summary.json").read_text(encoding="utf-8"))
    assert summary["patient"] == "\\xe4"
    assert "lat\\xe4n" in summary["command"]
    Path("all").mkdir()
    Path(name).rename(Path("all") / name)
    assert smear("all", "--by-folder", "--output", "out2")[0] == 0
    assert rows("out2/patients.csv")[0]["patient"] == "lat\\xe4n"


@pytest.mark.parametrize("content", ["[" * 100_000, '{"giemsa_decisions": 1, "cells": [{"field": "a", "x0": 1e999}]}'])
def test_decisions_that_are_none_end_in_one_sentence(smear, two_fields, content):
    Path("decisions.json").write_text(content)
    status, _, err = smear("fields", "--decisions", "decisions.json", "--output", "out")
    assert status == 2
    assert "is no file of decisions" in err
    status, _, err = smear("fields", "--decisions", "/dev/zero", "--output", "out")
    assert status == 2
    assert "no regular file" in err


def test_an_output_whose_name_is_too_long_ends_in_one_sentence(smear, two_fields):
    status, _, err = smear("fields", "--output", "x" * 300)
    assert status == 2
    assert "File name too long" in err


@pytest.mark.usefixtures("two_fields")
def test_a_count_that_no_longer_goes_by_what_was_given_says_so(smear):
    assert smear("fields", "--red-cells-per-ul", "4.2e6", "--output", "out")[0] == 0
    _, out, err = smear("fields", "--output", "out", "--resume")
    assert "5,000,000 red cells per microlitre, assumed" in out
    assert "used --red-cells-per-ul, and this one does not; give it again to keep it" in err
    _, _, err = smear("fields", "--output", "out", "--resume", "--red-cells-per-ul", "4.2e6")
    assert "give it again" not in err


def test_reviewed_fields_that_are_not_there_are_named(smear):
    status, _, err = smear("calibrate", "nosuch.json", "--output", "site.json")
    assert status == 2
    assert "there is no file or folder nosuch.json" in err
    status, _, err = smear("calibrate", "x" * 300, "--output", "site.json")
    assert status == 2
    assert "there is no file or folder xxx" in err
    Path("table.csv").write_text("a,b\n")
    _, _, err = smear("calibrate", "table.csv", "--output", "site.json")
    assert "table.csv is no JSON in UTF-8: Expecting value" in err
