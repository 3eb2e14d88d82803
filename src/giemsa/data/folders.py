"""Small things that the modules of this package share: the user's cache and cores."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Folder for what can be made again: `$XDG_CACHE_HOME/giemsa`, by default `~/.cache/giemsa`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "giemsa"


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
