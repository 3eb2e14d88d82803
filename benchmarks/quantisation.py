"""Count the verdicts that int8 changes against fp32, each at the threshold that the model ships with.

python benchmarks/quantisation.py CELLS --int8 FILE --fp32 FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from _common import write_result
from giemsa.data.cache import open_cache
from giemsa.data.index import read_index
from giemsa.model import open_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--int8", help="default: the embedded model")
    parser.add_argument("--fp32", required=True)
    args = parser.parse_args()
    models = {"int8": open_model(args.int8, threads=2), "fp32": open_model(args.fp32, threads=2)}
    pixels = open_cache(read_index(args.cells), models["int8"].card.input_size_px)
    card = models["int8"].card
    verdicts, logits = {}, {}
    for name, model in models.items():
        logits[name] = np.concatenate([model.run(pixels[i : i + 256]).logit for i in range(0, len(pixels), 256)])
        verdicts[name] = models["int8"].p_parasitized(logits[name]) >= card.threshold
    write_result(
        "quantisation",
        {
            "cells": len(pixels),
            "verdicts_changed": float((verdicts["int8"] != verdicts["fp32"]).mean()),
            "mean_difference_of_logits": float(np.abs(logits["int8"] - logits["fp32"]).mean()),
            "bytes": {name: Path(model.path).stat().st_size for name, model in models.items()},
            "digests": {name: model.digest for name, model in models.items()},
        },
    )


if __name__ == "__main__":
    main()
