"""The models that are shipped, in `embedded/`, and their digests, by which a damaged installation is refused.

Whoever puts another file there writes its digest with `python benchmarks/digests.py`; the scripts that make these
files do so themselves.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Final

from giemsa.errors import ModelError
from giemsa.files import write_file

SHIPPED: Final = Path(__file__).parent / "embedded"
EMBEDDED_PATH: Final = SHIPPED / "model.onnx"
FINDER_PATH: Final = SHIPPED / "finder.onnx"
DIGESTS_FILE: Final = "digests.json"

_SUFFIXES: Final = (".onnx", ".tflite", ".safetensors")


def check_shipped(path: Path, content: bytes) -> str:
    """SHA-256 of a model's content, in hexadecimal; if it is a shipped one, checked.

    Raises
    ------
    ModelError
        If the file lies among the shipped ones and is not the one that was shipped.
    """
    digest = sha256(content).hexdigest()
    if path.parent != SHIPPED:
        return digest
    expected = read_digests().get(path.name)
    if digest != expected:
        was = f"begins with {expected[:12]}" if expected else "is not listed"
        raise ModelError(
            f"the embedded file {path} is not the one that was shipped: its SHA-256 begins with {digest[:12]}, and "
            f"that of the shipped one {was}; install Giemsa again, or, if you made it, run benchmarks/digests.py"
        )
    return digest


def read_digests() -> dict[str, str]:
    """SHA-256 of each shipped model, by the name of its file.

    Raises
    ------
    ModelError
        If the installation lacks the list.
    """
    try:
        content = json.loads((SHIPPED / DIGESTS_FILE).read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"this installation has no list of digests at {SHIPPED / DIGESTS_FILE}; install Giemsa "
                         "again") from error  # fmt: skip


def write_digests() -> Path:
    """Write the digests of all models that lie among the shipped ones now."""
    digests = {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in sorted(SHIPPED.iterdir())
        if path.suffix in _SUFFIXES
    }
    return write_file(SHIPPED / DIGESTS_FILE, json.dumps(digests, indent=1) + "\n")
