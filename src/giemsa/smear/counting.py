"""From calls to parasitaemia: an interval that knows the sampling error and the classifier's, and what cannot be told.

Of n red cells k were called parasitized. A classifier misses some parasites (its sensitivity) and calls some healthy
cells parasitized (its false alarms), so that k / n is not the parasitaemia; Rogan and Gladen (1978, doi
10.1093/oxfordjournals.aje.a112510) take both into account, and the Bayesian form of their estimate, used here, also how
well they are known (Joseph, Gyorkos and Coupal 1995, doi 10.1093/oxfordjournals.aje.a117428):

    k ~ Binomial(n, pi * sensitivity + (1 - pi) * false_alarms),    pi ~ Uniform(0, 1)

with `DRAWS` draws of sensitivity and false alarms. Where a site's reviewed fields are given they are beta
posteriors of what was counted there (Jeffreys' prior). Cells of one field share light, stain and thickness, and are not
independent: all counts are divided by the design effect that the site's fields show (Rao and Scott 1992, doi
10.2307/2532311). Without such a file nobody knows how this classifier does in this laboratory: wide ranges are
assumed, and named.

Everything is computed on a grid of pi, without chance beyond the draws, which come from a seeded generator: the same
numbers come out each time, and the same code, in JavaScript, lets the report follow a person's decisions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Draws = NDArray[np.float64]

DRAWS: Final = 400
LEVEL: Final = 0.95
ASSUMED_SENSITIVITY: Final = (0.35, 0.98)
"""Range assumed where no site's rates are given; uniform."""
ASSUMED_FALSE_ALARMS: Final = (0.0005, 0.05)
"""Range assumed where no site's rates are given, per healthy cell; uniform in its logarithm."""
RED_CELLS_PER_UL: Final = 5_000_000
"""Red cells in a microlitre of blood, where they were not counted (WHO 2016, Malaria parasite counting, MM-SOP-09)."""
_GRID: Final = 480
_EXACT: Final = 30


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
        """Give the same in another unit."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class FieldCounts:
    """What was right and wrong in one reviewed field: calls by the classifier against a person's labels."""

    field: str
    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int


