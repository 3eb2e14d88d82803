"""Giemsa tells whether a red blood cell on a Giemsa-stained thin smear carries a malaria parasite.

>>> import giemsa
>>> giemsa.load().classify("cell.png")                         # doctest: +SKIP
Verdict(image='cell.png', verdict='parasitized', p_parasitized=0.9987..., ...)

For research and education: no diagnosis without a qualified professional.

The names below are imported when they are first used (PEP 562), so that `import giemsa` costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from giemsa.classifier import Classifier
    from giemsa.errors import (
        DataError,
        DownloadError,
        GiemsaError,
        GiemsaWarning,
        MissingExtraError,
        ModelError,
        OutputError,
        PictureError,
        RecipeError,
        RunError,
        SourceError,
        UsageError,
    )
    from giemsa.model import Model
    from giemsa.smear.pipeline import read_smear
    from giemsa.verdicts import DISCLAIMER, Verdict

__version__ = "0.1.0"

# From 1.29 on, ONNX Runtime tells its maker about every session and model, and keeps an identifier for that in the
# user's cache. Whether it does is decided when it is loaded, so it is told here, before any part of Giemsa loads it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "DISCLAIMER",
    "Classifier",
    "DataError",
    "DownloadError",
    "GiemsaError",
    "GiemsaWarning",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "PictureError",
    "RecipeError",
    "RunError",
    "SourceError",
    "UsageError",
    "Verdict",
    "load",
    "read_smear",
]

_HOME = {
    "Classifier": "giemsa.classifier",
    "DISCLAIMER": "giemsa.verdicts",
    "Verdict": "giemsa.verdicts",
    "read_smear": "giemsa.smear.pipeline",
}


def load(
    model: Model | str | os.PathLike[str] | None = None, *, threads: int | None = None, decide: bool = False
) -> Classifier:
    """Open a model and return what classifies with it.

    Parameters
    ----------
    model : Model or path, optional
        A model, an ONNX file or a run folder; None means the embedded model.
    threads : int, optional
        Worker threads of `Classifier.classify_many`; None means one for each core that this process may use.
    decide : bool
        Call every readable picture parasitized or uninfected, whatever the doubt.

    Returns
    -------
    Classifier

    Raises
    ------
    ModelError
        If the file is no model that this version can run.
    """
    from giemsa.classifier import Classifier

    return Classifier(model, threads=threads, decide=decide)


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in __all__:
        return getattr(import_module(_HOME.get(name, "giemsa.errors")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
