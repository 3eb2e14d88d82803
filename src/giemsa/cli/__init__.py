"""The command line: `giemsa COMMAND ...`.

Each command is a module `giemsa.cli.NAME` with `EPILOG` (its examples), `add_arguments(parser)` and
`run(args) -> exit status`; `giemsa data split` is `giemsa.cli.data_split`. Only the module of the command that is
asked for is imported, and that module imports its heavy parts inside `run`, so that `giemsa classify` does not wait
for PyTorch, nor `--help` for anything. What commands share is in `_console` and `_options`.

Exit status: 0; 1 where something was unreadable; 2 for wrong use, or where something could not be read, made or
written; 70 for a fault of our own; 130 after an interruption.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

from giemsa.errors import GiemsaError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from giemsa.cli._parser import Parser

COMMANDS: Final[dict[str, str]] = {
    "classify": "classify cells as parasitized or uninfected",
    "smear": "count parasitized cells in photographs of whole fields",
    "demo": "classify two dozen cells to check that everything works",
    "data": "download, describe and split labelled cells",
    "recipes": "list the recipes, or show one layer by layer",
    "explain": "show where in a cell a model finds its evidence",
    "train": "train a recipe on labelled cells",
    "adapt": "adapt a model to a laboratory's own reviewed cells",
    "tune": "search for better settings of a recipe",
    "crossval": "cross-validate a recipe, each patient held out whole",
    "evaluate": "measure a model on labelled cells",
    "compare": "compare runs on the same cells and patients",
    "export": "write a finished run as one ONNX or TensorFlow Lite file",
    "serve": "serve the dashboard and the REST API",
    "review": "export reviewers' answers",
}
"""Every command and its line in `giemsa --help`."""

SUBCOMMANDS: Final[dict[str, dict[str, str]]] = {
    "data": {
        "download": "fetch the official cells (353 MB), verified and unpacked",
        "describe": "count, measure and look for leaks",
        "split": "divide cells by patient into a hold-out or folds",
    },
    "review": {"export": "write reviewers' answers as a CSV"},
}
"""The commands of each group and their lines in `giemsa GROUP --help`."""

ALONE_TOO: Final = frozenset({"smear"})
"""Commands that have commands below them and are one themselves."""

EXTRAS: Final[dict[str, str]] = dict.fromkeys(
    ("data", "recipes", "explain", "train", "crossval", "evaluate", "compare", "adapt", "tune", "export"), "lab"
) | dict.fromkeys(("serve", "review"), "web")
"""The extra that a command needs beyond the base installation."""

INTERRUPTED: Final = 130
WRONG_USE: Final = 2
OUR_FAULT: Final = 70  # EX_SOFTWARE of sysexits.h
_BROKEN_PIPE: Final = 141  # what a shell reports of a program that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments without the program's name; None means those of this process.

    Returns
    -------
    int
        The exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal's encoding lacks is escaped, not a crash
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in arguments
    with _interruptions() as interrupted:
        try:
            status = _run_to_its_end(arguments)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            _let_go_of_stdout()  # whoever read the output has closed it (`| head`)
            return _BROKEN_PIPE
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                raise
            status, said = _explain(error, interrupted=bool(interrupted))
            print(f"giemsa: {said}", file=sys.stderr)
            return status


def _run_to_its_end(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except SystemExit as stop:  # argparse has said what there is to say
        return stop.code if isinstance(stop.code, int) else WRONG_USE


def _explain(error: BaseException, *, interrupted: bool) -> tuple[int, str]:
    """Exit status for what ended a command, and a sentence about it."""
    if isinstance(error, GiemsaError):
        return WRONG_USE, str(error)
    # A library that is interrupted while it loads fails in a way of its own.
    if interrupted or isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    said = " ".join(str(error).split())
    if isinstance(error, OSError):
        said, where = error.strerror or said, error.filename
        # Files are named in such errors, or already in one of our own.
        if not _let_go_of_stdout() or (where is None and error.errno in _OF_A_STREAM):
            where = "cannot write to standard output"
        return WRONG_USE, said if where is None else f"{where}: {said}"
    for kind, sentence in _ORDINARY.items():
        if isinstance(error, kind):
            return WRONG_USE, sentence
    said = f"{type(error).__name__}: {said}"
    return OUR_FAULT, f"this should not happen: {said}; the same command with --debug shows where"


_OF_A_STREAM = (errno.ENOSPC, errno.EFBIG, errno.EBADF, errno.EIO)
# What a file or a machine does to a command, where no nearer place has said it better.
_ORDINARY: Final[dict[type[Exception], str]] = {
    MemoryError: "there is not enough memory; end other programs, or give less at a time",
    RecursionError: "a file that was read is nested too deeply; --debug shows where",
    UnicodeError: "a name or a file is no text in UTF-8; --debug shows where",
}


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Raise `KeyboardInterrupt` at Ctrl-C, as ever, and remember it."""
    seen: list[int] = []

    def interrupt(number: int, _frame: object) -> NoReturn:
        seen.append(number)
        raise KeyboardInterrupt

    try:
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            raise ValueError
        signal.signal(signal.SIGINT, interrupt)
    except ValueError:  # somebody else's, or not in the main thread
        yield seen
        return
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _open_closed_streams() -> None:
    """Stand in for standard streams that the caller has closed, so that using them is an error that can be named.

    Else the next file that is opened would take their place, and what is printed would go into it.
    """
    if sys.stdin is None:
        sys.stdin = open(os.open(os.devnull, os.O_WRONLY), closefd=False, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.open(os.devnull, os.O_WRONLY), "w", closefd=False, encoding="utf-8")  # noqa: SIM115


