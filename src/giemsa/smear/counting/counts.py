"""What a count means: the interval, what it rules out, whether it is told from none, and what would have been seen.

Told from none
    By a person: so many cells confirmed that this reader's errors alone would do so in fewer than `BY_READER` of smears.
    By calls: more called cells than the false alarms of a new slide explain in all but `BY_CALLS` of smears, and nothing
    that a person has seen since speaks against it. Only where slides of this laboratory were reviewed. Both together
    err in at most 5 % of smears without parasites.
Limit of detection
    The lowest parasitaemia that is told from none in 95 of 100 such smears (Currie 1968, doi 10.1021/ac60259a007): by
    calls, and by a person who looks at all called cells. Its floor is what it comes to with any number of red cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.smear.counting.likelihood import ASSUMED_READER, posterior
from giemsa.smear.counting.rates import STEP
from giemsa.smear.counting.special import beta_binomial, poisson_at_least
from giemsa.smear.counting.strata import BULK

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from giemsa.smear.counting.likelihood import Posterior, Reader
    from giemsa.smear.counting.rates import Known, Rates
    from giemsa.smear.counting.strata import Evidence

    Array = NDArray[np.float64]

LEVEL: Final = 0.95
LOWER: Final = 0.015
UPPER: Final = 0.985
ONE_SIDED: Final = 0.97
"""Quantiles of the model that limits are taken at, so that `LEVEL` holds on slides that are unlike the model's: all chosen
with benchmarks/count_coverage.py."""
BY_READER, BY_CALLS = 0.02, 0.03
CONTRADICTED: Final = 3.0
"""A smear told from none by its calls must stay so many times likelier than none when cells were looked at."""
RED_CELLS_PER_UL: Final = 5_000_000
"""Red cells in a microlitre of blood, where they were not counted (WHO 2016, Malaria parasite counting, MM-SOP-09)."""
ASSUMED_VARIATION: Final = 0.2
"""Standard deviation of the logarithm of a red cell count that was assumed: 95 % between 3.4 and 7.4 million."""
ENOUGH_RED_CELLS: Final = 2000
"""Red cells from which on a thin film is counted (WHO 2016, MM-SOP-09)."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS /= _WEIGHTS.sum()
DETECTED: Final = 0.97
"""Limits of detection ask for so much of the model's own smears, so that 0.95 holds on slides that are unlike them."""
_ENDLESS: Final = 10_000_000
_NEGLIGIBLE: Final = 1e-5
_COARSE: Final = 2  # bins of the rates that limits of detection take together


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval.

    Attributes
    ----------
    value, low, high : float
        A share, 0 to 1, unless said otherwise.
    """

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        """The same in another unit."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Detection:
    """Lowest parasitaemias that are told from none in 95 of 100 such smears; 1 where none is.

    Attributes
    ----------
    calls : float
        By calls alone.
    calls_floor : float
        By calls alone with any number of red cells.
    review : float
        When a person looks at all called cells.
    review_floor : float
        The same with any number of red cells.
    critical : int or None
        More called cells than this are told from none by calls; None where calls alone never tell.
    """

    calls: float
    calls_floor: float
    review: float
    review_floor: float
    critical: int | None


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted, and what it can mean.

    Attributes
    ----------
    red_cells, fields : int
        Cells counted, and photographs that they come from.
    called : int
        Cells called parasitized by the classifier, whatever a person decided.
    confirmed, rejected : int
        Cells that a person decided on: confirmed anywhere, rejected among the called.
    to_look_at : int
        Called cells that nobody has looked at.
    parasitaemia : Interval
        The share of red cells that carry parasites: median and 95 % limits of what it can be. The lower limit is 0 where
        it is not told from none, and the upper one then holds in 95 of 100 smears.
    told_from_none : bool
        Whether it is.
    told_by : str
        `review`, `calls`, or nothing.
    rules_out : float
        The parasitaemia above which it is ruled out, one-sided, 95 %.
    detection : Detection
        What would have been told from none.
    fields_missing : int
        More fields of this kind up to `ENOUGH_RED_CELLS`; 0 where there are enough.
    per_ul : Interval
        Parasitized cells per microlitre, the error of an assumed red cell count included.
    per_ul_rules_out : float
        As `rules_out`.
    red_cells_per_ul : float
        The red cell count used for that.
    red_cells_per_ul_assumed : bool
        Whether that was assumed.
    """

    red_cells: int
    fields: int
    called: int
    confirmed: int
    rejected: int
    to_look_at: int
    parasitaemia: Interval
    told_from_none: bool
    told_by: str
    rules_out: float
    detection: Detection
    fields_missing: int
    per_ul: Interval
    per_ul_rules_out: float
    red_cells_per_ul: float
    red_cells_per_ul_assumed: bool

    @property
    def reviewed(self) -> bool:
        """Whether a person has looked at every called cell."""
        return self.to_look_at == 0

    @property
    def detection_limit(self) -> float:
        """The limit that holds for this smear as it is."""
        return self.detection.review if self.reviewed else self.detection.calls


def count(
    evidence: Evidence, rates: Rates, *, reader: Reader = ASSUMED_READER, red_cells_per_ul: float | None = None
) -> Count:
    """What a smear's cells mean.

    Parameters
    ----------
    evidence : Evidence
        Its cells by stratum, and what a person saw.
    rates : Rates
        How often the classifier is right.
    reader : Reader
        How often the person is.
    red_cells_per_ul : float, optional
        Red cells per microlitre of this patient; None means that `RED_CELLS_PER_UL` is assumed, give or take a fifth.
    """
    known = rates.for_smear(evidence.fields)
    detection = detect(evidence, known, reader, by_calls=rates.measured)
    return meaning(evidence, known, detection, reader=reader, red_cells_per_ul=red_cells_per_ul)


def meaning(
    evidence: Evidence,
    known: Known,
    detection: Detection,
    *,
    reader: Reader = ASSUMED_READER,
    red_cells_per_ul: float | None = None,
) -> Count:
    """What a smear's cells mean, where all that review does not change is computed already."""
    result = posterior(evidence, known, reader)
    told_by = tells(evidence, result, detection, reader)
    low, high = (LOWER, UPPER) if told_by else (0.0, ONE_SIDED)
    assumed = red_cells_per_ul is None
    red = float(RED_CELLS_PER_UL if red_cells_per_ul is None else red_cells_per_ul)
    density = _Density(result, red, ASSUMED_VARIATION if assumed else 0.0)
    per_field = evidence.red_cells / evidence.fields
    return Count(
        red_cells=evidence.red_cells,
        fields=evidence.fields,
        called=evidence.called,
        confirmed=evidence.all_confirmed,
        rejected=evidence.called_rejected,
        to_look_at=evidence.to_look_at,
        parasitaemia=_ordered(result.lower(low) if told_by else 0.0, result.median(), result.upper(high)),
        told_from_none=bool(told_by),
        told_by=told_by,
        rules_out=result.upper(ONE_SIDED),
        detection=detection,
        fields_missing=max(0, int(np.ceil((ENOUGH_RED_CELLS - evidence.red_cells) / per_field))),
        per_ul=_ordered(
            density.limit(low, "lower") if told_by else 0.0, result.median() * red, density.limit(high, "upper")
        ),
        per_ul_rules_out=density.limit(ONE_SIDED, "upper"),
        red_cells_per_ul=red,
        red_cells_per_ul_assumed=assumed,
    )


