"""The contract of a model file: open it, check it, run it.

One file is the whole model. Its input `cells` is uint8 [N, S, S, 3], RGB; scaling and normalisation are inside
the graph. Its outputs are `logit`, float32 [N], and, where the network has such a map, `evidence`, float32
[N, h, w], whose mean is the logit. What a caller must know besides stands in the metadata of the file:
`giemsa.model.card`.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import ModelError, UsageError
from giemsa.model.card import METADATA_KEY, ModelCard, parse_card
from giemsa.model.onnx_runtime import OnnxRuntime
from giemsa.model.shipped import EMBEDDED_PATH, check_shipped

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from giemsa.model.runtime import Runtime, TensorSpec

MAX_MODEL_BYTES: Final = 512 * 2**20
"""Largest model file that is opened: it is held in memory while it is checked."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What a model gives for N cells.

    Attributes
    ----------
    logit : ndarray
        float32 [N].
    evidence : ndarray or None
        float32 [N, h, w] in logit units, with the logit as its mean; None where the model has no such map.
    cell : ndarray or None
        float32 [N], natural-log odds of showing one red cell; None where the model does not tell.
    novelty : ndarray or None
        float32 [N], how unlike the training cells a picture is, 0 to 1; None where the model does not tell.
    """

    logit: NDArray[np.float32]
    evidence: NDArray[np.float32] | None
    cell: NDArray[np.float32] | None = None
    novelty: NDArray[np.float32] | None = None


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

    def __init__(self, runtime: Runtime, *, card: ModelCard, digest: str, path: Path, threads: int) -> None:
        self.card = card
        self.digest = digest
        self.path = path
        self.threads = threads
        self.provider = runtime.provider
        outputs = {output.name for output in runtime.outputs}
        self.has_evidence = "evidence" in outputs
        self._doubts = [name for name in ("cell", "novelty") if name in outputs]
        self._runtime = runtime

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
        wanted = ["logit", *self._doubts, *(["evidence"] if evidence and self.has_evidence else [])]
        found = dict(zip(wanted, self._runtime.run(wanted, {"cells": cells}), strict=True))
        logit, maps = found["logit"], found.get("evidence")
        for name in self._doubts:
            if found[name].shape != (len(cells),) or not np.isfinite(found[name]).all():
                raise ModelError(
                    f"the model {self.path} gave {_finite(found[name])} of shape {list(found[name].shape)} as {name} for "
                    f"{len(cells)} cells; expected one finite number for each, so the file is damaged or was exported "
                    "wrongly"
                )
        if logit.shape != (len(cells),) or not np.isfinite(logit).all():
            raise ModelError(
                f"the model {self.path} gave {_finite(logit)} of shape {list(logit.shape)} for {len(cells)} cells; "
                "expected one finite number for each, so the file is damaged or was exported wrongly"
            )
        if maps is not None and (maps.ndim != 3 or len(maps) != len(cells)):
            raise ModelError(
                f"the model {self.path} gave evidence of shape {list(maps.shape)} for {len(cells)} cells; expected "
                f"[{len(cells)}, h, w], so the file is damaged or was exported wrongly"
            )
        return ModelOutput(logit=logit, evidence=maps, cell=found.get("cell"), novelty=found.get("novelty"))

    def p_parasitized(self, logit: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities of `parasitized` for logits, both of shape [N]."""
        return self.card.p_parasitized(logit)


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
        If the file is missing, no file, damaged, no ONNX, without Giemsa's metadata, of a newer contract version,
        damaged in its calibration, or has another input or output than the contract's.
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
    digest = check_shipped(file, content)
    runtime = _open_runtime(content, f"the model {file}", threads)
    card = parse_card(runtime.metadata(METADATA_KEY), source=f"the model {file}")
    _check_graph(runtime, card, file)
    return Model(runtime, card=card, digest=digest, path=file, threads=threads)


def is_tflite(content: bytes) -> bool:
    """Whether the bytes are those of a TensorFlow Lite file, by its identifier."""
    return content[4:8] == b"TFL3"


def _open_runtime(content: bytes, name: str, threads: int) -> Runtime:
    if not is_tflite(content):
        return OnnxRuntime(content, name=name, threads=threads)
    from giemsa.model.litert import LiteRt  # and with it zipfile, which nothing else needs at the start

    return LiteRt(content, name=name, threads=threads)


def _locate(path: str | os.PathLike[str] | None) -> Path:
    if path is None:
        if not EMBEDDED_PATH.is_file():
            raise ModelError(f"this installation has no embedded model at {EMBEDDED_PATH}; install Giemsa again or "
                             "name a model with --model")  # fmt: skip
        return EMBEDDED_PATH
    file = Path(path)
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"the model {file} does not exist; name an ONNX file, a .tflite file or a run folder"
        ) from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise ModelError(
            f"the model {file} cannot be opened: {said}; name an ONNX file, a .tflite file or a run folder"
        ) from None
    if stat.S_ISDIR(mode):
        if not (file / "model.onnx").is_file():
            raise ModelError(f"the folder {file} has no model.onnx; `giemsa export {file} --output "
                             f"{file / 'model.onnx'}` makes one of a finished run")  # fmt: skip
        return file / "model.onnx"
    if not stat.S_ISREG(mode):
        raise ModelError(
            f"the model {file} is a device or a pipe and no file; name an ONNX file, a .tflite file or a run folder"
        )
    return file


def _check_graph(runtime: Runtime, card: ModelCard, file: Path) -> None:
    size = card.input_size_px
    got = [(one.name, one.dtype, _free(one.shape)) for one in runtime.inputs]
    if got != [("cells", "uint8", [None, size, size, 3])]:
        raise ModelError(f"the model {file} takes {_listed(runtime.inputs)}; "
                         f"expected one input, cells uint8 [N, {size}, {size}, 3]")  # fmt: skip
    outputs = {one.name: (one.dtype, len(one.shape)) for one in runtime.outputs}
    axes = {"logit": 1, "evidence": 3, "cell": 1, "novelty": 1}
    if "logit" not in outputs or any(outputs.get(name, ("float", n)) != ("float", n) for name, n in axes.items()):
        raise ModelError(f"the model {file} gives {_listed(runtime.outputs)}; "
                         "expected logit float [N] and perhaps evidence float [N, h, w], cell and novelty float [N]")  # fmt: skip


def _free(shape: tuple[Any, ...]) -> list[Any]:
    """Sides of a tensor, a free first one, whatever its name, as None."""
    return [None if index == 0 and not isinstance(side, int) else side for index, side in enumerate(shape)]


def _listed(values: tuple[TensorSpec, ...]) -> str:
    return ", ".join(map(str, values)) or "nothing"


def _finite(array: NDArray[Any]) -> str:
    return "numbers" if np.isfinite(array).all() else "numbers that are not finite"
