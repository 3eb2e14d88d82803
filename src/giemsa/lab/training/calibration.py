"""From logits to probabilities, and where to cut.

A network trained on weighted, smoothed and disturbed cells has scores that rank well and are not probabilities. Two
numbers mend that (Platt scaling; Guo et al. 2017, arXiv 1706.04599), and a third, the threshold, says where
`parasitized` begins. All three are found on cells of patients that the scoring network has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from giemsa.errors import DataError
from giemsa.model.card import calibrated
from giemsa.verdicts import is_parasitized

if TYPE_CHECKING:
    from numpy.typing import NDArray

MINIMUM_CELLS = 20
"""Of each class; with fewer, three numbers are not worth fitting."""


@dataclass(frozen=True)
class Calibration:
    """How a logit becomes a probability and a verdict.

    Attributes
    ----------
    temperature, bias : float
        p_parasitized = sigmoid(logit / temperature + bias).
    threshold : float
        `parasitized` from this probability on.
    source : str
        Where the numbers come from, for the card.
    doubt : dict
        When a verdict is withheld: what `giemsa.lab.training.doubt` found; empty where it was not looked for.
    """

    temperature: float = 1.0
    bias: float = 0.0
    threshold: float = 0.5
    source: str = "none: the logit as it is"
    doubt: dict[str, Any] = field(default_factory=dict)

    def probability(self, logit: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map logits to probabilities of parasitized."""
        return calibrated(logit, self.temperature, self.bias)

    def called(self, logit: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell which cells with these logits are called parasitized."""
        return is_parasitized(self.probability(logit), self.threshold)


def fit_calibration(
    logit: NDArray[np.floating],
    positive: NDArray[np.bool_],
    weight: NDArray[np.floating],
    *,
    donor: NDArray[np.bool_],
    donor_specificity: float,
    source: str,
    least: int = MINIMUM_CELLS,
) -> Calibration:
    """Fit temperature and bias by weighted likelihood, then choose the threshold.

    Parameters
    ----------
    logit, positive, weight : (N,) ndarray
        Out-of-sample scores, targets and weights; cells of weight 0 are not looked at.
    donor : (N,) ndarray of bool
        Cells of people without malaria.
    donor_specificity : float
        The threshold is the one with the highest accuracy on the cells of weight > 0 among those at which at least
        this part of the donors' cells is called uninfected.
    source : str
        For the card.
    least : int
        Fewest cells of each class.

    Raises
    ------
    DataError
        If a class has too few cells.
    """
    used = weight > 0
    n_positive, n_negative = int((positive & used).sum()), int((~positive & used).sum())
    if min(n_positive, n_negative) < max(1, least):
        raise DataError(
            f"Calibration needs {max(1, least)} cells of each class; there are {n_positive} parasitized and "
            f"{n_negative} uninfected ones"
        )
    temperature, bias = _fit_platt(logit[used].astype(np.float64), positive[used], weight[used].astype(np.float64))
    threshold_logit = _best_cut(logit, positive & ~donor, used, donor, donor_specificity)
    threshold = float(expit(threshold_logit / temperature + bias))
    return Calibration(temperature, bias, threshold, source)


def _fit_platt(
    logit: NDArray[np.float64], positive: NDArray[np.bool_], weight: NDArray[np.float64]
) -> tuple[float, float]:
    # Platt's targets keep the fit finite where the classes are separable (Platt 1999).
    high = (positive.sum() + 1) / (positive.sum() + 2)
    low = 1 / ((~positive).sum() + 2)
    target = np.where(positive, high, low)

    def loss(parameters: NDArray[np.float64]) -> float:
        z = logit * np.exp(parameters[0]) + parameters[1]
        return float(-(weight * (target * log_expit(z) + (1 - target) * log_expit(-z))).sum() / weight.sum())

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10, "maxiter": 4000})
    log_slope, bias = best.x
    return float(np.exp(-log_slope)), float(bias)


def _best_cut(
    logit: NDArray[np.floating],
    positive: NDArray[np.bool_],
    used: NDArray[np.bool_],
    donor: NDArray[np.bool_],
    donor_specificity: float,
) -> float:
    """Find the logit at which to cut: the middle of the best stretch between two neighbouring scores."""
    order = np.argsort(logit[used], kind="stable")
    scores, labels = logit[used][order].astype(np.float64), positive[used][order]
    # Cutting before position i calls i..n parasitized.
    right = np.concatenate([[0], np.cumsum(~labels)]) + np.concatenate([np.cumsum(labels[::-1])[::-1], [0]])
    cuts = np.concatenate([[scores[0] - 1], (scores[1:] + scores[:-1]) / 2, [scores[-1] + 1]])
    allowed = np.concatenate([[True], scores[1:] > scores[:-1], [True]])
    if donor.any():
        healthy = np.sort(logit[donor].astype(np.float64))
        allowed &= np.searchsorted(healthy, cuts, side="left") >= donor_specificity * len(healthy)
    best = np.flatnonzero(allowed & (right == right[allowed].max()))
    return float(cuts[best[len(best) // 2]])
