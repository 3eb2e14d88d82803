"""One type for a value with its interval, and the two ways to such an interval.

*Bootstrap*: bias-corrected and accelerated (BCa; Efron 1987, JASA 82:171), with expanded levels (Hesterberg 2015, The
American Statistician 69:371): a plain percentile interval is too narrow by what a normal quantile lacks against
Student's t, and by sqrt((n - 1) / n), which matters where there are six or thirty units.

*Exact*: Clopper & Pearson 1934 (Biometrika 26:404), over the effective number of cells (Korn & Graubard 1998, Survey
Methodology 24:193): cells of one unit are alike, so that fewer independent ones would tell as much. Where every cell
is a unit of its own, that is the Clopper-Pearson interval itself.

A share has the wider of the two at each end: a bootstrap of few events cannot see the events that did not happen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from giemsa.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Unit = Literal["patients", "laboratories", "fields", "cells", "pictures"]
Method = Literal["bootstrap", "exact", "wider", ""]

CONFIDENCE: Final = 0.95
METHODS: Final[dict[Method, str]] = {
    "bootstrap": "bootstrap (BCa, expanded)",
    "exact": "exact (Clopper-Pearson)",
    "wider": "the wider of bootstrap (BCa, expanded) and exact (Clopper-Pearson)",
}
"""How each method is called in files that people read."""

_NORMAL: Final = NormalDist()
_SAME: Final = 1e-12  # sums in another order differ by less
_FARTHEST: Final = 8.0  # standard deviations: beyond it a probability is 0 or 1 for any number of resamples


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval.

    Attributes
    ----------
    value, low, high : float or None
        The value and the limits of its interval; None where there is none.
    unit : str
        What the interval takes for independent: `patients`, `fields` or `cells`.
    units : int
        How many of these it rests on; 0 where that is not known.
    method : str
        `bootstrap`, `exact` or `wider`, as in `METHODS`; empty where there is no interval.
    reason : str
        Why there is no value or no interval; empty where there is one.
    note : str
        What else a careful reader must know; mostly empty.
    """

    value: float | None
    low: float | None
    high: float | None
    unit: Unit = "patients"
    units: int = 0
    method: Method = ""
    reason: str = ""
    note: str = ""

    @property
    def exact(self) -> bool:
        """Whether the interval is the exact one alone, since no event, or nothing else, was seen."""
        return self.method == "exact"

    def scaled(self, factor: float, *, complement: bool = False) -> Estimate:
        """The estimate times `factor`; of 1 - estimate where `complement` is true."""

        def turn(number: float | None) -> float | None:
            if number is None:
                return None
            return factor * (1 - number) if complement else factor * number

        low, high = (self.high, self.low) if complement else (self.low, self.high)
        return replace(self, value=turn(self.value), low=turn(low), high=turn(high))

    def to_dict(self) -> dict[str, float | int | str | None]:
        """`value`, `low`, `high`; what the interval is and rests on, where there is one; `reason`, `note` if any."""
        entry: dict[str, float | int | str | None] = {"value": self.value, "low": self.low, "high": self.high}
        if self.method:
            entry |= {"interval": METHODS[self.method], "unit": self.unit, "units": self.units}
        if self.reason:
            entry["reason"] = self.reason
        if self.note:
            entry["note"] = self.note
        return entry


def bca_limits(
    value: float, drawn: FloatArray, left_out: FloatArray, units: int, *, confidence: float = CONFIDENCE,
    corrected: bool = True,
) -> tuple[float, float]:  # fmt: skip
    """Limits of a bootstrap interval, which always hold the value.

    Parameters
    ----------
    value : float
        Of all units.
    drawn : (R,) ndarray of float64
        Of each resample; NaN where it is not defined there.
    left_out : (K,) ndarray of float64
        Of all units but one (or but one group), for the acceleration; NaN where it is not defined.
    units : int
        How many units were resampled, at least 2.
    confidence : float
        What the interval is meant to hold, 0 to 1.
    corrected : bool
        Whether bias and skewness are corrected; not for what every resample overestimates, such as ECE.
    """
    known = np.sort(drawn[~np.isnan(drawn)])
    middle = acceleration = 0.0
    if corrected:
        equal = np.abs(known - value) <= _SAME
        below = float(np.mean((known < value) & ~equal) + np.mean(equal) / 2)
        least = 1 / (len(known) + 1)
        middle = _NORMAL.inv_cdf(min(max(below, least), 1 - least))
        some = left_out[~np.isnan(left_out)]
        influence = some.mean() - some if some.size else np.zeros(1)
        spread = float((influence**2).sum())
        acceleration = float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    reach = math.sqrt(units / (units - 1)) * t_quantile((1 + confidence) / 2, units - 1)
    low, high = (_sorted_quantile(known, _level(sign * reach, middle, acceleration)) for sign in (-1, 1))
    return min(low, value), max(high, value)