@dataclass(frozen=True)
class Rates:
    """How often the classifier is right, as draws of what it may be.

    Attributes
    ----------
    sensitivity, false_alarms : ndarray
        float64 [DRAWS]: shares of infected and of healthy cells that are called parasitized.
    design_effect : float
        By how much counts of cells must be divided, since cells of a field are not independent; 1 or more.
    source : str
        Where they come from, as a sentence's end: "21 reviewed fields of this site", "assumed".
    """

    sensitivity: Draws
    false_alarms: Draws
    design_effect: float
    source: str
    measured: bool

    @cached_property
    def mean_sensitivity(self) -> float:
        """The sensitivity's mean."""
        return float(self.sensitivity.mean())

    @cached_property
    def mean_false_alarms(self) -> float:
        """The false alarms' mean, per healthy cell."""
        return float(self.false_alarms.mean())

    @cached_property
    def sensitivity_interval(self) -> tuple[float, float]:
        """Give the sensitivity's 95 % interval."""
        return _central(self.sensitivity)

    @cached_property
    def false_alarms_interval(self) -> tuple[float, float]:
        """Give the false alarms' 95 % interval, per healthy cell."""
        return _central(self.false_alarms)

    def left(self, unreviewed: float) -> Rates:
        """Give the rates when a person has looked at all suspicious cells but this share of them."""
        return Rates(self.sensitivity, self.false_alarms * unreviewed, self.design_effect, self.source, self.measured)


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted, and what it can mean.

    Attributes
    ----------
    red_cells : int
        Cells counted.
    called : int
        Cells called parasitized, a person's decisions taken into account.
    confirmed, rejected : int
        Of the suspicious cells, those that a person decided on.
    parasitaemia : Interval
        The share of red cells that carry parasites.
    told_from_none : bool
        Whether more cells were called than false alarms explain (at 95 %).
    rules_out : float
        The parasitaemia above which it is ruled out, one-sided, 95 %.
    detection_limit : float
        The lowest parasitaemia that would be told from none in 95 of 100 such smears, none being called some in at
        most 5 of 100 smears without parasites (Currie 1968, doi 10.1021/ac60259a007). 1 where there is none.
    cells_to_halve_it : int or None
        How many more red cells would halve the detection limit; None where no number would, since the false alarms
        are not known well enough.
    per_ul : Interval
        Parasites per microlitre.
    red_cells_per_ul : float
        The red cell count used for that.
    red_cells_per_ul_assumed : bool
        Whether that was assumed.
    """

    red_cells: int
    called: int
    confirmed: int
    rejected: int
    parasitaemia: Interval
    told_from_none: bool
    rules_out: float
    detection_limit: float
    cells_to_halve_it: int | None
    per_ul: Interval
    red_cells_per_ul: float
    red_cells_per_ul_assumed: bool


def _central(draws: Draws) -> tuple[float, float]:
    low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def assumed_rates(*, seed: int = 0) -> Rates:
    """Give the wide rates of a classifier in a laboratory that it has not been measured in."""
    rng = np.random.default_rng(seed)
    low, high = np.log(ASSUMED_FALSE_ALARMS)
    return Rates(
        rng.uniform(*ASSUMED_SENSITIVITY, DRAWS),
        np.exp(rng.uniform(low, high, DRAWS)),
        1.0,
        f"assumed, since no reviewed fields of this laboratory were given: sensitivity "
        f"{100 * ASSUMED_SENSITIVITY[0]:.0f} to {100 * ASSUMED_SENSITIVITY[1]:.0f} %, false alarms "
        f"{100 * ASSUMED_FALSE_ALARMS[0]:g} to {100 * ASSUMED_FALSE_ALARMS[1]:g} % of healthy cells",
        measured=False,
    )


def measured_rates(fields: Sequence[FieldCounts], *, seed: int = 0) -> Rates:
    """Turn what was counted in reviewed fields into rates.

    Raises
    ------
    UsageError
        If there is no healthy or no infected cell in them.
    """
    found = sum(f.true_positives for f in fields)
    missed = sum(f.false_negatives for f in fields)
    false = sum(f.false_positives for f in fields)
    right = sum(f.true_negatives for f in fields)
    if found + missed == 0 or false + right == 0:
        raise UsageError(
            f"the {len(fields)} reviewed fields have {found + missed} infected and {false + right} healthy red cells; "
            "expected some of both, so review more fields of this laboratory"
        )
    effect_healthy = design_effect([(f.false_positives, f.false_positives + f.true_negatives) for f in fields])
    effect_infected = design_effect([(f.true_positives, f.true_positives + f.false_negatives) for f in fields])
    rng = np.random.default_rng(seed)
    return Rates(
        rng.beta(found / effect_infected + 0.5, missed / effect_infected + 0.5, DRAWS),
        rng.beta(false / effect_healthy + 0.5, right / effect_healthy + 0.5, DRAWS),
        effect_healthy,
        f"{len(fields)} reviewed fields of this site: {found} of {found + missed} infected cells called, "
        f"{false} of {false + right:,} healthy ones",
        measured=True,
    )


def design_effect(parts: Sequence[tuple[int, int]]) -> float:
    """Measure how much more a share varies over clusters than over independent draws (Rao and Scott 1992).

    Parameters
    ----------
    parts : sequence of (int, int)
        For each cluster, how many of how many.

    Returns
    -------
    float
        At least 1; 1 where nothing can be measured. A variance between m clusters is itself known to a standard error of
        sqrt(2 / (m - 1)) of it; the effect is taken one such error larger than measured, so that few fields promise less.
    """
    counted = np.array([part for part in parts if part[1] > 0], float).reshape(-1, 2)
    clusters, total = len(counted), float(counted[:, 1].sum())
    share = counted[:, 0].sum() / total if total else 0.0
    if clusters < 2 or share in (0.0, 1.0):
        return 1.0
    between = clusters / (clusters - 1) * float(((counted[:, 0] - share * counted[:, 1]) ** 2).sum()) / total**2
    larger = 1 + np.sqrt(2 / (clusters - 1))
    return max(1.0, float(larger) * between / (share * (1 - share) / total))


def count(
    red_cells: int,
    called: int,
    rates: Rates,
    *,
    confirmed: int = 0,
    rejected: int = 0,
    red_cells_per_ul: float | None = None,
) -> Count:
    """Say what a count means.

    Parameters
    ----------
    red_cells : int
        Cells judged; at least one.
    called : int
        Of them, called parasitized by the classifier, before any decision.
    rates : Rates
        How often it is right.
    confirmed, rejected : int
        Of the called, what a person decided; false alarms are then possible only among the others.
    red_cells_per_ul : float, optional
        Red cells per microlitre of this patient; None means that `RED_CELLS_PER_UL` is assumed.

    Raises
    ------
    UsageError
        If the numbers do not fit together.
    """
    if not (red_cells >= 1 and 0 <= confirmed + rejected <= called <= red_cells and min(confirmed, rejected) >= 0):
        raise UsageError(f"{called} of {red_cells} cells called, {confirmed} confirmed and {rejected} rejected do not "
                         "fit together")  # fmt: skip
    open_share = (called - confirmed - rejected) / called if called else 1.0
    left = rates.left(open_share)
    positive = called - rejected
    grid, weight = posterior(red_cells, positive, left)
    critical = critical_count(red_cells, left)
    told = confirmed > 0 or positive > critical
    alpha = 1 - LEVEL
    low = quantile(grid, weight, alpha / 2) if told else 0.0
    high = quantile(grid, weight, 1 - alpha / 2 if told else LEVEL)
    value = min(max(_rogan_gladen(red_cells, positive, left), low), high)
    limit = detection_limit(red_cells, left)
    parasitaemia = Interval(value, low, high)
    assumed = red_cells_per_ul is None
    per_ul = float(RED_CELLS_PER_UL if red_cells_per_ul is None else red_cells_per_ul)
    return Count(
        red_cells=red_cells,
        called=positive,
        confirmed=confirmed,
        rejected=rejected,
        parasitaemia=parasitaemia,
        told_from_none=told,
        rules_out=quantile(grid, weight, LEVEL),
        detection_limit=limit,
        cells_to_halve_it=cells_to_halve(red_cells, limit, left),
        per_ul=parasitaemia.times(per_ul),
        red_cells_per_ul=per_ul,
        red_cells_per_ul_assumed=assumed,
    )


def posterior(red_cells: int, called: int, rates: Rates) -> tuple[Draws, Draws]:
    """Give the grid of parasitaemias and the posterior's weight of each, both float64 [480]; the weights sum to 1."""
    root = (np.arange(_GRID) + 0.5) / _GRID
    grid = root**3  # fine near 0, where parasitaemias are
    width = 3 * root**2
    share = np.clip(
        grid[:, np.newaxis] * rates.sensitivity + (1 - grid[:, np.newaxis]) * rates.false_alarms, 1e-12, 1 - 1e-12
    )
    k, n = called / rates.design_effect, red_cells / rates.design_effect
    log_likelihood = k * np.log(share) + (n - k) * np.log1p(-share)
    likelihood = np.exp(log_likelihood - log_likelihood.max()).mean(axis=1) * width
    return grid, likelihood / likelihood.sum()


