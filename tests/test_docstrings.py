"""The examples in docstrings say what really comes out, and the version and its citation agree."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

import giemsa

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "giemsa"
WITH_EXAMPLES = sorted(
    ".".join(["giemsa", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
NEEDS = {"giemsa.lab": "torch", "giemsa.web": "fastapi"}


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_give_what_they_say(name, tmp_path, monkeypatch):
    for room, library in NEEDS.items():
        if name.startswith(room):
            pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    done = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert done.failed == 0
    assert list(tmp_path.iterdir()) == []  # an example leaves nothing behind


def test_examples_are_run_and_not_all_skipped():
    finder = doctest.DocTestFinder(exclude_empty=True)
    run = [
        example
        for name in WITH_EXAMPLES
        if not name.startswith(tuple(NEEDS))
        for test in finder.find(import_module(name))
        for example in test.examples
        if not example.options.get(doctest.SKIP)
    ]
    assert len(run) >= 8


def test_the_citation_is_of_this_version():
    said = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", said, re.MULTILINE)[1] == giemsa.__version__
