"""Writes what the site takes from the code itself: each command's `--help`, under `reference/commands.md`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_given: Any) -> str:  # noqa: ANN401
    """Return the page with every command's help in the place of `MARK`."""
    return markdown.replace(MARK, _commands()) if MARK in markdown else markdown


def _commands() -> str:
    from giemsa.cli import COMMANDS, SUBCOMMANDS

    parts = []
    for name in COMMANDS:
        parts.append(f"## giemsa {name}\n\n```text\n{_help(name)}\n```\n")
        for below in SUBCOMMANDS.get(name, {}):
            parts.append(f"### giemsa {name} {below}\n\n```text\n{_help(name, below)}\n```\n")
    return "\n".join(parts)


def _help(*words: str) -> str:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    asked = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "giemsa", *words, "--help"], env=environment, capture_output=True, text=True, check=True
    )
    return asked.stdout.rstrip()
