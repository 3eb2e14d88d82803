"""The parser of one command's arguments: one sentence for wrong use, and help that fits a screen."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from giemsa.cli import WRONG_USE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import SupportsWrite


class Parser(argparse.ArgumentParser):
    """An argument parser that reports wrong use in one sentence and writes a short usage line."""

    def __init__(self, prog: str, summary: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=summary[:1].upper() + summary[1:] + ("" if summary.endswith("?") else "."),
            epilog=epilog,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self._positionals.title = "arguments"
        self._once_a_bare_word: argparse.Action | None = None

    def accept_bare_word(self, action: argparse.Action) -> None:
        """Let a bare word stand for a required option, as it did in 0.1.0, with a note on standard error.

        To be removed in 0.3.0.
        """
        self._once_a_bare_word = action

    def add_general_options(self) -> None:
        """Add --debug and --help, which every command takes."""
        self.add_argument("--debug", action="store_true", help="show where an error came from")
        self.add_argument("-h", "--help", action="help", help="show this help")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Values of all arguments; wrong use ends the program with exit status 2."""
        option = self._once_a_bare_word
        if option is None:
            return self.parse_args(arguments)
        option.required = False
        try:
            parsed, left = self.parse_known_args(arguments)
        finally:
            option.required = True
        name = option.option_strings[0]
        words = [word for word in left if word != "--"]
        if len(words) == 1 and not words[0].startswith("-") and getattr(parsed, option.dest) is None:
            from giemsa.cli._console import note

            note(f"write {name} {words[0]}: {option.metavar} without {name} will not be understood from 0.3.0 on")
            setattr(parsed, option.dest, self._get_value(option, words[0]))
        elif words:
            self.error(f"unrecognized arguments: {' '.join(words)}")
        if getattr(parsed, option.dest) is None:
            self.error(f"the following arguments are required: {name}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Report wrong use and leave with exit status 2."""
        self.exit(WRONG_USE, f"{self.prog}: {message}; `{self.prog} --help` tells more\n")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print, and do not pass over an output that is full or closed."""
        (file or sys.stderr).write(message)

    def format_usage(self) -> str:
        """The usage line alone."""
        return f"usage: {self._usage_line()}\n"

    def format_help(self) -> str:
        """Usage, description, arguments and examples."""
        self.usage = self._usage_line().replace("%", "%%")
        return super().format_help()

    def _usage_line(self) -> str:
        """What must be given, and that there is more: `giemsa train RECIPE --data DIR --output RUN [options]`."""
        words = [self.prog]
        positional = [action for action in self._actions if not action.option_strings]
        for action in positional:
            name = str(action.metavar or action.dest)
            words.append({"?": f"[{name}]", "+": f"{name} [{name} ...]"}.get(str(action.nargs), name))
        required = [a for a in self._actions if a.option_strings and (a.required or a is self._once_a_bare_word)]
        words += map(_named, required)
        for group in self._mutually_exclusive_groups:
            if group.required:
                words.append(f"({' | '.join(_named(action) for action in group._group_actions)})")
        return " ".join([*words, "[options]"])


def _named(option: argparse.Action) -> str:
    return " ".join(filter(None, [option.option_strings[0], str(option.metavar or "")]))


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help in columns that leave the words room."""

    def __init__(self, prog: str) -> None:
        import shutil

        width = min(shutil.get_terminal_size((100, 24)).columns - 2, 110)
        super().__init__(prog, max_help_position=27, width=width)
