"""A model file: what it says of itself (`ModelCard`), opened, checked and run (`Model`).

`embedded/` holds the models that are shipped, with their digests.
"""

from giemsa.model.card import CONTRACT_VERSION, ModelCard
from giemsa.model.opened import Model, ModelOutput, open_model
from giemsa.model.shipped import EMBEDDED_PATH

__all__ = ["CONTRACT_VERSION", "EMBEDDED_PATH", "Model", "ModelCard", "ModelOutput", "open_model"]
