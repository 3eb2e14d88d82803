"""What a person decided of suspicious cells: the file that the report saves and `--decisions` takes.

    {"giemsa_decisions": 1, "cells": [{"field": "a.jpg", "x0": 1, "y0": 2, "x1": 80, "y1": 81, "decision": "confirmed"}],
     "complete_fields": ["a.jpg"]}

`complete_fields` names the fields in which the person has looked at every cell, so that all cells not confirmed are
healthy: only these teach `giemsa smear calibrate` what the classifier misses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from giemsa.errors import DataError
from giemsa.files import read_small_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from giemsa.smear.results import Decision

DECISIONS_VERSION: Final = 1
_MAX_BYTES: Final = 64 * 2**20
Key = tuple[str, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Decisions:
    """A person's decisions.

    Attributes
    ----------
    cells : dict
        From a cell's key (field, x0, y0, x1, y1) to `confirmed` or `rejected`.
    complete_fields : frozenset of str
        Fields in which every cell was looked at.
    """

    cells: dict[Key, Decision]
    complete_fields: frozenset[str] = frozenset()

    def named_as(self, fields: Iterable[str]) -> Decisions:
        """These decisions under the names that a smear's fields have now.

        A field that was uploaded to the dashboard is called `a.jpg`, and `smears/P1/a.jpg` on the command line: one that
        the smear does not have is taken for the only one of it whose file is called so. Cells must then agree in their
        boxes, so that another photograph of the same name is told.
        """
        known = set(fields)
        files: dict[str, list[str]] = {}
        for name in known:
            files.setdefault(_file(name), []).append(name)

        def named(name: str) -> str:
            alike = files.get(_file(name), [])
            return alike[0] if name not in known and len(alike) == 1 else name

        cells: dict[Key, Decision] = {}
        for (field, *box), decision in self.cells.items():
            key = cast("Key", (named(field), *box))
            if cells.setdefault(key, decision) != decision:
                raise DataError(f"the cell {key} is both confirmed and rejected, under two names of its field")
        return Decisions(cells, frozenset(map(named, self.complete_fields)))


def _file(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def read_decisions(path: str | os.PathLike[str]) -> Decisions:
    """What a file of decisions holds.

    Raises
    ------
    DataError
        If it cannot be read, is no such file, or decides on a cell in two ways.
    """
    path = Path(path)
    try:
        return parse_decisions(json.loads(read_small_file(path, _MAX_BYTES)))
    except OSError as error:
        raise DataError(f"the decisions {path} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise DataError(f"{path} is no file of decisions as the report saves them: it lacks {error}") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is no file of decisions as the report saves them: {error}") from error


def parse_decisions(raw: Any) -> Decisions:  # noqa: ANN401
    """Decisions from the JSON of a file of them.

    Raises
    ------
    ValueError, TypeError, KeyError, OverflowError
        If it is something else.
    """
    if not isinstance(raw, dict) or raw.get("giemsa_decisions") != DECISIONS_VERSION:
        raise ValueError(f"expected an object with giemsa_decisions {DECISIONS_VERSION}")
    cells: dict[Key, Decision] = {}
    for entry in raw["cells"]:
        key = (str(entry["field"]), *(int(entry[side]) for side in ("x0", "y0", "x1", "y1")))
        decision = entry["decision"]
        if decision not in ("confirmed", "rejected"):
            raise ValueError(f"a decision is {decision!r}; expected confirmed or rejected")
        if cells.setdefault(cast("Key", key), decision) != decision:
            raise ValueError(f"the cell {key} is both confirmed and rejected")
    return Decisions(cells, frozenset(str(name) for name in raw.get("complete_fields", ())))
