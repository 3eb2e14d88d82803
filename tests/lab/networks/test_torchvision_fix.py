from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["torchvision", "timm", "torchmetrics", "lightning"])
def test_what_needs_torchvision_can_be_imported_beside_any_pytorch(package):
    code = (
        f"from giemsa.lab.networks import torchvision_fix; import {package}; torchvision_fix.define_missing_operators()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torchvision_nothing_is_declared(monkeypatch):
    import importlib.util

    import torch

    from giemsa.lab.networks.torchvision_fix import define_missing_operators

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.library, "define", lambda *given: pytest.fail(f"declared {given}"))
    define_missing_operators()
