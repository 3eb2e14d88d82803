"""A smear's folder: what is written comes back, one process at a time, and nothing is continued that has changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import giemsa
from giemsa.errors import OutputError
from giemsa.smear.pipeline import count_fields
from giemsa.smear.reading import SmearReader
from giemsa.smear.results import JudgedCell
from giemsa.smear.store import SmearFolder, TemporaryFields, rows_as_csv
from giemsa.smear.tally import Basis
from giemsa.sources import open_sources

OLD = Path(__file__).parents[1] / "files" / "smear-0.1.0"


@pytest.fixture(scope="module")
def shared_reader(tiny_model):
    return SmearReader(tiny_model, threads=1)


@pytest.fixture
def reader(shared_reader):
    return shared_reader


@pytest.fixture(scope="module")
def reads(shared_reader, fields_folder):
    return list(shared_reader.read_fields(open_sources([fields_folder])))


@pytest.fixture
def photographs(tmp_path, fields_folder):
    folder = tmp_path / "fields"
    folder.mkdir()
    for path in sorted(fields_folder.glob("*.jpg"))[:2]:
        shutil.copy(path, folder)
    return folder


def enter(folder, reader, **how):
    with SmearFolder(folder).opened(reader, **how):
        pass


def sources_of(folder):
    return list(open_sources([folder]))


def read_all(folder, reader, photographs):
    """Read all of a folder's photographs into a smear's folder; gives the sentences that were noted."""
    notes = []
    with folder.opened(reader, resume=folder.state.exists()):
        for read in reader.read_fields(folder.pending(sources_of(photographs), note=notes.append)):
            folder.add(read)
    return notes


def test_what_is_written_comes_back(tmp_path, reader, reads):
    folder = SmearFolder(tmp_path / "out")
    with folder.opened(reader):
        for read in reads:
            folder.add(read)
    assert list(folder.read_fields()) == reads
    assert list(folder) == [replace(read, picture=b"") for read in reads]
    assert all(len(read.stamp.digest) == 32 and read.stamp.size > 10_000 and read.stamp.changed_ns for read in reads)


def test_fields_kept_in_a_file_without_a_name_come_back(tmp_path, reads):
    with (tmp_path / "spool").open("w+b") as file:
        fields = TemporaryFields(file, pictures=True)
        for read in reads:
            fields.add(read)
        assert len(fields) == len(reads)
        assert list(fields) == list(fields) == reads
    with (tmp_path / "spool").open("w+b") as file:
        fields = TemporaryFields(file, pictures=False)
        fields.add(reads[0])
        assert next(iter(fields)).picture == b""


def test_negative_numbers_of_the_table_are_numbers():
    """And no formulas to be guarded against, as a field's name that begins with a minus is."""
    cell = JudgedCell("-a.jpg", 1, 2, 3, 4, 7.5, "uninfected", 1e-5, -3.934450149536133, -0.25)
    assert rows_as_csv((cell,)) == "'-a.jpg,1,2,3,4,7.5,uninfected,1e-05,-3.934450149536133,-0.25\n"


def test_folder_list_and_spool_give_the_same_count(tmp_path, reader, reads, fields_folder, tiny_model):
    folder = SmearFolder(tmp_path / "out")
    with folder.opened(reader):
        for read in reads:
            folder.add(read)
        summary = folder.finish(Basis(reader.model, patient="P1"), overlays=False)
    assert summary == count_fields(reads, Basis(reader.model, patient="P1"))
    assert summary == giemsa.read_smear(fields_folder, model=tiny_model, patient="P1", threads=1).summary
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["count"]["called"] == summary.count.called


def test_a_torn_last_line_is_read_again(tmp_path, reader, reads):
    folder = SmearFolder(tmp_path / "out")
    with folder.opened(reader):
        for read in reads[:2]:
            folder.add(read)
    with folder.state.open("ab") as file:
        file.write(b'{"field": "half')
    again = SmearFolder(tmp_path / "out")
    with again.opened(reader, resume=True):
        assert again.fields == 2
        again.add(reads[2])
    assert list(again.names()) == [read.field for read in reads]


