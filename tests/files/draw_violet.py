"""Draw `violet.tflite`: a model of a few kilobytes that counts violet, as the tests' tiny ONNX model does.

It lies in the repository so that reading a .tflite file is tested where nothing that writes one is installed.

    python tests/files/draw_violet.py       (needs giemsa[lab,phone])
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import litert_torch
import torch

from giemsa.model.litert import with_metadata

SIZE = 32
CARD = {
    "contract_version": 1,
    "name": "violet",
    "class_names": ["uninfected", "parasitized"],
    "input_size_px": SIZE,
    "resize": {"kernel": "area", "padding": "stretch"},
    "calibration": {"temperature": 1.5, "bias": -0.25},
    "thresholds": {"parasitized": 0.5},
}


class Violet(torch.nn.Module):
    """Evidence is where blue exceeds red, in squares of 4 x 4, and the logit its mean."""

    def forward(self, cells):
        rgb = cells.permute(0, 3, 1, 2).float() / 255
        violet = torch.relu(rgb[:, 2:] - rgb[:, :1])
        evidence = (torch.nn.functional.avg_pool2d(violet, 4) * 1000 - 4)[:, 0]
        return {"logit": evidence.mean((1, 2)), "evidence": evidence}


if __name__ == "__main__":
    example = torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "violet.tflite"
        litert_torch.convert(Violet().eval(), sample_kwargs={"cells": example}).export(str(path))
        content = with_metadata(path.read_bytes(), json.dumps(CARD))
    Path(__file__).with_name("violet.tflite").write_bytes(content)
