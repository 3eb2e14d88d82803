"""The ONNX contract: open a model file, check it, run it.

One file is the whole model. Its input `cells` is uint8 [N, S, S, 3], RGB; scaling and normalisation are inside
the graph. Its outputs are `logit`, float32 [N], and, where the network has such a map, `evidence`, float32
[N, h, w], whose mean is the logit. What a caller must know besides stands in the metadata of the file, as one
JSON object under the key `giemsa`; `ModelCard` is that object.
"""

from __future__ import annotations

import json
import math
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import ModelError, UsageError
from giemsa.verdicts import LABELS

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

CONTRACT_VERSION: Final = 1
METADATA_KEY: Final = "giemsa"
EMBEDDED_PATH: Final = Path(__file__).parent / "embedded" / "model.onnx"
MAX_MODEL_BYTES: Final = 512 * 2**20
"""Largest model file that is opened: it is held in memory while it is checked."""


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

    def to_json(self) -> str:
        """Write the card as the text that stands in the metadata of the ONNX file."""
        return json.dumps(
            {
                "contract_version": self.contract_version,
                "name": self.name,
                "class_names": list(self.class_names),
                "input_size_px": self.input_size_px,
                "resize": {"kernel": self.kernel, "padding": self.padding},
                "calibration": {"temperature": self.temperature, "bias": self.bias},
                "thresholds": {"parasitized": self.threshold},
                "digests": dict(self.digests),
                "training_patients": list(self.training_patients),
                "label_set": self.label_set,
                "figures": dict(self.figures),
                "licence": self.licence,
                "created_by": self.created_by,
            }
        )


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What a model gives for N cells.

    Attributes
    ----------
    logit : ndarray
        float32 [N].
    evidence : ndarray or None
        float32 [N, h, w] in logit units, with the logit as its mean; None where the model has no such map.
    """

    logit: NDArray[np.float32]
    evidence: NDArray[np.float32] | None


class Model:
    """A model that was opened and checked; made by `open_model`.

    It may be run from several threads at once.

    Attributes
    ----------
    card : ModelCard
        What the file says about itself.
    digest : str
        SHA-256 of the file, in hexadecimal.
    path : Path
        Where it was read from.
    provider : str
        The part of ONNX Runtime that computes, for example `CPUExecutionProvider`.
    threads : int
        Threads that one call of `run` uses.
    has_evidence : bool
        Whether it gives an evidence map.
    """

    def __init__(self, session: Any, *, card: ModelCard, digest: str, path: Path, threads: int) -> None:  # noqa: ANN401
        self.card = card
        self.digest = digest
        self.path = path
        self.threads = threads
        self.provider: str = session.get_providers()[0]
        self.has_evidence = len(session.get_outputs()) > 1 and "evidence" in {o.name for o in session.get_outputs()}
        self._session = session

    def run(self, cells: NDArray[np.uint8], *, evidence: bool = True) -> ModelOutput:
        """Score cells.

        Parameters
        ----------
        cells : ndarray
            uint8 [N, S, S, 3], RGB, with S = `card.input_size_px`.
        evidence : bool
            Whether to fetch the evidence map too, where there is one.

        Raises
        ------
        UsageError
            If the array has another shape or dtype.
        ModelError
            If the model gives something that is no finite logit for each cell.
        """
        size = self.card.input_size_px
        if cells.dtype != np.uint8 or cells.ndim != 4 or cells.shape[1:] != (size, size, 3):
            raise UsageError(
                f"the model {self.path} takes uint8 [N, {size}, {size}, 3] and got {cells.dtype} {list(cells.shape)}"
            )
        wanted = ["logit", "evidence"] if evidence and self.has_evidence else ["logit"]
        logit, *rest = self._session.run(wanted, {"cells": cells})
        if logit.shape != (len(cells),) or not np.isfinite(logit).all():
            raise ModelError(
                f"the model {self.path} gave {_finite(logit)} of shape {list(logit.shape)} for {len(cells)} cells; "
                "expected one finite number for each, so the file is damaged or was exported wrongly"
            )
        return ModelOutput(logit=logit, evidence=rest[0] if rest else None)

    def p_parasitized(self, logit: NDArray[np.float32]) -> NDArray[np.float64]:
        """Turn logits into calibrated probabilities of `parasitized`, both of shape [N]."""
        score = logit.astype(np.float64) / self.card.temperature + self.card.bias
        # exp of a negative number never overflows
        small = np.exp(-np.abs(score))
        return np.where(score >= 0, 1.0, small) / (1.0 + small)


def open_model(path: str | os.PathLike[str] | None = None, *, threads: int = 1) -> Model:
    """Open a model file, and refuse it in one sentence if it cannot be what it should.

    Parameters
    ----------
    path : path, optional
        An ONNX file, or a run folder, which means the `model.onnx` in it; or a `.tflite` file, where LiteRT is
        installed. None means the embedded model.
    threads : int
        Threads that one call of `Model.run` uses. One is right where several threads call it.

    Raises
    ------
    MissingExtraError
        If it is a `.tflite` file and LiteRT is not installed.
    ModelError
        If the file is missing, no ONNX, without Giemsa's metadata, of a newer contract version, damaged in its
        calibration, or has another input or output than the contract's.
    """
    file = _locate(path)
    try:
        if file.stat().st_size > MAX_MODEL_BYTES:
            raise ModelError(
                f"the model {file} has {file.stat().st_size:,} bytes; at most {MAX_MODEL_BYTES:,} are read"
            )
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"the model {file} cannot be read: {error.strerror or error}") from error
    session = _open_session(content, file, threads)
    card = parse_card(_metadata(session), source=f"the model {file}")
    _check_graph(session, card, file)
    return Model(session, card=card, digest=sha256(content).hexdigest(), path=file, threads=threads)


def parse_card(text: str | None, *, source: str) -> ModelCard:
    """Read and check the metadata of a model.

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
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
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
    )


