"""From called cells to parasitaemia: an interval that knows that slides differ, that people review and that they err.

Of n red cells k were called parasitized. A classifier misses some parasites and calls some healthy cells, so that k / n
is not the parasitaemia: Rogan and Gladen (1978, doi 10.1093/oxfordjournals.aje.a112510) take both into account, and the
Bayesian form of their estimate (Joseph, Gyorkos and Coupal 1995, doi 10.1093/oxfordjournals.aje.a117428) also how well
they are known. What is known of a laboratory is never known of its next slide: slides differ more than cells do, and
both rates are those of a slide that nobody has reviewed (`rates`). Cells are counted by strata of their score
(`strata`), so that a person may look at any of them, in any order, and the rest keep their uncertainty (`likelihood`).
What this means for the smear is in `counts`; which cells to look at next, in `review`.
"""

from giemsa.smear.counting.counts import (
    ENOUGH_RED_CELLS,
    RED_CELLS_PER_UL,
    Count,
    Detection,
    Interval,
    count,
    detect,
    meaning,
)
from giemsa.smear.counting.likelihood import ASSUMED_READER, Posterior, Reader, posterior
from giemsa.smear.counting.rates import Known, Rates, assumed_rates, measured_rates
from giemsa.smear.counting.review import next_cells, next_strata, random_sample
from giemsa.smear.counting.strata import (
    EDGES,
    STRATA,
    Counts,
    Evidence,
    FieldCounts,
    by_stratum,
    evidence_of,
    stratum_of,
    whole_smear,
)

__all__ = [
    "ASSUMED_READER",
    "EDGES",
    "ENOUGH_RED_CELLS",
    "RED_CELLS_PER_UL",
    "STRATA",
    "Count",
    "Counts",
    "Detection",
    "Evidence",
    "FieldCounts",
    "Interval",
    "Known",
    "Posterior",
    "Rates",
    "Reader",
    "assumed_rates",
    "by_stratum",
    "count",
    "detect",
    "evidence_of",
    "meaning",
    "measured_rates",
    "next_cells",
    "next_strata",
    "posterior",
    "random_sample",
    "stratum_of",
    "whole_smear",
]
