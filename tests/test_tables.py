"""Verdicts are written so that nothing is lost, silent or mixed."""

from __future__ import annotations

import builtins
import csv
import dataclasses
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from giemsa import tables
from giemsa.errors import MissingExtraError, OutputError, UsageError
from giemsa.spreadsheets import guarded, unguarded
from giemsa.tables import COLUMNS, RunRecord, Summary, open_table, record_path, rows_as_text
from giemsa.verdicts import DISCLAIMER, VERDICTS, Verdict

ROW_KINDS = [".csv", ".jsonl"]


@pytest.fixture
def record():
    return RunRecord("tiny", "ab" * 32, "CPUExecutionProvider", 2, 0.5, "0.1.0", "giemsa classify x")


def verdict(i, **changes):
    fields = {"image": f"cell {i}.png", "verdict": "parasitized", "p_parasitized": 1 / (i + 2), "logit": 0.5}
    return Verdict(**fields | changes)


ROWS = [
    verdict(0, image='a,"b"\\xff.png'),
    verdict(1, verdict="uninfected", p_parasitized=1 - 1e-12),
    verdict(2, p_parasitized=1e-300, novelty=0.123456789012),
    Verdict("ä/细胞.png", "unreadable", reason='the file is "empty", or so'),
    Verdict("#4", "unreadable", reason="x"),
]


def write(path, record, rows, *, finish=True, **options):
    with open_table(path, record, **options) as table:
        list(table.existing())
        for start in range(0, len(rows), 2):
            table.write(rows[start : start + 2])
        if finish:
            summary = Summary()
            summary.add(rows)
            table.finish(summary)
    return path


