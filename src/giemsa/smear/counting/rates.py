"""How often the classifier is right on a slide that nobody has reviewed yet.

Slides differ. On the logit scale a slide's rate is mu + u, with u ~ Normal(0, tau), and a field's on it mu + u + v, with
v ~ Normal(0, omega); tau and omega have half-normal priors, mu a wide normal one. Sums over grids stand for the
integrals, one dimension at a time: over v for each field, over u for each slide, over mu, tau and omega at the end.
What a new smear goes by is the *predictive* distribution of a new slide's rate over all of these: where few slides
were reviewed it is wide, since the spread between slides is then known by its prior only.

Both kinds of rate are treated so: false alarms (healthy cells that are called) and sensitivity (infected cells that are
found and called). How called cells spread over the strata of score is a Dirichlet distribution of each kind.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.smear.counting.strata import CALLED, NEAR, STRATA, added

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from giemsa.smear.counting.strata import FieldCounts

    Array = NDArray[np.float64]

STEP: Final = 0.05
"""Spacing of all grids of the logarithm of a rate or parasitaemia."""
SENSITIVITY_BINS, FALSE_ALARM_BINS = 70, 240
UNLIKE: Final = 0.1
"""One slide in ten is unlike those that were reviewed: it differs from them by as much again as the prior expects."""
_GAP: Final = 0.1
_LOGIT: Final = np.arange(-12.0, 7.01, _GAP)
_TAU: Final = np.array([0.03, 0.15, 0.3, 0.45, 0.6, 0.8, 1.05, 1.35, 1.75, 2.3])
_OMEGA: Final = np.array([0.03, 0.25, 0.5, 0.8, 1.2])
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_WITHIN: Final = np.linspace(-0.4, 0.4, 5) * _GAP


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a rate before a slide was reviewed.

    Attributes
    ----------
    centre, spread : float
        Of mu, on the logit scale.
    slides, fields : float
        Scales of the half-normal priors of tau and omega.
    """

    centre: float
    spread: float
    slides: float
    fields: float


FALSE_ALARMS_PRIOR: Final = Prior(-4.2, 2.0, 1.0, 0.6)
SENSITIVITY_PRIOR: Final = Prior(1.1, 1.5, 0.8, 0.5)
ASSUMED_FALSE_ALARMS: Final = (-4.2, 1.7)
"""Logit-normal where no slide was reviewed: 95 % between 0.05 % and 30 % of healthy cells."""
ASSUMED_SENSITIVITY: Final = (0.6, 1.9)
"""Logit-normal where no slide was reviewed: 95 % between 4 % and 99 % of infected cells."""

_CALLED_STRATA: Final = len(STRATA) - CALLED
_INFECTED_MEAN: Final = (0.10, 0.13, 0.19, 0.26, 0.32)
_HEALTHY_MEAN: Final = (0.33, 0.27, 0.20, 0.13, 0.07)
_ASSUMED_WEIGHT: Final = 4.0  # cells that the assumed spread over strata is worth
# With UNLIKE chosen so that limits hold where slides vary as much as their mean (benchmarks/count_coverage.py).
_SLIDES_ALIKE: Final = (2.0, 8.0)  # least and most that a slide's spread over strata is believed to be like another's
_ONE_SLIDE: Final = 5.0
_MISSED_MEAN: Final = (0.45, 0.25, 0.30)  # infected cells that are not called: in the bulk, near the cut, not found


