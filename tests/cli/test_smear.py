"""`giemsa smear`, through its front door."""

from __future__ import annotations

import csv
import json
import os
import shutil
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
    assert "reviewed fields of this site" in out


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
    """Several folders as one smear; fields that the rates were measured on; few of them."""
    (two_fields / "B").mkdir()
    (two_fields / "drawn_field_02.jpg").rename(two_fields / "B" / "drawn_field_02.jpg")
    _, _, err = smear("fields", "--output", "out")
    assert "the photographs of 2 folders are counted as one smear; with --by-folder each is one" in err
    _, out, err = smear("calibrate", FIELDS / "annotations.json", "--output", "site.json")
    assert "Cells of a field are alike" in out
    assert "parasites in 3 fields are few" in err
    _, _, err = smear(two_fields / "drawn_field_01.jpg", "--site", "site.json", "--output", "out2")
    assert "1 of these fields are among those that the site's rates were measured on" in err
    assert "counted as one smear" not in err


@pytest.mark.usefixtures("two_fields")
def test_a_count_that_no_longer_goes_by_what_was_given_says_so(smear):
    assert smear("fields", "--red-cells-per-ul", "4.2e6", "--output", "out")[0] == 0
    _, out, err = smear("fields", "--output", "out", "--resume")
    assert "5,000,000 red cells per microlitre, assumed" in out
    assert "went by --red-cells-per-ul, and this one does not; give it again to keep it" in err
    _, _, err = smear("fields", "--output", "out", "--resume", "--red-cells-per-ul", "4.2e6")
    assert "went by" not in err


def test_reviewed_fields_that_are_not_there_are_named(smear):
    status, _, err = smear("calibrate", "nosuch.json", "--output", "site.json")
    assert status == 2
    assert "there is no file or folder nosuch.json" in err
    Path("table.csv").write_text("a,b\n")
    _, _, err = smear("calibrate", "table.csv", "--output", "site.json")
    assert "table.csv is no JSON in UTF-8: Expecting value" in err
