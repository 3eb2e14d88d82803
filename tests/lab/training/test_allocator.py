from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

CODE = """
import sys
import numpy as np
from giemsa.lab.training.allocator import keep_freed_memory

def resident_bytes():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = resident_bytes()
block = np.ones(25_000_000)
del block
print(resident_bytes() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
@pytest.mark.parametrize(("way", "least", "most"), [("kept", 195_000_000, 10**9), ("plain", -(10**9), 50_000_000)])
def test_what_is_freed_stays_with_the_process_only_where_that_is_asked_for(way, least, most):
    done = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, check=True)
    assert least <= int(done.stdout) <= most


def test_another_c_library_is_left_as_it_is(monkeypatch):
    from giemsa.lab.training import allocator

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _name: object())
    assert not allocator.keep_freed_memory()
