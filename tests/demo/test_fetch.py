"""The real cells of the demo: the list, the cache, and what comes out of an archive over the network."""

from __future__ import annotations

import dataclasses
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from giemsa.demo import ARCHIVE_URL, cache_folder, fetch_cells, real_cells
from giemsa.errors import DownloadError


def test_the_list_names_two_dozen_cells_of_as_many_patients_and_of_every_kind():
    cells = real_cells()
    assert len({cell.member for cell in cells}) == len({cell.sha256 for cell in cells}) == 24
    assert len({cell.patient for cell in cells}) == 24
    assert [cell.kind for cell in cells] == ["easy"] * 12 + ["hard"] * 6 + ["disputed"] * 6
    for kind in ("easy", "hard", "disputed"):
        assert {cell.label for cell in cells if cell.kind == kind} == {"parasitized", "uninfected"}


def test_a_member_lies_in_the_folder_of_its_official_label():
    for cell in real_cells():
        assert cell.member == f"cell_images/{cell.label.capitalize()}/{cell.name}"
        assert cell.name.endswith(".png")


def test_only_cells_that_readers_disagree_on_are_called_disputed_and_never_those_of_donors():
    assert [cell.disputed for cell in real_cells()] == [False] * 18 + [True] * 6
    donors = [cell for cell in real_cells() if cell.donor]
    assert len(donors) >= 4
    assert {cell.label for cell in donors} == {"uninfected"}


def test_the_archive_is_the_official_one():
    assert ARCHIVE_URL == "https://data.lhncbc.nlm.nih.gov/public/Malaria/cell_images.zip"


@pytest.mark.shared
def test_the_digests_are_those_of_the_official_pixels(shared_data):
    wanted = {str(Path(cell.member).relative_to("cell_images").with_suffix(".webp")): cell for cell in real_cells()}
    with tarfile.open(shared_data / "cells.tar") as archive:
        for member in archive:
            if (cell := wanted.pop(member.name, None)) is not None:
                cell.check(archive.extractfile(member).read())
    assert not wanted


def test_the_cells_come_out_of_the_archive_by_a_request_each(serve, pack, cells, tmp_path, png_of):
    site = serve(pack(others=2000))
    steps = []
    fetched = fetch_cells(cells, archive=site.url, folder=tmp_path, progress=lambda *step: steps.append(step))
    assert list(fetched.pictures) == list(cells)
    assert list(fetched.pictures.values()) == [png_of(seed) for seed in range(4)]
    assert (fetched.from_cache, fetched.not_kept) == (0, "")
    assert fetched.transferred == site.sent < len(site.content) / 2
    # one for the size, one or two for the end and the directory, one for each cell
    assert fetched.requests == len(site.asked) <= 3 + 4
    assert steps == [(done, 4) for done in range(5)]


def test_a_second_time_nothing_is_asked_for(serve, pack, cells, tmp_path):
    site = serve(pack())
    first = fetch_cells(cells, archive=site.url, folder=tmp_path / "new" / "demo")
    asked = len(site.asked)
    again = fetch_cells(cells, archive=site.url, folder=tmp_path / "new" / "demo")
    assert again.pictures == first.pictures
    assert (again.from_cache, again.transferred, again.requests) == (4, 0, 0)
    assert len(site.asked) == asked


def test_with_a_full_cache_no_network_is_needed(serve, pack, cells, tmp_path):
    fetch_cells(cells, archive=serve(pack()).url, folder=tmp_path)
    assert fetch_cells(cells, archive="https://nowhere.invalid/x.zip", folder=tmp_path).from_cache == 4


@pytest.mark.parametrize("damage", [b"", b"not a picture", "other pixels", "gone", "folder"])
def test_what_is_spoilt_in_the_cache_is_fetched_again_and_only_that(serve, pack, cells, tmp_path, png_of, damage):
    site = serve(pack())
    fetch_cells(cells, archive=site.url, folder=tmp_path)
    spoilt = tmp_path / cells[2].name
    spoilt.unlink()
    if damage == "other pixels":
        damage = png_of(9)
    if isinstance(damage, bytes):
        spoilt.write_bytes(damage)
    if damage == "folder":
        spoilt.mkdir()
    again = fetch_cells(cells, archive=site.url, folder=tmp_path)
    assert again.from_cache == 3
    assert again.pictures[cells[2]] == png_of(2)
    assert ("folder" in again.not_kept) == (damage == "folder")