def _number(raw: Mapping[str, Any], key: str) -> float:
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is {value!r}, expected a finite number")
    return float(value)


def _locate(path: str | os.PathLike[str] | None) -> Path:
    if path is None:
        if not EMBEDDED_PATH.is_file():
            raise ModelError(f"this installation has no embedded model at {EMBEDDED_PATH}; install Giemsa again or "
                             "name a model with --model")  # fmt: skip
        return EMBEDDED_PATH
    file = Path(path)
    try:
        is_folder = stat.S_ISDIR(file.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"the model {file} does not exist; name an ONNX file, a .tflite file or a run folder"
        ) from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise ModelError(
            f"the model {file} cannot be opened: {said}; name an ONNX file, a .tflite file or a run folder"
        ) from None
    if is_folder:
        if not (file / "model.onnx").is_file():
            raise ModelError(f"the folder {file} has no model.onnx; `giemsa export {file} --output "
                             f"{file / 'model.onnx'}` makes one of a finished run")  # fmt: skip
        return file / "model.onnx"
    return file


def is_tflite(content: bytes) -> bool:
    """Tell a TensorFlow Lite file by its identifier; here, since `model.litert` is only imported for such files."""
    return content[4:8] == b"TFL3"


def _open_session(content: bytes, file: Path, threads: int) -> Any:  # noqa: ANN401
    if is_tflite(content):
        return _open_litert(content, file, threads)
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # for those who have loaded it before Giemsa, see giemsa/__init__.py
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised; nothing else is said beside our own messages
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a class of its own for each kind of failure
        said = str(error).rpartition(" : ")[2].split("\n")[0].strip() or type(error).__name__
        raise ModelError(f"the model {file} is no ONNX file that ONNX Runtime can run: {said}") from error


def _open_litert(content: bytes, file: Path, threads: int) -> Any:  # noqa: ANN401
    from giemsa.model.litert import LiteRtSession

    try:
        return LiteRtSession(content, threads=threads)
    except (ValueError, RuntimeError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"the model {file} is no TensorFlow Lite file that LiteRT can run: {said}") from error


def _metadata(session: Any) -> str | None:  # noqa: ANN401
    """Read the card's text, which stands behind a TensorFlow Lite file and inside of an ONNX file."""
    if hasattr(session, "metadata"):
        text: str | None = session.metadata()
        return text
    found: str | None = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    return found


def _check_graph(session: Any, card: ModelCard, file: Path) -> None:  # noqa: ANN401
    size = card.input_size_px
    got = [(i.name, i.type, _free(i.shape)) for i in session.get_inputs()]
    if got != [("cells", "tensor(uint8)", [None, size, size, 3])]:
        raise ModelError(f"the model {file} takes {_listed(session.get_inputs())}; "
                         f"expected one input, cells uint8 [N, {size}, {size}, 3]")  # fmt: skip
    outputs = {o.name: (o.type, len(o.shape)) for o in session.get_outputs()}
    if outputs.get("logit") != ("tensor(float)", 1) or outputs.get("evidence", ("tensor(float)", 3)) != (
        "tensor(float)",
        3,
    ):
        raise ModelError(f"the model {file} gives {_listed(session.get_outputs())}; "
                         "expected logit float [N] and perhaps evidence float [N, h, w]")  # fmt: skip


def _free(shape: list[Any]) -> list[Any]:
    """Replace a free first dimension, whatever its name, by None."""
    return [None if index == 0 and not isinstance(side, int) else side for index, side in enumerate(shape)]


def _listed(values: list[Any]) -> str:
    return ", ".join(f"{v.name} {v.type[len('tensor(') : -1]} {v.shape}" for v in values) or "nothing"


def _finite(array: NDArray[Any]) -> str:
    return "numbers" if np.isfinite(array).all() else "numbers that are not finite"
