"""The cells of `giemsa demo`: someone's own, else two dozen real ones, else drawn ones; and always said which.

>>> from giemsa.demo import choose_cells
>>> choice = choose_cells()                                    # doctest: +SKIP
>>> choice.kind, choice.why                                    # doctest: +SKIP
('drawn', 'no answer from data.lhncbc.nlm.nih.gov (Temporary failure in name resolution); check the network')
"""

from __future__ import annotations

from giemsa.demo.cells import ARCHIVE_URL, DemoCell, cache_folder, real_cells
from giemsa.demo.choice import Choice, Known, choose_cells
from giemsa.demo.fetch import Fetched, fetch_cells
from giemsa.demo.ranges import RangeFile

__all__ = [
    "ARCHIVE_URL",
    "Choice",
    "DemoCell",
    "Fetched",
    "Known",
    "RangeFile",
    "cache_folder",
    "choose_cells",
    "fetch_cells",
    "real_cells",
]