@dataclass(frozen=True, eq=False)
class SlideRate:
    """A rate over slides: weights of what its mu, tau and omega may be.

    Attributes
    ----------
    weight : ndarray
        float64 [tau, omega, mu], sums to 1.
    tau, omega : ndarray
        What the first two axes stand for.
    unlike : float
        By how much more, on the logit scale, slides differ that are unlike the others.
    """

    weight: Array
    tau: Array
    omega: Array
    unlike: float

    def new_slide(self, fields: int) -> Array:
        """Predictive distribution of the rate over the fields of a new slide.

        Parameters
        ----------
        fields : int
            Over how many of its fields the rate is taken; few of them differ more.

        Returns
        -------
        ndarray
            float64 on the grid of logits, sums to 1.
        """
        mass = np.zeros(len(_LOGIT))
        for place, omega in enumerate(self.omega):
            drawn = np.zeros(len(_LOGIT))
            for tau, weight in zip(self.tau, self.weight[:, place], strict=True):
                within = omega / np.sqrt(fields)
                alike = _blurred(weight, float(np.hypot(tau, within)))[0]
                other = _blurred(weight, float(np.hypot(np.hypot(tau, within), self.unlike)))[0]
                drawn += (1 - UNLIKE) * alike + UNLIKE * other
            mass += _moved(drawn, float(omega) * np.sqrt(1 - 1 / fields))
        return np.asarray(mass / mass.sum())

    @classmethod
    def assumed(cls, centre: float, spread: float) -> SlideRate:
        """A rate of which nothing was measured."""
        weight = np.exp(-0.5 * ((_LOGIT - centre) / spread) ** 2)
        return cls((weight / weight.sum()).reshape(1, 1, -1), np.array([0.03]), np.array([0.0]), 0.0)


def fit_slides(slides: Iterable[Sequence[tuple[int, int]]], prior: Prior) -> SlideRate:
    """Fit a rate to what was counted on reviewed slides.

    Parameters
    ----------
    slides : iterable of sequence of (int, int)
        For each slide, of each field how many of how many cells.
    prior : Prior
        What is believed before.
    """
    tau_prior = _half_normal(_TAU, prior.slides)
    omega_prior = _half_normal(_OMEGA, prior.fields)
    mu_prior = np.exp(-0.5 * ((_LOGIT - prior.centre) / prior.spread) ** 2)
    log_weight = np.log(tau_prior[:, None, None] * omega_prior[:, None] * mu_prior)
    for slide in slides:
        counted = np.array([part for part in slide if part[1] > 0], float).reshape(-1, 2)
        if not len(counted):
            continue
        log_likelihood = _log_likelihood(counted)  # [omega, logit]
        top = log_likelihood.max()
        likelihood = np.exp(log_likelihood - top)
        for place, tau in enumerate(_TAU):
            log_weight[place] += np.log(np.maximum(_blurred(likelihood, float(tau)), 1e-300)) + top
    weight = np.exp(log_weight - log_weight.max())
    return SlideRate(weight / weight.sum(), _TAU, _OMEGA, prior.slides)


def _log_likelihood(counted: Array) -> Array:
    """Log likelihood of a slide's fields for each omega and each logit of the slide, float64 [omega, logit]."""
    logits = _LOGIT[None, :, None] + _OMEGA[:, None, None] * _NODES
    success, failure = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    k, n = counted.T
    total = np.zeros(logits.shape[:2])
    for start in range(0, len(k), 64):
        here = slice(start, start + 64)
        each = k[here, None, None, None] * success + (n - k)[here, None, None, None] * failure
        top = each.max(axis=-1)
        inside = np.exp(each - top[..., None]) @ (_WEIGHTS / _WEIGHTS.sum())
        total += (np.log(inside) + top).sum(axis=0)
    return total


def _blurred(rows: Array, deviation: float) -> Array:
    """Convolve with a normal law along the grid of logits, float64 [..., logit]."""
    width = max(deviation, 0.4 * _GAP)
    reach = min(len(_LOGIT) - 1, math.ceil(5 * width / _GAP))
    law = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _GAP / width) ** 2)
    law /= law.sum()
    return np.stack([np.convolve(row, law)[reach : reach + len(_LOGIT)] for row in np.atleast_2d(rows)])


def _moved(mass: Array, deviation: float) -> Array:
    """Take each logit to that of its mean over fields: fields of a slide vary, and rates average, not logits."""
    if deviation < 0.05:
        return mass
    rates = (1 / (1 + np.exp(-(_LOGIT[:, None] + deviation * _NODES)))) @ (_WEIGHTS / _WEIGHTS.sum())
    place = np.clip((np.log(rates) - np.log1p(-rates) - _LOGIT[0]) / _GAP, 0, len(_LOGIT) - 1.001)
    return split(place, mass, len(_LOGIT))


def split(place: Array, mass: Array, bins: int) -> Array:
    """Share mass between the two whole places around each place, so that the mean stays."""
    low = np.floor(place).astype(int)
    part = place - low
    upper = np.minimum(low + 1, bins - 1)
    return np.asarray(np.bincount(low, mass * (1 - part), bins) + np.bincount(upper, mass * part, bins), float)


