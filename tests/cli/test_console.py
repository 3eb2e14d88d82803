"""What all commands share: progress, notes, interruptions, subcommands and options."""

from __future__ import annotations

import io
import os
import signal
import sys
from importlib import import_module

import pytest

from giemsa.cli import ALONE_TOO, COMMANDS, SUBCOMMANDS, main
from giemsa.cli._console import interruptible, note, progress, warn, warnings_as_sentences
from giemsa.cli._options import add_data, add_threads
from giemsa.cli._parser import Parser


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_notes_and_warnings_go_to_standard_error(capsys):
    note("the sky is blue")
    warn("the sky falls")
    assert capsys.readouterr() == ("", "giemsa: note: the sky is blue\ngiemsa: warning: the sky falls\n")


def test_progress_draws_a_bar_for_each_stage(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    with progress() as show:
        show("read", 3, 12)
        show("fetch", 1_500_000, 3_000_000)
        advance_to = show.stage("P1")
        advance_to(1, 2)
        show.advance("P1", 1, 2)
        show.advance("unknown end")
    shown = terminal.getvalue()
    for said in ("reading", "3/12", "fetching", "1.5/3.0 MB", "P1", "2/2", "1/?"):
        assert said in shown


def test_progress_is_silent_where_there_is_no_terminal_or_no_wish_for_it(capsys, monkeypatch):
    with progress() as show:
        show("read", 3, 12)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(wanted=False) as show:
        show("read", 3, 12)
    assert capsys.readouterr() == ("", "")


def test_an_interruption_ends_with_130_and_says_what_is_left(capsys):
    closed = []

    def work():
        with interruptible(lambda: f"{len(closed)} file is closed"):
            try:
                raise KeyboardInterrupt
            finally:
                closed.append("one")

    with pytest.raises(SystemExit) as stopped:
        work()
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "giemsa: interrupted: 1 file is closed\n"


def test_a_termination_is_an_interruption_and_its_handler_is_put_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped, interruptible("nothing is left"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.code == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert capsys.readouterr().err == "giemsa: interrupted: nothing is left\n"


def test_only_our_own_warnings_become_sentences(capsys):
    import warnings

    from giemsa.errors import GiemsaWarning

    def work():
        with warnings_as_sentences():
            warnings.warn("ours", GiemsaWarning, stacklevel=1)
            warnings.warn("theirs", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="theirs"):
        work()
    assert capsys.readouterr().err == "giemsa: warning: ours\n"


@pytest.fixture
def parser():
    made = Parser("giemsa measure", "measure cells")
    add_data(made, bare_word=True)
    add_threads(made)
    made.add_general_options()
    return made


@pytest.mark.parametrize("arguments", [["cells", "--threads", "2"], ["--threads", "2", "cells"]])
def test_cells_without_their_option_are_understood_for_a_release_with_a_note(parser, arguments, capsys):
    assert str(parser.parse(arguments).data) == "cells"
    assert "giemsa: note: write --data cells: " in capsys.readouterr().err


def test_cells_with_their_option_need_no_note(parser, capsys):
    assert str(parser.parse(["--data", "cells"]).data) == "cells"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: --data"),
        (["one", "two"], "unrecognized arguments: one two"),
        (["--data", "one", "two"], "unrecognized arguments: two"),
        (["--nonsense", "cells"], "unrecognized arguments: --nonsense cells"),
        (["--data", "cells", "--threads", "0"], "argument --threads: '0' is given; expected a whole number of 1 or"),
        (["--data", "cells", "--threads", "two"], "argument --threads: 'two' is given; expected a whole number"),
    ],
)
def test_wrong_use_is_one_sentence(parser, arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        parser.parse(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"giemsa measure: {said}")
    assert error.count("\n") == 1


def test_usage_names_what_must_be_given_and_nothing_else(parser):
    assert parser.format_help().splitlines()[0] == "usage: giemsa measure --data DIR [options]"


EVERY_COMMAND = [[name] for name in COMMANDS if name not in SUBCOMMANDS or name in ALONE_TOO] + [
    [group, name] for group in SUBCOMMANDS for name in SUBCOMMANDS[group]
]


def test_the_same_option_takes_the_same_everywhere():
    taken = {}
    for words in EVERY_COMMAND:
        made = Parser(" ".join(words), "")
        import_module(f"giemsa.cli.{'_'.join(words)}").add_arguments(made)
        for action in made._actions:
            for option in action.option_strings:
                taken.setdefault(option, {}).setdefault((action.nargs, action.metavar), []).append(" ".join(words))
    del taken["--output"]  # a file, a folder or a run: its name says which
    assert len([option for option, ways in taken.items() if sum(map(len, ways.values())) > 1]) > 10
    assert {option: ways for option, ways in taken.items() if len(ways) > 1} == {}


@pytest.mark.parametrize("group", SUBCOMMANDS)
def test_a_group_lists_its_commands_with_two_examples_or_more(group, capsys):
    assert main([group, "--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in SUBCOMMANDS[group])
    assert said.count(f"\n  giemsa {group} ") >= 2
    assert len(said.splitlines()) <= 40


@pytest.mark.parametrize("arguments", [[], ["nonsense"]])
def test_a_group_without_a_command_is_wrong_use(arguments, capsys):
    assert main(["data", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("giemsa data: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [*([name] for name in SUBCOMMANDS), *EVERY_COMMAND])
def test_the_help_of_every_command_fits_a_screen_and_has_two_examples(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    if words[0] not in ("classify", "demo", "smear"):
        pytest.importorskip("torch")
    assert main([*words, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.count(f"\n  giemsa {' '.join(words)}") >= 2
    assert len(said.splitlines()) <= 40