def read(path):
    """Read a table by means of others."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            for key in ("p_parasitized", "novelty"):
                row[key] = float(row[key]) if row[key] else None
        return rows
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


def as_rows(verdicts):
    return [{key: getattr(v, key) for key in COLUMNS} for v in verdicts]


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_rows_come_back_with_all_their_digits(tmp_path, record, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = write(tmp_path / f"out{suffix}", record, ROWS)
    assert read(path) == as_rows(ROWS)
    assert list(read(path)[0]) == list(COLUMNS)


@pytest.mark.parametrize("suffix", ROW_KINDS)
def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path, record, suffix):
    path = tmp_path / f"out{suffix}"
    with open_table(path, record) as table:
        for i, row in enumerate(ROWS):
            table.write([row])
            assert read(path) == as_rows(ROWS[: i + 1])


@pytest.mark.parametrize("suffix", ROW_KINDS)
def test_a_record_beside_the_table_says_what_was_used_and_whether_it_is_complete(tmp_path, record, suffix):
    path = tmp_path / f"out{suffix}"
    write(path, record, ROWS, finish=False)
    beside = record_path(path)
    assert beside.name == f"out{suffix}.run.json"
    assert json.loads(beside.read_text())["complete"] is False
    write(path, record, ROWS, force=True)
    said = json.loads(beside.read_text())
    assert said["complete"] is True
    assert said["counts"] == {"cells": 5, "parasitized": 2, "uninfected": 1, "unreadable": 2}
    assert (said["model_sha256"], said["provider"], said["threads"]) == ("ab" * 32, "CPUExecutionProvider", 2)
    assert said["disclaimer"] == DISCLAIMER


@pytest.mark.parametrize("suffix", ROW_KINDS)
@pytest.mark.parametrize("torn", [1, 5, 30])
def test_a_torn_last_row_is_dropped_and_the_rest_goes_on(tmp_path, record, suffix, torn):
    whole = write(tmp_path / f"whole{suffix}", record, ROWS)
    path = write(tmp_path / f"out{suffix}", record, ROWS[:3], finish=False)
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - torn)
    with open_table(path, record, resume=True) as table:
        there = list(table.existing())
        assert [v.image for v in there] == [v.image for v in ROWS[:2]]
        assert there[1].p_parasitized == ROWS[1].p_parasitized
        table.write(ROWS[2:])
        assert table.rows == 5
        table.finish(Summary())
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("suffix", ROW_KINDS)
@settings(max_examples=40, deadline=None)
@given(kept=st.floats(0, 1), data=st.data())
def test_a_table_cut_anywhere_is_resumed_to_the_same_bytes(tmp_path_factory, record_values, suffix, kept, data):
    record = RunRecord(*record_values)
    text = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=9)
    rows = data.draw(st.lists(st.builds(Verdict, text, st.sampled_from(VERDICTS), st.none() | st.floats(0, 1),
                                        st.none(), st.none() | st.floats(0, 1), text), max_size=6))  # fmt: skip
    folder = tmp_path_factory.mktemp("tables")
    whole = write(folder / f"whole{suffix}", record, rows)
    path = write(folder / f"out{suffix}", record, rows, finish=False)
    with path.open("rb+") as file:
        file.truncate(int(kept * path.stat().st_size))
    with open_table(path, record, resume=True) as table:
        there = list(table.existing())
        assert as_rows(there) == as_rows(rows[: len(there)])
        table.write(rows[len(there) :])
    assert path.read_bytes() == whole.read_bytes()


@pytest.fixture(scope="module")
def record_values():
    return ("tiny", "ab" * 32, "CPUExecutionProvider", 2, 0.5, "0.1.0")


@pytest.mark.parametrize("suffix", ROW_KINDS)
def test_resuming_where_there_is_nothing_begins(tmp_path, record, suffix):
    path = write(tmp_path / f"out{suffix}", record, ROWS, resume=True)
    assert read(path) == as_rows(ROWS)


@pytest.mark.parametrize("suffix", ROW_KINDS)
def test_rows_of_another_model_are_not_mixed_in(tmp_path, record, suffix):
    path = write(tmp_path / f"out{suffix}", record, ROWS)
    before = path.read_bytes(), record_path(path).read_bytes()
    other = RunRecord("tiny", "cd" * 32, "CPUExecutionProvider", 2, 0.5, "0.1.0")
    with pytest.raises(OutputError, match="rows come from the model with SHA-256 abababababab and this one has cdcdcd"):
        open_table(path, other, resume=True)
    assert (path.read_bytes(), record_path(path).read_bytes()) == before


@pytest.mark.parametrize("content", [None, "", "{}", "[]", "null"])
def test_a_table_without_its_record_is_not_resumed(tmp_path, record, content):
    path = write(tmp_path / "out.csv", record, ROWS)
    record_path(path).unlink()
    if content is not None:
        record_path(path).write_text(content)
    with pytest.raises(OutputError, match=r"its record out\.csv\.run\.json.* is missing or damaged; start anew"):
        open_table(path, record, resume=True)


@pytest.mark.parametrize(
    ("suffix", "content", "said"),
    [
        (".csv", "image,verdict\n", "first line is not image,verdict,p_parasitized"),
        (".csv", ",".join(COLUMNS) + "\na,b\n", "row 1 has 2 columns instead of 5"),
        (".csv", ",".join(COLUMNS) + "\na,maybe,0.5,,\n", "row 1 has an unknown verdict 'maybe'"),
        (".csv", ",".join(COLUMNS) + "\na,uninfected,half,,\n", "row 1 has could not convert"),
        (".csv", ",".join(COLUMNS) + '\n"a"b,uninfected,0.5,,\n', "it is no CSV"),
        (".jsonl", "text\n", "line 1 is no JSON"),
        (".jsonl", "[1]\n", "line 1 has not the columns"),
        (".jsonl", '{"image": "a"}\n', "line 1 has not the columns"),
    ],
)
def test_a_file_that_is_no_table_of_verdicts_is_not_resumed(tmp_path, record, suffix, content, said):
    path = write(tmp_path / f"out{suffix}", record, [])
    path.write_text(content)
    with open_table(path, record, resume=True) as table, pytest.raises(OutputError, match=said):
        list(table.existing())
    assert path.read_text() == content


@pytest.mark.parametrize("suffix", ROW_KINDS)
def test_what_is_there_stays_when_it_turns_out_not_to_fit(tmp_path, record, suffix):
    path = write(tmp_path / f"out{suffix}", record, ROWS)
    before = path.read_bytes(), record_path(path).read_bytes()
    with open_table(path, record, resume=True) as table:
        next(table.existing())  # and then the pictures turn out to be others
    assert (path.read_bytes(), record_path(path).read_bytes()) == before


def test_a_table_that_a_spreadsheet_has_saved_again_is_still_resumed(tmp_path, record):
    path = write(tmp_path / "out.csv", record, ROWS)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with open_table(path, record, resume=True) as table:
        assert as_rows(table.existing()) == as_rows(ROWS)


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_an_existing_table_is_not_overwritten_unasked(tmp_path, record, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = write(tmp_path / f"out{suffix}", record, ROWS)
    with pytest.raises(OutputError, match="exists already; name another one or replace it with --force"):
        open_table(path, record)
    write(path, record, ROWS[:1], force=True)
    assert read(path) == as_rows(ROWS[:1])


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("out.txt", UsageError, r"ends in \.txt; expected \.csv, \.jsonl or \.parquet"),
        ("out", UsageError, "ends in nothing"),
        ("missing/out.csv", OutputError, "folder .*missing .*does not exist"),
        ("folder.csv", OutputError, "is a folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused(tmp_path, record, name, error, said):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(error, match=said):
        open_table(tmp_path / name, record)


def test_an_output_that_may_not_be_written_is_refused(open_folder, record, unprivileged):
    open_folder.chmod(0o755)
    with unprivileged(), pytest.raises(OutputError, match=r"cannot write .*out\.csv: Permission denied"):
        open_table(open_folder / "out.csv", record)


@contextmanager
def room_for(size):
    """Let no file of this process grow beyond `size` bytes, as if the disk were full there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", ROW_KINDS)
