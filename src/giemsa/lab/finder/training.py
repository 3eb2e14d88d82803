"""Train the finder and write it as one ONNX file with its card."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn

from giemsa.lab.finder.cutouts import Cutout, cutouts_of, nih_cutouts
from giemsa.lab.finder.fields import PLATELET, RED, WHITE, boxed_fields, partly_known_fields
from giemsa.lab.finder.network import STRIDE, Exported, Finder, loss_of, targets
from giemsa.lab.finder.scenes import CELL_PX, Material, draw
from giemsa.smear.finding import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LABORATORIES: Final = {
    "raabin": "MIT",
    "pbc": "MIT, pictures CC BY 4.0",
    "chula": "MIT",
    "pbc-platelets": "CC BY 4.0",
    "pbc-erythroblasts": "CC BY 4.0",
    "nih": "public, U.S. National Library of Medicine",
}
"""What it is trained on, and under which licences."""
DEVELOPMENT: Final = ("iml", "bbbc041")
"""Laboratories that were looked at while the finder was designed; nothing was trained on them."""
BATCH: Final = 8
_NIH_CELLS: Final = 3000
_FASTEST: Final = 4e-3


def gather(fields: Path, cells: Path, reviewed: Path, rng: np.random.Generator) -> Material:
    """Read everything that scenes are drawn from."""
    boxed = [field for name in ("raabin", "pbc") for field in boxed_fields(fields / name, held_out=False)]
    partly = partly_known_fields(fields / "chula")
    partly += partly_known_fields(fields / "pbc-platelets", PLATELET)
    partly += partly_known_fields(fields / "pbc-erythroblasts", WHITE)
    by_source: dict[str, list[Cutout]] = {}
    others: dict[int, list[Cutout]] = {WHITE: [], PLATELET: []}
    for field in boxed + partly:
        source = field.name if field.laboratory == "chula" else field.laboratory
        for cutout in cutouts_of(field):
            (by_source.setdefault(source, []) if cutout.kind == RED else others[cutout.kind]).append(cutout)
    red = [some for some in by_source.values() if len(some) >= 8]
    nih = nih_cutouts(cells, reviewed, _NIH_CELLS, rng)
    # Laboratories weigh alike, whether they come as a list or as a hundred.
    red = red + [some for _ in range(max(1, len(red) // max(1, len(nih)))) for some in nih]
    return Material(boxed, partly, red, others[WHITE], others[PLATELET])


def train(material: Material, steps: int, seed: int, note: Callable[[str], None]) -> Finder:
    """Train on scenes that are drawn as it goes."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    finder = Finder().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(finder.parameters(), _FASTEST, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _FASTEST, total_steps=steps, pct_start=0.1)
    started, mean = time.monotonic(), 0.0
    for step in range(steps):
        densities, spots, sides, kinds, known = [], [], [], [], []
        for _ in range(BATCH):
            density, boxes, of_kind, sure = draw(material, rng)
            wanted = targets(boxes, of_kind, sure.shape)
            densities.append(density.transpose(2, 0, 1))
            for values, value in zip((spots, sides, kinds), wanted, strict=True):
                values.append(value)
            known.append(sure.reshape(sure.shape[0] // STRIDE, STRIDE, -1, STRIDE).all(axis=(1, 3)).astype(np.float32))
        batch = torch.from_numpy(np.stack(densities)).contiguous(memory_format=torch.channels_last)
        said = finder(batch)
        wanted_all = (torch.from_numpy(np.stack(spots)), torch.from_numpy(np.stack(sides)),
                      torch.from_numpy(np.stack(kinds)))  # fmt: skip
        loss = loss_of(said, wanted_all, torch.from_numpy(np.stack(known)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(finder.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        mean = 0.98 * mean + 0.02 * float(loss.item())
        if step % 100 == 99:
            note(f"step {step + 1}: loss {mean:.3f}, {time.monotonic() - started:.0f} s")
    return finder.eval()


def export(finder: Finder, path: Path, trained: dict[str, Any]) -> None:
    """Write the finder with its card under `giemsa_finder` in the ONNX metadata."""
    import onnx

    torch.onnx.export(
        Exported(finder).eval(), (torch.zeros(1, 3, 160, 192),), str(path), input_names=["density"],
        output_names=["middle", "sides", "kind"], dynamic_axes={"density": {0: "N", 2: "H", 3: "W"}}, opset_version=17,
        dynamo=False,
    )  # fmt: skip
    model = onnx.load(str(path))
    card = {
        "finder_version": 2,
        "cell_px": CELL_PX,
        "stride": STRIDE,
        "kinds": KINDS,
        "trained_on": LABORATORIES,
        "development": DEVELOPMENT,
        "licence": "Apache-2.0",
        **trained,
    }
    onnx.helper.set_model_props(model, {"giemsa_finder": json.dumps(card)})
    onnx.save(model, str(path))
