"""`giemsa data`, as it is typed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from giemsa.cli import main
from giemsa.data import download
from giemsa.data.index import read_index
from giemsa.data.splits import read_split


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keep tests out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def picture(number: int) -> bytes:
    """Encode a small cell that is like no other."""
    shades = np.random.default_rng(number).integers(90, 255, (4, 4, 3), dtype=np.uint8)
    done, data = cv2.imencode(".png", cv2.resize(shades, (24, 22)))
    assert done
    return data.tobytes()


@pytest.fixture
def tree(tmp_path):
    """Six infected patients with four cells each and two donors with three."""
    root = tmp_path / "cells"
    number = 0
    for patient in range(8):
        name = f"C{patient}P{patient}thinF" if patient < 6 else f"C{patient}ThinF"
        for cell in range(4 if patient < 6 else 3):
            folder = root / ("Parasitized" if patient < 6 and cell < 2 else "Uninfected")
            folder.mkdir(parents=True, exist_ok=True)
            number += 1
            (folder / f"{name}_IMG_{cell}_cell_{number}.png").write_bytes(picture(number))
    return root


@pytest.fixture
def reviewed(tree, tmp_path):
    """A second reading that disputes one cell."""
    path = tmp_path / "reviewed.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "official", "reviewed"])
        for number, cell in enumerate(read_index(tree)):
            writer.writerow([cell.file.rsplit("/")[-1], cell.label, "uninfected" if number == 0 else cell.label])
    return path


def data(*arguments):
    return main(["data", *map(str, arguments)])


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def rows_of(table: str) -> dict[str, list[str]]:
    """Read the rows of a printed table by their first word or words."""
    rows = {}
    for line in table.splitlines():
        words = re.split(r"\s{2,}", line.strip())
        if len(words) > 2:
            rows[words[0]] = words[1:]
    return rows


def test_describe_counts_classes_patients_and_donors(tree, reviewed, capsys):
    assert data("describe", "--data", tree, "--reviewed", reviewed) == 0
    output = capsys.readouterr().out
    assert f"{tree} (official tree): 30 cells, 12 parasitized and 18 uninfected, of 8 patients" in output
    assert rows_of(output)["all"] == ["30", "12", "18", "1", "8", "2", "6"]
    assert rows_of(output)["C0P0thinF"] == ["4", "2", "2", "1", "1", "0", "0"]
    assert "sizes: 24 to 24 px wide (median 24), 22 to 22 px high (median 22)" in output
    assert "copies: 0 pictures more than once, byte for byte; 0 pictures near-identical" in output


def test_describe_prints_json(tree, capsys):
    assert data("describe", "--data", tree, "--json", "--identical-only") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["whole"]["cells"] == 30
    assert content["digest"] == read_index(tree).digest


def test_describe_says_what_is_wrong_and_ends_with_1(tree, capsys):
    folder = tree / "Uninfected"
    (folder / "bad.png").write_bytes(b"bad")
    first = next((tree / "Parasitized").iterdir())
    (folder / first.name).write_bytes(first.read_bytes())
    assert data("describe", "--data", tree) == 1
    output = capsys.readouterr().out
    assert "Uninfected/bad.png: " in output
    assert f"identical (two labels): Parasitized/{first.name} = Uninfected/{first.name}" in output
    assert "- 1 picture under both labels: one of them is wrong" in output


def test_describe_lists_ten_and_says_how_many_more_there_are(tree, capsys):
    for number in range(13):
        (tree / "Uninfected" / f"bad{number}.png").write_bytes(b"bad")
    assert data("describe", "--data", tree) == 1
    assert "and 3 more unreadable; --json lists them all" in capsys.readouterr().out


def test_describe_sums_up_many_patients_unless_all_are_asked_for(tmp_path, capsys):
    for folder in ("Parasitized", "Uninfected"):
        (tmp_path / folder).mkdir()
    for number in range(50):
        folder = tmp_path / ("Parasitized" if number % 2 else "Uninfected")
        (folder / f"C{number // 2}P{number // 2}thinF_IMG_1_cell_{number}.png").write_bytes(picture(number))
    assert data("describe", "--data", tmp_path, "--identical-only") == 0
    summary = "cells per patient: 2 to 2 (median 2); parasitized ones in 25 patients, 1 to 1 each; --patients lists"
    assert summary in capsys.readouterr().out
    assert data("describe", "--data", tmp_path, "--identical-only", "--patients") == 0
    assert "C24P24thinF" in capsys.readouterr().out


def test_describe_says_where_patients_are_not_known(tmp_path, capsys):
    for number, folder in enumerate(("Infected", "Healthy")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(picture(number))
    assert data("describe", "--data", tmp_path) == 0
    output = capsys.readouterr().out
    assert "of unknown patients" in output
    assert "- patients are not known: cells of one person may stand on both sides of a split" in output


def test_describe_writes_a_report_and_figures_and_replaces_none(tree, tmp_path, capsys):
    command = ("describe", tree, "--output", tmp_path / "about", "--figure", tmp_path / "classes.svg")
    assert data(*command) == 0
    assert json.loads((tmp_path / "about" / "description.json").read_text())["whole"]["cells"] == 30
    assert (tmp_path / "about" / "classes.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "classes.svg").read_bytes()
    assert f"Written: {tmp_path / 'classes.svg'}" in capsys.readouterr().err
    assert data(*command) == 2
    assert "exists already" in capsys.readouterr().err
    assert data(*command, "--force") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figure", "classes.jpeg"], "the figure classes.jpeg ends in '.jpeg'; expected .png, .svg or .pdf"),
        (["--figure", "classes"], "ends in 'nothing'"),
        (["--split", "nowhere.json"], "nowhere.json: the split cannot be read"),
        (["--reviewed", "nowhere.csv"], "nowhere.csv: the reviewed labels cannot be read"),
        (["--positive-class", "ring"], "no class is called 'ring'"),
    ],
)
def test_describe_refuses_what_makes_no_sense(tree, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert data("describe", "--data", tree, *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("giemsa: ")
    assert said.count("\n") == 1


def test_describe_refuses_a_folder_for_output_that_cannot_be_made(tree, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert data("describe", "--data", tree, "--output", tmp_path / "file" / "about") == 2
    assert "cannot be made (Not a directory); name another one" in capsys.readouterr().err


def test_split_makes_folds_by_patient(tree, tmp_path, capsys):
    assert data("split", "--data", tree, "--folds", 2, "--output", tmp_path / "split.json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    rows = rows_of(said.out)
    assert rows["fold 0"] == rows["fold 1"] == ["15", "6", "9", "4", "1", "3"]
    split = read_split(tmp_path / "split.json")
    assert split.n_folds == 2
    assert f"split.json: split by patient, seed 0, digest {split.digest[:12]}" in said.out


def test_split_makes_a_hold_out_that_describe_takes(tree, tmp_path, capsys):
    output = tmp_path / "split.json"
    assert data("split", "--data", tree, "--validation", 0.25, "--test", 0.25, "--seed", 3, "--output", output) == 0
    capsys.readouterr()
    assert data("describe", "--data", tree, "--split", output) == 0
    rows = rows_of(capsys.readouterr().out)
    assert sum(int(rows[name][0]) for name in ("train", "validation", "test")) == 30
    assert [rows[name][rows["split by patient"].index("patients")] for name in ("train", "validation", "test")] == [
        "4", "2", "2",
    ]  # fmt: skip
    assert "split by patient" in rows


def test_split_prints_what_it_made_as_json(tree, tmp_path, capsys):
    output = tmp_path / "split.json"
    assert data("split", "--data", tree, "--folds", 2, "--output", output, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["digest"] == read_split(output).digest
    assert content["data_digest"] == read_index(tree).digest
    assert [part["name"] for part in content["parts"]] == ["0", "1"]
    assert sum(part["cells"] for part in content["parts"]) == content["whole"]["cells"] == 30


def test_split_by_image_warns_of_what_leaks(tree, tmp_path, capsys):
    assert data("split", "--data", tree, "--by", "image", "--output", tmp_path / "split.json") == 0
    said = capsys.readouterr()
    assert re.search(r"^giemsa: warning: split by image: \d of 8 patients have cells on several sides", said.err)
    assert re.search(r"- \d patients in more than one part \(split by image\): figures will be too good", said.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds", "2", "--test", "0.1"], "--folds excludes --validation and --test"),
        (["--by", "folder", "--validation", "0.1"], "--by folder takes the parts as they are"),
        (["--by", "folder"], "in no folder called train, valid or test"),
        (["--folds", "99"], "8 patients cannot fill 99 parts; ask for fewer"),
        (["--validation", "1.5"], "leave nothing to divide"),
        (["--by", "cell"], "invalid choice"),
    ],
)
def test_split_refuses_what_makes_no_sense(tree, tmp_path, capsys, arguments, message):
    assert data("split", "--data", tree, *arguments, "--output", tmp_path / "split.json") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "split.json").exists()


def test_split_replaces_no_file_unasked(tree, tmp_path, capsys):
    output = tmp_path / "split.json"
    output.write_text("mine")
    assert data("split", "--data", tree, "--output", output) == 2
    assert output.read_text() == "mine"
    assert data("split", "--data", tree, "--output", output, "--force") == 0


def test_progress_is_shown_on_a_terminal_only(tree, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert data("describe", "--data", tree) == 0
    shown = terminal.getvalue()
    assert all(stage in shown for stage in ("reading", "decoding", "comparing"))
    assert "reading" not in capsys.readouterr().out


@pytest.fixture
def served(tmp_path, tree, monkeypatch):
    """A small archive on a real server, taken for the official one."""
    file = tmp_path / "served" / "cell_images.zip"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(tree.glob("*/*.png")):
            archive.write(path, f"cell_images/{path.parent.name}/{path.name}")
    content = file.read_bytes()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            """Be silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=file.parent))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/cell_images.zip"
    archive = download.Archive(url, len(content), hashlib.sha256(content).hexdigest(), 30)
    monkeypatch.setattr(download, "OFFICIAL", archive)
    yield archive
    server.shutdown()
    server.server_close()


