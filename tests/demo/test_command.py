"""`giemsa demo` from the outside. It stands here and not beside the other commands for the sake of the servers."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys

import pytest
from PIL import Image

from giemsa.cli import main
from giemsa.demo import fetch as fetch_module
from giemsa.verdicts import DISCLAIMER

NOWHERE = "http://127.0.0.1:9/cell_images.zip"  # the port of a service that nobody runs any more


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "giemsa" / "demo"


@pytest.fixture
def few_cells(monkeypatch, cells):
    disputed = dataclasses.replace(cells[3], kind="disputed", reviewed="parasitized")
    monkeypatch.setattr(fetch_module, "real_cells", lambda: (*cells[:3], disputed))


@pytest.fixture
def demo(tmp_path, tiny_model, capsys):
    """Give a function that runs the command and returns its exit status, output and errors."""

    def run(*arguments, archive=NOWHERE, model=tiny_model):
        output = ["--output", str(tmp_path / "out")]
        status = main(["demo", "--model", str(model), "--archive", archive, *output, *arguments])
        return status, *capsys.readouterr()

    return run


def rows(tmp_path):
    with (tmp_path / "out" / "verdicts.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_without_a_network_it_shows_drawn_cells_and_says_why(demo, tmp_path):
    status, said, errors = demo()
    assert (status, "Traceback" in errors) == (0, False)
    assert said.startswith("The cells are drawn by a program, not real, because real ones could not be had: no answer")
    assert "32 cells: " in said
    assert " of 32 verdicts agree with what the cells are." in said
    assert said.endswith(f"{DISCLAIMER}\n")
    assert said.count("drawn_parasitized_") == said.count("drawn parasitized ") == 15
    assert len(rows(tmp_path)) == 32


def test_with_a_network_it_shows_real_cells_and_the_next_time_those_it_kept(
    demo, serve, pack, few_cells, tmp_path, cache
):
    site = serve(pack())
    status, said, errors = demo(archive=site.url)
    assert status == 0
    assert f"Fetching 4 real cells (some 4 MB) from {site.url}" in errors
    assert said.startswith(
        "The cells are real, of the Malaria Cell Images of the U.S. National Library of Medicine: fetched 4 of"
    )
    assert "disputed: uninfected, parasitized" in said
    assert " of 3 verdicts agree with what the cells are." in said
    assert "1 more are disputed" in said
    status, said, errors = demo("--force")
    assert (status, errors) == (0, "")
    assert said.startswith("The cells are real")
    assert f"they are in the cache {cache}.\n" in said
    assert [row["image"] for row in rows(tmp_path)] == [f"C{n}P1thinF_IMG_1_cell_{n}.png" for n in range(4)]


@pytest.mark.parametrize(
    ("trained_on", "sentence"),
    [
        ([], "It is not known whether the model was trained on these patients: this shows that it runs"),
        (["C0P1thinF", "C2P1thinF", "X"], "The model was trained on 2 of these 4 patients: this shows that it runs"),
        (["X"], None),
    ],
)
def test_it_says_whether_the_model_has_seen_these_patients(
    demo, serve, pack, few_cells, write_model, model_card, tmp_path, trained_on, sentence
):
    model = write_model(tmp_path / "m.onnx", card=model_card(training_patients=trained_on))
    _, said, _ = demo(archive=serve(pack()).url, model=model)
    assert ("this shows that it runs" in said) == (sentence is not None)
    assert sentence is None or sentence in said


def test_given_cells_are_classified_as_classify_does_and_nothing_is_fetched(
    demo, serve, pack, make_cells, tmp_path, tiny_model, capsys
):
    site = serve(pack())
    mine = make_cells(tmp_path / "mine", 70)
    status, said, _ = demo("--cells", str(tmp_path / "mine"), archive=site.url)
    assert status == 0
    assert said.startswith(f"The cells are yours: they were asked for: {tmp_path / 'mine'}.\n\nverdict ")
    assert "verdicts agree" not in said
    assert not site.asked
    assert [row["image"] for row in rows(tmp_path)] == [str(path) for path in mine]
    main(["classify", str(tmp_path / "mine"), "--model", str(tiny_model), "--output", str(tmp_path / "other.csv")])
    assert (tmp_path / "other.csv").read_bytes() == (tmp_path / "out" / "verdicts.csv").read_bytes()


def test_an_unreadable_picture_is_a_row_and_exit_status_1(demo, make_cells, tmp_path):
    make_cells(tmp_path / "mine", 2)
    (tmp_path / "mine" / "broken.png").write_bytes(b"nothing")
    status, said, _ = demo("--cells", str(tmp_path / "mine"))
    assert status == 1
    assert "1 unreadable" in said
    assert {row["verdict"] for row in rows(tmp_path) if "broken" in row["image"]} == {"unreadable"}


def test_it_leaves_a_table_its_record_and_a_contact_sheet_and_says_where(demo, tmp_path):
    _, said, _ = demo()
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"verdicts.csv", "verdicts.csv.run.json", "sheet.png"}
    assert f"Written: {out / 'verdicts.csv'} and {out / 'sheet.png'}." in said
    record = json.loads((out / "verdicts.csv.run.json").read_text())
    assert (record["complete"], record["counts"]["cells"]) == (True, 32)
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 500


def test_what_is_there_already_is_replaced_only_by_force(demo, tmp_path):
    assert demo()[0] == 0
    before = (tmp_path / "out" / "sheet.png").read_bytes()
    status, said, errors = demo()
    assert (status, said) == (2, "")
    assert "verdicts.csv exists already" in errors
    assert (tmp_path / "out" / "sheet.png").read_bytes() == before
    assert demo("--force")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "no/such/folder"], "no/such/folder does not exist"),
        (["--model", "no-model.onnx"], "no-model.onnx"),
        (["--archive", "ftp://example.org/x.zip"], "--archive is 'ftp://example.org/x.zip'; expected an address"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_status_2(demo, arguments, message):
    status, said, errors = demo(*arguments)
    assert (status, said) == (2, "")
    assert message in errors
    assert errors.count("\n") == 1


def test_an_output_that_is_a_file_is_refused_before_anything_is_fetched(demo, serve, pack, few_cells, tmp_path):
    site = serve(pack())
    (tmp_path / "out").write_text("a file")
    status, _, errors = demo(archive=site.url)
    assert (status, site.asked) == (2, [])
    assert "cannot make the folder" in errors
    assert errors.count("\n") == 1


def test_on_a_terminal_it_counts_what_has_come(demo, serve, pack, few_cells, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, _, errors = demo(archive=serve(pack()).url)
    assert "fetching cells" in errors
    assert "4/4" in errors


def test_help_fits_a_screen_and_has_examples(capsys):
    assert main(["demo", "--help"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 30
    assert said.count("\n  giemsa demo") == 2
