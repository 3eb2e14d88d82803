from __future__ import annotations

import pytest

from giemsa.words import counted


@pytest.mark.parametrize(
    ("number", "noun", "written"),
    [
        (0, "cell", "0 cells"),
        (1, "cell", "1 cell"),
        (15617, "cell", "15,617 cells"),
        (1, "box", "1 box"),
        (2, "box", "2 boxes"),
    ],
)
def test_a_number_agrees_with_its_noun(number, noun, written):
    assert counted(number, noun) == written
