"""Writing files: whole or not at all, and by one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from giemsa.errors import OutputError
from giemsa.files import lock, lock_path

HOLD = """
import sys, time
from giemsa.files import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds a path, and end it."""
    started = []

    def hold(path):
        process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("kind", ["a file that is not there yet", "a file", "a folder"])
def test_a_path_that_another_process_holds_is_refused_in_a_sentence_that_names_it(tmp_path, holder, kind):
    path = tmp_path / "verdicts.csv"
    if kind == "a file":
        path.write_text("rows")
    elif kind == "a folder":
        path.mkdir()
    other = holder(path)
    with pytest.raises(OutputError, match=rf"verdicts\.csv is being written .*process {other.pid} on "), lock(path):
        pytest.fail("two processes hold it")


def test_a_lock_is_free_once_its_holder_is_killed_and_leaves_nothing_when_it_is_let_go(tmp_path, holder):
    path = tmp_path / "verdicts.csv"
    other = holder(path)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert lock_path(path).exists()
    with lock(path):
        assert str(os.getpid()) in lock_path(path).read_text()
    assert list(tmp_path.iterdir()) == []


def test_two_threads_of_one_process_do_not_hold_the_same_path(tmp_path):
    with lock(tmp_path), pytest.raises(OutputError, match=str(os.getpid())), lock(tmp_path):
        pytest.fail("both hold it")


def test_names_of_any_length_and_bytes_can_be_held(tmp_path):
    for name in ("a" * 255, os.fsdecode(b"lat\xe4n.csv")):
        with lock(tmp_path / name):
            assert lock_path(tmp_path / name).exists()


def test_a_path_in_a_folder_that_is_not_there_cannot_be_held(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*gone"), lock(tmp_path / "gone" / "verdicts.csv"):
        pytest.fail("it is held")
