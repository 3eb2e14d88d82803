"""Scores that every network returns, and the first and last steps that the notebooks' networks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class Scores(NamedTuple):
    """Scores of N cells.

    Attributes
    ----------
    logit : Tensor
        float32, [N], natural-log odds of parasitized before calibration.
    evidence : Tensor or None
        float32, [N, h, w], whose mean over h and w is the logit; None where the network has no such map.
    cell : Tensor or None
        float32, [N], natural-log odds of showing one red cell; None where the network does not tell.
    novelty : Tensor or None
        float32, [N], how unlike the training cells the picture is, 0 to 1; None in training, and where the network
        does not tell.
    """

    logit: Tensor
    evidence: Tensor | None
    cell: Tensor | None = None
    novelty: Tensor | None = None


class Normalise(nn.Module):
    """RGB in 0..1, standardised by a mean and a standard deviation per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # Not saved with the weights: they are the recipe's.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, cells: Tensor) -> Tensor:
        """Normalised cells, float [N, 3, S, S], of the same shape."""
        return (cells.float() - self.mean) / self.std


def single_logit(outputs: Tensor) -> Tensor:
    """One logit per cell from a network's outputs.

    Parameters
    ----------
    outputs : Tensor
        [N, 1], or [N, 2] with uninfected and parasitized in this order. Of two, the logit is the difference: the
        cross-entropy of their softmax and the binary cross-entropy of the difference are the same number.

    Returns
    -------
    Tensor
        float32, [N].
    """
    outputs = outputs.float()
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]