def tells(evidence: Evidence, result: Posterior, detection: Detection, reader: Reader) -> str:
    """By what a smear is told from none: `review`, `calls`, or nothing."""
    if evidence.all_confirmed >= least_confirmed(_doubtful(evidence, reader), reader):
        return "review"
    if detection.critical is not None and evidence.called > detection.critical:
        looked_at = evidence.looked_at > 0
        return "calls" if not looked_at or result.support >= CONTRADICTED else ""
    return ""


def _doubtful(evidence: Evidence, reader: Reader) -> int:
    """Cells looked at that a reader may take for infected ones; of the bulk's, hardly any."""
    bulk = evidence.confirmed[BULK] + evidence.rejected[BULK] + evidence.found_by_eye
    return evidence.looked_at - bulk + math.ceil(reader.bulk * bulk)


def least_confirmed(looked_at: int, reader: Reader) -> int:
    """Confirmed cells among those looked at that a reader's errors alone hardly explain."""
    if looked_at == 0:
        return 1
    at_least = np.cumsum(beta_binomial(looked_at, *reader.false_confirmations)[::-1])[::-1]
    rare = np.flatnonzero(at_least <= BY_READER)
    return int(rare[0]) if len(rare) else looked_at + 1


def _ordered(low: float, value: float, high: float) -> Interval:
    """An interval that holds its value: the limits go by priors of their own."""
    return Interval(min(max(value, low), high), low, high)


