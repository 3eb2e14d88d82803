"""Count smears of which the truth is known, and see whether what is said of them holds.

    python benchmarks/count_coverage.py [--replicates 200]

The smears come from a generator of its own, which shares no code with the count: false alarms of slides and fields are
gamma distributed (not logit-normal), sensitivity beta, scores exponential and gamma. A replicate is a laboratory's
review (1, 3 or 10 slides of ten fields) and smears of new slides counted by it. Cells whose coverage comes out under
0.95 are measured again with five times as many new replicates, and only that is reported. An oracle counts the same
smears by rates that know how much slides differ. Sizes of 5,000 see all kinds of review, the others three of them.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from _common import write_result
from giemsa.smear import counting
from giemsa.smear.counting import rates as rates_of
from giemsa.smear.counting.counts import LOWER, ONE_SIDED, UPPER, Detection, Limits, tells
from giemsa.smear.counting.strata import EDGES

PARASITAEMIA = (0.0, 0.001, 0.01, 0.05, 0.2)
RED_CELLS = (500, 5000, 50_000)
SLIDE_CV = (0.0, 0.5, 1.0)
SLIDES = (1, 3, 10)
FIELD_CV = 0.5
CELLS_PER_FIELD = 100
FALSE_ALARMS, SENSITIVITY = 0.01, 0.85
CLEAN_FALSE_ALARMS = 0.002
READER_SENSITIVITY, READER_SPECIFICITY = 0.93, 0.99
REVIEWS = ("none", "quarter, worst first", "quarter, random", "half, worst first", "half, random", "all", "all, erring")
FEWER_REVIEWS = ("none", "half, worst first", "all")
COMPARED = 40  # replicates that are counted by an oracle and by calls only, too


@dataclass(frozen=True)
class Laboratory:
    """Where slides come from."""

    slide_cv: float
    false_alarms: float = FALSE_ALARMS
    sensitivity: float = SENSITIVITY

    def slide(self, rng: np.random.Generator) -> dict[str, float]:
        """Rates of a new slide, and how far its cells' scores lie above the cut."""
        cv = self.slide_cv
        alarms = self.false_alarms * (rng.gamma(cv**-2, cv**2) if cv else 1.0)
        alike = 12 / cv**2 if cv else np.inf
        sensitivity = rng.beta(alike * self.sensitivity, alike * (1 - self.sensitivity)) if cv else self.sensitivity
        return {
            "alarms": min(alarms, 0.5),
            "sensitivity": sensitivity,
            "healthy_scale": 0.35 * np.exp(0.25 * cv * rng.normal()),
            "infected_scale": 0.7 * np.exp(0.25 * cv * rng.normal()),
        }

    def smear(self, red_cells: int, pi: float, rng: np.random.Generator) -> dict[str, Any]:
        """Cells of a new slide: of called ones the scores and fields, of others how many there are of a field."""
        slide = self.slide(rng)
        count = max(1, red_cells // CELLS_PER_FIELD)
        sizes = np.full(count, red_cells // count)
        infected = rng.binomial(sizes, pi)
        alarms = np.minimum(slide["alarms"] * rng.gamma(FIELD_CV**-2, FIELD_CV**2, count), 0.9)
        false = rng.binomial(sizes - infected, alarms)
        near = rng.binomial(sizes - infected - false, np.minimum(3 * alarms, 0.9))
        found = rng.binomial(infected, slide["sensitivity"])
        lost = rng.binomial(infected - found, 0.35)
        missed_near = rng.binomial(infected - found - lost, 0.3)
        scores = np.concatenate([1 + rng.exponential(slide["healthy_scale"], false.sum()),
                                 1 + rng.gamma(1.5, slide["infected_scale"], found.sum())])  # fmt: skip
        return {
            "scores": scores,
            "infected": np.arange(len(scores)) >= false.sum(),
            "field": np.concatenate([np.repeat(np.arange(count), false), np.repeat(np.arange(count), found)]),
            "healthy": np.stack([sizes - infected - false - near, near], axis=1),
            "missed": np.stack([infected - found - lost - missed_near, missed_near, lost], axis=1),
        }


def strata(scores: np.ndarray) -> tuple[int, ...]:
    return tuple(np.bincount(np.searchsorted(EDGES[2:], scores, side="right"), minlength=5).tolist())


def reviewed(laboratory: Laboratory, slides: int, rng: np.random.Generator) -> list[counting.FieldCounts]:
    """What a laboratory's review finds: ten fields of each slide, at a parasitaemia of 2 %."""
    found = []
    for slide in range(slides):
        smear = laboratory.smear(10 * CELLS_PER_FIELD, 0.02, rng)
        for field, (healthy, missed) in enumerate(
            zip(smear["healthy"].tolist(), smear["missed"].tolist(), strict=True)
        ):
            here = smear["field"] == field
            found.append(counting.FieldCounts(
                "", str(slide), "", (*healthy, *strata(smear["scores"][here & ~smear["infected"]])),
                (*missed[:2], *strata(smear["scores"][here & smear["infected"]])), 0, missed[2],
            ))  # fmt: skip
    return found


def evidence(smear: dict[str, Any], review: str, rng: np.random.Generator) -> counting.Evidence:
    """A smear after a person has looked at some of its called cells."""
    scores, truth = smear["scores"], smear["infected"]
    share = {"none": 0.0, "quarter": 0.25, "half": 0.5, "all": 1.0}[review.partition(",")[0]]
    order = np.argsort(-scores) if "worst first" in review else rng.permutation(len(scores))
    seen = order[: int(np.ceil(share * len(scores)))]
    said = truth[seen]
    if "erring" in review:
        said = rng.random(len(seen)) < np.where(said, READER_SENSITIVITY, 1 - READER_SPECIFICITY)
    uncalled = (smear["healthy"].sum(axis=0) + smear["missed"][:, :2].sum(axis=0)).tolist()
    return counting.Evidence(
        len(smear["healthy"]),
        (*uncalled, *strata(scores)),
        (0, 0, *strata(scores[seen[said]])),
        (0, 0, *strata(scores[seen[~said]])),
    )


def oracle(fields: list[counting.FieldCounts], slide_cv: float) -> counting.Rates:
    """Rates that know how much slides differ: the spreads that the generator has on the logit scale."""
    known = counting.measured_rates(fields)
    alike = 12 / slide_cv**2 if slide_cv else np.inf
    sensitivity = np.sqrt(1 / (alike * SENSITIVITY * (1 - SENSITIVITY))) if slide_cv else 0.0
    alarms = np.sqrt(np.log1p(slide_cv**2))

    def narrowed(rate: rates_of.SlideRate, deviation: float) -> rates_of.SlideRate:
        nearest = int(np.argmin(np.abs(rate.tau - deviation)))
        weight = rate.weight[nearest : nearest + 1] / rate.weight[nearest].sum()
        return rates_of.SlideRate(weight, rate.tau[nearest : nearest + 1], rate.omega, 0.0)

    return counting.Rates(
        narrowed(known.sensitivity, float(sensitivity)), narrowed(known.false_alarms, float(alarms)), known.infected,
        known.healthy, known.missed, "oracle", measured=True, slides=known.slides,
    )  # fmt: skip


def judged(evidence: counting.Evidence, known: counting.Known, critical: int | None, pi: float) -> dict[str, float]:
    """What would be said of a smear, and whether it is right."""
    detection = Detection(1.0, 1.0, 1.0, 1.0, critical)
    result = counting.posterior(evidence, known)
    told = tells(evidence, result, detection, counting.ASSUMED_READER)
    low = result.lower(LOWER) if told else 0.0
    high = result.upper(UPPER if told else ONE_SIDED)
    return {
        "covered": low <= pi <= high,
        "told": bool(told),
        "rules_out": pi <= result.upper(ONE_SIDED),
        "width": high - low,
        "value": result.median(),
    }


def replicate(
    laboratory: Laboratory,
    slides: int,
    seed: list[int],
    *,
    clean: bool = False,
    compared: bool = False,
    cells: set[tuple[Any, ...]] | None = None,
) -> dict[tuple[Any, ...], Any]:
    """One review, and the smears that are counted by it."""
    rng = np.random.default_rng(seed)
    if slides:
        fields = reviewed(laboratory, slides, rng)
        while clean and sum(f.false_positives for f in fields):
            fields = reviewed(laboratory, slides, rng)
        rates = counting.measured_rates(fields)
    else:
        rates = counting.assumed_rates()
    measured: dict[tuple[Any, ...], Any] = {}
    for n in RED_CELLS:
        count = max(1, n // CELLS_PER_FIELD)
        known = rates.for_smear(count)
        critical = Limits(known, counting.ASSUMED_READER).critical(n) if rates.measured else None
        best = oracle(fields, laboratory.slide_cv).for_smear(count) if compared and slides else None
        for pi, review in itertools.product(PARASITAEMIA, REVIEWS if n == 5000 else FEWER_REVIEWS):
            if cells is not None and (n, pi, review) not in cells:
                continue
            seen = evidence(laboratory.smear(n, pi, rng), review, rng)
            measured[n, pi, review] = judged(seen, known, critical, pi)
            if best is not None:
                measured[n, pi, review]["oracle"] = judged(seen, best, critical, pi)
                measured[n, pi, review]["calls"] = judged(seen.pooled(), pooled(known), critical, pi)
    return measured


def pooled(known: counting.Known) -> counting.Known:
    """The same without strata of score: calls only."""
    return counting.Known(
        known.sensitivity, known.false_alarms, (sum(known.infected), *[1e-9] * 4),
        (sum(known.healthy), *[1e-9] * 4), known.missed,
    )  # fmt: skip


def grid(
    laboratory: Laboratory, slides: int, seed: int, replicates: int, *, clean: bool = False
) -> list[dict[str, Any]]:
    """All cells of one laboratory and number of reviewed slides."""
    runs = [replicate(laboratory, slides, [seed, r], clean=clean, compared=r < COMPARED)
            for r in range(replicates)]  # fmt: skip
    rows = {cell: summarised([run[cell] for run in runs]) for cell in runs[0]}
    again = {cell for cell, row in rows.items() if min(row["coverage"], row["rules_out"]) < 0.95 or (
        cell[1] == 0 and row["told"] > 0.05)}  # fmt: skip
    if again:
        more = [replicate(laboratory, slides, [seed, 10_000 + r], clean=clean, cells=again)
                for r in range(5 * replicates)]  # fmt: skip
        for cell in again:
            rows[cell] |= summarised([run[cell] for run in more])
    return [
        {"slide_cv": laboratory.slide_cv, "slides": slides, "clean": clean, "red_cells": n, "parasitaemia": pi,
         "review": review, **row}
        for (n, pi, review), row in rows.items()
    ]  # fmt: skip


def summarised(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares and medians over replicates."""
    row: dict[str, Any] = {
        "replicates": len(runs),
        "coverage": float(np.mean([run["covered"] for run in runs])),
        "told": float(np.mean([run["told"] for run in runs])),
        "rules_out": float(np.mean([run["rules_out"] for run in runs])),
        "width": float(np.mean([run["width"] for run in runs])),
        "median_estimate": float(np.median([run["value"] for run in runs])),
    }
    both = [run for run in runs if "oracle" in run]
    for other in ("oracle", "calls"):
        if both:
            row[f"width_to_{other}"] = float(
                np.mean([r["width"] for r in both]) / np.mean([r[other]["width"] for r in both])
            )
            row[f"coverage_of_{other}"] = float(np.mean([r[other]["covered"] for r in both]))
    return row


def detection(laboratory: Laboratory, slides: int, seed: int, replicates: int) -> list[dict[str, Any]]:
    """How often smears at the stated limit are told from none, four smears for each of so many reviews."""
    rows = []
    for n in RED_CELLS:
        count = max(1, n // CELLS_PER_FIELD)
        told: dict[str, list[bool]] = {"calls": [], "review": []}
        limits: dict[str, list[float]] = {"calls": [], "review": []}
        for r in range(replicates):
            rng = np.random.default_rng([seed, n, r])
            rates = counting.measured_rates(reviewed(laboratory, slides, rng))
            known = rates.for_smear(count)
            empty = counting.Evidence(count, (n, 0, 0, 0, 0, 0, 0))
            found = counting.detect(empty, known, counting.ASSUMED_READER, by_calls=True)
            for way, review in (("calls", "none"), ("review", "all")):
                limit = getattr(found, way)
                limits[way].append(limit)
                for _ in range(4 if limit < 0.9 else 0):
                    seen = evidence(laboratory.smear(n, limit, rng), review, rng)
                    result = counting.posterior(seen, known)
                    told[way].append(bool(tells(seen, result, found, counting.ASSUMED_READER)))
        rows += [
            {"slide_cv": laboratory.slide_cv, "slides": slides, "red_cells": n, "way": way,
             "median_limit": float(np.median(limits[way])), "stated": float(np.mean(np.array(limits[way]) < 0.9)),
             "smears": len(told[way]), "detected": float(np.mean(told[way])) if told[way] else None}
            for way in told
        ]  # fmt: skip
    return rows


def without_a_site(seed: int, replicates: int) -> list[dict[str, Any]]:
    """Laboratories of which nothing is known: false alarms from 0.05 to 15 %, sensitivity from 0.1 to 0.98."""
    rows: dict[tuple[Any, ...], list[Any]] = {}
    for r in range(replicates):
        rng = np.random.default_rng([seed, r])
        laboratory = Laboratory(1.0, float(np.exp(rng.uniform(np.log(0.0005), np.log(0.15)))),
                                float(rng.uniform(0.1, 0.98)))  # fmt: skip
        for cell, one in replicate(laboratory, 0, [seed, r, 1]).items():
            rows.setdefault(cell, []).append(one)
    return [
        {"red_cells": n, "parasitaemia": pi, "review": review, **summarised(runs)}
        for (n, pi, review), runs in rows.items()
    ]


def worst(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The grid in a few figures."""
    none = [row for row in rows if row["parasitaemia"] == 0]
    ratio = [row["width_to_oracle"] for row in rows if "width_to_oracle" in row]
    return {
        "cells": len(rows),
        "least_coverage": min(row["coverage"] for row in rows),
        "mean_coverage": float(np.mean([row["coverage"] for row in rows])),
        "most_none_told": max(row["told"] for row in none),
        "mean_none_told": float(np.mean([row["told"] for row in none])),
        "least_rules_out": min(row["rules_out"] for row in rows),
        "median_width_to_oracle": float(np.median(ratio)) if ratio else None,
        "most_width_to_oracle": max(ratio) if ratio else None,
        "within_half_again": float(np.mean(np.array(ratio) <= 1.5)) if ratio else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=200)
    args = parser.parse_args()
    started = time.perf_counter()
    rows, found = [], []
    for seed, (cv, slides) in enumerate(itertools.product(SLIDE_CV, SLIDES)):
        rows += grid(Laboratory(cv), slides, seed, args.replicates)
        found += detection(Laboratory(cv), slides, 100 + seed, args.replicates // 4)
        print(cv, slides, worst(rows[-65:]), round(time.perf_counter() - started), "s", flush=True)
    clean = []
    for seed, cv in enumerate(SLIDE_CV):
        clean += grid(Laboratory(cv, CLEAN_FALSE_ALARMS), 1, 50 + seed, args.replicates // 2, clean=True)
    foreign = without_a_site(70, args.replicates)
    write_result("count_coverage", {
        "replicates": args.replicates,
        "seconds": round(time.perf_counter() - started),
        "worst": {"site": worst(rows), "clean review": worst(clean), "no site": worst(foreign)},
        "least_detected": min(row["detected"] for row in found if row["detected"] is not None),
        "detection": found,
        "site": rows,
        "clean": clean,
        "no_site": foreign,
    })  # fmt: skip


if __name__ == "__main__":
    main()
