"""Cohen's kappa with an interval: how far two readers agree beyond what chance would give.

Cohen 1960, Educational and Psychological Measurement 20:37. The interval is the bootstrap's, over patients where the
names of all pictures tell them, else over pictures; or, at each end where that is wider, kappa at the exact limits of
how often the readers disagree, with each reader's shares as they are. The unit and their number stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.stats.bootstrap import RESAMPLES, draw
from giemsa.stats.intervals import Unit, exact_limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

WORDS: Final = ("uninfected", "parasitized")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two readers agree on the same pictures.

    Attributes
    ----------
    n, units : int
        Pictures that both called parasitized or uninfected, and how many units they come from.
    kind : str
        What the interval takes for independent: `patients` or `pictures`.
    table : tuple of tuple of int
        First reader (rows) by second (columns), `uninfected` before `parasitized`.
    kappa, low, high : float or None
        None where it is not defined.
    reason : str
        Why it is not; empty where it is.
    """

    n: int
    units: int
    kind: Unit
    table: tuple[tuple[int, int], tuple[int, int]]
    kappa: float | None
    low: float | None
    high: float | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """What JSON takes."""
        return {
            "n": self.n,
            "units": self.units,
            "kind": self.kind,
            "table": [list(row) for row in self.table],
            "kappa": self.kappa,
            "low": self.low,
            "high": self.high,
            "reason": self.reason,
        }


def agree(first: Sequence[str], second: Sequence[str], units: Sequence[Hashable] | None = None) -> Agreement:
    """Compare two readings of the same pictures.

    Parameters
    ----------
    first, second : sequence of N str
        What each reader called each picture; pictures that either called neither `parasitized` nor `uninfected` are
        left out.
    units : sequence of N, optional
        Whose each picture is; None means that pictures are independent.
    """
    both = [place for place in range(len(first)) if first[place] in WORDS and second[place] in WORDS]
    kind: Unit = "pictures" if units is None else "patients"
    number: dict[Hashable, int] = {}
    tables = np.zeros((len(both), 2, 2))
    for place in both:
        unit: Hashable = place if units is None else units[place]
        row = number.setdefault(unit, len(number))
        tables[row, WORDS.index(first[place]), WORDS.index(second[place])] += 1
    tables = tables[: len(number)]
    whole = tables.sum(axis=0)
    counts = tuple(tuple(int(cell) for cell in row) for row in whole)
    kappa = float(_kappa(whole)) if both else float("nan")
    if not both or 0 in whole.sum(axis=0) or 0 in whole.sum(axis=1):
        reason = "no picture was read by both"
        if both:
            one = "both" if not np.isfinite(kappa) else "one of them"
            reason = f"{one} gave the same answer to every picture, so that kappa tells nothing"
        return Agreement(len(both), len(number), kind, counts, None, None, None, reason)  # type: ignore[arg-type]
    low, high = _interval(tables, whole, kind)
    return Agreement(len(both), len(number), kind, counts, kappa, low, high, "")  # type: ignore[arg-type]


def _kappa(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kappa of tables [..., 2, 2]; NaN where chance would agree always."""
    n = tables.sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (tables[..., 0, 0] + tables[..., 1, 1]) / n
        by_chance = (tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1) / n**2
        kappa: NDArray[np.float64] = np.where(by_chance < 1, (observed - by_chance) / (1 - by_chance), np.nan)
    return kappa


def _interval(tables: NDArray[np.float64], whole: NDArray[np.float64], kind: Unit) -> tuple[float, float]:
    n = whole.sum()
    by_chance = float((whole.sum(axis=1) * whole.sum(axis=0)).sum() / n**2)
    fewest, most = exact_limits(tables[:, 0, 1] + tables[:, 1, 0], tables.sum(axis=(1, 2)))
    low, high = 1 - most / (1 - by_chance), 1 - fewest / (1 - by_chance)
    if whole[0, 1] + whole[1, 0] == 0:
        return low, 1.0
    drawn = draw(
        lambda times: _kappa(np.tensordot(times, tables, axes=1)), len(tables), kind, np.random.default_rng(0),
        resamples=RESAMPLES,
    ).estimate()  # fmt: skip
    if drawn.low is None or drawn.high is None:
        return low, high
    return min(low, drawn.low), max(high, drawn.high)
