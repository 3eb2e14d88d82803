"""Which cells to look at next: those that narrow the interval most, or a random sample.

Within a stratum cells count as a sample of it, so that only how many of each stratum are looked at matters. What is
uncertain of a stratum's open cells is how many are infected: binomial noise, and the share itself. Looking at one
cell takes its own noise away and makes the share better known; the next cell is of the stratum where the variance of
the number of infected cells is expected to fall most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from giemsa.smear.counting.likelihood import ASSUMED_READER, posterior
from giemsa.smear.counting.rates import STEP
from giemsa.smear.counting.strata import BULK, CALLED, NEAR

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from giemsa.smear.counting.likelihood import Reader
    from giemsa.smear.counting.rates import Known
    from giemsa.smear.counting.strata import Evidence

    Array = NDArray[np.float64]


def next_strata(evidence: Evidence, known: Known, cells: int, *, reader: Reader = ASSUMED_READER) -> tuple[int, ...]:
    """How many cells to look at next of each stratum.

    Parameters
    ----------
    evidence : Evidence
        What is known of the smear.
    known : Known
        The rates.
    cells : int
        How many in all; fewer come out where fewer called cells and cells near the cut are left.
    reader : Reader
        Who looks.

    Returns
    -------
    tuple of int
        Of each of `STRATA`. The bulk stays out: only a random sample of it tells anything.
    """
    share, precision = _shares(evidence, known, reader)
    left = np.array(evidence.cells) - np.array(evidence.confirmed) - np.array(evidence.rejected)
    left[BULK] = 0
    chosen = np.zeros(len(left), int)
    for _ in range(min(cells, int(left.sum()))):
        fall = np.where(left > 0, _variance(left, share, precision) - _variance(left - 1, share, precision + 1), -1.0)
        best = int(np.argmax(fall))
        chosen[best] += 1
        left[best] -= 1
        precision[best] += 1
    return tuple(int(n) for n in chosen)


def next_cells(
    evidence: Evidence,
    known: Known,
    stratum: NDArray[np.int64],
    relative_logit: ArrayLike,
    decided: ArrayLike,
    cells: int,
    *,
    reader: Reader = ASSUMED_READER,
) -> NDArray[np.int64]:
    """Places of the cells to look at next: the most suspicious undecided ones of the strata that tell most.

    Parameters
    ----------
    evidence, known, reader
        As `next_strata`.
    stratum : ndarray
        int64 [N], of all cells.
    relative_logit : array_like
        [N].
    decided : array_like
        bool [N].
    cells : int
        How many.
    """
    wanted = next_strata(evidence, known, cells, reader=reader)
    score, decided = np.asarray(relative_logit, float), np.asarray(decided, bool)
    places = []
    for number, count in enumerate(wanted):
        open_cells = np.flatnonzero((stratum == number) & ~decided)
        places.append(open_cells[np.argsort(-score[open_cells], kind="stable")[:count]])
    chosen = np.concatenate(places)
    return chosen[np.argsort(-score[chosen], kind="stable")]


def random_sample(decided: ArrayLike, cells: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of a random sample of all undecided cells: the only one that tells what the classifier misses.

    Parameters
    ----------
    decided : array_like
        bool [N].
    cells : int
        How many; fewer where fewer are left.
    rng : Generator
        Draws.
    """
    left = np.flatnonzero(~np.asarray(decided, bool))
    return np.sort(rng.choice(left, size=min(cells, len(left)), replace=False))


def _shares(evidence: Evidence, known: Known, reader: Reader) -> tuple[Array, Array]:
    """Expected share of infected cells in each stratum, and how many cells that is worth."""
    pi = posterior(evidence, known, reader).median()
    bins = np.arange(len(known.sensitivity))
    sensitivity = float(known.sensitivity @ np.exp(-STEP * (bins + 0.5)))
    n = evidence.red_cells
    infected = np.array(known.infected) / sum(known.infected) * n * pi * sensitivity
    called = np.array(evidence.cells[CALLED:], float)
    prior = np.minimum(infected / np.maximum(called, 1), 0.9) * 0.95 + 0.02
    weight = np.array(known.infected) + np.array(known.healthy)
    near = n * pi * (1 - sensitivity) * known.missed[1] / max(evidence.cells[NEAR], 1)
    prior = np.concatenate([[0.0, min(near, 0.5)], prior])
    weight = np.concatenate([[1.0, 2.0], weight])
    seen, confirmed = np.array(evidence.confirmed) + np.array(evidence.rejected), np.array(evidence.confirmed)
    share = (prior * weight + confirmed) / (weight + seen)
    return share, weight + seen


def _variance(left: NDArray[np.int64], share: Array, precision: Array) -> Array:
    """Variance of the number of infected ones among cells that nobody has looked at (beta-binomial)."""
    return np.asarray(left * share * (1 - share) * (1 + (left - 1) / (precision + 1)))
