"""The command line: `giemsa COMMAND ...`.

Each command is a module `giemsa.cli.NAME` with `HELP`, perhaps `EPILOG` (its examples), `add_arguments(parser)`
and `run(args) -> exit status`. Only the module of the command that is asked for is imported, and that module
imports its heavy parts inside `run`, so that `giemsa classify` does not wait for PyTorch, nor `--help` for
anything.

Exit status: 0; 1 where something was unreadable; 2 for wrong use, or where something could not be read, made or
written; 70 for a fault of our own; 130 after an interruption.
"""

from __future__ import annotations

import argparse
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

    from _typeshed import SupportsWrite

COMMANDS: Final[dict[str, str]] = {
    "classify": "say of cells whether they are parasitized",
    "smear": "count parasitized cells in photographs of whole fields",
    "demo": "classify two dozen cells, to see that everything works",
    "data": "download, describe and split labelled cells",
    "recipes": "list the recipes, or show one layer by layer",
    "explain": "show where a model sees what it says",
    "train": "train a recipe on labelled cells",
    "adapt": "adapt a model to a laboratory's own reviewed cells",
    "tune": "search a recipe's settings",
    "crossval": "cross-validate a recipe, patients grouped",
    "evaluate": "measure a model on labelled cells",
    "compare": "compare runs on the same cells and patients",
    "export": "write a finished run as one file, ONNX or TensorFlow Lite",
    "serve": "serve the dashboard and the REST API",
    "review": "export what reviewers answered",
}
"""Every command and its line in `giemsa --help`."""

EXTRAS: Final[dict[str, str]] = dict.fromkeys(
    ("data", "recipes", "explain", "train", "crossval", "evaluate", "compare", "adapt", "tune", "export"), "lab"
) | dict.fromkeys(("serve", "review"), "web")
"""The extra that a command needs beyond the base installation."""

INTERRUPTED: Final = 130
WRONG_USE: Final = 2
OUR_FAULT: Final = 70  # EX_SOFTWARE of sysexits.h
_BROKEN_PIPE: Final = 141  # what a shell reports of a program that SIGPIPE ended


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Say it and leave with exit status 2."""
        self.exit(WRONG_USE, f"{self.prog}: {message}; `{self.prog} --help` tells more\n")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print, and do not pass over an output that is full or closed."""
        (file or sys.stderr).write(message)


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
    """Give the exit status for what ended a command, and a sentence about it."""
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
    name = next((argument for argument in arguments if argument != "--debug"), None)
    if name not in COMMANDS:
        return _run_without_command(arguments)
    arguments.remove(name)
    try:
        command = import_module(f"giemsa.cli.{name}")
        parser = Parser(
            prog=f"giemsa {name}",
            description=_sentence(command.HELP),
            epilog=getattr(command, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(parser)
        parser.add_argument("--debug", action="store_true", help="show where an error came from")
        parsed = parser.parse_args(arguments)
        parsed.command_line = _command_line(name, arguments)
        return int(command.run(parsed))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if isinstance(error, GiemsaError) or missing in ("", "giemsa") or name not in EXTRAS:
            raise
        raise MissingExtraError(
            f"`giemsa {name}` needs {missing}, which is not installed; install it with: "
            f"pip install 'giemsa[{EXTRAS[name]}]'"
        ) from error


def _run_without_command(arguments: list[str]) -> int:
    width = max(map(len, COMMANDS)) + 2
    parser = Parser(
        prog="giemsa",
        usage="giemsa COMMAND ... [--help]",
        description="Does a red blood cell on a Giemsa-stained thin smear carry a malaria parasite?",
        epilog="commands:\n"
        + "".join(f"  {name:<{width}}{text}\n" for name, text in COMMANDS.items())
        + "\nexamples:\n  giemsa classify cells/\n  giemsa classify cells.zip --output verdicts.csv\n\n"
        + _disclaimer(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="one of the commands below")
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    parsed, _ = parser.parse_known_args(arguments)
    if parsed.version:
        from giemsa import __version__

        print(f"giemsa {__version__}")
        return 0
    if parsed.command is not None:
        parser.error(f"there is no command {parsed.command!r}; expected one of {', '.join(COMMANDS)}")
    parser.print_help()
    return 0 if not arguments else WRONG_USE


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _command_line(name: str, arguments: list[str]) -> str:
    from shlex import quote

    from giemsa.words import printable

    return printable(" ".join(["giemsa", name, *map(quote, arguments)]))


def _disclaimer() -> str:
    from giemsa.verdicts import DISCLAIMER

    return DISCLAIMER