def clopper_pearson(events: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact two-sided interval of a share (Clopper & Pearson 1934, Biometrika 26:404).

    Parameters
    ----------
    events, trials : float
        How many of how many; whole numbers, or effective ones.
    confidence : float
        At least this much of the time the interval holds the truth, if trials are independent.

    Raises
    ------
    DataError
        If there are no trials, or events are not between 0 and trials.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 1290)
    >>> low, round(high, 5)
    (0.0, 0.00286)
    """
    if not 0 <= events <= trials or trials <= 0:
        raise DataError(f"{events} of {trials} is no share: give 0 <= events <= trials and at least one trial")
    tail = (1 - confidence) / 2
    low = 0.0 if events == 0 else beta_quantile(tail, events, trials - events + 1)
    high = 1.0 if events == trials else beta_quantile(1 - tail, events + 1, trials - events)
    return low, high


def exact_limits(events: FloatArray, trials: FloatArray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval of a share whose cells come from units (Korn & Graubard 1998).

    Parameters
    ----------
    events, trials : (U,) ndarray of float64
        How many of how many cells of each unit; units without a trial count for nothing.
    confidence : float
        What the interval is meant to hold, 0 to 1.
    """
    there = trials > 0
    events, trials = events[there], trials[there]
    units, cells = len(trials), float(trials.sum())
    effective, share = cells, float(events.sum()) / cells
    if 1 < units < cells:
        if 0 < share < 1:
            variance = units / (units - 1) * float(((events - share * trials) ** 2).sum()) / cells**2
            effective = min(cells, share * (1 - share) / variance) if variance > 0 else cells
        tail = (1 + confidence) / 2
        effective *= (t_quantile(tail, cells - 1) / t_quantile(tail, units - 1)) ** 2
        effective = min(cells, effective)
    seen = share * effective
    return clopper_pearson(effective if share == 1 else seen, effective, confidence)


@lru_cache(maxsize=1024)
def t_quantile(p: float, degrees: float) -> float:
    """Quantile of Student's t with so many degrees of freedom."""
    if p < 0.5:
        return -t_quantile(1 - p, degrees)
    if p == 0.5:
        return 0.0
    x = beta_quantile(2 * (1 - p), degrees / 2, 0.5)
    return math.sqrt(degrees * (1 - x) / x)


def beta_quantile(p: float, a: float, b: float) -> float:
    """Where the beta distribution with parameters a and b reaches the probability p: Newton's steps in a bracket."""
    if p <= 0 or p >= 1:
        return float(p >= 1)
    low, high = 0.0, 1.0
    x = a / (a + b)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    for _ in range(200):
        error = beta_probability(x, a, b) - p
        if error > 0:
            high = x
        else:
            low = x
        exponent = scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x) if 0 < x < 1 else -math.inf
        step = error / math.exp(exponent) if -700 < exponent < 700 else math.inf
        following = x - step if math.isfinite(step) and low < x - step < high else (low + high) / 2
        if abs(following - x) <= 4e-16 * max(following, x) or high - low <= 1e-300:
            return following
        x = following
    return x


def beta_probability(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b), by its continued fraction (Press et al. 2007, section 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_probability(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away(1 + term * d, tiny)
            c = _away(1 + term / c, tiny)
            fraction *= c * d
        if abs(c * d - 1) < 3e-16:
            break
    return front * fraction


def _level(reach: float, middle: float, acceleration: float) -> float:
    """Which quantile of the resamples a limit is."""
    shifted = middle + reach
    rest = 1 - acceleration * shifted
    if rest <= 0:
        return float(shifted > 0)
    return _NORMAL.cdf(min(max(middle + shifted / rest, -_FARTHEST), _FARTHEST))


def _sorted_quantile(ascending: FloatArray, level: float) -> float:
    """As numpy.quantile, of what is sorted already."""
    place = level * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return float(ascending[below] + (place - below) * (ascending[above] - ascending[below]))


def _away(number: float, tiny: float) -> float:
    return number if abs(number) > tiny else tiny