@pytest.mark.parametrize("torn", [b"", b'{"giemsa_sm'])
def test_a_torn_first_line_is_written_again(tmp_path, reader, reads, torn):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fields.jsonl").write_bytes(torn)
    folder = SmearFolder(tmp_path / "out")
    with folder.opened(reader, resume=True):
        folder.add(reads[0])
    assert list(folder.names()) == [reads[0].field]
    assert folder.header()["model_sha256"] == reader.model.digest


def test_another_model_cannot_resume(tmp_path, reader, write_model):
    with SmearFolder(tmp_path / "out").opened(reader):
        pass
    other = SmearReader(write_model(tmp_path / "other.onnx", scale=900.0))
    with (
        pytest.raises(OutputError, match="cannot resume"),
        SmearFolder(tmp_path / "out").opened(other, resume=True),
    ):
        pass


@pytest.mark.parametrize(
    "line", ["[]", "3", '{"field": 3}', '{"field": "a.jpg"}', '{"field": "a.jpg", "cells": 7}', "[" * 100_000]
)
def test_a_damaged_line_ends_in_one_sentence(tmp_path, reader, line):
    folder = SmearFolder(tmp_path / "out")
    with folder.opened(reader):
        pass
    with folder.state.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(OutputError, match=r"damaged in line 2.*--force"):
        list(folder)


# ---------------------------------------------------------------------------------------------- what may be replaced


def test_a_folder_with_other_things_is_never_emptied(tmp_path, reader):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    for how in ({}, {"force": True}, {"resume": True}):
        with pytest.raises(OutputError, match="other things than a smear, such as thesis"):
            enter(tmp_path / "out", reader, **how)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_replacing_a_smear_leaves_what_is_not_of_it(tmp_path, reader, reads):
    folder = SmearFolder(tmp_path / "out")
    with folder.opened(reader):
        folder.add(reads[0])
    kept = {"holiday.jpg": b"mine", "decisions.json": b"{}"}
    for name, content in kept.items():
        (tmp_path / "out" / name).write_bytes(content)
    with folder.opened(reader, force=True):
        assert list(folder.names()) == []
    assert {name: (tmp_path / "out" / name).read_bytes() for name in kept} == kept
    assert list((tmp_path / "out" / "pictures").iterdir()) == []


@pytest.mark.parametrize("how", ["resume", "force"])
def test_a_folder_that_was_begun_on_a_full_disk_can_be_used_again(tmp_path, reader, how):
    """The folders were made, and the record could not be written."""
    for part in ("pictures", "overlays"):
        (tmp_path / "out" / part).mkdir(parents=True)
    for name in (".0123abcd-fields.jsonl", ".giemsa-0123456789ab-0123abcd.jsonl"):
        (tmp_path / "out" / name).write_bytes(b"")
    with SmearFolder(tmp_path / "out").opened(reader, **{how: True}):
        pass
    assert (tmp_path / "out" / "fields.jsonl").is_file()


def test_results_without_their_record_are_replaced_but_not_continued(tmp_path, reader, reads):
    folder = SmearFolder(tmp_path / "out")
    with folder.opened(reader):
        folder.add(reads[0])
        folder.finish(Basis(reader.model))
    folder.state.unlink()
    with (
        pytest.raises(OutputError, match=r"lacks fields\.jsonl.*replace it with --force"),
        folder.opened(reader, resume=True),
    ):
        pass
    assert (tmp_path / "out" / "cells.csv").is_file()
    with folder.opened(reader, force=True):
        pass
    assert not (tmp_path / "out" / "cells.csv").exists()


def test_a_place_that_cannot_be_is_refused(tmp_path, reader):
    for place, said in (
        (tmp_path / "no" / "out", "does not exist; make it first"),
        (tmp_path / ("x" * 300), "cannot make the folder"),
    ):
        with pytest.raises(OutputError, match=said), SmearFolder(place).opened(reader):
            pass


@pytest.mark.parametrize("name", ["𠀀" * 60, "名" * 82, "x" * 251, "Ж" * 120])
def test_long_names_in_any_alphabet_are_kept(tmp_path, reader, reads, name):
    folder = SmearFolder(tmp_path / "out")
    with folder.opened(reader):
        folder.add(replace(reads[0], field=f"{name}.jpg"))
    assert next(folder.read_fields()).picture == reads[0].picture


# ------------------------------------------------------------------------------------------------ what has changed