class _Density:
    """Limits of a parasitaemia times a red cell count that is not known exactly."""

    def __init__(self, result: Posterior, red_cells_per_ul: float, variation: float) -> None:
        self.result, self.red, self.variation = result, red_cells_per_ul, variation

    def limit(self, level: float, limit: str) -> float:
        """A quantile, found by bisection."""
        if not self.variation:
            return self.red * (self.result.lower(level) if limit == "lower" else self.result.upper(level))
        factors = np.exp(self.variation * _NODES)
        low, high = 0.0, float(factors[-1])
        for _ in range(50):
            middle = (low + high) / 2
            below = self.result.chance_below(middle / factors, limit=limit)
            low, high = (middle, high) if float(below @ _WEIGHTS) < level else (low, middle)
        return high * self.red


def detect(evidence: Evidence, known: Known, reader: Reader, *, by_calls: bool) -> Detection:
    """Limits of detection of smears with so many red cells and fields.

    Parameters
    ----------
    evidence : Evidence
        How many.
    known : Known
        The rates.
    reader : Reader
        Who looks at called cells.
    by_calls : bool
        Whether calls alone may tell a smear from none.
    """
    limits = Limits(known, reader)
    n = evidence.red_cells
    critical = limits.critical(n) if by_calls else None
    return Detection(
        calls=limits.by_calls(n, critical) if critical is not None else 1.0,
        calls_floor=limits.by_calls(_ENDLESS, limits.critical(_ENDLESS)) if by_calls else 1.0,
        review=limits.by_review(n),
        review_floor=limits.by_review(_ENDLESS),
        critical=critical,
    )


class Limits:
    """Limits of detection by bisection, the rates' grids made coarser."""

    def __init__(self, known: Known, reader: Reader) -> None:
        self.sensitivity, self.of_sensitivity = _coarser(known.sensitivity)
        self.false_alarms, self.of_false_alarms = _coarser(known.false_alarms)
        self.reader = reader

    def critical(self, n: int) -> int:
        """The most calls that false alarms explain in all but `BY_CALLS` of smears without parasites."""
        low, high = -1, 1
        while self._more(n, 0.0, high) > BY_CALLS:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._more(n, 0.0, middle) > BY_CALLS else (low, middle)
        return high

    def by_calls(self, n: int, critical: int) -> float:
        """Lowest parasitaemia at which more cells are called than that, in 95 of 100 smears."""
        return _lowest(lambda pi: self._more(n, pi, critical))

    def by_review(self, n: int) -> float:
        """Lowest parasitaemia at which a reader of all called cells confirms enough, in 95 of 100 smears."""
        return _lowest(lambda pi: self._confirmed(n, pi))

    def _more(self, n: int, pi: float, critical: int) -> float:
        if pi == 0:
            return float(poisson_at_least(critical + 1, n * self.false_alarms) @ self.of_false_alarms)
        mean = n * (pi * self.sensitivity[:, None] + (1 - pi) * self.false_alarms)
        return float(self.of_sensitivity @ poisson_at_least(critical + 1, mean) @ self.of_false_alarms)

    def _confirmed(self, n: int, pi: float) -> float:
        """How often a reader of all called cells confirms more of them than errors explain."""
        infected, healthy = n * pi * self.sensitivity[:, None], n * (1 - pi) * self.false_alarms
        least = _least_of(infected + healthy, self.reader)
        confirmed = infected * (1 - self.reader.mean_missed) + healthy * self.reader.mean_false
        return float(self.of_sensitivity @ poisson_at_least(least, confirmed) @ self.of_false_alarms)


def _lowest(chance: Callable[[float], float]) -> float:
    """Lowest parasitaemia at which something happens in 95 of 100 smears; 1 where at none."""
    low, high = math.log(1e-7), 0.0
    if chance(1.0) < DETECTED:
        return 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(math.exp(middle)) < DETECTED else (low, middle)
    return math.exp(high)


def _coarser(mass: Array) -> tuple[Array, Array]:
    """Rates and their weights, with so many bins taken together."""
    weight = mass.reshape(-1, _COARSE).sum(axis=1)
    rates = np.exp(-STEP * _COARSE * (np.arange(len(weight)) + 0.5))
    kept = weight > _NEGLIGIBLE
    return rates[kept], weight[kept] / weight[kept].sum()


def _least_of(looked_at: Array, reader: Reader) -> Array:
    """As `least_confirmed`, of numbers of cells that need not be whole; in between it is interpolated."""
    sizes, least = _least_table(reader)
    inside = np.ceil(np.interp(looked_at, sizes, least) - 1e-9)
    return np.where(looked_at <= sizes[-1], inside, np.ceil(looked_at * least[-1] / sizes[-1]))


@lru_cache(maxsize=8)
def _least_table(reader: Reader) -> tuple[Array, Array]:
    sizes = np.unique(np.round(np.geomspace(1, 20_000, 60)).astype(int))
    return sizes.astype(float), np.array([least_confirmed(int(size), reader) for size in sizes], float)
