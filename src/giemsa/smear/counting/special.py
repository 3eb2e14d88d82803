"""The few special functions that a count needs: numpy has none, and SciPy is not in the base."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

_EXACT: Final = 30
_ERFC: Final = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223,
         0.17087277)  # fmt: skip


def log_gamma(x: ArrayLike) -> Array:
    """Logarithm of the gamma function, for x > 0.

    Stirling's series after eight steps of the recurrence; the error stays below 1e-11.
    """
    x = np.asarray(x, float)
    product = x * (x + 1) * (x + 2) * (x + 3) * (x + 4) * (x + 5) * (x + 6) * (x + 7)
    z = x + 8
    square = 1 / (z * z)
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680))) / z
    return np.asarray((z - 0.5) * np.log(z) - z + 0.5 * math.log(2 * math.pi) + series - np.log(product))


def beta_binomial(n: int, a: float, b: float) -> Array:
    """Probabilities of 0 to n successes among n, where the chance of each has a Beta(a, b) distribution."""
    k = np.arange(n, dtype=float)
    first = log_gamma(n + b) - log_gamma(n + a + b) + log_gamma(a + b) - log_gamma(b)
    return _from_ratios(float(first), (n - k) * (k + a) / ((k + 1) * (n - k - 1 + b)))


def beta_negative_binomial(most: int, stop: int, a: float, b: float) -> Array:
    """Probabilities of 0 to `most` events before the `stop`-th non-event, where an event's chance is Beta(a, b)."""
    k = np.arange(most, dtype=float)
    first = log_gamma(stop + b) - log_gamma(stop + a + b) + log_gamma(a + b) - log_gamma(b)
    return _from_ratios(float(first), (k + stop) * (k + a) / ((k + 1) * (k + stop + a + b)))


def _from_ratios(log_first: float, ratios: Array) -> Array:
    """Probabilities from the first one and what each is to the one before."""
    return np.exp(log_first + np.concatenate([[0.0], np.cumsum(np.log(ratios))]))


def poisson_at_least(k: ArrayLike, mean: ArrayLike) -> Array:
    """P(X >= k) for Poisson counts of these means; k and mean broadcast.

    Exact sums for few; beyond, P is that of chi-square's lower tail, by Wilson and Hilferty's cube root (1931, doi
    10.1073/pnas.17.12.684), which is right to 0.001 there.
    """
    least, mean = np.broadcast_arrays(np.asarray(k, float), np.maximum(np.asarray(mean, float), 1e-300))
    many = np.maximum(least, 1)
    chance = normal_cdf(3 * np.sqrt(many) * (np.cbrt(mean / many) - 1 + 1 / (9 * many)))
    for few in np.unique(least[least <= _EXACT]):
        here = least == few
        terms = np.arange(int(few), dtype=float)[:, None]
        log = terms * np.log(mean[here]) - mean[here] - log_gamma(terms + 1)
        chance[here] = np.clip(1 - np.exp(log).sum(axis=0), 0, 1)
    return chance


def normal_cdf(z: ArrayLike) -> Array:
    """The normal distribution function, to 1.2e-7 (Numerical Recipes' rational approximation of erfc)."""
    x = -np.asarray(z, float) / math.sqrt(2)
    t = 1 / (1 + 0.5 * np.abs(x))
    series = np.polynomial.polynomial.polyval(t, _ERFC)
    tail = 0.5 * t * np.exp(-x * x + series)
    return np.asarray(np.where(x >= 0, tail, 1 - tail))
