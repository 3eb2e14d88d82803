"""What a smear's parasitaemia can be, given what was seen in it and how often the classifier is right.

Of n red cells, X are infected and called, Y are healthy and called:

    X ~ Poisson(n pi s),    Y ~ Poisson(n (1 - pi) f)

where the sensitivity s and the false alarms f are those of a slide that nobody has reviewed yet: their predictive
distributions (`rates`), on grids of their logarithms. Only the sum X + Y is seen, and how it spreads over the strata of
score: both kinds of cells spread by a multinomial law whose shares have a Dirichlet distribution. A person who looks at
cells of a stratum samples it. All of this has closed forms: within a stratum, the number of infected ones among the
cells that nobody has looked at is beta-binomial, whatever order the strata are looked at in; its convolution over the
strata, times the Dirichlet normalisers of X and Y, times the two Poisson mixtures, is the likelihood of pi.

A reader errs, too: of the healthy cells that were looked at some are confirmed, of the infected ones some are rejected,
and both follow a beta negative binomial law. Nothing is drawn at random. The page computes the same in JavaScript
(`count.js`); both are held by the same vectors (`tests/data/count_vectors.json`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from giemsa.smear.counting.rates import SENSITIVITY_BINS, STEP, split
from giemsa.smear.counting.special import beta_binomial, beta_negative_binomial, log_gamma, poisson_at_least
from giemsa.smear.counting.strata import BULK, CALLED, NEAR

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from giemsa.smear.counting.rates import Known
    from giemsa.smear.counting.strata import Evidence

    Array = NDArray[np.float64]

PI_BINS: Final = 280
"""Bin i of the parasitaemia is centred at exp(-(PI_BINS - i - 0.5) `STEP`): from 0.8 in a million to 1."""
_HEALTHY_SHIFTS: Final = 90
_BINS: Final = 96  # about so many numbers of infected called cells are told apart
_SHAPE: Final = (0.8 * STEP) ** -2  # of the gamma law that fills the gaps between grid points
_RARE: Final = 1e-6  # reader's errors that are less likely than this are left out


@dataclass(frozen=True, slots=True)
class Reader:
    """How often a person errs who looks at a cell, as beta distributions.

    Attributes
    ----------
    false_confirmations : tuple of float
        Of healthy cells looked at, the share confirmed: Beta(a, b).
    misses : tuple of float
        Of infected cells looked at, the share rejected: Beta(a, b).
    bulk : float
        How many times rarer a healthy cell of the bulk, which nothing makes suspicious, is confirmed.
    """

    false_confirmations: tuple[float, float] = (2.0, 300.0)
    misses: tuple[float, float] = (1.0, 19.0)
    bulk: float = 0.1

    @property
    def mean_false(self) -> float:
        """Mean share of healthy cells that are confirmed."""
        return self.false_confirmations[0] / sum(self.false_confirmations)

    @property
    def mean_missed(self) -> float:
        """Mean share of infected cells that are rejected."""
        return self.misses[0] / sum(self.misses)


ASSUMED_READER: Final = Reader()
"""A reader who errs in 0.7 % of healthy cells (95 %: 0.1 to 1.8 %) and 5 % of infected ones (0.1 to 18 %)."""

_PI_EDGES: Final = np.exp(-STEP * np.arange(PI_BINS, -1, -1))
PI: Final = np.exp(-STEP * (np.arange(PI_BINS, 0, -1) - 0.5))
_SHIFT_OF: Final = np.minimum(np.round(-np.log1p(-PI) / STEP).astype(int), _HEALTHY_SHIFTS - 1)
_PLACE: Final = (PI_BINS - 1 - np.arange(PI_BINS))[:, None] + np.arange(SENSITIVITY_BINS)
_SENSITIVITY: Final = np.exp(-STEP * (np.arange(SENSITIVITY_BINS) + 0.5))


@dataclass(frozen=True)
class Posterior:
    """The parasitaemia's distribution; limits err to the safe side.

    Priors are those of the rate of infected *called* cells, pi s: in pi itself they would favour a low sensitivity. The
    median goes by Jeffreys' prior, (pi s)^(-1/2). Upper limits go by a uniform one, as if half a cell more had been
    seen (with no false alarms and a known sensitivity they are Clopper and Pearson's). Lower limits go by Jeffreys'
    prior and count on only half of the infected cells that the classifier is believed to miss: where a slide's
    parasites are easier than those of the reviewed slides, nearly all are called.

    Attributes
    ----------
    for_upper, for_median, for_lower : ndarray
        float64 [PI_BINS], at `PI`: the likelihood, averaged over the sensitivity with each one's prior.
    likelihood : ndarray
        float64 [PI_BINS]: the same without a prior.
    likelihood_of_none : float
        If there is no infected cell at all.
    """

    for_upper: Array
    for_median: Array
    for_lower: Array
    likelihood: Array
    likelihood_of_none: float

    def median(self) -> float:
        """Median parasitaemia."""
        return float(np.interp(0.5, self._passed(self.for_median, np.sqrt(_PI_EDGES)), _PI_EDGES))

    def lower(self, level: float) -> float:
        """Parasitaemia that is higher but for a chance of `level`."""
        return float(np.interp(level, self._lower, _PI_EDGES))

    def upper(self, level: float) -> float:
        """Parasitaemia that is lower with a chance of `level`."""
        return float(np.interp(level, self._upper, _PI_EDGES))

    @cached_property
    def _lower(self) -> Array:
        return self._passed(self.for_lower, np.sqrt(_PI_EDGES))

    @cached_property
    def _upper(self) -> Array:
        return self._passed(self.for_upper, _PI_EDGES)

    @staticmethod
    def _passed(likelihood: Array, prior: Array) -> Array:
        """Distribution function at the bins' edges; `prior` is the prior's there."""
        passed = np.concatenate([[0.0], np.cumsum(likelihood * np.diff(prior))])
        return np.asarray(passed / passed[-1])

    def chance_below(self, pi: ArrayLike, *, limit: str) -> Array:
        """Distribution function that `lower` or `upper` limits go by."""
        return np.asarray(np.interp(np.asarray(pi, float), _PI_EDGES, self._lower if limit == "lower" else self._upper))

    @property
    def support(self) -> float:
        """How many times likelier what was seen is with the best parasitaemia than with none."""
        return float(self.likelihood.max() / max(self.likelihood_of_none, 1e-300))


def posterior(evidence: Evidence, known: Known, reader: Reader = ASSUMED_READER) -> Posterior:
    """Posterior of the parasitaemia.

    Parameters
    ----------
    evidence : Evidence
        What the smear shows.
    known : Known
        What is known of a new slide: `Rates.for_smear`.
    reader : Reader
        Who looked at cells.
    """
    infected, mass, none = infected_called(evidence, known, reader)
    n, called = evidence.red_cells, evidence.called
    healthy = np.append(np.maximum(called - infected, 0), called)  # the last is for no infected cell
    of_healthy = _mixed_healthy(healthy, n, known.false_alarms)  # [shift, X]
    values = of_healthy[:, :-1] * mass
    rates = np.log(n) - STEP * (np.arange(PI_BINS + SENSITIVITY_BINS - 1) + 1)
    table = values @ _gamma_poisson(infected, rates)  # [shift, log rate of X]
    terms = table[_SHIFT_OF[:, None], _PLACE]
    factor, factor_of_none = _uncalled(evidence, known, reader)
    if factor is not None:
        terms = terms * factor
    return Posterior(
        terms @ (known.sensitivity * _SENSITIVITY),
        terms @ (known.sensitivity * np.sqrt(_SENSITIVITY)),
        terms @ (_half_missed(known.sensitivity) * np.sqrt(_SENSITIVITY)),
        terms @ known.sensitivity,
        float(of_healthy[0, -1] * none * factor_of_none),
    )


def _half_missed(sensitivity: Array) -> Array:
    """Weights of (1 + s) / 2."""
    place = np.clip(-np.log((1 + _SENSITIVITY) / 2) / STEP - 0.5, 0, None)
    return split(place, sensitivity, SENSITIVITY_BINS)


def infected_called(evidence: Evidence, known: Known, reader: Reader) -> tuple[Array, Array, float]:
    """Numbers of infected called cells that what was looked at allows, each with its weight.

    Returns
    -------
    infected : ndarray
        float64 [X], rising; whole numbers where there are few, else middles of bins.
    mass : ndarray
        float64 [X], weights before anything is known of the rates, the Dirichlet normalisers included.
    none : float
        The weight of no infected called cell at all, not of a bin around it.
    """
    strata = list(
        zip(evidence.cells[CALLED:], evidence.confirmed[CALLED:], evidence.rejected[CALLED:],
            known.infected, known.healthy, strict=True)
    )  # fmt: skip
    open_cells = [beta_binomial(n - c - r, a + c, b + r) for n, c, r, a, b in strata]
    confirmed, rejected = evidence.called_confirmed, evidence.called_rejected
    false = beta_negative_binomial(confirmed, rejected + 1, *reader.false_confirmations)
    missed = beta_negative_binomial(rejected, confirmed + 1, *reader.misses)
    none = float(np.prod([part[0] for part in open_cells]) * false[-1] * missed[0])
    false, missed = _common(false), _common(missed)
    width = max(1, -(-(sum(len(part) - 1 for part in [*open_cells, false, missed])) // _BINS))
    total = np.array([[1.0], [0.0]])
    for part in open_cells:
        total = _convolved(total, _binned(part, width))
    alpha, beta = sum(known.infected), sum(known.healthy)
    infected = confirmed + _middles(total, width)
    healthy = np.maximum(evidence.called - infected, 0)
    spread = log_gamma(infected + 1) - log_gamma(infected + alpha) + log_gamma(healthy + 1) - log_gamma(healthy + beta)
    top = float(spread[total[0] > 0].max())
    apparent = np.array([confirmed, evidence.called - confirmed], float)  # if no cell that is open is infected
    none *= float(np.exp((log_gamma(apparent + 1) - log_gamma(apparent + np.array([alpha, beta]))).sum() - top))
    total = _convolved(_convolved(total * np.exp(np.minimum(spread - top, 0)), _binned(missed, width)),
                       _binned(false, width)[:, ::-1] * [[1.0], [-1.0]])  # fmt: skip
    first = confirmed - width * (len(_binned(false, width)[0]) - 1)
    mass, infected = total[0], first + _middles(total, width)
    possible = (infected > -0.5) & (infected < evidence.called + 0.5) & (mass > 0)
    return infected[possible], mass[possible], none


def _common(part: Array) -> Array:
    """Cut off the tail that hardly ever happens."""
    likely = np.flatnonzero(part > _RARE * part.max())
    return part[: likely[-1] + 1]


def _binned(part: Array, width: int) -> Array:
    """Gather probabilities of 0, 1, 2, ... at multiples of `width`: float64 [2, bin], mass and its first moment there.

    The moment keeps where in its bin the mass lies: powers of the counts are steep at both ends.
    """
    place = np.arange(len(part))
    nearest = (place + width // 2) // width
    return np.stack([np.bincount(nearest, part), np.bincount(nearest, part * (place - nearest * width))])


def _middles(total: Array, width: int) -> Array:
    """Where the mass of each bin lies."""
    mass, moment = total
    inside = np.divide(moment, mass, out=np.zeros_like(mass), where=mass > 0)
    return np.asarray(width * np.arange(len(mass)) + inside)


def _convolved(one: Array, other: Array) -> Array:
    """Mass and moment of a sum."""
    mass = np.convolve(one[0], other[0])
    return np.stack([mass, np.convolve(one[1], other[0]) + np.convolve(one[0], other[1])])


def _gamma_poisson(counts: Array, log_rates: Array) -> Array:
    """P(count) for Poisson counts whose means vary by 4 % around each rate, float64 [count, rate]."""
    rates = np.exp(log_rates)
    of_rate = -np.log1p(rates / _SHAPE)
    of_count = log_gamma(counts + _SHAPE) - log_gamma(_SHAPE) - log_gamma(counts + 1)
    log = of_count[:, None] + _SHAPE * of_rate + counts[:, None] * (log_rates - np.log(_SHAPE) + of_rate)
    return np.asarray(np.exp(log))


def _mixed_healthy(healthy: Array, red_cells: int, false_alarms: Array) -> Array:
    """P(Y) over the false alarms, for a share of healthy cells of exp(-j `STEP`), float64 [j, Y]."""
    likely = np.flatnonzero(false_alarms > _RARE * _RARE)
    first, mass = likely[0], false_alarms[likely[0] : likely[-1] + 1]
    rates = np.log(red_cells) - STEP * (np.arange(first, first + len(mass) + _HEALTHY_SHIFTS - 1) + 0.5)
    padded = np.pad(mass, _HEALTHY_SHIFTS - 1)
    shifted = np.lib.stride_tricks.sliding_window_view(padded, _HEALTHY_SHIFTS)[:, ::-1]  # [rate, j]
    return np.asarray((_gamma_poisson(healthy, rates) @ np.ascontiguousarray(shifted)).T)


def _uncalled(evidence: Evidence, known: Known, reader: Reader) -> tuple[Array | None, float]:
    """What looking at cells below the cut tells of infected ones there: factors [PI, sensitivity], and of none."""
    factor, of_none = None, 1.0
    missed = PI[:, None] * (1 - _SENSITIVITY) * evidence.red_cells  # infected cells that are not called
    for place, share in ((BULK, known.missed[0]), (NEAR, known.missed[1])):
        cells, seen = evidence.cells[place], evidence.confirmed[place]
        looked_at = seen + evidence.rejected[place]
        if looked_at:
            part = np.minimum(missed * share / cells, 1)
            falsely = reader.mean_false * (reader.bulk if place == BULK else 1)
            mean = looked_at * (part * (1 - reader.mean_missed) + (1 - part) * falsely)
            log = seen * np.log(mean) - mean - float(log_gamma(seen + 1.0))
            factor = np.exp(log) * (1 if factor is None else factor)
            error = looked_at * falsely
            of_none *= float(np.exp(seen * np.log(error) - error - log_gamma(seen + 1.0)))
    if evidence.found_by_eye:
        seen = evidence.found_by_eye
        there = poisson_at_least(seen, missed * known.missed[0])
        error = (reader.mean_false * reader.bulk) ** seen
        factor = (error + (1 - error) * there) * (1 if factor is None else factor)
        of_none *= error
    return factor, of_none
