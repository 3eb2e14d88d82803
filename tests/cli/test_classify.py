"""`giemsa classify`, through its front door."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from giemsa import ModelError, load
from giemsa.cli import main
from giemsa.verdicts import DISCLAIMER

GIEMSA = [sys.executable, "-m", "giemsa"]


@pytest.fixture
def cells(tmp_path, make_cells, monkeypatch):
    """A folder `cells` with 12 cells, every third parasitized, below the current one."""
    monkeypatch.chdir(tmp_path)
    return make_cells(tmp_path / "cells", 12, size=(40, 44))


@pytest.fixture
def classify(tiny_model, capsys):
    """`classify(...)` runs the command with the tiny model and gives (status, stdout, stderr)."""

    def run(*arguments):
        status = main(["classify", *map(os.fspath, arguments), "--model", str(tiny_model)])
        return status, *capsys.readouterr()

    return run


def read_csv(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def only_line(text):
    (line,) = text.splitlines()
    return line


def test_without_output_a_table_and_a_summary_are_printed(cells, classify, tiny_model):
    status, out, err = classify("cells")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0].split() == ["verdict", "p_parasitized", "image"]
    assert [line.split()[2] for line in lines[1:13]] == [f"cells/cell_{i:04d}.png" for i in range(12)]
    assert [line.split()[0] for line in lines[1:4]] == ["parasitized", "uninfected", "uninfected"]
    assert lines[14] == "12 cells: 4 parasitized, 8 uninfected, 0 unreadable."
    assert "CPUExecutionProvider" in lines[15]
    assert "SHA-256" in lines[15]
    assert "thread" in lines[15]
    assert lines[16] == DISCLAIMER
    assert "\x1b" not in out


def test_output_goes_to_a_file_and_the_summary_to_standard_error(cells, classify):
    status, out, err = classify("cells", "--output", "out.csv")
    assert (status, out) == (0, "")
    assert err.splitlines()[0] == "12 cells: 4 parasitized, 8 uninfected, 0 unreadable."
    assert "Written: out.csv." in err
    assert err.splitlines()[-1] == DISCLAIMER
    rows = read_csv("out.csv")
    assert list(rows[0]) == ["image", "verdict", "p_parasitized", "novelty", "reason"]
    assert [row["image"] for row in rows] == [str(path.relative_to(Path.cwd())) for path in cells]
    assert all(len(row["p_parasitized"].lstrip("0.")) >= 8 for row in rows)


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_other_tables_hold_the_same(cells, classify, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    classify("cells", "--output", "out.csv")
    status, _, _ = classify("cells", "--output", name)
    assert status == 0
    if name.endswith("jsonl"):
        rows = [json.loads(line) for line in Path(name).read_text().splitlines()]
    else:
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(name).to_pylist()
    assert [(r["image"], r["verdict"], repr(r["p_parasitized"])) for r in rows] == [
        (r["image"], r["verdict"], r["p_parasitized"]) for r in read_csv("out.csv")
    ]


def test_json_is_printed_for_programs(cells, classify):
    status, out, err = classify("cells", "--json")
    *rows, last = [json.loads(line) for line in out.splitlines()]
    assert (status, err, len(rows)) == (0, "", 12)
    assert last["summary"] == {"cells": 12, "parasitized": 4, "uninfected": 8, "unreadable": 0}
    assert last["disclaimer"] == DISCLAIMER
    assert len(last["model_sha256"]) == 64
    status, out, err = classify("cells", "--json", "--output", "out.csv")
    assert json.loads(only_line(out))["written"] == ["out.csv"]
    assert err == ""


def test_threads_do_not_change_verdicts_or_their_order(tmp_path, make_cells, classify):
    make_cells(tmp_path / "many", 150, size=(20, 20))
    for n in (1, 2, 5):
        assert classify(tmp_path / "many", "--threads", str(n), "--output", tmp_path / f"{n}.csv")[0] == 0
    one, two, five = ((tmp_path / f"{n}.csv").read_bytes() for n in (1, 2, 5))
    assert one == two == five


def test_every_kind_of_source_in_one_call(cells, classify, draw_cell, encode, monkeypatch):
    with zipfile.ZipFile("cells.zip", "w") as archive:
        archive.writestr("in/a.png", encode(draw_cell(True)))
    Path("b.jpg").write_bytes(encode(draw_cell(False), "JPEG"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"cells/cell_0003.png\n")))
    status, _, _ = classify("cells.zip", "b.jpg", "cells/*_0000.png", "-", "--output", "out.csv")
    rows = [(row["image"], row["verdict"]) for row in read_csv("out.csv")]
    assert status == 0
    assert rows == [
        ("cells.zip/in/a.png", "parasitized"),
        ("b.jpg", "uninfected"),
        ("cells/cell_0000.png", "parasitized"),
        ("cells/cell_0003.png", "parasitized"),
    ]


def huge_png():
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


BAD = {
    "empty.png": (lambda good: b"", "the file is empty"),
    "huge.png": (lambda good: huge_png(), "20,000 x 20,000 pixels; at most 50,000,000 are decoded"),
    "text.png": (lambda good: b"just some text", "no picture of a known kind"),
    "truncated.png": (lambda good: good[: len(good) // 2], "breaks off"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_a_row_and_the_rest_goes_on(cells, classify, name):
    make, said = BAD[name]
    Path("cells", name).write_bytes(make(cells[0].read_bytes()))
    status, _, err = classify("cells", "--output", "out.csv")
    assert status == 1
    assert "12 cells" not in err
    assert "13 cells: 4 parasitized, 8 uninfected, 1 unreadable." in err
    (row,) = [row for row in read_csv("out.csv") if row["verdict"] == "unreadable"]
    assert row["image"] == f"cells/{name}"
    assert said in row["reason"]
    assert (row["p_parasitized"], row["novelty"]) == ("", "")


def test_broken_links_and_loops_of_links_are_rows(cells, classify):
    Path("cells/broken.png").symlink_to("nowhere")
    Path("cells/x.png").symlink_to("y.png")
    Path("cells/y.png").symlink_to("x.png")
    Path("cells/up").symlink_to(".")
    status, _, err = classify("cells", "--output", "out.csv")
    assert status == 1
    reasons = {row["image"]: row["reason"] for row in read_csv("out.csv") if row["reason"]}
    assert list(reasons) == ["cells/broken.png", "cells/x.png", "cells/y.png"]
    assert "broken link" in reasons["cells/broken.png"]
    assert "leads back to itself" in reasons["cells/x.png"]
    assert "giemsa: note: the link cells/up was not followed" in err


def test_what_may_not_be_read_is_a_row(open_folder, unprivileged, make_cells, classify, tiny_model):
    paths = make_cells(open_folder / "cells", 3, size=(20, 20))
    paths[1].chmod(0)
    model = shutil.copy(tiny_model, open_folder / "tiny.onnx")
    classify(paths[0])  # what is imported lazily may not be open to everybody
    with unprivileged():
        arguments = ["classify", open_folder / "cells", "--output", open_folder / "out.csv", "--model", model]
        status = main([str(argument) for argument in arguments])
    assert status == 1
    rows = read_csv(open_folder / "out.csv")
    assert [row["verdict"] for row in rows] == ["parasitized", "unreadable", "uninfected"]
    assert "no permission" in rows[1]["reason"]


def test_a_model_that_may_not_be_read_is_one_sentence(open_folder, unprivileged, make_cells, classify, tiny_model):
    paths = make_cells(open_folder / "cells", 1, size=(20, 20))
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    model = shutil.copy(tiny_model, closed / "tiny.onnx")
    classify(paths[0])
    with unprivileged(), pytest.raises(ModelError, match="cannot be opened: Permission denied"):
        load(model)


def test_a_name_that_is_no_utf8_is_a_row_like_any_other(cells, classify):
    odd = Path("cells", os.fsdecode(b"caf\xe9.png"))
    cells[0].rename(odd)
    status, out, _ = classify("cells")
    assert status == 0
    assert r"cells/caf\xe9.png" in out
    status, _, _ = classify("cells", "--output", "out.csv")
    assert (status, read_csv("out.csv")[0]["image"]) == (0, r"cells/caf\xe9.png")
    assert classify("cells", "--output", "out.csv", "--resume")[0] == 0
    status, out, _ = classify(odd)
    assert (status, "parasitized" in out) == (0, True)


def test_hostile_archives_harm_nothing(tmp_path, classify, draw_cell, encode, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with zipfile.ZipFile("bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", encode(draw_cell(True)))
        archive.writestr("../../evil.png", encode(draw_cell(True)))
        with archive.open("bomb.png", "w") as file:
            for _ in range(200):
                file.write(bytes(2**20))
    status, _, _ = classify("bad.zip", "--output", "out.csv")
    rows = read_csv("out.csv")
    assert status == 1
    assert [row["verdict"] for row in rows] == ["parasitized", "unreadable", "unreadable"]
    assert "leads out of the archive" in rows[1]["reason"]
    assert "209,715,200 bytes; at most 134,217,728" in rows[2]["reason"]
    assert {path.name for path in tmp_path.rglob("*")} == {
        "work",
        "bad.zip",
        "out.csv",
        "out.csv.pictures",
        "out.csv.run.json",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing"], "missing does not exist"),
        (["cells", "missing.png"], "missing.png does not exist"),
        (["cells/*.tif"], "matches nothing"),
        (["empty"], "no pictures in empty"),
        (["cells", "--output", "out.txt"], "ends in .txt"),
        (["cells", "--output", "missing/out.csv"], "folder missing"),
        (["cells", "--output", "out.csv", "--sheet", "sheet.jpg"], "expected a name that ends in .png"),
        (["cells", "--threads", "0"], "argument --threads: '0' is given"),
        (["cells", "--resume"], "--resume needs --output"),
        (["cells", "--output", "out.parquet", "--resume"], "cannot be resumed"),
    ],
)
def test_wrong_use_stops_before_any_work(cells, classify, arguments, said):
    Path("empty").mkdir()
    status, out, err = classify(*arguments)
    assert (status, out) == (2, "")
    assert said in only_line(err)
    assert sorted(path.name for path in Path().iterdir()) == ["cells", "empty"]


def test_a_model_that_is_none_stops_before_any_work(cells, capsys):
    Path("model.onnx").write_text("this is text")
    assert main(["classify", "cells", "--model", "model.onnx", "--output", "out.csv"]) == 2
    assert "is no ONNX file" in only_line(capsys.readouterr().err)
    assert not Path("out.csv").exists()


def test_existing_files_are_not_overwritten_without_force(cells, classify):
    for option, name in (("--output", "out.csv"), ("--sheet", "sheet.png")):
        Path(name).write_text("precious")
        status, _, err = classify("cells", option, name)
        assert status == 2
        assert "exists already" in only_line(err)
        assert Path(name).read_text() == "precious"
    assert classify("cells", "--output", "out.csv", "--sheet", "sheet.png", "--force")[0] == 0
    assert len(read_csv("out.csv")) == 12


def test_a_contact_sheet_is_drawn(cells, classify):
    Path("cells/z.png").write_bytes(b"")
    status, out, _ = classify("cells", "--sheet", "sheet.png")
    sheet = np.asarray(Image.open("sheet.png"))
    assert status == 1
    assert "Written: sheet.png." in out
    for colour in ((213, 94, 0), (0, 114, 178)):
        assert (sheet == colour).all(-1).any()


def test_resume_goes_on_where_it_stopped_and_gives_the_same_bytes(cells, classify):
    Path("cells/cell_0001.png").write_bytes(b"")
    classify("cells", "--output", "whole.csv")
    classify("cells", "--output", "out.csv")
    whole = Path("whole.csv").read_bytes()
    Path("out.csv").write_bytes(whole[:-150])
    status, _, err = classify("cells", "--output", "out.csv", "--resume", "--sheet", "sheet.png")
    assert status == 1  # the unreadable one is among the rows that were there
    assert "12 cells: 4 parasitized, 7 uninfected, 1 unreadable." in err
    assert Path("out.csv").read_bytes() == whole
    assert json.loads(Path("out.csv.run.json").read_text())["complete"] is True
    assert Path("sheet.png").exists()
    assert classify("cells", "--output", "out.csv", "--resume")[0] == 1  # nothing left to do
    assert Path("out.csv").read_bytes() == whole


def test_resume_refuses_other_pictures(cells, classify):
    classify("cells", "--output", "out.csv")
    before = Path("out.csv").read_bytes()
    Path("cells/cell_0005.png").rename("cells/cell_0005a.png")
    status, _, err = classify("cells", "--output", "out.csv", "--resume")
    assert status == 2
    assert "row 6 is of cells/cell_0005.png and the picture there is cells/cell_0005a.png" in only_line(err)
    Path("cells/cell_0005a.png").rename("cells/cell_0005.png")
    Path("cells/cell_0011.png").unlink()
    status, _, err = classify("cells", "--output", "out.csv", "--resume")
    assert status == 2
    assert "row 12 is of cells/cell_0011.png and there are no more pictures" in only_line(err)
    assert Path("out.csv").read_bytes() == before


@pytest.mark.parametrize("kept_time", [False, True])
def test_resume_refuses_pictures_that_were_replaced_and_says_which(cells, classify, draw_cell, encode, kept_time):
    Path("cells/cell_0004.png").write_bytes(b"no picture")
    classify("cells", "--output", "out.csv")
    before = Path("out.csv").read_bytes(), Path("out.csv.run.json").read_bytes()
    changed = Path("cells/cell_0002.png")
    status = changed.stat()
    changed.unlink()
    changed.write_bytes(encode(draw_cell(True, size=(50, 50), seed=99)))
    if kept_time:
        os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    Path("cells/cell_0007.png").touch()  # no other bytes
    size = changed.stat().st_size
    exit_status, _, err = classify("cells", "--output", "out.csv", "--resume")
    assert exit_status == 2
    said = f"1 picture changed since the verdicts there: {changed} ({status.st_size:,} bytes then, {size:,} now);"
    assert said in only_line(err)
    assert (Path("out.csv").read_bytes(), Path("out.csv.run.json").read_bytes()) == before
    assert classify("cells", "--output", "out.csv", "--force")[0] == 1
    assert classify("cells", "--output", "out.csv", "--resume")[0] == 1


def test_resume_notices_a_replaced_archive_and_what_can_be_read_by_now(
    tmp_path, classify, draw_cell, encode, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    def pack(seeds):
        with zipfile.ZipFile("cells.zip", "w") as archive:
            for seed in seeds:
                archive.writestr(f"{seed % 10}.png", encode(draw_cell(True, size=(40, 40), seed=seed)))

    pack([1, 2])
    Path("late.png").write_bytes(b"")
    classify("cells.zip", "late.png", "--output", "out.csv")
    pack([1, 12])
    Path("late.png").write_bytes(encode(draw_cell(True, size=(40, 40))))
    status, _, err = classify("cells.zip", "late.png", "--output", "out.csv", "--resume")
    assert status == 2
    assert "2 pictures changed" in err
    assert "cells.zip/2.png" in err
    assert "cells.zip/1.png" not in err
    assert "late.png (0 bytes then, " in err


def test_a_table_without_what_is_known_of_its_pictures_is_resumed_by_names(cells, classify):
    classify("cells", "--output", "out.csv")  # as version 0.1.0 left it
    Path("out.csv.pictures").unlink()
    assert classify("cells", "--output", "out.csv", "--resume")[0] == 0


def test_force_keeps_what_is_there_until_the_new_table_is_complete(cells, classify, monkeypatch):
    from giemsa.classifier import Classifier

    classify("cells", "--output", "out.csv")
    before = Path("out.csv").read_bytes()
    classified = Classifier.classify_batches

    def interrupted(self, pictures):
        yield next(iter(classified(self, pictures)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Classifier, "classify_batches", interrupted)
    status, _, err = classify("cells", "--output", "out.csv", "--force")
    assert status == 130
    assert "12 rows are complete in out.csv.part, out.csv is as it was; continue with --resume" in only_line(err)
    assert Path("out.csv").read_bytes() == before


def test_names_that_are_no_utf8_do_not_cost_the_table_that_is_there(cells, classify):
    name = os.fsdecode(b"lat\xe4n.png")
    shutil.copy("cells/cell_0001.png", name)
    Path("precious.csv").write_text("precious")
    assert classify(name, "--output", "precious.csv", "--force")[0] == 0
    assert read_csv("precious.csv")[0]["image"] == "lat\\xe4n.png"
    assert "lat\\xe4n.png" in json.loads(Path("precious.csv.run.json").read_text())["command"]


def test_a_sheet_that_cannot_be_written_is_said_before_any_work(cells, classify, monkeypatch):
    monkeypatch.setattr("giemsa.classifier.Classifier.__init__", None)
    status, _, err = classify("cells", "--sheet", "/proc/sheet.png")
    assert status == 2
    assert "cannot write /proc/sheet.png: " in only_line(err)


def test_resume_refuses_another_model(cells, classify, write_model, tmp_path, capsys):
    classify("cells", "--output", "out.csv")
    other = write_model(tmp_path / "other.onnx", scale=500.0)
    assert main(["classify", "cells", "--output", "out.csv", "--resume", "--model", str(other)]) == 2
    assert "rows come from the model with SHA-256" in only_line(capsys.readouterr().err)


def test_a_full_disk_is_said_and_the_rows_before_it_are_complete(tmp_path, make_cells, tiny_model):
    make_cells(tmp_path / "cells", 300, size=(12, 12))

    def run(*options, size=resource.RLIM_INFINITY):
        return subprocess.run(
            [*GIEMSA, "classify", "cells", "--model", tiny_model, "--output", "out.csv", *options],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)),
        )  # fmt: skip

    done = run(size=8000)
    assert done.returncode == 2
    said = only_line(done.stderr)
    assert said.startswith("giemsa: cannot write out.csv: File too large; ")
    rows = read_csv(tmp_path / "out.csv")
    assert f"{len(rows)} rows are complete, so make room and continue with --resume" in said
    assert 0 < len(rows) < 300
    assert (tmp_path / "out.csv").read_bytes().endswith(b"\n")
    assert run("--resume").returncode == 0
    assert len(read_csv(tmp_path / "out.csv")) == 300
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cells", "out.csv", "out.csv.pictures", "out.csv.run.json"
    ]  # fmt: skip


def start(arguments, **options):
    return subprocess.Popen([*GIEMSA, "classify", *arguments], stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_what_is_complete_and_is_gone_on_with(tmp_path, make_cells, tiny_model, sent, classify):
    paths = make_cells(tmp_path / "cells", 300, size=(12, 12))
    listing = "".join(f"{path}\n" for path in paths)
    output = tmp_path / "out.csv"
    process = start(["-", "--model", tiny_model, "--output", output, "--threads", "2"], stdin=subprocess.PIPE)
    process.stdin.write("".join(f"{path}\n" for path in paths[:250]).encode())
    process.stdin.flush()  # and it stays open: the list goes on
    give_up = time.monotonic() + 120
    while not (output.exists() and output.read_bytes().count(b"\n") > 33) and time.monotonic() < give_up:
        time.sleep(0.02)
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    said = only_line(err.decode())
    rows = read_csv(output)
    assert process.returncode == 130
    assert said == f"giemsa: interrupted: {len(rows)} rows are complete in {output}; continue with --resume"
    assert json.loads(Path(f"{output}.run.json").read_text())["complete"] is False
    done = subprocess.run(
        [*GIEMSA, "classify", "-", "--model", tiny_model, "--output", output, "--resume"],
        input=listing.encode(), check=False,
    )  # fmt: skip
    assert done.returncode == 0
    classify(tmp_path / "cells", "--output", tmp_path / "whole.csv")
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_killed_run_is_gone_on_with(tmp_path, make_cells, tiny_model, classify):
    paths = make_cells(tmp_path / "cells", 400, size=(12, 12))
    output = tmp_path / "out.jsonl"
    process = start(["-", "--model", tiny_model, "--output", output], stdin=subprocess.PIPE)
    process.stdin.write("".join(f"{path}\n" for path in paths[:-20]).encode())
    process.stdin.flush()
    give_up = time.monotonic() + 120
    while not (output.exists() and output.read_bytes().count(b"\n") > 33) and time.monotonic() < give_up:
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=120)
    assert 33 < output.read_bytes().count(b"\n") < 400
    assert classify(tmp_path / "cells", "--output", output, "--resume")[0] == 0
    classify(tmp_path / "cells", "--output", tmp_path / "whole.jsonl")
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_interruption_without_a_file_or_with_parquet_says_so(cells, classify, monkeypatch):
    from giemsa.classifier import Classifier

    def interrupted(self, pictures):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Classifier, "classify_batches", interrupted)
    status, _, err = classify("cells")
    assert (status, only_line(err)) == (130, "giemsa: interrupted: the verdicts above are complete")
    pytest.importorskip("pyarrow")
    status, _, err = classify("cells", "--output", "out.parquet")
    assert status == 130
    assert "nothing was written, since Parquet is only complete at the end" in only_line(err)
    assert not Path("out.parquet").exists()


def test_progress_is_shown_on_a_terminal_and_not_in_a_pipe(cells, tiny_model):
    import pty

    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [*GIEMSA, "classify", "cells", "--model", tiny_model, "--output", "out.csv"],
        stderr=terminal, stdout=subprocess.DEVNULL, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(terminal)
    said = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        said += piece
    os.close(master)
    assert process.wait(timeout=60) == 0
    assert b"12/12" in said
    quiet = subprocess.run(
        [*GIEMSA, "classify", "cells", "--model", tiny_model, "--output", "again.csv"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert quiet.stdout == ""
    assert "12/12" not in quiet.stderr


def test_the_bar_knows_the_number_where_it_can_be_counted(cells, classify, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    status, _, err = classify("cells", "--output", "out.csv")
    assert status == 0
    assert "12/12" in err
    monkeypatch.setattr("giemsa.cli.classify._COUNT_AT_MOST", 5)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"cells\n")))
    assert "12/?" in classify("cells", "--output", "2.csv")[2]
    assert "12/?" in classify("-", "--output", "3.csv")[2]


def test_colours_are_for_terminals_that_want_them(cells, classify, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in classify("cells")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in classify("cells")[1]


def test_it_runs_outside_of_the_main_thread_too(cells, tiny_model):
    from threading import Thread

    status = []
    thread = Thread(target=lambda: status.append(main(["classify", "cells", "--model", str(tiny_model)])))
    thread.start()
    thread.join()
    assert status == [0]


@pytest.mark.parametrize("kind", ["tif", "jpg", "webp", "bmp"])
def test_other_kinds_of_files_say_nothing_on_standard_error(cells, tmp_path, tiny_model, draw_cell, encode, kind):
    pillow = {"tif": "TIFF", "jpg": "JPEG"}.get(kind, kind.upper())
    good = encode(draw_cell(True), pillow)
    Path(f"good.{kind}").write_bytes(good)
    Path(f"cut.{kind}").write_bytes(good[: len(good) // 2])
    done = subprocess.run(
        [*GIEMSA, "classify", f"good.{kind}", f"cut.{kind}", "--model", tiny_model],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["parasitized", "unreadable"]


def test_damaged_pictures_say_nothing_on_standard_error_but_in_their_rows(tmp_path, tiny_model, draw_cell, encode):
    (tmp_path / "cells").mkdir()
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))  # noqa: E731
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"no pixels") + chunk(b"IEND", b"")
    (tmp_path / "cells" / "idat.png").write_bytes(png)
    tiff = encode(draw_cell(True, size=(60, 60)), "TIFF", compression="tiff_lzw")
    (tmp_path / "cells" / "strip.tif").write_bytes(tiff[:200] + bytes(1_000) + tiff[1_200:])
    done = subprocess.run(
        [*GIEMSA, "classify", "cells", "--model", tiny_model, "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count('"unreadable"') >= 2


def test_nothing_is_left_in_the_home_and_nothing_is_sent(cells, tiny_model, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    # ONNX Runtime 1.29 and later keep an identifier and a store of events for their maker, unless told not to.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_", "CI"))}
    subprocess.run(
        [*GIEMSA, "classify", "cells", "--model", tiny_model],
        env=environment | {"HOME": str(home)}, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    assert list(home.rglob("*")) == []


@pytest.mark.shared
def test_real_cells_get_the_same_verdict_as_webp_and_as_png(shared_data, tmp_path, classify, encode):
    with tarfile.open(shared_data / "cells.tar") as archive:
        for _, member in zip(range(100), archive, strict=False):
            data = archive.extractfile(member).read()
            name = Path(member.name).stem
            for kind, content in (("webp", data), ("png", encode(Image.open(io.BytesIO(data)), "PNG"))):
                path = tmp_path / kind / f"{name}.{kind}"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
    for kind in ("webp", "png"):
        assert classify(tmp_path / kind, "--output", tmp_path / f"{kind}.csv")[0] == 0
    webp, png = (
        [(Path(row["image"]).stem, row["p_parasitized"]) for row in read_csv(tmp_path / f"{kind}.csv")]
        for kind in ("webp", "png")
    )
    assert webp == png
    assert len(png) == 100


@pytest.mark.usefixtures("cells")
def test_a_photograph_of_a_whole_field_among_cells_is_named(classify, encode, draw_cell):
    _, _, err = classify("cells")
    assert "too large" not in err
    Path("cells/field.png").write_bytes(encode(draw_cell(size=(900, 700))))
    status, _, err = classify("cells")
    assert status == 0
    assert "1 picture is too large for one cell, 600 px or more on the shorter side" in err
    assert "giemsa smear" in err