def quantile(grid: Draws, weight: Draws, level: float) -> float:
    """Give a quantile of the posterior, linear between the grid's points."""
    edges = ((np.arange(_GRID + 1)) / _GRID) ** 3
    return float(np.interp(level, np.concatenate([[0.0], np.cumsum(weight)]), edges))


def critical_count(red_cells: int, rates: Rates) -> int:
    """Give the most calls that false alarms alone explain in 95 of 100 smears without parasites."""
    mean = rates.false_alarms * red_cells
    low, high = -1, 1
    while float(_below(high, mean, rates.design_effect).mean()) < LEVEL:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if float(_below(middle, mean, rates.design_effect).mean()) < LEVEL else (low, middle)
    return high


def detection_limit(red_cells: int, rates: Rates) -> float:
    """Give the lowest parasitaemia that is told from none, with 5 % of errors on both sides; 1 where none is."""
    critical = critical_count(red_cells, rates)

    def missed(pi: float) -> float:
        mean = red_cells * (pi * rates.sensitivity + (1 - pi) * rates.false_alarms)
        return float(_below(critical, mean, rates.design_effect).mean())

    low, high = 0.0, 1.0
    if missed(high) > 1 - LEVEL:
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if missed(middle) > 1 - LEVEL else (low, middle)
    return high


def cells_to_halve(red_cells: int, limit: float, rates: Rates) -> int | None:
    """Tell how many more red cells would halve the detection limit; None where a thousand times as many would not."""
    if limit >= 1:
        return None
    low, high = red_cells, red_cells * 1024
    if detection_limit(high, rates) > limit / 2:
        return None
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if detection_limit(middle, rates) > limit / 2 else (low, middle)
    return high - red_cells


def _rogan_gladen(red_cells: int, called: int, rates: Rates) -> float:
    gain = rates.mean_sensitivity - rates.mean_false_alarms
    return (called / red_cells - rates.mean_false_alarms) / gain if gain > 0 else 0.0


def _below(k: int, mean: Draws, effect: float) -> Draws:
    """Give P(X <= k) for counts of these means and `effect` times Poisson's variance.

    Exact sums for few; beyond, P is that of chi-square's upper tail, by Wilson and Hilferty's cube root (1931, doi
    10.1073/pnas.17.12.684), which is right to 0.001 there.
    """
    scaled = np.maximum(mean / effect, 1e-12)
    most = k / effect
    if most < _EXACT:
        terms = np.arange(int(most) + 1)[:, np.newaxis]
        log_factorials = np.cumsum(np.log(np.maximum(terms, 1)), axis=0)
        return np.asarray(np.exp(terms * np.log(scaled) - scaled - log_factorials).sum(axis=0))
    z = 3 * np.sqrt(most + 1) * (np.cbrt(scaled / (most + 1)) - 1 + 1 / (9 * (most + 1)))
    return np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in z])
