"""Folders of results that stand completely or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.errors import OutputError
from giemsa.files import cannot_write

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def check_folder(folder: str | os.PathLike[str], files: Collection[str], what: str, *, force: bool = False) -> Path:
    """Refuse a folder that results cannot or must not be written to, before any work is done for them.

    Parameters
    ----------
    folder : path
        Where the results go.
    files : collection of str
        Everything that such a folder may hold: a folder with anything else in it is never replaced.
    what : str
        What the folder holds, for messages: "a comparison".
    force : bool
        Whether earlier results may be replaced.

    Raises
    ------
    OutputError
        If it is a file, holds anything else, or holds results already and `force` is not given.
    """
    place = Path(folder)
    if not os.path.lexists(place):
        return place
    if not place.is_dir():
        raise OutputError(f"the output {place} is a file; name a folder")
    found = sorted(entry.name for entry in place.iterdir())
    others = [name for name in found if name not in files]
    if others:
        raise OutputError(
            f"the output {place} holds {others[0]}, which is no part of {what}; name another folder, since all in it "
            "would be replaced"
        )
    if found and not force:
        raise OutputError(f"the output {place} holds {what} already; name another one or replace it with --force")
    return place


@contextmanager
def replace_folder(place: Path) -> Iterator[Path]:
    """Give a folder beside `place` to write into, and rename it to `place` once the block has ended well.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    beside = place.with_name(f".{secrets.token_hex(4)}-{place.name}")
    try:
        beside.mkdir(parents=True)
        yield beside
        _put_in_place(beside, place)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise cannot_write(place, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _put_in_place(beside: Path, place: Path) -> None:
    """Rename the finished folder; what stood there is moved away first and comes back if that fails."""
    if not place.exists():
        beside.rename(place)
        return
    old = place.with_name(f".{secrets.token_hex(4)}-{place.name}")
    place.rename(old)
    try:
        beside.rename(place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)