def test_a_full_disk_leaves_complete_rows_that_can_be_gone_on_with(tmp_path, record, suffix):
    rows = [verdict(i) for i in range(100)]
    path = tmp_path / f"out{suffix}"

    def fill():
        with open_table(path, record) as table, room_for(2000):
            for row in rows:
                table.write([row])

    with pytest.raises(OutputError, match=r"cannot write .*: File too large; \d+ rows are complete, so make room"):
        fill()
    there = read(path)
    assert there == as_rows(rows[: len(there)])
    assert 10 < len(there) < 100
    with open_table(path, record, resume=True) as table:
        assert len(list(table.existing())) == len(there)
        table.write(rows[len(there) :])
    assert read(path) == as_rows(rows)


@pytest.mark.parametrize("suffix", ROW_KINDS)
def test_a_device_is_no_output(tmp_path, record, suffix):
    path = tmp_path / f"out{suffix}"
    path.symlink_to("/dev/full")
    with pytest.raises(OutputError, match="is no regular file"):
        open_table(path, record, force=True)


@pytest.mark.parametrize("suffix", ROW_KINDS)
def test_a_table_that_is_replaced_stays_until_the_new_one_is_complete(tmp_path, record, suffix):
    path = write(tmp_path / f"out{suffix}", record, ROWS)
    before = path.read_bytes()
    write(path, record, ROWS[:2], force=True, finish=False)
    assert path.read_bytes() == before
    assert json.loads(record_path(path).read_text())["complete"] is True
    path.rename(tmp_path / "old")
    with pytest.raises(OutputError, match=r"part is there already, of a command that was interrupted"):
        open_table(path, record)
    (tmp_path / "old").rename(path)
    with open_table(path, record, resume=True) as table:  # goes on with what was begun
        assert as_rows(table.existing()) == as_rows(ROWS[:2])
        table.write(ROWS[2:4])
        assert path.read_bytes() == before
        table.finish(Summary())
    assert read(path) == as_rows(ROWS[:4])
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, record_path(path).name]


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_two_processes_do_not_write_one_table(tmp_path, record, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = write(tmp_path / f"out{suffix}", record, ROWS)
    with (
        open_table(path, record, force=True) as table,
        pytest.raises(OutputError, match=r"being written by another process \(process \d+ on "),
        open_table(path, record, force=True),
    ):
        pytest.fail("both write")
    del table
    assert write(path, record, ROWS, force=True).exists()  # the lock is free again


@pytest.mark.parametrize("how", ["removed", "replaced"])
@pytest.mark.parametrize("when", ["before a row", "before the end"])
def test_a_table_that_vanishes_meanwhile_is_said(tmp_path, record, how, when):
    path = tmp_path / "out.csv"
    with open_table(path, record) as table:
        table.write(ROWS[:2])
        path.unlink()
        if how == "replaced":
            path.write_text("something else")
        with pytest.raises(OutputError, match="removed or replaced while it was being written, and its 2 rows"):
            table.write(ROWS[2:]) if when == "before a row" else table.finish(Summary())


def test_a_link_to_a_table_stays_a_link(tmp_path, record):
    target = write(tmp_path / "target.csv", record, ROWS)
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    write(link, record, ROWS[:2], force=True)
    assert link.is_symlink()
    assert read(target) == as_rows(ROWS[:2])


def test_names_and_commands_that_are_no_utf8_are_written_as_escapes(tmp_path, record):
    name = os.fsdecode(b"lat\xe4n.csv")
    odd = dataclasses.replace(record, command=f"giemsa classify {name}")
    path = write(tmp_path / name, odd, ROWS)
    assert read(path) == as_rows(ROWS)
    said = json.loads(record_path(path).read_text(encoding="utf-8"))
    assert (said["table"], said["command"]) == ("lat\\xe4n.csv", "giemsa classify lat\\xe4n.csv")


def test_a_name_too_long_for_what_stands_beside_it_is_refused(tmp_path, record):
    for length in (247, 252, 300):
        with pytest.raises(OutputError, match="File name too long"):
            open_table(tmp_path / f"{'a' * (length - 4)}.csv", record)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["=1+1", "+a", "-1+1", "@sum", "\tx", "\rx", "'=1", "''@", "\uff1dx", "'quoted'"])
