"""The command line around the commands: help, versions, errors, interruptions."""

from __future__ import annotations

import subprocess
import sys
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