def _half_normal(values: Array, scale: float) -> Array:
    edges = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [values[-1] * 1.3]])
    return np.diff(edges) * np.exp(-0.5 * (values / scale) ** 2)


def log_mass(mass: Array, bins: int) -> Array:
    """Bin a distribution over the grid of logits by -ln(rate): bin b is at (b + 0.5) `STEP`.

    Parameters
    ----------
    mass : ndarray
        Of `SlideRate.new_slide`.
    bins : int
        The last one takes all that lies beyond it.
    """
    logits = (_LOGIT[:, None] + _WITHIN).ravel()
    place = np.clip(np.logaddexp(0, -logits) / STEP - 0.5, 0, bins - 1.001)
    binned = split(place, np.repeat(mass / len(_WITHIN), len(_WITHIN)), bins)
    return np.asarray(binned / binned.sum())


@dataclass(frozen=True, slots=True)
class Known:
    """All that a smear's count goes by, apart from the smear: what the page is given too.

    Attributes
    ----------
    sensitivity : ndarray
        float64 [SENSITIVITY_BINS], weights of the sensitivity on this slide; bin b stands for exp(-(b + 0.5) `STEP`).
    false_alarms : ndarray
        float64 [FALSE_ALARM_BINS], the same of the false alarms per healthy cell.
    infected, healthy : tuple of float
        Dirichlet's parameters: how called cells of both kinds spread over the called strata.
    missed : tuple of float
        Of infected cells that are not called, the shares in the bulk and near the cut; the rest was not found.
    """

    sensitivity: Array
    false_alarms: Array
    infected: tuple[float, ...]
    healthy: tuple[float, ...]
    missed: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Rates:
    """How often the classifier is right, as far as it is known.

    Attributes
    ----------
    sensitivity, false_alarms : SlideRate
        Of infected cells found and called, and of healthy cells called.
    infected, healthy : tuple of float
        Dirichlet's parameters over the called strata.
    missed : tuple of float
        As in `Known`.
    source : str
        Where they come from, as a sentence's end.
    measured : bool
        Whether slides of this laboratory were reviewed.
    slides : int
        How many; 0 where none.
    """

    sensitivity: SlideRate
    false_alarms: SlideRate
    infected: tuple[float, ...]
    healthy: tuple[float, ...]
    missed: tuple[float, float]
    source: str
    measured: bool
    slides: int

    def for_smear(self, fields: int) -> Known:
        """What a smear of so many fields is counted with."""
        return Known(
            log_mass(self.sensitivity.new_slide(fields), SENSITIVITY_BINS),
            log_mass(self.false_alarms.new_slide(fields), FALSE_ALARM_BINS),
            self.infected,
            self.healthy,
            self.missed,
        )

    @cached_property
    def _of_ten_fields(self) -> Known:
        return self.for_smear(10)

    @cached_property
    def sensitivity_interval(self) -> tuple[float, float, float]:
        """Median sensitivity on a new slide of ten fields, and the 95 % limits."""
        return _limits(self._of_ten_fields.sensitivity)

    @cached_property
    def false_alarms_interval(self) -> tuple[float, float, float]:
        """Median false alarms per healthy cell on a new slide of ten fields, and the 95 % limits."""
        return _limits(self._of_ten_fields.false_alarms)


def _limits(mass: Array) -> tuple[float, float, float]:
    edges = np.exp(-STEP * np.arange(len(mass), -1, -1))
    passed = np.concatenate([[0.0], np.cumsum(mass[::-1])])
    low, middle, high = np.interp((0.025, 0.5, 0.975), passed, edges)
    return float(middle), float(low), float(high)


@lru_cache(maxsize=1)
def assumed_rates() -> Rates:
    """The wide rates of a classifier in a laboratory that it has not been measured in."""
    return Rates(
        SlideRate.assumed(*ASSUMED_SENSITIVITY),
        SlideRate.assumed(*ASSUMED_FALSE_ALARMS),
        tuple(_ASSUMED_WEIGHT * share for share in _INFECTED_MEAN),
        tuple(_ASSUMED_WEIGHT * share for share in _HEALTHY_MEAN),
        _MISSED_MEAN[:2],
        "assumed, since no reviewed slide of this laboratory was given",
        measured=False,
        slides=0,
    )


