"""What is fuzzed: each target takes bytes from outside, and may only refuse them in Giemsa's own words."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from giemsa.errors import GiemsaError, PictureError


@lru_cache(maxsize=1)
def _folder() -> Path:
    """Where inputs that must be files are put: in memory, where the system has such a place."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="giemsa-fuzz-", dir=memory if os.access(memory, os.W_OK) else None))


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def pictures(data: bytes) -> None:
    """Any picture."""
    from giemsa.images import decode, size_of

    size_of(data)
    with suppress(PictureError):
        rgb = decode(data)
        assert rgb.ndim == 3
        assert rgb.shape[2] == 3


def archives(data: bytes) -> None:
    """A zip archive, and all that is in it."""
    from giemsa.sources import open_sources

    with suppress(GiemsaError):
        for source in open_sources([_file("cells.zip", data)]):
            with suppress(PictureError):
                source.read()


def cards(data: bytes) -> None:
    """The metadata of a model."""
    from giemsa.model.card import parse_card

    with suppress(GiemsaError):
        parse_card(data.decode("utf-8", "replace"), source="the model")


def annotations(data: bytes) -> None:
    """The boxes of a laboratory's fields."""
    from giemsa.data.fields import read_fields

    with suppress(GiemsaError):
        read_fields(_file("annotations.json", data))


def decisions(data: bytes) -> None:
    """What a person decided on a report's page."""
    from giemsa.smear.decisions import read_decisions

    with suppress(GiemsaError):
        read_decisions(_file("decisions.json", data))


def sites(data: bytes) -> None:
    """The rates of a laboratory."""
    from giemsa.smear.site import read_site

    with suppress(GiemsaError):
        read_site(_file("SITE.json", data))


def tables(data: bytes) -> None:
    """A table of verdicts that is resumed."""
    from giemsa.tables import RunRecord, open_table, pictures_path, record_path

    ending = ".csv" if data[:1] < b"\x80" else ".jsonl"
    path = _file(f"verdicts{ending}", data[1:])
    record_path(path).write_text(json.dumps({"model_sha256": "ab" * 32}))
    pictures_path(path).write_bytes(data[1:])
    record = RunRecord("tiny", "ab" * 32, "CPU", 1, 0.5, "0")
    with suppress(GiemsaError), open_table(path, record, resume=True) as table:
        for _ in zip(table.existing(), table.stamps(), strict=False):
            pass


def splits(data: bytes) -> None:
    """A split of labelled cells."""
    from giemsa.data.splits import read_split

    with suppress(GiemsaError):
        read_split(_file("split.json", data))


TARGETS = {
    target.__name__: target for target in (pictures, archives, cards, annotations, decisions, sites, tables, splits)
}
INSTRUMENTED = [
    "giemsa.archives", "giemsa.data.fields", "giemsa.data.splits", "giemsa.images", "giemsa.jpegs", "giemsa.model",
    "giemsa.smear.decisions", "giemsa.smear.site", "giemsa.sources", "giemsa.spreadsheets", "giemsa.stamps",
    "giemsa.tables", "PIL.TiffImagePlugin", "PIL.PngImagePlugin", "PIL.BmpImagePlugin", "PIL.WebPImagePlugin",
]  # fmt: skip
