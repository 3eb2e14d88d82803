"""`giemsa explain`, as it is typed."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from giemsa.cli import main


@pytest.fixture
def folder(make_cells, tmp_path):
    make_cells(tmp_path / "cells", 5)
    (tmp_path / "cells" / "cell_0003.png").write_bytes(b"no picture")
    return tmp_path / "cells"


def explain(*arguments):
    return main(["explain", *map(str, arguments)])


def rows_of(output):
    with (output / "explanations.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_picture_is_drawn_beside_its_map_and_a_bad_one_is_a_row(folder, tiny_model, tmp_path, capsys):
    output = tmp_path / "maps"
    assert explain(folder, "--model", tiny_model, "--output", output) == 1
    rows = rows_of(output)
    assert [row["verdict"] == "unreadable" for row in rows] == [False, False, False, True, False]
    assert rows[3]["reason"]
    for row in rows[:3]:
        assert (row["method"], row["class"], row["layer"]) == ("evidence", "parasitized", "")
        with Image.open(output / row["file"]) as page:
            assert page.size[0] > 512
    said = capsys.readouterr().out
    assert "4 pictures explained" in said
    assert "evidence, for the logit of parasitized" in said
    assert "1 unreadable" in said


def test_a_program_may_read_what_was_explained(folder, tiny_model, tmp_path, capsys):
    assert explain(folder, "--model", tiny_model, "--output", tmp_path / "maps", "--limit", 2, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["explained"], content["unreadable"], content["method"]) == (2, 0, "evidence")
    assert len(content["model"]["digest"]) == 64


def test_pictures_of_one_name_do_not_overwrite_each_other(make_cells, tiny_model, tmp_path):
    for name in ("a", "b"):
        make_cells(tmp_path / name, 2)
    assert explain(tmp_path / "a", tmp_path / "b", "--model", tiny_model, "--output", tmp_path / "maps") == 0
    assert len(list((tmp_path / "maps").glob("*.png"))) == 4


def test_a_folder_that_is_not_empty_is_left_alone(folder, tiny_model, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    assert explain(folder, "--model", tiny_model, "--output", tmp_path / "full") == 2
    assert "--force" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--scale", "0"], "--scale is 0"),
        (["--limit", "0"], "argument --limit: '0' is given"),
        (["--layer", "features.1"], "give the run's folder"),
    ],
)
def test_a_wrong_argument_stops_before_anything_is_written(folder, tiny_model, tmp_path, capsys, more, said):
    assert explain(folder, "--model", tiny_model, "--output", tmp_path / "maps", *more) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "maps").exists()


def test_many_pictures_are_read_a_few_at_a_time(tmp_path, tiny_model, draw_cell, encode, monkeypatch):
    import giemsa.sources as sources
    from giemsa.sources import Source

    content = encode(draw_cell(True))
    read = []

    def stream(*_given, **_more):
        for number in range(1000):
            yield Source(f"cell_{number}.png", lambda number=number: read.append(number) or content)

    monkeypatch.setattr(sources, "open_sources", stream)
    held = []
    import giemsa.cli.explain as module

    honest = module._explain_batch

    def watched(batch, *given):
        held.append(len(batch))
        return honest(batch, *given)

    monkeypatch.setattr(module, "_explain_batch", watched)
    drawn = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr("giemsa.lab.explaining.overlays.draw_explanation", lambda *_given, **_more: drawn)
    assert explain("anything", "--model", tiny_model, "--output", tmp_path / "maps") == 0
    assert len(read) == 1000
    assert max(held) <= 32
    assert len(rows_of(tmp_path / "maps")) == 1000
