"""Choose the default cut of relative logits, on NIH cells only, each judged by a model that has not seen its patient.

On confirmed labels. For each patient, cells are judged against all of the patient's own cells labelled uninfected, as a smear's cells are
against their slide. The cut is the one at which a parasitaemia of one in two hundred is measured with the least
variance: `giemsa.smear.site` chooses a laboratory's cut in the same way.

    python benchmarks/smear_default_cut.py OUT_OF_FOLD.csv          # of `giemsa crossval`
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from _common import write_result
from giemsa.smear import judging
from giemsa.smear.site import LabelledField, calibrate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_of_fold", type=Path)
    args = parser.parse_args()
    by_patient = defaultdict(list)
    with args.out_of_fold.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["official"] == row["reviewed"] or row["donor"] == "yes":
                by_patient[row["patient"]].append((float(row["logit"]), row["official"] == "parasitized"))
    patients = []
    for patient, cells in by_patient.items():
        logits, infected = (np.array(part) for part in zip(*cells, strict=True))
        if (~infected).sum() >= 20:
            middle, spread = judging.own_reference(logits[~infected])
            patients.append(LabelledField(patient, (logits - middle) / spread, infected.astype(bool)))
    site = calibrate(patients, model_sha256="")
    healthy = np.concatenate([p.relative_logit[~p.infected] for p in patients])
    sick = np.concatenate([p.relative_logit[p.infected] for p in patients])
    write_result(
        "smear_default_cut",
        {
            "patients": len(patients),
            "healthy": len(healthy),
            "infected": len(sick),
            "best_cut": site.cut,
            "at": {
                f"{cut:g}": {"false_alarms": float((healthy >= cut).mean()), "sensitivity": float((sick >= cut).mean())}
                for cut in (4, 6, 8, 10, 12, 15, 20, 25, 30)
            },
        },
    )


if __name__ == "__main__":
    main()