def test_what_a_spreadsheet_would_run_is_text_and_comes_back(tmp_path, record, name):
    path = write(tmp_path / "out.csv", record, [Verdict(name, "unreadable", reason=name)])
    with path.open(newline="", encoding="utf-8") as file:
        (_, row) = csv.reader(file)
    assert all(cell[:1] not in "=+-@\t\r\uff1d" for cell in row if cell)
    with open_table(path, record, resume=True) as table:
        assert list(table.existing()) == [Verdict(name, "unreadable", reason=name)]


@given(st.text())
@example("'-1.5")
@example("'=1")
def test_guarding_is_undone_exactly(text):
    assert unguarded(guarded(text)) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_stay_numbers(number):
    assert guarded(repr(number)) == repr(number)
    assert guarded(f"{number:.9g}") == f"{number:.9g}"


def test_hidden_parts_of_killed_processes_are_removed_by_the_next(tmp_path, record):
    pytest.importorskip("pyarrow")
    path = tmp_path / "out.parquet"
    program = (
        "import os, signal, sys; from giemsa.tables import *; from giemsa.verdicts import Verdict\n"
        "table = open_table(sys.argv[1], RunRecord('m', 'ab' * 32, 'CPU', 1, 0.5, '0')).__enter__()\n"
        "table.write([Verdict('a', 'unreadable')]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, path], check=False)
    assert len(list(tmp_path.iterdir())) == 2  # the part, and the lock that nobody holds
    write(path, record, ROWS)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_no_half_parquet(tmp_path, record):
    pytest.importorskip("pyarrow")
    path = tmp_path / "out.parquet"

    def fill():
        with open_table(path, record) as table, room_for(100):
            table.write([verdict(i) for i in range(1000)])
            table.finish(Summary())

    with pytest.raises(OutputError, match="cannot write"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_parquet_appears_when_it_is_finished_and_says_what_was_used(tmp_path, record, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(tables, "_ROW_GROUP", 10)
    path = tmp_path / "out.parquet"
    rows = [verdict(i) for i in range(35)]
    with open_table(path, record) as table:
        assert list(table.existing()) == []
        for row in rows:
            table.write([row])
        assert not path.exists()
        table.finish(Summary())
    assert read(path) == as_rows(rows)
    file = parquet.ParquetFile(path)
    assert file.num_row_groups == 4
    said = file.metadata.metadata
    assert json.loads(said[b"giemsa"])["model_sha256"] == "ab" * 32
    assert json.loads(said[b"giemsa_counts"])["cells"] == 0


def test_parquet_that_was_not_finished_leaves_nothing(tmp_path, record):
    pytest.importorskip("pyarrow")

    def interrupted():
        with open_table(tmp_path / "out.parquet", record) as table:
            table.write(ROWS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with open_table(tmp_path / "out.parquet", record) as table:
        table.write(ROWS)
    assert list(tmp_path.iterdir()) == []


def test_parquet_cannot_be_resumed(tmp_path, record):
    with pytest.raises(UsageError, match=r"cannot be resumed.*use \.csv or \.jsonl"):
        open_table(tmp_path / "out.parquet", record, resume=True)


def test_parquet_without_pyarrow_names_the_command_that_installs_it(tmp_path, record, monkeypatch):
    true_import = builtins.__import__

    def without_pyarrow(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(name=name)
        return true_import(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("pyarrow")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(MissingExtraError, match=r"pip install 'giemsa\[parquet\]'"):
        open_table(tmp_path / "out.parquet", record)


def test_the_terminal_shows_no_certainty_that_is_none():
    shown = rows_as_text([verdict(0, p_parasitized=p) for p in (0.0, 1e-9, 0.12344, 0.99999, 1.0)])
    assert [line.split()[1] for line in shown.splitlines()] == ["<0.0001", "<0.0001", "0.1234", ">0.9999", ">0.9999"]


def test_the_terminal_says_why_something_is_unreadable():
    (line,) = rows_as_text([Verdict("x.png", "unreadable", reason="the file is empty")]).splitlines()
    assert line.split() == ["unreadable", "-", "x.png:", "the", "file", "is", "empty"]


def test_colours_stand_beside_words():
    for row in ROWS:
        shown = rows_as_text([row], colour=True)
        assert shown.startswith("\x1b[")
        assert row.verdict in shown
        assert "\x1b" not in rows_as_text([row])


def test_a_summary_counts_and_says_it():
    summary = Summary()
    summary.add(ROWS)
    summary.add([Verdict("x", "not_a_cell")])
    assert (summary.cells, summary.unreadable) == (6, 2)
    assert summary.sentence() == "6 cells: 2 parasitized, 1 uninfected, 1 not a cell, 2 unreadable."
    assert Summary().sentence() == "0 cells: 0 parasitized, 0 uninfected, 0 unreadable."
