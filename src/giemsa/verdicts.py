"""What Giemsa says of a cell, as frozen types.

Positive always means parasitized. Labels are what people say, verdicts what Giemsa says; the two share two
words and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Label = Literal["parasitized", "uninfected"]
VerdictName = Literal["parasitized", "uninfected", "indeterminate", "not_a_cell", "unreadable"]

LABELS: Final[tuple[Label, Label]] = ("uninfected", "parasitized")
VERDICTS: Final[tuple[VerdictName, ...]] = ("parasitized", "uninfected", "indeterminate", "not_a_cell", "unreadable")

DISCLAIMER: Final = "For research and education: no diagnosis without a qualified professional."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Giemsa says of one cell.

    Attributes
    ----------
    image : str
        The name under which the picture came in.
    verdict : str
        One of `VERDICTS`.
    p_parasitized : float or None
        Calibrated probability of `parasitized`, 0 to 1; None where there is none.
    logit : float or None
        The model's raw score, in natural-log odds before calibration.
    novelty : float or None
        How unlike the training cells the picture is, 0 to 1; None where the model does not tell.
    reason : str
        Why there is no label; empty where there is one.
    """

    image: str
    verdict: VerdictName
    p_parasitized: float | None = None
    logit: float | None = None
    novelty: float | None = None
    reason: str = ""


@overload
def is_parasitized(p_parasitized: float, threshold: float) -> bool: ...
@overload
def is_parasitized(p_parasitized: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]: ...
def is_parasitized(p_parasitized: float | NDArray[np.floating], threshold: float) -> bool | NDArray[np.bool_]:
    """Whether a cell is called parasitized: where p_parasitized is at least the threshold."""
    return p_parasitized >= threshold
