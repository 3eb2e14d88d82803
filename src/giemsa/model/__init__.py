"""A model file: what it says of itself (`ModelCard`), opened, checked and run (`Model`).

`embedded/` holds the models that are shipped.
"""

from giemsa.model.opened import CONTRACT_VERSION, EMBEDDED_PATH, Model, ModelCard, ModelOutput, open_model

__all__ = ["CONTRACT_VERSION", "EMBEDDED_PATH", "Model", "ModelCard", "ModelOutput", "open_model"]