def _let_go_of_stdout() -> bool:
    """Write out what is left for standard output; where that fails, drop it, or Python would complain at its end.

    Returns
    -------
    bool
        Whether it could be written.
    """
    try:
        sys.stdout.flush()
        return True
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False


def _run(arguments: list[str]) -> int:
    name = _first_word(arguments)
    if name not in COMMANDS:
        return _run_without_command(arguments)
    arguments.remove(name)
    words = [name]
    below = _first_word(arguments)
    if below in SUBCOMMANDS.get(name, {}):
        arguments.remove(below)
        words.append(below)
    elif name in SUBCOMMANDS and name not in ALONE_TOO:
        return _run_without_subcommand(name, arguments)
    try:
        command = import_module(f"giemsa.cli.{'_'.join(words)}")
        summary = COMMANDS[name] if len(words) == 1 else SUBCOMMANDS[name][below]
        parser = _new_parser(" ".join(["giemsa", *words]), summary, command.EPILOG)
        command.add_arguments(parser)
        parser.add_general_options()
        parsed = parser.parse(arguments)
        parsed.command_line = _command_line(words, arguments)
        return int(command.run(parsed))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if isinstance(error, GiemsaError) or missing in ("", "giemsa") or name not in EXTRAS:
            raise
        raise MissingExtraError(
            f"`giemsa {' '.join(words)}` needs {missing}, which is not installed; install it with: "
            f"pip install 'giemsa[{EXTRAS[name]}]'"
        ) from error


def _first_word(arguments: list[str]) -> str:
    return next((argument for argument in arguments if argument != "--debug"), "")


def _new_parser(program: str, summary: str, epilog: str | None) -> Parser:
    from giemsa.cli._parser import Parser

    return Parser(program, summary, epilog)


def _run_without_command(arguments: list[str]) -> int:
    examples = "  giemsa classify cells/\n  giemsa classify cells.zip --output verdicts.csv\n"
    parser = _new_parser(
        "giemsa",
        "does a red blood cell on a Giemsa-stained thin smear carry a malaria parasite?",
        f"commands:\n{_listed(COMMANDS)}\nexamples:\n{examples}\n{_disclaimer()}",
    )
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="one of the commands below")
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_general_options()
    parsed, _ = parser.parse_known_args(arguments)
    if parsed.version:
        from giemsa import __version__

        print(f"giemsa {__version__}")
        return 0
    if parsed.command is not None:
        parser.error(f"there is no command {parsed.command!r}; expected one of {', '.join(COMMANDS)}")
    parser.print_help()
    return 0 if not arguments else WRONG_USE


def _run_without_subcommand(name: str, arguments: list[str]) -> int:
    """Help of a group of commands; its examples are the first ones of each command."""
    below = SUBCOMMANDS[name]
    parser = _new_parser(f"giemsa {name}", COMMANDS[name], f"commands:\n{_listed(below)}\nexamples:\n{_examples(name)}")
    parser.add_argument("command", metavar="COMMAND", help="one of the commands below")
    parser.add_general_options()
    parsed, _ = parser.parse_known_args(arguments)
    parser.error(f"there is no command {parsed.command!r}; expected {' or '.join(below)}")


def _listed(commands: dict[str, str]) -> str:
    width = max(map(len, commands)) + 2
    return "".join(f"  {name:<{width}}{text}\n" for name, text in commands.items())


def _examples(name: str) -> str:
    each = 1 if len(SUBCOMMANDS[name]) > 1 else 2
    lines = []
    for below in SUBCOMMANDS[name]:
        epilog = import_module(f"giemsa.cli.{name}_{below}").EPILOG
        lines += epilog.partition("examples:\n")[2].splitlines()[:each]
    return "\n".join(lines) + "\n"


def _command_line(words: list[str], arguments: list[str]) -> str:
    from shlex import quote

    from giemsa.words import printable

    return printable(" ".join(["giemsa", *words, *map(quote, arguments)]))


def _disclaimer() -> str:
    from giemsa.verdicts import DISCLAIMER

    return DISCLAIMER
