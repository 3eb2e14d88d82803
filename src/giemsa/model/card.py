"""What a model file says about itself: one JSON object under `giemsa` in its metadata, written and read here.

With it stands what the numbers in it mean: how a logit becomes a probability, and a probability a verdict.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import ModelError
from giemsa.verdicts import LABELS, is_parasitized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

CONTRACT_VERSION: Final = 1
METADATA_KEY: Final = "giemsa"
LIMITS: Final = ("cell", "novelty", "uninfected_to", "parasitized_from")
"""Keys of a card's `doubt` that verdicts depend on."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model file says about itself.

    Attributes
    ----------
    name : str
        The model's name.
    input_size_px : int
        S, the side of the squares that the model takes.
    temperature, bias : float
        Calibration: p_parasitized = sigmoid(logit / temperature + bias).
    calibration_source : str
        Which cells these were found on.
    threshold : float
        The verdict is `parasitized` where p_parasitized is at least this.
    class_names : tuple of str
        Always ("uninfected", "parasitized").
    kernel, padding : str
        How a picture becomes S x S; always "area" and "stretch" in this contract.
    digests : mapping
        SHA-256 of training data, split and recipe, by these names.
    training_patients : tuple of str
        Empty where they are not known.
    label_set : str
        The labels that it was trained on.
    figures : mapping
        The measured figures of the card.
    evidence : str
        What the evidence map is, in words.
    first_weights : mapping
        Where the training's first weights came from.
    doubt : mapping
        When a verdict is withheld; empty where the model always decides. `cell`: not_a_cell below this score of being
        one; `novelty`: not_a_cell above this novelty; `uninfected_to`, `parasitized_from`: logits up to and from which
        a label belongs to a cell's conformal set; and what these promise.
    laboratories : mapping
        Names of laboratories that were trained on (`trained`), that had a say in a choice (`development`), and that had
        none (`external`).
    licence, created_by : str
        As written.
    contract_version : int
        The version of the contract that the file follows.
    """

    name: str
    input_size_px: int
    temperature: float = 1.0
    bias: float = 0.0
    threshold: float = 0.5
    class_names: tuple[str, str] = LABELS
    kernel: str = "area"
    padding: str = "stretch"
    digests: Mapping[str, str] = field(default_factory=dict)
    training_patients: tuple[str, ...] = ()
    label_set: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    created_by: str = ""
    contract_version: int = CONTRACT_VERSION
    calibration_source: str = ""
    evidence: str = ""
    first_weights: Mapping[str, Any] = field(default_factory=dict)
    doubt: Mapping[str, Any] = field(default_factory=dict)
    laboratories: Mapping[str, Any] = field(default_factory=dict)

    def p_parasitized(self, logit: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities of `parasitized` for logits, both of shape [N]."""
        return calibrated(logit, self.temperature, self.bias)

    def called(self, logit: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether cells with these logits are called parasitized."""
        return is_parasitized(self.p_parasitized(logit), self.threshold)

    def to_json(self) -> str:
        """Text that stands in the metadata of the file; what is not known is left out."""
        calibration: dict[str, Any] = {"temperature": self.temperature, "bias": self.bias}
        if self.calibration_source:
            calibration["source"] = self.calibration_source
        optional = {
            "evidence": self.evidence,
            "first_weights": dict(self.first_weights),
            "doubt": dict(self.doubt),
            "laboratories": dict(self.laboratories),
        }
        return json.dumps(
            {
                "contract_version": self.contract_version,
                "name": self.name,
                "class_names": list(self.class_names),
                "input_size_px": self.input_size_px,
                "resize": {"kernel": self.kernel, "padding": self.padding},
                "calibration": calibration,
                "thresholds": {"parasitized": self.threshold},
                "digests": dict(self.digests),
                "training_patients": list(self.training_patients),
                "label_set": self.label_set,
                "figures": dict(self.figures),
                **{name: value for name, value in optional.items() if value},
                "licence": self.licence,
                "created_by": self.created_by,
            }
        )


def calibrated(logit: NDArray[np.floating], temperature: float, bias: float) -> NDArray[np.float64]:
    """Probabilities of `parasitized`: sigmoid(logit / temperature + bias), of any shape, without overflow."""
    score = np.asarray(logit, np.float64) / temperature + bias
    # exp of a negative number never overflows
    small = np.exp(-np.abs(score))
    return np.asarray(np.where(score >= 0, 1.0, small) / (1.0 + small))


def parse_card(text: str | None, *, source: str) -> ModelCard:
    """Card of a model, read from its metadata and checked.

    Parameters
    ----------
    text : str or None
        The JSON object under the key `giemsa`; None where the file has no such key.
    source : str
        Where it comes from, for messages: "the model cells.onnx".

    Raises
    ------
    ModelError
        If it is missing, newer than this version understands, or has a missing or impossible value.
    """
    if text is None:
        raise ModelError(
            f"{source} has no metadata under `{METADATA_KEY}`, so its preprocessing and class order are unknown; "
            "expected a file written by `giemsa export`"
        )
    try:
        raw = json.loads(text)
        version = raw["contract_version"]
        if version != CONTRACT_VERSION:
            raise ModelError(
                f"{source} follows version {version!r} of the model contract and this Giemsa knows only version "
                f"{CONTRACT_VERSION}; update Giemsa or export the model again"
            )
        return _card(raw)
    except KeyError as error:
        raise ModelError(f"{source} has metadata without {error.args[0]!r}; export it again") from error
    except RecursionError as error:
        raise ModelError(f"{source} has metadata that are nested too deeply; export it again") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{source} has damaged metadata: {error}; export it again") from error


def _card(raw: Mapping[str, Any]) -> ModelCard:
    classes = tuple(raw["class_names"])
    if classes != LABELS:
        raise ValueError(f"class_names is {list(classes)}, expected {list(LABELS)}")
    resize = raw["resize"]
    if (resize["kernel"], resize["padding"]) != ("area", "stretch"):
        raise ValueError(f"resize is {resize}, expected the kernel 'area' and the padding 'stretch'")
    size = raw["input_size_px"]
    if not isinstance(size, int) or not 8 <= size <= 1024:
        raise ValueError(f"input_size_px is {size!r}, expected a whole number from 8 to 1024")
    temperature = _number(raw["calibration"], "temperature")
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}, expected a number above 0")
    threshold = _number(raw["thresholds"], "parasitized")
    if not 0 < threshold < 1:
        raise ValueError(f"the threshold of parasitized is {threshold}, expected a number between 0 and 1")
    return ModelCard(
        name=str(raw["name"]),
        input_size_px=size,
        temperature=temperature,
        bias=_number(raw["calibration"], "bias"),
        threshold=threshold,
        digests=dict(raw.get("digests", {})),
        training_patients=tuple(raw.get("training_patients", ())),
        label_set=str(raw.get("label_set", "")),
        figures=dict(raw.get("figures", {})),
        licence=str(raw.get("licence", "")),
        created_by=str(raw.get("created_by", "")),
        calibration_source=str(raw["calibration"].get("source", "")),
        evidence=str(raw.get("evidence", "")),
        first_weights=dict(raw.get("first_weights", {})),
        doubt=_doubt(raw.get("doubt", {})),
        laboratories={str(what): list(names) for what, names in dict(raw.get("laboratories", {})).items()},
    )


def _doubt(raw: Mapping[str, Any]) -> dict[str, Any]:
    content = dict(raw)
    for key in LIMITS:
        if key in content:
            content[key] = _number(content, key)
    if ("uninfected_to" in content) != ("parasitized_from" in content):
        raise ValueError("doubt has one of uninfected_to and parasitized_from; expected both or none")
    return content


def _number(raw: Mapping[str, Any], key: str) -> float:
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is {value!r}, expected a finite number")
    return float(value)
