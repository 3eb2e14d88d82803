"""What PyTorch's buffers are taken from.

Each step of a training frees tensors of many megabytes and asks for the same ones again. glibc gives such blocks back
to the system at once and has them zeroed anew, page by page: on a CPU that is up to half the time of a network on
large cells (see benchmarks/freed_memory.py).
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Of malloc.h."""
_NEVER_BYTES = 2**31 - 1
_GROWTH_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Have glibc's malloc keep what this process frees, for what it asks for next.

    It holds for the whole process, whose memory then stays at its peak; settings in the environment (`MALLOC_*_`) are
    overruled. Elsewhere than with glibc nothing happens.

    Returns
    -------
    bool
        Whether malloc took the settings.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER_BYTES, _M_TOP_PAD: _GROWTH_BYTES}
    return all(set_option(option, value) for option, value in settings.items())
