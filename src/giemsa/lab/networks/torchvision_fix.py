"""Let torchvision be imported beside a PyTorch for CPUs. Import this before anything that imports torchvision.

torchvision 0.28 is only to be had with its compiled operators for CUDA. Beside a PyTorch without CUDA they do not load,
and `import torchvision` (so timm's and, through torchmetrics, Lightning's) fails with `operator torchvision::nms does
not exist`, since it describes operators that are not there. Declaring them is enough: classification never calls them.
"""

from __future__ import annotations

import importlib.util

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def define_missing_operators() -> None:
    """Declare `nms` and `qnms` where torchvision is installed and its operators are not loaded."""
    if importlib.util.find_spec("torchvision") is None:
        return
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", _SCHEMA)


define_missing_operators()