def measured_rates(fields: Sequence[FieldCounts], *, by_stratum: bool = True, slides_known: bool = True) -> Rates:
    """Rates from what was counted in reviewed fields.

    Parameters
    ----------
    fields : sequence of FieldCounts
        Fields of the same slide, or where slides have no name of the same patient, are one slide; all fields without
        either name are one slide too.
    by_stratum : bool
        Whether the counts by called stratum are real: files of version 1 hold calls only.
    slides_known : bool
        Whether the fields' slides are known; said where not.
    """
    slides = slides_of(fields)
    counts = [
        (added([field.healthy for field in slide])[CALLED:], added([field.infected for field in slide])[CALLED:])
        for slide in slides.values()
    ] if by_stratum else []  # fmt: skip
    found, missed = (sum(getattr(f, name) for f in fields) for name in ("true_positives", "false_negatives"))
    false, right = (sum(getattr(f, name) for f in fields) for name in ("false_positives", "true_negatives"))
    places = np.array([sum(f.infected[0] for f in fields), sum(f.infected[NEAR] for f in fields),
                       sum(f.infected_not_found for f in fields)], float)  # fmt: skip
    shares = (places + 4 * np.array(_MISSED_MEAN)) / (places.sum() + 4)
    named = f"{len(fields)} reviewed fields of this laboratory"
    if slides_known:
        named = (
            f"{len(slides)} reviewed slide{'s' if len(slides) != 1 else ''} of this laboratory ({len(fields)} fields)"
        )
    return Rates(
        fit_slides(([(f.true_positives, f.true_positives + f.false_negatives) for f in slide]
                    for slide in slides.values()), SENSITIVITY_PRIOR),
        fit_slides(([(f.false_positives, f.false_positives + f.true_negatives) for f in slide]
                    for slide in slides.values()), FALSE_ALARMS_PRIOR),
        _spread([infected for _, infected in counts], _INFECTED_MEAN),
        _spread([healthy for healthy, _ in counts], _HEALTHY_MEAN),
        (float(shares[0]), float(shares[1])),
        f"{named}: {found} of {found + missed} infected cells called, "
        f"{false} of {false + right:,} healthy ones",
        measured=True,
        slides=len(slides),
    )  # fmt: skip


def slides_of(fields: Sequence[FieldCounts]) -> dict[tuple[str, str], list[FieldCounts]]:
    """Reviewed fields by slide."""
    slides: dict[tuple[str, str], list[FieldCounts]] = defaultdict(list)
    for field in fields:
        slides[field.patient, field.slide].append(field)
    return dict(slides)


def _spread(slides: Sequence[tuple[int, ...]], assumed: Sequence[float]) -> tuple[float, ...]:
    """Dirichlet's parameters of called cells over the called strata: the mean of all, worth what slides are alike.

    How much slides differ is estimated by moments: Pearson's chi-square between slides, of which the excess over its
    degrees of freedom is what a Dirichlet distribution between slides adds.
    """
    counts = np.array(slides, float).reshape(-1, _CALLED_STRATA)
    counts = counts[counts.sum(axis=1) > 0]
    total = float(counts.sum())
    mean = (counts.sum(axis=0) + _ASSUMED_WEIGHT * np.array(assumed)) / (total + _ASSUMED_WEIGHT)
    alike = _ONE_SLIDE
    if len(counts) > 1:
        sizes = counts.sum(axis=1)
        squares = float(((counts - np.outer(sizes, mean)) ** 2 / np.outer(sizes, mean)).sum())
        freedom = (len(counts) - 1) * (_CALLED_STRATA - 1)
        excess = (squares - freedom) / freedom
        between = float((sizes**2).sum() / total - 1)  # how much a difference between slides weighs
        measured = between / excess - 1 if excess * _SLIDES_ALIKE[1] > between else _SLIDES_ALIKE[1]
        alike = float(np.clip(((len(counts) - 1) * measured + _ONE_SLIDE) / len(counts), *_SLIDES_ALIKE))
    worth = 1 / (1 / alike + 1 / (total + _ASSUMED_WEIGHT))
    return tuple(float(worth * share) for share in mean)
