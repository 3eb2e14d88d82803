"""Which cells the demo takes, and what it says about it."""

from __future__ import annotations

import dataclasses

import pytest

from giemsa.demo import Known, choose_cells
from giemsa.demo import choice as choice_module
from giemsa.demo import fetch as fetch_module
from giemsa.errors import SourceError


@pytest.fixture(autouse=True)
def few_cells(monkeypatch, cells):
    monkeypatch.setattr(fetch_module, "real_cells", lambda: cells)


def test_given_cells_are_taken_without_a_look_at_the_network(serve, pack, tmp_path, png_of):
    (tmp_path / "mine.png").write_bytes(png_of(1))
    site = serve(pack())
    choice = choose_cells(tmp_path, archive=site.url, folder=tmp_path / "cache")
    assert (choice.kind, choice.why) == ("given", f"they were asked for: {tmp_path}")
    assert [source.name for source in choice.sources] == [str(tmp_path / "mine.png")]
    assert not site.asked


def test_given_cells_that_are_not_there_are_an_error_and_nothing_else_is_shown_instead(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        choose_cells(tmp_path / "nothing")


def test_real_cells_come_from_the_network_first_and_from_the_cache_then(serve, pack, cells, tmp_path, png_of):
    site = serve(pack())
    first = choose_cells(archive=site.url, folder=tmp_path)
    assert first.kind == "real"
    assert first.why.startswith(f"fetched 4 of them from {site.url} (0.0 MB in ")
    assert first.why.endswith(f" range requests) and kept in {tmp_path}")
    again = choose_cells(archive=site.url, folder=tmp_path)
    assert (again.kind, again.why) == ("real", f"they are in the cache {tmp_path}")
    for choice in (first, again):
        assert [(source.name, source.read()) for source in choice.sources] == [
            (cell.name, png_of(seed)) for seed, cell in enumerate(cells)
        ]
        assert [choice.known[cell.name].label for cell in cells] == [cell.label for cell in cells]


def test_that_they_could_not_be_kept_is_said(serve, pack, tmp_path):
    (tmp_path / "taken").write_text("")
    choice = choose_cells(archive=serve(pack()).url, folder=tmp_path / "taken")
    assert choice.kind == "real"
    assert "; not kept: " in choice.why


def test_drawn_cells_are_taken_where_there_is_no_network_and_it_says_so(tmp_path):
    choice = choose_cells(archive="https://nowhere.invalid/x.zip", folder=tmp_path)
    assert choice.kind == "drawn"
    assert choice.why.startswith("no answer from nowhere.invalid (")
    names = [source.name for source in choice.sources]
    assert len(names) == 32
    assert all(name.startswith("drawn_") for name in names)
    assert all(f"drawn_{choice.known[name].label}_" in name for name in names)


def test_drawn_cells_are_taken_where_the_server_serves_something_else(serve, tmp_path):
    choice = choose_cells(archive=serve(b"hello", "whole").url, folder=tmp_path)
    assert (choice.kind, "served whole only" in choice.why) == ("drawn", True)


def test_drawn_cells_are_found_in_an_installed_package_too(monkeypatch, tmp_path, png_of):
    (tmp_path / "drawn_uninfected_plain_01.png").write_bytes(png_of(0))
    monkeypatch.setattr(choice_module, "_INSTALLED", tmp_path)
    choice = choose_cells(archive="https://nowhere.invalid/x.zip", folder=tmp_path)
    assert [source.name for source in choice.sources] == ["drawn_uninfected_plain_01.png"]


def test_that_the_drawn_cells_are_missing_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(choice_module, "_INSTALLED", tmp_path / "a")
    monkeypatch.setattr(choice_module, "_IN_CLONE", tmp_path / "b")
    with pytest.raises(SourceError, match=r"the drawn cells are neither in .* nor in .*; install Giemsa again"):
        choose_cells(archive="https://nowhere.invalid/x.zip", folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "label", "words"),
    [
        ({}, "uninfected", "uninfected (easy)"),
        ({"kind": "hard"}, "uninfected", "uninfected (hard)"),
        ({"kind": "hard", "reviewed": "parasitized", "donor": True}, "uninfected", "uninfected (donor)"),
        ({"kind": "disputed", "reviewed": "parasitized"}, None, "disputed: uninfected, parasitized"),
    ],
)
def test_what_is_known_of_a_real_cell_is_its_label_unless_nobody_knows(cells, changes, label, words):
    known = Known.of_real(dataclasses.replace(cells[1], **changes))
    assert (known.label, known.words) == (label, words)