def test_after_a_broken_transfer_only_the_missing_cells_are_fetched(serve, pack, cells, tmp_path):
    site = serve(pack(others=2000), break_at=(6, 7))
    with pytest.raises(DownloadError, match="broke off"):
        fetch_cells(cells, archive=site.url, folder=tmp_path)
    kept = len(list(tmp_path.iterdir()))
    assert 0 < kept < 4
    assert fetch_cells(cells, archive=site.url, folder=tmp_path).from_cache == kept


def test_a_cache_that_cannot_be_written_does_not_stand_in_the_way(serve, pack, cells, tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    fetched = fetch_cells(cells, archive=serve(pack()).url, folder=tmp_path / "taken" / "demo")
    assert len(fetched.pictures) == 4
    assert fetched.not_kept


def test_nothing_but_the_cells_is_left_in_the_cache(serve, pack, cells, tmp_path):
    fetch_cells(cells, archive=serve(pack()).url, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {cell.name for cell in cells}
    assert all(stat.S_ISREG(path.stat().st_mode) for path in tmp_path.iterdir())


def refusal(site, cells, folder):
    with pytest.raises(DownloadError) as caught:
        fetch_cells(cells, archive=site.url, folder=folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_archive_that_lacks_a_cell_is_refused(serve, pack, cells, tmp_path):
    message = refusal(serve(pack(without=(3,))), cells, tmp_path)
    assert message.startswith("cell_images/Uninfected/C3P1thinF_IMG_1_cell_3.png is not in http://127.0.0.1:")


def test_other_pixels_under_the_right_name_are_refused_and_not_kept(serve, pack, cells, tmp_path, png_of):
    message = refusal(serve(pack(replace={0: png_of(9)})), cells, tmp_path)
    assert message.startswith("the 64 x 69 pixels of cell_images/Parasitized/C0P1thinF_IMG_1_cell_0.png have SHA-256 ")
    assert not list(tmp_path.iterdir())


def test_something_that_is_no_picture_is_refused(serve, pack, cells, tmp_path):
    message = refusal(serve(pack(replace={0: b"<html>"})), cells, tmp_path)
    assert message.startswith("cell_images/Parasitized/C0P1thinF_IMG_1_cell_0.png is no picture (")


def test_a_member_that_grows_beyond_all_cells_is_refused_unread(serve, pack, cells, tmp_path):
    message = refusal(serve(pack(replace={0: bytes(2_000_000)})), cells, tmp_path)
    assert message.endswith(" is 2,000,000 bytes large, expected at most 1,000,000")


def test_a_method_of_packing_that_the_archive_never_used_is_refused(serve, pack, cells, tmp_path):
    message = refusal(serve(pack(method=zipfile.ZIP_BZIP2)), cells, tmp_path)
    assert message.endswith(" is packed by method 12, expected 0 or 8")


def test_a_file_that_is_no_archive_is_refused(serve, cells, tmp_path):
    message = refusal(serve(b"hello " * 10_000), cells, tmp_path)
    assert "cell_images.zip is not a zip archive that can be read (File is not a zip file)" in message


def test_a_damaged_archive_is_refused(serve, pack, cells, tmp_path):
    content = bytearray(pack())
    content[60:400] = bytes(340)
    assert "is not a zip archive that can be read" in refusal(serve(bytes(content)), cells, tmp_path)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [("whole", "served whole only"), ("shifted", "were asked for"), ("other_bytes", "is not a zip archive")],
)
def test_a_server_that_misbehaves_is_blamed_for_what_it_does(serve, pack, cells, tmp_path, behaviour, message):
    assert message in refusal(serve(pack(), behaviour), cells, tmp_path)


def test_an_archive_that_changes_between_two_cells_is_noticed(serve, pack, cells, tmp_path):
    site = serve(pack(others=2000), next_content=pack(others=1900), change_at=5)
    assert "changed while it was being read" in refusal(site, cells, tmp_path)


def test_the_cache_follows_the_users_wish(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "giemsa" / "demo"


@pytest.mark.parametrize("wish", ["", "relative/folder"])
def test_the_cache_is_in_the_home_otherwise(monkeypatch, tmp_path, wish):
    monkeypatch.setenv("XDG_CACHE_HOME", wish)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "giemsa" / "demo"


def test_without_a_home_the_user_is_told_what_to_set(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DownloadError, match="set XDG_CACHE_HOME"):
        cache_folder()


def test_cells_are_values():
    cell = real_cells()[0]
    assert dataclasses.replace(cell) == cell
    assert len({cell, dataclasses.replace(cell)}) == 1