def test_the_same_photographs_are_not_read_again(tmp_path, reader, photographs):
    folder = SmearFolder(tmp_path / "out")
    assert read_all(folder, reader, photographs) == []
    for path in photographs.iterdir():
        os.utime(path, (1, 1))  # copied anew, say
    with folder.opened(reader, resume=True):
        assert folder.pending(sources_of(photographs), note=pytest.fail) == []


def test_a_photograph_that_was_replaced_meanwhile_is_told(tmp_path, reader, photographs):
    folder = SmearFolder(tmp_path / "out")
    read_all(folder, reader, photographs)
    first, second = sorted(photographs.iterdir())
    size, before = first.stat().st_size, first.stat()
    shutil.copyfile(second, first)
    os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))  # its time says nothing
    with pytest.raises(OutputError, match=rf"{first.name} has changed since it was read: {size:,} bytes then"):
        read_all(folder, reader, photographs)
    first.unlink()
    with pytest.raises(OutputError, match=r"the photograph there is .*02"):
        read_all(folder, reader, photographs)


def test_a_photograph_that_could_not_be_read_then_is_told_once_it_can(tmp_path, reader, photographs):
    gone = photographs / "a.jpg"
    gone.symlink_to(tmp_path / "nowhere.jpg")
    folder = SmearFolder(tmp_path / "out")
    read_all(folder, reader, photographs)
    assert read_all(folder, reader, photographs) == []
    shutil.copyfile(photographs / "drawn_field_01.jpg", tmp_path / "nowhere.jpg")
    with pytest.raises(OutputError, match="unreadable then"):
        read_all(folder, reader, photographs)


def test_a_smear_of_version_0_1_0_still_opens(tmp_path):
    shutil.copytree(OLD, tmp_path / "out")
    folder = SmearFolder(tmp_path / "out")
    header = folder.header()
    reader = SimpleNamespace(model=SimpleNamespace(digest=header["model_sha256"]), cell_diameter_px=None)
    summary = json.loads((OLD / "summary.json").read_text())
    (read,) = folder.read_fields()
    assert len(read.cells) == summary["count"]["red_cells"]
    assert read.picture[:2] == b"\xff\xd8"
    notes = []
    with folder.opened(reader, resume=True):
        source = SimpleNamespace(name=read.field, read=None, path="")
        assert folder.pending([source], note=notes.append) == []
    assert "did not record the photographs' digests" in notes[0]
    model = SimpleNamespace(digest=header["model_sha256"], card=SimpleNamespace(name=summary["model"]))
    counted = count_fields(folder, Basis(model))
    assert counted.count.called == summary["count"]["called"]
    assert counted.reference_centre == pytest.approx(summary["reference_centre"])


# ------------------------------------------------------------------------------------------------ one process at a time

_SECOND = """
import sys, time
from types import SimpleNamespace
from giemsa.smear.results import JudgedCell
from giemsa.smear.store import SmearFolder
reader = SimpleNamespace(model=SimpleNamespace(digest=sys.argv[2]), cell_diameter_px=None)
with SmearFolder(sys.argv[1]).opened(reader, resume=True):
    print("held", flush=True)
    time.sleep(600)
"""


def test_two_processes_cannot_write_to_one_folder(tmp_path, reader):
    """The other one is killed: its lock must not outlive it."""
    out = tmp_path / "out"
    other = subprocess.Popen(
        [sys.executable, "-c", _SECOND, str(out), reader.model.digest], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        for how in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(OutputError, match=r"is being written by another process|exists already"):
                enter(out, reader, **how)
        other.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        other.wait(30)
        with SmearFolder(out).opened(reader, resume=True):
            pass
    finally:
        other.kill()
        other.wait(30)


def test_two_commands_into_one_folder_count_every_field_once(tmp_path, photographs, tiny_model, reader):
    """Both start at once; one of them may be refused, and none may count a field that the other has counted."""
    command = [sys.executable, "-m", "giemsa", "smear", str(photographs), "--output", str(tmp_path / "out"),
               "--resume", "--no-overlays", "--model", str(tiny_model), "--threads", "1"]  # fmt: skip
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert 0 in [process.returncode for process in both]
    for process, sentence in zip(both, said, strict=True):
        assert process.returncode == 0 or (
            process.returncode == 2 and "is being written by another process" in sentence
        )
    assert len(list(SmearFolder(tmp_path / "out").names())) == 2
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["fields"] == 2
