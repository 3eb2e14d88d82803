"""Count the verdicts that change when the black around the cells becomes another colour.

python benchmarks/background.py CELLS [--model FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from _common import write_result
from giemsa.data.index import read_index
from giemsa.images import decode, resize
from giemsa.model import open_model

COLOURS = [(128, 128, 128), (235, 235, 235), (225, 215, 205)]
BLACK_BELOW = 8
"""Pixels whose largest channel is below this are background."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--model")
    args = parser.parse_args()
    model = open_model(args.model, threads=2)
    size = model.card.input_size_px
    verdicts: list[list[bool]] = [[] for _ in range(len(COLOURS) + 1)]
    paths = list(read_index(args.cells).paths())
    for start in range(0, len(paths), 256):
        pictures = [decode(Path(path).read_bytes()) for path in paths[start : start + 256]]
        for which, colour in enumerate([None, *COLOURS]):
            changed = []
            for picture in pictures:
                other = picture.copy()
                if colour is not None:
                    other[picture.max(2) < BLACK_BELOW] = colour
                changed.append(resize(other, size))
            logit = model.run(np.stack(changed)).logit
            verdicts[which] += (model.p_parasitized(logit) >= model.card.threshold).tolist()
    base = np.array(verdicts[0])
    write_result(
        "background",
        {
            "model": model.digest,
            "cells": len(base),
            "verdicts_changed": {
                ",".join(map(str, colour)): float((np.array(other) != base).mean())
                for colour, other in zip(COLOURS, verdicts[1:], strict=True)
            },
        },
    )


if __name__ == "__main__":
    main()
