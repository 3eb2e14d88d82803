"""The command line around the commands: help, versions, errors, interruptions."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import giemsa
from giemsa import cli
from giemsa.cli import COMMANDS, EXTRAS, main
from giemsa.errors import GiemsaError, UsageError


@pytest.fixture
def command(monkeypatch):
    """`command(run)` puts a command `giemsa classify` in the place of the real one."""

    def install(run):
        module = SimpleNamespace(EPILOG="", add_arguments=lambda parser: parser.add_argument("--deep"), run=run)
        monkeypatch.setattr(cli, "import_module", lambda name: module)

    return install


def test_help_names_every_command_and_fits_a_screen(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for name, text in COMMANDS.items():
        assert f"  {name} " in said
        assert text in said
    assert len(said.splitlines()) < 35
    assert "no diagnosis without a qualified professional" in said


def test_no_arguments_give_the_help(capsys):
    assert main([]) == 0
    assert "commands:" in capsys.readouterr().out


def test_only_options_are_wrong_use(capsys):
    assert main(["--debug"]) == 2
    assert "commands:" in capsys.readouterr().out


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"giemsa {giemsa.__version__}\n"


def test_an_unknown_command_is_wrong_use_in_one_sentence(capsys):
    assert main(["clasify", "x.png"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no command 'clasify'; expected one of classify, smear, demo, data" in said


def test_wrong_arguments_are_wrong_use_in_one_sentence(capsys):
    for arguments in ([], ["--threads", "two", "x"], ["--nonsense", "x"], ["--resume", "--force", "x"]):
        assert main(["classify", *arguments]) == 2
        said = capsys.readouterr().err
        assert said.startswith("giemsa classify: ")
        assert said.count("\n") == 1
        assert "`giemsa classify --help` tells more" in said


def test_options_may_not_be_abbreviated(capsys):
    assert main(["classify", "x", "--out", "y.csv"]) == 2
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_two_examples(name, capsys):
    if name in EXTRAS:
        pytest.importorskip("torch")
    assert main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.count(f"giemsa {name}") >= 2
    assert len(said.splitlines()) <= 50


def test_errors_are_one_sentence_on_standard_error(command, capsys):
    def run(args):
        raise UsageError("x is 3; expected 4")

    command(run)
    assert main(["classify"]) == 2
    assert capsys.readouterr() == ("", "giemsa: x is 3; expected 4\n")


@pytest.mark.parametrize("arguments", [["--debug", "classify"], ["classify", "--debug"]])
def test_debug_shows_where_an_error_came_from(command, arguments):
    def run(args):
        raise UsageError("x")

    command(run)
    with pytest.raises(UsageError):
        main(arguments)


def test_a_missing_extra_names_the_command_that_installs_it(monkeypatch, capsys):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="torch.nn")

    monkeypatch.setattr(cli, "import_module", missing)
    assert main(["train"]) == 2
    assert capsys.readouterr().err == (
        "giemsa: `giemsa train` needs torch, which is not installed; install it with: pip install 'giemsa[lab]'\n"
    )


def test_a_missing_module_of_the_base_is_no_missing_extra(monkeypatch, capsys):
    def missing(name):
        raise ModuleNotFoundError(name="numpy")

    monkeypatch.setattr(cli, "import_module", missing)
    assert main(["classify"]) == 70
    assert "pip install" not in capsys.readouterr().err


def test_an_interruption_is_said(command, capsys):
    def run(args):
        raise KeyboardInterrupt

    command(run)
    assert main(["classify"]) == 130
    assert capsys.readouterr().err == "giemsa: interrupted\n"
    with pytest.raises(KeyboardInterrupt):
        main(["classify", "--debug"])


def test_a_command_knows_its_own_line(command):
    lines = []

    def run(args):
        lines.append(args.command_line)
        return 0

    command(run)
    assert main(["classify", "--deep", "two words"]) == 0
    assert lines == ["giemsa classify --deep 'two words'"]


def test_python_m_giemsa_is_the_same():
    done = subprocess.run([sys.executable, "-m", "giemsa", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"giemsa {giemsa.__version__}\n"


def test_a_closed_pipe_ends_the_command_quietly(tmp_path, make_cells, tiny_model):
    make_cells(tmp_path, 40, size=(20, 20))
    done = subprocess.run(
        ["bash", "-c", '"$0" -m giemsa classify "$1" --model "$2" | head -n 1; exit ${PIPESTATUS[0]}',
         sys.executable, str(tmp_path), str(tiny_model)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.startswith("verdict")
    assert done.returncode in (0, 141)  # all may have gone into the pipe before `head` closed it


def test_every_error_derives_from_the_base_and_from_a_builtin():
    def all_below(kind):
        return {kind}.union(*(all_below(below) for below in kind.__subclasses__()))

    for kind in all_below(GiemsaError) - {GiemsaError}:
        if kind.__module__ == "giemsa.errors":
            assert len(kind.__mro__) > len(GiemsaError.__mro__) + 1, kind


def test_a_fault_of_our_own_is_one_sentence_too(command, capsys):
    def run(_arguments):
        raise ZeroDivisionError("division\nby zero")

    command(run)
    assert main(["classify"]) == 70
    said = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero; the same command with --debug" in said
    assert len(said.splitlines()) == 1
    with pytest.raises(ZeroDivisionError):
        main(["classify", "--debug"])


def run(*arguments, shell, **options):
    """Run `giemsa` below a shell that redirects its streams."""
    command = f"{sys.executable} -m giemsa {shlex.join(arguments)} {shell}"
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["classify", "--help"], ["classify", "CELLS"], ["--version"]])
@pytest.mark.parametrize(("shell", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
def test_a_full_or_closed_standard_output_is_one_sentence(tmp_path, make_cells, arguments, shell, why, unbuffered):
    make_cells(tmp_path / "CELLS", 2)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = run(*arguments, shell=shell, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (2, f"giemsa: cannot write to standard output: {why}\n")


def test_a_closed_standard_output_does_not_matter_where_nothing_goes_there(tmp_path, make_cells, tiny_model):
    make_cells(tmp_path / "cells", 2)
    arguments = ["classify", "cells", "--model", str(tiny_model), "--output", "out.csv"]
    done = run(*arguments, shell=">&-", cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "out.csv").read_text().startswith("image,")
    assert (tmp_path / "out.csv").read_text().count("\n") == 3


def test_a_closed_standard_input_is_one_sentence():
    done = run("classify", "-", shell="<&-")
    assert (done.returncode, done.stderr) == (
        2, "giemsa: the list on standard input cannot be read: Bad file descriptor\n"
    )  # fmt: skip


@pytest.mark.parametrize("name", ["a" * 244, "a" * 250, "a" * 251, "a" * 300, os.fsdecode(b"lat\xe4n")])
@pytest.mark.parametrize("kind", ["--output", "--sheet", "picture"])
def test_names_of_any_length_and_bytes_are_taken_or_refused_in_one_sentence(
    tmp_path, make_cells, tiny_model, kind, name, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    make_cells(tmp_path / "cells", 2)
    ending = ".csv" if kind == "--output" else ".png"
    where = [name + ending] if kind == "picture" else ["cells", kind, name + ending]
    status = main(["classify", *where, "--model", str(tiny_model)])
    err = capsys.readouterr().err
    assert status in (0, 2)
    if status == 2:
        assert re.search("too long|does not exist", err)
        assert err.count("\n") == 1
    assert not list(tmp_path.glob(".giemsa*"))


class OfALibraryError(Exception):
    pass


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (MemoryError(), "there is not enough memory"),
        (RecursionError("maximum depth"), "nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "no text in UTF-8"),
        (PermissionError(13, "Permission denied", "/some/file"), "/some/file: Permission denied"),
    ],
)
def test_ordinary_faults_are_one_sentence_and_not_our_fault(command, capsys, raised, said):
    def run(args):
        raise raised

    command(run)
    assert main(["classify"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_an_interruption_that_a_library_turns_into_something_else_is_one(command, capsys):
    def run(args):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise OfALibraryError("numpy could not be imported") from None

    command(run)
    assert main(["classify"]) == 130
    assert capsys.readouterr().err == "giemsa: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