def test_download_fetches_once(served, tree, tmp_path, capsys):
    assert data("download", tmp_path / "data") == 0
    folder = tmp_path / "data" / "cell_images"
    assert f"30 cells in {folder}, verified by their archive's SHA-256 {served.sha256}" in capsys.readouterr().out
    assert read_index(folder).digest == read_index(tree).digest
    assert data("download", tmp_path / "data") == 0
    assert capsys.readouterr().out == f"{folder} is complete with 30 cells: nothing to do\n"
    assert data("download", tmp_path / "data", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["folder"], content["cells"], content["was_complete"]) == (str(folder), 30, True)


def test_download_shows_how_far_it_is(served, tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert data("download", tmp_path / "data", "--keep-archive") == 0
    assert "fetching" in terminal.getvalue()
    assert "unpacking" in terminal.getvalue()
    assert (tmp_path / "data" / "cell_images.zip").exists()


def test_download_takes_another_place_but_no_other_bytes(served, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "OFFICIAL", replace(served, url="http://127.0.0.1:1/"))
    assert data("download", tmp_path / "data", "--url", served.url) == 0
    monkeypatch.setattr(download, "OFFICIAL", replace(served, sha256="0" * 64))
    assert data("download", tmp_path / "other", "--url", served.url) == 2
    assert f"expected {served.size:,} bytes and {'0' * 64}" in capsys.readouterr().err


def test_an_interrupted_download_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "download", interrupted)
    assert data("download", tmp_path) == 130
    assert capsys.readouterr().err == (
        f"giemsa: interrupted: what has been fetched is kept in {tmp_path}; continue with the same command\n"
    )


@pytest.mark.parametrize("action", ["download", "describe", "split"])
def test_help_fits_a_screen_and_has_two_examples(action, capsys):
    assert data(action, "--help") == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 40
    assert len(re.findall(rf"^  giemsa data {action} ", text, re.MULTILINE)) == 2


def test_debug_is_taken_behind_the_action_too(tmp_path):
    from giemsa.errors import SourceError

    with pytest.raises(SourceError):
        data("describe", "--data", tmp_path / "nowhere", "--debug")


def test_warnings_of_others_stay_as_they_are(tree, tmp_path, monkeypatch):
    import warnings

    from giemsa.data import index

    def warn_and_read(*arguments, **options):
        warnings.warn("something else", UserWarning, stacklevel=1)
        return read_index(*arguments, **options)

    monkeypatch.setattr(index, "read_index", warn_and_read)
    with pytest.warns(UserWarning, match="something else"):
        assert data("split", "--data", tree, "--output", tmp_path / "split.json") == 0
