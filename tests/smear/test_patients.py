"""Whose photographs are whose: folders are smears of their own."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from giemsa.smear.patients import by_folder
from giemsa.sources import Source


def apart(*names):
    return by_folder([Source(name, bytes) for name in names])


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        (["a.jpg", "b.jpg"], ["photographs"]),
        (["fields/a.jpg", "./fields/b.jpg"], ["fields"]),
        (["fields/a.jpg", "fields/B/a.jpg"], ["fields", "B"]),
        (["all.zip/P1/a.jpg", "all.zip/P2/a.jpg", "all.zip/P1/b.jpg"], ["P1", "P2"]),
        (["x/P1/day 1/a.jpg", "x/P1/day 2/a.jpg", "x/P2/a.jpg"], ["P1/day 1", "P1/day 2", "P2"]),
        (["a/P1/x.jpg", "b/P1/x.jpg"], ["a/P1", "b/P1"]),
        (["fields/x.jpg", "fields/fields/x.jpg"], ["fields", "fields (2)"]),
    ],
)
def test_smears_are_named_after_what_tells_their_folders_apart(names, patients):
    assert [one.patient for one in apart(*names)] == patients


def test_output_folders_can_be_made_on_every_system():
    found = apart("t/P:1/a.jpg", "t/p_1/a.jpg", "t/../../x/a.jpg", f"t/{'名' * 80}/b/a.jpg", "t/ends. /a.jpg")
    folders = [one.folder for one in found]
    assert len({folder.casefold() for folder in folders}) == 5
    assert folders[:2] == ["t_P_1", "t_p_1 (2)"]
    for folder in folders:
        assert 0 < len(folder.encode()) <= 255
        assert not set(folder) & set('<>:"/\\|?*')
        assert folder == folder.strip(". ")


parts = st.lists(st.sampled_from(["P1", "p1", "..", ".", "a b", "x" * 100]), max_size=4)


@given(st.lists(parts, min_size=1, max_size=12))
def test_no_photograph_is_lost_or_put_with_another_folders(folders):
    sources = [Source("/".join([*folder, f"{i}.jpg"]), bytes) for i, folder in enumerate(folders)]
    found = by_folder(sources)
    assert sorted(s.name for one in found for s in one.sources) == sorted(s.name for s in sources)
    assert len({one.folder.casefold() for one in found}) == len({one.patient.casefold() for one in found}) == len(found)
    for one in found:
        assert [s.name for s in one.sources] == [s.name for s in sources if s in one.sources]
        assert len({PurePosixPath(s.name).parent for s in one.sources if ".." not in s.name}) <= 1
